"""Weights of few bits in blocks of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.frontends.onnx.quantized_harness import RNG, Array, check, real, whole
from tests.frontends.onnx.rule_harness import given, imported, node_model, refused

N, BLOCK = 6, 16


def operands(bits: int, k: int, points: str = "", dtype: Any = np.float32, flat: bool = True) -> list[Any]:
    """A [3, k], packed weights, scales and zero points ("packed", "float" or none of them) of MatMulNBits."""
    blocks = -(-k // BLOCK)
    weights = whole(np.uint8, N, blocks, BLOCK * bits // 8)
    scales = RNG.uniform(0.5, 1, (N, blocks)).astype(dtype)
    zeros: Array | None = None
    if points == "packed":
        zeros = whole(np.uint8, N, -(-blocks * bits // 8))
    elif points:
        zeros = RNG.uniform(0, 1 << bits, (N, blocks)).astype(dtype)
    parts = [part.reshape(-1) if flat and part is not None else part for part in (scales, zeros)]
    return [real(3, k).astype(dtype), weights, *parts]


def numbers(packed: Array, bits: int, count: int) -> Array:
    """What the bytes of rows hold."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((packed[..., None] >> shifts) & ((1 << bits) - 1)).reshape(*packed.shape[:-1], -1)[..., :count]


CASES = [(4, 32, ""), (4, 32, "float"), *((bits, 40, points) for bits in (2, 4, 8) for points in ("", "packed"))]


@pytest.mark.parametrize(("bits", "k", "points"), [*CASES, (4, 40, "float"), (2, 40, "float")])
def test_products(bits: int, k: int, points: str) -> None:
    """Weights that are known and weights that are not. onnxruntime takes zero points in floats for 2 and 4 bits."""
    inputs = [*operands(bits, k, points, flat=k == 40), None, real(N)]
    fields = {"N": N, "K": k, "bits": bits, "block_size": BLOCK}
    check("MatMulNBits", inputs[:4], symbolic=False, rtol=1e-4, atol=1e-4, **fields)
    check("MatMulNBits", inputs, symbolic=False, rtol=1e-4, atol=1e-4, accuracy_level=1, **fields)
    check("MatMulNBits", [real(2, 5, k), *inputs[1:]], symbolic=False, rtol=1e-4, atol=1e-4, **fields)


@pytest.mark.parametrize(("bits", "k", "points"), CASES)
def test_products_of_any_size(bits: int, k: int, points: str) -> None:
    inputs, fields = operands(bits, k, points), {"N": N, "K": k, "bits": bits, "block_size": BLOCK}
    batch = real(2, 3, k)
    plain = node_model("MatMulNBits", inputs, domain="com.microsoft", **fields)
    rows = [imported(plain).run([one, *given(inputs[1:])])[0] for one in batch]
    for shape in (["b", "s", k], ["b", "s", "k"]):
        model = node_model("MatMulNBits", [batch, *inputs[1:]], domain="com.microsoft", shapes={0: shape}, **fields)
        made = imported(model).run([batch, *given(inputs[1:])])[0]
        np.testing.assert_allclose(made, rows, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("points", ["", "packed", "float"])
def test_narrow_floats(points: str) -> None:
    """onnxruntime keeps weights in f32 where they are rounded to f16 here, as between two operators."""
    fields = {"N": N, "K": 40, "bits": 4, "block_size": BLOCK}
    inputs = operands(4, 40, points, np.float16)
    check("MatMulNBits", inputs, symbolic=False, rtol=2e-3, atol=6e-2, **fields)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("points", ["", "packed", "float"])
def test_columns_in_groups(points: str, bits: int) -> None:
    """By the definition: onnxruntime 1.31 leaves packed zero points out where there are groups, and does not unpack
    two bits there."""
    groups = RNG.permutation(np.arange(48) // BLOCK).astype(np.int32)
    inputs = operands(bits, 48, points, flat=False)
    a, packed, scales = inputs[:3]
    weights = numbers(packed, bits, BLOCK).reshape(N, 48).astype(np.float32)
    zeros = np.full(scales.shape, 1 << (bits - 1)) if not points else inputs[3]
    zeros = numbers(zeros, bits, 3) if points == "packed" else zeros
    wanted = a @ ((weights - zeros[:, groups]) * scales[:, groups]).T
    inputs += [None] * (4 - len(inputs)) + [groups]
    fields = {"N": N, "K": 48, "bits": bits, "block_size": BLOCK}
    for constants in ([], [1, 2, 3, 4], [1, 2, 4]):
        model = node_model("MatMulNBits", inputs, domain="com.microsoft", constants=constants, **fields)
        made = imported(model).run(given(inputs, constants))[0]
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-4)
    if bits == 4 and points != "packed":
        check("MatMulNBits", inputs, symbolic=False, rtol=1e-4, atol=1e-4, **fields)


def test_groups_in_order_are_left_out() -> None:
    inputs = [*operands(4, 32), np.arange(32, dtype=np.int32) // BLOCK]
    model = node_model(
        "MatMulNBits", inputs, domain="com.microsoft", constants=[1, 2, 4], N=N, K=32, bits=4, block_size=BLOCK
    )
    names = [op.op_name for op in imported(model).ops]
    assert "graph.gather" not in names
    assert names[-3:] == ["graph.dequantize", "graph.transpose", "graph.matmul"]


@pytest.mark.parametrize("quant_type", [0, 1])
def test_tables_of_sixteen_floats(quant_type: int) -> None:
    for n, k in ((4, 32), (3, 21)):
        inputs = [real(5, k), whole(np.uint8, -(-n * k // 2)), np.abs(real(-(-n * k // 16)))]
        fields = {"N": n, "K": k, "block_size": 16, "quant_type": quant_type}
        check("MatMulBnb4", inputs, symbolic=False, rtol=1e-4, atol=1e-5, **fields)


ROWS: list[tuple[Any, tuple[int, ...], dict[str, int]]] = [
    (np.uint8, (5, 32), {}), (np.uint8, (5, 64), {"bits": 2}), (np.uint8, (5, 40), {"bits": 8}),
    (np.uint8, (5, 3, 32), {"quantize_axis": 2}), (np.uint8, (5, 40), {}),
    (ml_dtypes.uint4, (5, 32), {}), (ml_dtypes.int4, (5, 40), {}),
    (ml_dtypes.int4, (32, 5), {"gather_axis": 1, "quantize_axis": 0}),
    (ml_dtypes.int4, (40, 5), {"gather_axis": 0, "quantize_axis": 0}),
    (ml_dtypes.uint4, (4, 32), {"gather_axis": -2, "quantize_axis": -1}),
    (ml_dtypes.int4, (2, 4, 32), {"gather_axis": 1, "quantize_axis": 2}),
]  # fmt: skip


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize(("dtype", "shape", "fields"), ROWS)
def test_rows_of_a_table(dtype: Any, shape: tuple[int, ...], fields: dict[str, int], points: bool) -> None:
    bits, axis = fields.get("bits", 4), fields.get("gather_axis", 0)
    scale_shape = list(shape)
    scale_shape[fields.get("quantize_axis", 1)] = -(-shape[fields.get("quantize_axis", 1)] // BLOCK)

    def filled(sizes: list[int]) -> Array:
        if dtype is np.uint8:
            return whole(np.uint8, *sizes[:-1], -(-sizes[-1] * bits // 8))
        return RNG.integers(0, 8, sizes).astype(dtype)

    for indices in ([[1, -1, 0], [3, 2, -4]], 2, [1, shape[axis]]):
        inputs = [filled(list(shape)), np.array(indices), RNG.uniform(0.5, 1, scale_shape).astype(np.float32)]
        inputs += [filled(scale_shape)] if points else []
        fixed = [place for place in (0, 2, 3) if place < len(inputs)]
        check("GatherBlockQuantized", inputs, fixed=fixed, block_size=BLOCK, **fields)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float4_e2m1fn])
@pytest.mark.parametrize(("block", "scales"), [(16, (5, 2)), (0, (5, 1)), (16, (1, 2)), (0, (1, 1))])
def test_rows_of_small_floats(dtype: Any, block: int, scales: tuple[int, ...]) -> None:
    inputs = [real(5, 32).astype(dtype), np.array([[1, -1]], np.int32), np.abs(real(*scales))]
    check("GatherBlockQuantized", inputs, fixed=[0, 2], block_size=block)
    check("GatherBlockQuantized", [*inputs[:2], inputs[2].astype(np.float16)], fixed=[0, 2], block_size=block)


PRODUCT = {"N": N, "K": 32, "bits": 4, "block_size": BLOCK}
TABLE = [whole(np.uint8, 5, 16), np.array([1]), np.ones((5, 2), np.float32)]


@pytest.mark.parametrize(
    ("op_type", "inputs", "fields", "words"),
    [
        ("MatMulNBits", operands(4, 32), PRODUCT | {"bits": 3}, "numbers of 3 bits are not supported"),
        ("MatMulNBits", operands(4, 32), PRODUCT | {"weight_prepacked": 1}, "another device's kernel"),
        ("MatMulNBits", operands(4, 32), PRODUCT | {"K": 64}, r"ui8\[6, 2, 8\]|192|shape \[6, 4, 8\]"),
        ("MatMulNBits", operands(4, 32), PRODUCT | {"block_size": 0}, "block_size must be positive, not 0"),
        ("MatMulBnb4", [real(2, 32), whole(np.uint8, 32), real(4)],
         {"N": 2, "K": 32, "block_size": 16, "quant_type": 2}, "quant_type 2 is neither"),
        ("MatMulBnb4", [real(2, 32), whole(np.uint8, 32), real(4)],
         {"N": 2, "K": 32, "block_size": 16, "quant_type": 1, "transB": 0}, "not transposed"),
        ("GatherBlockQuantized", TABLE, {"gather_axis": 1, "quantize_axis": 0}, "packed along axis 1"),
        ("GatherBlockQuantized", TABLE, {"block_size": 0}, "block_size 0 of data of ui8"),
        ("GatherBlockQuantized", [*TABLE[:2], np.ones(5, np.float32)], {"block_size": 16}, "the scales have rank 1"),
        ("GatherBlockQuantized", TABLE, {"bits": 5, "block_size": 16}, "numbers of 5 bits"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("known", [False, True])
def test_refusals(op_type: str, inputs: list[Any], fields: dict[str, Any], words: str, known: bool) -> None:
    constants = [1, 2] if known and op_type == "MatMulNBits" else []
    with refused(words):
        imported(node_model(op_type, inputs, domain="com.microsoft", constants=constants, **fields))
