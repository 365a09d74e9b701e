"""ONNX's whole suite in child processes, with a table per operator.

    python -m tests.onnx_conformance [--mode given|symbolic|constant] [--only PART] [--details] [--jobs N] [--emulated]
    python -m tests.onnx_conformance --page docs/onnx.md        # all modes, as a page
"""

from __future__ import annotations

import argparse
import functools
import json
import queue
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from tests import emulation
from tests.onnx_conformance.cases import CRASH, HANG, OK, OUTCOMES, REFUSED, RIGHT, Outcome, table
from tests.onnx_conformance.page import page
from tests.onnx_conformance.suite import MODES, items, outcome

SECONDS = 120.0  # for one case, compiled and run, two at a time


class Child:
    """A process that runs case after case; it is replaced when one of them kills it."""

    def __init__(self, options: Sequence[str]) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", __spec__.name, "--child", *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip

    def run(self, name: str) -> Outcome | None:
        """The outcome, or None where the process has ended or was ended."""
        process = self.process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(name + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        line = process.stdout.readline() if ready else ""
        self.timed_out = not ready
        if line:
            return Outcome(**json.loads(line))
        process.kill()
        return None

    def close(self) -> int:
        """The exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait()


def serve(run: Callable[[str], Outcome]) -> None:
    """The child's side: names come in, outcomes go out."""
    for line in sys.stdin:
        made = run(line.strip())
        sys.stdout.write(json.dumps(attrs.asdict(made)) + "\n")
        sys.stdout.flush()


def emulated(name: str, mode: str) -> Outcome:
    """The outcome on AArch64, under qemu."""
    with tempfile.TemporaryDirectory() as folder, emulation.of(Path(folder)):
        return outcome(name, mode, target="aarch64")


def sweep(names: Sequence[str], jobs: int, options: Sequence[str] = ()) -> Iterator[Outcome]:
    """The outcomes of the cases, in the order in which they are ready."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    done: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    threads = [threading.Thread(target=_work, args=(waiting, done, options), daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for _ in names:
        made = done.get()
        assert made is not None
        yield made


def _work(
    waiting: queue.SimpleQueue[str], done: queue.SimpleQueue[Outcome | None], options: Sequence[str]
) -> None:
    child = Child(options)
    while True:
        try:
            name = waiting.get_nowait()
        except queue.Empty:
            child.close()
            return
        made = child.run(name)
        if made is None:
            status = child.close()
            kind = HANG if child.timed_out else CRASH
            made = Outcome(name, "(died)", kind, f"exit status {status}")
            child = Child(options)
        done.put(made)


def clean_operators(outcomes: Sequence[Outcome]) -> list[str]:
    """The operators whose cases are all OK."""
    return sorted({made.operator for made in outcomes} - {made.operator for made in outcomes if made.kind != OK})


def main() -> int:
    """0 where no case crashed, hung, met an internal error or gave a wrong result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=list(MODES), default="given")
    parser.add_argument("--only", default="", metavar="PART", help="cases whose names have this part")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--details", action="store_true", help="a line for every case that is not ok")
    parser.add_argument("--emulated", action="store_true", help="as AArch64 code, under qemu")
    parser.add_argument("--page", type=Path, metavar="FILE", help="run every mode, and write what became of the cases")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        serve(functools.partial(emulated if args.emulated else outcome, mode=args.mode))
        return 0
    if args.emulated and emulation.missing():
        parser.error(f"--emulated: {emulation.missing()}")
    names = [name for name in items() if args.only in name]
    emulating = ["--emulated"] if args.emulated else []
    if args.page:
        found = {mode: list(sweep(names, args.jobs, [f"--mode={mode}", *emulating])) for mode in MODES}
        args.page.write_text(page(found))
        return 0
    outcomes = list(sweep(names, args.jobs, [f"--mode={args.mode}", *emulating]))
    if args.details:
        for made in sorted(outcomes, key=lambda made: (made.kind, made.operator, made.name)):
            if made.kind != OK:
                print(f"{made.kind:<9} {made.operator:<24} {made.name}: {made.reason}")
    clean = clean_operators(outcomes)
    print(f"{table(outcomes, OUTCOMES, OK)}\nwithout a flaw ({len(clean)}): {', '.join(clean)}")
    return int(any(made.kind not in (*RIGHT, REFUSED) for made in outcomes))


if __name__ == "__main__":
    sys.exit(main())
