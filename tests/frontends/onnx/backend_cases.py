"""ONNX's own node tests for every operator that has an import rule: imported, interpreted, compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from ml_dtypes import finfo
from onnx import numpy_helper

from stepwell.frontends.onnx.registry import RULES
from stepwell.frontends.onnx.report import ImportFailed
from tests.frontends.onnx.rule_harness import imported
from tests.onnx_conformance.cases import as_array, node_cases

Shapes = Mapping[str, Sequence["int | str"]]

# Cases that cannot be compared: parts of their names, and why.
SKIPPED = {
    "test_bernoulli": "draws random numbers",
    "test_affine_grid_2d_expanded": "data decides the rank of a value",
    "test_affine_grid_2d_align_corners_expanded": "data decides the rank of a value",
    "test_affine_grid_3d_align_corners_expanded": "data decides the rank of a value",
}

# Cases whose expected outputs are less exact than ours: parts of their names, and the tolerance in units in the last
# place of the largest element. All others are held to their own tolerance.
COARSE = {
    # Attention in bf16 and f16: expected is rounded after every step, ours once at the end.
    "test_attention_4d_causal_bf16": 2, "test_attention_4d_causal_fp16": 2, "test_attention_4d_padded_kv_bf16": 2,
    "test_attention_4d_causal_padded_kv_bf16": 2, "test_attention_4d_attn_mask_causal_bf16": 2,
    "test_attention_3d_causal_bf16": 2,
    # A signal that is transformed there and back by f32 steps: zeros are expected to be 2e-6 beside elements of 54.
    "test_dft_inverse": 1,
}  # fmt: skip


def is_covered(model: Any) -> bool:
    """Whether every node has a rule, and every input and output is a tensor."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    ports = [*model.graph.input, *model.graph.output]
    return (
        not model.functions
        and all(RULES.find(n.domain, n.op_type, opsets.get(n.domain, 0)) for n in model.graph.node)
        and all(port.type.WhichOneof("value") == "tensor_type" for port in ports)
    )


def covered_cases() -> dict[str, Any]:
    """The cases whose models are covered, by name."""
    return {name: case for name, case in node_cases().items() if is_covered(case.model)}


def parameter(case: Any) -> Any:
    """A case as a parameter of a test, skipped where it cannot be compared."""
    marks = [pytest.mark.skip(reason) for part, reason in SKIPPED.items() if part in case.name]
    return pytest.param(case, id=case.name, marks=marks)


def check_case(
    case: Any, shapes: Shapes | None = None, constants: Collection[str] = (), kept: Collection[str] = ()
) -> None:
    """Run a case, its inputs declared with other dims where `shapes` has them and known at import time where
    `constants` names them, and compare. An operator whose axes, or whose result's rank, must be known when a model is
    compiled gets what shapes it (integers and flags of rank 0 or 1, but those in `kept`) as initializers."""
    for inputs, outputs in case.data_sets:
        arrays = dict(zip([port.name for port in case.model.graph.input], map(as_array, inputs), strict=True))
        try:
            found = _results(case.model, arrays, shapes, constants)
        except ImportFailed as error:
            if not all("must be known" in problem.reason for problem in error.problems):
                raise
            shaping = {n for n, a in arrays.items() if a.ndim <= 1 and a.dtype.kind in "biu"} - set(kept)
            found = _results(case.model, arrays, shapes, {*constants, *shaping})
        _compare(found, list(map(as_array, outputs)), case)


def _results(
    model: Any, arrays: Mapping[str, Any], shapes: Shapes | None, constants: Collection[str]
) -> list[Any]:
    made, left = _with_constants(model, arrays, constants)
    shapes = {name: shape for name, shape in (shapes or {}).items() if name in left}
    return [np.asarray(array) for array in imported(made, shapes=shapes).run(list(left.values()))]


def _with_constants(model: Any, arrays: Mapping[str, Any], names: Collection[str]) -> tuple[Any, dict[str, Any]]:
    """The model with some inputs as initializers, and the arrays of the others."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.input[:]
    left = {}
    for port in model.graph.input:
        array = arrays[port.name]
        if port.name in names:
            made.graph.initializer.append(numpy_helper.from_array(array, port.name))
        else:
            made.graph.input.append(port)
            left[port.name] = array
    return made, left


def _compare(found: Sequence[Any], expected: Sequence[Any], case: Any) -> None:
    assert [(a.dtype, a.shape) for a in found] == [(b.dtype, b.shape) for b in expected]
    for a, b in zip(found, expected, strict=True):
        if b.dtype.kind in "biuOSU" or "int" in b.dtype.name:
            np.testing.assert_array_equal(a, b)
        else:
            units = next((units for part, units in COARSE.items() if part in case.name), 0)
            ulp = units * float(finfo(b.dtype).eps)
            a, b = (x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) for x in (a, b))
            atol = max(case.atol, ulp * np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
            np.testing.assert_allclose(a, b, rtol=max(case.rtol, ulp), atol=atol)
