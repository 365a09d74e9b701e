"""What compiling and running a model takes of memory: peak resident sets of processes that do nothing else.

    python -m benchmarks.memory                       # all models
    python -m benchmarks.memory resnet50 vgg19        # some

For each model four processes: one imports what the others import; one compiles the file, cold, and runs it; one loads
the engine file and runs it; one runs the model in onnxruntime, from the same file. Weights that are mapped from a file
count as soon as they were touched.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
import onnx

from benchmarks import materialize
from benchmarks.worker import cores

MEBI = 2**20


@attrs.frozen
class Peaks:
    """Peak resident bytes of the processes of one model, and the bytes of its file."""

    model: str
    file: int
    idle: int
    compiling: int
    running: int
    peer: int

    @property
    def factor(self) -> float:
        """What compiling takes, by the file's size."""
        return self.compiling / self.file


def peak() -> int:
    """The largest resident set of this program so far, in bytes. What `getrusage` says of a process begins with what
    its parent had when it was made."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def _alone(threads: int) -> None:
    if cpus := cores(threads):
        os.sched_setaffinity(0, cpus)


def _idle(model: Path, engine: Path, threads: int) -> int:
    return peak()


def _compile(model: Path, engine: Path, threads: int) -> int:
    import stepwell

    _alone(threads)
    compiled = stepwell.compile(model, cache=False, threads=threads)
    with np.load(model.with_suffix(".npz")) as feeds:
        compiled.run({name: feeds[name] for name in feeds.files})
    found = peak()
    compiled.save(engine)
    return found


def _run(model: Path, engine: Path, threads: int) -> int:
    import stepwell

    _alone(threads)
    loaded = stepwell.load(engine, threads=threads)
    with np.load(model.with_suffix(".npz")) as feeds:
        given = {name: feeds[name] for name in feeds.files}
    for _ in range(3):
        loaded.run(given)
    return peak()


def _peer(model: Path, engine: Path, threads: int) -> int:
    import onnxruntime

    _alone(threads)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    with np.load(model.with_suffix(".npz")) as feeds:
        given = {name: feeds[name] for name in feeds.files}
    for _ in range(3):
        session.run(None, given)
    return peak()


def measured(name: str, folder: Path, threads: int) -> Peaks:
    """Measure a model of benchmarks/models, each part in a process of its own."""
    model, engine = folder / f"{name}.onnx", folder / f"{name}.well"
    _in_child(_fill, model, engine, threads)
    found = [_in_child(part, model, engine, threads) for part in (_idle, _compile, _run, _peer)]
    size = model.stat().st_size
    for path in (model, engine, model.with_suffix(".npz")):
        path.unlink(missing_ok=True)
    return Peaks(name, size, *found)


def _fill(model: Path, engine: Path, threads: int) -> int:
    filled = materialize.load(materialize.MODELS / model.name)
    onnx.save(filled, model)
    np.savez(model.with_suffix(".npz"), allow_pickle=False, **materialize.inputs(filled))
    return peak()


def _in_child(part: Callable[[Path, Path, int], int], model: Path, engine: Path, threads: int) -> int:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(part, model, engine, threads).result()


def table(peaks: Sequence[Peaks]) -> str:
    """The peaks in MiB as a table in markdown."""
    lines = ["| model | file | imports | compile and run | by the file | load and run | onnxruntime | by it |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for found in peaks:
        sizes = (found.file, found.idle, found.compiling, found.running, found.peer)
        file, idle, compiling, running, peer = (f"{size / MEBI:.0f}" for size in sizes)
        lines.append(f"| {found.model} | {file} | {idle} | {compiling} | {found.factor:.2f} | {running} | {peer} | "
                     f"{found.running / found.peer:.2f} |")  # fmt: skip
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    known = sorted(path.stem for path in materialize.MODELS.glob("*.onnx"))
    if unknown := sorted({*args.models} - {*known}):
        parser.error(f"no such model: {', '.join(unknown)}")
    peaks = []
    with tempfile.TemporaryDirectory(prefix="stepwell-memory-") as folder:
        for name in args.models or known:
            peaks.append(measured(name, Path(folder), args.threads))
            print(table(peaks[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(peaks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
