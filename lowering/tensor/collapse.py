"""Merges dims that every op of a kernel walks together, so that loops are long and vectors are full.

generic over (n, c, h, w), all tensors read at (n, c, h, w)  ->  generic over (n, c, h*w) on reshaped tensors
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects.tensor import DimsAttr, GenericOp, IndexOp, KernelOp, ReshapeOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import is_dead
from stepwell.ir.types import TensorType
from stepwell.lowering.precision import is_strict
from stepwell.lowering.tensor.layout import set_maps

Pair = tuple[int, int]


@attrs.frozen
class CollapseDims(Pass):
    """Merge dims of kernels that lie together in memory everywhere."""

    name: ClassVar[str] = "collapse-dims"

    def run(self, module: Operation, context: PassContext) -> None:
        for kernel in module.walk_of(KernelOp):
            context.count("dims collapsed", collapse_kernel(kernel))


def collapse_kernel(kernel: KernelOp) -> int:
    """Merge all dims of one kernel that can be; returns how often two became one."""
    for op in kernel.body.block:
        if isinstance(op, GenericOp):
            drop_unit_terms(op)
    count = 0
    while collapse_one(kernel):
        count += 1
    return count


def drop_unit_terms(op: GenericOp) -> None:
    """x[oh + kh] with one kh  ->  x[oh]"""
    units = {d for d, size in enumerate(op.sizes.dims) if size == 1}
    if not units:
        return
    rank = len(op.iterators)
    exprs: list[AffineExpr] = [const(0) if d in units else dim(d) for d in range(rank)]
    maps = []
    for map_ in op.maps:
        pairs = zip(map_.results, map_.replace_dims(exprs, rank).results, strict=True)
        maps.append(AffineMap(rank, 0, [old if old.dim_index is not None else new for old, new in pairs]))
    set_maps(op, maps)


@attrs.frozen
class Choice:
    """For each op the pair of dims, and for each tensor the axis, that are merged together."""

    dims: dict[GenericOp, Pair]
    axes: dict[Value, int]


def collapse_one(kernel: KernelOp) -> bool:
    """Merge one pair of dims throughout the kernel; returns whether there was one."""
    reached = Reached.of([op for op in kernel.body.block if isinstance(op, GenericOp)])
    for op in reached.tensors:
        for first, second in neighbours(op):
            if op.iterators[first] == op.iterators[second] and may_merge(op, first, second):
                choice = spread(op, (first, second), reached)
                if choice is not None and choice.axes:
                    apply(choice, kernel)
                    return True
    return False


def neighbours(op: GenericOp) -> list[Pair]:
    """The pairs of dims that are behind each other in some operand or result."""
    pairs = {pair for map_ in op.maps for pair in itertools.pairwise(map_.dim_results())}
    return sorted((a, b) for a, b in pairs if a is not None and b is not None and a != b)


def may_merge(op: GenericOp, first: int, second: int) -> bool:
    """Whether two dims may become one: in strict arithmetic reduced ones stay in their order."""
    if op.iterators[first] == "parallel" or not is_strict(op):
        return True
    return first < second and all(kind == "parallel" for kind in op.iterators[first + 1 : second])


@attrs.frozen
class Reached:
    """The tensors that each generic of a kernel reads or writes, with its maps; for each tensor the generics that do,
    and those that are read at computed places."""

    tensors: dict[GenericOp, list[tuple[Value, AffineMap]]]
    generics: dict[Value, list[tuple[GenericOp, AffineMap]]]
    sources: set[Value]

    @staticmethod
    def of(generics: Sequence[GenericOp]) -> Reached:
        """Of all generics of a kernel."""
        made = Reached({}, {}, {value for op in generics for value in op.sources})
        for op in generics:
            made.tensors[op] = list(zip((*op.inputs, *op.results), op.maps, strict=True))
            for value, map_ in made.tensors[op]:
                made.generics.setdefault(value, []).append((op, map_))
        return made


def spread(op: GenericOp, pair: Pair, reached: Reached) -> Choice | None:
    """What has to be merged along with a pair of one op's dims; None where some op does not allow it."""
    choice = Choice({op: pair}, {})
    pending = [op]
    while pending:
        current = pending.pop()
        if any(inner.dim in choice.dims[current] for inner in current.walk_of(IndexOp)):
            return None
        for value, map_ in reached.tensors[current]:
            found = merged_axis(current, choice.dims[current], map_, tensor_type(value))
            if found is None:
                return None
            if found < 0:
                if value in choice.axes:
                    return None
                continue
            if value in reached.sources or choice.axes.setdefault(value, found) != found:
                return None
            for other, their_map in reached.generics[value]:
                dims = their_map.results[found].dim_index, their_map.results[found + 1].dim_index
                if dims[0] is None or dims[1] is None:
                    return None
                if other not in choice.dims:
                    choice.dims[other] = (dims[0], dims[1])
                    pending.append(other)
                elif choice.dims[other] != dims:
                    return None
    return choice


def merged_axis(op: GenericOp, pair: Pair, map_: AffineMap, type_: TensorType) -> int | None:
    """The axis at which a tensor has both dims, one behind the other and whole; -1 where it has neither; else None."""
    first, second = pair
    if not map_.used_dims() & {first, second}:
        return -1
    sizes = op.sizes.dims
    for axis in range(len(map_.results) - 1):
        if map_.results[axis] == dim(first) and map_.results[axis + 1] == dim(second):
            rest = [*map_.results[:axis], *map_.results[axis + 2 :]]
            if any(expr.dims & {first, second} for expr in rest):
                return None
            return axis if type_.shape[axis] == sizes[first] and type_.shape[axis + 1] == sizes[second] else None
    return None


def merged_type(type_: TensorType, axis: int) -> TensorType:
    """[.., a, b, ..] -> [.., a * b, ..]"""
    shape = type_.shape
    return type_.with_shape([*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]])


def apply(choice: Choice, kernel: KernelOp) -> None:
    """Rewrite ops and tensors; the kernel's own inputs and results keep their shapes."""
    originals = {value: tensor_type(value) for value in choice.axes}
    for value, axis in choice.axes.items():
        type_ = merged_type(originals[value], axis)
        if not isinstance(value.defining_op, GenericOp):
            first = next(op for op in kernel.body.block if op in set(value.users))
            whole = value.defining_op.x if isinstance(value.defining_op, ReshapeOp) else value
            view = Builder.before(first).insert(ReshapeOp(whole, result_types=[type_]))
            for user, index in value.uses:
                if user is not view and user in choice.dims:
                    user.set_operand(index, view.result)
        else:
            value.type = type_
    for op, pair in choice.dims.items():
        _merge_dims(op, pair)
    for inner in reversed(list(kernel.body.block)):
        if is_dead(inner):
            inner.erase()
    for value, original in originals.items():
        for user, index in value.uses:
            if isinstance(value.defining_op, GenericOp) and not isinstance(user, (GenericOp, ReshapeOp)):
                view = Builder.before(user).insert(ReshapeOp(value, result_types=[original]))
                user.set_operand(index, view.result)


def _merge_dims(op: GenericOp, pair: Pair) -> None:
    first, second = pair
    rank = len(op.iterators)
    exprs: list[AffineExpr] = [dim(d - (d > second)) for d in range(rank)]
    maps = []
    for map_ in op.maps:
        results = [expr for expr in map_.results if expr != dim(second)]
        maps.append(AffineMap(rank, 0, results).replace_dims(exprs, rank - 1))
    sizes, names = list(op.sizes.dims), list(op.names)
    sizes[first] = sizes[first] * sizes[second]
    names[first] = names[first] + names[second]
    op.sizes = DimsAttr(tuple(n for d, n in enumerate(sizes) if d != second))
    op.iterators = [kind for d, kind in enumerate(op.iterators) if d != second]
    op.names = [name for d, name in enumerate(names) if d != second]
    _shift_indices(op, second)
    set_maps(op, maps)


def _shift_indices(op: GenericOp, removed: int) -> None:
    for inner in op.walk_of(IndexOp):
        if inner.dim > removed:
            inner.dim = inner.dim - 1
