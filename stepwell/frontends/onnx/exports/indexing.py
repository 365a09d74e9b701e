"""Reading, writing and selecting through indices."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.graph import indexing, scatter, selection
from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.exports.composing import Item, as_index, as_int64, as_list, cast, finish, integers
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Value
from stepwell.ir.types import F32, I1, SI32, SI64, FloatType, IntegerType, bit_width


@exports(indexing.GatherOp)
def gather(op: indexing.GatherOp, writer: Writer) -> None:
    """graph.gather %x, %i {axis} -> Gather(x, i) {axis}; of elements that it does not take, between casts"""
    element, index = element_of(op.x), as_index(writer, op.indices)
    floats = isinstance(element, FloatType) and bit_width(element) <= 8
    if not floats and not (isinstance(element, IntegerType) and element is not I1 and element.width < 8):
        writer.node("Gather", [op.x, index], op.results, axis=op.axis)
        return
    taken = F32 if floats else SI32
    finish(writer, writer.make("Gather", [cast(writer, op.x, taken), index], axis=op.axis), taken, op.result)


@exports(indexing.GatherElementsOp)
def gather_elements(op: indexing.GatherElementsOp, writer: Writer) -> None:
    """graph.gather_elements %x, %i {axis} -> GatherElements(x, i) {axis}"""
    writer.node("GatherElements", [op.x, as_index(writer, op.indices)], op.results, axis=op.axis)


@exports(indexing.GatherNDOp)
def gather_nd(op: indexing.GatherNDOp, writer: Writer) -> None:
    """graph.gather_nd %x, %i {batch_dims} -> GatherND(x, i) {batch_dims}"""
    writer.node("GatherND", [op.x, as_int64(writer, op.indices)], op.results, batch_dims=op.batch_dims)


@exports(indexing.OneHotOp)
def one_hot(op: indexing.OneHotOp, writer: Writer) -> None:
    """graph.one_hot %i, %depth, %values {axis} -> OneHot(i, depth, values) {axis}"""
    writer.node("OneHot", [op.indices, op.depth, op.values], op.results, axis=op.axis)


def _reduction(reduction: str) -> str | None:
    return None if reduction == "none" else reduction


@exports(scatter.ScatterElementsOp)
def scatter_elements(op: scatter.ScatterElementsOp, writer: Writer) -> None:
    """graph.scatter_elements %x, %i, %u {axis} -> ScatterElements(x, i, u) {axis}"""
    operands: list[Item] = [op.x, as_index(writer, op.indices), op.updates]
    writer.node("ScatterElements", operands, op.results, axis=op.axis, reduction=_reduction(op.reduction))


@exports(scatter.ScatterNDOp)
def scatter_nd(op: scatter.ScatterNDOp, writer: Writer) -> None:
    """graph.scatter_nd %x, %i, %u -> ScatterND(x, i, u)"""
    operands: list[Item] = [op.x, as_int64(writer, op.indices), op.updates]
    writer.node("ScatterND", operands, op.results, reduction=_reduction(op.reduction))


@exports(scatter.TensorScatterOp)
def tensor_scatter(op: scatter.TensorScatterOp, writer: Writer) -> None:
    """graph.tensor_scatter %cache, %u, %i {axis} -> TensorScatter(cache, u, i) {axis}"""
    places = None if op.write_indices is None else as_int64(writer, op.write_indices)
    mode = "circular" if op.circular else "linear"
    writer.node("TensorScatter", [op.cache, op.update, places], op.results, axis=op.axis, mode=mode)


@exports(selection.NonZeroOp)
def non_zero(op: selection.NonZeroOp, writer: Writer) -> None:
    """graph.non_zero %x -> NonZero(x)"""
    writer.node("NonZero", [op.x], op.results)


@exports(selection.UniqueOp)
def unique(op: selection.UniqueOp, writer: Writer) -> None:
    """graph.unique %x {axis} -> Unique(x) {axis}"""
    writer.node("Unique", [op.x], op.results, axis=op.axis, sorted=int(op.sorted))


@exports(selection.TopKOp)
def top_k(op: selection.TopKOp, writer: Writer) -> None:
    """graph.top_k %x, %k {axis} -> TopK(x, k) {axis}"""
    options: dict[str, Any] = {"axis": op.axis, "largest": int(op.largest), "sorted": int(op.sorted)}
    writer.node("TopK", [op.x, _one_int64(writer, op.k)], op.results, **options)


def _one_int64(writer: Writer, x: Value | None) -> Item | None:
    """A list of one int64."""
    if x is None:
        return None
    given = cast(writer, x, SI64)
    if len(shape_of(x)) == 1:
        return given
    return writer.make("Reshape", [given, integers(writer, [1])])


@exports(selection.NonMaxSuppressionOp)
def non_max_suppression(op: selection.NonMaxSuppressionOp, writer: Writer) -> None:
    """graph.non_max_suppression %boxes, %scores, ... -> NonMaxSuppression(boxes, scores, ...)"""
    limits = [_one_int64(writer, op.max_boxes), as_list(writer, op.iou_threshold), as_list(writer, op.score_threshold)]
    center = int(op.boxes_as == "center")
    writer.node("NonMaxSuppression", [op.boxes, op.scores, *limits], op.results, center_point_box=center)
