"""ONNX's own node tests as machine code: compile a case, run it, compare dtypes, shapes and values."""

from __future__ import annotations

import functools
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from ml_dtypes import finfo
from onnx import numpy_helper

import stepwell
from stepwell.errors import StepwellError

OK, WRONG, REFUSED, INTERNAL, CRASH, HANG = "ok", "wrong", "refused", "internal", "crash", "hang"
OUTCOMES = (OK, WRONG, CRASH, HANG, INTERNAL, REFUSED)

RANDOM = ("test_training_dropout", "test_bernoulli", "test_random")
"""Parts of names of cases that draw random numbers: only shapes and element types can be compared."""


@attrs.frozen
class Outcome:
    """What became of a case: one of OUTCOMES, and why."""

    name: str
    operator: str
    kind: str
    reason: str = ""


@functools.cache
def node_cases() -> dict[str, Any]:
    """All cases of one node or more, by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    return {case.name: case for case in found if case.model is not None and case.data_sets}


def operator_of(case: Any) -> str:
    """The operator that a case is about; cases of several nodes are expanded functions."""
    nodes = case.model.graph.node
    return nodes[0].op_type if len(nodes) == 1 else "(several nodes)"


def table(made: Sequence[Any], kinds: Sequence[str], good: str) -> str:
    """A table of what became of cases (their `operator`, `kind` and `reason`): one per operator with a
    case that is not `good`, then the sums."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for one in made:
        groups[one.operator].append(one)
    lines = [f"{'operator':<28}" + "".join(f"{kind:>14}" for kind in kinds) + "  why"]
    for operator, group in sorted(groups.items()):
        why = next((one.reason for one in group if one.kind != good), None)
        if why is not None:
            lines.append(f"{_line(operator, group, kinds)}  {why[:150]}")
    return "\n".join([*lines, _line(f"all {len(made)} cases", made, kinds)])


def _line(label: str, made: Sequence[Any], kinds: Sequence[str]) -> str:
    counts = Counter(one.kind for one in made)
    return f"{label:<28}" + "".join(f"{counts[kind] or '-':>14}" for kind in kinds)


def outcome(case: Any, sanitize: bool = False, target: str = "cpu") -> Outcome:
    """Compile, run, compare; a crash ends the process."""
    try:
        reason = _differences(case, sanitize, target)
    except StepwellError as error:
        return Outcome(case.name, operator_of(case), REFUSED, _first_words(error))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        return Outcome(case.name, operator_of(case), INTERNAL, f"{type(error).__name__} at {place}: {str(error)[:160]}")
    return Outcome(case.name, operator_of(case), WRONG if reason else OK, reason)


def _first_words(error: StepwellError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines[1:] if line and not line.startswith(("at ", "and "))]
    return f"{type(error).__name__}: {lines[0]} {' | '.join(reasons[:2])}".strip()[:400]


def _differences(case: Any, sanitize: bool, target: str) -> str:
    for inputs, outputs in case.data_sets:
        given = [as_array(value) for value in inputs]
        found = native_results(case.model, given, sanitize, target)
        reason = compare(found, [as_array(value) for value in outputs], case)
        if reason:
            return reason
    return ""


def as_array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if isinstance(value, (list, dict)) or value is None else np.asarray(value)


def native_results(model: Any, arrays: list[Any], sanitize: bool = False, target: str = "cpu") -> list[Any]:
    """Run a model; where it does not compile as it is, with what shapes it as constants: integers and flags of rank 0
    or 1, then floats too (scales)."""
    for kinds in ("", "biu", "biuf"):
        constant, left = with_constants(model, arrays, kinds)
        try:
            compiled = stepwell.compile(constant, target, sanitize=sanitize)
        except StepwellError:
            if kinds == "biuf":
                raise
            continue
        found = compiled(*left)
        break
    return found if isinstance(found, tuple) else [found]


def with_constants(model: Any, arrays: list[Any], kinds: str) -> tuple[Any, list[Any]]:
    """The model with inputs of rank 0 and 1 whose dtype is of one of the kinds as constants, and the other arrays."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.input[:]
    left = []
    for port, array in zip(model.graph.input, arrays, strict=False):
        if isinstance(array, np.ndarray) and array.ndim <= 1 and array.dtype.kind in kinds:
            made.graph.initializer.append(numpy_helper.from_array(array, port.name))
        else:
            made.graph.input.append(port)
            left.append(array)
    return made, left


def compare(found: list[Any], expected: list[Any], case: Any) -> str:
    """Where results differ, or nothing."""
    kinds = [[_kind(value) for value in values] for values in (found, expected)]
    if kinds[0] != kinds[1]:
        return f"results {kinds[0]}, expected {kinds[1]}"
    found, expected = _arrays_of(found), _arrays_of(expected)
    have, want = ([(str(a.dtype), a.shape) for a in arrays] for arrays in (found, expected))
    if have != want:
        return f"results {have}, expected {want}"
    if any(part in case.name for part in RANDOM):
        return ""
    for a, b in zip(found, expected, strict=True):
        try:
            _assert_close(a, b, case)
        except AssertionError as error:
            return " ".join(str(error).split())[:300]
    return ""


def _kind(value: Any) -> Any:
    """What a result is apart from arrays: absent, or so many of them."""
    return value if value is None else len(value) if isinstance(value, list) else "array"


def _arrays_of(values: list[Any]) -> list[Any]:
    return [array for value in values if value is not None for array in (value if isinstance(value, list) else [value])]


def _assert_close(a: Any, b: Any, case: Any) -> None:
    if b.dtype.kind in "biuOU" or "int" in b.dtype.name:
        np.testing.assert_array_equal(a, b)
        return
    ulp = 2 * float(finfo(b.dtype).eps)  # the cases' own tolerance is meant for f32
    a, b = (x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) for x in (a, b))
    atol = max(case.atol, ulp * np.max(np.abs(b), where=np.isfinite(b), initial=1.0))
    np.testing.assert_allclose(a, b, rtol=max(case.rtol, ulp), atol=atol)
