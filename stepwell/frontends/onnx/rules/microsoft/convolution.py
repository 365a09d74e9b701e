"""Convolutions with what follows them, and with channels last."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects.graph.convolution import ConvOp
from stepwell.dialects.graph.pooling import MaxPoolOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.frontends.onnx.rules.convolution import conv_window, group_count, window_fields
from stepwell.frontends.onnx.rules.microsoft.activation import fused_by_list
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, added
from stepwell.frontends.onnx.rules.pooling import pool_fields
from stepwell.frontends.onnx.shapes import rank_of
from stepwell.ir.core import Value


@rule("FusedConv", domain=DOMAIN)
def fused_conv(node: Node) -> Value:
    """act(conv(x, w) + b + z)"""
    return fused_by_list(node, added(node, _convolved(node, node.input(0)), node.optional(3)))


@rule("NhwcConv", domain=DOMAIN)
def nhwc_conv(node: Node) -> Value:
    """A convolution of x [n, .., c] with w [m, c / group, ..]"""
    return channels_last(node, node.input(0), lambda x: _convolved(node, x))


@rule("NhwcFusedConv", domain=DOMAIN)
def nhwc_fused_conv(node: Node) -> Value:
    """act(conv(x, w) + b + z) of x and z [n, .., c]"""
    made = channels_last(node, node.input(0), lambda x: _convolved(node, x))
    return fused_by_list(node, added(node, made, node.optional(3)))


@rule("NhwcMaxPool", domain=DOMAIN)
def nhwc_max_pool(node: Node) -> Value:
    """A pool of x [n, .., c]"""
    return channels_last(node, node.input(0), lambda x: node.insert(MaxPoolOp(x, **pool_fields(node, x))).result)


def channels_last(node: Node, x: Value, compute: Callable[[Value], Value]) -> Value:
    """compute of x [n, .., c] as [n, c, ..], and back."""
    rank = rank_of(x)
    if rank < 3:
        raise node.unsupported(f"the input needs a batch, spatial axes and channels, not rank {rank}")
    made = compute(transpose(node, x, [0, rank - 1, *range(1, rank - 1)]))
    return transpose(node, made, [0, *range(2, rank), 1])


def _convolved(node: Node, x: Value) -> Value:
    w = node.input(1)
    fields = window_fields(conv_window(node, x, w))
    return node.insert(ConvOp(x, w, node.optional(2), groups=group_count(node), **fields)).result
