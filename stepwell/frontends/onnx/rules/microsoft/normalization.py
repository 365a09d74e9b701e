"""Normalisations, many of them of sums: by layer, by the root of the mean square, by groups of channels.

Sums of floats narrower than f32 are kept in f32 for what is normalised, as one kernel would."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.graph.activation import SiluOp
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import MulOp, SigmoidOp
from stepwell.dialects.graph.normalization import GroupNormOp, LayerNormOp, RmsNormOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, reshaped, unary, widened
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, rounded_like, summed
from stepwell.frontends.onnx.shapes import axis_attr, rank_of
from stepwell.ir.core import Value
from stepwell.ir.dims import divide_exact
from stepwell.ir.types import F32, F64, Type


def stash_of(x: Value) -> Type:
    """The type in which x is normalised: f64 for f64, else f32."""
    return F64 if tensor_type(x).element is F64 else F32


@rule("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(node: Node) -> Sequence[Value]:
    """Inputs x [.., s, h], skip (which broadcasts), gamma, beta, bias; outputs y, mean, inverse deviation, and the sum
    that was normalised."""
    total = summed(node, node.input(0), node.input(1), node.optional(4))
    y, *statistics = layer_normalized(node, total, node.input(2), node.optional(3), 1e-12)
    y, total = (rounded_like(node, value, node.input(0)) for value in (y, total))
    return [y, *statistics, total]


def layer_normalized(node: Node, x: Value, gamma: Value, beta: Value | None, epsilon: float) -> Sequence[Value]:
    """y, mean and inverse deviation of the last axis of x, which is f32 at least."""
    scale, bias = widened(node, gamma), None if beta is None else widened(node, beta)
    axes, epsilon = [rank_of(x) - 1], node.float("epsilon", epsilon)
    return node.insert(LayerNormOp(x, scale, bias, axes=axes, epsilon=epsilon, stash=stash_of(x))).results


@rule("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_simplified_layer_normalization(node: Node) -> Sequence[Value | None]:
    """Inputs x [.., s, h], skip (which broadcasts), gamma, bias; outputs y, nothing, inverse root, and the sum that was
    normalised."""
    total = summed(node, node.input(0), node.input(1), node.optional(3))
    scale, epsilon = widened(node, node.input(2)), node.float("epsilon", 1e-12)
    op = node.insert(RmsNormOp(total, scale, axes=[rank_of(total) - 1], epsilon=epsilon, stash=stash_of(total)))
    y, total = (rounded_like(node, value, node.input(0)) for value in (op.y, total))
    return [y, None, op.inverse_rms, total]


@rule("SimplifiedLayerNormalization")
def simplified_layer_normalization(node: Node) -> Sequence[Value]:
    """RMS normalisation of the axes from `axis` on, which onnxruntime keeps in the default domain."""
    x, rank = node.input(0), rank_of(node.input(0))
    axes, epsilon = range(axis_attr(node, rank, -1), rank), node.float("epsilon", 1e-5)
    op = node.insert(RmsNormOp(x, node.input(1), axes=axes, epsilon=epsilon, stash=stash_of(x)))
    return [op.y, op.inverse_rms]


@rule("GatedRMSNorm", domain=DOMAIN)
def gated_rms_norm(node: Node) -> Value:
    """x by the root of the mean square of every so many elements as `scale` has, times an activation of a gate."""
    x, scale, gate = (widened(node, node.input(index)) for index in range(3))
    shape, (size,) = shape_of(x), shape_of(scale)
    heads = divide_exact(shape[-1], size)
    if heads is None:
        raise node.unsupported(f"rows of {shape[-1]} elements are not a multiple of the {size} of the scale")
    rows = reshaped(node, x, (*shape[:-1], heads, size))
    made = node.insert(RmsNormOp(rows, scale, axes=[len(shape)], epsilon=node.float("epsilon", 1e-5))).y
    activation = node.string("activation", "silu")
    if activation not in ("silu", "swish", "sigmoid"):
        raise node.unsupported(f"the activation {activation!r} is not known")
    factor = unary(node, SigmoidOp if activation == "sigmoid" else SiluOp, gate)
    return rounded_like(node, binary(node, MulOp, reshaped(node, made, shape), factor), node.input(0))


@rule("GroupNorm", domain=DOMAIN)
def group_norm(node: Node) -> Value:
    """Inputs x, gamma, beta; channels are the last axis where `channels_last` is set."""
    return _group_normalized(node, widened(node, node.input(0)))


@rule("SkipGroupNorm", domain=DOMAIN)
def skip_group_norm(node: Node) -> Sequence[Value]:
    """Inputs x, gamma, beta, skip (of x's shape or [n, c]), bias [c]; outputs y and the sum that was normalised."""
    x, skip, bias = node.input(0), node.input(3), node.optional(4)
    last = bool(node.int("channels_last", 1))
    if rank_of(skip) == 2:
        skip = _per_channel(node, skip, rank_of(x), last)
    if bias is not None:
        bias = _per_channel(node, reshaped(node, bias, (1, *shape_of(bias))), rank_of(x), last)
    total = summed(node, x, skip, bias)
    return [_group_normalized(node, total), rounded_like(node, total, x)]


def _per_channel(node: Node, x: Value, rank: int, last: bool) -> Value:
    """[n, c] -> [n, 1, .., c] or [n, c, 1, ..]"""
    batch, channels = shape_of(x)
    ones = (1,) * (rank - 2)
    return reshaped(node, x, (batch, *ones, channels) if last else (batch, channels, *ones))


def _group_normalized(node: Node, x: Value) -> Value:
    """act(group_norm(x)) of an x in f32 at least, in the type of the first input."""
    activation, rank, last = node.int("activation"), rank_of(x), bool(node.int("channels_last", 1))
    if activation not in (0, 1):
        raise node.unsupported(f"the activation {activation} is neither none (0) nor silu (1)")
    vectors = [widened(node, node.input(index)) for index in (1, 2)]
    ahead = [0, rank - 1, *range(1, rank - 1)] if last else list(range(rank))
    back = [0, *range(2, rank), 1] if last else ahead
    y = node.insert(GroupNormOp(
        transpose(node, x, ahead), *vectors, groups=node.int("groups"),
        epsilon=node.float("epsilon", 1e-5),
    )).result  # fmt: skip
    y = unary(node, SiluOp, y) if activation else y
    return rounded_like(node, transpose(node, y, back), node.input(0))
