"""Matrix products of quantised operands of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.quantized_harness import RNG, check, real, scale, whole
from tests.frontends.onnx.rule_harness import imported, node_model, refused

I8, U8 = np.int8, np.uint8
# shape of A, shape of B, of B's scale, of B's zero point (None: absent)
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]] = [
    ((3, 5), (5, 4), (), ()), ((2, 3, 5), (5, 4), (4,), (4,)), ((3, 5), (5, 4), (1,), (1,)),
    ((3, 5), (5, 4), (), None), ((3, 5), (5, 4), (4,), None), ((2, 3, 5), (2, 5, 4), (2, 1, 4), (2, 1, 4)),
    ((5,), (5, 4), (4,), (4,)), ((2, 3, 5), (2, 5, 4), (), ()),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "b_scale", "b_zero"), SHAPES)
@pytest.mark.parametrize("types", [(U8, I8), (U8, U8), (I8, I8)])
def test_products_of_integers_in_floats(types: Any, a: Any, b: Any, b_scale: Any, b_zero: Any) -> None:
    zero = None if b_zero is None else whole(types[1], *b_zero)
    inputs = [whole(types[0], *a), whole(types[1], *b), scale(), scale(*b_scale), types[0](7), zero]
    check("MatMulIntegerToFloat", inputs)
    check("MatMulIntegerToFloat", [*inputs[:4], None, zero, real(4)])
    if types[0] is U8:
        check("DynamicQuantizeMatMul", [real(*a), inputs[1], inputs[3], zero])
        check("DynamicQuantizeMatMul", [real(*a), inputs[1], inputs[3], zero, real(4)])


def test_products_of_sixteen_bits() -> None:
    a, b = (RNG.integers(-300, 300, shape).astype(np.int16) for shape in ((2, 3, 5), (5, 4)))
    check("MatMulInteger16", [a, b])
    unsigned = imported(node_model("MatMulInteger16", [a.view(np.uint16), b.view(np.uint16)], domain="com.microsoft"))
    made = unsigned.run([a.view(np.uint16), b.view(np.uint16)])[0]
    np.testing.assert_array_equal(made, np.matmul(a.view(np.uint16).astype(np.uint32), b.view(np.uint16)))
    assert made.dtype == np.uint32


# transA, transB, whether B has scales by column, shape of C, whether the result is quantised, alpha
GEMMS: list[tuple[int, int, bool, tuple[int, ...] | None, bool, float]] = [
    (0, 0, False, None, True, 1.0), (1, 1, True, (4,), True, 1.0), (0, 1, True, (3, 4), False, 1.0),
    (0, 0, False, (3, 1), True, 0.5), (0, 0, True, (1,), False, 2.0), (1, 0, True, (), True, 2.0),
]  # fmt: skip


@pytest.mark.parametrize("types", [(U8, I8), (U8, U8), (I8, I8)])
@pytest.mark.parametrize(("trans_a", "trans_b", "columns", "c", "quantised", "alpha"), GEMMS)
def test_gemm(types: Any, trans_a: int, trans_b: int, columns: bool, c: Any, quantised: bool, alpha: float) -> None:
    a, b = (whole(dtype, *shape) for dtype, shape in zip(types, ((3, 5), (5, 4)), strict=True))
    a, b = a.T.copy() if trans_a else a, b.T.copy() if trans_b else b
    size = (4,) if columns else ()
    inputs = [a, scale(), types[0](7), b, scale(*size), whole(types[1], *size)]
    inputs += [None if c is None else RNG.integers(-900, 900, c).astype(np.int32)]
    inputs += [np.float32(0.3), types[0](50)] if quantised else []
    check("QGemm", inputs, transA=trans_a, transB=trans_b, alpha=alpha)


@pytest.mark.parametrize(
    ("op_type", "inputs", "words"),
    [
        ("MatMulIntegerToFloat", [whole(U8, 3, 5), whole(I8, 5, 4), scale(3), scale()], r"input 2 is \[3\]"),
        ("MatMulIntegerToFloat", [whole(U8, 3, 5), whole(I8, 6, 4), scale(), scale()], "5 and 6"),
        ("DynamicQuantizeMatMul", [real(3, 5), whole(I8, 5, 4), scale(3)], "3"),
        ("MatMulInteger16", [whole(I8, 3, 5), whole(I8, 5, 4)], "operands of si8 are not supported"),
        ("QGemm", [whole(U8, 2, 3, 5), scale(), U8(1), whole(I8, 5, 4), scale(), I8(0)], "input 0 needs rank 2"),
    ],
)
def test_refusals(op_type: str, inputs: list[Any], words: str) -> None:
    with refused(words):
        imported(node_model(op_type, inputs, domain="com.microsoft"))
