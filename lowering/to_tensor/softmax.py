"""Softmax and its relatives -> reductions and maps over one set of axes."""

from __future__ import annotations

from stepwell.dialects import math
from stepwell.dialects.graph.softmax import HardmaxOp, LogSoftmaxOp, SoftmaxOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Value
from stepwell.lowering.precision import is_strict
from stepwell.lowering.to_tensor.reduction import extreme_places, row_major_place
from stepwell.lowering.to_tensor.reductions import ReducedAxes
from stepwell.lowering.to_tensor.rules import accumulator_type, lowers, map_generic
from stepwell.lowering.to_tensor.scalars import Scalars

# Of the elements that are numbers: the power of a NaN makes a NaN of the sum, and so of the whole set.
PEAK = "largest number"


def _shifted_power(s: Scalars, x: Value, peak: Value) -> Value:
    return s.share(s.sub(x, peak))


@lowers(SoftmaxOp)
def softmax(op: SoftmaxOp, c: Conversion) -> Value:
    """graph.softmax %x  ->  p = max(x); e = exp(x - p); e * (1 / sum(e))

    A set that is all -inf has p = -inf and x - p = NaN, which is the op's meaning. In strict arithmetic e / sum(e)."""
    x, result = c.new(op.x), tensor_type(op.result)
    space = ReducedAxes(result.shape, tuple(op.axes))
    wide = accumulator_type(result.element)
    peak = space.merge(c, PEAK, x)
    powers = map_generic(c, [x, peak], result.with_element(wide), _shifted_power, maps=[None, space.spread_map])
    total = space.merge(c, "sum", powers)
    if is_strict(op):
        return map_generic(c, [powers, total], result, lambda s, e, t: s.divf(e, t), maps=[None, space.spread_map])
    inverse = space.on_kept(c, [total], wide, inverted)
    return map_generic(c, [powers, inverse], result, lambda s, e, r: s.mul(e, r), maps=[None, space.spread_map])


def inverted(s: Scalars, total: Value) -> Value:
    """1 / total of numbers of which the largest is 1: neither does it overflow nor is it denormal."""
    return s.divf(s.constant(1.0, total.type), total)


@lowers(LogSoftmaxOp)
def log_softmax(op: LogSoftmaxOp, c: Conversion) -> Value:
    """graph.log_softmax %x  ->  p = max(x); l = ln(sum(exp(x - p))); (x - p) - l"""
    x, result = c.new(op.x), tensor_type(op.result)
    space = ReducedAxes(result.shape, tuple(op.axes))
    peak = space.merge(c, PEAK, x)
    total = space.merge(c, "sum", x, _shifted_power, [peak])
    log = space.on_kept(c, [total], tensor_type(total).element, lambda s, t: s.unary(math.LogOp, t))
    spread = space.spread_map
    return map_generic(c, [x, peak, log], result, lambda s, v, p, t: s.sub(s.sub(v, p), t), maps=[None, spread, spread])


@lowers(HardmaxOp)
def hardmax(op: HardmaxOp, c: Conversion) -> Value:
    """graph.hardmax %x  ->  w = place of the first largest element; 1 where w is one's own place, else 0"""
    x, result = c.new(op.x), tensor_type(op.result)
    space = ReducedAxes(result.shape, tuple(op.axes))

    def body(s: Scalars, winner: Value) -> Value:
        here = row_major_place(s, space, list(space.axes))
        one, zero = (s.constant(value, accumulator_type(result.element)) for value in (1.0, 0.0))
        return s.select(s.compare("eq", here, winner), one, zero)

    return map_generic(c, [extreme_places(c, space, x, "max")], result, body, maps=[space.spread_map])
