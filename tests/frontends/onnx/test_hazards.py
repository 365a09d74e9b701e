"""The versions of operators at which models break: every step on the list is shown from both sides, interpreted and
compiled.

STEPS has, for each, the same node before and after: the results differ, or what moved from an attribute to an input is
refused where it no longer (or does not yet) belong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import defs

import stepwell
from tests.frontends.onnx import hazard_steps_of_reduction, hazard_steps_of_shape, hazard_steps_of_value
from tests.frontends.onnx.hazard_sides import Side
from tests.frontends.onnx.rule_harness import given, imported, node_model, refused

STEPS = hazard_steps_of_shape.STEPS | hazard_steps_of_value.STEPS | hazard_steps_of_reduction.STEPS

OPERATORS = [
    "Softmax", "LogSoftmax", "Hardmax", "BatchNormalization", "Resize", "Upsample", "Clip", "Pad", "Slice", "TopK",
    "ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp", "Squeeze", "Unsqueeze", "Split", "Dropout", "Cast",
    "Reshape", "AveragePool", "MaxPool", "ConvTranspose", "DepthToSpace", "DFT", "GridSample", "RoiAlign",
    "GroupNormalization", "Add", "Less", "Scan", "QuantizeLinear", "DequantizeLinear", "Attention",
    "RotaryEmbedding", "RMSNormalization", "TensorScatter", "Swish", "LinearAttention", "CausalConvWithState",
    "SwiGLU",
]  # fmt: skip
"""Those whose versions differ in meaning."""


def model_of(side: Side, operator: str, constants: Any = ()) -> Any:
    return node_model(
        operator, side.inputs, version=side.version, outputs=side.outputs, constants=constants, **side.attributes
    )


CASES = [pytest.param(name.split()[0], side, id=f"{name.split(':')[0]}, {number} at {side.version}")
         for name, sides in STEPS.items() for number, side in enumerate(sides)]  # fmt: skip


@pytest.mark.parametrize(("operator", "side"), CASES)
@pytest.mark.parametrize("known", [False, True], ids=["by data", "known"])
def test_side(operator: str, side: Side, known: bool) -> None:
    constants = range(1, len(side.inputs)) if known else ()
    model = model_of(side, operator, constants)
    if isinstance(side.expected, str):
        with refused(side.expected):
            imported(model)
        return
    compare(imported(model).run(given(side.inputs, constants)), side)


@pytest.mark.parametrize(("operator", "side"), [case for case in CASES if not isinstance(case.values[1].expected, str)])
def test_side_compiled(operator: str, side: Side) -> None:
    made = stepwell.compile(model_of(side, operator))(*given(side.inputs))
    compare(made if isinstance(made, tuple) else [made], side)


def compare(found: Sequence[Any], side: Side) -> None:
    expected = side.expected if isinstance(side.expected, list) else [side.expected]
    for made, wanted in zip(map(np.asarray, found), expected, strict=True):
        assert (made.dtype, made.shape) == (wanted.dtype, wanted.shape)
        if wanted.dtype.kind in "fV":
            np.testing.assert_allclose(made.astype(np.float64), wanted.astype(np.float64), 1e-5, 1e-6)
        else:
            np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_both_sides(name: str) -> None:
    before, after = map(int, re.findall(r"\d+", name.split(":")[0])[-2:])
    operator = name.split()[0]
    versions = {_since(operator, side.version) for side in STEPS[name]}
    assert {_since(operator, before), _since(operator, after)} - {0} <= versions


def _since(operator: str, opset: int) -> int:
    """The version of an operator in an opset; 0 where that does not know it."""
    try:
        schema = defs.get_schema(operator, opset)
    except defs.SchemaError:
        return 0
    return int(schema.since_version)


def changes(operator: str) -> Iterator[tuple[int, int]]:
    """The versions at which inputs, outputs or attributes change, each with the one before; 0 before the first."""
    before: Any = None
    found = [s for s in defs.get_all_schemas_with_history() if s.name == operator and s.domain == ""]
    for schema in sorted(found, key=lambda s: s.since_version):
        now = (
            [port.name for port in schema.inputs], [port.name for port in schema.outputs],
            {name: onnx.helper.get_attribute_value(a.default_value) if a.default_value.type else None
             for name, a in schema.attributes.items() if name != "consumed_inputs"},
        )  # fmt: skip
        if before is None and schema.since_version >= 22:
            yield 0, schema.since_version
        if before is not None and now != before[1] and not schema.deprecated:
            yield before[0], schema.since_version
        before = schema.since_version, now


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_list_is_whole(operator: str) -> None:
    """Every version of an operator on the list that takes or gives something else has its step, and so has one whose
    first version is late."""
    listed = {tuple(_since(operator, int(n)) for n in re.findall(r"\d+", name.split(":")[0])[-2:])
              for name in STEPS if name.split()[0] == operator}  # fmt: skip
    assert listed, f"no step of {operator}"
    assert set(changes(operator)) <= listed


def test_no_step_is_of_another_operator() -> None:
    assert {name.split()[0] for name in STEPS} == set(OPERATORS)
