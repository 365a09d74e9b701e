"""Accept models: right, precise, the same on every target, with any team and on every run, at all sizes.

    python -m tests.models.accept                                  # all of benchmarks/models, about half an hour
    python -m tests.models.accept lstm_2x256_s64 mlp_b64            # some
    python -m tests.models.accept --checks right,sizes bert4_dyn    # some checks
    python -m tests.models.accept --table                           # what was found so far

Findings are kept in a folder (`--results`), one file for each model; what has passed there is not run again unless
`--again` says so. Every group of checks has a process of its own, with a limit on its memory. The exit status says
whether everything that was asked for has passed."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from benchmarks import materialize
from tests.models.checks import CHECKS, Finding
from tests.models.child import record, recorded
from tests.models.table import table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "acceptance"
GROUPS = (
    ("right", "precise", "threads", "runs", "sizes"), ("targets",), ("expected",), ("cost",), ("memory",),
    ("commands",), ("intermediates",),
)  # fmt: skip
NOT_REQUIRED = ("resnet50_int8_qdq",)  # recorded only
MEMORY = 12.0  # GiB


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models (default: all)")
    parser.add_argument("--checks", default=",".join(CHECKS), help=f"some of {','.join(CHECKS)}")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--memory", type=float, default=MEMORY, metavar="GIB", help="address space of a process")
    parser.add_argument("--again", action="store_true", help="run what has passed already as well")
    parser.add_argument("--table", action="store_true", help="only show what was found")
    args = parser.parse_args(argv)
    known = sorted(path.stem for path in materialize.MODELS.glob("*.onnx"))
    names, checks = args.models or known, args.checks.split(",")
    if unknown := sorted({*names} - {*known}) + sorted({*checks} - {*CHECKS}):
        parser.error(f"unknown: {', '.join(unknown)}; there are the models {', '.join(known)}")
    if not args.table:
        args.results.mkdir(parents=True, exist_ok=True)
        for name in names:
            accept(name, checks, args.results, args.memory, again=args.again)
    found = {name: recorded(args.results / f"{name}.json") for name in names}
    print(table(found))
    needed = [(name, check) for name in names if name not in NOT_REQUIRED for check in checks]
    return int(any(found[name].get(check, {}).get("status", "fail") == "fail" for name, check in needed))


def accept(name: str, checks: Sequence[str], folder: Path, memory: float, *, again: bool) -> None:
    """Run the checks of one model that have not passed; its filled file lies in the folder meanwhile."""
    results, model = folder / f"{name}.json", folder / f"{name}.onnx"
    done = {} if again else recorded(results)
    wanted = [check for check in checks if done.get(check, {}).get("status", "fail") == "fail"]
    if not wanted:
        return
    try:
        fill(name, model)
        for group in GROUPS:
            if chosen := [check for check in group if check in wanted]:
                _examine(model, results, chosen, memory)
    finally:
        model.unlink(missing_ok=True)
        model.with_suffix(".npz").unlink(missing_ok=True)


def fill(name: str, path: Path) -> None:
    """Write a model of benchmarks/models with its weights, and beside it its inputs."""
    model = materialize.load(materialize.MODELS / f"{name}.onnx")
    onnx.save(model, path)
    np.savez(path.with_suffix(".npz"), allow_pickle=False, **materialize.inputs(model))


def _examine(model: Path, results: Path, checks: Sequence[str], memory: float) -> None:
    """Run checks in a process; where it dies, the check it was at has failed and the others get another process."""
    for check in checks:
        record(results, check, Finding("fail", "not reached"))
    left = list(checks)
    while left:
        command = [sys.executable, "-m", "tests.models.child", str(model), str(results), *left]
        done = subprocess.run(command, cwd=ROOT, check=False, preexec_fn=lambda: _limit(memory))
        left = [check for check in left if recorded(results)[check]["detail"] == "not reached"]
        if left:
            record(results, left[0], Finding("fail", f"the process ended with status {done.returncode}"))
            del left[0]


def _limit(gibibytes: float) -> None:
    limit = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
