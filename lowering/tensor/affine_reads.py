"""Makes guarded reads of a reduction plain inputs, and lays what a reduction reads in windows out in rows.

generic %a, sources %t { tensor.read %t[d4, d2, d3 - d1] else 0 }
->  %p = copy of %t with a border of 0, laid out as [d2, d4, d3 - d1]; generic %a, %p at (d2, d4, d3 - d1 + 3)

A guard in the innermost loop costs a mask for every load, and hides from the cost model that neighbouring points read
the same elements. It goes where the places are sums of multiples of dims, so that a border of constant width takes all
of those outside, and where each element of the padded copy is read several times.

A reduction that reads along a sum of parallel dims reads each row again and again, at many displacements. What it reads
at one place of the other dims is made to lie together, reduced dims and all, so that it stays in the first-level cache:
rows far apart, at distances of a power of two above all, would drive each other out of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith
from stepwell.dialects.tensor import (
    ConstantOp,
    DimsAttr,
    GenericOp,
    IndexOp,
    KernelOp,
    PadOp,
    ReadOp,
    YieldOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.attributes import Attribute, FloatAttr, IntegerAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, BlockArgument, Operation, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.tensor.layout import set_maps
from stepwell.lowering.tensor.maps import window_dims
from stepwell.lowering.tensor.place import copying
from stepwell.lowering.tensor.sizes import size_of

LEAST_READS = 4  # of each element of a padded copy


@attrs.frozen
class AffineReads(Pass):
    """Pad what a reduction reads under a guard, so that it reads it as it reads its inputs."""

    name: ClassVar[str] = "affine-reads"

    def run(self, module: Operation, context: PassContext) -> None:
        for op in list(module.walk_of(GenericOp)):
            if op.has_reduction and not isinstance(op.parent_op, KernelOp):
                op, count = pad_reads(op)
                context.count("guarded reads padded", count)
                context.count("operands laid out in rows", lay_out_rows(op))


def pad_reads(op: GenericOp) -> tuple[GenericOp, int]:
    """Make all reads of a reduction inputs that can be; returns the reduction and how many were."""
    count = 0
    while (read := next(filter(None, (affine_read(r, op) for r in op.walk_of(ReadOp))), None)) is not None:
        op = with_input(op, read)
        count += 1
    return op, count


@attrs.frozen
class AffineRead:
    """A read of a source, the places that it goes through, and the border that takes those outside."""

    op: ReadOp
    places: Sequence[AffineExpr]
    low: Sequence[int]
    high: Sequence[int]
    otherwise: Attribute


def affine_read(read: ReadOp, op: GenericOp) -> AffineRead | None:
    """How a read of a reduction becomes an input; None where it cannot, or where that would cost more than it saves."""
    otherwise = read.otherwise.defining_op
    source = read.source
    if not isinstance(otherwise, arith.ConstantOp) or not isinstance(otherwise.value, (FloatAttr, IntegerAttr)):
        return None
    if not isinstance(source, BlockArgument) or source.block is not op.body.block:
        return None
    places = [place_of(value) for value in read.indices]
    shape = tensor_type(source).shape
    borders = [border(place, size, op.sizes.dims) for place, size in zip(places, shape, strict=True)]
    known = [place for place in places if place is not None]
    widths = [width for width in borders if width is not None]
    if len(known) < len(places) or len(widths) < len(borders):
        return None
    padded = math.prod(size_of(n) + low + high for n, (low, high) in zip(shape, widths, strict=True))
    if padded * LEAST_READS > math.prod(map(size_of, op.sizes.dims)):
        return None
    return AffineRead(read, known, [low for low, _ in widths], [high for _, high in widths], otherwise.value)


def place_of(value: Value) -> AffineExpr | None:
    """An index of a body as an expression of the dims; None where it is not one."""
    op = value.defining_op
    if isinstance(op, IndexOp):
        return dim(op.dim)
    if isinstance(op, arith.ConstantOp) and isinstance(op.value, IntegerAttr):
        return const(int(op.value.value))
    if isinstance(op, (arith.AddIOp, arith.SubIOp, arith.MulIOp)):
        a, b = place_of(op.lhs), place_of(op.rhs)
        if a is None or b is None or (isinstance(op, arith.MulIOp) and not (a.is_constant or b.is_constant)):
            return None
        return a + b if isinstance(op, arith.AddIOp) else a - b if isinstance(op, arith.SubIOp) else a * b
    return None


def border(place: AffineExpr | None, size: Dim, dims: Sequence[Dim]) -> tuple[int, int] | None:
    """How far an index goes below 0 and beyond an axis' last element; None where that is not constant.

    d3 - d1 for d3 < w, d1 < 4 on an axis of w  ->  (3, 0)"""
    form = place.linear_form() if place is not None else None
    if form is None:
        return None
    factors, constant = form
    lowest: Dim = constant
    beyond: Dim = constant + 1 - size
    for d, factor in factors.items():
        if factor < 0:
            lowest = lowest + factor * (dims[d] - 1)
        else:
            beyond = beyond + factor * (dims[d] - 1)
    if not isinstance(lowest, int) or not isinstance(beyond, int):
        return None
    return max(0, -lowest), max(0, beyond)


def with_input(op: GenericOp, read: AffineRead) -> GenericOp:
    """The reduction with one of its reads made an input; a source that is not read any more goes."""
    source = read.op.source
    assert isinstance(source, BlockArgument)
    position = len(op.inputs)
    value = op.sources[source.index - position]
    builder = Builder.before(op)
    if any((*read.low, *read.high)):
        pad = PadOp(value, low=read.low, high=read.high, value=read.otherwise, loc=op.loc)
        value = builder.insert(pad).result
    argument = op.body.block.insert_argument(position, tensor_type(value).element)
    read.op.replace_with([argument])
    sources = list(op.sources)
    if not source.has_uses:
        del sources[source.index - position - 1]
        op.body.block.erase_argument(source.index)
    places = [place + low for place, low in zip(read.places, read.low, strict=True)]
    made = GenericOp(
        [*op.inputs, value], sources, result_types=[r.type for r in op.results],
        regions=[region.clone({}) for region in op.regions], sizes=op.sizes, iterators=list(op.iterators),
        maps=[*op.input_maps, AffineMap(len(op.iterators), 0, places), *op.output_maps], names=list(op.names),
        identities=list(op.identities), stage=op.stage, loc=op.loc,
    )  # fmt: skip
    builder.insert(made)
    op.replace_with(made.results)
    return made


def lay_out_rows(op: GenericOp) -> int:
    """Copy what a reduction in windows reads along their dims into rows; returns how many operands were."""
    columns = window_dims(op)
    count = 0
    for index, value in enumerate(op.inputs):
        order = rows_first(op, index, columns)
        if order is not None and math.prod(map(size_of, op.sizes.dims)) >= LEAST_READS * _elements(value):
            permutation = AffineMap.permutation(order)
            pad = value.defining_op
            padded = pad if isinstance(pad, PadOp) and value.has_one_use else None
            copy = padded_copy(padded) if padded is not None else plain_copy(value)
            maps = list(copy.maps)
            set_maps(copy, [*maps[:-1], permutation.compose(maps[-1])])
            type_ = tensor_type(value)
            copy.results[0].type = type_.with_shape([type_.shape[axis] for axis in order])
            copy.loc = op.loc
            Builder.before(op).insert(copy)
            maps = list(op.maps)
            maps[index] = permutation.compose(maps[index])
            op.set_operand(index, copy.results[0])
            set_maps(op, maps)
            if padded is not None:
                padded.erase()
            count += 1
    return count


def rows_first(op: GenericOp, index: int, columns: set[int]) -> list[int] | None:
    """The order of an operand's axes in which those of parallel dims come first, then those of reduced ones, then the
    one along the window; None where it has that order already, or does not run along the window."""
    places = op.input_maps[index].results
    if not places or not places[-1].dims & columns or isinstance(op.inputs[index].defining_op, ConstantOp):
        return None
    reduced = [any(op.iterators[d] != "parallel" for d in place.dims) for place in places]
    axes = range(len(places) - 1)
    order = [axis for axis in axes if not reduced[axis]] + [axis for axis in axes if reduced[axis]]
    return [*order, len(places) - 1] if any(reduced[axis] for axis in axes) else None


def _elements(value: Value) -> int:
    return math.prod(map(size_of, tensor_type(value).shape))


def plain_copy(value: Value) -> GenericOp:
    """The generic that copies a tensor as it is."""
    type_ = tensor_type(value)
    identity = AffineMap.identity(type_.rank)
    return copying(value, type_, type_.shape, identity, identity)


def padded_copy(op: PadOp) -> GenericOp:
    """The generic that reads what is padded under a guard, element by element of the result."""
    result = tensor_type(op.result)
    block = Block([op.x.type])
    builder = Builder.at_end(block)
    places = []
    for axis, low in enumerate(op.low):
        place = builder.insert(IndexOp(dim=axis)).result
        if low:
            shift = builder.insert(arith.index_constant(low)).result
            place = builder.insert(arith.SubIOp(place, shift)).result
        places.append(place)
    value = op.value
    assert isinstance(value, (FloatAttr, IntegerAttr))
    border_value = builder.insert(arith.ConstantOp(value=value)).result
    read = builder.insert(ReadOp(block.arguments[0], places, border_value)).result
    builder.insert(YieldOp([read]))
    return GenericOp(
        (), [op.x], result_types=[result], regions=[Region([block])], sizes=DimsAttr(result.shape),
        iterators=["parallel"] * result.rank, names=[f"d{d}" for d in range(result.rank)],
        maps=[AffineMap.identity(result.rank)],
    )  # fmt: skip
