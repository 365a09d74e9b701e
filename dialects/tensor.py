"""The tensor dialect: how data is represented and what is one kernel.

`tensor.generic` is the usual tileable op: an iteration space, an affine map per operand, a scalar body, and for
reductions a monoid. `tensor.kernel` groups tileable ops into one function to be, with a `#tensor.schedule`.
`tensor.for`, `tensor.while` and `tensor.if` are the control flow of the program around kernels, and
`tensor.born` and `tensor.measure` bring sizes into it that only data tell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor_base import DimsAttr as DimsAttr
from stepwell.dialects.tensor_base import YieldOp as YieldOp
from stepwell.dialects.tensor_base import concrete as concrete
from stepwell.dialects.tensor_base import concrete_shape as concrete_shape
from stepwell.dialects.tensor_base import tensor_type as tensor_type
from stepwell.dialects.tensor_born import BornOp as BornOp
from stepwell.dialects.tensor_born import EntropyOp as EntropyOp
from stepwell.dialects.tensor_born import MeasureOp as MeasureOp
from stepwell.dialects.tensor_control import ForOp as ForOp
from stepwell.dialects.tensor_control import IfOp as IfOp
from stepwell.dialects.tensor_control import RowOp as RowOp
from stepwell.dialects.tensor_control import WhileOp as WhileOp
from stepwell.dialects.tensor_control import is_condition as is_condition
from stepwell.dialects.tensor_host import HostCallOp as HostCallOp
from stepwell.dialects.tensor_host import HostResultOp as HostResultOp
from stepwell.dialects.tensor_scatter import ScatterOp as ScatterOp
from stepwell.dialects.tensor_state import AppendOp as AppendOp
from stepwell.dialects.tensor_state import RoomOp as RoomOp
from stepwell.dialects.tensor_state import RowsOp as RowsOp
from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute, ElementsAttr
from stepwell.ir.attrkinds import ATTRS, ELEMENTS, INT, INTS, MAPS, SCALAR, STRING, STRINGS, attr_of
from stepwell.ir.constraints import INDEX_TYPE, TENSOR
from stepwell.ir.core import Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import CONSTANT, PURE, Op, Trait, attr, operand, operands, region, regions, result, results
from stepwell.ir.registry import Dialect
from stepwell.ir.rewrite import CONSTANT_MAKERS
from stepwell.ir.types import INDEX, TensorType, Type, numpy_dtype

if TYPE_CHECKING:
    from stepwell.ir.affine import AffineMap


class ConstantOp(Op):
    """A tensor known at compile time.

    ```mlir
    %c = tensor.constant dense<[1.0, 2.0]> : tensor<2xf32>
    ```
    """

    name = "tensor.constant"
    traits = frozenset({PURE, CONSTANT})
    assembly = "$value attr-dict"
    value: ElementsAttr = attr(ELEMENTS)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.value.tensor_type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return self.value.numpy()


CONSTANT_MAKERS["tensor"] = lambda value, type_: ConstantOp(value=value) if isinstance(value, ElementsAttr) else None


class ReshapeOp(Op):
    """The same elements in row-major order under another shape; costs nothing.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xf32>
    %r = tensor.reshape %x : (tensor<2x3xf32>) -> tensor<6xf32>
    ```
    """

    name = "tensor.reshape"
    traits = frozenset({PURE})
    x: Value = operand(TENSOR)
    result: Value = result(TENSOR)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return args[0].reshape(concrete_shape(tensor_type(self.result).shape, frame))


class IndexOp(Op):
    """The position along an iteration dim, inside a generic's body.

    ```mlir
    %i = tensor.index {dim = 0}
    ```
    """

    name = "tensor.index"
    traits = frozenset({PURE})
    assembly = "attr-dict"
    dim: int = attr(INT)
    result: Value = result()

    def infer_types(self) -> Sequence[Type]:
        return [INDEX]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return frame.state["index grids"][self.dim]


class SizeOp(Op):
    """A symbolic size as an index, inside a generic's body or between kernels.

    ```mlir
    %n = tensor.size {of = #tensor.dims<["2*h"]>}
    ```
    """

    name = "tensor.size"
    traits = frozenset({PURE})
    assembly = "attr-dict"
    of: DimsAttr = attr(attr_of(DimsAttr))
    result: Value = result()

    def infer_types(self) -> Sequence[Type]:
        return [INDEX]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.int64(concrete(self.of.dims[0], frame))


class ReadOp(Op):
    """The element of a source at a computed place, or another value where the place is outside; inside a body.

    ```mlir
    %t = "test.value"() : () -> tensor<4x4xf32>
    %i = "test.value"() : () -> index
    %pad = "test.value"() : () -> f32
    %x = tensor.read %t[%i, %i] else %pad : tensor<4x4xf32>
    ```
    """

    name = "tensor.read"
    traits = frozenset({PURE})
    assembly = "$source `[` $indices `]` `else` $otherwise attr-dict `:` type($source)"
    source: Value = operand(TENSOR)
    indices: Sequence[Value] = operands(INDEX_TYPE)
    otherwise: Value = operand()
    result: Value = result()

    def infer_types(self) -> Sequence[Type]:
        return [tensor_type(self.source).element]

    def interpret(self, frame: Any, *args: Any) -> Any:
        return guarded_read(args[0], args[1:-1], args[-1])


def guarded_read(array: Any, indices: Sequence[Any], otherwise: Any) -> Any:
    """array[indices] where all indices are inside, else the other value; broadcasts."""
    inside: Any = np.bool_(True)
    clamped = []
    for index, size in zip(indices, array.shape, strict=True):
        inside = inside & (np.asarray(index) >= 0) & (np.asarray(index) < size)
        clamped.append(np.clip(index, 0, max(size - 1, 0)))
    if array.size == 0:
        return np.broadcast_to(otherwise, np.broadcast_shapes(*(np.shape(i) for i in indices)))
    return np.where(inside, array[tuple(clamped)], otherwise).astype(array.dtype)[()]


class GenericOp(Op):
    """A scalar body over an iteration space `sizes`, whose dims are parallel or reduction dims.

    For each point, the body takes one element of each input, at the place its map gives, then the whole `sources`, from
    which it may `tensor.read` at places that it computes, and yields values. Without
    reduction dims these are the results' elements. With them, `combine` merges (accumulators, values) into accumulators,
    associatively, starting from `identities`. `maps` lists the inputs' maps, then the results', which use the parallel
    dims alone. `names` names the dims for schedules. In a kernel of several stages `stage` is the one that the op belongs
    to; an op of the stage `inline` is computed wherever it is read. `partial` is how many terms one partial sum has at
    most, where what follows lets errors grow. `border` is what the elements of the results hold that no point writes;
    without it they mean nothing.

    ```mlir
    %a = "test.value"() : () -> tensor<4x8xf32>
    %b = "test.value"() : () -> tensor<8x2xf32>
    %c = tensor.generic %a, %b {identities = [0.0 : f32], iterators = ["parallel", "parallel", "reduction"], maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>], names = ["m", "n", "k"], operandSegmentSizes = array<i32: 2, 0>, sizes = #tensor.dims<[4, 2, 8]>} : (tensor<4x8xf32>, tensor<8x2xf32>) -> tensor<4x2xf32> {
    ^bb0(%x: f32, %y: f32):
      %p = arith.mulf %x, %y : f32
      tensor.yield %p : f32
    } {
    ^bb0(%acc: f32, %p: f32):
      %s = arith.addf %acc, %p : f32
      tensor.yield %s : f32
    }
    ```
    """  # noqa: E501

    name = "tensor.generic"
    traits = frozenset({PURE, Trait.CLOSED})
    inputs: Sequence[Value] = operands(TENSOR)
    sources: Sequence[Value] = operands(TENSOR)
    outputs: Sequence[Value] = results(TENSOR)
    sizes: DimsAttr = attr(attr_of(DimsAttr))
    iterators: Sequence[str] = attr(STRINGS)
    maps: Sequence[AffineMap] = attr(MAPS)
    names: Sequence[str] = attr(STRINGS)
    identities: Sequence[Attribute] = attr(ATTRS, default=())
    stage: str | None = attr(STRING, default=None)
    partial: int | None = attr(INT, default=None)
    border: Attribute | None = attr(SCALAR, default=None)
    body: Region = region()
    reducers: Sequence[Region] = regions()

    @property
    def combine(self) -> Region | None:
        """The monoid's operation."""
        return self.regions[1] if len(self.regions) > 1 else None

    @property
    def input_maps(self) -> Sequence[AffineMap]:
        """Where each input is read."""
        return self.maps[: len(self.inputs)]

    @property
    def output_maps(self) -> Sequence[AffineMap]:
        """Where each result is written."""
        return self.maps[len(self.inputs) :]

    @property
    def has_reduction(self) -> bool:
        """Whether any dim is reduced."""
        return "reduction" in self.iterators

    def verify_op(self) -> None:
        rank = len(self.sizes.dims)
        if len(self.iterators) != rank or len(self.names) != rank:
            raise IRError(f"{rank} sizes, {len(self.iterators)} iterators, {len(self.names)} names")
        if len(self.maps) != len(self.inputs) + len(self.outputs):
            raise IRError(f"{len(self.maps)} maps for {len(self.inputs)} inputs and {len(self.outputs)} results")
        for value, map_ in zip((*self.inputs, *self.outputs), self.maps, strict=True):
            if map_.num_dims != rank or len(map_.results) != tensor_type(value).rank:
                raise IRError(f"map {map_} does not lead from {rank} dims into {value.type}")
        if self.has_reduction != (self.combine is not None):
            raise IRError("reduction dims go with a combine region")
        expected = [*(tensor_type(v).element for v in self.inputs), *(v.type for v in self.sources)]
        if [a.type for a in self.body.block.arguments] != expected:
            raise IRError("the body takes one element of each input, then the sources")

    def interpret(self, frame: Any, *args: Any) -> Any:
        from stepwell.dialects.generic_meaning import run_generic

        return run_generic(self, frame, args)


class ConcatOp(Op):
    """The operands one behind the other along an axis, along which their sizes are known.

    ```mlir
    %x = "test.value"() : () -> tensor<4x2x7xf32>
    %r = tensor.concat %x, %x {axis = 1} : (tensor<4x2x7xf32>, tensor<4x2x7xf32>) -> tensor<4x4x7xf32>
    ```
    """

    name = "tensor.concat"
    traits = frozenset({PURE})
    axis: int = attr(INT)
    xs: Sequence[Value] = operands(TENSOR)
    result: Value = result(TENSOR)

    @property
    def starts(self) -> list[int]:
        """Where each operand begins along the axis."""
        sizes = [tensor_type(x).shape[self.axis] for x in self.xs]
        return [0, *itertools.accumulate(size for size in sizes[:-1] if isinstance(size, int))]

    def infer_types(self) -> Sequence[Type]:
        types = [tensor_type(x) for x in self.xs]
        if not types or not all(t.rank == types[0].rank and isinstance(t.shape[self.axis], int) for t in types):
            raise IRError("operands of one rank, whose sizes along the axis are known")
        first, total = types[0], 0
        for other in types:
            size = other.shape[self.axis]
            if other.element is not first.element or other.with_shape(self._around(other)) != first.with_shape(
                self._around(first)
            ):
                raise IRError(f"{other} does not go behind {first}")
            total += size if isinstance(size, int) else 0
        return [first.with_shape([*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]])]

    def _around(self, type_: TensorType) -> list[Dim]:
        return [*type_.shape[: self.axis], *type_.shape[self.axis + 1 :]]

    def interpret(self, frame: Any, *args: Any) -> Any:
        first = np.asarray(args[0]).dtype  # signs are of no matter: arrays of both kinds do not become a wider one
        return np.concatenate([np.asarray(array).view(first) for array in args], self.axis)


class BorderOp(Op):
    """A tensor of which only the border means something: `low` elements before and `high` behind along each axis.

    ```mlir
    %b = tensor.border {high = array<i64: 0, 1>, low = array<i64: 0, 2>, value = 0.0 : f32} : () -> tensor<1x10xf32>
    ```
    """

    name = "tensor.border"
    low: Sequence[int] = attr(INTS)
    high: Sequence[int] = attr(INTS)
    value: Attribute = attr(SCALAR)
    result: Value = result(TENSOR)

    def verify_op(self) -> None:
        rank = tensor_type(self.result).rank
        if len(self.low) != rank or len(self.high) != rank or min((*self.low, *self.high), default=0) < 0:
            raise IRError("one border of at least 0 for each side of each axis")

    def interpret(self, frame: Any, *args: Any) -> Any:
        from stepwell.dialects.arith import typed_constant

        made = zeros(tensor_type(self.result), frame)
        made[...] = typed_constant(self.value)  # type: ignore[arg-type]
        return made


class JoinOp(Op):
    """Tensors of one type that share one memory, each of which means something in a box of its own.

    Part k counts from `starts` on, `sizes` far; both lists have the rank's number of entries for each part. Everything
    else is the `base`, a border, or means nothing. What makes a part writes it where it belongs: nothing is copied.

    ```mlir
    %a = "test.value"() : () -> tensor<4x7xf32>
    %b = "test.value"() : () -> tensor<4x7xf32>
    %j = tensor.join %a, %b {operandSegmentSizes = array<i32: 0, 2>, sizes = #tensor.dims<[1, 7, 3, 7]>, starts = array<i64: 0, 0, 1, 0>} : (tensor<4x7xf32>, tensor<4x7xf32>) -> tensor<4x7xf32>
    ```
    """  # noqa: E501

    name = "tensor.join"
    traits = frozenset({PURE})
    base: Sequence[Value] = operands(TENSOR)
    parts: Sequence[Value] = operands(TENSOR)
    starts: Sequence[int] = attr(INTS)
    sizes: DimsAttr = attr(attr_of(DimsAttr))
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        types = {value.type for value in (*self.base, *self.parts)}
        if len(types) != 1 or len(self.base) > 1:
            raise IRError("parts of one type, and at most one base")
        count = len(self.parts) * tensor_type(self.parts[0]).rank if self.parts else 0
        if len(self.starts) != count or len(self.sizes.dims) != count or not count:
            raise IRError("one start and one size for each axis of each part")
        return list(types)

    def box(self, part: int) -> tuple[list[int], list[Dim]]:
        """(starts, sizes) of a part."""
        rank = tensor_type(self.result).rank
        return list(self.starts[part * rank :][:rank]), list(self.sizes.dims[part * rank :][:rank])

    def interpret(self, frame: Any, *args: Any) -> Any:
        parts = args[len(self.base) :]
        made = args[0].copy() if self.base else unwritten(parts[0])
        for k, part in enumerate(parts):
            starts, sizes = self.box(k)
            box = tuple(slice(s, s + n) for s, n in zip(starts, concrete_shape(sizes, frame), strict=True))
            made[box] = part[box]
        return made


class PackOp(Op):
    """Cuts an axis into blocks that run innermost: [.., c, ..] -> [.., ceil(c / block), .., block].

    Where the size is no multiple of the block, the last block ends in elements that mean nothing: a reader takes the
    first c alone, and what fills the rest is not defined (zeros in the interpreter).

    ```mlir
    %x = "test.value"() : () -> tensor<1x32x7x7xf32>
    %r = tensor.pack %x {axis = 1, block = 16} : (tensor<1x32x7x7xf32>) -> tensor<1x2x7x7x16xf32>
    ```
    """

    name = "tensor.pack"
    traits = frozenset({PURE})
    axis: int = attr(INT)
    block: int = attr(INT)
    x: Value = operand(TENSOR)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        type_ = tensor_type(self.x)
        size = type_.shape[self.axis]
        if not isinstance(size, int):
            raise IRError(f"blocks of {self.block} cut a dim of known size, not {size}")
        shape = list(type_.shape)
        shape[self.axis] = -(-size // self.block)
        return [type_.with_shape([*shape, self.block])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        axis = self.axis
        widths = [(0, -args[0].shape[axis] % self.block if n == axis else 0) for n in range(args[0].ndim)]
        array = np.pad(args[0], widths)
        split = array.reshape(*array.shape[:axis], -1, self.block, *array.shape[axis + 1 :])
        return np.ascontiguousarray(np.moveaxis(split, axis + 1, -1))


class UnpackOp(Op):
    """The inverse of `tensor.pack`: [.., ceil(c / block), .., block] -> [.., c, ..], where `size` is c.

    ```mlir
    %x = "test.value"() : () -> tensor<1x2x7x7x16xf32>
    %r = tensor.unpack %x {axis = 1, size = 24} : (tensor<1x2x7x7x16xf32>) -> tensor<1x24x7x7xf32>
    ```
    """

    name = "tensor.unpack"
    traits = frozenset({PURE})
    axis: int = attr(INT)
    size: int = attr(INT)
    x: Value = operand(TENSOR)
    result: Value = result(TENSOR)

    @property
    def block(self) -> int:
        """The number of elements in a block."""
        size = tensor_type(self.x).shape[-1]
        assert isinstance(size, int)
        return size

    def infer_types(self) -> Sequence[Type]:
        type_ = tensor_type(self.x)
        shape = list(type_.shape[:-1])
        if shape[self.axis] != -(-self.size // self.block):
            raise IRError(f"{shape[self.axis]} blocks of {self.block} do not hold {self.size} elements")
        shape[self.axis] = self.size
        return [type_.with_shape(shape)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        array, axis = np.moveaxis(args[0], -1, self.axis + 1), self.axis
        shape = (*array.shape[:axis], array.shape[axis] * array.shape[axis + 1], *array.shape[axis + 2 :])
        whole = np.ascontiguousarray(array).reshape(shape)
        return np.ascontiguousarray(whole[(*[slice(None)] * axis, slice(self.size))])


class PadOp(Op):
    """A border of one value: `low` elements before and `high` behind along each axis.

    ```mlir
    %x = "test.value"() : () -> tensor<1x7xf32>
    %r = tensor.pad %x {high = array<i64: 0, 1>, low = array<i64: 0, 2>, value = 0.0 : f32} : (tensor<1x7xf32>) -> tensor<1x10xf32>
    ```
    """  # noqa: E501

    name = "tensor.pad"
    traits = frozenset({PURE})
    low: Sequence[int] = attr(INTS)
    high: Sequence[int] = attr(INTS)
    value: Attribute = attr(SCALAR)
    x: Value = operand(TENSOR)
    result: Value = result(TENSOR)

    def infer_types(self) -> Sequence[Type]:
        type_ = tensor_type(self.x)
        if len(self.low) != type_.rank or len(self.high) != type_.rank or min((*self.low, *self.high), default=0) < 0:
            raise IRError("one border of at least 0 for each side of each axis")
        return [type_.with_shape([lo + n + hi for lo, n, hi in zip(self.low, type_.shape, self.high, strict=True)])]

    def interpret(self, frame: Any, *args: Any) -> Any:
        from stepwell.dialects.arith import typed_constant

        widths = list(zip(self.low, self.high, strict=True))
        return np.pad(args[0], widths, constant_values=typed_constant(self.value))  # type: ignore[arg-type]


class KernelOp(Op):
    """A fused group of tileable ops: one function to be. The schedule says how its loops are cut.

    ```mlir
    %x = "test.value"() : () -> tensor<4xf32>
    %y = tensor.kernel %x : (tensor<4xf32>) -> tensor<4xf32> {
    ^bb0(%a: tensor<4xf32>):
      %b = tensor.reshape %a : (tensor<4xf32>) -> tensor<4xf32>
      tensor.yield %b : tensor<4xf32>
    }
    ```
    """

    name = "tensor.kernel"
    traits = frozenset({PURE, Trait.ISOLATED})
    inputs: Sequence[Value] = operands(TENSOR)
    outputs: Sequence[Value] = results(TENSOR)
    schedule: ScheduleAttr | None = attr(attr_of(ScheduleAttr), default=None)
    body: Region = region()

    def verify_op(self) -> None:
        if [a.type for a in self.body.block.arguments] != [v.type for v in self.inputs]:
            raise IRError("the body's arguments have the types of the inputs")
        if [v.type for v in self.body.block.terminator.operands] != [r.type for r in self.results]:
            raise IRError("the body yields the results")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return frame.launch(self, args, lambda: frame.run_region(self.body, args))


# Bits of floats of 2, 4 and 8 bytes that stand for 'not written': NaNs that no arithmetic makes.
NOT_WRITTEN = {2: 0x7E55, 4: 0x7FD55555, 8: 0x7FFD555555555555}


def unwritten(array: Any) -> Any:
    """An array of that shape and type whose contents stand for 'not written': a NaN, or a large number."""
    made = np.empty(array.shape, array.dtype)
    parts = array.dtype.itemsize // (2 if array.dtype.kind == "c" else 1)
    if array.dtype.kind in "fc" and parts in NOT_WRITTEN:
        made.reshape(-1).view(f"u{parts}").fill(NOT_WRITTEN[parts])
    else:
        made.reshape(-1).view(np.uint8).fill(0x55 if array.dtype.kind != "b" else 0)
    return made


def is_written(array: Any) -> Any:
    """Where an array holds something else than `unwritten` does; everywhere for bools, which have no value to spare."""
    if array.dtype.kind == "b":
        return np.ones(array.shape, bool)
    size = array.dtype.itemsize
    now, then = (np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(-1, size)
                 for a in (array, unwritten(array)))  # fmt: skip
    return (now != then).any(axis=1).reshape(array.shape)


def zeros(type_: TensorType, frame: Any) -> Any:
    """An array of a tensor type, all zeros."""
    return np.zeros(concrete_shape(type_.shape, frame), numpy_dtype(type_))


DIALECT = Dialect.of_module("tensor", globals().values(), __doc__, landing="tensor")
