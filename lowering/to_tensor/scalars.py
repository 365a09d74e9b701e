"""Writes scalar bodies: arith and math ops chosen by the operand's type."""

from __future__ import annotations

from stepwell.dialects import arith, math
from stepwell.dialects.check import RequireOp
from stepwell.dialects.tensor import DimsAttr, IndexOp, SizeOp
from stepwell.ir.attributes import FloatAttr, IntegerAttr, UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import Op
from stepwell.ir.types import F32, I1, I64, INDEX, FloatType, IntegerType, Type, bit_width, numpy_dtype


class Scalars:
    """Inserts scalar ops; every method returns the new value. `unsigned` says how integers are read.

    `source` is the op whose meaning this is, for errors; `nonzero` are the values that are proven not to be 0."""

    def __init__(self, builder: Builder, source: Operation | None = None) -> None:
        self.builder = builder
        self.source = source
        self.nonzero: set[Value] = set()

    def emit(self, op: Op) -> Value:
        """Insert an op with one result."""
        return self.builder.insert(op).results[0]

    def constant(self, value: float, type_: Type) -> Value:
        """A constant of a scalar type."""
        return self.emit(arith.constant(value, type_))

    def _pick(
        self, a: Value, on_float: type[Op], on_signed: type[Op], on_unsigned: type[Op] | None, unsigned: bool
    ) -> type[Op]:
        if isinstance(a.type, FloatType):
            return on_float
        return on_unsigned if unsigned and on_unsigned is not None else on_signed

    def add(self, a: Value, b: Value) -> Value:
        """a + b"""
        return self.emit(self._pick(a, arith.AddFOp, arith.AddIOp, None, False)(a, b))

    def sub(self, a: Value, b: Value) -> Value:
        """a - b"""
        return self.emit(self._pick(a, arith.SubFOp, arith.SubIOp, None, False)(a, b))

    def mul(self, a: Value, b: Value) -> Value:
        """a * b"""
        return self.emit(self._pick(a, arith.MulFOp, arith.MulIOp, None, False)(a, b))

    def divf(self, a: Value, b: Value) -> Value:
        """a / b of floats"""
        return self.emit(arith.DivFOp(a, b))

    def maximum(self, a: Value, b: Value, unsigned: bool = False) -> Value:
        """The larger one; NaN wins."""
        return self.emit(self._pick(a, arith.MaximumFOp, arith.MaxSIOp, arith.MaxUIOp, unsigned)(a, b))

    def minimum(self, a: Value, b: Value, unsigned: bool = False) -> Value:
        """The smaller one; NaN wins."""
        return self.emit(self._pick(a, arith.MinimumFOp, arith.MinSIOp, arith.MinUIOp, unsigned)(a, b))

    def larger(self, a: Value, b: Value) -> Value:
        """The larger one; a number wins over NaN."""
        return self.emit(arith.MaxNumFOp(a, b))

    def negate(self, a: Value) -> Value:
        """-a"""
        if isinstance(a.type, FloatType):
            return self.emit(arith.NegFOp(a))
        return self.emit(arith.SubIOp(self.constant(0, a.type), a))

    def unary(self, cls: type[Op], a: Value) -> Value:
        """A math op of one operand."""
        return self.emit(cls(a))

    def share(self, a: Value) -> Value:
        """e**a, of a that is at most 0 or NaN."""
        return self.emit(math.ExpOp(a, attributes={math.NONPOSITIVE: UnitAttr()}))

    def compare(self, predicate: str, a: Value, b: Value, unsigned: bool = False) -> Value:
        """a PREDICATE b for eq, ne, lt, le, gt, ge; with NaN only `ne` holds."""
        if isinstance(a.type, FloatType):
            return self.emit(arith.CmpFOp(a, b, predicate="une" if predicate == "ne" else f"o{predicate}"))
        sign = "" if predicate in ("eq", "ne") else "u" if unsigned else "s"
        return self.emit(arith.CmpIOp(a, b, predicate=sign + predicate))

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """a where the condition holds, else b"""
        return self.emit(arith.SelectOp(condition, a, b))

    def require(self, condition: Value, value: Value, message: str) -> None:
        """Where the condition fails, end the run with an error that tells the message and the value."""
        loc = self.builder.loc
        if self.source is not None:
            message, loc = f"{self.source.op_name}: {message}", self.source.loc
        self.builder.insert(RequireOp(condition, value, message=message, loc=loc))

    def both(self, a: Value, b: Value) -> Value:
        """a and b, of truths or of bits"""
        return self.emit(arith.AndIOp(a, b))

    def either(self, a: Value, b: Value) -> Value:
        """a or b, of truths or of bits"""
        return self.emit(arith.OrIOp(a, b))

    def is_nan(self, a: Value) -> Value:
        """Whether a float is NaN."""
        return self.emit(arith.CmpFOp(a, a, predicate="uno"))

    def bounded(self, a: Value, limit: float) -> Value:
        """A float within [-limit, limit]; NaN stays NaN."""
        return self.minimum(self.maximum(a, self.constant(-limit, a.type)), self.constant(limit, a.type))

    def index(self, dim: int) -> Value:
        """The position along a dim of the iteration space."""
        return self.emit(IndexOp(dim=dim))

    def size(self, dim: Dim) -> Value:
        """A size as an index."""
        return self.constant(dim, INDEX) if isinstance(dim, int) else self.emit(SizeOp(of=DimsAttr((dim,))))

    def index_to_float(self, index: Value, type_: Type) -> Value:
        """An index as a float."""
        whole = self.emit(arith.IndexCastOp(index, result_types=[I64]))
        return self.emit(arith.SIToFPOp(whole, result_types=[type_]))

    def count(self, dim: Dim, type_: Type) -> Value:
        """A size as a float."""
        return self.constant(dim, type_) if isinstance(dim, int) else self.index_to_float(self.size(dim), type_)

    def known(self, a: Value) -> float | None:
        """The number that a scalar is known to be."""
        op = a.defining_op
        if isinstance(op, arith.ConstantOp) and isinstance(op.value, (IntegerAttr, FloatAttr)):
            return arith.typed_constant(op.value).item()  # type: ignore[no-any-return]
        return None

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c with one rounding"""
        return self.emit(math.FmaOp(a, b, c))

    def widened(self, a: Value) -> Value:
        """Floats narrower than f32 as f32."""
        if isinstance(a.type, FloatType) and a.type.width < 32:
            return self.emit(arith.ExtFOp(a, result_types=[F32]))
        return a

    def narrowed(self, a: Value, type_: Type) -> Value:
        """A float rounded to a narrower type, where it is not of that type yet."""
        if a.type is type_ or not (isinstance(a.type, FloatType) and isinstance(type_, FloatType)):
            return a
        wider = bit_width(type_) > bit_width(a.type)
        return self.emit((arith.ExtFOp if wider else arith.TruncFOp)(a, result_types=[type_]))

    def resized(self, a: Value, type_: IntegerType, unsigned: bool) -> Value:
        """An integer of another width."""
        if a.type is type_:
            return a
        if bit_width(type_) < bit_width(a.type):
            return self.emit(arith.TruncIOp(a, result_types=[type_]))
        extend = arith.ExtUIOp if unsigned or a.type is I1 else arith.ExtSIOp
        return self.emit(extend(a, result_types=[type_]))


def largest_finite(type_: FloatType) -> float:
    """The largest finite number of a float type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(numpy_dtype(type_)).max)
