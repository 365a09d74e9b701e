"""Quantisation -> `quant.qcast` and `quant.dcast` where scales are known; else `tensor.generic` with a scalar body:
true division, half to even, saturation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects import arith, math
from stepwell.dialects.graph.base import constant_array
from stepwell.dialects.graph.quantization import (
    DequantizeOp,
    DynamicQuantizeOp,
    QuantizeOp,
    ScaledOp,
    integer_range,
)
from stepwell.dialects.quant import MAX_STORAGE_BITS, DCastOp, QCastOp, SCastOp, UniformType
from stepwell.dialects.tensor import tensor_type
from stepwell.errors import IRError
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.types import (
    F32,
    F64,
    I32,
    I64,
    UI8,
    FloatType,
    IntegerType,
    TensorType,
    Type,
    bit_width,
    is_unsigned,
)
from stepwell.lowering.to_tensor.conversion import integer_to_float
from stepwell.lowering.to_tensor.reductions import ReducedAxes, identity_of
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic, signless
from stepwell.lowering.to_tensor.scalars import Scalars, largest_finite


def _scale_map(op: ScaledOp) -> AffineMap:
    """Where a map over x reads the scale: at nothing, along the axis, or at the block along the axis."""
    rank = tensor_type(op.x).rank
    if op.axis is None:
        return AffineMap(rank, 0, [])
    if op.block_size is None:
        return AffineMap(rank, 0, [dim(op.axis)])
    places = [dim(n) // op.block_size if n == op.axis else dim(n) for n in range(rank)]
    return AffineMap(rank, 0, places)


def _operands(op: ScaledOp, c: Conversion) -> tuple[list[Value], list[AffineMap | None]]:
    values = [c.new(value) for value in (op.x, op.scale, op.zero) if value is not None]
    return values, [None, *[_scale_map(op)] * (len(values) - 1)]


def _as_float(s: Scalars, x: Value, source: Type, type_: Type) -> Value:
    """A scalar of graph type `source` as a float."""
    if isinstance(x.type, FloatType):
        return s.narrowed(x, type_)
    return integer_to_float(s, x, source, type_)


SCALES_LIMIT = 4096  # more of them are read as data, not written into types


def uniform_type(op: ScaledOp, integer: Type, expressed: Type) -> UniformType | None:
    """The quantised type that an op's constant scale and zero point make; None where they are not known, of blocks, of
    another float type than the numbers, too many, or no scales."""
    if not isinstance(integer, IntegerType) or not 2 <= integer.width <= MAX_STORAGE_BITS:
        return None
    if op.block_size is not None or tensor_type(op.scale).element is not expressed:
        return None
    if op.zero is not None and tensor_type(op.zero).element is not integer:
        return None
    try:
        scale, zero = constant_array(op.scale), constant_array(op.zero)
    except IRError:  # a resource whose contents are not at hand
        return None
    if scale is None or (op.zero is not None and zero is None) or scale.size > SCALES_LIMIT:
        return None
    if not isinstance(expressed, FloatType) or expressed.width < 16 or not np.all(np.isfinite(scale) & (scale > 0)):
        return None
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    scales = tuple(float(item) for item in scale.reshape(-1))
    return UniformType(integer, expressed, scales, tuple(int(item) for item in zeros.reshape(-1)), op.axis)


@lowers(QuantizeOp)
def quantize_known(op: QuantizeOp, c: Conversion) -> Value:
    """graph.quantize %x, %s, %z  ->  quant.scast(quant.qcast %x : f32 to !quant.uniform<i8:f32, s:z>) to i8, where
    scale and zero point are constants"""
    x = c.new(op.x)
    type_ = uniform_type(op, op.element, tensor_type(x).element)
    if type_ is None or op.division_type is not type_.expressed:
        raise NoMatch("")
    number = c.insert(QCastOp(x, result_types=[tensor_type(x).with_element(type_)])).result
    return c.insert(SCastOp(number, result_types=[signless(op.result.type)])).result


@lowers(DequantizeOp)
def dequantize_known(op: DequantizeOp, c: Conversion) -> Value:
    """graph.dequantize %x, %s, %z  ->  quant.dcast(quant.scast %x : i8 to !quant.uniform<i8:f32, s:z>) to f32, where
    scale and zero point are constants"""
    type_ = uniform_type(op, tensor_type(op.x).element, op.element)
    if type_ is None:
        raise NoMatch("")
    x = c.new(op.x)
    number = c.insert(SCastOp(x, result_types=[tensor_type(x).with_element(type_)])).result
    return c.insert(DCastOp(number, result_types=[op.result.type])).result


@lowers(QuantizeOp)
def quantize(op: QuantizeOp, c: Conversion) -> Value:
    """graph.quantize %x, %s, %z  ->  saturate(round(x / s) + z)

    Sums in f32 are exact as far as they do not saturate: storage types have 16 bits at most."""
    result = signless(op.result.type)
    assert isinstance(result, TensorType)
    operands, maps = _operands(op, c)
    source = tensor_type(op.x).element
    working = op.division_type
    element = op.element

    def body(s: Scalars, x: Value, scale: Value, *zero: Value) -> Value:
        made = divided(s, _as_float(s, x, source, accumulator_type(working)), scale, working)
        if isinstance(element, IntegerType):
            made = s.unary(math.RoundEvenOp, made)
        if zero:
            made = s.add(made, _as_float(s, zero[0], element, made.type))
        if isinstance(element, IntegerType):
            return saturated(s, made, element)
        made = s.narrowed(made, F32)
        return s.bounded(made, largest_finite(element)) if op.saturate and isinstance(element, FloatType) else made

    return map_generic(c, operands, result, body, maps=maps)


def divided(s: Scalars, x: Value, scale: Value, working: Type) -> Value:
    """A quotient of floats, rounded to the working type."""
    a, b = (s.widened(s.narrowed(v, working)) for v in (x, scale))
    return s.widened(s.narrowed(s.divf(a, b), working))


def saturated(s: Scalars, x: Value, element: IntegerType, bounds: tuple[int, int] | None = None) -> Value:
    """A whole float clamped to the range (or to bounds within it) of an integer type of at most 16 bits; NaN gives the
    least."""
    low, high = (s.constant(float(bound), x.type) for bound in bounds or integer_range(element))
    clamped = s.minimum(s.maximum(x, low), high)
    number = s.select(s.is_nan(x), low, clamped)
    wanted = signless(element)
    assert isinstance(wanted, IntegerType)
    return s.resized(s.emit(arith.FPToSIOp(number, result_types=[I32])), wanted, is_unsigned(element))


@lowers(DequantizeOp)
def dequantize(op: DequantizeOp, c: Conversion) -> Value:
    """graph.dequantize %x, %s, %z  ->  float(x - z) * s, the difference exact; (float(x) - z) * s of a float z"""
    operands, maps = _operands(op, c)
    source = tensor_type(op.x).element
    wide = F64 if op.element is F64 else F32

    def body(s: Scalars, x: Value, scale: Value, *zero: Value) -> Value:
        if isinstance(source, FloatType):
            difference = s.sub(x, zero[0]) if zero else x
            return s.mul(s.narrowed(difference, wide), s.narrowed(scale, wide))
        if op.has_float_zero:
            difference = s.sub(_as_float(s, x, source, wide), s.narrowed(zero[0], wide))
            return s.mul(difference, s.narrowed(scale, wide))
        return multiplied(s, x, scale, zero, source, wide)

    return map_generic(c, operands, tensor_type(op.result), body, maps=maps)


def multiplied(s: Scalars, x: Value, scale: Value, zero: Sequence[Value], source: Type, wide: Type) -> Value:
    """float(x - z) * s of an integer of graph type `source`, the difference exact."""
    exact = I32 if bit_width(source) <= 16 else I64
    whole = [s.resized(v, exact, is_unsigned(source)) for v in (x, *zero)]
    difference = s.sub(*whole) if zero else whole[0]
    return s.mul(s.emit(arith.SIToFPOp(difference, result_types=[wide])), s.narrowed(scale, wide))


@lowers(DynamicQuantizeOp)
def dynamic_quantize(op: DynamicQuantizeOp, c: Conversion) -> Sequence[Value]:
    """graph.dynamic_quantize %x  ->  lo, hi = min, max of x and 0; s = (hi - lo) / 255; z = saturate(-lo / s);
    saturate(round(x / s) + z)"""
    x = c.new(op.x)
    type_ = tensor_type(x)
    space = ReducedAxes(type_.shape, tuple(range(type_.rank)))

    def both(s: Scalars, low: Value, high: Value, other: Value, another: Value) -> list[Value]:
        return [s.minimum(low, other), s.maximum(high, another)]

    bounds = [x, x]
    if space.axes:
        identities = [identity_of("min", F32), identity_of("max", F32)]
        bounds = space.reduce(c, [x], [], [F32, F32], lambda s, v: [v, v], both, identities)
    scalar = TensorType((), F32)

    def step(s: Scalars, low: Value, high: Value) -> Value:
        zero = s.constant(0.0, F32)
        low, high = s.minimum(low, zero), s.maximum(high, zero)
        span = s.select(s.compare("eq", low, high), s.constant(1.0, F32), s.sub(high, low))
        return s.divf(span, s.constant(255.0, F32))

    def origin(s: Scalars, low: Value, scale: Value) -> Value:
        quotient = s.divf(s.negate(s.minimum(low, s.constant(0.0, F32))), scale)
        return saturated(s, s.unary(math.RoundEvenOp, quotient), UI8)

    def body(s: Scalars, v: Value, scale: Value, zero: Value) -> Value:
        whole = s.unary(math.RoundEvenOp, s.divf(v, scale))
        return saturated(s, s.add(whole, integer_to_float(s, zero, UI8, F32)), UI8)

    byte = signless(UI8)
    scale = map_generic(c, bounds, scalar, step)
    zero = map_generic(c, [bounds[0], scale], scalar.with_element(byte), origin)
    return map_generic(c, [x, scale, zero], type_.with_element(byte), body), scale, zero
