"""Integer and floating-point arithmetic on scalars and vectors; names, syntax and meaning are upstream's.

Integers are signless: the op says how it reads them. In the interpreter a signless integer is held as a signed one of
its width. Undefined results (division by zero, over-wide shifts, float -> integer out of range) are errors there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.arith_flags import FASTMATH, OVERFLOW, FastMathAttr, OverflowAttr
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attributes import Attribute, DenseAttr, ElementsAttr, FloatAttr, IntegerAttr
from stepwell.ir.attrkinds import TYPED, int_enum
from stepwell.ir.constraints import ANY, BOOL_LIKE, FLOAT_LIKE, INT_LIKE, SCALAR_LIKE
from stepwell.ir.core import Operation, Value
from stepwell.ir.opdef import COMMUTATIVE, CONSTANT, PURE, Op, attr, operand, result
from stepwell.ir.registry import Dialect
from stepwell.ir.rewrite import CONSTANT_MAKERS
from stepwell.ir.types import (
    I1,
    INDEX,
    FloatType,
    IndexType,
    IntegerType,
    Signedness,
    Type,
    VectorType,
    bit_width,
    element_of,
    numpy_dtype,
)

UNSIGNED_VIEWS = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def typed_array(value: Any, type_: Type) -> Any:
    """The value as a NumPy scalar or array of the type's element type."""
    return np.asarray(value).astype(numpy_dtype(type_), copy=False)[()]


def as_unsigned(value: Any) -> Any:
    """The same bits read as an unsigned integer."""
    array = np.asarray(value)
    return array if array.dtype.kind in "bu" else array.view(UNSIGNED_VIEWS[8 * array.itemsize])


class ConstantOp(Op):
    """A scalar, or a vector with all its lanes.

    ```mlir
    %c = arith.constant 1.5 : f32
    ```
    """

    name = "arith.constant"
    traits = frozenset({PURE, CONSTANT})
    assembly = "$value attr-dict"
    value: Attribute = attr(TYPED)
    result: Value = result()

    def infer_types(self) -> Sequence[Type]:
        value = self.value
        if isinstance(value, (IntegerAttr, FloatAttr)):
            return [value.type]
        if not isinstance(value, DenseAttr) or not isinstance(value.type, VectorType):
            raise IRError(f"a constant of scalar or vector type is wanted, not {value}")
        return [value.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        value = self.value
        if isinstance(value, (IntegerAttr, FloatAttr)):
            return typed_constant(value)
        assert isinstance(value, ElementsAttr)
        return value.numpy()


def typed_constant(value: IntegerAttr | FloatAttr) -> Any:
    """The NumPy scalar of an attribute; integers wrap into the signed range."""
    if isinstance(value, FloatAttr):
        return numpy_dtype(value.type).type(value.value)
    dtype = numpy_dtype(value.type)
    if dtype.kind == "b":
        return np.bool_(value.value)
    bits = 8 * dtype.itemsize
    wrapped = value.value & ((1 << bits) - 1)
    return dtype.type(wrapped - (1 << bits) if wrapped >> (bits - 1) and dtype.kind == "i" else wrapped)


def constant(value: float, type_: Type) -> ConstantOp:
    """The constant of a scalar type, or of a vector type in all lanes."""
    element = element_of(type_)
    if isinstance(type_, VectorType):
        return lanes_constant(np.full(type_.shape, value), type_)
    if isinstance(element, FloatType):
        return ConstantOp(value=FloatAttr(float(value), element))
    return ConstantOp(value=IntegerAttr(int(value), element))


def lanes_constant(values: Any, type_: VectorType) -> ConstantOp:
    """The constant vector with these lanes, each rounded to the type."""
    return ConstantOp(value=DenseAttr(type_, np.asarray(values).astype(numpy_dtype(type_)).tobytes()))


def index_constant(value: int) -> ConstantOp:
    """`arith.constant N : index`."""
    return ConstantOp(value=IntegerAttr(value, INDEX))


def constant_int(value: Value) -> int | None:
    """The integer that a value is known to be."""
    op = value.defining_op
    if isinstance(op, ConstantOp) and isinstance(op.value, IntegerAttr):
        return op.value.value
    return None


def _make_constant(attribute: Attribute, type_: Type) -> Operation | None:
    return ConstantOp(value=attribute) if isinstance(attribute, (IntegerAttr, FloatAttr, DenseAttr)) else None


for _dialect in ("arith", "math", "isa", "vector", "loop", "buffer"):
    CONSTANT_MAKERS[_dialect] = _make_constant


def attribute_of(value: Any, type_: Type) -> Attribute:
    """The attribute of an interpreted scalar or vector of a type."""
    element = element_of(type_)
    if isinstance(type_, VectorType):
        return DenseAttr(type_, np.asarray(value, numpy_dtype(element)).tobytes())
    if isinstance(element, FloatType):
        return FloatAttr(float(value), element)
    return IntegerAttr(int(value), element)


def _content(attribute: Attribute) -> Any:
    if isinstance(attribute, (IntegerAttr, FloatAttr)):
        return typed_constant(attribute)
    assert isinstance(attribute, ElementsAttr)
    return attribute.numpy()


def same_type(values: Sequence[Value]) -> Type:
    """The one type of some values. Raises IRError where they differ."""
    types = [value.type for value in values]
    if any(type_ is not types[0] for type_ in types):
        raise IRError(f"operands of types {', '.join(map(str, types[:-1]))} and {types[-1]}")
    return types[0]


class ElementwiseOp(Op):
    """Base of pure ops whose meaning is a NumPy function of the operands; folds by computing it."""

    compute: Callable[..., Any]

    def interpret(self, frame: Any, *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return typed_array(type(self).compute(*args), self.results[0].type)

    def fold(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        if any(attribute is None for attribute in constants):
            return self.simplify(constants)
        try:
            made = self.interpret(None, *(_content(attribute) for attribute in constants if attribute is not None))
        except IRError:
            return None
        return [attribute_of(made, self.results[0].type)]

    def simplify(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        """Identities that hold with some operands constant."""
        return None


class BinaryOp(ElementwiseOp):
    """Two operands of the result's type."""

    assembly = "$lhs `,` $rhs attr-dict `:` type($result)"
    traits = frozenset({PURE})
    lhs: Value = operand(SCALAR_LIKE)
    rhs: Value = operand(SCALAR_LIKE)
    result: Value = result(SCALAR_LIKE)
    identity: float | None = None  # x op identity = x (and identity op x = x where commutative)

    def infer_types(self) -> Sequence[Type]:
        return [same_type(self.operands)]

    def simplify(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        if self.identity is None or isinstance(element_of(self.result.type), FloatType):
            return None
        if _is_splat_int(constants[1], int(self.identity)):
            return [self.lhs]
        if COMMUTATIVE in self.traits and _is_splat_int(constants[0], int(self.identity)):
            return [self.rhs]
        return None


def _is_splat_int(attribute: Attribute | None, value: int) -> bool:
    return isinstance(attribute, IntegerAttr) and attribute.value == value


def _doc(name: str, words: str, type_: str) -> str:
    return f"""{words}

    ```mlir
    %a = "test.value"() : () -> {type_}
    %b = "test.value"() : () -> {type_}
    %r = {name} %a, %b : {type_}
    ```
    """


def _binary(name: str, words: str, compute: Callable[..., Any], *, is_float: bool, commutative: bool = False,
            identity: float | None = None) -> type[BinaryOp]:  # fmt: skip
    constraint = FLOAT_LIKE if is_float else INT_LIKE
    camel = "".join(part.capitalize() for part in name.partition(".")[2].split("_"))
    members: dict[str, Any] = {
        "name": name, "__doc__": _doc(name, words, "f32" if is_float else "i32"), "__module__": __name__,
        "compute": staticmethod(compute), "identity": identity, "lhs": operand(constraint), "rhs": operand(constraint),
        "result": result(constraint), "traits": frozenset({PURE, COMMUTATIVE} if commutative else {PURE}),
    }  # fmt: skip
    if is_float:
        members["fastmath"] = attr(FASTMATH, default=None)
    if name in ("arith.addi", "arith.subi", "arith.muli", "arith.shli"):
        members["overflowFlags"] = attr(OVERFLOW, default=None)
    return type(f"{camel}Op", (BinaryOp,), members)


ZERO_DIVISOR = "division of an integer by zero"


def check_divisor(dividend: Any, divisor: Any) -> None:
    """Raise RuntimeError with the first dividend whose integer divisor is zero."""
    if not np.all(divisor):
        dividend, divisor = np.broadcast_arrays(dividend, divisor)
        for number in dividend[divisor == 0].flat[:1]:
            raise RuntimeError(ZERO_DIVISOR, int(number))


def _signed_division(a: Any, b: Any) -> tuple[Any, Any]:
    """Quotient and remainder rounded towards zero."""
    check_divisor(a, b)
    a, b = np.asarray(a), np.asarray(b)
    if np.any((b == -1) & (a == np.iinfo(a.dtype).min)):
        raise IRError("signed division overflows")
    down = np.floor_divide(a, b)
    quotient = down + ((down * b != a) & ((a < 0) != (b < 0))).astype(a.dtype)
    return quotient, a - quotient * b


def _floordiv(a: Any, b: Any) -> Any:
    check_divisor(a, b)
    return np.floor_divide(a, b)


def _ceildiv(a: Any, b: Any) -> Any:
    down = np.asarray(_floordiv(a, b))
    return down + (down * b != a).astype(down.dtype)


def _unsigned(compute: Callable[[Any, Any], Any], divides: bool = False) -> Callable[..., Any]:
    def run(a: Any, b: Any) -> Any:
        if divides:
            check_divisor(a, b)
        made = np.asarray(compute(as_unsigned(a), as_unsigned(b)))
        return made.view(np.asarray(a).dtype)

    return run


def _shift(compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def run(a: Any, b: Any) -> Any:
        if np.any(as_unsigned(b) >= 8 * np.asarray(a).itemsize):
            raise IRError("shift by the width or more")
        return compute(a, b)

    return run


def _ordered(pick: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """maximumf / minimumf: NaN wins, and -0.0 < +0.0."""

    def run(a: Any, b: Any) -> Any:
        a, b = np.asarray(a), np.asarray(b)
        chosen = pick(a, b)
        zeros = (a == 0) & (b == 0)
        negative = np.signbit(a) & np.signbit(b) if pick is np.maximum else np.signbit(a) | np.signbit(b)
        signed = np.where(negative, np.asarray(-0.0, a.dtype), np.asarray(0.0, a.dtype))
        return np.where(zeros, signed, chosen)

    return run


AddFOp = _binary("arith.addf", "Floating-point sum.", np.add, is_float=True, commutative=True)
SubFOp = _binary("arith.subf", "Floating-point difference.", np.subtract, is_float=True)
MulFOp = _binary("arith.mulf", "Floating-point product.", np.multiply, is_float=True, commutative=True)
DivFOp = _binary("arith.divf", "Floating-point quotient.", np.divide, is_float=True)
RemFOp = _binary("arith.remf", "Floating-point remainder with the dividend's sign (C's fmod).", np.fmod, is_float=True)
MaximumFOp = _binary("arith.maximumf", "Maximum; NaN if either is NaN.", _ordered(np.maximum), is_float=True,
                     commutative=True)  # fmt: skip
MinimumFOp = _binary("arith.minimumf", "Minimum; NaN if either is NaN.", _ordered(np.minimum), is_float=True,
                     commutative=True)  # fmt: skip
MaxNumFOp = _binary("arith.maxnumf", "Maximum; the other one if one is NaN.", np.fmax, is_float=True, commutative=True)
MinNumFOp = _binary("arith.minnumf", "Minimum; the other one if one is NaN.", np.fmin, is_float=True, commutative=True)
AddIOp = _binary("arith.addi", "Sum modulo 2^width.", np.add, is_float=False, commutative=True, identity=0)
SubIOp = _binary("arith.subi", "Difference modulo 2^width.", np.subtract, is_float=False, identity=0)
MulIOp = _binary("arith.muli", "Product modulo 2^width.", np.multiply, is_float=False, commutative=True, identity=1)
DivSIOp = _binary("arith.divsi", "Signed quotient, rounded to zero.", lambda a, b: _signed_division(a, b)[0],
                  is_float=False, identity=1)  # fmt: skip
DivUIOp = _binary("arith.divui", "Unsigned quotient.", _unsigned(np.floor_divide, True), is_float=False, identity=1)
RemSIOp = _binary("arith.remsi", "Signed remainder with the dividend's sign.", lambda a, b: _signed_division(a, b)[1],
                  is_float=False)  # fmt: skip
RemUIOp = _binary("arith.remui", "Unsigned remainder.", _unsigned(np.remainder, True), is_float=False)
FloorDivSIOp = _binary("arith.floordivsi", "Signed quotient, rounded down.", _floordiv, is_float=False, identity=1)
CeilDivSIOp = _binary("arith.ceildivsi", "Signed quotient, rounded up.", _ceildiv, is_float=False,
                      identity=1)  # fmt: skip
AndIOp = _binary("arith.andi", "Bitwise and.", np.bitwise_and, is_float=False, commutative=True)
OrIOp = _binary("arith.ori", "Bitwise or.", np.bitwise_or, is_float=False, commutative=True, identity=0)
XOrIOp = _binary("arith.xori", "Bitwise exclusive or.", np.bitwise_xor, is_float=False, commutative=True, identity=0)
ShLIOp = _binary("arith.shli", "Shift left.", _shift(np.left_shift), is_float=False, identity=0)
ShRSIOp = _binary("arith.shrsi", "Shift right, filling with the sign.", _shift(np.right_shift), is_float=False,
                  identity=0)  # fmt: skip
ShRUIOp = _binary("arith.shrui", "Shift right, filling with zeros.", _shift(_unsigned(np.right_shift)), is_float=False,
                  identity=0)  # fmt: skip
MaxSIOp = _binary("arith.maxsi", "Signed maximum.", np.maximum, is_float=False, commutative=True)
MinSIOp = _binary("arith.minsi", "Signed minimum.", np.minimum, is_float=False, commutative=True)
MaxUIOp = _binary("arith.maxui", "Unsigned maximum.", _unsigned(np.maximum), is_float=False, commutative=True)
MinUIOp = _binary("arith.minui", "Unsigned minimum.", _unsigned(np.minimum), is_float=False, commutative=True)


DIVISIONS = (DivSIOp, DivUIOp, RemSIOp, RemUIOp, FloorDivSIOp, CeilDivSIOp)


class NegFOp(ElementwiseOp):
    """Floating-point negation.

    ```mlir
    %a = "test.value"() : () -> f32
    %r = arith.negf %a : f32
    ```
    """

    name = "arith.negf"
    traits = frozenset({PURE})
    assembly = "$value attr-dict `:` type($result)"
    compute = staticmethod(np.negative)
    value: Value = operand(FLOAT_LIKE)
    fastmath: Attribute | None = attr(FASTMATH, default=None)
    result: Value = result(FLOAT_LIKE)

    def infer_types(self) -> Sequence[Type]:
        return [self.value.type]


INTEGER_PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
FLOAT_PREDICATES = ("false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord",
                    "ueq", "ugt", "uge", "ult", "ule", "une", "uno", "true")  # fmt: skip
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def with_element(type_: Type, element: Type) -> Type:
    """The same vector shape, or a scalar, of another element type."""
    return VectorType(type_.shape, element) if isinstance(type_, VectorType) else element


class CompareOp(ElementwiseOp):
    """Base of the comparisons."""

    assembly = "$predicate `,` $lhs `,` $rhs attr-dict `:` type($lhs)"
    traits = frozenset({PURE})
    lhs: Value
    rhs: Value
    predicate: str

    def infer_types(self) -> Sequence[Type]:
        return [with_element(same_type(self.operands), I1)]


class CmpIOp(CompareOp):
    """Integer comparison.

    ```mlir
    %a = "test.value"() : () -> i32
    %r = arith.cmpi slt, %a, %a : i32
    ```
    """

    name = "arith.cmpi"
    predicate: str = attr(int_enum(*INTEGER_PREDICATES))
    lhs: Value = operand(INT_LIKE)
    rhs: Value = operand(INT_LIKE)
    result: Value = result(BOOL_LIKE)

    def interpret(self, frame: Any, *args: Any) -> Any:
        a, b = (as_unsigned(x) for x in args) if self.predicate.startswith("u") else args
        return np.asarray(_COMPARISONS[self.predicate[-2:]](a, b))[()]


class CmpFOp(CompareOp):
    """Floating-point comparison; ordered predicates are false and unordered ones true where an operand is NaN.

    ```mlir
    %a = "test.value"() : () -> f32
    %r = arith.cmpf olt, %a, %a : f32
    ```
    """

    name = "arith.cmpf"
    predicate: str = attr(int_enum(*FLOAT_PREDICATES))
    lhs: Value = operand(FLOAT_LIKE)
    rhs: Value = operand(FLOAT_LIKE)
    fastmath: Attribute | None = attr(FASTMATH, default=None)
    result: Value = result(BOOL_LIKE)

    def interpret(self, frame: Any, *args: Any) -> Any:
        a, b = args
        unordered = np.isnan(a) | np.isnan(b)
        if self.predicate in ("false", "true"):
            return np.asarray(np.full(np.shape(a), self.predicate == "true"))[()]
        if self.predicate in ("ord", "uno"):
            return np.asarray(unordered if self.predicate == "uno" else ~unordered)[()]
        with np.errstate(invalid="ignore"):
            holds = _COMPARISONS[self.predicate[1:]](a, b)
        return np.asarray(holds & ~unordered if self.predicate[0] == "o" else holds | unordered)[()]


class SelectOp(ElementwiseOp):
    """The first value where the condition holds, else the second.

    ```mlir
    %c = "test.value"() : () -> i1
    %a = "test.value"() : () -> f32
    %r = arith.select %c, %a, %a : f32
    ```
    """

    name = "arith.select"
    traits = frozenset({PURE})
    assembly = "$condition `,` $true_value `,` $false_value attr-dict `:` type($result)"
    condition: Value = operand(BOOL_LIKE)
    true_value: Value = operand(ANY)
    false_value: Value = operand(ANY)
    result: Value = result(ANY)
    compute = staticmethod(np.where)

    def infer_types(self) -> Sequence[Type]:
        if self.true_value.type is not self.false_value.type:
            raise IRError(f"values of types {self.true_value.type} and {self.false_value.type}")
        return [self.true_value.type]

    def verify_op(self) -> None:
        condition = self.condition.type
        if isinstance(condition, VectorType) and with_element(self.result.type, I1) is not condition:
            raise IRError(f"a condition of type {condition} for values of type {self.result.type}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        condition, a, b = args
        if np.ndim(condition) == 0:
            return a if condition else b
        return np.where(condition, a, b)

    def simplify(self, constants: Sequence[Attribute | None]) -> Sequence[Attribute | Value] | None:
        if isinstance(constants[0], IntegerAttr):
            return [self.true_value if constants[0].value else self.false_value]
        return [self.true_value] if self.true_value is self.false_value else None


class CastOp(ElementwiseOp):
    """Base of the conversions."""

    assembly = "$value attr-dict `:` type($value) `to` type($result)"
    traits = frozenset({PURE})
    value: Value = operand(SCALAR_LIKE)
    result: Value = result(SCALAR_LIKE)
    fits: Callable[[Type, Type], bool]

    def verify_op(self) -> None:
        source, target = self.value.type, self.result.type
        same_shape = with_element(source, I1) is with_element(target, I1)
        if not same_shape or not self.fits(element_of(source), element_of(target)):
            raise IRError(f"does not convert {source} to {target}")

    def interpret(self, frame: Any, *args: Any) -> Any:
        return self.convert(np.asarray(args[0]), numpy_dtype(self.result.type))[()]

    def convert(self, value: Any, dtype: np.dtype[Any]) -> Any:
        """The NumPy conversion."""
        return value.astype(dtype)


def _is_float(type_: Type) -> bool:
    return isinstance(type_, FloatType)


def _signless(type_: Type) -> bool:
    return isinstance(type_, IntegerType) and type_.signedness is Signedness.SIGNLESS


def _widens(accepts: Callable[[Type], bool]) -> Callable[[Type, Type], bool]:
    return lambda a, b: accepts(a) and accepts(b) and bit_width(a) < bit_width(b)


def _narrows(accepts: Callable[[Type], bool]) -> Callable[[Type, Type], bool]:
    return lambda a, b: accepts(a) and accepts(b) and bit_width(a) > bit_width(b)


def _int_to_float(a: Type, b: Type) -> bool:
    return _signless(a) and isinstance(b, FloatType)


def _float_to_int(a: Type, b: Type) -> bool:
    return isinstance(a, FloatType) and _signless(b)


def _index_and_int(a: Type, b: Type) -> bool:
    return (isinstance(a, IndexType) and _signless(b)) or (_signless(a) and isinstance(b, IndexType))


def _same_width(a: Type, b: Type) -> bool:
    return all(_signless(t) or isinstance(t, FloatType) for t in (a, b)) and bit_width(a) == bit_width(b)


def _cast(
    name: str, words: str, source: str, target: str, fits: Callable[[Type, Type], bool],
    convert: Callable[..., Any] | None = None,
) -> type[CastOp]:  # fmt: skip
    doc = f"""{words}

    ```mlir
    %a = "test.value"() : () -> {source}
    %r = {name} %a : {source} to {target}
    ```
    """
    members: dict[str, Any] = {"name": name, "__doc__": doc, "__module__": __name__, "fits": staticmethod(fits)}
    if convert is not None:
        members["convert"] = lambda self, value, dtype: convert(value, dtype)
    return type("".join(part.capitalize() for part in name[6:].split("_")) + "Op", (CastOp,), members)


def _to_integer(unsigned: bool) -> Callable[..., Any]:
    def convert(value: Any, dtype: np.dtype[Any]) -> Any:
        target: np.dtype[Any] = np.dtype(UNSIGNED_VIEWS[8 * dtype.itemsize]) if unsigned else dtype
        info = np.iinfo(target)
        exact = np.trunc(value.astype(np.float64))
        if not np.all((exact >= float(info.min)) & (exact < float(info.max) + 1)):
            raise IRError("a float is out of the integer's range")
        return exact.astype(target).view(dtype)

    return convert


def _extend_unsigned(value: Any, dtype: np.dtype[Any]) -> Any:
    return as_unsigned(value).astype(UNSIGNED_VIEWS[8 * dtype.itemsize]).view(dtype)


def _truncate(value: Any, dtype: np.dtype[Any]) -> Any:
    return (value & 1).astype(bool) if dtype.kind == "b" else value.astype(dtype)


def _extend_signed(value: Any, dtype: np.dtype[Any]) -> Any:
    return -value.astype(dtype) if value.dtype.kind == "b" else value.astype(dtype)


ExtFOp = _cast("arith.extf", "To a wider float, exactly.", "f32", "f64", _widens(_is_float))
TruncFOp = _cast("arith.truncf", "To a narrower float, rounding to nearest even.", "f64", "f32", _narrows(_is_float))
ExtSIOp = _cast("arith.extsi", "To a wider integer, repeating the sign.", "i8", "i32", _widens(_signless),
                _extend_signed)  # fmt: skip
ExtUIOp = _cast("arith.extui", "To a wider integer, filling with zeros.", "i8", "i32", _widens(_signless),
                _extend_unsigned)  # fmt: skip
TruncIOp = _cast("arith.trunci", "To a narrower integer, dropping high bits.", "i32", "i8", _narrows(_signless),
                 _truncate)  # fmt: skip
SIToFPOp = _cast("arith.sitofp", "Signed integer to float.", "i32", "f32", _int_to_float,
                 lambda v, d: _extend_signed(v, np.dtype(np.int64)).astype(d))  # fmt: skip
UIToFPOp = _cast("arith.uitofp", "Unsigned integer to float.", "i32", "f32", _int_to_float,
                 lambda v, d: as_unsigned(v).astype(d))  # fmt: skip
FPToSIOp = _cast("arith.fptosi", "Float to signed integer, rounding to zero.", "f32", "i32", _float_to_int,
                 _to_integer(False))  # fmt: skip
FPToUIOp = _cast("arith.fptoui", "Float to unsigned integer, rounding to zero.", "f32", "i32", _float_to_int,
                 _to_integer(True))  # fmt: skip
IndexCastOp = _cast("arith.index_cast", "Between index and a signed integer.", "i32", "index", _index_and_int,
                    _extend_signed)  # fmt: skip
IndexCastUIOp = _cast("arith.index_castui", "Between index and an unsigned integer.", "i32", "index", _index_and_int,
                      lambda v, d: _extend_unsigned(v, d) if d.itemsize >= v.itemsize else v.astype(d))  # fmt: skip
BitcastOp = _cast("arith.bitcast", "The same bits as another type of the same width.", "f32", "i32", _same_width,
                  lambda v, d: v.view(d))  # fmt: skip


DIALECT = Dialect.of_module("arith", (*globals().values(), FastMathAttr, OverflowAttr), __doc__)
