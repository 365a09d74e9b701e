"""Conversion between element types: by value (`cast`) and by bit pattern (`bitcast`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, Content, GraphOp, content, tensor_type
from stepwell.dialects.graph.ratios import is_ratio_type, ratios
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, TYPE, enum
from stepwell.ir.constraints import TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import (
    BF16,
    F16,
    F32,
    I1,
    ComplexType,
    FloatType,
    IndexType,
    IntegerType,
    Signedness,
    StringType,
    Type,
    bit_width,
    numpy_dtype,
)


class CastOp(GraphOp):
    """Each element converted to the type `to`.

    * To floats: round to nearest even. What is out of range becomes an infinity, in formats without one NaN, in those
      without either the largest finite number. With `saturate` the 8-bit formats take their largest finite number
      instead, of infinities too.
    * To f8E8M0FNU, the powers of two from 2^-127 to 2^127: `round_mode` rounds up, down or to the nearest with ties up.
      What is out of range, 0 and infinities too, saturates, or becomes NaN without `saturate`. Negative numbers give
      NaN.
    * Floats to integers: towards zero and saturating at si32 (si64 for ui32, si64 and ui64; ui64's own maximum), NaN
      is 0; then the low bits are kept.
    * Integers to integers: the low bits are kept. To i1: whether the element is not zero.
    * To strings: the shortest decimal text that reads back as the same number; NaN, INF, -INF. From strings: decimal
      numbers and, in any case, nan, inf, +inf, -inf; integers from text with a fraction drop it.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.cast %x {to = si32} : (tensor<2x3xf32>) -> tensor<2x3xsi32>
    %q = graph.cast %x {to = f8E8M0FNU, round_mode = "down"} : (tensor<2x3xf32>) -> tensor<2x3x!tensor.f8E8M0FNU>
    ```
    """

    name = "graph.cast"
    x: Value = operand(TENSOR)
    to: Type = attr(TYPE)
    saturate: bool = attr(BOOL, default=True)
    round_mode: str = attr(enum("up", "down", "nearest"), default="up")
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        source = tensor_type(self.x)
        for element in (source.element, self.to):
            if not isinstance(element, (FloatType, IntegerType, IndexType, StringType)):
                raise IRError(f"cannot cast from {source.element} to {self.to}: {element} is no number and no string")
        return [source.with_element(self.to)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return convert(np.asarray(args[0]), self.to, self.saturate, self.round_mode)

    def infer_content(self) -> Content | None:
        if is_ratio_type(self.x.type):
            return self._cut_ratios()
        found = content(self.x)
        if found is None or isinstance(self.to, IndexType) or (bit_width(self.to) >= 32 and _is_integer(self.to)):
            return found  # sizes are below 2^31 wherever a model keeps them in 32 bits
        return found if all(isinstance(dim, int) and dim in (0, 1) for dim in found) else None

    def fold(self, constants: Sequence[Any]) -> Any:
        if tensor_type(self.x).element is self.to:
            return [self.x]
        return super().fold(constants)

    def _cut_ratios(self) -> Content | None:
        """Sizes that were computed in floats, cut to whole numbers."""
        found = ratios(self.x) if _is_integer(self.to) and bit_width(self.to) >= 32 else None
        dims = None if found is None else [ratio.whole() for ratio in found.flat]
        return None if dims is None or any(dim is None for dim in dims) else tuple(dims)


def _is_integer(type_: Type) -> bool:
    return isinstance(type_, IntegerType)


def convert(x: Array, to: Type, saturate: bool = True, round_mode: str = "up") -> Array:
    """The elements converted to an element type, as `CastOp` says. Raises IRError for a string that is no number."""
    dtype = numpy_dtype(to)
    if isinstance(to, StringType):
        return _to_strings(x)
    if x.dtype == object:
        return _from_strings(x, to, saturate, round_mode)
    if to is I1:
        return np.asarray(np.not_equal(_readable(x), 0))
    if isinstance(to, FloatType):
        return _to_float(_readable(x), to, saturate, round_mode)
    source = _readable(x)
    return _low_bits(source if source.dtype.kind in "iub" else _to_wide_integer(source, to), dtype)


def _readable(x: Array) -> Array:
    """The same values in a type that NumPy has itself."""
    if x.dtype.kind != "V":
        return x
    if "int" in x.dtype.name:
        return x.astype(np.uint8 if x.dtype.name.startswith("u") else np.int8)
    return x.astype(np.float32)


def _to_float(x: Array, to: FloatType, saturate: bool, round_mode: str) -> Array:
    dtype = numpy_dtype(to)
    if to in (F16, F32) or to.width == 64:
        return x.astype(dtype)
    if to.format == "f8E8M0FNU":
        return _to_power_of_two(x, saturate, round_mode).view(dtype)
    wide = x if x.dtype == np.float64 else x.astype(np.float32)
    if to.width == 8 and saturate:
        import ml_dtypes

        largest = float(ml_dtypes.finfo(dtype).max)
        wide = np.clip(wide, -largest, largest)
    return wide.astype(dtype)


def _to_power_of_two(x: Array, saturate: bool, round_mode: str) -> Array:
    """The biased exponents of f8E8M0FNU (OCP Microscaling Formats v1.0, section 5.4.1)."""
    wide = x.astype(np.float64)
    mantissa, exponent = np.frexp(wide)  # wide = mantissa * 2^exponent, 1/2 <= mantissa < 1
    rounds_up = {"up": mantissa > 0.5, "down": np.zeros(x.shape, np.bool_), "nearest": mantissa >= 0.75}[round_mode]
    biased = exponent.astype(np.int64) - 1 + rounds_up + 127
    biased = np.where(wide == 0, -1, np.where(np.isinf(wide), 255, biased))
    outside = (biased < 0) | (biased > 254)
    invalid = np.isnan(wide) | (wide < 0) | (outside & (not saturate))
    return np.where(invalid, 255, np.clip(biased, 0, 254)).astype(np.uint8)


def _to_wide_integer(x: Array, to: Type) -> Array:
    """Floats cut to integers of 64 bits that saturate where the target says."""
    wide = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0, posinf=np.inf, neginf=-np.inf)
    bits = bit_width(to)
    unsigned = isinstance(to, IntegerType) and to.signedness is Signedness.UNSIGNED
    if bits < 32 or (bits == 32 and not unsigned):
        return np.asarray(np.clip(wide, -(2.0**31), 2.0**31 - 1).astype(np.int64))
    high = wide >= 2.0**63
    cut = np.where(high, 0, np.maximum(wide, -(2.0**63))).astype(np.int64)
    if bits < 64 or not unsigned:
        return np.where(high, np.int64(2**63 - 1), cut)
    above = np.where(high & (wide < 2.0**64), wide, 2.0**63).astype(np.uint64)
    return np.where(wide >= 2.0**64, np.uint64(2**64 - 1), np.where(high, above, cut.astype(np.uint64)))


def _low_bits(x: Array, dtype: np.dtype[Any]) -> Array:
    """Integers cut to the low bits of a type, read with its sign."""
    if dtype.kind != "V":
        return x.astype(dtype)
    bits = 2 if dtype.name.endswith("2") else 4
    low = x.astype(np.int64) & ((1 << bits) - 1)
    if not dtype.name.startswith("u"):
        low = low - ((low >> (bits - 1)) << bits)
    return low.astype(dtype)


_SPECIAL = {"nan": "NaN", "inf": "INF", "-inf": "-INF"}


def _to_strings(x: Array) -> Array:
    texts = [str(item) for item in _readable(x).reshape(-1)]
    return np.array([_SPECIAL.get(text, text) for text in texts], dtype=object).reshape(x.shape)


def _from_strings(x: Array, to: Type, saturate: bool, round_mode: str) -> Array:
    whole = isinstance(to, (IntegerType, IndexType)) and to is not I1
    numbers = [_number(text, whole) for text in x.reshape(-1)]
    if whole and all(isinstance(number, int) for number in numbers):
        wrapped = [(number + 2**63) % 2**64 - 2**63 for number in numbers]
        return _low_bits(np.array(wrapped, dtype=np.int64).reshape(x.shape), numpy_dtype(to))
    return convert(np.array(numbers, dtype=np.float64).reshape(x.shape), to, saturate, round_mode)


_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity|nan)", re.I | re.A)
_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}", re.A)


def _number(text: Any, whole: bool) -> Any:
    """A decimal number, or INF or NaN: Python reads more than that as one."""
    plain = (text.decode() if isinstance(text, bytes) else str(text)).strip(" \t\n\r")
    if whole and _WHOLE.fullmatch(plain):
        return int(plain)
    if _NUMBER.fullmatch(plain) is None:
        raise IRError(f"the string {plain[:40]!r} is no number")
    return float(plain)


class BitcastOp(GraphOp):
    """The bits of each element read as another type of the same width. Types narrower than a byte keep their low bits.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = graph.bitcast %x {to = si32} : (tensor<2x3xf32>) -> tensor<2x3xsi32>
    ```
    """

    name = "graph.bitcast"
    x: Value = operand(TENSOR)
    to: Type = attr(TYPE)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        source = tensor_type(self.x)
        for element in (source.element, self.to):
            if not isinstance(element, (FloatType, IntegerType, IndexType, ComplexType)):
                raise IRError(f"{element} has no bits to read as another type")
        if _stored_bits(source.element) != _stored_bits(self.to):
            raise IRError(
                f"{source.element} of {_stored_bits(source.element)} bits cannot be read as {self.to} of "
                f"{_stored_bits(self.to)} bits"
            )
        return [source.with_element(self.to)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x = np.ascontiguousarray(args[0]).reshape(np.shape(args[0]))
        return x.view(numpy_dtype(self.to))


def _stored_bits(type_: Type) -> int:
    """Bits of an element, a bool counted as the byte in which it is kept."""
    return 8 if type_ is I1 else bit_width(type_)


def is_narrow_float(type_: Type) -> bool:
    """Whether sums of this element type are to be kept in f32: f16, bf16 and the 8-bit formats."""
    return type_ in (F16, BF16) or (isinstance(type_, FloatType) and type_.width <= 8)
