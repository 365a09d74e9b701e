"""Buffers as descriptors (pointer, sizes, strides, first indices), and accesses that check every index."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from stepwell.backends.cpu.emit.types import element_bytes
from stepwell.dialects import buffer, vector
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import DYNAMIC, FloatType, IntegerType, MemRefType, Type, element_of

from .writer import Writer, text_type, writes


@attrs.frozen(eq=False)
class Memory:
    """`element [i, j]` lies `(i - bases[0]) * strides[0] + (j - bases[1]) * strides[1]` elements after `pointer`, where
    `0 <= i - bases[0] < sizes[0]`."""

    type: MemRefType
    pointer: str
    sizes: tuple[str, ...]
    strides: tuple[str, ...]
    bases: tuple[str, ...]

    @staticmethod
    def of(type_: MemRefType, registers: Sequence[str]) -> Memory:
        """From `registers`."""
        pointer, *rest = registers
        rank = type_.rank
        return Memory(type_, pointer, tuple(rest[:rank]), tuple(rest[rank : 2 * rank]), tuple(rest[2 * rank :]))

    @property
    def registers(self) -> list[str]:
        """Pointer, sizes, strides, bases."""
        return [self.pointer, *self.sizes, *self.strides, *self.bases]


def memory_type(element: Type) -> str:
    """The LLVM type of an element in memory: integers below 8 bits take a byte."""
    text_type(element)
    if isinstance(element, IntegerType) and element.width < 8:
        return "i8"
    return text_type(element)


def dense(w: Writer, type_: MemRefType, pointer: str, sizes: Sequence[str]) -> Memory:
    """A row-major buffer; `sizes` fill in what the type leaves open."""
    rest = iter(sizes)
    full = [next(rest) if dim == DYNAMIC else str(dim) for dim in type_.shape]
    strides, stride = list[str](), "1"
    for size in reversed(full):
        strides.append(stride)
        stride = w.emit(f"mul i64 {stride}, {size}")
    return Memory(type_, pointer, tuple(full), tuple(reversed(strides)), ("0",) * type_.rank)


def element_count(w: Writer, memory: Memory) -> str:
    """The product of the sizes."""
    count = "1"
    for size in memory.sizes:
        count = w.emit(f"mul i64 {count}, {size}")
    return count


def checked_count(w: Writer, op: Operation, memory: Memory) -> str:
    """The product of sizes that the op gives: none is negative, and the product fits into 63 bits."""
    count, pair = "1", "{ i64, i1 }"
    for size in memory.sizes:
        w.require(w.emit(f"icmp sge i64 {size}, 0"), op)
        product = w.call("llvm.smul.with.overflow.i64", pair, ("i64", count), ("i64", size))
        count, wraps = (w.emit(f"extractvalue {pair} {product}, {part}") for part in (0, 1))
        w.require(w.emit(f"xor i1 {wraps}, true"), op)
    return count


def is_inside(w: Writer, memory: Memory, indices: Sequence[str], count: int = 1) -> str:
    """Whether `count` elements along the last dim, the first one at the indices, are all in the buffer."""
    holds = "true"
    for axis, (index, size, base) in enumerate(zip(indices, memory.sizes, memory.bases, strict=True)):
        place = index if base == "0" else w.emit(f"sub i64 {index}, {base}")
        tests = [f"icmp ult i64 {place}, {size}"]
        if count > 1 and axis == len(indices) - 1:
            last = w.emit(f"add i64 {place}, {count - 1}")
            tests.append(f"icmp ult i64 {last}, {size}")
        for test in tests:
            holds = w.emit(f"and i1 {holds}, {w.emit(test)}")
    return holds


def address(w: Writer, memory: Memory, indices: Sequence[str]) -> str:
    """A pointer to an element."""
    offset = "0"
    for index, stride, base in zip(indices, memory.strides, memory.bases, strict=True):
        place = index if base == "0" else w.emit(f"sub i64 {index}, {base}")
        scaled = place if stride == "1" else w.emit(f"mul i64 {place}, {stride}")
        offset = w.emit(f"add i64 {offset}, {scaled}")
    return w.emit(f"getelementptr {memory_type(memory.type.element)}, ptr {memory.pointer}, i64 {offset}")


def load(w: Writer, op: Operation, memory: Memory, indices: Sequence[str]) -> str:
    """One element, checked."""
    w.require(is_inside(w, memory, indices), op)
    return _load(w, memory, indices)


def _load(w: Writer, memory: Memory, indices: Sequence[str]) -> str:
    element = memory.type.element
    held = memory_type(element)
    made = w.emit(f"load {held}, ptr {address(w, memory, indices)}, align {element_bytes(element)}")
    return made if held == text_type(element) else w.emit(f"trunc {held} {made} to {text_type(element)}")


def store(w: Writer, op: Operation, memory: Memory, indices: Sequence[str], text: str) -> None:
    """One element, checked."""
    element = memory.type.element
    held = memory_type(element)
    w.require(is_inside(w, memory, indices), op)
    if held != text_type(element):
        text = w.emit(f"zext {text_type(element)} {text} to {held}")
    w.line(f"store {held} {text}, ptr {address(w, memory, indices)}, align {element_bytes(element)}")


def _indices(w: Writer, values: Sequence[Value]) -> list[str]:
    return [w.value(value) for value in values]


@writes(buffer.LoadOp)
def load_element(w: Writer, op: buffer.LoadOp) -> None:
    """One element."""
    w.values[op.result] = load(w, op, w.memory[op.memory], _indices(w, op.indices))


@writes(buffer.StoreOp)
def store_element(w: Writer, op: buffer.StoreOp) -> None:
    """One element."""
    store(w, op, w.memory[op.memory], _indices(w, op.indices), w.value(op.value))


@writes(buffer.ReadOp)
def read(w: Writer, op: buffer.ReadOp) -> None:
    """One element, or the other value outside."""
    memory, indices, type_ = w.memory[op.memory], _indices(w, op.indices), text_type(op.result.type)
    w.values[op.result] = guarded(w, is_inside(w, memory, indices), type_, w.value(op.otherwise),
                                  lambda: _load(w, memory, indices))  # fmt: skip


def guarded(w: Writer, condition: str, type_: str, otherwise: str, make: object) -> str:
    """What `make` writes where the condition holds, else another value."""
    place, then, done = w.slot(type_), w.label("then"), w.label("done")
    w.line(f"store {type_} {otherwise}, ptr {place}")
    w.branch(condition, then, done)
    w.start(then)
    w.line(f"store {type_} {make()}, ptr {place}")  # type: ignore[operator]
    w.jump(done)
    w.start(done)
    return w.emit(f"load {type_}, ptr {place}")


# Vectors


def lanes_of(value: Value) -> int:
    """The lanes of a vector, 1 of a scalar."""
    return math.prod(getattr(value.type, "shape", ()))


def _is_plain(memory: Memory) -> bool:
    """Whether a vector of registers is what lies in memory: neighbours lie together, elements are whole bytes."""
    element = memory.type.element
    return memory.strides[-1] == "1" and memory_type(element) == text_type(element)


def _along(w: Writer, indices: Sequence[str], lane: int) -> list[str]:
    return [*indices[:-1], w.emit(f"add i64 {indices[-1]}, {lane}")]


@writes(vector.LoadOp)
def load_vector(w: Writer, op: vector.LoadOp) -> None:
    """All elements at once where they lie together, else one by one."""
    memory, indices, type_ = w.memory[op.base], _indices(w, op.indices), text_type(op.result.type)
    w.require(is_inside(w, memory, indices, lanes_of(op.result)), op)
    if _is_plain(memory):
        align = element_bytes(memory.type.element)
        w.values[op.result] = w.emit(f"load {type_}, ptr {address(w, memory, indices)}, align {align}")
        return
    made, scalar = "poison", text_type(element_of(op.result.type))
    for lane in range(lanes_of(op.result)):
        element = _load(w, memory, _along(w, indices, lane))
        made = w.emit(f"insertelement {type_} {made}, {scalar} {element}, i64 {lane}")
    w.values[op.result] = made


@writes(vector.StoreOp)
def store_vector(w: Writer, op: vector.StoreOp) -> None:
    """All elements at once where they lie together, else one by one."""
    memory, indices, type_ = w.memory[op.base], _indices(w, op.indices), text_type(op.value.type)
    if _is_plain(memory):
        w.require(is_inside(w, memory, indices, lanes_of(op.value)), op)
        align = element_bytes(memory.type.element)
        w.line(f"store {type_} {w.value(op.value)}, ptr {address(w, memory, indices)}, align {align}")
        return
    for lane in range(lanes_of(op.value)):
        element = w.emit(f"extractelement {type_} {w.value(op.value)}, i64 {lane}")
        store(w, op, memory, _along(w, indices, lane), element)


@writes(vector.MaskedLoadOp, vector.GatherOp)
def load_lanes(w: Writer, op: vector.MaskedLoadOp | vector.GatherOp) -> None:
    """Lane by lane: checked and read where the mask's bit is set."""
    memory, made = w.memory[op.base], w.value(op.pass_thru)
    is_gather = isinstance(op, vector.GatherOp)
    indices = _indices(w, op.offsets if isinstance(op, vector.GatherOp) else op.indices)
    type_, scalar = text_type(op.result.type), text_type(element_of(op.result.type))
    for lane in range(lanes_of(op.result)):
        places = _along(w, indices, lane) if not is_gather else [
            *indices[:-1], w.emit(f"add i64 {indices[-1]}, {_position(w, op.index_vec, lane)}")  # type: ignore[union-attr]
        ]  # fmt: skip
        before = w.emit(f"extractelement {type_} {made}, i64 {lane}")
        bit = w.emit(f"extractelement {w.typed(op.mask)}, i64 {lane}")
        element = guarded(w, bit, scalar, before, lambda places=places: load(w, op, memory, places))
        made = w.emit(f"insertelement {type_} {made}, {scalar} {element}, i64 {lane}")
    w.values[op.result] = made


def _position(w: Writer, positions: Value, lane: int) -> str:
    scalar = text_type(element_of(positions.type))
    one = w.emit(f"extractelement {w.typed(positions)}, i64 {lane}")
    return one if scalar == "i64" else w.emit(f"sext {scalar} {one} to i64")


@writes(vector.MaskedStoreOp)
def store_lanes(w: Writer, op: vector.MaskedStoreOp) -> None:
    """Lane by lane: checked and written where the mask's bit is set."""
    memory, indices = w.memory[op.base], _indices(w, op.indices)
    for lane in range(lanes_of(op.value)):
        bit = w.emit(f"extractelement {w.typed(op.mask)}, i64 {lane}")
        then, done = w.label("then"), w.label("done")
        w.branch(bit, then, done)
        w.start(then)
        element = w.emit(f"extractelement {w.typed(op.value)}, i64 {lane}")
        store(w, op, memory, _along(w, indices, lane), element)
        w.jump(done)
        w.start(done)


# Buffers made of buffers


@writes(buffer.DimOp)
def size(w: Writer, op: buffer.DimOp) -> None:
    """From the descriptor."""
    memory = w.memory[op.memory]
    w.values[op.result] = w.emit(f"add i64 {memory.sizes[op.axis]}, {memory.bases[op.axis]}")


@writes(buffer.ReshapeOp)
def reshape(w: Writer, op: buffer.ReshapeOp) -> None:
    """The same pointer; as many elements on both sides."""
    memory = w.memory[op.memory]
    made = dense(w, buffer.memref_type(op.result), memory.pointer, _indices(w, op.sizes))
    w.require(w.emit(f"icmp eq i64 {checked_count(w, op, made)}, {element_count(w, memory)}"), op)
    w.memory[op.result] = made


@writes(buffer.SliceOp)
def row(w: Writer, op: buffer.SliceOp) -> None:
    """One dim less."""
    memory, place = w.memory[op.memory], w.value(op.place)
    w.require(w.emit(f"icmp ult i64 {place}, {memory.sizes[0]}"), op)
    element = memory_type(memory.type.element)
    offset = w.emit(f"mul i64 {place}, {memory.strides[0]}")
    pointer = w.emit(f"getelementptr {element}, ptr {memory.pointer}, i64 {offset}")
    w.memory[op.result] = Memory(buffer.memref_type(op.result), pointer, memory.sizes[1:], memory.strides[1:],
                                 memory.bases[1:])  # fmt: skip


@writes(buffer.PartOp)
def part(w: Writer, op: buffer.PartOp) -> None:
    """A pointer further on; the part ends within the whole."""
    memory, type_ = w.memory[op.memory], buffer.memref_type(op.result)
    end = op.offset + math.prod(type_.shape)
    w.require(w.emit(f"icmp ule i64 {end}, {element_count(w, memory)}"), op)
    pointer = w.emit(f"getelementptr {memory_type(type_.element)}, ptr {memory.pointer}, i64 {op.offset}")
    w.memory[op.result] = dense(w, type_, pointer, [])


@writes(buffer.RebaseOp)
def rebase(w: Writer, op: buffer.RebaseOp) -> None:
    """Other first indices."""
    memory = w.memory[op.memory]
    bases = tuple(w.emit(f"add i64 {old}, {w.value(new)}") for old, new in zip(memory.bases, op.base, strict=True))
    w.memory[op.result] = attrs.evolve(memory, bases=bases)


@writes(buffer.LocalOp)
def local(w: Writer, op: buffer.LocalOp) -> None:
    """The next free bytes of scratch memory, filled with ones: NaN where floats are read before they are written."""
    type_ = buffer.memref_type(op.result)
    top = w.emit("load i64, ptr %top")
    made = dense(w, type_, w.emit(f"getelementptr i8, ptr %scratch, i64 {top}"), _indices(w, op.sizes))
    count = checked_count(w, op, made)
    w.require(w.emit(f"icmp ule i64 {count}, %room"), op)
    taken = w.emit(f"mul i64 {count}, {element_bytes(type_.element)}")
    padded = w.emit(f"and i64 {w.emit(f'add i64 {taken}, 63')}, -64")
    after = w.emit(f"add i64 {top}, {padded}")
    w.require(w.emit(f"icmp ule i64 {after}, %room"), op)
    w.line(f"store i64 {after}, ptr %top")
    if isinstance(type_.element, FloatType):
        w.declarations["declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"] = None
        w.line(f"call void @llvm.memset.p0.i64(ptr {made.pointer}, i8 -1, i64 {taken}, i1 false)")
    w.memory[op.result] = made
