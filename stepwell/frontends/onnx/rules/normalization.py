"""Normalisation operators."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import normalize_axes, normalize_axis, shape_of, tensor_type
from stepwell.dialects.graph.logic import CompareOp, WhereOp
from stepwell.dialects.graph.normalization import BatchNormOp, GroupNormOp, LayerNormOp, LrnOp, RmsNormOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, in_f32, reshaped, scalar, unary, widened
from stepwell.ir.core import Value
from stepwell.ir.types import F32, F64

# Added to the variance, this is the 1e-9 that MeanVarianceNormalization adds to a deviation of 0.
MVN_EPSILON = 1e-18


@rule("BatchNormalization")
def batch_norm_before_modes(node: Node) -> list[Value]:
    """Outputs beyond the first, or the lack of `is_test` with them, ask for training; `spatial` = 0 gives every element
    of a sample its own statistics"""
    training = any(node.has_output(index) for index in range(1, 5)) and not node.int("is_test", 0)
    if node.int("spatial", 1):
        return _trained(node) if training else [_normalized(node, node.inputs()[1:])]
    if training:
        raise node.unsupported("training outputs of BatchNormalization with spatial = 0", "export for inference")
    return [_elementwise_norm(node)]


@rule("BatchNormalization", since=9)
def batch_norm_by_outputs(node: Node) -> list[Value]:
    """Outputs beyond the first ask for training"""
    training = any(node.has_output(index) for index in range(1, 5))
    return _trained(node) if training else [_normalized(node, node.inputs()[1:])]


@rule("BatchNormalization", since=14)
def batch_norm(node: Node) -> list[Value]:
    return _trained(node) if node.int("training_mode", 0) else [_normalized(node, node.inputs()[1:])]


def _normalized(node: Node, vectors: Sequence[Value]) -> Value:
    return node.insert(BatchNormOp(node.input(0), *vectors, epsilon=node.float("epsilon", 1e-5))).result


def _elementwise_norm(node: Node) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias with statistics of shape [C, D1, ...]"""
    sample = shape_of(node.input(0))[1:]
    scale, bias, mean, variance = (reshaped(node, widened(node, value), sample) for value in node.inputs()[1:])

    def compute(x: Value) -> Value:
        epsilon = scalar(node, node.float("epsilon", 1e-5), variance)
        deviation = unary(node, graph.SqrtOp, binary(node, graph.AddOp, variance, epsilon))
        y = binary(node, graph.DivOp, binary(node, graph.SubOp, x, mean), deviation)
        return binary(node, graph.AddOp, binary(node, graph.MulOp, y, scale), bias)

    return in_f32(node, node.input(0), compute)


def _trained(node: Node) -> list[Value]:
    """The batch's own mean and population variance; y, then the running ones: running * momentum + batch * (1 -
    momentum), then the batch's"""
    x = node.input(0)
    wide = widened(node, x)
    mean = _channel_mean(node, wide, keepdims=False)
    centred = binary(node, graph.SubOp, wide, _channel_mean(node, wide, keepdims=True))
    variance = _channel_mean(node, binary(node, graph.MulOp, centred, centred), keepdims=False)
    momentum = node.float("momentum", 0.9)
    outputs = [_normalized(node, [node.input(1), node.input(2), mean, variance])]
    for old, new in ((node.input(3), mean), (node.input(4), variance)):
        element = tensor_type(old).element
        kept = binary(node, graph.MulOp, cast(node, old, tensor_type(new).element), momentum)
        running = binary(node, graph.AddOp, kept, binary(node, graph.MulOp, new, 1 - momentum))
        outputs.append(cast(node, running, element))
    return [*outputs, *(cast(node, value, tensor_type(x).element) for value in (mean, variance))][: node.num_outputs]


def _channel_mean(node: Node, x: Value, keepdims: bool) -> Value:
    """The mean over all axes but the channels'; a tensor of rank 1 has one channel."""
    rank = tensor_type(x).rank
    axes = [axis for axis in range(rank) if axis != 1]
    return node.insert(ReduceOp(x, kind="mean", axes=axes, keepdims=keepdims or rank == 1)).result


@rule("InstanceNormalization")
def instance_norm(node: Node) -> Value:
    """InstanceNormalization -> group_norm with every channel its own group, its statistics in x's type, f32 at least"""
    stash = F64 if tensor_type(node.input(0)).element is F64 else F32
    return node.insert(GroupNormOp(*node.inputs(), epsilon=node.float("epsilon", 1e-5), stash=stash)).result


@rule("GroupNormalization")
def group_norm(node: Node) -> Value:
    """scale and bias are per group before opset 21, per channel from then on"""
    groups = node.int("num_groups")
    size = groups if node.version < 21 else shape_of(node.input(0))[1]
    for index, what in ((1, "scale"), (2, "bias")):
        given = shape_of(node.input(index))
        if len(given) == 1 and isinstance(given[0], int) and isinstance(size, int) and given[0] != size:
            raise node.unsupported(f"its {what} has {given[0]} elements, in opset {node.version} it has {size}")
    return node.insert(GroupNormOp(
        *node.inputs(), groups=groups, epsilon=node.float("epsilon", 1e-5), stash=node.element_type("stash_type", F32)
    )).result  # fmt: skip


def _trailing_axes(node: Node) -> range:
    rank = tensor_type(node.input(0)).rank
    return range(normalize_axis(node.int("axis", -1), rank), rank)


@rule("LayerNormalization")
def layer_norm(node: Node) -> Sequence[Value]:
    op = node.insert(LayerNormOp(
        node.input(0), node.input(1), node.optional(2), axes=_trailing_axes(node),
        epsilon=node.float("epsilon", 1e-5), stash=node.element_type("stash_type", F32),
    ))  # fmt: skip
    return op.results[: node.num_outputs]


@rule("RMSNormalization")
def rms_norm(node: Node) -> Value:
    return node.insert(RmsNormOp(
        node.input(0), node.input(1), axes=_trailing_axes(node),
        epsilon=node.float("epsilon", 1e-5), stash=node.element_type("stash_type", F32),
    )).y  # fmt: skip


@rule("MeanVarianceNormalization")
def mean_variance_norm(node: Node) -> Value:
    """MeanVarianceNormalization(x) {axes} -> layer_norm(x) over these axes, without scale and bias"""
    x = node.input(0)
    axes = normalize_axes(node.ints("axes", [0, 2, 3]), tensor_type(x).rank)
    return node.insert(LayerNormOp(x, axes=axes, epsilon=MVN_EPSILON)).y


@rule("LpNormalization")
def lp_norm(node: Node) -> Value:
    """LpNormalization(x) -> where(n = 0, 0, x / n), n = sum(|x|) or sqrt(sum(x * x)) along one axis"""
    order = node.int("p", 2)
    if order not in (1, 2):
        raise node.unsupported(f"p = {order}: only norms of order 1 and 2 are defined")
    axis = normalize_axis(node.int("axis", -1), tensor_type(node.input(0)).rank)

    def compute(x: Value) -> Value:
        parts = unary(node, graph.AbsOp, x) if order == 1 else binary(node, graph.MulOp, x, x)
        norm = node.insert(ReduceOp(parts, kind="sum", axes=[axis])).result
        norm = norm if order == 1 else unary(node, graph.SqrtOp, norm)
        zero = scalar(node, 0, x)
        is_zero = node.insert(CompareOp(norm, zero, predicate="eq")).result
        return node.insert(WhereOp(is_zero, zero, binary(node, graph.DivOp, x, norm))).result

    return in_f32(node, node.input(0), compute)


@rule("LRN")
def local_response_norm(node: Node) -> Value:
    return node.insert(LrnOp(
        node.input(0), size=node.int("size"), alpha=node.float("alpha", 1e-4), beta=node.float("beta", 0.75),
        bias=node.float("bias", 1.0),
    )).result  # fmt: skip
