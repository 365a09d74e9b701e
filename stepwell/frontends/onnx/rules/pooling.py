"""Pools over windows and regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import AbsOp, PowOp
from stepwell.dialects.graph.pooling import AveragePoolOp, LpPoolOp, MaxPoolIndicesOp, MaxPoolOp, MaxRoiPoolOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.convolution import read_window, window_fields
from stepwell.ir.core import Value
from stepwell.ir.types import numpy_dtype


def pool_fields(node: Node, x: Value) -> dict[str, Any]:
    """A pool's window as attributes."""
    if len(shape_of(x)) < 3:
        raise node.unsupported(f"the input needs a batch, channels and spatial axes, not rank {len(shape_of(x))}")
    kernel = node.ints("kernel_shape")
    window = read_window(node, shape_of(x)[2:], kernel, ceil=bool(node.int("ceil_mode", 0)))
    return window_fields(window) | {"kernel": kernel, "ceil_mode": window.ceil or None}


@rule("MaxPool")
def max_pool(node: Node) -> Value | Sequence[Value]:
    """With a second output, also the positions of the maxima."""
    x = node.input(0)
    fields = pool_fields(node, x)
    if not node.has_output(1):
        return node.insert(MaxPoolOp(x, **fields)).result
    column_major = bool(node.int("storage_order", 0)) or None
    return node.insert(MaxPoolIndicesOp(x, column_major=column_major, **fields)).results


@rule("AveragePool")
def average_pool(node: Node) -> Value:
    """`count_include_pad` since 7, `ceil_mode` since 10, `dilations` since 19; absent they mean what came before."""
    x = node.input(0)
    include = bool(node.int("count_include_pad", 0)) or None
    return node.insert(AveragePoolOp(x, count_include_pad=include, **pool_fields(node, x))).result


@rule("LpPool")
def lp_pool(node: Node) -> Value:
    """p is a float in version 1, an integer from 2 on."""
    x = node.input(0)
    p = node.float("p", 2.0) if node.version < 2 else float(node.int("p", 2))
    return node.insert(LpPoolOp(x, p=p, **pool_fields(node, x))).result


@rule("MaxRoiPool")
def max_roi_pool(node: Node) -> Value:
    """Regions are rows of batch index and corners."""
    pooled, scale = node.ints("pooled_shape"), node.float("spatial_scale", 1.0)
    return node.insert(MaxRoiPoolOp(node.input(0), node.input(1), pooled=pooled, spatial_scale=scale)).result


def spatial_axes(node: Node, x: Value) -> list[int]:
    """All axes behind batch and channels."""
    rank = len(shape_of(x))
    if rank < 3:
        raise node.unsupported(f"the input needs a batch, channels and spatial axes, not rank {rank}")
    return list(range(2, rank))


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node) -> Value:
    """A reduction over all spatial axes."""
    x = node.input(0)
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    return node.insert(ReduceOp(x, kind=kind, axes=spatial_axes(node, x), keepdims=True)).result


@rule("GlobalLpPool")
def global_lp_pool(node: Node) -> Value:
    """(sum |x|^p)^(1/p); p is a float in version 1, an integer from 2 on."""
    x = node.input(0)
    p = node.float("p", 2.0) if node.version < 2 else float(node.int("p", 2))
    dtype = numpy_dtype(tensor_type(x).element)
    powers = node.insert(PowOp(node.insert(AbsOp(x)).result, node.constant(np.array(p, dtype)))).result
    total = node.insert(ReduceOp(powers, kind="sum", axes=spatial_axes(node, x), keepdims=True)).result
    return node.insert(PowOp(total, node.constant(np.array(1 / p, dtype)))).result
