"""Attention written out as two matrix products around a softmax.

What the op must keep of the decomposed form: where the scale is applied does not matter; what a mask does to a score,
and what becomes of a query whose softmax is not defined, does."""

from __future__ import annotations

import math

import attrs

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.attention import AttentionOp
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.logic import IsNanOp, NotOp, WhereOp
from stepwell.dialects.graph.movement import TransposeOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp
from stepwell.dialects.graph.softmax import SoftmaxOp
from stepwell.ir.core import Operation, OpT, Value
from stepwell.ir.dims import Dim, proven_equal
from stepwell.ir.rewrite import Rewriter
from stepwell.ir.types import BF16, F16, F32
from stepwell.lowering.graph.idioms import recognises
from stepwell.lowering.graph.matching import either_order, fits, made_by, number, scaled, swapped

NO_FILL = float("-inf")


@recognises(MatmulOp)
def attention(op: MatmulOp, rewriter: Rewriter) -> bool:
    """softmax(q * s x transpose(k) + mask) x v -> attention(q, k, v, mask) {scale = s}

    The scale may stand at q, at k, at both and at their product; where(is_nan(p), 0, p) may stand behind the softmax;
    heads of k and v that were repeated by expand become groups."""
    rank = tensor_type(op.result).rank
    found = _Walk().scores_of(op.lhs) if 2 <= rank <= 4 else None
    if found is None:
        return False
    query, by_query = _unscaled_operand(found.product.lhs, rewriter)
    turned, by_key = _unscaled_operand(found.product.rhs, rewriter)
    value = op.rhs
    scale = found.factor * by_query * by_key
    if not math.isfinite(scale):
        return False
    if not rank == tensor_type(query).rank == tensor_type(turned).rank == tensor_type(value).rank:
        return False
    if not _same(shape_of(query)[:-2], shape_of(turned)[:-2]) or not _same(shape_of(query)[:-2], shape_of(value)[:-2]):
        return False
    by_heads = _without_repeats(turned, value)
    if by_heads is None:
        turned, value = (_with_rank_4(x, rewriter) for x in (turned, value))
    else:
        turned, value = (_reshaped(x, shape, rewriter) for x, shape in by_heads)
    made = rewriter.insert(AttentionOp(
        _with_rank_4(query, rewriter), rewriter.insert(TransposeOp(turned, permutation=swapped(4, 2, 3))).result, value,
        _mask(found, rewriter), None, None, scale=scale, softcap=found.softcap,
        fill=found.fill, undefined=found.undefined, narrow=(by_query == by_key != 1.0 and found.narrow) or None,
    ))  # fmt: skip
    rewriter.replace(op, _reshaped(made.output, shape_of(op.result), rewriter))
    rewriter.remark(made, f"recognised as {made.op_name}")
    return True


@attrs.frozen(eq=False)
class Scores:
    """What is known of softmax(mask(c * tanh(factor * product / c))), or of the same without a softcap c."""

    product: MatmulOp
    factor: float
    softcap: float
    mask: Value | None  # floats to add, or the truths of the keys that count
    inverted: bool  # the mask's truths are those of the keys that do not count
    fill: float  # the score of a key that does not count
    undefined: str  # what becomes of the weights of an undefined softmax
    narrow: bool  # whether every step was rounded to f16, as the standard's definition of Attention does


class _Walk:
    """From the weights back to the product of queries and keys, through ops that nobody else reads."""

    def __init__(self) -> None:
        self.inside: list[Operation] = []

    def scores_of(self, weights: Value) -> Scores | None:
        """The scores of which softmax gives some weights; None for any other value."""
        weights, undefined = self._without_nan_guard(weights)
        softmax = self._through(self._uncast(weights), SoftmaxOp)
        if softmax is None or tuple(softmax.axes) != (tensor_type(softmax.x).rank - 1,):
            return None
        value, mask, inverted, fill = self._unmasked(self._uncast(softmax.x))
        value, outer = self._unscaled(value)
        cap = self._through(value, graph.TanhOp) if outer > 0 else None
        value, inner = (value, 1.0) if cap is None else self._unscaled(cap.operands[0])
        product = self._through(self._uncast(value), MatmulOp)
        if product is None or not self._is_closed():
            return None
        softcap = 0.0 if cap is None else outer
        steps = (product.result, softmax.result)
        narrow = all(tensor_type(x).element is F16 for x in steps) and outer * inner == 1
        return Scores(product, outer * inner, softcap, mask, inverted, fill, undefined, narrow)

    def _through(self, value: Value, cls: type[OpT]) -> OpT | None:
        op = made_by(value, cls)
        if op is not None:
            self.inside.append(op)
        return op

    def _is_closed(self) -> bool:
        """Whether only ops of the walk read what it came by; the first op on it makes the weights."""
        inside = set(self.inside)
        results = [result for op in self.inside[1:] for result in op.results]
        return len(self.inside[0].results[0].users) == 1 and all(set(r.users) <= inside for r in results)

    def _without_nan_guard(self, value: Value) -> tuple[Value, str]:
        """where(is_nan(p), 0, p) -> p"""
        guard = made_by(value, WhereOp)
        test = made_by(guard.condition, IsNanOp) if guard is not None else None
        if guard is None or test is None or test.x is not guard.y or number(guard.x) != 0:
            return value, "nan"
        if guard.y.type is not value.type:
            return value, "nan"
        self.inside += [guard, test]
        return guard.y, "zero"

    def _uncast(self, value: Value) -> Value:
        """A value without its cast from a narrow float to f32 or back: scores are kept in f32 anyway."""
        op = made_by(value, CastOp)
        if op is None or {tensor_type(op.x).element, op.to} not in ({F16, F32}, {BF16, F32}):
            return value
        self.inside.append(op)
        return op.x

    def _unmasked(self, value: Value) -> tuple[Value, Value | None, bool, float]:
        """(x, mask, inverted, fill) of x + mask or of where(mask, x, fill)"""
        op = value.defining_op
        if isinstance(op, graph.AddOp):
            for x, mask in either_order(op):
                if x.type is value.type and _leads_to_product(x) and self._fits_keys(mask, value):
                    self.inside.append(op)
                    return x, mask, False, NO_FILL
        if isinstance(op, WhereOp):
            for x, other, inverted in ((op.x, op.y, False), (op.y, op.x, True)):
                fill = number(other)
                if fill is not None and x.type is value.type and self._fits_keys(op.condition, value):
                    self.inside.append(op)
                    return x, op.condition, inverted, fill
        return value, None, False, NO_FILL

    @staticmethod
    def _fits_keys(mask: Value, scores: Value) -> bool:
        """Whether a mask says something of every key, and broadcasts to the scores."""
        shape, own = shape_of(scores), shape_of(mask)
        return bool(own) and proven_equal(own[-1], shape[-1]) and fits(mask, shape)

    def _unscaled(self, value: Value) -> tuple[Value, float]:
        """(x, factor) of a multiple of x"""
        x, factor = scaled(value)
        while value is not x:
            op = value.defining_op
            assert op is not None
            self.inside.append(op)
            value = next(v for v in op.operands if v.type is value.type and number(v) is None)
        return x, factor


def _unscaled_operand(value: Value, rewriter: Rewriter) -> tuple[Value, float]:
    """(x, factor) of a multiple of x, also of a transposed one: transpose(mul(x, 0.5)) -> (transpose(x), 0.5)"""
    value, outer = scaled(value)
    transpose = made_by(value, TransposeOp)
    inner, factor = scaled(transpose.x) if transpose is not None else (value, 1.0)
    if transpose is None or inner is transpose.x:
        return value, outer
    return rewriter.insert(TransposeOp(inner, permutation=list(transpose.permutation))).result, outer * factor


def _leads_to_product(value: Value) -> bool:
    """Whether a matrix product, scaled or capped, makes a value."""
    value, _ = scaled(value)
    while isinstance(value.defining_op, (graph.TanhOp, CastOp)):
        value, _ = scaled(value.defining_op.operands[0])
    return isinstance(value.defining_op, MatmulOp)


def _same(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> bool:
    return len(a) == len(b) and all(map(proven_equal, a, b))


def _mask(found: Scores, rewriter: Rewriter) -> Value | None:
    """The mask as the op reads it: the truths of the keys that count."""
    if found.mask is None or not found.inverted:
        return found.mask
    return rewriter.insert(NotOp(found.mask)).result


def _with_rank_4(x: Value, rewriter: Rewriter) -> Value:
    """[heads, s, d] -> [1, heads, s, d], a matrix alike"""
    shape = shape_of(x)
    return _reshaped(x, (*[1] * (4 - len(shape)), *shape), rewriter)


def _reshaped(x: Value, shape: tuple[Dim, ...], rewriter: Rewriter) -> Value:
    return x if shape_of(x) == tuple(shape) else rewriter.insert(ReshapeOp.to(x, shape)).result


Grouped = tuple[Value, tuple[Dim, ...]]  # a value, and the shape in which it has groups instead of heads


def _without_repeats(turned_key: Value, value: Value) -> tuple[Grouped, Grouped] | None:
    """Keys and values before their heads were repeated: reshape(expand(x : [b, g, 1, ..] -> [b, g, n, ..])) -> x"""
    key_source, value_source = _before_repeat(turned_key), _before_repeat(value)
    if key_source is None or value_source is None or key_source[1][:2] != value_source[1][:2]:
        return None
    return key_source, value_source


def _before_repeat(x: Value) -> Grouped | None:
    reshape = made_by(x, ReshapeOp)
    expand = made_by(reshape.x, ExpandOp) if reshape is not None else None
    if reshape is None or expand is None or expand.new_dims or tensor_type(x).rank != 4:
        return None
    small, large = shape_of(expand.x), shape_of(expand.result)
    if len(small) != 5 or len(large) != 5 or small[2] != 1:
        return None
    grouped = (*small[:2], *small[3:])
    repeated = (*large[:2], *large[3:])
    whole = (large[0], large[1] * large[2], *large[3:])
    return (expand.x, grouped) if _same(grouped, repeated) and _same(whole, shape_of(x)) else None
