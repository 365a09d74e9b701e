"""Gives values a place inside larger tensors, so that pads and concatenations move nothing.

%p = tensor.pad %x            ->  %b = tensor.border                    the border alone
                                  %c = copy of %x, at (i + low)         the inside alone
                                  %p = tensor.join %b, %c               both in one memory
%r = tensor.concat %x, %y     ->  %c = copy of %x; %d = copy of %y at (.., i + size of %x, ..); tensor.join %c, %d

A copy is fused into what makes its input, which then writes where the copy would have. For that the copy has to be the
only reader, so the others read the larger tensor (a halo, or the channels of a concatenation that they know):

%c = copy(%x) at (i + 1); reader(%x at (i))       ->  reader(%c at (i + 1))
%j = join(%c, %d); %e = copy(%j) at (i + 1)       ->  %c and %d written at (i + 1), and %j is a part of %e's memory
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.arith import typed_constant
from stepwell.dialects.tensor import (
    BorderOp,
    ConcatOp,
    ConstantOp,
    DimsAttr,
    GenericOp,
    JoinOp,
    PadOp,
    ReshapeOp,
    YieldOp,
    tensor_type,
)
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import DIM, FLOORDIV, MOD, AffineExpr, const, dim
from stepwell.ir.attributes import lazy_elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.passes import PassContext
from stepwell.ir.types import TensorType
from stepwell.lowering.tensor.layout import set_maps, split_index


def place_parts(module: Operation, context: PassContext) -> None:
    """Replace every pad and every concatenation."""
    for join in list(module.walk_of(JoinOp)):
        own_parts(join)
    copies: list[GenericOp] = []
    for op in list(module.walk()):
        if isinstance(op, PadOp) and isinstance(op.x.defining_op, ConstantOp):
            op.replace_with([padded_constant(op)])
        elif isinstance(op, PadOp):
            copies.append(place_pad(op))
        elif isinstance(op, ConcatOp):
            copies.extend(place_concat(op))
    for op in list(module.walk_of(ReshapeOp)):
        if not op.result.has_uses:
            op.erase()
    for copy in reversed(copies):  # the outermost of nested concatenations first
        if settle_join(copy) or settle_value(copy):
            context.count("values placed")
        else:
            context.remark(copy, "copied to its place: what it copies is needed elsewhere too")


def own_parts(join: JoinOp) -> None:
    """join(a, b), join(a, c)  ->  join(a, b), join(copy(a), c): what had been made for each was found to be equal"""
    for index, part in enumerate(join.parts):
        if sum(isinstance(user, JoinOp) for user in part.users) > 1:
            starts, sizes = join.box(index)
            box = shifted(AffineMap.identity(len(sizes)), starts)
            copy = copying(part, tensor_type(part), sizes, box, box)
            join.set_operand(len(join.base) + index, Builder.before(join).insert(copy).results[0])


def padded_constant(op: PadOp) -> Value:
    """pad(constant) -> constant'"""
    source = op.x.defining_op
    assert isinstance(source, ConstantOp)
    widths = list(zip(op.low, op.high, strict=True))
    outside = typed_constant(op.value)  # type: ignore[arg-type]
    value = lazy_elements(
        lambda array: np.pad(array, widths, constant_values=outside),
        [source.value], tensor_type(op.result), f"{source.result.name or 'w'}_padded",
    )  # fmt: skip
    return Builder.before(op).insert(ConstantOp(value=value)).result


def place_pad(op: PadOp) -> GenericOp:
    """pad(x) -> join(border, copy(x)); returns the copy"""
    whole = tensor_type(op.result)
    copy = placed(op.x, op, whole, op.low)
    border = BorderOp(low=op.low, high=op.high, value=op.value, result_types=[whole], loc=op.loc)
    Builder.before(maker(copy)).insert(border)
    sizes = DimsAttr(tensor_type(op.x).shape)
    join = JoinOp([border.result], list(copy.results), starts=op.low, sizes=sizes, loc=op.loc)
    Builder.before(op).insert(join)
    op.replace_with(join.results)
    return copy


def maker(copy: GenericOp) -> Operation:
    """What makes (the last part of) the value that is copied, if that happens in the same block; else the copy."""
    made = copy.inputs[0].defining_op
    while isinstance(made, JoinOp) and made.parent is copy.parent:
        made = made.parts[-1].defining_op
    return made if made is not None and made.parent is copy.parent else copy


def place_concat(op: ConcatOp) -> list[GenericOp]:
    """concat(x, y) -> join(copy(x), copy(y)); returns the copies"""
    whole = tensor_type(op.result)
    starts: list[int] = []
    copies = []
    for x, start in zip(op.xs, op.starts, strict=True):
        place = [start if axis == op.axis else 0 for axis in range(whole.rank)]
        copies.append(placed(x, op, whole, place))
        starts.extend(place)
    sizes = DimsAttr(tuple(size for x in op.xs for size in tensor_type(x).shape))
    join = JoinOp((), [copy.results[0] for copy in copies], starts=starts, sizes=sizes, loc=op.loc)
    Builder.before(op).insert(join)
    op.replace_with(join.results)
    return copies


def placed(x: Value, op: Operation, whole: TensorType, starts: Sequence[int]) -> GenericOp:
    """A copy of x into a tensor of type `whole`, right behind what makes x, or before `op`."""
    made = x.defining_op
    merged = merging_map(made) if isinstance(made, ReshapeOp) else None
    if merged is not None and isinstance(made, ReshapeOp):  # the elements are where they were before the reshape
        sizes, read, written = list(tensor_type(made.x).shape), AffineMap.identity(merged.num_dims), merged
        x = made.x
    else:
        sizes, read = space_of(x)
        written = read
    copy = copying(x, whole, sizes, read, shifted(written, starts))
    copy.loc = op.loc
    builder = Builder.after(made) if made is not None and x.owner_block is op.parent else Builder.before(op)
    return builder.insert(copy)


def copying(x: Value, whole: TensorType, sizes: Sequence[Dim], read: AffineMap, written: AffineMap) -> GenericOp:
    """A generic that copies from `read` to `written`."""
    block = Block([whole.element])
    block.append(YieldOp([block.arguments[0]]))
    return GenericOp(
        [x], (), result_types=[whole], regions=[Region([block])], sizes=DimsAttr(tuple(sizes)),
        iterators=["parallel"] * len(sizes), names=[f"d{d}" for d in range(len(sizes))], maps=[read, written],
    )  # fmt: skip


def merging_map(op: ReshapeOp) -> AffineMap | None:
    """Where a reshape that merges neighbouring dims has each element of its operand; None for other reshapes.

    [2, 3, 4, n] -> [2, 12, n]: (d0, d1, d2, d3) -> (d0, 4 * d1 + d2, d3)"""
    source, target = tensor_type(op.x).shape, tensor_type(op.result).shape
    places: list[AffineExpr] = []
    first = 0
    for size in target:
        count, place = first, const(0)
        product: Dim = 1
        while count < len(source) and (product != size or source[count] == 1):
            step = source[count]
            if product != 1 and not isinstance(step, int):
                return None
            place = place * step + dim(count) if isinstance(step, int) else dim(count)
            product, count = product * step, count + 1
        if product != size:
            return None
        places.append(place)
        first = count
    return AffineMap(len(source), 0, places) if first == len(source) else None


def space_of(x: Value) -> tuple[list[Dim], AffineMap]:
    """(sizes, map) of a space in which each element of a value has one point; the ends of blocks have none.

    written (n, c) -> (n, c floordiv 16, c mod 16): [n, c] and the same map; else the value's dims and the identity"""
    shape = list(tensor_type(x).shape)
    rank = len(shape)
    made = x.defining_op
    if not isinstance(made, GenericOp) or len(made.results) != 1 or not rank:
        return shape, AffineMap.identity(rank)
    places = made.output_maps[0].results
    ranges = [(0, n - 1 if isinstance(n, int) else None) for n in made.sizes.dims]
    atoms = [expr.terms[0][0] if len(expr.terms) == 1 else None for expr in places]
    last = atoms[-1]
    if last is None or last.kind != MOD:
        end = places[-1].bounds(ranges)[1]
        if last is not None and last.kind == DIM and isinstance(shape[-1], int) and end is not None:
            shape[-1] = min(shape[-1], end + 1)
        return shape, AffineMap.identity(rank)
    for axis, atom in enumerate(atoms):
        if atom is not None and atom.kind == FLOORDIV and atom.operand == last.operand and atom.divisor == last.divisor:
            end = atom.operand.bounds(ranges)[1]
            if end is not None:
                shape[axis] = end + 1
                blocked = AffineMap(rank - 1, 0, [dim(d) for d in range(rank - 1)])
                return shape[:-1], split_index(blocked, axis, last.divisor)
    return shape, AffineMap.identity(rank)


def shifted(map_: AffineMap, starts: Sequence[int]) -> AffineMap:
    """(.., e, ..) -> (.., e + start, ..)"""
    pairs = zip(map_.results, starts, strict=True)
    return AffineMap(map_.num_dims, map_.num_symbols, [expr + start for expr, start in pairs])


def starts_of(copy: GenericOp) -> list[int] | None:
    """Where a placed copy begins; None where it merges dims, or has others in their places."""
    if len(copy.output_maps[0].results) != len(copy.input_maps[0].results):
        return None
    pairs = zip(copy.output_maps[0].results, copy.input_maps[0].results, strict=True)
    steps = [there - here for there, here in pairs]
    return [step.constant for step in steps] if all(step.is_constant for step in steps) else None


def settle_value(copy: GenericOp) -> bool:
    """copy(x), reader(x)  ->  copy(x), reader(copy): returns whether the copy is left as the only reader of x"""
    x = copy.inputs[0]
    made = x.defining_op
    if not isinstance(made, GenericOp) or made.parent is not copy.parent or len(made.results) != 1:
        return False
    others, starts = [user for user in x.users if user is not copy], starts_of(copy)
    if not all(reads_places(user, x) for user in others) or (others and starts is None):
        return False
    if made.next is not None and made.next is not copy:
        copy.move_before(made.next)  # before all readers
    move_readers(x, copy.results[0], starts or (), copy)
    return True


def settle_join(copy: GenericOp) -> bool:
    """copy(join(a, b))  ->  join(a', b'), a and b written into the larger tensor; returns whether it was done"""
    x = copy.inputs[0]
    join = x.defining_op
    starts = starts_of(copy)
    if not isinstance(join, JoinOp) or join.parent is not copy.parent or starts is None or not can_move(join, copy):
        return False
    move_join(join, tensor_type(copy.results[0]), starts, copy)
    copy.replace_with([x])
    return True


def can_move(join: JoinOp, copy: Operation | None) -> bool:
    """Whether all that lies in a join's memory may lie in a larger one: only reads at known places see a difference."""
    if join.base:
        return False
    for value in (join.result, *join.parts):
        if not all(user in (join, copy) or reads_places(user, value) for user in value.users):
            return False
    for part in join.parts:
        made = part.defining_op
        if isinstance(made, JoinOp):
            if not can_move(made, join):
                return False
        elif not isinstance(made, GenericOp) or len(made.results) != 1:
            return False
    return True


def move_join(join: JoinOp, whole: TensorType, starts: Sequence[int], keep: Operation) -> None:
    """Let a join and its parts lie in a larger tensor from `starts` on; `keep` is left as it is."""
    for part in join.parts:
        made = part.defining_op
        if isinstance(made, JoinOp):
            move_join(made, whole, starts, join)
            continue
        assert isinstance(made, GenericOp)
        set_maps(made, [*made.input_maps, shifted(made.output_maps[0], starts)])
        part.type = whole
        move_readers(part, part, starts, join)
    count = len(join.parts)
    join.starts = [old + start for old, start in zip(join.starts, list(starts) * count, strict=True)]
    join.result.type = whole
    move_readers(join.result, join.result, starts, keep)


def reads_places(user: Operation, value: Value) -> bool:
    """Whether an op reads a value at places that its maps give."""
    return isinstance(user, GenericOp) and value not in user.sources


def move_readers(old: Value, new: Value, starts: Sequence[int], keep: Operation) -> None:
    """reader(old at (e)) -> reader(new at (e + start)), for all readers but one"""
    for user in dict.fromkeys(old.users):
        if user is keep or not isinstance(user, GenericOp):
            continue
        maps = list(user.maps)
        for index, value in enumerate(user.inputs):
            if value is old:
                maps[index] = shifted(maps[index], starts)
                user.set_operand(index, new)
        set_maps(user, maps)
