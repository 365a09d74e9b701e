"""The quant dialect: numbers kept as small integers, with what they stand for written in the type.

Element types and conversions have upstream's names, syntax and meaning. A value of `!quant.uniform<i8:f32, 0.05:3>` is
an 8-bit integer q that stands for the f32 number (q - 3) * 0.05."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.errors import IRError
from stepwell.ir.constraints import FLOAT_TENSOR, tensor_with
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.interned import interned
from stepwell.ir.lexer import Kind
from stepwell.ir.opdef import PURE, Op, operand, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import FloatType, IntegerType, Signedness, StoredType, TensorType, Type, is_unsigned, numpy_dtype

if TYPE_CHECKING:
    from stepwell.ir.parser import Parser

MAX_STORAGE_BITS = 32
# Bits of a whole number that a float format holds exactly.
_PRECISION = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}


@interned
class UniformType(StoredType):
    """`!quant.uniform<i8:f32, 0.05:3>`: the integer q stands for the float (q - zero point) * scale.

    `i8` and `u8` say how the storage's bits are read; `i8<-127:127>` narrows the range, to which quantising saturates.
    Zero points of 0 are not written. With an axis there is a scale for each place along it:
    `!quant.uniform<i8:f32:1, {0.1, 0.2:-3}>`. Scales are numbers of the expressed type, as which they are read: 0.05 is
    the f32 nearest to 0.05. Source: MLIR 19, "Quantization", and Jacob et al., "Quantization and Training of Neural
    Networks for Efficient Integer-Arithmetic-Only Inference" (2018), section 2.1.

    Raises IRError for a storage of more than 32 bits or without a sign, an expressed type other than f16, bf16, f32 and
    f64, an empty or too wide range, a scale that is not positive and finite, a zero point outside the range."""

    mnemonic = "quant.uniform"
    integer: IntegerType
    expressed: FloatType
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None
    range: tuple[int, int] = (0, 0)  # the least and the greatest integer; (0, 0) for all of the storage

    def __attrs_post_init__(self) -> None:
        integer = self.integer
        if integer.signedness is Signedness.SIGNLESS or not 2 <= integer.width <= MAX_STORAGE_BITS:
            raise IRError(f"numbers are stored in signed or unsigned integers of 2 to {MAX_STORAGE_BITS} bits")
        if self.expressed.format not in _PRECISION:
            raise IRError(f"quantised numbers express f16, bf16, f32 or f64, not {self.expressed}")
        self._check_range()
        if self.axis is None and len(self.scales) != 1:
            raise IRError(f"{len(self.scales)} scales without an axis")
        if self.axis is not None and self.axis < 0:
            raise IRError(f"the quantised axis {self.axis} is negative")
        if len(self.scales) != len(self.zero_points):
            raise IRError(f"{len(self.scales)} scales and {len(self.zero_points)} zero points")
        dtype = numpy_dtype(self.expressed)
        with np.errstate(over="ignore"):
            scales = tuple(float(dtype.type(scale)) for scale in self.scales)
        for given, scale in zip(self.scales, scales, strict=True):
            if not (scale > 0 and math.isfinite(scale)):
                raise IRError(f"a scale is a positive finite number of {self.expressed}, not {given}")
        object.__setattr__(self, "scales", scales)
        for zero in self.zero_points:
            if not self.low <= zero <= self.high:
                raise IRError(f"the zero point {zero} is outside the range {self.low} to {self.high} of the storage")

    def _check_range(self) -> None:
        full = full_range(self.integer)
        if self.range == (0, 0):
            object.__setattr__(self, "range", full)
        if not full[0] <= self.low < self.high <= full[1]:
            raise IRError(f"the range {self.low} to {self.high} is not within {full[0]} to {full[1]} of the storage")

    @property
    def storage(self) -> IntegerType:
        """The signless integer type that holds the bits."""
        return IntegerType(self.integer.width)

    @property
    def held(self) -> IntegerType:
        """The integer type with its sign."""
        return self.integer

    @property
    def low(self) -> int:
        """The least integer."""
        return self.range[0]

    @property
    def high(self) -> int:
        """The greatest integer."""
        return self.range[1]

    @property
    def is_full(self) -> bool:
        """Whether every integer of the storage is in the range."""
        return self.range == full_range(self.integer)

    @property
    def survives(self) -> bool:
        """Whether every stored integer q comes back from its float: round(((q - z) * s) / s) + z = q.

        n = q - z comes back as n (1 + e), where two roundings leave |e| below 2.5 units; that rounds to n where
        |n e| < 1/2. The product must not overflow; where it is subnormal it is exact, a whole multiple of the scale."""
        dtype = numpy_dtype(self.expressed)
        top = _largest(dtype)
        for scale, zero in zip(self.scales, self.zero_points, strict=True):
            reach = max(abs(self.low - zero), abs(self.high - zero))
            if 8 * reach > 1 << _PRECISION[self.expressed.format] or reach * scale > top / 2:
                return False
        return self.is_full

    def stored(self, number: float) -> int | None:
        """The integer that stands for exactly this number, or None; all of a tensor's numbers have one scale."""
        if self.axis is not None or not math.isfinite(number) or math.copysign(1.0, number) < 0 == number:
            return None
        steps = number / self.scales[0]
        if abs(steps) > 1 << MAX_STORAGE_BITS:
            return None
        place = round(steps) + self.zero_points[0]
        if not self.low <= place <= self.high:
            return None
        return place if float(dequantised(np.array(place), self)) == number else None

    def check_shape(self, shape: Sequence[Dim]) -> None:
        """Raise IRError where the axis is not one of the shape's, or has not one place for each scale."""
        if self.axis is None:
            return
        if self.axis >= len(shape):
            raise IRError(f"the quantised axis {self.axis} is out of range for rank {len(shape)}")
        size = shape[self.axis]
        if isinstance(size, int) and size != len(self.scales):
            raise IRError(f"{len(self.scales)} scales for {size} places along axis {self.axis}")

    def print_parameters(self) -> str:
        """`<u8<0:15>:f32:1, {0.1, 0.2:-3}>`"""
        from stepwell.ir.printer import float_text

        kept = f"{'u' if is_unsigned(self.integer) else 'i'}{self.integer.width}"
        narrowed = "" if self.is_full else f"<{self.low}:{self.high}>"
        axis = "" if self.axis is None else f":{self.axis}"
        dtype = numpy_dtype(self.expressed)
        pairs = [
            float_text(dtype.type(scale), self.expressed) + (f":{zero}" if zero else "")
            for scale, zero in zip(self.scales, self.zero_points, strict=True)
        ]
        shown = pairs[0] if self.axis is None else "{" + ", ".join(pairs) + "}"
        return f"<{kept}{narrowed}:{self.expressed}{axis}, {shown}>"

    @staticmethod
    def parse_parameters(parser: Parser) -> UniformType:
        """The inverse of `print_parameters`."""
        parser.expect("<")
        integer = _parse_storage(parser)
        range_ = full_range(integer)
        if parser.accept("<"):
            low = parser.integer()
            parser.expect(":")
            range_ = (low, parser.integer())
            parser.expect(">")
            if range_[0] >= range_[1]:
                raise IRError(f"the range {range_[0]} to {range_[1]} is empty")
        parser.expect(":")
        place = parser.peek()
        expressed = parser.type()
        if not isinstance(expressed, FloatType):
            raise parser.error(f"quantised numbers express floats, not {expressed}", place)
        axis = parser.integer() if parser.accept(":") else None
        parser.expect(",")
        if axis is None:
            pairs = [_parse_scale(parser)]
        else:
            parser.expect("{")
            pairs = parser.comma_list("}", lambda: _parse_scale(parser))
        parser.expect(">")
        scales, zeros = (tuple(pair[n] for pair in pairs) for n in (0, 1))
        return UniformType(integer, expressed, scales, zeros, axis, range_)  # type: ignore[arg-type]


def _parse_storage(parser: Parser) -> IntegerType:
    """`i8`, `u8`"""
    place = parser.peek()
    text = parser.bare()
    if text[0] not in "iu" or not text[1:].isdecimal() or not 2 <= int(text[1:3]) <= MAX_STORAGE_BITS or len(text) > 3:
        raise parser.error(f"expected a storage type, i or u and 2 to {MAX_STORAGE_BITS} bits, found {text!r}", place)
    return IntegerType(int(text[1:]), Signedness.SIGNED if text[0] == "i" else Signedness.UNSIGNED)


def _parse_scale(parser: Parser) -> tuple[float, int]:
    """`0.05:3`"""
    token = parser.peek()
    if token.kind is Kind.HEX:
        raise IRError(f"a scale is a positive finite number, not the bits {token.text}")
    if token.kind not in (Kind.FLOAT, Kind.INTEGER):
        raise parser.unexpected("a scale")
    parser.advance()
    return float(token.text), parser.integer() if parser.accept(":") else 0


def full_range(integer: IntegerType) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    top = 1 << integer.width
    return (0, top - 1) if is_unsigned(integer) else (-(top >> 1), (top >> 1) - 1)


def _largest(dtype: np.dtype[Any]) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).max)


def uniform(value: Value) -> UniformType:
    """The element type of a quantised tensor."""
    assert isinstance(value.type, TensorType)
    assert isinstance(value.type.element, UniformType)
    return value.type.element


def _spread(numbers: Sequence[Any], type_: UniformType, rank: int) -> Any:
    """Scales or zero points, so that they broadcast over an array of that rank."""
    array = np.asarray(numbers, np.float64)
    return array[0] if type_.axis is None else array.reshape([-1 if n == type_.axis else 1 for n in range(rank)])


def dequantised(stored: Any, type_: UniformType) -> Any:
    """The floats that integers stand for, in the expressed type; f16 and bf16 are computed in f32 and rounded once."""
    exact = stored.astype(np.float64)  # holds every 32-bit integer
    exact = exact - _spread(type_.zero_points, type_, stored.ndim)
    dtype = numpy_dtype(type_.expressed)
    working = np.float64 if dtype == np.float64 else np.float32
    with np.errstate(all="ignore"):
        scale = np.asarray(_spread(type_.scales, type_, stored.ndim), working)
        return (exact.astype(working) * scale).astype(dtype)


def quantised(floats: Any, type_: UniformType) -> Any:
    """The integers nearest to floats: saturate(round(x / scale) + zero point), the division rounded to the expressed
    type, ties to even; NaN gives the least."""
    dtype = numpy_dtype(type_.expressed)
    with np.errstate(all="ignore"):
        quotient = (floats.astype(dtype) / _spread(type_.scales, type_, floats.ndim).astype(dtype)).astype(np.float64)
        whole = np.rint(quotient) + _spread(type_.zero_points, type_, floats.ndim)
        whole = np.where(np.isnan(whole), type_.low, np.clip(whole, type_.low, type_.high))
    return whole.astype(np.int64).astype(numpy_dtype(type_))


QUANTISED_TENSOR = tensor_with("a tensor of quantised numbers", lambda e: isinstance(e, UniformType))
STORAGE_OR_QUANTISED = tensor_with(
    "a tensor of signless integers or of quantised numbers",
    lambda e: isinstance(e, UniformType) or (isinstance(e, IntegerType) and e.signedness is Signedness.SIGNLESS),
)


def _check_ends(floats: Value, whole: Value) -> None:
    """Raise IRError where floats are not what a quantised tensor expresses, or the shapes differ."""
    a, b = floats.type, whole.type
    assert isinstance(a, TensorType)
    assert isinstance(b, TensorType)
    if a.element is not uniform(whole).expressed:
        raise IRError(f"{b.element} expresses {uniform(whole).expressed}, not {a.element}")
    if a.with_element(b.element) is not b:
        raise IRError(f"{a} and {b} differ in shape")


class QCastOp(Op):
    """Quantise: saturate(round(x / scale) + zero point).

    The division is true division in the expressed type, rounding is half to even, NaN gives the least integer. The
    storage has at most 16 bits, so that the sum is exact as far as it does not saturate.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %q = quant.qcast %x : tensor<2x3xf32> to tensor<2x3x!quant.uniform<i8:f32, 0.05:3>>
    ```
    """

    name = "quant.qcast"
    traits = frozenset({PURE})
    assembly = "$input attr-dict `:` type($input) `to` type($result)"
    input: Value = operand(FLOAT_TENSOR)
    result: Value = result(QUANTISED_TENSOR)

    def verify_op(self) -> None:
        _check_ends(self.input, self.result)
        if uniform(self.result).integer.width > 16:
            raise IRError(f"quantising makes integers of at most 16 bits, not {uniform(self.result).storage}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return quantised(np.asarray(args[0]), uniform(self.result))


class DCastOp(Op):
    """Dequantise: (q - zero point) * scale, the difference exact.

    ```mlir
    %q = "test.value"() : () -> tensor<2x3x!quant.uniform<u8<0:15>:f32:1, {0.1, 0.2:7, 0.3:15}>>
    %x = quant.dcast %q : tensor<2x3x!quant.uniform<u8<0:15>:f32:1, {0.1, 0.2:7, 0.3:15}>> to tensor<2x3xf32>
    ```
    """

    name = "quant.dcast"
    traits = frozenset({PURE})
    assembly = "$input attr-dict `:` type($input) `to` type($result)"
    input: Value = operand(QUANTISED_TENSOR)
    result: Value = result(FLOAT_TENSOR)

    def verify_op(self) -> None:
        _check_ends(self.result, self.input)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return dequantised(np.asarray(args[0]), uniform(self.input))


class SCastOp(Op):
    """The same bits as plain integers of the storage type, or as quantised numbers; computes nothing.

    ```mlir
    %x = "test.value"() : () -> tensor<4xi8>
    %q = quant.scast %x : tensor<4xi8> to tensor<4x!quant.uniform<u8:f32, 0.5:128>>
    ```
    """

    name = "quant.scast"
    traits = frozenset({PURE})
    assembly = "$input attr-dict `:` type($input) `to` type($result)"
    input: Value = operand(STORAGE_OR_QUANTISED)
    result: Value = result(STORAGE_OR_QUANTISED)

    def verify_op(self) -> None:
        a, b = self.input.type, self.result.type
        assert isinstance(a, TensorType)
        assert isinstance(b, TensorType)
        if isinstance(a.element, UniformType) == isinstance(b.element, UniformType):
            raise IRError("one side is of quantised numbers, the other of plain integers")
        plain, whole = (b, a) if isinstance(a.element, UniformType) else (a, b)
        assert isinstance(whole.element, UniformType)
        if plain.element is not whole.element.storage:
            raise IRError(f"{whole.element} is stored as {whole.element.storage}, not {plain.element}")
        if a.with_element(b.element) is not b:
            raise IRError(f"{a} and {b} differ in shape")

    def fold(self, constants: Sequence[Any]) -> Sequence[Any] | None:
        inner = self.input.defining_op
        return [inner.input] if isinstance(inner, SCastOp) and inner.input.type is self.result.type else None

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.asarray(args[0]).view(numpy_dtype(self.result.type))


def storage_of(type_: Type) -> Type:
    """A type with plain integers in the place of quantised numbers."""
    if isinstance(type_, TensorType):
        return type_.with_element(storage_of(type_.element))
    return type_.storage if isinstance(type_, UniformType) else type_


DIALECT = Dialect.of_module("quant", globals().values(), __doc__, landing="tensor")
