"""What compiling and running a model takes of memory: peak resident sets of processes that do nothing else.

    python -m benchmarks.memory                       # all models
    python -m benchmarks.memory resnet50 vgg19        # some

For each model three processes: one compiles the file, cold, and runs it; one loads the engine file and runs it; one
runs the model in onnxruntime, from the same file. Weights that are mapped from a file count as soon as they were
touched. One more process, before all models, compiles and runs a model without weights: what it takes, Python, NumPy
and LLVM, is the baseline above which compiling is measured by the weights.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks import materialize, options, report
from benchmarks.worker import cores, in_child

MEBI = 2**20


@attrs.frozen
class Peaks:
    """Peak resident bytes of the processes of one model, the bytes of its weights, and the baseline: the peak of a
    process that compiles and runs a model without weights."""

    model: str
    weights: int
    baseline: int
    compiling: int
    running: int
    peer: int

    @property
    def factor(self) -> float:
        """What compiling takes above the baseline, by the weights."""
        return max(0, self.compiling - self.baseline) / self.weights


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


def baseline(folder: Path, threads: int) -> int:
    """The peak of compiling and running a model without weights."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [16]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "nothing", [x], [y])
    small = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model, engine = folder / "nothing.onnx", folder / "nothing.well"
    _save(small, model)
    try:
        return in_child(_compile, model, engine, threads)
    finally:
        _remove(model, engine)


def measured(name: str, folder: Path, threads: int, base: int) -> Peaks:
    """Measure a model of benchmarks/models beside a baseline, each part in a process of its own."""
    model, engine = folder / f"{name}.onnx", folder / f"{name}.well"
    try:
        weights = in_child(_fill, model)
        return Peaks(name, weights, base, *(in_child(part, model, engine, threads) for part in (_compile, _run, _peer)))
    finally:
        _remove(model, engine)


def _fill(model: Path) -> int:
    """Write the model and its inputs; the bytes of its weights."""
    filled = materialize.load(materialize.MODELS / model.name)
    _save(filled, model)
    return sum(int(onnx.numpy_helper.to_array(tensor).nbytes) for tensor in filled.graph.initializer)


def _save(filled: onnx.ModelProto, path: Path) -> None:
    onnx.save(filled, path)
    np.savez(path.with_suffix(".npz"), allow_pickle=False, **materialize.inputs(filled))


def _remove(model: Path, engine: Path) -> None:
    for path in (model, engine, model.with_suffix(".npz")):
        path.unlink(missing_ok=True)


HEADER = ["model", "weights", "compile and run", "above baseline, by weights", "load and run", "onnxruntime", "by it"]


def table(peaks: Sequence[Peaks]) -> str:
    """The peaks in MiB as a table in markdown."""
    return report.table(HEADER, map(_row, peaks))


def _row(found: Peaks) -> list[str]:
    sizes = (found.weights, found.compiling, found.running, found.peer)
    weights, compiling, running, peer = (_mebi(size) for size in sizes)
    return [found.model, weights, compiling, f"{found.factor:.2f}", running, peer, f"{found.running / found.peer:.2f}"]


def _mebi(size: int) -> str:
    return f"{size / MEBI:.0f}" if size >= 10 * MEBI else f"{size / MEBI:.2g}"


def peaks(data: Mapping[str, Any]) -> list[Peaks]:
    """What `--json` wrote."""
    return [Peaks(**found) for found in data["peaks"]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models (default: all)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    args = parser.parse_args(argv)
    names, found = options.models(parser, args), []
    with tempfile.TemporaryDirectory(prefix="stepwell-memory-") as folder:
        base = baseline(Path(folder), args.threads)
        for name in names:
            found.append(measured(name, Path(folder), args.threads, base))
            print(table(found[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(f"In MiB; baseline {_mebi(base)}.\n\n{table(found)}")
    if args.json:
        report.write(args.json, {"peaks": [attrs.asdict(one) for one in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
