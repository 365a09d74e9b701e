"""Data movement, shapes, and tensors made from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph import generate, movement, shape, state
from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.exports.composing import (
    Item,
    as_int64,
    as_scalar,
    cast,
    finish,
    integers,
    number_of,
)
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, divide_exact
from stepwell.ir.types import F32, SI32, SI64, FloatType, IntegerType, Type, bit_width, numpy_dtype


@exports(movement.TransposeOp)
def transpose(op: movement.TransposeOp, writer: Writer) -> None:
    """graph.transpose %x {permutation} -> Transpose(x) {perm}"""
    writer.node("Transpose", [op.x], op.results, perm=list(op.permutation))


@exports(movement.ConcatOp)
def concat(op: movement.ConcatOp, writer: Writer) -> None:
    """graph.concat %a, %b {axis} -> Concat(a, b) {axis}"""
    writer.node("Concat", op.xs, op.results, axis=op.axis)


@exports(state.AppendOp)
def append(op: state.AppendOp, writer: Writer) -> None:
    """graph.append %past, %new {axis} -> Concat(past, new) {axis}"""
    writer.node("Concat", [op.past, op.new], op.results, axis=op.axis)


@exports(movement.SplitOp)
def split(op: movement.SplitOp, writer: Writer) -> None:
    """graph.split %x {axis} -> Split(x, sizes) {axis}, the sizes those of the results' types"""
    if op.sizes is not None:
        sizes: Item = as_int64(writer, op.sizes)
    else:
        sizes = writer.shape([shape_of(part)[op.axis] for part in op.parts])
    writer.node("Split", [op.x, sizes], op.results, axis=op.axis)


@exports(movement.SliceOp)
def slice_(op: movement.SliceOp, writer: Writer) -> None:
    """graph.slice %x, %starts, %ends, %steps {axes} -> Slice(x, starts, ends, axes, steps)"""
    if not op.axes:
        writer.node("Identity", [op.x], op.results)
        return
    lists = [value for value in (op.starts, op.ends, op.steps) if value is not None]
    element = SI32 if all(element_of(value) is SI32 for value in lists) else SI64
    starts, ends, *steps = (cast(writer, value, element) for value in lists)
    axes = writer.constant(np.array(op.axes, numpy_dtype(element)), "axes")
    writer.node("Slice", [op.x, starts, ends, axes, *steps], op.results)


@exports(movement.PadOp)
def pad(op: movement.PadOp, writer: Writer) -> None:
    """graph.pad %x, %pads, %value {mode} -> Pad(x, pads, value) {mode}"""
    value = as_scalar(writer, op.value)
    writer.node("Pad", [op.x, as_int64(writer, op.pads), value], op.results, mode=op.mode)


@exports(movement.TileOp)
def tile(op: movement.TileOp, writer: Writer) -> None:
    """graph.tile %x, %repeats -> Tile(x, repeats)"""
    writer.node("Tile", [op.x, as_int64(writer, op.repeats)], op.results)


@exports(movement.ReverseSequenceOp)
def reverse_sequence(op: movement.ReverseSequenceOp, writer: Writer) -> None:
    """graph.reverse_sequence %x, %lengths -> ReverseSequence(x, lengths)"""
    axes: dict[str, Any] = {"batch_axis": op.batch_axis, "time_axis": op.time_axis}
    writer.node("ReverseSequence", [op.x, as_int64(writer, op.lengths)], op.results, **axes)


@exports(shape.ReshapeOp)
def reshape(op: shape.ReshapeOp, writer: Writer) -> None:
    """graph.reshape %x -> Reshape(x, shape): [0, -1, 12] where that says all, else the sizes computed"""
    if op.shape is not None:
        writer.node("Reshape", [op.x, as_int64(writer, op.shape)], op.results, allowzero=int(op.allow_zero) or None)
        return
    dims = shape_of(op.result)
    short = _short_target(shape_of(op.x), dims)
    target = writer.shape(dims) if short is None else integers(writer, short, "shape")
    zeros = int(short is None and 0 in dims) or None
    writer.node("Reshape", [op.x, target], op.results, allowzero=zeros)


def _short_target(before: Sequence[Dim], after: Sequence[Dim]) -> list[int] | None:
    """Integers that stand for a shape: 0 for a symbolic size that stays in its place, one -1 for another. None where
    they do not say it all, or where a size is 0 and they would say something else."""
    if 0 in (*before, *after) or all(isinstance(dim, int) for dim in after):
        return None
    target: list[int] = []
    left: list[Dim] = []
    total, known = shape.product(before), shape.product([])
    for axis, dim in enumerate(after):
        if isinstance(dim, int):
            target.append(dim)
            known = known * dim
        elif axis < len(before) and before[axis] == dim:
            target.append(0)
            known = known * dim
        else:
            target.append(-1)
            left.append(dim)
    if len(left) > 1 or (left and divide_exact(total, known) != left[0]):
        return None
    return target


@exports(shape.ExpandOp)
def expand(op: shape.ExpandOp, writer: Writer) -> None:
    """graph.expand %x -> Expand(x, shape)"""
    target = writer.shape(shape_of(op.result)) if op.shape is None else as_int64(writer, op.shape)
    writer.node("Expand", [op.x, target], op.results)


@exports(shape.ShapeOp)
def sizes(op: shape.ShapeOp, writer: Writer) -> None:
    """graph.shape %x {start, end} -> Shape(x) {start, end}"""
    writer.node("Shape", [op.x], op.results, start=op.start, end=op.end)


@exports(shape.SizeOp)
def size(op: shape.SizeOp, writer: Writer) -> None:
    """graph.size %x -> Size(x)"""
    writer.node("Size", [op.x], op.results)


@exports(generate.RangeOp)
def range_(op: generate.RangeOp, writer: Writer) -> None:
    """graph.range %start, %limit, %delta -> Range(start, limit, delta); other types through one that Range knows: f32
    for narrower floats, si64 for integers"""
    bounds = [as_scalar(writer, value) for value in op.operands]
    element = element_of(op.start)
    computed = _range_type(element)
    if op.narrow:
        writer.node("Range", bounds, op.results, stash_type=number_of(element))
    elif computed is element:
        writer.node("Range", bounds, op.results)
    else:
        wide = [writer.make("Cast", [bound], to=number_of(computed)) for bound in bounds]
        finish(writer, writer.make("Range", wide), computed, op.result)


def _range_type(element: Type) -> Type:
    if isinstance(element, FloatType) and element.width < 32:
        return F32
    if isinstance(element, IntegerType) and element not in (SI32, SI64) and bit_width(element) < 64:
        return SI64
    return element


@exports(generate.EyeOp)
def eye(op: generate.EyeOp, writer: Writer) -> None:
    """graph.eye {k} -> EyeLike(ConstantOfShape(sizes)) {k, dtype}"""
    like = writer.make("ConstantOfShape", [writer.shape(shape_of(op.result))])
    writer.node("EyeLike", [like], op.results, k=op.k, dtype=number_of(element_of(op.result)))


@exports(generate.TriluOp)
def trilu(op: generate.TriluOp, writer: Writer) -> None:
    """graph.trilu %x, %k {upper} -> Trilu(x, k) {upper}"""
    k = as_scalar(writer, op.k)
    if isinstance(k, Value):
        k = as_int64(writer, k)
    elif k is not None and op.k is not None and element_of(op.k) is not SI64:
        k = cast(writer, k, SI64)
    writer.node("Trilu", [op.x, k], op.results, upper=int(op.upper))
