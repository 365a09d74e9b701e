"""onnxruntime as the judge of every pass of the graph landing: it runs the original file, and what lands back as ONNX
after the import and after each pass.

    python -m tests.frontends.onnx.judge [MODEL...]      # default: all of benchmarks/models, one after another
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from onnx import checker

from benchmarks import materialize
from stepwell.compiler import Options, context_of, lower, machine_of
from stepwell.errors import StepwellError
from stepwell.frontends.onnx.exporter import save_model
from stepwell.frontends.onnx.importer import import_model
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass
from tests.frontends.onnx.rule_harness import onnxruntime_session

Array = np.ndarray[Any, Any]

# What two orders of f32 sums may differ by: the bar for compiled models.
RTOL, ATOL = 1e-3, 1e-4


@attrs.frozen
class Verdict:
    """How the outputs of one stage compare with the original's: `error` is the largest difference, `reason` says what
    is wrong, empty where nothing is."""

    stage: str
    ops: int
    error: float = 0.0
    reason: str = ""


@attrs.define
class Judge:
    """An instrument that exports the module after every pass and runs it."""

    feeds: dict[str, Array]
    expected: Sequence[Array]
    folder: Path
    verdicts: list[Verdict] = attrs.Factory(list)

    def before(self, pass_: Pass, module: Operation) -> None:
        """Nothing."""

    def after(self, pass_: Pass, module: Operation) -> None:
        """Judge what the pass made."""
        self.judge(pass_.name, module)

    def failed(self, pass_: Pass, module: Operation, error: Exception) -> None:
        """Nothing: the error is raised."""

    def judge(self, stage: str, module: Operation) -> None:
        """Export, check, run, compare."""
        ops, path = sum(1 for _ in module.walk()), self.folder / "stage.onnx"
        try:
            save_model(module, path)
        except StepwellError as error:
            self.verdicts.append(Verdict(stage, ops, np.inf, str(error)))
            return
        try:
            checker.check_model(str(path), full_check=True)
            found = onnxruntime_session(path).run(None, self.feeds)
        except Exception as error:  # whatever the checker and the runtime raise is a verdict
            self.verdicts.append(Verdict(stage, ops, np.inf, f"{type(error).__name__}: {error}"))
            return
        self.verdicts.append(Verdict(stage, ops, *compare(found, self.expected)))


def compare(found: Sequence[Array], expected: Sequence[Array]) -> tuple[float, str]:
    """(the largest difference, what is wrong)"""
    worst = 0.0
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return np.inf, f"output {index} is {a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
        if a.dtype.kind != "f":
            if not np.array_equal(a, b):
                return np.inf, f"output {index}: {np.sum(a != b)} of {a.size} elements differ"
            continue
        if not (np.array_equal(np.isnan(a), np.isnan(b)) and np.array_equal(np.isinf(a), np.isinf(b))):
            return np.inf, f"output {index} has NaN or infinities in other places"
        finite = np.isfinite(b)
        worst = max(worst, float(np.max(np.abs(a - b), where=finite, initial=0.0)))
        if not np.allclose(a, b, RTOL, ATOL, equal_nan=True):
            return worst, f"output {index} is off by {worst:.2g}"
    return worst, ""


def judge_model(path: str | os.PathLike[str]) -> list[Verdict]:
    """The verdicts on a model after its import and after every pass of the graph landing."""
    model = materialize.load(path)
    feeds = materialize.inputs(model)
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.onnx"
        original.write_bytes(model.SerializeToString())
        del model
        expected = onnxruntime_session(original).run(None, feeds)
        module = import_model(original)
        judge = Judge(feeds, expected, Path(folder))
        judge.judge("import", module)
        options = Options()
        lower(module, "graph", context_of(options, machine_of(options)), [judge])
    return judge.verdicts


def lines(path: Path, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A line per stage."""
    for verdict in verdicts:
        found = f"{verdict.ops:>6} ops  {verdict.error:<10.2g} {verdict.reason or 'ok'}"
        yield f"{path.stem:<24} {verdict.stage:<14} {found}"


def main() -> int:
    """0 where every stage of every model gives what the original gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    args = parser.parse_args()
    status = 0
    for path in args.models or sorted(materialize.MODELS.glob("*.onnx")):
        verdicts = judge_model(path)
        status |= int(any(verdict.reason for verdict in verdicts))
        print("\n".join(lines(path, verdicts)), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
