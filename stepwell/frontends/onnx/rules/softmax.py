"""Softmax, LogSoftmax and Hardmax."""

from __future__ import annotations

from stepwell.dialects.graph.base import normalize_axis, tensor_type
from stepwell.dialects.graph.softmax import AxesNormalizingOp, HardmaxOp, LogSoftmaxOp, SoftmaxOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.ir.core import Value

OPS: dict[str, type[AxesNormalizingOp]] = {"Softmax": SoftmaxOp, "LogSoftmax": LogSoftmaxOp, "Hardmax": HardmaxOp}


@rule(*OPS)
def over_trailing_axes(node: Node) -> Value:
    """Softmax(x) {axis} seen as a matrix of the dims before and from `axis` on -> softmax over all axes from it"""
    x = node.input(0)
    rank = tensor_type(x).rank
    axes = range(normalize_axis(node.int("axis", 1), rank), rank)
    return node.insert(OPS[node.op_type](x, axes=axes)).result


@rule(*OPS, since=13)
def over_one_axis(node: Node) -> Value:
    x = node.input(0)
    axis = normalize_axis(node.int("axis", -1), tensor_type(x).rank)
    return node.insert(OPS[node.op_type](x, axes=[axis])).result
