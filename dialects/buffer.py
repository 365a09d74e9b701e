"""Memory: views of the arena, local buffers, element access. A memref's value in the interpreter is a NumPy view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attributes import ElementsAttr
from stepwell.ir.attrkinds import ELEMENTS, INT
from stepwell.ir.constraints import INDEX_TYPE, MEMREF, SCALAR_LIKE
from stepwell.ir.core import Value
from stepwell.ir.opdef import PURE, Op, attr, operand, operands, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import DYNAMIC, INDEX, MemRefType, StridedLayout, Type, numpy_dtype


def memref_type(value: Value) -> MemRefType:
    """The type of a memref value."""
    assert isinstance(value.type, MemRefType)
    return value.type


def checked(array: Any, index: Sequence[Any]) -> tuple[int, ...]:
    """The index, each part inside the array. Raises IRError otherwise."""
    place = tuple(int(i) for i in index)
    for i, size in zip(place, array.shape, strict=True):
        if not 0 <= i < size:
            raise IRError(f"index {list(place)} is outside a buffer of shape {list(array.shape)}")
    return place


class LoadOp(Op):
    """Reads one element.

    ```mlir
    %m = "test.value"() : () -> memref<4x4xf32>
    %i = "test.value"() : () -> index
    %x = buffer.load %m[%i, %i] : memref<4x4xf32>
    ```
    """

    name = "buffer.load"
    assembly = "$memory `[` $indices `]` attr-dict `:` type($memory)"
    memory: Value = operand(MEMREF)
    indices: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(SCALAR_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [memref_type(self.memory).element]

    def verify_op(self) -> None:
        _check_rank(self.memory, self.indices)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return args[0][checked(args[0], args[1:])]


class StoreOp(Op):
    """Writes one element.

    ```mlir
    %m = "test.value"() : () -> memref<4xf32>
    %i = "test.value"() : () -> index
    %x = "test.value"() : () -> f32
    buffer.store %x, %m[%i] : memref<4xf32>
    ```
    """

    name = "buffer.store"
    assembly = "$value `,` $memory `[` $indices `]` attr-dict `:` type($memory)"
    value: Value = operand(SCALAR_LIKE)
    memory: Value = operand(MEMREF)
    indices: Sequence[Value] = operands(INDEX_TYPE)

    def verify_op(self) -> None:
        _check_rank(self.memory, self.indices)
        if self.value.type is not memref_type(self.memory).element:
            raise IRError(f"{self.value.type} is stored in {self.memory.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        args[1][checked(args[1], args[2:])] = args[0]
        return ()


def _check_rank(memory: Value, indices: Sequence[Value]) -> None:
    if len(indices) != memref_type(memory).rank:
        raise IRError(f"{len(indices)} indices for {memory.type}")


class ReadOp(Op):
    """The element at a computed place, or another value where the place is outside; inside a stage's body.

    ```mlir
    %m = "test.value"() : () -> memref<4x4xf32>
    %i = "test.value"() : () -> index
    %pad = "test.value"() : () -> f32
    %x = buffer.read %m[%i, %i] else %pad : memref<4x4xf32>
    ```
    """

    name = "buffer.read"
    assembly = "$memory `[` $indices `]` `else` $otherwise attr-dict `:` type($memory)"
    memory: Value = operand(MEMREF)
    indices: Sequence[Value] = operands(INDEX_TYPE)
    otherwise: Value = operand(SCALAR_LIKE)
    result: Value = result(SCALAR_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [memref_type(self.memory).element]

    def verify_op(self) -> None:
        _check_rank(self.memory, self.indices)

    def interpret(self, frame: Any, *args: Any) -> Any:
        array, *indices, otherwise = args
        inside = all(0 <= int(i) < size for i, size in zip(indices, array.shape, strict=True))
        return array[tuple(int(i) for i in indices)] if inside else otherwise


class DimOp(Op):
    """The size of one dim.

    ```mlir
    %m = "test.value"() : () -> memref<?xf32>
    %n = buffer.dim %m {axis = 0} : memref<?xf32>
    ```
    """

    name = "buffer.dim"
    traits = frozenset({PURE})
    assembly = "$memory attr-dict `:` type($memory)"
    memory: Value = operand(MEMREF)
    axis: int = attr(INT)
    result: Value = result(INDEX_TYPE)

    def infer_types(self) -> Sequence[Type]:
        return [INDEX]

    def verify_op(self) -> None:
        if not 0 <= self.axis < memref_type(self.memory).rank:
            raise IRError(f"axis {self.axis} of {self.memory.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.int64(args[0].shape[self.axis])


class ViewOp(Op):
    """A typed buffer at a byte offset of an arena; `sizes` gives the dims that the type leaves open.

    ```mlir
    %arena = "test.value"() : () -> memref<?xi8>
    %n = "test.value"() : () -> index
    %v = buffer.view %arena[%n](%n) : memref<?xi8> to memref<?x4xf32>
    ```
    """

    name = "buffer.view"
    traits = frozenset({PURE})
    assembly = "$arena `[` $offset `]` `(` $sizes `)` attr-dict `:` type($arena) `to` type($result)"
    arena: Value = operand(MEMREF)
    offset: Value = operand(INDEX_TYPE)
    sizes: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        check_sizes(self.result, self.sizes)

    def interpret(self, frame: Any, *args: Any) -> Any:
        arena, offset, *sizes = args
        shape, dtype = full_shape(memref_type(self.result), sizes), numpy_dtype(self.result.type)
        size = int(np.prod(shape)) * dtype.itemsize
        if not 0 <= int(offset) <= arena.size - size:
            raise IRError(f"{size} bytes at {int(offset)} do not fit in an arena of {arena.size}")
        return arena[int(offset) : int(offset) + size].view(dtype).reshape(shape)


class AllocOp(Op):
    """A buffer that lives until the program's end; planning gives it a place in the arena.

    ```mlir
    %n = "test.value"() : () -> index
    %b = buffer.alloc(%n) : memref<?x4xf32>
    ```
    """

    name = "buffer.alloc"
    assembly = "`(` $sizes `)` attr-dict `:` type($result)"
    sizes: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        check_sizes(self.result, self.sizes)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.zeros(full_shape(memref_type(self.result), args), numpy_dtype(self.result.type))


class LocalOp(Op):
    """A buffer of a kernel's own, private to the thread that runs it.

    ```mlir
    %b = buffer.local() : memref<16xf32>
    ```
    """

    name = "buffer.local"
    assembly = "`(` $sizes `)` attr-dict `:` type($result)"
    sizes: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        check_sizes(self.result, self.sizes)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.zeros(full_shape(memref_type(self.result), args), numpy_dtype(self.result.type))


class ConstantOp(Op):
    """A model's constant in memory: a slot of the constants table.

    ```mlir
    %w = buffer.constant dense<[1.0, 2.0]> : tensor<2xf32> as memref<2xf32>
    ```
    """

    name = "buffer.constant"
    traits = frozenset({PURE})
    assembly = "$value `as` type($result) attr-dict"
    value: ElementsAttr = attr(ELEMENTS)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        type_, given = memref_type(self.result), self.value.tensor_type
        size = math.prod(given.static_shape) * numpy_dtype(given).itemsize
        if not type_.is_static or math.prod(type_.shape) * numpy_dtype(type_).itemsize != size:
            raise IRError(f"the {size} bytes of {given} are not those of {type_}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        type_ = memref_type(self.result)
        return self.value.numpy().view(numpy_dtype(type_)).reshape(type_.shape)


class ReshapeOp(Op):
    """The same memory under other dims; both sides are row-major and dense.

    ```mlir
    %m = "test.value"() : () -> memref<4x4xf32>
    %r = buffer.reshape %m() : memref<4x4xf32> to memref<16xf32>
    ```
    """

    name = "buffer.reshape"
    traits = frozenset({PURE})
    assembly = "$memory `(` $sizes `)` attr-dict `:` type($memory) `to` type($result)"
    memory: Value = operand(MEMREF)
    sizes: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        check_sizes(self.result, self.sizes)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return args[0].reshape(full_shape(memref_type(self.result), args[1:]))


class RoomOp(Op):
    """All the memory of an argument whose caller has room for more rows than there are: the strides of the argument are
    those of the result, which is dense and larger along one axis.

    ```mlir
    %m = "test.value"() : () -> memref<2x?x4xf32, strided<[256, 4, 1]>>
    %r = buffer.room %m() : memref<2x?x4xf32, strided<[256, 4, 1]>> to memref<2x64x4xf32>
    ```
    """

    name = "buffer.room"
    traits = frozenset({PURE})
    assembly = "$memory `(` $sizes `)` attr-dict `:` type($memory) `to` type($result)"
    memory: Value = operand(MEMREF)
    sizes: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        check_sizes(self.result, self.sizes)
        source, whole = memref_type(self.memory), memref_type(self.result)
        if whole.layout is not None or whole.rank != source.rank or whole.element is not source.element:
            raise IRError(f"{whole} is no larger {source}")
        strides = source.layout.strides if isinstance(source.layout, StridedLayout) else None
        if strides is None or not all(a in (b, DYNAMIC) for a, b in zip(strides, dense_strides(whole), strict=True)):
            raise IRError(f"the rows of {whole} do not lie where those of {source} lie")

    def interpret(self, frame: Any, *args: Any) -> Any:
        array, shape = args[0], full_shape(memref_type(self.result), args[1:])
        strides = tuple(step * array.itemsize for step in np.cumprod([1, *shape[:0:-1]])[::-1])
        return np.lib.stride_tricks.as_strided(array, shape, strides)


def dense_strides(type_: MemRefType) -> list[int]:
    """The strides of a dense buffer, in elements; DYNAMIC where open sizes decide."""
    strides = [1]
    for size in reversed(type_.shape[1:]):
        strides.insert(0, DYNAMIC if DYNAMIC in (strides[0], size) else strides[0] * size)
    return strides[: type_.rank]


class SliceOp(Op):
    """The row at a place along the first dim, without that dim; the place is inside.

    ```mlir
    %m = "test.value"() : () -> memref<?x4xf32>
    %i = "test.value"() : () -> index
    %r = buffer.slice %m[%i] : memref<?x4xf32>
    ```
    """

    name = "buffer.slice"
    traits = frozenset({PURE})
    assembly = "$memory `[` $place `]` attr-dict `:` type($memory)"
    memory: Value = operand(MEMREF)
    place: Value = operand(INDEX_TYPE)
    result: Value = result(MEMREF)

    def infer_types(self) -> Sequence[Type]:
        type_ = memref_type(self.memory)
        if not type_.rank or type_.layout is not None:
            raise IRError(f"rows are taken of dense buffers of rank 1 and more, not of {type_}")
        return [MemRefType(type_.shape[1:], type_.element)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        array, place = args[0], int(args[1])
        if not 0 <= place < array.shape[0]:
            raise IRError(f"row {place} of a buffer of {array.shape[0]} rows")
        return array[place, ...]


class PartOp(Op):
    """Consecutive elements of a dense buffer, from a constant element on, as a dense buffer of static shape.

    ```mlir
    %m = "test.value"() : () -> memref<1x4x8xf32>
    %r = buffer.part %m {offset = 8} : memref<1x4x8xf32> to memref<1x2x8xf32>
    ```
    """

    name = "buffer.part"
    traits = frozenset({PURE})
    assembly = "$memory attr-dict `:` type($memory) `to` type($result)"
    memory: Value = operand(MEMREF)
    offset: int = attr(INT)
    result: Value = result(MEMREF)

    def verify_op(self) -> None:
        source, part = memref_type(self.memory), memref_type(self.result)
        if not part.is_static or source.layout is not None or part.layout is not None:
            raise IRError(f"a part is dense and of static shape, unlike {part} of {source}")
        if self.offset < 0 or (source.is_static and self.offset + math.prod(part.shape) > math.prod(source.shape)):
            raise IRError(f"{part} from element {self.offset} on leaves {source}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        shape = memref_type(self.result).shape
        return args[0].reshape(-1)[self.offset : self.offset + math.prod(shape)].reshape(shape)


class RebaseOp(Op):
    """A buffer whose element [i] is the source's [i - base]: a tile that is addressed by the indices of the whole.

    ```mlir
    %m = "test.value"() : () -> memref<4xf32>
    %b = "test.value"() : () -> index
    %r = buffer.rebase %m[%b] : memref<4xf32>
    ```
    """

    name = "buffer.rebase"
    traits = frozenset({PURE})
    assembly = "$memory `[` $base `]` attr-dict `:` type($memory)"
    memory: Value = operand(MEMREF)
    base: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(MEMREF)

    def infer_types(self) -> Sequence[Type]:
        return [self.memory.type]

    def verify_op(self) -> None:
        _check_rank(self.memory, self.base)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return RebasedArray(args[0], tuple(int(b) for b in args[1:]))


class RebasedArray:
    """An array addressed with an origin."""

    def __init__(self, array: Any, base: tuple[int, ...]) -> None:
        self.array, self.base = array, base
        self.dtype = array.dtype
        self.shape = tuple(b + s for b, s in zip(base, array.shape, strict=True))

    def _shift(self, index: Any) -> tuple[Any, ...]:
        index = index if isinstance(index, tuple) else (index,)
        shifted = []
        for i, b in zip(index, self.base, strict=True):
            moved = slice(i.start - b, i.stop - b) if isinstance(i, slice) else i - b
            if (moved.start if isinstance(moved, slice) else moved) < 0:
                raise IRError(f"index {i} is before the tile's start {b}")
            shifted.append(moved)
        return tuple(shifted)

    def __getitem__(self, index: Any) -> Any:
        return self.array[self._shift(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[self._shift(index)] = value


def full_shape(type_: MemRefType, sizes: Sequence[Any]) -> tuple[int, ...]:
    """The dims with the open ones filled in. Raises RuntimeError for a negative one."""
    rest = iter(sizes)
    shape = tuple(int(next(rest)) if dim == DYNAMIC else dim for dim in type_.shape)
    if min(shape, default=0) < 0:
        raise RuntimeError(f"a buffer of type {type_} would have the sizes {list(shape)}")
    return shape


def check_sizes(value: Value, sizes: Sequence[Value]) -> None:
    """Raise IRError where there is not one size for each open dim of a buffer."""
    missing = memref_type(value).shape.count(DYNAMIC)
    if len(sizes) != missing:
        raise IRError(f"{len(sizes)} sizes for the {missing} open dims of {value.type}")


DIALECT = Dialect.of_module("buffer", globals().values(), __doc__, landing="loop")
