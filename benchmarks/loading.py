"""How long models take to get ready, and how much memory that and a run take, each step in a process of its own.

    python -m benchmarks.loading [MODEL...]

cold     seconds of `stepwell.compile` of the model's file with an empty cache; peak memory, also by the weights' bytes
warm     the same again
engine   seconds of `stepwell.load` of a saved engine, and those of its first call
run      peak memory of a process that loads the warm model and runs it, beside one with onnxruntime's session

Peak memory is all that is resident (VmHWM), the interpreter and what it imports included. Works on Linux."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks import materialize, report

Figures = Mapping[str, float]
RUNS = 3
MIB = 1 << 20


def peak() -> float:
    """Bytes of memory that were resident at most in this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


def compiling(folder: Path) -> Figures:
    """Compile the model; where there is no engine yet, save one."""
    import stepwell

    start = time.perf_counter()
    model = stepwell.compile(folder / "model.onnx")
    seconds, engine = time.perf_counter() - start, folder / "model.engine"
    figures = {"seconds": seconds, "peak": peak()}
    if not engine.exists():
        model.save(engine)
    return figures


def loading(folder: Path) -> Figures:
    """Load the engine and call it."""
    import stepwell

    feeds = _feeds(folder)
    start = time.perf_counter()
    model = stepwell.load(folder / "model.engine")
    loaded = time.perf_counter()
    model(*feeds.values())
    return {"seconds": loaded - start, "call": time.perf_counter() - loaded}


def running(folder: Path) -> Figures:
    """Compile the model, from the cache, and call it."""
    import stepwell

    feeds, model = _feeds(folder), stepwell.compile(folder / "model.onnx")
    for _ in range(RUNS):
        model(*feeds.values())
    return {"peak": peak()}


def running_onnxruntime(folder: Path) -> Figures:
    """Load the model's file in onnxruntime and run it."""
    import onnxruntime

    feeds = _feeds(folder)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    for _ in range(RUNS):
        session.run(None, feeds)
    return {"peak": peak()}


STEPS: Mapping[str, Callable[[Path], Figures]] = {
    "cold": compiling, "warm": compiling, "engine": loading, "run": running, "onnxruntime": running_onnxruntime,
}  # fmt: skip


def _feeds(folder: Path) -> dict[str, Any]:
    with np.load(folder / "inputs.npz") as found:
        return dict(found)


def prepare(path: Path, folder: Path) -> int:
    """Write the filled model and its inputs into a folder; returns the bytes of its weights."""
    model = materialize.load(path)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "inputs.npz", allow_pickle=False, **materialize.inputs(model))
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)


def measure(path: Path) -> dict[str, Figures]:
    """The figures of every step. Raises CalledProcessError where one fails."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["weights"] = {"bytes": prepare(path, folder)}
        environment = {**os.environ, "STEPWELL_CACHE": str(folder / "cache")}
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.loading", "--step", step, str(folder)]
            made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found[step] = json.loads(made.stdout)
    return found


def row(name: str, found: Mapping[str, Figures]) -> list[str]:
    """A line of the table."""
    weights, cold, ours, theirs = (found["weights"]["bytes"], found["cold"]["peak"], found["run"]["peak"],
                                   found["onnxruntime"]["peak"])  # fmt: skip
    return [
        name, f"{weights / MIB:.0f}", f"{found['cold']['seconds']:.2f}", f"{found['warm']['seconds']:.2f}",
        f"{found['engine']['seconds'] * 1e3:.0f}", f"{found['engine']['call'] * 1e3:.0f}",
        f"{cold / MIB:.0f} ({cold / weights:.1f})", f"{ours / MIB:.0f}", f"{theirs / MIB:.0f}",
        f"{theirs / ours:.2f}",
    ]  # fmt: skip


HEADER = ["model", "weights MiB", "cold s", "warm s", "engine ms", "first call ms", "compiling MiB (by weights)",
          "run MiB", "onnxruntime MiB", "onnxruntime / stepwell"]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models/ (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.step:
        print(json.dumps(STEPS[args.step](Path(*args.models))))
        return 0
    known = {path.stem: path for path in sorted(materialize.MODELS.glob("*.onnx"))}
    if unknown := [name for name in args.models if name not in known]:
        parser.error(f"no model named {', '.join(unknown)} in {materialize.MODELS}")
    found = {}
    for name in args.models or known:
        found[name] = measure(known[name])
        print(report.table(HEADER, [row(name, found[name])]).splitlines()[-1], file=sys.stderr, flush=True)
    print(report.table(HEADER, [row(name, figures) for name, figures in found.items()]))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
