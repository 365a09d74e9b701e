"""Pools over windows and regions."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.graph import pooling as graph
from stepwell.frontends.onnx.exports.composing import window_attributes
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, exports


def _attributes(op: graph.PoolOp) -> dict[str, Any]:
    """Which windows `ceil_mode` visits at the end was settled with opset 22."""
    return window_attributes(op) | {"ceil_mode": int(op.ceil_mode) or None, "since": 22 if op.ceil_mode else 0}


@exports(graph.MaxPoolOp)
def max_pool(op: graph.MaxPoolOp, writer: Writer) -> None:
    """graph.max_pool %x -> MaxPool(x)"""
    writer.node("MaxPool", [op.x], op.results, **_attributes(op))


@exports(graph.MaxPoolIndicesOp)
def max_pool_indices(op: graph.MaxPoolIndicesOp, writer: Writer) -> None:
    """graph.max_pool_indices %x -> (values, indices of) MaxPool(x)"""
    writer.node("MaxPool", [op.x], op.results, storage_order=int(op.column_major), **_attributes(op))


@exports(graph.AveragePoolOp)
def average_pool(op: graph.AveragePoolOp, writer: Writer) -> None:
    """graph.average_pool %x -> AveragePool(x)"""
    included = int(op.count_include_pad) or None
    writer.node("AveragePool", [op.x], op.results, count_include_pad=included, **_attributes(op))


@exports(graph.LpPoolOp)
def lp_pool(op: graph.LpPoolOp, writer: Writer) -> None:
    """graph.lp_pool %x {p} -> LpPool(x) {p}"""
    if op.p != int(op.p):
        raise Unsupported(f"LpPool has norms of whole orders only, not of {op.p}")
    writer.node("LpPool", [op.x], op.results, p=int(op.p), **_attributes(op))


@exports(graph.MaxRoiPoolOp)
def max_roi_pool(op: graph.MaxRoiPoolOp, writer: Writer) -> None:
    """graph.max_roi_pool %x, %rois -> MaxRoiPool(x, rois)"""
    scale = writer.float32(op, "spatial_scale", op.spatial_scale)
    writer.node("MaxRoiPool", op.operands, op.results, pooled_shape=list(op.pooled), spatial_scale=scale)
