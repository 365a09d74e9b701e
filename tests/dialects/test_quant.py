"""Quantised types and conversions: their text, what they mean, and words for those that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.quantization import DequantizeOp, QuantizeOp
from stepwell.dialects.quant import DCastOp, QCastOp, SCastOp, UniformType
from stepwell.errors import IRError, ParseError, VerifyError
from stepwell.ir.attributes import DenseAttr
from stepwell.ir.core import Block, Value
from stepwell.ir.parser import Parser, parse_module
from stepwell.ir.types import (
    F16,
    F32,
    F64,
    I8,
    SI8,
    SI16,
    UI8,
    FloatType,
    IntegerType,
    Signedness,
    TensorType,
    Type,
    bit_width,
    is_float,
    is_integer,
    numpy_dtype,
)
from stepwell.ir.verifier import verify

SI4, BF16 = IntegerType(4, Signedness.SIGNED), FloatType("bf16")
NAN, INF = float("nan"), float("inf")


def parsed(text: str) -> Type:
    return Parser(text, "types").type()


def value(type_: Type) -> Value:
    return Block([type_]).arguments[0]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("!quant.uniform<i8:f32, 0.05:3>", None),
        ("!quant.uniform<u8:f32, 2.0>", None),
        ("!quant.uniform<i8:f32, 2:0>", "!quant.uniform<i8:f32, 2.0>"),
        ("!quant.uniform<i8<-127:127>:f16, 0.05:-3>", None),
        ("!quant.uniform<i8<-128:127>:f32, 0.5>", "!quant.uniform<i8:f32, 0.5>"),
        ("!quant.uniform<i4:bf16, 0.5:-8>", None),
        ("!quant.uniform<i32:f64, 0.1>", None),
        ("!quant.uniform<i8:f32, 0.0500000001>", "!quant.uniform<i8:f32, 0.05>"),
        ("tensor<2x3x!quant.uniform<i8:f32:1, {0.1, 0.2:-3, 1.5e-20:127}>>", None),
        ('tensor<?x3x!quant.uniform<u8<0:15>:f32:0, {0.1, 0.2:15}>, #graph.shape<["n"]>>', None),
        ("tensor<0x!quant.uniform<i8:f32:0, {}>>", None),
    ],
)
def test_types_print_as_they_are_read(text: str, canonical: str | None) -> None:
    assert str(parsed(text)) == (canonical or text)
    assert parsed(canonical or text) is parsed(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!quant.uniform<i8:f32, 0.0>", "a scale is a positive finite number of f32, not 0.0"),
        ("!quant.uniform<i8:f32, -0.5>", "a scale is a positive finite number of f32, not -0.5"),
        ("!quant.uniform<i8:f32, 0x7FC00000>", "a scale is a positive finite number, not the bits 0x7FC00000"),
        ("!quant.uniform<i8:f16, 1.0e6>", "a scale is a positive finite number of f16, not 1000000.0"),
        ("!quant.uniform<i8:f16, 1.0e-9>", "a scale is a positive finite number of f16, not 1e-09"),
        ("!quant.uniform<i8:f32, 0.5:128>", "the zero point 128 is outside the range -128 to 127 of the storage"),
        ("!quant.uniform<u8:f32, 0.5:-1>", "the zero point -1 is outside the range 0 to 255 of the storage"),
        ("!quant.uniform<u8<3:9>:f32, 0.5:2>", "the zero point 2 is outside the range 3 to 9 of the storage"),
        ("!quant.uniform<i8<5:5>:f32, 0.5:5>", "the range 5 to 5 is empty"),
        ("!quant.uniform<i8<-129:5>:f32, 0.5>", "the range -129 to 5 is not within -128 to 127 of the storage"),
        ("!quant.uniform<i33:f32, 0.5>", "expected a storage type, i or u and 2 to 32 bits, found 'i33'"),
        ("!quant.uniform<si8:f32, 0.5>", "expected a storage type, i or u and 2 to 32 bits, found 'si8'"),
        ("!quant.uniform<i8:i32, 0.5>", "quantised numbers express floats, not i32"),
        ("!quant.uniform<i8:f8E5M2, 0.5>", "quantised numbers express f16, bf16, f32 or f64, not f8E5M2"),
        ("!quant.uniform<i8:f32:0, 0.5>", "expected '{', found '0.5'"),
        ("!quant.uniform<i8:f32:-1, {0.5}>", "the quantised axis -1 is negative"),
        ("!quant.uniform<i8:f32, 0.5", "expected '>', found the end of the text"),
        ("tensor<3x!quant.uniform<i8:f32:1, {0.5}>>", "the quantised axis 1 is out of range for rank 1"),
        ("tensor<3x!quant.uniform<i8:f32:0, {0.5, 0.1}>>", "2 scales for 3 places along axis 0"),
        ("memref<3x!quant.uniform<i8:f32, 0.5>>", "a memref holds storage types only: i8, not !quant.uniform"),
        ("vector<3x!quant.uniform<i8:f32, 0.5>>", "a vector holds integers or floats"),
    ],
)
def test_types_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ParseError, match="types:1:") as raised:
        parsed(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("scales", "zeros", "axis", "message"),
    [
        ((NAN,), (0,), None, "not nan"),
        ((INF,), (0,), None, "not inf"),
        ((1.0, 2.0), (0, 0), None, "2 scales without an axis"),
        ((1.0, 2.0), (0,), 0, "2 scales and 1 zero points"),
    ],
)
def test_types_that_cannot_be_built(scales: Any, zeros: Any, axis: int | None, message: str) -> None:
    with pytest.raises(IRError, match=message):
        UniformType(SI8, F32, scales, zeros, axis)


def test_a_quantised_number_is_neither_float_nor_integer() -> None:
    type_ = UniformType(UI8, F32, (0.5,), (3,))
    assert (is_float(type_), is_integer(type_)) == (False, False)
    assert bit_width(type_) == 8
    assert type_.storage is I8
    assert numpy_dtype(TensorType((2,), type_)) == np.uint8


def test_constants_hold_storage() -> None:
    with pytest.raises(IRError, match=r"constants hold storage types only: i8, not !quant\.uniform"):
        DenseAttr(TensorType((1,), UniformType(SI8, F32, (0.5,), (3,))), b"\0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quant.qcast %f : tensor<3xf32> to tensor<3x!quant.uniform<i8:f16, 0.5>>", "expresses f16, not f32"),
        ("quant.qcast %f : tensor<3xf32> to tensor<4x!quant.uniform<i8:f32, 0.5>>", "differ in shape"),
        ("quant.qcast %f : tensor<3xf32> to tensor<3x!quant.uniform<i32:f32, 0.5>>", "at most 16 bits, not i32"),
        ("quant.qcast %f : tensor<3xf32> to tensor<3xi8>", "a tensor of quantised numbers"),
        ("quant.dcast %q : tensor<3x!quant.uniform<i8:f32, 0.5>> to tensor<3xf64>", "expresses f32, not f64"),
        ("quant.scast %q : tensor<3x!quant.uniform<i8:f32, 0.5>> to tensor<3xi16>", "is stored as i8, not i16"),
        ("quant.scast %q : tensor<3x!quant.uniform<i8:f32, 0.5>> to tensor<1x3xi8>", "differ in shape"),
        ("quant.scast %q : tensor<3x!quant.uniform<i8:f32, 0.5>> to tensor<3x!quant.uniform<i8:f32, 0.5>>", "one side"),
        ("quant.scast %q : tensor<3x!quant.uniform<i8:f32, 0.5>> to tensor<3xsi8>", "signless integers"),
    ],
)
def test_conversions_that_do_not_fit(text: str, message: str) -> None:
    start = 'func.func @f(%f: tensor<3xf32>, %q: tensor<3x!quant.uniform<i8:f32, 0.5>>) {\n  %r = '
    with pytest.raises(VerifyError) as raised:
        verify(parse_module(f"{start}{text}\n  func.return\n}}", "casts"))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("type_", "x", "expected"),
    [
        ("u8:f32, 1.0", [0.5, 1.5, 2.5, -0.5], [0, 2, 2, 0]),
        ("u8:f32, 1.0:128", [-300, 300, INF, -INF], [0, 255, 255, 0]),
        ("i8:f32, 2.0:1", [1, 2, 3, 5], [1, 2, 3, 3]),
        ("i8<-127:127>:f32, 1.0", [-200, -127.5, 200, NAN], [-127, -127, 127, -127]),
        ("i4:f32, 1.0", [7.5, -8.6, 3.5, NAN], [7, -8, 4, -8]),
        ("i16:f64, 0.5", [32767.4, -40000, 0.1, 1], [32767, -32768, 0, 2]),
        ("i16:f16, 1.0", [2049, 1, 0, -3], [2048, 1, 0, -3]),
        ("u8:f32, 0.83", [float(np.float32(2.5) * np.float32(0.83)), 0, 0, 0], [2, 0, 0, 0]),
    ],
)
def test_quantising_rounds_half_to_even_and_saturates(type_: str, x: list[float], expected: list[int]) -> None:
    element = parsed(f"!quant.uniform<{type_}>")
    assert isinstance(element, UniformType)
    array = np.array(x, numpy_dtype(element.expressed))
    op = QCastOp(value(TensorType((4,), element.expressed)), result_types=[TensorType((4,), element)])
    made = op.interpret(None, array)
    assert made.dtype == numpy_dtype(element.integer)
    assert made.astype(int).tolist() == expected


@pytest.mark.parametrize("integer", [SI8, UI8, SI4, SI16], ids=str)
@pytest.mark.parametrize("expressed", [F16, F32, F64], ids=str)
@pytest.mark.parametrize("axis", [None, 1])
def test_conversions_mean_what_the_graph_s_ops_mean(integer: Type, expressed: Type, axis: int | None) -> None:
    """Bit for bit, on each storage value and on random floats."""
    rng = np.random.default_rng(3)
    assert isinstance(integer, IntegerType)
    assert isinstance(expressed, FloatType)
    dtype, scales, zeros = numpy_dtype(expressed), (0.37, 1.5, 0.01), (1, 0, 5)
    count = 3 if axis is not None else 1
    element = UniformType(integer, expressed, scales[:count], zeros[:count], axis)
    scale = np.array(element.scales, dtype).reshape(() if axis is None else -1)
    zero = np.array(zeros[:count]).astype(numpy_dtype(integer)).reshape(scale.shape)
    floats, numbers = TensorType((100, 3), expressed), TensorType((100, 3), element)
    x = (rng.standard_normal((100, 3)) * 30).astype(dtype)
    x[0] = [NAN, INF, -INF]
    ends = [value(TensorType(scale.shape, expressed)), value(TensorType(scale.shape, integer))]
    quantised = QCastOp(value(floats), result_types=[numbers]).interpret(None, x)
    wanted = QuantizeOp(value(floats), *ends, axis=axis, element=integer).interpret(None, x, scale, zero)
    np.testing.assert_array_equal(quantised.astype(int), wanted.astype(int))
    made = DCastOp(value(numbers), result_types=[floats]).interpret(None, quantised)
    back = DequantizeOp(value(numbers.with_element(integer)), *ends, axis=axis, element=expressed)
    assert made.tobytes() == back.interpret(None, wanted, scale, zero).tobytes()


def test_storage_keeps_its_bits() -> None:
    element = UniformType(UI8, F32, (0.5,), (128,))
    plain, number = TensorType((3,), I8), TensorType((3,), element)
    array = np.array([-1, 0, -128], np.int8)
    made = SCastOp(value(plain), result_types=[number]).interpret(None, array)
    assert (made.dtype, made.tolist()) == (np.uint8, [255, 0, 128])
    assert SCastOp(value(number), result_types=[plain]).interpret(None, made).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("type_", "survives"),
    [
        ("i8:f32, 0.1:3", True),
        ("u16:f32, 3.0e-39:3", True),  # a subnormal scale
        ("i8:f32, 1.0e38", False),  # overflows
        ("i8:f16, 0.1", True),
        ("i16:f16, 0.1", False),
        ("i8:bf16, 0.1", False),
        ("i4:bf16, 0.1", True),
        ("i8<-127:127>:f32, 0.1", False),  # -128 would become -127
    ],
)
def test_which_types_survive_a_way_over_floats(type_: str, survives: bool) -> None:
    element = parsed(f"!quant.uniform<{type_}>")
    assert isinstance(element, UniformType)
    assert element.survives is survives
    top = 1 << element.integer.width
    low = 0 if element.integer.signedness is Signedness.UNSIGNED else -(top >> 1)
    every = np.arange(low, low + top).astype(numpy_dtype(element))
    floats, numbers = TensorType((top,), element.expressed), TensorType((top,), element)
    back = DCastOp(value(numbers), result_types=[floats]).interpret(None, every)
    again = QCastOp(value(floats), result_types=[numbers]).interpret(None, back)
    same = again.tolist() == every.tolist()
    assert same or not survives


@pytest.mark.parametrize(
    ("type_", "number", "stored"),
    [
        ("u8:f32, 0.5:7", 0.0, 7),
        ("u8:f32, 0.5:7", -0.0, None),
        ("u8:f32, 0.5:7", -3.5, 0),
        ("u8:f32, 0.5:7", -4.0, None),
        ("u8:f32, 0.5:7", 0.25, None),
        ("i8:f32, 0.1", 0.1, None),  # the f64 0.1, which is no f32
        ("i8:f32, 0.1", float(np.float32(0.1)), 1),
        ("i8:f64, 1.0e-300", 1e300, None),
        ("i8:f32, 0.5", -INF, None),
        ("i8:f32, 0.5", NAN, None),
    ],
)
def test_which_integer_stands_for_a_number(type_: str, number: float, stored: int | None) -> None:
    element = parsed(f"!quant.uniform<{type_}>")
    assert isinstance(element, UniformType)
    assert element.stored(number) == stored
