"""Buffers: what stands for a memref, addresses, and the ops that read and write memory.

An address is base + sum of index * stride. The terms are grouped by the scope in which they are known, so that each
group is computed once, outside the loops it does not depend on; the constant part comes last, as an offset that
instruction selection folds into the access. Address arithmetic wraps; nothing here is `inbounds`, since a rebased
buffer starts outside its memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from stepwell.dialects import arith, buffer, vector
from stepwell.dialects.arith import constant_int
from stepwell.errors import TargetError
from stepwell.ir.core import Value
from stepwell.ir.types import DYNAMIC, IntegerType, MemRefType, StridedLayout, Type, element_of

from .function import FunctionEmitter, emits
from .types import dynamic_layout, element_bytes, lane_count, memory_type, register_type, scalar_type, vector_of

SCRATCH_ALIGNMENT = 64

Factors = tuple[str, ...]  # registers that are multiplied, sorted; () is the constant 1
Terms = Mapping[Factors, int]  # a sum of products with integer coefficients, in elements


@attrs.frozen(eq=False)
class Memory:
    """What stands for a memref: a pointer and a size per dim (None: not known here). The buffer starts `origin`
    elements after the pointer."""

    type: MemRefType
    base: str
    sizes: Sequence[int | str | None]
    strides: Sequence[Terms]
    origin: Terms = attrs.field(factory=dict)

    @staticmethod
    def dense(type_: MemRefType, base: str, sizes: Sequence[int | str | None]) -> Memory:
        """A row-major buffer."""
        strides: list[Terms] = []
        factor = 1
        registers: Factors = ()
        for size in reversed(sizes):
            strides.append({registers: factor})
            if isinstance(size, int):
                factor *= size
            else:
                registers = tuple(sorted((*registers, size or "")))
        return Memory(type_, base, sizes, strides[::-1])

    @staticmethod
    def from_registers(type_: MemRefType, registers: Sequence[str]) -> Memory:
        """The buffer that `types.parameter_types` lays out."""
        base, *rest = registers
        sizes = [rest.pop(0) if dim == DYNAMIC else dim for dim in type_.shape]
        open_parts = dict(zip(dynamic_layout(type_), rest, strict=True))
        if not isinstance(type_.layout, StridedLayout):
            return Memory.dense(type_, base, sizes)
        strides = [
            _known_or(stride, open_parts[axis] if stride == DYNAMIC else "")
            for axis, stride in enumerate(type_.layout.strides)
        ]
        origin = _known_or(type_.layout.offset, open_parts.get(-1, ""))
        return Memory(type_, base, sizes, strides, origin)

    def registers(self, e: FunctionEmitter) -> list[str]:
        """The inverse of `from_registers`; what stands before the buffer's start goes into the pointer."""
        open_sizes = [
            self._known(size) for size, dim in zip(self.sizes, self.type.shape, strict=True) if dim == DYNAMIC
        ]
        fixed = self.type.layout.offset if isinstance(self.type.layout, StridedLayout) else 0
        shift = 0 if fixed == DYNAMIC else fixed
        base = displaced(e, self, merged(self.origin, {(): -shift}))
        open_layout = [product(e, self.strides[axis]) if axis >= 0 else "0" for axis in dynamic_layout(self.type)]
        return [base, *open_sizes, *open_layout]

    def _known(self, size: int | str | None) -> str:
        if size is None:
            raise TargetError(f"a size of a buffer of type {self.type} is not known here")
        return str(size)

    @property
    def last_is_contiguous(self) -> bool:
        """Whether neighbours along the last dim are neighbours in memory."""
        return bool(self.strides) and self.strides[-1] == {(): 1}


def _known_or(count: int, register: str) -> Terms:
    return {(register,): 1} if count == DYNAMIC else {(): count}


def merged(*sums: Terms, factor: int = 1) -> dict[Factors, int]:
    """The first sum plus `factor` times the others."""
    total = dict(sums[0])
    for terms in sums[1:]:
        for factors, count in terms.items():
            total[factors] = total.get(factors, 0) + factor * count
    return {factors: count for factors, count in total.items() if count}


def index_terms(e: FunctionEmitter, value: Value) -> Terms:
    """An index as a sum. Sums are taken apart where one part is constant or known further out than the other."""
    constant = constant_int(value)
    if constant is not None:
        return {(): constant}
    op = value.defining_op
    if isinstance(op, (arith.AddIOp, arith.SubIOp)):
        parts_differ = e.depth(e.value(op.lhs)) != e.depth(e.value(op.rhs))
        if parts_differ or constant_int(op.lhs) is not None or constant_int(op.rhs) is not None:
            sign = 1 if isinstance(op, arith.AddIOp) else -1
            return merged(index_terms(e, op.lhs), index_terms(e, op.rhs), factor=sign)
    if isinstance(op, arith.MulIOp):
        for one, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            scale = constant_int(other)
            if scale is not None:
                return merged({}, index_terms(e, one), factor=scale)
    return {(e.value(value),): 1}


def element_terms(e: FunctionEmitter, memory: Memory, indices: Iterable[Value]) -> Terms:
    """How many elements lie between the pointer and an indexed element."""
    total: Terms = memory.origin
    for index, stride in zip(indices, memory.strides, strict=False):
        scaled: dict[Factors, int] = {}
        for mine, count in index_terms(e, index).items():
            for theirs, factor in stride.items():
                key = tuple(sorted((*mine, *theirs)))
                scaled[key] = scaled.get(key, 0) + count * factor
        total = merged(total, scaled)
    return total


def product(e: FunctionEmitter, terms: Terms) -> str:
    """A sum as a register or constant."""
    total = ""
    for factors, count in terms.items():
        text = ""
        for register in sorted(factors, key=e.depth):
            text = e.pure(f"mul i64 {text}, {register}", text, register) if text else register
        if count != 1 or not text:
            text = e.pure(f"mul i64 {text}, {count}", text) if text else str(count)
        total = e.pure(f"add i64 {total}, {text}", total, text) if total else text
    return total or "0"


def displaced(e: FunctionEmitter, memory: Memory, terms: Terms) -> str:
    """The pointer, so many elements on."""
    element = memory_type(memory.type.element)
    groups: dict[int, dict[Factors, int]] = {}
    for factors, count in terms.items():
        if factors and count:
            groups.setdefault(max(e.depth(register) for register in factors), {})[factors] = count
    pointer = memory.base
    for _, group in sorted(groups.items()):
        offset = product(e, group)
        pointer = e.pure(f"getelementptr {element}, ptr {pointer}, i64 {offset}", pointer, offset)
    constant = terms.get((), 0)
    if constant:
        pointer = e.emit(f"getelementptr {element}, ptr {pointer}, i64 {constant}")
    return pointer


def address(e: FunctionEmitter, base: Value, indices: Sequence[Value], *, run: bool = False) -> str:
    """A pointer to an element; with `run`, to the first of several along the last dim."""
    memory = e.memory[base]
    if run and not memory.last_is_contiguous:
        raise TargetError(f"vectors of {memory.type} are not contiguous")
    return displaced(e, memory, element_terms(e, memory, indices))


# What memory holds and what registers hold


def to_register(e: FunctionEmitter, text: str, element: Type, lanes: int | None) -> str:
    """A loaded value in its register type."""
    stored, held = vector_of(memory_type(element), lanes), vector_of(scalar_type(element), lanes)
    if stored == held:
        return text
    if isinstance(element, IntegerType) and element.width == 1:
        return e.emit(f"icmp ne {stored} {text}, zeroinitializer" if lanes else f"icmp ne {stored} {text}, 0")
    return e.emit(f"trunc {stored} {text} to {held}")


def to_memory(e: FunctionEmitter, value: Value) -> str:
    """`<16 x i8> %3`: a value as it is stored."""
    element, lanes = element_of(value.type), lane_count(value.type)
    stored, held = vector_of(memory_type(element), lanes), register_type(value.type)
    text = e.value(value)
    return f"{stored} {text if stored == held else e.emit(f'zext {held} {text} to {stored}')}"


def stored_type(type_: Type) -> str:
    """The memory type of a scalar or vector value."""
    return vector_of(memory_type(element_of(type_)), lane_count(type_))


def suffix(type_: Type) -> str:
    """The part of an intrinsic's name that says what it moves: `v16f32.p0`."""
    element, lanes = memory_type(element_of(type_)), lane_count(type_)
    return f"v{lanes}{ {'float': 'f32', 'double': 'f64'}.get(element, element) }"


@emits(buffer.LoadOp)
def load(e: FunctionEmitter, op: buffer.LoadOp) -> None:
    """One element."""
    pointer, element = address(e, op.memory, op.indices), op.result.type
    loaded = e.emit(f"load {memory_type(element)}, ptr {pointer}, align {element_bytes(element)}")
    e.bind(op.result, to_register(e, loaded, element, None))


@emits(buffer.StoreOp)
def store(e: FunctionEmitter, op: buffer.StoreOp) -> None:
    """One element."""
    pointer, stored = address(e, op.memory, op.indices), to_memory(e, op.value)
    e.line(f"store {stored}, ptr {pointer}, align {element_bytes(op.value.type)}")


@emits(vector.LoadOp)
def vector_load(e: FunctionEmitter, op: vector.LoadOp) -> None:
    """Consecutive elements."""
    pointer, element = address(e, op.base, op.indices, run=True), element_of(op.result.type)
    loaded = e.emit(f"load {stored_type(op.result.type)}, ptr {pointer}, align {element_bytes(element)}")
    e.bind(op.result, to_register(e, loaded, element, lane_count(op.result.type)))


@emits(vector.StoreOp)
def vector_store(e: FunctionEmitter, op: vector.StoreOp) -> None:
    """Consecutive elements."""
    pointer, stored = address(e, op.base, op.indices, run=True), to_memory(e, op.value)
    e.line(f"store {stored}, ptr {pointer}, align {element_bytes(element_of(op.value.type))}")


@emits(vector.MaskedLoadOp)
def masked_load(e: FunctionEmitter, op: vector.MaskedLoadOp) -> None:
    """Consecutive elements under a mask."""
    type_, element = op.result.type, element_of(op.result.type)
    stored = stored_type(type_)
    pointer, passed = address(e, op.base, op.indices, run=True), to_memory(e, op.pass_thru)
    loaded = e.intrinsic(
        f"llvm.masked.load.{suffix(type_)}.p0", stored, ("ptr", pointer), ("i32", str(element_bytes(element))),
        (register_type(op.mask.type), e.value(op.mask)), (stored, passed.removeprefix(stored + " ")),
    )  # fmt: skip
    e.bind(op.result, to_register(e, loaded, element, lane_count(type_)))


def lone_lane(mask: str) -> int | None:
    """The one lane of a constant mask, `<i1 true, i1 false>`; None of any other one."""
    lanes = mask.strip("<>").split(", ")
    return lanes.index("i1 true") if lanes.count("i1 true") == 1 else None


@emits(vector.MaskedStoreOp)
def masked_store(e: FunctionEmitter, op: vector.MaskedStoreOp) -> None:
    """Consecutive elements under a mask; a lone lane by itself: LLVM 22 has x86 store four bytes of an element that was
    truncated to two."""
    type_ = op.value.type
    stored = stored_type(type_)
    pointer, given = address(e, op.base, op.indices, run=True), to_memory(e, op.value)
    lane = lone_lane(e.value(op.mask))
    if lane is not None:
        element = memory_type(element_of(type_))
        one = e.emit(f"extractelement {given}, i64 {lane}")
        place = e.emit(f"getelementptr {element}, ptr {pointer}, i64 {lane}") if lane else pointer
        e.line(f"store {element} {one}, ptr {place}, align {element_bytes(element_of(type_))}")
        return
    e.effect(
        f"llvm.masked.store.{suffix(type_)}.p0", (stored, given.removeprefix(stored + " ")), ("ptr", pointer),
        ("i32", str(element_bytes(element_of(type_)))), (register_type(op.mask.type), e.value(op.mask)),
    )  # fmt: skip


@emits(vector.GatherOp)
def gather(e: FunctionEmitter, op: vector.GatherOp) -> None:
    """Elements at per-lane positions along the last dim."""
    type_, element, lanes = op.result.type, element_of(op.result.type), lane_count(op.result.type)
    memory = e.memory[op.base]
    pointer, stored = address(e, op.base, op.offsets), stored_type(type_)
    positions, index = register_type(op.index_vec.type), e.value(op.index_vec)
    if not memory.last_is_contiguous:
        stride = product(e, memory.strides[-1])
        splat = broadcast(e, "i64", stride, lanes)
        wide = index if positions == f"<{lanes} x i64>" else e.emit(f"sext {positions} {index} to <{lanes} x i64>")
        positions, index = f"<{lanes} x i64>", e.emit(f"mul <{lanes} x i64> {wide}, {splat}")
    pointers = e.emit(f"getelementptr {memory_type(element)}, ptr {pointer}, {positions} {index}")
    loaded = e.intrinsic(
        f"llvm.masked.gather.{suffix(type_)}.v{lanes}p0", stored, (f"<{lanes} x ptr>", pointers),
        ("i32", str(element_bytes(element))), (register_type(op.mask.type), e.value(op.mask)),
        (stored, to_memory(e, op.pass_thru).removeprefix(stored + " ")),
    )  # fmt: skip
    e.bind(op.result, to_register(e, loaded, element, lanes))


def broadcast(e: FunctionEmitter, scalar: str, text: str, lanes: int | None) -> str:
    """A scalar in all lanes (itself where there are none)."""
    if lanes is None:
        return text
    if not text.startswith("%"):
        return f"splat ({scalar} {text})"
    type_ = f"<{lanes} x {scalar}>"
    first = e.emit(f"insertelement {type_} poison, {scalar} {text}, i64 0")
    return e.emit(f"shufflevector {type_} {first}, {type_} poison, <{lanes} x i32> zeroinitializer")


# Buffers made from buffers


def _full_sizes(e: FunctionEmitter, type_: MemRefType, sizes: Sequence[Value]) -> list[int | str | None]:
    rest = iter(sizes)
    full: list[int | str | None] = []
    for dim in type_.shape:
        size = next(rest) if dim == DYNAMIC else None
        constant = constant_int(size) if size is not None else dim
        full.append(constant if constant is not None or size is None else e.value(size))
    return full


def _made(e: FunctionEmitter, value: Value, base: str, sizes: Sequence[Value]) -> None:
    type_ = buffer.memref_type(value)
    if type_.layout is not None:
        raise TargetError(f"{type_}: this op makes dense buffers only")
    e.memory[value] = Memory.dense(type_, base, _full_sizes(e, type_, sizes))


@emits(buffer.DimOp)
def dim(e: FunctionEmitter, op: buffer.DimOp) -> None:
    """A size that is at hand."""
    size = e.memory[op.memory].sizes[op.axis]
    if size is None:
        raise TargetError(f"size {op.axis} of %{op.memory.name or '?'} is not known here")
    e.bind(op.result, str(size))


@emits(buffer.ViewOp)
def view(e: FunctionEmitter, op: buffer.ViewOp) -> None:
    """A place in the arena."""
    arena, offset = e.memory[op.arena], e.value(op.offset)
    start = e.pure(f"getelementptr i8, ptr {arena.base}, i64 {offset}", arena.base, offset)
    _made(e, op.result, start, op.sizes)


@emits(buffer.ReshapeOp)
def reshape(e: FunctionEmitter, op: buffer.ReshapeOp) -> None:
    """The same pointer."""
    memory = e.memory[op.memory]
    _made(e, op.result, displaced(e, memory, memory.origin), op.sizes)


@emits(buffer.RoomOp)
def room(e: FunctionEmitter, op: buffer.RoomOp) -> None:
    """The same pointer."""
    _made(e, op.result, e.memory[op.memory].base, op.sizes)


@emits(buffer.SliceOp)
def row(e: FunctionEmitter, op: buffer.SliceOp) -> None:
    """The pointer moves on by whole rows."""
    memory = e.memory[op.memory]
    start = displaced(e, memory, element_terms(e, memory, [op.place]))
    e.memory[op.result] = Memory(buffer.memref_type(op.result), start, memory.sizes[1:], memory.strides[1:])


@emits(buffer.PartOp)
def part(e: FunctionEmitter, op: buffer.PartOp) -> None:
    """The pointer moves on by a constant."""
    memory = e.memory[op.memory]
    start = displaced(e, memory, memory.origin)
    size = element_bytes(memory.type.element)
    moved = e.pure(f"getelementptr i8, ptr {start}, i64 {op.offset * size}", start, str(op.offset * size))
    _made(e, op.result, moved, [])


@emits(buffer.RebaseOp)
def rebase(e: FunctionEmitter, op: buffer.RebaseOp) -> None:
    """The pointer moves back by the base; terms that an index adds again cancel out."""
    memory = e.memory[op.memory]
    base = merged(element_terms(e, memory, op.base), memory.origin, factor=-1)
    e.memory[op.result] = attrs.evolve(memory, origin=merged(memory.origin, base, factor=-1))


@emits(buffer.LocalOp)
def local(e: FunctionEmitter, op: buffer.LocalOp) -> None:
    """The next free part of the thread's scratch memory; it is free again when the region is left."""
    scope, type_ = e.scopes[-1], buffer.memref_type(op.result)
    register, constant = scope.scratch
    start = f"getelementptr i8, ptr {e.scratch}, i64 {constant}"
    base = e.pure(start, e.scratch)
    if register:
        base = e.pure(f"getelementptr i8, ptr {base}, i64 {register}", base, register)
    _made(e, op.result, base, op.sizes)
    count = product(e, _element_count(e.memory[op.result]))
    size = element_bytes(type_.element)
    if count.startswith("%"):
        bytes_ = e.pure(f"mul i64 {count}, {size}", count)
        padded = e.pure(f"add i64 {bytes_}, {SCRATCH_ALIGNMENT - 1}", bytes_)
        taken = e.pure(f"and i64 {padded}, {-SCRATCH_ALIGNMENT}", padded)
        scope.scratch = (e.pure(f"add i64 {register}, {taken}", register, taken) if register else taken, constant)
    else:
        scope.scratch = (register, constant + -(-int(count) * size // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT)


def _element_count(memory: Memory) -> Terms:
    factor, registers = 1, []
    for size in memory.sizes:
        if isinstance(size, int):
            factor *= size
        else:
            registers.append(size or "")
    return {tuple(sorted(registers)): factor}


@emits(buffer.ConstantOp)
def constant(e: FunctionEmitter, op: buffer.ConstantOp) -> None:
    """A pointer out of the constants table."""
    type_ = buffer.memref_type(op.result)
    e.memory[op.result] = Memory.dense(type_, e.constant(op.value), list(type_.shape))
