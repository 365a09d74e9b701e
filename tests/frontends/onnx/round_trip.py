"""ONNX's node cases there and back: import, export, import again, and the meaning stays.

    python -m tests.frontends.onnx.round_trip [--only PART] [--dynamic] [--runtime] [--details]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import checker

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.graph.elementwise import ExpM1Op
from stepwell.errors import IRError, ModelError
from stepwell.frontends.onnx.exporter import ExportFailed, export_model
from stepwell.frontends.onnx.importer import import_model
from stepwell.frontends.onnx.report import ImportFailed
from tests.frontends.onnx.rule_harness import onnxruntime_session, run_module
from tests.onnx_conformance.cases import as_array, node_cases, operator_of, table, with_constants

Array = np.ndarray[Any, Any]

SAME, NOT_IMPORTED, NOT_EXPORTED, INVALID, NOT_AGAIN, DIFFERENT, JUDGED = (
    "same", "not imported", "not exported", "invalid", "not again", "different", "judged",
)  # fmt: skip
KINDS = (SAME, JUDGED, DIFFERENT, NOT_AGAIN, INVALID, NOT_EXPORTED, NOT_IMPORTED)

# Where onnxruntime makes something else of the original, and why that is its own doing.
OWN_WAYS = {
    "test_attention_4d_with_past_and_present_qk_matmul_bias": "forbidden keys score the least f32 there, not -inf",
    "test_maxunpool_export_with_output_shape": "it reads positions in the wider output, the case expects the narrower",
}


@attrs.frozen
class Trip:
    """How far a model came, one of KINDS, and why no further."""

    name: str
    operator: str
    kind: str
    reason: str = ""


def round_trip(case: Any, dynamic: bool = False, runtime: bool = False) -> Trip:
    """The trip of a node case; `dynamic`: with a symbol for every size of its inputs; `runtime`: onnxruntime, where it
    runs the case, gives the same for what comes back (else: judged)."""
    kind, reason = _trip(case, dynamic, runtime)
    return Trip(case.name, operator_of(case.model), kind, reason)


def _trip(case: Any, dynamic: bool, runtime: bool) -> tuple[str, str]:
    inputs = [as_array(value) for value in case.data_sets[0][0]]
    reason = ""
    for kinds in ("", "biu"):  # axes and sizes may have to be constants
        model, arrays = with_constants(case.model, inputs, kinds)
        try:
            model = with_symbols(model) if dynamic else model
            runtime = runtime and not any(case.name.startswith(name) for name in OWN_WAYS)
            return _there_and_back(import_model(model), arrays, model if runtime else None)
        except (ImportFailed, IRError, AttributeError, TypeError) as error:
            reason = reason or first_line(error)
    return NOT_IMPORTED, reason


def _there_and_back(module: ModuleOp, arrays: Sequence[Any], original: Any) -> tuple[str, str]:
    expected = flat(run_module(module, arrays))
    try:
        made = export_model(module)
    except ExportFailed as error:
        return NOT_EXPORTED, "; ".join(problem.reason for problem in error.problems)
    try:
        checker.check_model(made, full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return INVALID, first_line(error)
    try:
        found = flat(run_module(import_model(made), arrays))
    except (ModelError, IRError) as error:
        return NOT_AGAIN, first_line(error)
    reason = difference(found, expected, 1e-6 if any(isinstance(op, ExpM1Op) for op in module.walk()) else 0)
    if reason:
        return DIFFERENT, reason
    reason = "" if original is None else _judged(original, made, arrays)
    return (JUDGED, reason) if reason else (SAME, "")


def _judged(original: Any, made: Any, arrays: Sequence[Any]) -> str:
    """How what onnxruntime makes of two models differs; empty where it does not run the original."""
    results = []
    for model in (original, made):
        try:
            session = onnxruntime_session(model)
            feeds = {port.name: array for port, array in zip(session.get_inputs(), arrays, strict=True)}
            results.append(flat(session.run(None, feeds)))
        except Exception as error:  # what onnxruntime raises has no base class of its own
            return first_line(error) if results else ""
    expected, found = results
    return difference(found, expected, 1e-5)


def with_symbols(model: Any) -> Any:
    """The model with a symbol of its own for every size of its inputs, and outputs without declared sizes. Lists keep
    their length: it may decide a rank."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for port in made.graph.input:
        dims = port.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims if len(dims) > 1 else []):
            dim.dim_param = f"{port.name}_{axis}"
    for port in made.graph.output:
        port.type.Clear()
    return made


def flat(results: Sequence[Any]) -> list[Array]:
    """Results as arrays: of a list its length, then its arrays; of what is absent, the length -1."""
    found: list[Array] = []
    for result in results:
        if isinstance(result, list):
            found += [np.array(len(result)), *map(np.asarray, result)]
        else:
            found.append(np.array(-1) if result is None else np.asarray(result))
    return found


def first_line(error: BaseException) -> str:
    """The beginning of a message."""
    return " | ".join(line.strip() for line in str(error).split("\n") if line.strip())[:300]


def difference(found: Sequence[Array], expected: Sequence[Array], rtol: float = 0) -> str:
    """Where arrays differ in element type, shape or a single bit (NaNs aside); empty where they do not.

    `rtol` is for what is computed otherwise: graph.expm1, which ONNX lacks, is a formula that rounds four times."""
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"result {index}: {a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
        near = rtol and a.dtype.kind == "f" and np.allclose(a, b, rtol, rtol * 0.1, equal_nan=True)
        if not near and not same(a, b):
            return f"result {index}: {np.sum(a != b)} of {a.size} elements differ"
    return ""


def same(a: Array, b: Array) -> bool:
    """Whether arrays of one type and shape have the same elements, where NaN is NaN."""
    if a.dtype.kind in "fc":
        return np.array_equal(a, b, equal_nan=True)
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


def main() -> int:
    """0 where all that is imported comes back the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PART", help="cases whose name has this part")
    parser.add_argument("--dynamic", action="store_true", help="with a symbol for every size of the inputs")
    parser.add_argument("--runtime", action="store_true", help="compare what onnxruntime makes of both models")
    parser.add_argument("--details", action="store_true", help="a line for every case that does not come back")
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for name, case in node_cases().items() if args.only in name]
        trips = [round_trip(case, args.dynamic, args.runtime) for case in cases]
    if args.details:
        for trip in sorted(trips, key=lambda trip: (trip.kind, trip.operator, trip.name)):
            if trip.kind not in (SAME, NOT_IMPORTED):
                print(f"{trip.kind:<13} {trip.operator:<24} {trip.name}: {trip.reason}")
    print(table(trips, KINDS, SAME))
    return int(any(trip.kind not in (SAME, NOT_IMPORTED) for trip in trips))


if __name__ == "__main__":
    sys.exit(main())
