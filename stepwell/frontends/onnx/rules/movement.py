"""Operators that move data: Transpose, Concat, Split, Slice, Pad, Tile, DepthToSpace and their like."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import movement
from stepwell.dialects.graph.base import constant_array, content, is_content_type, shape_of, tensor_type
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.elementwise import DivOp, MaxOp, SubOp
from stepwell.dialects.graph.generate import TriluOp
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.shapes import (
    as_list,
    axis_attr,
    checked_axes,
    checked_axis,
    exactly,
    int_list,
    known_input,
    pick,
    rank_of,
    reshape,
    scattered,
    static_length,
)
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, ceildiv, dim_max, dim_min, is_multiple_of
from stepwell.ir.types import SI64, numpy_dtype


def transposed(node: Node, x: Value, permutation: Sequence[int]) -> Value:
    """`x` with its axes permuted."""
    return node.insert(movement.TransposeOp(x, permutation=permutation)).result


def concatenated(node: Node, parts: Sequence[Value], axis: int = 0) -> Value:
    """Tensors one after the other along an axis."""
    return node.insert(movement.ConcatOp(parts, axis=axis)).result if len(parts) > 1 else parts[0]


@rule("Transpose")
def transpose(node: Node) -> Value:
    """Without `perm`, the axes are reversed."""
    x = node.input(0)
    return transposed(node, x, node.ints("perm", list(range(rank_of(x)))[::-1]))


@rule("Concat")
def concat_1(node: Node) -> Value:
    """The axis is 1 by default before version 4."""
    return concatenated(node, node.inputs(), axis_attr(node, rank_of(node.input(0)), 1))


@rule("Concat", since=4)
def concat_4(node: Node) -> Value:
    """The axis is given."""
    return concatenated(node, node.inputs(), axis_attr(node, rank_of(node.input(0))))


@rule("Split")
def split_1(node: Node) -> Sequence[Value]:
    """Sizes as an attribute or, in version 1, an input."""
    return split_by_sizes(node, node.ints("split")) if node.has("split") else _split_by_input(node)


@rule("Split", since=13)
def split_13(node: Node) -> Sequence[Value]:
    """Sizes as an input; without it, equal parts, of which the last may be smaller since version 18."""
    return _split_by_input(node)


def _split_by_input(node: Node) -> Sequence[Value]:
    x = node.input(0)
    if not node.has_input(1):
        axis = axis_attr(node, rank_of(x), 0)
        return split_by_sizes(node, _equal_parts(node, shape_of(x)[axis], node.int("num_outputs", node.num_outputs)))
    sizes = content(node.input(1))
    if sizes is not None:
        return split_by_sizes(node, sizes)
    axis = axis_attr(node, rank_of(x), 0)
    given = exactly(node, node.input(1), node.num_outputs)
    op: movement.SplitOp = node.insert(movement.SplitOp(x, given, axis=axis))
    return op.parts


def _equal_parts(node: Node, size: Dim, parts: int) -> list[Dim]:
    if parts < 1:
        raise node.unsupported(f"a split into {parts} parts", "The model is malformed.")
    if is_multiple_of(size, parts) or (node.version < 18 and not isinstance(size, int)):
        return [size // parts] * parts
    if node.version < 18:
        raise node.unsupported(f"a size of {size} is not {parts} equal parts", "The model is malformed.")
    chunk = ceildiv(size, parts)
    return [dim_max(dim_min(chunk, size - index * chunk), 0) for index in range(parts)]


def split_by_sizes(node: Node, sizes: Sequence[Dim]) -> Sequence[Value]:
    """The node's first input in parts of these sizes along its `axis` (0 where it does not say)."""
    x = node.input(0)
    axis = axis_attr(node, rank_of(x), 0)
    ends = np.cumsum([0, *sizes])
    if is_content_type(x.type) and all(isinstance(size, int) for size in sizes):
        # Slices carry the contents of a shape tensor, which the second and later results of an op do not.
        movement.part_types(x, sizes, axis)
        return [
            sliced(node, x, int_list(node, [start]), int_list(node, [end]), [axis])
            for start, end in itertools.pairwise(ends)
        ]
    return node.insert(movement.SplitOp.into(x, sizes, axis)).parts


def sliced(node: Node, x: Value, starts: Value, ends: Value, axes: Sequence[int], steps: Value | None = None) -> Value:
    """`x` from `starts` to `ends` along ascending axes."""
    return node.insert(movement.SliceOp(x, starts, ends, steps, axes=axes)).result


@rule("Slice")
def slice_1(node: Node) -> Value:
    """Attributes before version 10."""
    x = node.input(0)
    starts, ends = node.ints("starts"), node.ints("ends")
    axes = checked_axes(node, node.ints("axes", range(len(starts))), rank_of(x))
    if not len(starts) == len(ends) == len(axes):
        raise node.unsupported(
            f"{len(starts)} starts, {len(ends)} ends and {len(axes)} axes", "The model is malformed."
        )
    order = sorted(range(len(axes)), key=axes.__getitem__)
    first, last = (int_list(node, [values[index] for index in order]) for values in (starts, ends))
    return sliced(node, x, first, last, [axes[index] for index in order])


@rule("Slice", since=10)
def slice_10(node: Node) -> Value:
    """Axes are sorted; where they are known only at run time, bounds of all axes are scattered from the given ones."""
    x, starts, ends = node.input(0), node.input(1), node.input(2)
    steps = node.optional(4)
    count, rank = static_length(node, 1), rank_of(x)
    known = known_input(node, 3) if node.has_input(3) else list(range(count))
    if known_input(node, 4) == [1] * count:
        steps = None
    if known is not None:
        axes = checked_axes(node, known, rank)
        order = sorted(range(count), key=axes.__getitem__)
        starts, ends = pick(node, starts, order), pick(node, ends, order)
        steps = pick(node, steps, order) if steps is not None else None
        return sliced(node, x, starts, ends, sorted(axes), steps)
    given = node.input(3)
    starts = scattered(node, rank, 0, given, starts)
    ends = scattered(node, rank, np.iinfo(numpy_dtype(ends.type)).max, given, ends)
    steps = scattered(node, rank, 1, given, steps) if steps is not None else None
    return sliced(node, x, starts, ends, range(rank), steps)


@rule("Pad")
def pad_1(node: Node) -> Value:
    """Attributes before version 11; version 1 calls them `paddings`."""
    x = node.input(0)
    pads = node.ints("pads" if node.version >= 2 else "paddings")
    value = None
    if node.float("value", 0.0):
        value = node.constant(np.array(node.float("value")).astype(numpy_dtype(x.type)))
    return _padded(node, x, int_list(node, pads), value)


@rule("Pad", since=11)
def pad_11(node: Node) -> Value:
    """Inputs; pads of some axes only (version 18) are completed with zeros."""
    x, pads = node.input(0), node.input(1)
    rank = rank_of(x)
    if rank_of(pads) == 2:  # [1, 2 * rank] is seen in exports
        pads = reshape(node, pads, [2 * rank])
    if not node.has_input(3):
        pads = exactly(node, pads, 2 * rank)
    else:
        axes = known_input(node, 3)
        if axes is None:
            count = node.insert(ShapeOp(node.input(3), start=0, end=1)).result
            begin, end = int_list(node, [0]), node.insert(ShapeOp(pads, start=0, end=1)).result
            halves = [sliced(node, pads, *bounds, [0]) for bounds in ((begin, count), (count, end))]
            pads = concatenated(node, [scattered(node, rank, 0, node.input(3), half) for half in halves])
        else:
            front = checked_axes(node, axes, rank)
            places = int_list(node, [*front, *(rank + axis for axis in front)])
            known = known_input(node, 1)
            if known is not None:
                full = np.zeros(2 * rank, np.int64)
                full[[*front, *(rank + axis for axis in front)]] = known
                pads = int_list(node, full.tolist())
            else:
                pads = scattered(node, 2 * rank, 0, places, pads)
    return _padded(node, x, pads, node.optional(2))


def _padded(node: Node, x: Value, pads: Value, value: Value | None) -> Value:
    mode = node.string("mode", "constant")
    if mode not in movement.PAD_MODES:
        raise node.unsupported(f"pad mode {mode!r}", f"The modes are {', '.join(movement.PAD_MODES)}.")
    array = constant_array(value)
    if mode != "constant" or (array is not None and array.dtype.kind in "iuf" and array.size == 1 and array == 0):
        value = None
    if value is not None and rank_of(value):
        value = reshape(node, value, [])
    return node.insert(movement.PadOp(x, pads, value, mode=mode)).result


@rule("Tile")
def tile_1(node: Node) -> Value:
    """One axis, before version 6."""
    x = node.input(0)
    tiles, axis = as_list(node, node.input(1)), as_list(node, node.input(2))
    known_axis, known = known_input(node, 2), known_input(node, 1)
    if known is not None and known_axis is not None:
        repeats = [1] * rank_of(x)
        repeats[checked_axis(node, known_axis[0], rank_of(x))] = known[0]
        return node.insert(movement.TileOp(x, int_list(node, repeats))).result
    tiles, axis = (node.insert(CastOp(x, to=SI64)).result for x in (tiles, axis))  # they are of the input's type
    return node.insert(movement.TileOp(x, scattered(node, rank_of(x), 1, axis, tiles))).result


@rule("Tile", since=6)
def tile_6(node: Node) -> Value:
    """Repeats of every axis."""
    x = node.input(0)
    return node.insert(movement.TileOp(x, exactly(node, node.input(1), rank_of(x)))).result


@rule("DepthToSpace")
def depth_to_space(node: Node) -> Value:
    """Reshape, transpose, reshape; DCR reads channels as [block, block, channels], CRD as [channels, block, block]."""
    x, block = node.input(0), node.int("blocksize")
    batch, channels, height, width = _image(node, x)
    depth = channels // (block * block)
    if node.string("mode", "DCR") == "DCR":
        cut, order = [batch, block, block, depth, height, width], (0, 3, 4, 1, 5, 2)
    else:
        cut, order = [batch, depth, block, block, height, width], (0, 1, 4, 2, 5, 3)
    moved = transposed(node, reshape(node, x, cut), order)
    return reshape(node, moved, [batch, depth, height * block, width * block])


@rule("SpaceToDepth")
def space_to_depth(node: Node) -> Value:
    """The inverse of DepthToSpace; version 28 has its `mode` too."""
    x, block = node.input(0), node.int("blocksize")
    batch, channels, height, width = _image(node, x)
    rows, columns = height // block, width // block
    order = (0, 3, 5, 1, 2, 4) if node.string("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    moved = transposed(node, reshape(node, x, [batch, channels, rows, block, columns, block]), order)
    return reshape(node, moved, [batch, channels * block * block, rows, columns])


def _image(node: Node, x: Value) -> Sequence[Dim]:
    if rank_of(x) != 4:
        raise node.unsupported(f"an image must be [n, c, h, w], is {x.type}", "The model is malformed.")
    if node.int("blocksize") < 1:
        raise node.unsupported(f"blocks of {node.int('blocksize')}", "The model is malformed.")
    return shape_of(x)


@rule("CenterCropPad", since=18)
def center_crop_pad(node: Node) -> Value:
    """CenterCropPad(x, wanted) -> slice from half of what is too much, then pad half of what lacks, rounded down"""
    x, rank = node.input(0), rank_of(node.input(0))
    axes = checked_axes(node, node.ints("axes", range(rank)), rank)
    order = sorted(range(len(axes)), key=axes.__getitem__)
    axes = sorted(axes)
    known = known_input(node, 1)
    wanted = int_list(node, known) if known is not None else node.input(1)
    if tensor_type(wanted).element is not SI64:
        raise node.unsupported(f"a computed shape of {tensor_type(wanted).element}", "Use int64.")
    wanted = pick(node, exactly(node, wanted, len(axes)), order)
    sizes = pick(node, node.insert(ShapeOp(x, start=0, end=rank)).result, axes)
    zero, two = int_list(node, [0]), int_list(node, [2])
    excess = node.insert(MaxOp(node.insert(SubOp(sizes, wanted)).result, zero)).result
    starts = node.insert(DivOp(excess, two)).result
    ends = node.insert(SubOp(sizes, node.insert(SubOp(excess, starts)).result)).result
    # Known sizes are given: that of a slice from (max(n, 18) - 18) // 2 on is no simple expression of n.
    dims, shape = content(wanted), list(shape_of(x))
    left, made = [*shape], [*shape]
    for axis, dim in zip(axes, dims or (), strict=dims is not None):
        left[axis], made[axis] = dim_min(shape[axis], dim_max(dim, 0)), dim
    crop, whole = (None if dims is None else [tensor_type(x).with_shape(sizes)] for sizes in (left, made))
    cropped = node.insert(movement.SliceOp(x, starts, ends, None, axes=axes, result_types=crop)).result
    lack = node.insert(MaxOp(node.insert(SubOp(wanted, sizes)).result, zero)).result
    before = node.insert(DivOp(lack, two)).result
    after = node.insert(SubOp(lack, before)).result
    places = int_list(node, axes)
    pads = concatenated(node, [scattered(node, rank, 0, places, half) for half in (before, after)])
    return node.insert(movement.PadOp(cropped, pads, result_types=whole)).result


@rule("ReverseSequence", since=10)
def reverse_sequence(node: Node) -> Value:
    """Batch is axis 1 and time axis 0 by default."""
    x = node.input(0)
    batch = axis_attr(node, rank_of(x), 1, "batch_axis")
    time = axis_attr(node, rank_of(x), 0, "time_axis")
    return node.insert(movement.ReverseSequenceOp(x, node.input(1), batch_axis=batch, time_axis=time)).result


@rule("Trilu", since=14)
def trilu(node: Node) -> Value:
    """The upper triangle by default."""
    k = node.optional(1)
    if k is not None and rank_of(k):
        k = reshape(node, k, [])
    return node.insert(TriluOp(node.input(0), k, upper=bool(node.int("upper", 1)))).result
