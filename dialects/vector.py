"""Vectors: explicit SIMD. Names, operands and meaning of the upstream ops are upstream's."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.dialects import arith
from stepwell.dialects.arith import ElementwiseOp, same_type, typed_array
from stepwell.dialects.arith_flags import FASTMATH
from stepwell.dialects.fused import fused_multiply_add
from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.attrkinds import INT, INTS, AttrKind, list_of
from stepwell.ir.constraints import ANY, INDEX_TYPE, MEMREF, SCALAR_LIKE, VECTOR, TypeConstraint
from stepwell.ir.core import Value
from stepwell.ir.interned import interned
from stepwell.ir.opdef import PURE, Op, attr, operand, operands, optional_operand, result
from stepwell.ir.registry import Dialect
from stepwell.ir.types import I1, INDEX, FloatType, MemRefType, Type, VectorType, numpy_dtype

if TYPE_CHECKING:
    from stepwell.ir.parser import Parser

FLOAT_VECTOR = TypeConstraint(
    "a vector of floats", lambda t: isinstance(t, VectorType) and isinstance(t.element, FloatType)
)


def vector_type(value: Value) -> VectorType:
    """The type of a vector value."""
    assert isinstance(value.type, VectorType)
    return value.type


def lanes(value: Value) -> int:
    """The number of lanes of a 1-D vector value."""
    return vector_type(value).shape[0]


def _check_access(base: Value, indices: Sequence[Value], moved: Value, mask: Value | None = None) -> None:
    """A vector moved from or to memory: one index per dim, the element type of the memory, a bit per lane."""
    memory, type_ = base.type, vector_type(moved)
    assert isinstance(memory, MemRefType)
    if len(indices) != memory.rank:
        raise IRError(f"{len(indices)} indices for {memory}")
    if memory.element is not type_.element:
        raise IRError(f"a vector of {type_.element} in {memory}")
    if mask is not None and mask.type is not arith.with_element(type_, I1):
        raise IRError(f"a mask of type {mask.type} for {type_}")


def _check_rank_one(value: Value) -> None:
    if len(vector_type(value).shape) != 1:
        raise IRError(f"a vector of rank 1 is wanted, not {value.type}")


def _run(array: Any, index: Sequence[Any], count: int) -> tuple[Any, ...]:
    """The index of `count` elements along the last dim, the first one at `index`."""
    *outer, last = (int(i) for i in index)
    for i, size in zip((*outer, last), array.shape, strict=True):
        if not 0 <= i < size:
            raise IRError(f"index {[*outer, last]} is outside a buffer of shape {list(array.shape)}")
    if last + count > array.shape[-1]:
        raise IRError(f"{count} elements from {[*outer, last]} leave a buffer of shape {list(array.shape)}")
    return (*outer, slice(last, last + count))


class LoadOp(Op):
    """Reads consecutive elements of the last dim.

    ```mlir
    %m = "test.value"() : () -> memref<4x64xf32>
    %i = "test.value"() : () -> index
    %x = vector.load %m[%i, %i] : memref<4x64xf32>, vector<16xf32>
    ```
    """

    name = "vector.load"
    assembly = "$base `[` $indices `]` attr-dict `:` type($base) `,` type($result)"
    base: Value = operand(MEMREF)
    indices: Sequence[Value] = operands(INDEX_TYPE)
    result: Value = result(VECTOR)

    def verify_op(self) -> None:
        _check_access(self.base, self.indices, self.result)

    def interpret(self, frame: Any, *args: Any) -> Any:
        return args[0][_run(args[0], args[1:], lanes(self.result))].copy()


class StoreOp(Op):
    """Writes consecutive elements of the last dim.

    ```mlir
    %m = "test.value"() : () -> memref<64xf32>
    %i = "test.value"() : () -> index
    %x = "test.value"() : () -> vector<16xf32>
    vector.store %x, %m[%i] : memref<64xf32>, vector<16xf32>
    ```
    """

    name = "vector.store"
    assembly = "$value `,` $base `[` $indices `]` attr-dict `:` type($base) `,` type($value)"
    value: Value = operand(VECTOR)
    base: Value = operand(MEMREF)
    indices: Sequence[Value] = operands(INDEX_TYPE)

    def verify_op(self) -> None:
        _check_access(self.base, self.indices, self.value)

    def interpret(self, frame: Any, *args: Any) -> Any:
        args[1][_run(args[1], args[2:], lanes(self.value))] = args[0]
        return ()


class MaskedLoadOp(Op):
    """Reads the lanes whose mask bit is set; the others keep `pass_thru` and touch no memory.

    ```mlir
    %m = "test.value"() : () -> memref<64xf32>
    %i = "test.value"() : () -> index
    %k = "test.value"() : () -> vector<16xi1>
    %p = "test.value"() : () -> vector<16xf32>
    %x = vector.maskedload %m[%i], %k, %p : memref<64xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
    ```
    """

    name = "vector.maskedload"
    assembly = (
        "$base `[` $indices `]` `,` $mask `,` $pass_thru attr-dict "
        "`:` type($base) `,` type($mask) `,` type($pass_thru) `into` type($result)"
    )
    base: Value = operand(MEMREF)
    indices: Sequence[Value] = operands(INDEX_TYPE)
    mask: Value = operand(VECTOR)
    pass_thru: Value = operand(VECTOR)
    result: Value = result(VECTOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.pass_thru.type]

    def verify_op(self) -> None:
        _check_access(self.base, self.indices, self.result, self.mask)
        _check_rank_one(self.result)

    def interpret(self, frame: Any, *args: Any) -> Any:
        base, *indices, mask, made = args
        made = made.copy()
        *outer, last = (int(i) for i in indices)
        for lane in np.flatnonzero(mask):
            made[lane] = base[_run(base, (*outer, last + int(lane)), 1)][0]
        return made


class MaskedStoreOp(Op):
    """Writes the lanes whose mask bit is set.

    ```mlir
    %m = "test.value"() : () -> memref<64xf32>
    %i = "test.value"() : () -> index
    %k = "test.value"() : () -> vector<16xi1>
    %x = "test.value"() : () -> vector<16xf32>
    vector.maskedstore %m[%i], %k, %x : memref<64xf32>, vector<16xi1>, vector<16xf32>
    ```
    """

    name = "vector.maskedstore"
    assembly = (
        "$base `[` $indices `]` `,` $mask `,` $value attr-dict `:` type($base) `,` type($mask) `,` type($value)"
    )
    base: Value = operand(MEMREF)
    indices: Sequence[Value] = operands(INDEX_TYPE)
    mask: Value = operand(VECTOR)
    value: Value = operand(VECTOR)

    def verify_op(self) -> None:
        _check_access(self.base, self.indices, self.value, self.mask)
        _check_rank_one(self.value)

    def interpret(self, frame: Any, *args: Any) -> Any:
        base, *indices, mask, value = args
        *outer, last = (int(i) for i in indices)
        for lane in np.flatnonzero(mask):
            base[_run(base, (*outer, last + int(lane)), 1)] = value[lane]
        return ()


class BroadcastOp(Op):
    """A scalar in all lanes.

    ```mlir
    %x = "test.value"() : () -> f32
    %v = vector.broadcast %x : f32 to vector<16xf32>
    ```
    """

    name = "vector.broadcast"
    traits = frozenset({PURE})
    assembly = "$source attr-dict `:` type($source) `to` type($result)"
    source: Value = operand(ANY)
    result: Value = result(VECTOR)

    def verify_op(self) -> None:
        if self.source.type is not vector_type(self.result).element:
            raise IRError(f"{self.source.type} in the lanes of {self.result.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        type_ = vector_type(self.result)
        return np.full(type_.shape, args[0], numpy_dtype(type_))


class FmaOp(ElementwiseOp):
    """lhs * rhs + acc with one rounding.

    ```mlir
    %x = "test.value"() : () -> vector<16xf32>
    %v = vector.fma %x, %x, %x : vector<16xf32>
    ```
    """

    name = "vector.fma"
    traits = frozenset({PURE})
    assembly = "$lhs `,` $rhs `,` $acc attr-dict `:` type($result)"
    lhs: Value = operand(FLOAT_VECTOR)
    rhs: Value = operand(FLOAT_VECTOR)
    acc: Value = operand(FLOAT_VECTOR)
    result: Value = result(FLOAT_VECTOR)

    def infer_types(self) -> Sequence[Type]:
        return [same_type(self.operands)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return typed_array(fused_multiply_add(*args), self.result.type)


class CreateMaskOp(Op):
    """A mask whose first lanes, as many as the operand says, are set.

    ```mlir
    %n = "test.value"() : () -> index
    %k = vector.create_mask %n : vector<16xi1>
    ```
    """

    name = "vector.create_mask"
    traits = frozenset({PURE})
    assembly = "$count attr-dict `:` type($result)"
    count: Value = operand(INDEX_TYPE)
    result: Value = result(VECTOR)

    def verify_op(self) -> None:
        _check_rank_one(self.result)
        if vector_type(self.result).element is not I1:
            raise IRError(f"a mask is a vector of i1, not {self.result.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.arange(lanes(self.result)) < int(args[0])


class StepOp(Op):
    """0, 1, 2, ... in the lanes.

    ```mlir
    %k = vector.step : vector<16xindex>
    ```
    """

    name = "vector.step"
    traits = frozenset({PURE})
    assembly = "attr-dict `:` type($result)"
    result: Value = result(VECTOR)

    def verify_op(self) -> None:
        _check_rank_one(self.result)
        if vector_type(self.result).element is not INDEX:
            raise IRError(f"lane numbers are a vector of index, not {self.result.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.arange(lanes(self.result), dtype=np.int64)


class ShuffleOp(Op):
    """Lanes picked from two vectors laid end to end.

    ```mlir
    %x = "test.value"() : () -> vector<4xf32>
    %v = vector.shuffle %x, %x {mask = [2, 3]} : vector<4xf32>, vector<4xf32> -> vector<2xf32>
    ```
    """

    name = "vector.shuffle"
    traits = frozenset({PURE})
    assembly = "$v1 `,` $v2 attr-dict `:` type($v1) `,` type($v2) `->` type($result)"
    v1: Value = operand(VECTOR)
    v2: Value = operand(VECTOR)
    mask: Sequence[int] = attr(list_of(INT))
    result: Value = result(VECTOR)

    def infer_types(self) -> Sequence[Type]:
        return [VectorType((len(self.mask),), vector_type(self.v1).element)]

    def verify_op(self) -> None:
        _check_rank_one(self.v1)
        _check_rank_one(self.v2)
        if vector_type(self.v1).element is not vector_type(self.v2).element:
            raise IRError(f"lanes of {self.v1.type} and {self.v2.type}")
        count = lanes(self.v1) + lanes(self.v2)
        if any(not 0 <= lane < count for lane in self.mask):
            raise IRError(f"lanes {list(self.mask)} of {count}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.concatenate([args[0], args[1]])[list(self.mask)]


class ExtractOp(Op):
    """One lane.

    ```mlir
    %x = "test.value"() : () -> vector<4xf32>
    %v = vector.extract %x {static_position = array<i64: 2>} : f32 from vector<4xf32>
    ```
    """

    name = "vector.extract"
    traits = frozenset({PURE})
    assembly = "$source attr-dict `:` type($result) `from` type($source)"
    source: Value = operand(VECTOR)
    static_position: Sequence[int] = attr(INTS)
    result: Value = result()

    def infer_types(self) -> Sequence[Type]:
        return [vector_type(self.source).element]

    def verify_op(self) -> None:
        _check_rank_one(self.source)
        if len(self.static_position) != 1 or not 0 <= self.static_position[0] < lanes(self.source):
            raise IRError(f"position {list(self.static_position)} in {self.source.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return args[0][self.static_position[0]]


class FromElementsOp(Op):
    """A vector of given lanes.

    ```mlir
    %x = "test.value"() : () -> f32
    %v = vector.from_elements %x, %x : vector<2xf32>
    ```
    """

    name = "vector.from_elements"
    traits = frozenset({PURE})
    assembly = "$elements attr-dict `:` type($result)"
    elements: Sequence[Value] = operands()
    result: Value = result(VECTOR)

    def verify_op(self) -> None:
        type_ = vector_type(self.result)
        _check_rank_one(self.result)
        if len(self.elements) != type_.shape[0]:
            raise IRError(f"{len(self.elements)} elements for {type_}")
        for element in self.elements:
            if element.type is not type_.element:
                raise IRError(f"{element.type} in the lanes of {type_}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return np.array(args, numpy_dtype(self.result.type))


class GatherOp(Op):
    """Reads base[indices + lane's index along the last dim] for the lanes whose mask bit is set.

    ```mlir
    %m = "test.value"() : () -> memref<64xf32>
    %i = "test.value"() : () -> index
    %l = "test.value"() : () -> vector<16xindex>
    %k = "test.value"() : () -> vector<16xi1>
    %p = "test.value"() : () -> vector<16xf32>
    %x = vector.gather %m[%i] [%l], %k, %p : memref<64xf32>, vector<16xindex>, vector<16xi1>, vector<16xf32> into vector<16xf32>
    ```
    """  # noqa: E501

    name = "vector.gather"
    assembly = (
        "$base `[` $offsets `]` `[` $index_vec `]` `,` $mask `,` $pass_thru attr-dict "
        "`:` type($base) `,` type($index_vec) `,` type($mask) `,` type($pass_thru) `into` type($result)"
    )
    base: Value = operand(MEMREF)
    offsets: Sequence[Value] = operands(INDEX_TYPE)
    index_vec: Value = operand(VECTOR)
    mask: Value = operand(VECTOR)
    pass_thru: Value = operand(VECTOR)
    result: Value = result(VECTOR)

    def infer_types(self) -> Sequence[Type]:
        return [self.pass_thru.type]

    def verify_op(self) -> None:
        _check_access(self.base, self.offsets, self.result, self.mask)
        _check_rank_one(self.result)
        index = vector_type(self.index_vec)
        if index.shape != vector_type(self.result).shape or isinstance(index.element, FloatType):
            raise IRError(f"indices of type {index} for {self.result.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        base, *offsets, index_vec, mask, made = args
        made = made.copy()
        *outer, last = (int(i) for i in offsets)
        for lane in np.flatnonzero(mask):
            made[lane] = base[_run(base, (*outer, last + int(index_vec[lane])), 1)][0]
        return made


# The meaning of each kind of reduction: the elementwise op that merges an accumulator with a lane.
_COMBINE: dict[str, type[arith.BinaryOp]] = {
    "add": arith.AddIOp, "mul": arith.MulIOp, "minui": arith.MinUIOp, "minsi": arith.MinSIOp,
    "minnumf": arith.MinNumFOp, "maxui": arith.MaxUIOp, "maxsi": arith.MaxSIOp, "maxnumf": arith.MaxNumFOp,
    "and": arith.AndIOp, "or": arith.OrIOp, "xor": arith.XOrIOp, "maximumf": arith.MaximumFOp,
    "minimumf": arith.MinimumFOp,
}  # fmt: skip


@interned
class CombiningKindAttr(Attribute):
    """`#vector.kind<add>`: how lanes are merged."""

    mnemonic = "vector.kind"
    kind: str

    def __attrs_post_init__(self) -> None:
        if self.kind not in _COMBINE:
            raise IRError(f"{self.kind!r} is not one of {', '.join(_COMBINE)}")

    def print_parameters(self) -> str:
        """`<add>`"""
        return f"<{self.kind}>"

    @staticmethod
    def parse_parameters(parser: Parser) -> CombiningKindAttr:
        """The inverse of `print_parameters`."""
        parser.expect("<")
        kind = parser.bare()
        parser.expect(">")
        return CombiningKindAttr(kind)


COMBINING_KIND = AttrKind(
    f"one of {', '.join(_COMBINE)}", CombiningKindAttr, lambda a: a.kind,  # type: ignore[attr-defined]
    lambda a: isinstance(a, CombiningKindAttr), tuple(_COMBINE),
)  # fmt: skip


class ReductionOp(Op):
    """The lanes merged into one scalar, from the first to the last, starting from `acc` where it is given.

    `add` and `mul` work on integers and floats, the kinds that end in `f` on floats, all others on integers.

    ```mlir
    %x = "test.value"() : () -> vector<16xf32>
    %a = "test.value"() : () -> f32
    %s = vector.reduction<add>, %x, %a : vector<16xf32> into f32
    ```
    """

    name = "vector.reduction"
    traits = frozenset({PURE})
    assembly = "`<` $kind `>` `,` $vector (`,` $acc^)? attr-dict `:` type($vector) `into` type($dest)"
    vector: Value = operand(VECTOR)
    acc: Value | None = optional_operand(SCALAR_LIKE)
    kind: str = attr(COMBINING_KIND)
    fastmath: Attribute | None = attr(FASTMATH, default=None)
    dest: Value = result(SCALAR_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [vector_type(self.vector).element]

    def verify_op(self) -> None:
        type_ = vector_type(self.vector)
        on_floats = isinstance(type_.element, FloatType)
        if len(type_.shape) != 1:
            raise IRError(f"a reduction takes a vector of rank 1, not {type_}")
        if self.acc is not None and self.acc.type is not type_.element:
            raise IRError(f"an accumulator of type {self.acc.type} for {type_}")
        if self.kind not in ("add", "mul") and self.kind.endswith("f") != on_floats:
            raise IRError(f"kind {self.kind!r} does not merge elements of type {type_.element}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        start = args[1:] or args[0][:1]
        merged = functools.reduce(_COMBINE[self.kind].compute, args[0] if len(args) > 1 else args[0][1:], start[0])
        return typed_array(merged, self.dest.type)


def mask_type(count: int) -> VectorType:
    """`vector<COUNTxi1>`."""
    return VectorType((count,), I1)


def index_vector(count: int) -> VectorType:
    """`vector<COUNTxindex>`."""
    return VectorType((count,), INDEX)


DIALECT = Dialect.of_module("vector", globals().values(), __doc__, landing="loop")
