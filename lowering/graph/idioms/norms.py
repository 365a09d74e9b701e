"""Layer and RMS normalisation written out, with or without scale and bias.

Statistics are kept in f32 at least, which the narrow floats of a decomposed form are not."""

from __future__ import annotations

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.normalization import LayerNormOp, RmsNormOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.rewrite import Rewriter
from stepwell.ir.types import F32, F64, Type
from stepwell.lowering.graph.idioms import recognises, take_over
from stepwell.lowering.graph.idioms.softmax import reduction
from stepwell.lowering.graph.matching import either_order, fits, made_by, number, scalar_constant


@recognises(graph.SqrtOp)
def norm_by_root(op: graph.UnaryOp, rewriter: Rewriter) -> bool:
    """(x - m) / sqrt(mean((x - m)^2) + eps) with m = mean(x) -> layer_norm(x); x / sqrt(mean(x^2) + eps) -> rms_norm(x)

    The quotient may also be a product with 1 / sqrt."""
    variance, made = op.operands[0], False
    for user in op.results[0].users:
        if isinstance(user, graph.DivOp) and user.rhs is op.results[0]:
            inverts = number(user.lhs) == 1.0
            made |= (
                _by_inverse(user.result, variance, rewriter)
                if inverts
                else _normalised(user.lhs, user.result, variance, rewriter)
            )
    return made


@recognises(graph.PowOp)
def norm_by_power(op: graph.BinaryOp, rewriter: Rewriter) -> bool:
    """x * (mean(x^2) + eps)^-0.5 -> rms_norm(x), and a layer norm alike

    The sum is not negative, so that the power is the reciprocal of the root."""
    if number(op.rhs) != -0.5:
        return False
    return _by_inverse(op.result, op.lhs, rewriter)


def _by_inverse(inverse: Value, variance: Value, rewriter: Rewriter) -> bool:
    """Replace the products with the reciprocal of a root."""
    made = False
    for user in inverse.users:
        for x, other in list(either_order(user)) if isinstance(user, graph.MulOp) else ():
            if other is inverse and _normalised(x, user.results[0], variance, rewriter):
                made = True
                break
    return made


def _normalised(value: Value, last: Value, variance: Value, rewriter: Rewriter) -> bool:
    """Replace `last`, the quotient of a value and the root of its mean square plus epsilon."""
    found = _mean_square(variance)
    if found is None or found[0] is not value or last.type is not value.type or last.defining_op is None:
        return False
    _, axes, epsilon = found
    rewriter.set_before(last.defining_op)
    centred = made_by(value, graph.SubOp)
    mean = reduction(centred.rhs, "mean") if centred is not None else None
    if centred is not None and mean is not None and mean.x is centred.lhs and tuple(mean.axes) == axes:
        x = centred.lhs
        if x.type is not last.type:
            return False
        take_over(rewriter, last, rewriter.insert(
            LayerNormOp(x, axes=list(axes), epsilon=epsilon, stash=_stash(x))))  # fmt: skip
    else:
        one = scalar_constant(rewriter, 1.0, value)
        take_over(rewriter, last, rewriter.insert(
            RmsNormOp(value, one, axes=list(axes), epsilon=epsilon, stash=_stash(value))))  # fmt: skip
    return True


def _stash(x: Value) -> Type:
    return F64 if tensor_type(x).element is F64 else F32


def _mean_square(value: Value) -> tuple[Value, tuple[int, ...], float] | None:
    """(x, axes, epsilon) of mean(x * x over axes) + epsilon."""
    total = made_by(value, graph.AddOp)
    for mean, other in either_order(total) if total is not None else ():
        epsilon, op = number(other), reduction(mean, "mean")
        if epsilon is None or op is None or epsilon < 0 or mean.type is not value.type:
            continue
        square = op.x.defining_op
        if isinstance(square, graph.MulOp) and square.lhs is square.rhs:
            return square.lhs, tuple(op.axes), epsilon
    return None


@recognises(graph.MulOp)
def scale_of_norm(op: graph.BinaryOp, rewriter: Rewriter) -> bool:
    """layer_norm(x) * w -> layer_norm(x, w), rms_norm(x, 1) * w -> rms_norm(x, w), for w along the
    normalised axes"""
    for value, scale in either_order(op):
        norm = _unscaled_norm(value)
        if norm is None or op.result.type is not value.type or not _is_vector_of(scale, norm):
            continue
        if isinstance(norm, LayerNormOp):
            made: Operation = LayerNormOp(
                norm.x, scale, None, axes=list(norm.axes), epsilon=norm.epsilon, stash=norm.stash
            )
        else:
            made = RmsNormOp(norm.x, scale, axes=list(norm.axes), epsilon=norm.epsilon, stash=norm.stash)
        rewriter.replace(op, rewriter.insert(made).results[0])
        return True
    return False


def _unscaled_norm(value: Value) -> LayerNormOp | RmsNormOp | None:
    op = value.defining_op
    if not isinstance(op, (LayerNormOp, RmsNormOp)) or not _is_all_that_is_read(op, value):
        return None
    if isinstance(op, LayerNormOp):
        return op if op.scale is None and op.bias is None else None
    return op if number(op.scale) == 1.0 else None


def _is_all_that_is_read(op: LayerNormOp | RmsNormOp, value: Value) -> bool:
    """Whether the normalised x is read once, and the statistics are not."""
    return value is op.y and value.has_one_use and not any(statistic.has_uses for statistic in op.results[1:])


@recognises(graph.AddOp)
def bias_of_layer_norm(op: graph.BinaryOp, rewriter: Rewriter) -> bool:
    """layer_norm(x, w) + b -> layer_norm(x, w, b), for b along the normalised axes"""
    for value, bias in either_order(op):
        norm = made_by(value, LayerNormOp)
        if norm is None or norm.bias is not None or not _is_all_that_is_read(norm, value):
            continue
        if op.result.type is not value.type or not _is_vector_of(bias, norm):
            continue
        made = LayerNormOp(norm.x, norm.scale, bias, axes=list(norm.axes), epsilon=norm.epsilon, stash=norm.stash)
        rewriter.replace(op, rewriter.insert(made).results[0])
        return True
    return False


def _is_vector_of(value: Value, norm: LayerNormOp | RmsNormOp) -> bool:
    """Whether a value varies along the normalised axes at most: a residual does not."""
    shape, rank = tensor_type(value).shape, tensor_type(norm.x).rank
    varying = {axis for axis, size in enumerate(shape, start=rank - len(shape)) if size != 1}
    return fits(value, tensor_type(norm.x).shape) and varying <= set(norm.axes)
