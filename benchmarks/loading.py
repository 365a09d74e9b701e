"""How long models take to get ready, each step in a process of its own, in which NumPy is imported already.

    python -m benchmarks.loading [MODEL...]

cold     seconds of importing Stepwell and compiling the model's file, with an empty cache
warm     the same again
engine   milliseconds of importing Stepwell and loading a saved engine, those of loading it once more, and those of the
         first call
"""

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

import numpy as np

from benchmarks import report

Figures = Mapping[str, float]
RUNS = 3
MIB = 1 << 20


def compiling(folder: Path) -> Figures:
    """Compile the model; where there is no engine yet, save one."""
    start = time.perf_counter()
    import stepwell

    model = stepwell.compile(folder / "model.onnx")
    seconds, engine = time.perf_counter() - start, folder / "model.engine"
    if not engine.exists():
        model.save(engine)
    return {"seconds": seconds}


def loading(folder: Path) -> Figures:
    """Load the engine, load it again, and call it."""
    with np.load(folder / "inputs.npz") as found:
        feeds = dict(found)
    start = time.perf_counter()
    import stepwell

    model = stepwell.load(folder / "model.engine")
    loaded = time.perf_counter()
    stepwell.load(folder / "model.engine")
    again = time.perf_counter()
    model(*feeds.values())
    return {"seconds": loaded - start, "again": again - loaded, "call": time.perf_counter() - again}


STEPS: Mapping[str, Callable[[Path], Figures]] = {
    "cold": compiling, "warm": compiling, "engine": loading,
}  # fmt: skip


def prepare(path: Path, folder: Path) -> None:
    """Write the filled model and its inputs into a folder."""
    import onnx

    from benchmarks import materialize

    model = materialize.load(path)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "inputs.npz", allow_pickle=False, **materialize.inputs(model))


def measure(path: Path) -> dict[str, Figures]:
    """The figures of every step. Raises CalledProcessError where one fails."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(path, folder)
        environment = {**os.environ, "STEPWELL_CACHE": str(folder / "cache")}
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.loading", "--step", step, str(folder)]
            made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found[step] = json.loads(made.stdout)
    return found


HEADER = ["model", "cold s", "warm s", "engine ms", "again ms", "first call ms"]


def row(name: str, found: Mapping[str, Figures]) -> list[str]:
    """A line of the table."""
    engine = (f"{found['engine'][part] * 1e3:.0f}" for part in ("seconds", "again", "call"))
    return [name, f"{found['cold']['seconds']:.2f}", f"{found['warm']['seconds']:.2f}", *engine]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models/ (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.step:
        print(json.dumps(STEPS[args.step](Path(*args.models))))
        return 0
    known = {path.stem: path for path in sorted((Path(__file__).parent / "models").glob("*.onnx"))}
    if unknown := [name for name in args.models if name not in known]:
        parser.error(f"no model named {', '.join(unknown)} in benchmarks/models")
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
