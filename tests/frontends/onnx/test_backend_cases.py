"""ONNX's own node tests, for every operator that has an import rule: imported, interpreted, compared."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from ml_dtypes import finfo
from onnx import numpy_helper

from stepwell.frontends.onnx import rules as _rules
from stepwell.frontends.onnx.registry import RULES
from stepwell.frontends.onnx.report import ImportFailed
from tests.frontends.onnx.rule_harness import run_model

assert _rules

# Cases that cannot be compared: parts of their names, and why.
SKIPPED = {
    "test_training_dropout": "draws random numbers",
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
    """Whether every node has a rule, and every input and output is a tensor of numbers."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    ports = [*model.graph.input, *model.graph.output]
    return (
        not model.functions
        and all(RULES.find(n.domain, n.op_type, opsets.get(n.domain, 0)) for n in model.graph.node)
        and all(p.type.WhichOneof("value") == "tensor_type" and p.type.tensor_type.elem_type != 8 for p in ports)
    )


def cases() -> Iterator[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if case.model is not None and case.data_sets and is_covered(case.model):
                marks = [pytest.mark.skip(reason) for part, reason in SKIPPED.items() if part in case.name]
                yield pytest.param(case, id=case.name, marks=marks)


def as_array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def with_constants(model: Any, inputs: list[Any]) -> tuple[Any, list[Any]]:
    """The model with what shapes it (integers and flags of rank 0 or 1) as initializers, and the inputs that are left:
    for operators whose axes, or whose result's rank, must be known when a model is compiled."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.input[:]
    left = []
    for port, array in zip(model.graph.input, inputs, strict=True):
        if array.ndim <= 1 and array.dtype.kind in "biu":
            made.graph.initializer.append(numpy_helper.from_array(array, port.name))
        else:
            made.graph.input.append(port)
            left.append(array)
    return made, left


def run_case(model: Any, inputs: list[Any]) -> list[Any]:
    try:
        return run_model(model, inputs)
    except ImportFailed:
        return run_model(*with_constants(model, inputs))


@pytest.mark.parametrize("case", list(cases()))
def test_case(case: Any) -> None:
    for inputs, outputs in case.data_sets:
        found = run_case(case.model, list(map(as_array, inputs)))
        expected = list(map(as_array, outputs))
        assert [(a.dtype, a.shape) for a in found] == [(b.dtype, b.shape) for b in expected]
        for a, b in zip(found, expected, strict=True):
            if b.dtype.kind in "biu" or "int" in b.dtype.name:
                np.testing.assert_array_equal(a, b)
            else:
                units = next((units for part, units in COARSE.items() if part in case.name), 0)
                ulp = units * float(finfo(b.dtype).eps)
                a, b = (x.astype(np.complex128 if x.dtype.kind == "c" else np.float64) for x in (a, b))
                atol = max(case.atol, ulp * np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
                np.testing.assert_allclose(a, b, rtol=max(case.rtol, ulp), atol=atol)
