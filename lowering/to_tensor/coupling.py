"""Pairwise coupling -> a loop over rounds; within a round the classes take turns, each in maps over the rows.

A row whose error is small enough keeps its probabilities from then on."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects.arith import attribute_of
from stepwell.dialects.graph.coupling import ROUNDS, TOLERANCE, PairwiseCouplingOp
from stepwell.dialects.tensor import DimsAttr, ForOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.types import F64, INDEX, TensorType
from stepwell.lowering.to_tensor.places import Places, dims, moved, reduced, result_type
from stepwell.lowering.to_tensor.rules import lowers


@lowers(PairwiseCouplingOp)
def pairwise_coupling(op: PairwiseCouplingOp, c: Conversion) -> Value:
    """graph.pairwise_coupling %r  ->  q[i, j] = -r[j, i] r[i, j]; for { Qp, pQp; for t { p += step e_t, scaled } }"""
    result = result_type(op)
    q = _weights(op, c)
    rows = TensorType(result.shape, F64)
    start = moved(c, rows, lambda p: p.constant(1 / op.classes, F64))
    marks = moved(c, TensorType((result.shape[0],), F64), lambda p: p.constant(1.0, F64))
    block = Block([INDEX, rows, marks.type])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    c.insert(YieldOp(_round(op, c, q, *block.arguments[1:])))
    c.builder = outside
    made = c.insert(ForOp([start, marks], steps=DimsAttr((ROUNDS,)), regions=[Region([block])])).finals[0]
    return moved(c, result, lambda p, x: p.narrowed(x, result.element), inputs=[made], maps=[dims(2)])


def _weights(op: PairwiseCouplingOp, c: Conversion) -> Value:
    """q [n, classes, classes]: the sums of squares of the columns of r on the diagonal, -r[j, i] r[i, j] elsewhere."""
    count, given = op.classes, c.new(op.pairs)
    shape = TensorType((tensor_type(given).shape[0], count, count), F64)

    def chance(p: Places, pairs: Value, i: Value, j: Value) -> Value:
        """r[i, j]; 0 on the diagonal"""
        turned = p.compare("gt", i, j)
        low, high = p.select(turned, j, i), p.select(turned, i, j)
        # Before the pairs of `low` stand those of the classes below it.
        before = p.floordiv(p.mul(low, p.sub(p.whole(2 * count - 1), low)), p.whole(2))
        place = p.add(before, p.sub(p.sub(high, low), p.whole(1)))
        value = p.narrowed(p.read(pairs, [p.at(0), place]), F64)
        value = p.select(turned, p.sub(p.constant(1.0, F64), value), value)
        return p.select(p.compare("eq", i, j), p.constant(0.0, F64), value)

    def term(p: Places, pairs: Value) -> Value:
        """Of the diagonal, the square of r[d3, i]; elsewhere the product, once."""
        i, j, k = p.at(1), p.at(2), p.at(3)
        side = chance(p, pairs, k, i)
        product = p.negate(p.mul(chance(p, pairs, j, i), chance(p, pairs, i, j)))
        first = p.compare("eq", k, p.whole(0))
        zero = p.constant(0.0, F64)
        return p.select(p.compare("eq", i, j), p.mul(side, side), p.select(first, product, zero))

    return reduced(c, shape, [count], term, lambda p, a, b: p.add(a, b), attribute_of(0.0, F64), sources=[given])


def _total(c: Conversion, result: TensorType, over: int, body: Callable[..., Value], *sources: Value) -> Value:
    return reduced(c, result, [over], body, lambda p, a, b: p.add(a, b), attribute_of(0.0, F64), sources=list(sources))


def _round(op: PairwiseCouplingOp, c: Conversion, q: Value, p0: Value, going: Value) -> list[Value]:
    """The probabilities and the marks of the rows that go on, behind a round."""
    count, rows = op.classes, tensor_type(p0)
    lone = TensorType(rows.shape[:1], F64)

    def product(p: Places, weights: Value, x: Value) -> Value:
        return p.mul(p.read(weights, [p.at(0), p.at(1), p.at(2)]), p.read(x, [p.at(0), p.at(2)]))

    qp = _total(c, rows, count, product, q, p0)

    def share(p: Places, x: Value, y: Value) -> Value:
        return p.mul(p.read(x, [p.at(0), p.at(1)]), p.read(y, [p.at(0), p.at(1)]))

    total = _total(c, lone, count, share, p0, qp)
    error = reduced(
        c, lone, [count],
        lambda p, a, b: p.magnitude(p.sub(p.read(a, [p.at(0), p.at(1)]), p.read(b, [p.at(0)]))),
        lambda p, a, b: p.maximum(a, b), attribute_of(0.0, F64), sources=[qp, total],
    )  # fmt: skip

    def still(p: Places, mark: Value, off: Value) -> Value:
        far = p.compare("ge", off, p.constant(TOLERANCE / count, F64))
        return p.select(far, mark, p.constant(0.0, F64))

    marks = moved(c, lone, still, inputs=[going, error], maps=[dims(1), dims(1)])
    state = p0
    for t in range(count):
        step = moved(c, lone, _step(t), inputs=[total], maps=[dims(1)], sources=[q, qp])
        total = moved(c, lone, _following(t), inputs=[total, step], maps=[dims(1), dims(1)], sources=[q, qp])
        state = moved(c, rows, _moved_on(t), inputs=[state, step], maps=[dims(2), [dim(0)]])
        qp = moved(c, rows, _turned(t), inputs=[qp, step], maps=[dims(2), [dim(0)]], sources=[q])

    def chosen(p: Places, new: Value, old: Value, mark: Value) -> Value:
        return p.select(p.compare("ne", mark, p.constant(0.0, F64)), new, old)

    return [moved(c, rows, chosen, inputs=[state, p0, marks], maps=[dims(2), dims(2), [dim(0)]]), marks]


def _own(p: Places, t: int, q: Value, qp: Value) -> tuple[Value, Value]:
    return p.read(q, [p.at(0), p.whole(t), p.whole(t)]), p.read(qp, [p.at(0), p.whole(t)])


def _step(t: int) -> Callable[..., Value]:
    def body(p: Places, total: Value, q: Value, qp: Value) -> Value:
        own, at = _own(p, t, q, qp)
        return p.divf(p.sub(total, at), own)

    return body


def _following(t: int) -> Callable[..., Value]:
    def body(p: Places, total: Value, step: Value, q: Value, qp: Value) -> Value:
        own, at = _own(p, t, q, qp)
        grown = p.add(total, p.mul(step, p.add(p.mul(step, own), p.mul(p.constant(2.0, F64), at))))
        scale = p.add(p.constant(1.0, F64), step)
        return p.divf(grown, p.mul(scale, scale))

    return body


def _moved_on(t: int) -> Callable[..., Value]:
    def body(p: Places, state: Value, step: Value) -> Value:
        here = p.compare("eq", p.at(1), p.whole(t))
        grown = p.select(here, p.add(state, step), state)
        return p.divf(grown, p.add(p.constant(1.0, F64), step))

    return body


def _turned(t: int) -> Callable[..., Value]:
    def body(p: Places, value: Value, step: Value, q: Value) -> Value:
        grown = p.add(value, p.mul(step, p.read(q, [p.at(0), p.whole(t), p.at(1)])))
        return p.divf(grown, p.add(p.constant(1.0, F64), step))

    return body
