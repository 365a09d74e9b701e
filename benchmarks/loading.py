"""How long models take to get ready, each step in a process of its own, in which NumPy is imported already.

    python -m benchmarks.loading [MODEL...]

cold     seconds of importing Stepwell and compiling the model's file, with an empty cache, and distinct kernels
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

from benchmarks import materialize, options, report
from benchmarks.contention import Watch
from benchmarks.harness import DISTURBED

Figures = Mapping[str, float]


def compiling(folder: Path) -> Figures:
    """Compile the model; where there is no engine yet, save one."""
    start = time.perf_counter()
    import stepwell

    model = stepwell.compile(folder / "model.onnx")
    seconds, engine = time.perf_counter() - start, folder / "model.engine"
    if engine.exists():
        return {"seconds": seconds}
    model.save(engine)
    from stepwell.dialects.kernel import LaunchOp

    assert model._way.lowered is not None
    return {"seconds": seconds, "kernels": len({op.callee for op in model._way.lowered.walk_of(LaunchOp)})}


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
    call = time.perf_counter() - again
    return {"seconds": loaded - start, "again": again - loaded, "call": call}


STEPS: Mapping[str, Callable[[Path], Figures]] = {
    "cold": compiling, "warm": compiling, "engine": loading,
}  # fmt: skip


def prepare(path: Path, folder: Path) -> None:
    """Write the filled model and its inputs into a folder."""
    import onnx

    model = materialize.load(path)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "inputs.npz", allow_pickle=False, **materialize.inputs(model))


def measure(path: Path) -> dict[str, Figures]:
    """The figures of every step, and how many CPUs `foreign` processes took meanwhile. Raises CalledProcessError where
    one fails."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(path, folder)
        environment = {**os.environ, "STEPWELL_CACHE": str(folder / "cache")}
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.loading", "--step", step, str(folder)]
            watch = Watch()
            made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found[step] = {**json.loads(made.stdout), "foreign": watch.foreign()}
    return found


HEADER = ["model", "kernels", "cold s", "warm s", "engine ms", "again ms", "first call ms"]


def table(models: Mapping[str, Mapping[str, Figures]]) -> str:
    """A line for each model."""
    return report.table(HEADER, [_row(name, found) for name, found in models.items()])


def _row(name: str, found: Mapping[str, Figures]) -> list[str]:
    engine = (f"{found['engine'][part] * 1e3:.0f}" for part in ("seconds", "again", "call"))
    cold, warm = (f"{found[step]['seconds']:.2f}" for step in ("cold", "warm"))
    return [name, f"{found['cold']['kernels']:.0f}", cold, warm, *engine]


def remarks(models: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """A line for each step that other processes disturbed."""
    return [
        f"{name}, {step}: other processes took {figures['foreign']:.1f} CPUs"
        for name, found in models.items()
        for step, figures in found.items()
        if figures["foreign"] > DISTURBED
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models/ (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.step:
        print(json.dumps(STEPS[args.step](Path(*args.models))))
        return 0
    found = {}
    for name in options.models(parser, args):
        found[name] = measure(materialize.MODELS / f"{name}.onnx")
        print(table({name: found[name]}).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(found))
    if lines := remarks(found):
        print("", *(f"- {line}" for line in lines), sep="\n")
    if args.json:
        report.write(args.json, {"models": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
