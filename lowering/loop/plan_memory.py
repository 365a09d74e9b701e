"""One arena for the intermediates of a program.

%a = buffer.alloc(%n) : memref<?x4xf32>   ->   %a = buffer.view %arena[%offset](%n) : memref<?xi8> to memref<?x4xf32>

Every buffer gets a place by its lifetime over the program's ops (see `arena`); offsets are code at the program's head,
each the largest end of the buffers below. Where sizes depend on symbols, `sw.above` says of a view which others it lies
behind, whatever they are (see `places`).

A kernel that reads and writes elements at the same index (its `sw.inplace`) writes over an input that dies there.

Where data decide a size, the program is cut: buffers whose sizes depend on it are planned by themselves, and get their
place in a segment of the heap, which is reserved where the size is known. A part is named by the last of the sizes that
its buffers depend on; the first part, whose sizes follow from the inputs, is the arena.

%k = heap.size %i upto %m {of = "k"}; %a = buffer.alloc(%k) : memref<?xf32>
->  %k = heap.size %i upto %m {of = "k"}; heap.reserve %heap[%0], %bytes; %part = heap.segment %heap[%0](%bytes)
    %a = buffer.view %part[%offset](%k) : memref<?xi8> to memref<?xf32>

What outlives the round of a loop in which its size became known has segments of its own.

%a = heap.alloc %turn(%k) {turns = 2} : memref<?xf32>
->  %n = %turn + (the first of the op's segments); heap.reserve %heap[%n], %bytes; %own = heap.segment %heap[%n](%bytes)
    %a = buffer.view %own[%0](%k) : memref<?xi8> to memref<?xf32>"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from stepwell.dialects import arith, buffer, func, heap, kernel
from stepwell.dialects.arith import constant_int
from stepwell.dialects.program_attributes import DESCRIPTOR
from stepwell.errors import PassError
from stepwell.ir.attributes import ArrayAttr, DenseArrayAttr, DictAttr, StringAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.dim_poly import TooLarge
from stepwell.ir.dims import Dim, free_symbols, unflagged
from stepwell.ir.parser import Parser
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.symbols import SymbolTable
from stepwell.ir.types import DYNAMIC, I8, I64, MemRefType, TensorType, Type, numpy_dtype
from stepwell.lowering.loop.arena import Plan, Planned, Point, at_point, lower_bound, plan_arena, points_of
from stepwell.lowering.loop.index import IndexBuilder
from stepwell.lowering.loop.lifetimes import Positions, buffer_roots, lifetimes
from stepwell.lowering.loop.places import ABOVE
from stepwell.lowering.to_loop.outline import measured_symbols

ARENA_TYPE = MemRefType((DYNAMIC,), I8)


@attrs.frozen
class PlanMemory(Pass):
    """Give every intermediate buffer of the program a place in one arena."""

    name: ClassVar[str] = "plan-memory"
    in_place: bool = True

    def run(self, module: Operation, context: PassContext) -> None:
        table = SymbolTable(module)
        for function in module.walk_of(func.FuncOp):
            if "kernel" not in function.attributes and "sw.arena" not in function.attributes:
                _Planner(function, table, context).run(self.in_place)


class _Planner:
    """The planning of one program."""

    def __init__(self, function: func.FuncOp, table: SymbolTable, context: PassContext) -> None:
        self.function = function
        self.table = table
        self.context = context
        self.places: dict[Value, Planned] = {}  # by the value of the alloc; merged buffers share one
        self.roots = buffer_roots(function)
        self.positions = Positions(function)
        self.sizes = list(function.walk_of(heap.SizeOp))
        self.born = {size.of: number for number, size in enumerate(self.sizes)}

    def run(self, in_place: bool) -> None:
        """Plan and rewrite."""
        allocs = list(self.function.walk_of(buffer.AllocOp))
        needed = lifetimes(self.function, self.roots, self.positions)
        for alloc in allocs:
            if alloc.result in needed:
                self.places[alloc.result] = Planned(buffer_bytes(alloc), *needed[alloc.result])
        if in_place:
            self._merge()
        parts: dict[heap.SizeOp | None, list[Planned]] = {None: []}
        for planned in dict.fromkeys(self.places.values()):
            parts.setdefault(self._last_size(planned.size), []).append(planned)
        hints = dict(self.context.options.get("shapes") or {})
        points = {part: points_of([b.size for b in planned], hints) for part, planned in parts.items()}
        plans = {part: plan_arena(planned, points[part]) for part, planned in parts.items()}
        self._rewrite(allocs, plans)
        self.function.attributes["sw.arena"] = StringAttr(str(plans[None].size))
        for point, words in zip(points[None], ("", " at least sizes", " at largest sizes"), strict=False):
            self._count(plans[None], point, words)

    def _count(self, plan: Plan, point: Point, words: str) -> None:
        """Into the report: the arena's size, what lives at once, and the same with every buffer aligned."""
        self.context.count(f"arena bytes{words}", at_point(plan.size, point))
        self.context.count(f"arena lower bound bytes{words}", lower_bound(plan.buffers, point))
        aligned = [attrs.evolve(planned, size=planned.room) for planned in plan.buffers]
        self.context.count(f"arena lower bound bytes, aligned{words}", lower_bound(aligned, point))

    def _last_size(self, size: Dim) -> heap.SizeOp | None:
        """The last of the sizes decided by data that a size depends on, in the order of the program."""
        numbers = [self.born[name] for name in free_symbols(size) if name in self.born]
        return self.sizes[max(numbers)] if numbers else None

    def _merge(self) -> None:
        """Let launches write over inputs that die there."""
        for op, position in self.positions.first.items():
            if isinstance(op, kernel.LaunchOp):
                for read, written in inplace_pairs(self.table.lookup(op.callee)):
                    self._try_merge(op, op.operands[read], op.operands[written], position)

    def _try_merge(self, op: Operation, read: Value, written: Value, position: int) -> None:
        source, target = self._whole(read), self._whole(written)
        if source is None or target is None or source is target or source.size != target.size:
            return
        if source.last != position or target.first != position:
            return
        if sum(self._whole(value) is source for value in op.operands) > 1:
            return
        source.last = target.last
        for value, place in self.places.items():
            if place is target:
                self.places[value] = source
        self.context.count("buffers reused in place")

    def _whole(self, value: Value) -> Planned | None:
        """The buffer that a memref is, perhaps reshaped."""
        while isinstance(value.defining_op, buffer.ReshapeOp):
            value = value.defining_op.memory
        if not isinstance(value.defining_op, buffer.AllocOp):
            return None  # a part of a buffer, or one of several
        roots = self.roots.get(value, frozenset())
        return self.places.get(next(iter(roots))) if len(roots) == 1 else None

    def _rewrite(self, allocs: Sequence[buffer.AllocOp], plans: Mapping[heap.SizeOp | None, Plan]) -> None:
        segments = [part for part in plans if part is not None]
        own = list(self.function.walk_of(heap.AllocOp))
        described = [DictAttr.of(self.function.argument_attributes(n)) for n in range(len(self.function.arguments))]
        if segments or own:
            count = len(segments) + sum(alloc.turns for alloc in own)
            heap_ = self.function.entry.add_argument(heap.heap_type(count), "heap")
            described.append(DictAttr.of({"sw.heap": UnitAttr()}))
        arena = self.function.entry.add_argument(ARENA_TYPE, "arena")
        described.append(DictAttr.of({"sw.arena": UnitAttr()}))
        self.function.properties["arg_attrs"] = ArrayAttr(tuple(described))
        self.function.update_type()
        self.symbols: dict[str, Value] = {}
        views: dict[Planned, tuple[Value, Value, tuple[int, ...]]] = {}
        for part, plan in plans.items():
            builder = Builder.at_start(self.function.entry) if part is None else Builder.after(part)
            memory: Value = arena
            if part is None:
                self._measure(plans, builder)
            else:
                memory = self._segment(IndexBuilder(builder), heap_, segments.index(part), plan)
            self._place(IndexBuilder(builder), memory, plan, views)
        for alloc in allocs:
            place = self.places.get(alloc.result)
            if place is not None:
                self._view(alloc, *views[place])
            else:
                alloc.erase()
        number = len(segments)
        for turning in own:
            self._own_segments(turning, heap_, number)
            number += turning.turns

    def _own_segments(self, alloc: heap.AllocOp, heap_: Value, first: int) -> None:
        """A view of a segment, for the turn, of those from the first on."""
        builder = Builder.before(alloc)
        index, sizes = SaturatingIndex(builder), iter(alloc.sizes)
        memory = buffer.memref_type(alloc.result)
        size = index.constant(numpy_dtype(memory).itemsize)
        for dim in memory.shape:
            size = index.mul(size, next(sizes) if dim == DYNAMIC else index.constant(dim))
        segment = index.add(alloc.turn, index.constant(first))
        builder.insert(heap.ReserveOp(heap_, segment, size, keeps=alloc.keeps, loc=alloc.loc))
        own = builder.insert(heap.SegmentOp(heap_, segment, size, result_types=[heap.SEGMENT_TYPE])).result
        view = buffer.ViewOp(own, index.constant(0), list(alloc.sizes), result_types=[memory], loc=alloc.loc)
        view.result.name = alloc.result.name
        builder.insert(view)
        alloc.replace_with([view.result])

    def _measure(self, plans: Mapping[heap.SizeOp | None, Plan], builder: Builder) -> None:
        """Code for the symbols, where any plan needs them; those that data tell are there."""
        if not all(plan.is_fixed for plan in plans.values()):
            self.symbols.update(measured_symbols(self.function, argument_types(self.function), builder))
        self.symbols.update((size.of, size.result) for size in self.sizes)

    def _segment(self, index: IndexBuilder, heap_: Value, number: int, plan: Plan) -> Value:
        """The memory of a part, reserved where its last size is known."""
        self._check_known(plan)
        size, segment = SaturatingIndex(index.builder).dim(plan.size, self.symbols), index.constant(number)
        index.builder.insert(heap.ReserveOp(heap_, segment, size))
        made = heap.SegmentOp(heap_, segment, size, result_types=[heap.SEGMENT_TYPE])
        return index.builder.insert(made).result

    def _place(
        self, index: IndexBuilder, memory: Value, plan: Plan,
        views: dict[Planned, tuple[Value, Value, tuple[int, ...]]],
    ) -> None:  # fmt: skip
        """Code for every offset, and what is told of it beside."""
        self._check_known(plan)
        offsets: list[Value] = []
        for planned in plan.buffers:
            ends = [index.add(offsets[lower.number], index.dim(lower.room, self.symbols)) for lower in planned.below]
            offsets.append(functools.reduce(index.maximum, dict.fromkeys(ends)) if ends else index.constant(0))
            above = () if plan.is_fixed else (planned.number, *(lower.number for lower in planned.below))
            views[planned] = memory, offsets[-1], above

    def _view(self, alloc: buffer.AllocOp, memory: Value, offset: Value, above: tuple[int, ...]) -> None:
        assert alloc.parent is not None
        view = buffer.ViewOp(memory, offset, list(alloc.sizes), result_types=[alloc.result.type])
        view.loc = alloc.loc
        view.attributes.update(alloc.attributes)
        if above:
            view.attributes[ABOVE] = DenseArrayAttr(I64, above)
        view.result.name = alloc.result.name
        alloc.parent.insert_before(alloc, view)
        alloc.replace_with([view.result])

    def _check_known(self, plan: Plan) -> None:
        needed = {name for planned in plan.buffers for name in free_symbols(planned.room)}
        missing = sorted(needed - self.symbols.keys())
        if missing:
            raise PassError(f"@{self.function.sym_name}: no argument tells the size {', '.join(missing)} of a buffer")


class SaturatingIndex(IndexBuilder):
    """Index arithmetic on sizes that data decide: a product that no memory holds stays a number that no memory holds,
    instead of wrapping to a small one."""

    LIMIT = 1 << 56

    def mul(self, a: Value, b: Value) -> Value:
        """min(a * b, LIMIT), for a and b that are not negative"""
        made = super().mul(a, b)
        if constant_int(made) is not None or constant_int(a) == 1 or constant_int(b) == 1:
            return made
        most, limit = self.floordiv(self.constant(self.LIMIT), self.maximum(b, self.constant(1))), self.LIMIT
        over = self.builder.insert(arith.CmpIOp(a, most, predicate="sgt")).result
        return self.builder.insert(arith.SelectOp(over, self.constant(limit), made)).result


def argument_types(function: func.FuncOp) -> list[Type]:
    """The arguments' tensor types with their symbolic dims, from `sw.tensor`; the memref types where that lacks, and of
    descriptors, which tell nothing before the run."""
    types: list[Type] = []
    for n, argument in enumerate(function.arguments):
        given = function.argument_attributes(n)
        text = None if DESCRIPTOR in given else given.get("sw.tensor")
        types.append(type_from_text(text.value) if isinstance(text, StringAttr) else argument.type)
    return types


def type_from_text(text: str) -> Type:
    """The type that a text names. Raises ParseError."""
    return Parser(text, "<type>").type()


def buffer_bytes(alloc: buffer.AllocOp) -> Dim:
    """The size of a buffer in bytes. Raises PassError where its open dims are described nowhere, or their product
    grows too large."""
    memory = buffer.memref_type(alloc.result)
    described = alloc.attributes.get("sw.tensor")
    shape: Sequence[Dim] = memory.shape
    if not memory.is_static:
        type_: Any = type_from_text(described.value) if isinstance(described, StringAttr) else None
        if not isinstance(type_, TensorType) or not _describes(type_, memory):
            raise PassError(f"{alloc.op_name} of {memory} needs its tensor type in the attribute 'sw.tensor'")
        shape = type_.shape
    size: Dim = numpy_dtype(memory).itemsize
    try:
        for dim in shape:
            size = size * dim
    except TooLarge as error:
        sizes = ", ".join(map(str, shape))
        raise PassError(f"{alloc.loc.label or 'a buffer'}: the bytes of a result of sizes {sizes}: {error}") from error
    return unflagged(size)


def _describes(type_: TensorType, memory: MemRefType) -> bool:
    sizes = tuple(dim if isinstance(dim, int) else DYNAMIC for dim in type_.shape)
    return sizes == memory.shape and numpy_dtype(type_) == numpy_dtype(memory)


def inplace_pairs(function: Operation | None) -> list[tuple[int, int]]:
    """(input, output) arguments of a kernel that may be the same memory, from its attribute `sw.inplace`."""
    attribute = function.attributes.get("sw.inplace") if function is not None else None
    if not isinstance(attribute, ArrayAttr):
        return []
    return [(pair.values[0], pair.values[1]) for pair in attribute if isinstance(pair, DenseArrayAttr)]
