"""Movement of elements that cancels, merges, or goes where it costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.base import ConstantOp, constant_array, shape_of, tensor_type
from stepwell.dialects.graph.convolution import ConvOp
from stepwell.dialects.graph.elementwise import ElementwiseOp
from stepwell.dialects.graph.indexing import GatherOp, known_integers
from stepwell.dialects.graph.logic import WhereOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp, SliceOp, TransposeOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp, known_scalar, product
from stepwell.ir.attributes import elements
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim, proven_equal
from stepwell.ir.rewrite import Rewriter
from stepwell.ir.types import FloatType
from stepwell.lowering.graph.matching import made_by, part_of
from stepwell.lowering.graph.simplify import simplifies


@simplifies
def merge_transposes(op: TransposeOp, rewriter: Rewriter) -> bool:
    """transpose(transpose(x, p), q) -> transpose(x, p o q)"""
    inner = made_by(op.x, TransposeOp)
    if inner is None:
        return False
    rewriter.replace_with(op, TransposeOp(inner.x, permutation=[inner.permutation[axis] for axis in op.permutation]))
    return True


@simplifies
def merge_reshapes(op: ReshapeOp, rewriter: Rewriter) -> bool:
    """reshape(reshape(x)) -> reshape(x), where the sizes are known without running"""
    inner = made_by(op.x, ReshapeOp)
    if inner is None or not _is_plain(op) or not _is_plain(inner):
        return False
    rewriter.replace_with(op, ReshapeOp(inner.x, result_types=[op.result.type]))
    return True


def _is_plain(op: ReshapeOp | ExpandOp) -> bool:
    """Whether an op's sizes do not depend on data."""
    return op.shape is None and not op.new_dims


@simplifies
def view_instead_of_transpose(op: TransposeOp, rewriter: Rewriter) -> bool:
    """transpose(x : 1x12x1x64 -> 1x1x12x64) -> reshape(x): dims of size 1 change places"""
    shape = shape_of(op.x)
    long = [axis for axis in op.permutation if shape[axis] != 1]
    if long != sorted(long):
        return False
    rewriter.replace_with(op, ReshapeOp(op.x, result_types=[op.result.type]))
    return True


@simplifies
def transpose_before_reshape(op: TransposeOp, rewriter: Rewriter) -> bool:
    """transpose(reshape(transpose(x))) -> reshape(transpose(transpose(x))), where the reshape merges dims, or splits
    dims into ones that stay neighbours: the transposes merge"""
    reshape = made_by(op.x, ReshapeOp)
    if reshape is None or not _is_plain(reshape) or not isinstance(reshape.x.defining_op, (TransposeOp, ExpandOp)):
        return False
    groups = grouped_dims(shape_of(reshape.x), shape_of(reshape.result))
    order = None if groups is None else _order_of_groups(groups, op.permutation)
    if groups is None or order is None:
        return False
    moved = rewriter.insert(TransposeOp(reshape.x, permutation=[axis for n in order for axis in groups[n][0]]))
    rewriter.replace_with(op, ReshapeOp(moved.result, result_types=[op.result.type]))
    return True


Groups = list[tuple[list[int], list[int]]]


def grouped_dims(before: Sequence[Dim], after: Sequence[Dim]) -> Groups | None:
    """The runs of dims that a reshape keeps apart, as (axes before, axes after); None where the sizes do not tell.

    2x3x4x1 -> 6x2x2  ->  [([0, 1], [0]), ([2], [1, 2]), ([3], [])]"""
    groups: Groups = []
    left, right = list(range(len(before))), list(range(len(after)))
    while left or right:
        one_left, one_right = bool(left) and before[left[0]] == 1, bool(right) and after[right[0]] == 1
        if one_left or one_right:
            groups.append(([left.pop(0)] if one_left else [], [right.pop(0)] if one_right else []))
            continue
        if not left or not right:
            return None
        group = _smallest_run(before, after, left, right)
        if group is None:
            return None
        groups.append(group)
    return groups


def _smallest_run(
    before: Sequence[Dim], after: Sequence[Dim], left: list[int], right: list[int]
) -> tuple[list[int], list[int]] | None:
    """The fewest next axes on both sides that have as many elements, taken from what is left of them."""
    for total in range(2, len(left) + len(right) + 1):
        for taken in range(max(1, total - len(right)), min(len(left), total - 1) + 1):
            a, b = left[:taken], right[: total - taken]
            if proven_equal(product([before[n] for n in a]), product([after[n] for n in b])):
                del left[: len(a)], right[: len(b)]
                return a, b
    return None


def _order_of_groups(groups: Groups, permutation: Sequence[int]) -> list[int] | None:
    """The order in which a permutation of the axes after a reshape takes the groups; None where it takes one apart."""
    rest, order = list(permutation), []
    while rest:
        number = next(n for n, (_, axes) in enumerate(groups) if rest[0] in axes)
        axes = groups[number][1]
        if rest[: len(axes)] != axes:
            return None
        order.append(number)
        rest = rest[len(axes) :]
    for number, (_, axes) in enumerate(groups):
        if not axes:  # a dim of size 1 that the reshape drops stays where it is
            order.insert(number, number)
    return order


@simplifies
def transpose_before_elementwise(op: TransposeOp, rewriter: Rewriter) -> bool:
    """transpose(f(transpose(x), c)) -> f(x, transpose(c)), where the outer one undoes the inner one and c is constant:
    what exporters of channels-last models leave between two convolutions"""
    inner = made_by(op.x, ElementwiseOp)
    if inner is None or len(inner.results) != 1 or not op.x.has_one_use:
        return False
    undone = [x for x in inner.operands if _undoes(op, x.defining_op)]
    if not undone or not all(x in undone or isinstance(x.defining_op, ConstantOp) for x in inner.operands):
        return False
    rank, moved = tensor_type(op.x).rank, {}
    for x in inner.operands:
        source: Value = x
        if x not in undone and tensor_type(x).rank > 0:
            shape = (1,) * (rank - tensor_type(x).rank) + shape_of(x)
            source = rewriter.insert(ReshapeOp.to(x, shape)).result
        if tensor_type(source).rank == rank:
            source = rewriter.insert(TransposeOp(source, permutation=list(op.permutation))).result
        moved[x] = source
    made = inner.clone(moved)
    made.results[0].type = op.result.type
    rewriter.replace_with(op, made)
    return True


def _undoes(op: TransposeOp, inner: Operation | None) -> bool:
    """Whether a transpose brings back the order of dims that another one has changed."""
    return isinstance(inner, TransposeOp) and [inner.permutation[axis] for axis in op.permutation] == sorted(
        op.permutation
    )


@simplifies
def transpose_before_expand(op: TransposeOp, rewriter: Rewriter) -> bool:
    """transpose(expand(x)) -> expand(transpose(x)): the smaller tensor is moved"""
    expand = made_by(op.x, ExpandOp)
    if expand is None or not _is_plain(expand) or not expand.result.has_one_use:
        return False
    if tensor_type(expand.x).rank != tensor_type(expand.result).rank:
        return False
    moved = rewriter.insert(TransposeOp(expand.x, permutation=list(op.permutation)))
    rewriter.replace_with(op, ExpandOp(moved.result, result_types=[op.result.type]))
    return True


@simplifies
def slice_instead_of_gather(op: GatherOp, rewriter: Rewriter) -> bool:
    """gather(x, [2, 3, 4]) -> slice(x, 2, 5), gather(x, 2) -> reshape(slice(x, 2, 3)), for constant indices"""
    size, indices = shape_of(op.x)[op.axis], known_integers(op.indices)
    if indices is None or not indices or not isinstance(size, int) or tensor_type(op.indices).rank > 1:
        return False
    places = [index + size if index < 0 else index for index in indices]
    if places != list(range(places[0], places[0] + len(places))) or places[0] < 0 or places[-1] >= size:
        return False
    bounds = [rewriter.insert(ConstantOp(value=elements(np.array([at])))).result for at in (places[0], places[-1] + 1)]
    part = rewriter.insert(SliceOp(op.x, bounds[0], bounds[1], None, axes=[op.axis])).result
    _replace_shaped(op, part, ReshapeOp, rewriter)
    return True


@simplifies
def drop_concat_of_parts(op: ConcatOp, rewriter: Rewriter) -> bool:
    """concat(split(x)) -> x, likewise for slices that lie one behind the other and together are all of x"""
    whole: Value | None = None
    end: Dim = 0
    for x in op.xs:
        found = part_of(x)
        if found is None or found[1] != op.axis or found[0] is not (whole or found[0]) or found[2] != end:
            return False
        whole, end = found[0], end + found[3]
    if whole is None or whole.type is not op.result.type:
        return False
    rewriter.replace(op, whole)
    return True


@simplifies
def choose_by_constant(op: WhereOp, rewriter: Rewriter) -> bool:
    """where(true, x, y) -> x, where(false, x, y) -> y, broadcast to the result's shape"""
    condition = constant_array(op.condition)
    if condition is None or condition.size == 0 or condition.min() != condition.max():
        return False
    chosen = op.x if condition.reshape(-1)[0] else op.y
    _replace_shaped(op, chosen, ExpandOp, rewriter)
    return True


def _replace_shaped(
    op: GatherOp | WhereOp, value: Value, shaping: type[ReshapeOp | ExpandOp], rewriter: Rewriter
) -> None:
    """Put a value for an op's result, reshaped or expanded where its type differs."""
    if value.type is op.result.type:
        rewriter.replace(op, value)
    else:
        rewriter.replace_with(op, shaping(value, result_types=[op.result.type]))


@simplifies
def pad_in_convolution(op: ConvOp, rewriter: Rewriter) -> bool:
    """conv(pad(x, p)) -> conv(x) {pads + p}, for zeros around the pixels"""
    pad = made_by(op.x, PadOp)
    pads = known_integers(pad.pads) if pad is not None else None
    rank = tensor_type(op.x).rank
    if pad is None or pads is None or pad.mode != "constant" or not _is_zero(pad) or min(pads) < 0:
        return False
    if op.padding != "explicit":
        return False
    before, after = pads[:rank], pads[rank:]
    if any(before[:2]) or any(after[:2]):
        return False
    total = [own + more for own, more in zip(op.pads, (*before[2:], *after[2:]), strict=True)]
    rewriter.replace(op, _with_pads(op, pad.x, total, rewriter))
    return True


def _with_pads(op: ConvOp, x: Value, pads: list[int], rewriter: Rewriter) -> Value:
    made = ConvOp(
        x, op.w, op.bias, strides=list(op.strides), dilations=list(op.dilations), pads=pads, groups=op.groups,
        loc=op.loc,
    )  # fmt: skip
    return rewriter.insert(made).result


def _is_zero(pad: PadOp) -> bool:
    """Whether a padding adds zeros that a convolution of floats does not tell from its own."""
    if not isinstance(tensor_type(pad.x).element, FloatType):
        return False
    return pad.value is None or known_scalar(pad.value) == 0
