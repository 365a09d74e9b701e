"""Feeds damaged engine files to `stepwell.load` until it raises what it should not, or gives a wrong result.

python -m tests.fuzz.fuzz_engine --seconds 60 [--seed 1] [--findings FOLDER] [--cache]

With `--cache` the files are entries of the cache of models, and `stepwell.compile` finds them: whatever they are, it
gives the model, with right results. Those keep their checksums: an entry is as private as its folder.

Some mutants get right checksums again, so that what lies behind them is tried as well: the numbers of header and table,
and the metadata. A mutant that loads is run where its code, constants and metadata are those that were written; only
such a file promises a result. Code is never changed under a right checksum: that is a shared library of someone else's.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import stepwell
from stepwell.engine.container import Container, Section, digest, write
from stepwell.engine.records import to_bytes
from stepwell.errors import StepwellError

ROOT = Path(__file__).parents[2]
HEAD, ENTRY = 64, 64
NUMBERS = (0, 1, 2, 63, 64, 4095, 4096, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 70, 1e308, "", "x", "0", "-1", "n", "1//0", "n**99", "(" * 99, "tensor<4xf32>", "\0", "é",
    "tensor<?xf32, #graph.shape<[\"n\"]>>", "float32", "object", [], [[]], {}, [{}], ["n"] * 40, "a" * 10_000,
)  # fmt: skip


class Engine:
    """A small engine file, and what its model gives."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mutant.well"
        self.images = np.load(ROOT / "examples" / "digits_images.npy")[:5].reshape(5, 64).astype(np.float32)
        model = stepwell.compile(ROOT / "examples" / "digits_mlp.onnx", threads=1)
        model.save(self.path)
        self.expected = model(self.images)
        self.data = self.path.read_bytes()
        self.sections = [(s.kind, s.data.tobytes()) for s in Container.open(self.path).sections]

    def check(self, data: bytes) -> str:
        """Load the bytes as a file: `refused`, `loaded` or `ran`. Raises what a user must not see."""
        # Another file each time: to change one in place would change what loaded models have mapped.
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(data)
        try:
            model = stepwell.load(self.path, threads=1, verify="load")
        except StepwellError:
            return "refused"
        if [(s.kind, s.data.tobytes()) for s in Container.open(self.path).sections] != self.sections:
            return "loaded"
        np.testing.assert_array_equal(model(self.images), self.expected)
        return "ran"

    def mutant(self, random: Random) -> bytes:
        """One or several changes."""
        if not self.kept and random.random() < 0.4:
            return self.with_other_metadata(random)
        data = bytearray(self.data)
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            random.choice(CHANGES)(data, random)
        return resealed(bytes(data)) if not self.kept and random.random() < 0.5 else bytes(data)

    @property
    def kept(self) -> bool:
        """Whether mutants are those of a file that nobody else can write to."""
        return False

    def with_other_metadata(self, random: Random) -> bytes:
        """A file with right checksums whose metadata say something else."""
        meta = json.loads(dict(self.sections)["meta"])
        for _ in range(random.choice((1, 1, 2))):
            change_value(meta, random)
        write(self.path, [Section(kind, to_bytes(meta) if kind == "meta" else part) for kind, part in self.sections])
        return self.path.read_bytes()


class Entry(Engine):
    """A small model in the cache."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ["STEPWELL_CACHE"] = str(folder / "cache")
        self.compiled()
        (self.path,) = (folder / "cache" / "models").glob("*.well")
        self.data = self.path.read_bytes()

    @property
    def kept(self) -> bool:
        """See `Engine`."""
        return True

    def compiled(self) -> stepwell.Model:
        """The model, from the cache where it is there."""
        return stepwell.compile(ROOT / "examples" / "digits_mlp.onnx", threads=1)

    def check(self, data: bytes) -> str:
        """Compile while the bytes are the entry: `refused` where it was made anew, or `ran`."""
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(data)
        model = self.compiled()
        np.testing.assert_array_equal(model(self.images), self.expected)
        return "ran" if model.is_from_cache else "refused"


def flip(data: bytearray, random: Random) -> None:
    """One bit, half of the time in header and table."""
    if data:
        data[random.randrange(min(len(data), 700) if random.random() < 0.5 else len(data))] ^= 1 << random.randrange(8)


def truncate(data: bytearray, random: Random) -> None:
    """The file ends early."""
    del data[random.randrange(len(data) + 1) :]


def extend(data: bytearray, random: Random) -> None:
    """Something follows."""
    data += random.randbytes(random.choice((1, 64, 4096)))


def blank(data: bytearray, random: Random) -> None:
    """Part of the file is zero, as after a crash of the system."""
    begin = random.randrange(len(data) + 1)
    end = min(len(data), begin + random.choice((1, 8, 512, 4096)))
    data[begin:end] = bytes(end - begin)


def cut(data: bytearray, random: Random) -> None:
    """Bytes are missing in the middle."""
    begin = random.randrange(len(data) + 1)
    del data[begin : begin + random.choice((1, 8, 64, 4096))]


def swap_entries(data: bytearray, random: Random) -> None:
    """Two entries of the table change places, or one stands twice."""
    count = max(1, min(20, (len(data) - HEAD) // ENTRY))
    first, second = (HEAD + ENTRY * random.randrange(count) for _ in range(2))
    one, two = data[first : first + ENTRY], data[second : second + ENTRY]
    if len(one) == len(two) == ENTRY:
        data[first : first + ENTRY] = two
        if random.random() < 0.7:
            data[second : second + ENTRY] = one


def set_number(data: bytearray, random: Random) -> None:
    """A number of header or table is another one."""
    at = random.choice((8, 12, 16, 24, *(HEAD + ENTRY * e + at for e in range(10) for at in (8, 16, 24))))
    if at + 8 <= len(data):
        kind = "<I" if at in (8, 12) else "<Q"
        near = struct.unpack_from("<Q", data, at)[0] + random.choice((-64, 1, 64))
        number = random.choice((*NUMBERS, len(data), near))
        struct.pack_into(kind, data, at, number & ((1 << 8 * struct.calcsize(kind)) - 1))


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    flip, flip, truncate, extend, blank, cut, swap_entries, set_number, set_number,
)  # fmt: skip


def resealed(data: bytes) -> bytes:
    """The file with its true length and a right checksum of header and table, where it has them."""
    if len(data) < HEAD:
        return data
    head = data[:16] + struct.pack("<Q", len(data)) + data[24:32]
    end = HEAD + ENTRY * min(struct.unpack_from("<I", data, 12)[0], len(data))
    return head + digest(head + data[HEAD:end]) + data[HEAD:]


def change_value(value: Any, random: Random) -> None:
    """Somewhere in a JSON object or list, a value is another one, is missing, or stands twice."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = random.choice(keys)
    if isinstance(value[key], (dict, list)) and value[key] and random.random() < 0.8:
        change_value(value[key], random)
    elif random.random() < 0.2:
        del value[key]
    elif random.random() < 0.2 and isinstance(value[key], str):
        text = value[key]
        at = random.randrange(len(text) + 1)
        value[key] = text[:at] + random.choice(("", "(", "*", "`", "?", ">", "x", "\n")) + text[at + 1 :]
    elif isinstance(value, list) and random.random() < 0.3:
        value.append(copy.deepcopy(value[key]))
    else:
        value[key] = copy.deepcopy(random.choice(VALUES))


def run(seeds: Iterable[int], engine: Engine, end: float = float("inf")) -> Counter[str]:
    """Count what became of mutants; the first that fails raises, with its seed as a note."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        if time.monotonic() >= end:
            break
        data = engine.mutant(Random(seed))
        try:
            counts[engine.check(data)] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    return counts


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is the number of findings, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--cache", action="store_true", help="damage entries of the cache of models")
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    end = time.monotonic() + options.seconds
    seed = options.seed
    with tempfile.TemporaryDirectory() as folder:
        engine = Entry(Path(folder)) if options.cache else Engine(Path(folder))
        while time.monotonic() < end:
            data = engine.mutant(Random(seed))
            try:
                counts[engine.check(data)] += 1
            except Exception:
                counts["failed"] += 1
                options.findings.mkdir(exist_ok=True)
                (options.findings / f"{seed}.well").write_bytes(data)
                print(f"seed {seed}:\n{traceback.format_exc()}", file=sys.stderr)
            seed += 1
    print(f"{counts.total()} runs: {', '.join(f'{count} {what}' for what, count in counts.most_common())}; "
          f"{counts['failed']} findings")  # fmt: skip
    return min(counts["failed"], 100)


if __name__ == "__main__":
    sys.exit(main())
