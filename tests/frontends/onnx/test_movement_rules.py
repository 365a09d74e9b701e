"""ONNX's own node cases for the operators that move, index, select and resample data, run through import and oracle."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.loader import load_model_tests

from stepwell.ir.types import TensorType, type_of_dtype
from tests.frontends.onnx.movement_harness import import_nodes, type_of

NAMES = (
    "Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Pad Tile Expand Shape Size ConstantOfShape Constant"
    " Range Gather GatherElements GatherND Scatter ScatterElements ScatterND OneHot NonZero Unique Compress"
    " DepthToSpace SpaceToDepth CenterCropPad ReverseSequence EyeLike Trilu TopK Resize Upsample GridSample AffineGrid"
    " RoiAlign MaxUnpool Col2Im NonMaxSuppression TensorScatter"
)
OPERATORS = set(NAMES.split())


@functools.cache
def cases() -> dict[str, Any]:
    with np.errstate(all="ignore"):
        found = {case.name: case for case in load_model_tests(kind="node") if case.model is not None}
    return {
        name: case
        for name, case in found.items()
        if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in OPERATORS
    }


def compare(got: Any, want: Any) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if want.dtype.kind in "fVc":
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=1e-3, atol=1e-7)
    else:
        np.testing.assert_array_equal(got, want)


def run_case(case: Any, how: str) -> None:
    model: onnx.ModelProto = case.model
    version = next(opset.version for opset in model.opset_import if not opset.domain)
    names = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    for inputs, expected in case.data_sets:
        arrays = dict(zip(names, map(np.asarray, inputs), strict=True))
        first = names[:1]
        types: dict[str, TensorType] = {}
        for name in names if how == "inputs" else first:
            types[name] = type_of(arrays[name])
        if how == "symbols" and first:
            shape = [f"s{axis}" for axis in range(arrays[first[0]].ndim)]
            types[first[0]] = type_of(arrays[first[0]], shape)
        constants = {name: array for name, array in arrays.items() if name not in types}
        imported = import_nodes(model.graph.node, types, outputs, version, constants)
        got = imported.run([arrays[name] for name in types])
        for value, result, want in zip(imported.outputs, got, expected, strict=True):
            compare(result, want)
            assert isinstance(value.type, TensorType) and value.type.rank == np.ndim(want)
            assert value.type.element is type_of_dtype(np.asarray(want).dtype)


@pytest.mark.parametrize("name", sorted(cases()))
@pytest.mark.parametrize("how", ["inputs", "constants"])
def test_node_case(name: str, how: str) -> None:
    """With every input known only at run time, and with all but the first known at import time."""
    run_case(cases()[name], how)


# The first input is a shape: its length is the rank of the result.
STATIC_ONLY = {name for name in cases() if name.startswith("test_constantofshape")}


@pytest.mark.parametrize("name", sorted(cases().keys() - STATIC_ONLY))
def test_node_case_with_symbolic_sizes(name: str) -> None:
    """The first input's sizes are symbols, the other inputs are known at import time."""
    run_case(cases()[name], "symbols")
