"""Operators of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.contraction_harness import assert_matches, import_model, run

Array = np.ndarray[Any, Any]


def floats(*shape: int) -> Array:
    """Numbers that differ from shape to shape."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def model_of(
    op_type: str, inputs: list[Array | None], outputs: list[str], constants: dict[int, Array], domain: str, fields: Any
) -> onnx.ModelProto:
    names = ["" if a is None and i not in constants else f"x{i}" for i, a in enumerate(inputs)]
    node = helper.make_node(op_type, names, outputs, domain=domain, **fields)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in zip(names, inputs, strict=True) if a is not None
    ]  # fmt: skip
    graph = helper.make_graph(
        [node], "one", infos, [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs if o],
        [numpy_helper.from_array(a, f"x{i}") for i, a in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def check(
    op_type: str, inputs: list[Array | None], outputs: list[str] | None = None, domain: str = "com.microsoft",
    constants: dict[int, Array] | None = None, **fields: Any,
) -> None:  # fmt: skip
    model = model_of(op_type, inputs, outputs or ["y"], constants or {}, domain, fields)
    arrays = [a for a in inputs if a is not None]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = dict(zip([value.name for value in model.graph.input], arrays, strict=True))
    expected = session.run(None, feeds)
    assert_matches(run(import_model(model), arrays), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("a", "b", "fields"),
    [
        ((2, 3), (3, 4), {"alpha": 0.5}),
        ((5, 3, 2), (5, 3, 4), {"transA": 1}),
        ((5, 2, 3), (5, 4, 3), {"transB": 1, "alpha": 2.0}),
        ((2, 5, 3), (5, 3, 4), {"transBatchA": 1}),
    ],
)
def test_fused_matmul(a: tuple[int, ...], b: tuple[int, ...], fields: dict[str, Any]) -> None:
    check("FusedMatMul", [floats(*a), floats(*b)], **fields)


def test_gelus() -> None:
    check("BiasGelu", [floats(3, 8), floats(8)])
    check("Gelu", [floats(3, 8)])
    check("FastGelu", [floats(3, 8), floats(8)])
    check("FastGelu", [floats(3, 8)])
    check("QuickGelu", [floats(3, 8)], alpha=1.5)


def test_skip_normalizations() -> None:
    x, skip, row = floats(2, 3, 8), floats(2, 3, 8) * 2, floats(8)
    check("SkipLayerNormalization", [x, skip, row, row, row], ["y", "", "", "sum"], epsilon=1e-5)
    check("SkipLayerNormalization", [x, skip, row], epsilon=1e-5)
    check("SkipSimplifiedLayerNormalization", [x, skip, row, row], ["y", "", "", "sum"], epsilon=1e-5)
    check("SimplifiedLayerNormalization", [x, row], domain="", epsilon=1e-5, axis=-1)


@pytest.mark.parametrize(("bits", "k", "points"), [(4, 32, False), (4, 40, True), (8, 32, False), (2, 32, True)])
def test_matmul_of_packed_weights(bits: int, k: int, points: bool) -> None:
    n, block = 6, 16
    blocks = -(-k // block)
    rng = np.random.default_rng(1)
    constants = {
        1: rng.integers(0, 256, (n, blocks, block * bits // 8), np.uint8),
        2: rng.uniform(0.5, 1, n * blocks).astype(np.float32),
    }
    if points:
        constants[3] = rng.integers(0, 256, n * -(-blocks * bits // 8), np.uint8)
    inputs = [floats(3, k), *[None] * (len(constants))]
    check("MatMulNBits", inputs, constants=constants, N=n, K=k, bits=bits, block_size=block)


def test_multi_head_attention() -> None:
    q, k = floats(2, 3, 8), floats(2, 5, 8)
    check("MultiHeadAttention", [q, k, k * 2], num_heads=2)
    check("MultiHeadAttention", [q, k, k * 2, None], constants={3: floats(24)}, num_heads=2, scale=0.3)
    check("MultiHeadAttention", [q, k, k * 2, None, None, floats(2, 2, 3, 5)], num_heads=2)
    check("MultiHeadAttention", [q, q * 2, q * 3], num_heads=4, unidirectional=1)
    past = floats(2, 2, 4, 4)
    inputs = [q, q * 2, q * 3, None, None, None, past, past * 2]
    check("MultiHeadAttention", inputs, ["y", "key", "value"], num_heads=2)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    check("MultiHeadAttention", [q, k, k * 2, None, mask], num_heads=2)


def test_packed_attention_inputs_are_refused() -> None:
    model = model_of("MultiHeadAttention", [floats(2, 3, 2, 3, 4)], ["y"], {}, "com.microsoft", {"num_heads": 2})
    with pytest.raises(Unsupported, match="packed queries"):
        import_model(model)


def test_rotary_embedding() -> None:
    positions = np.array([[0, 1, 5], [3, 2, 4]], np.int64)
    tables = [floats(6, 4), floats(6, 4) * 2]
    check("RotaryEmbedding", [floats(2, 3, 16), positions, *tables])
    check("RotaryEmbedding", [floats(2, 3, 16), positions, *tables], interleaved=1)
    check("RotaryEmbedding", [floats(2, 2, 3, 8), positions, *tables])
    half = [floats(6, 2), floats(6, 2)]
    check("RotaryEmbedding", [floats(2, 3, 16), positions, *half], num_heads=2, rotary_embedding_dim=4)
