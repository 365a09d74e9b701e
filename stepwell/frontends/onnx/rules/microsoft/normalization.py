"""Layer normalisation of sums, and by the root of the mean square."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.normalization import LayerNormOp, RmsNormOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.ir.core import Value


@rule("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_normalization(node: Node) -> Sequence[Value]:
    """Inputs x, skip, gamma, beta, bias; outputs y, mean, inverse deviation, and the sum that was normalised."""
    total = added(node, node.input(0), node.input(1), node.optional(4))
    axes, epsilon = [len(shape_of(total)) - 1], node.float("epsilon", 1e-12)
    op = node.insert(LayerNormOp(total, node.input(2), node.optional(3), axes=axes, epsilon=epsilon))
    return [op.y, op.mean, op.inverse_deviation, total]


@rule("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_simplified_layer_normalization(node: Node) -> Sequence[Value]:
    """Inputs x, skip, gamma, bias; outputs y, nothing, inverse root, and the sum that was normalised."""
    total = added(node, node.input(0), node.input(1), node.optional(3))
    op = node.insert(
        RmsNormOp(total, node.input(2), axes=[len(shape_of(total)) - 1], epsilon=node.float("epsilon", 1e-12))
    )
    return [op.y, op.inverse_rms, op.inverse_rms, total]


@rule("SimplifiedLayerNormalization")
def simplified_layer_normalization(node: Node) -> Sequence[Value]:
    """RMS normalisation of the axes from `axis` on, which onnxruntime keeps in the default domain."""
    x = node.input(0)
    rank = len(shape_of(x))
    axes = list(range(node.int("axis", -1) % rank, rank))
    op = node.insert(RmsNormOp(x, node.input(1), axes=axes, epsilon=node.float("epsilon", 1e-5)))
    return [op.y, op.inverse_rms]
