"""Fractions that floats stand for, found while the model runs: what `graph.resize` takes a scale for.

A float that is the nearest one to a fraction with a small denominator counts as that fraction, so that 10 times 0.7 is
7 and not just below. The fraction is the best one below a denominator, by the convergents of the continued fraction
(Hardy and Wright, "An Introduction to the Theory of Numbers", chapter X); its digits are found in integers."""

from __future__ import annotations

import attrs

from stepwell.dialects.graph.resize import SCALES, SMALL, bad_scale
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Value
from stepwell.ir.types import F32, F64, I64, TensorType
from stepwell.lowering.to_tensor.places import Places, moved

BITS = 40  # of the part behind the point: all that an f32 of at least 2^-17 has
STEPS = 20  # denominators grow at least like Fibonacci's numbers, of which the 19th is above SMALL


@attrs.frozen(eq=False)
class Nearest:
    """The fraction top / bottom of indices near a float, and whether the float is its nearest f32."""

    top: Value
    bottom: Value
    is_meant: Value


def fractions(c: Conversion, numbers: Value) -> Value:
    """A list of positive f32  ->  [length, 2] of i64, the numerators and denominators that they stand for"""
    type_ = tensor_type(numbers)
    if type_.element is not F32:
        raise NoMatch(f"scales of {type_.element} that depend on data; those of f32 are known as fractions")

    def body(p: Places, number: Value) -> Value:
        wide = p.narrowed(number, F64)
        low, high = (p.constant(edge, F64) for edge in SCALES)
        fits = p.both(p.compare("ge", wide, low), p.compare("lt", wide, high))
        p.require(fits, p.whole_of(wide), bad_scale())
        near = nearest(p, wide)
        top, bottom = _exact(p, wide)
        top, bottom = p.select(near.is_meant, near.top, top), p.select(near.is_meant, near.bottom, bottom)
        return p.integer_of(p.select(p.compare("eq", p.at(1), p.whole(0)), top, bottom), I64)

    return moved(c, TensorType((type_.shape[0], 2), I64), body, inputs=[numbers], maps=[[dim(0)]])


def quotients(c: Conversion, numbers: Value) -> Value:
    """A list of f32  ->  [length, 2] of f64, the numerators and denominators that they stand for; a number that stands
    for no small fraction over 1"""
    type_ = tensor_type(numbers)

    def body(p: Places, number: Value) -> Value:
        wide = p.narrowed(number, F64)
        near = nearest(p, wide)
        top = p.select(near.is_meant, p.float_of(near.top), wide)
        bottom = p.select(near.is_meant, p.float_of(near.bottom), p.constant(1.0, F64))
        return p.select(p.compare("eq", p.at(1), p.whole(0)), top, bottom)

    return moved(c, TensorType((type_.shape[0], 2), F64), body, inputs=[numbers], maps=[[dim(0)]])


def nearest(p: Places, number: Value) -> Nearest:
    """The fraction nearest to an f64 with a denominator of at most SMALL."""
    one, zero, limit, unit = p.whole(1), p.whole(0), p.whole(SMALL), p.whole(1 << BITS)
    whole, part = _parts(p, number)
    p0, q0, p1, q1, n, d = one, zero, zero, one, unit, part
    done = p.compare("eq", d, zero)
    for _ in range(STEPS):
        digit = p.floordiv(n, d)
        p2, q2, rest = p.add(p0, p.mul(digit, p1)), p.add(q0, p.mul(digit, q1)), p.sub(n, p.mul(digit, d))
        done = p.either(done, p.compare("gt", q2, limit))
        after = ((p0, p1), (q0, q1), (p1, p2), (q1, q2), (n, d), (d, rest))
        p0, q0, p1, q1, n, d = (p.select(done, old, new) for old, new in after)
        done = p.either(done, p.compare("eq", d, zero))
    more = p.floordiv(p.sub(limit, q0), q1)
    pb, qb = p.add(p0, p.mul(more, p1)), p.add(q0, p.mul(more, q1))
    takes = p.compare("le", p.mul(_off(p, p1, q1, part), qb), p.mul(_off(p, pb, qb, part), q1))
    top, bottom = p.select(takes, p1, pb), p.select(takes, q1, qb)
    top = p.add(top, p.mul(whole, bottom))
    value = p.divf(p.float_of(top), p.float_of(bottom))
    return Nearest(top, bottom, p.compare("eq", p.narrowed(value, F32), p.narrowed(number, F32)))


def _parts(p: Places, number: Value) -> tuple[Value, Value]:
    """The largest whole number not above, and what is left in units of 2^-BITS."""
    floor = p.floor(number)
    part = p.mul(p.sub(number, floor), p.constant(float(1 << BITS), F64))
    return p.whole_of(floor), p.whole_of(part)


def _off(p: Places, top: Value, bottom: Value, part: Value) -> Value:
    """|top / bottom - part|, times bottom and 2^BITS."""
    difference = p.sub(p.mul(top, p.whole(1 << BITS)), p.mul(part, bottom))
    return p.maximum(difference, p.sub(p.whole(0), difference))


def _exact(p: Places, number: Value) -> tuple[Value, Value]:
    """The fraction that a float is, its denominator a power of two."""
    whole, part = _parts(p, number)
    top, bottom = p.add(p.mul(whole, p.whole(1 << BITS)), part), p.whole(1 << BITS)
    for bits in (32, 16, 8, 4, 2, 1):
        power = p.whole(1 << bits)
        even = p.both(p.compare("eq", p.mod(top, power), p.whole(0)), p.compare("ge", bottom, power))
        top, bottom = (p.select(even, p.floordiv(x, power), x) for x in (top, bottom))
    return top, bottom
