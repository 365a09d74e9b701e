"""Instructions of AVX-512 that LLVM has no portable name for: tables in a register, scaling by a power of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepwell.dialects import isa
from stepwell.errors import TargetError
from stepwell.ir.core import Operation
from stepwell.ir.types import bit_width, element_of

from .function import FunctionEmitter, emits
from .types import lane_count, scalar_type
from .vectors import joined, padded, shuffled, sliced

REGISTER_BITS = 512


@emits(isa.LookupOp)
def lookup(e: FunctionEmitter, op: isa.LookupOp) -> None:
    """vpermps, vpermpd"""
    width, size = _width(e, op), lane_count(op.table.type) or 0
    lanes = REGISTER_BITS // width
    if size > lanes:
        raise TargetError(f"{op.table.type} is a table of more than one register")
    float_ = "float" if width == 32 else "double"
    table, held = f"<{lanes} x {float_}>", e.value(op.table)
    if size < lanes:  # over and over: bits above the lowest mean nothing
        held = shuffled(e, float_, held, size, [lane % size for lane in range(lanes)])
    name = f"llvm.x86.avx512.permvar.{'sf' if width == 32 else 'df'}.512"

    def one(index: str) -> str:
        return e.intrinsic(name, table, (table, held), (f"<{lanes} x i{width}>", index))

    count = lane_count(op.result.type)
    e.bind(op.result, _by_registers(e, width, count, [(f"i{width}", e.value(op.index))], float_, one))


@emits(isa.ScaleOp)
def scale(e: FunctionEmitter, op: isa.ScaleOp) -> None:
    """vscalefps, vscalefpd"""
    width, scalar = _width(e, op), scalar_type(element_of(op.result.type))
    lanes = REGISTER_BITS // width
    type_, mask = f"<{lanes} x {scalar}>", f"i{max(8, lanes)}"
    name = f"llvm.x86.avx512.mask.scalef.{'ps' if width == 32 else 'pd'}.512"

    def one(value: str, exponent: str) -> str:
        rest = (type_, "zeroinitializer"), (mask, "-1"), ("i32", "4")
        return e.intrinsic(name, type_, (type_, value), (type_, exponent), *rest)

    count = lane_count(op.result.type)
    given = [(scalar, e.value(op.value)), (scalar, e.value(op.exponent))]
    e.bind(op.result, _by_registers(e, width, count, given, scalar, one))


def _width(e: FunctionEmitter, op: Operation) -> int:
    """32 or 64. Raises TargetError for other widths, and where the target lacks the instruction."""
    width = bit_width(op.results[0].type)
    if width not in (32, 64):
        raise TargetError(f"{op.op_name} is made for f32 and f64, not {op.results[0].type}")
    if not e.target.has_tables:
        raise TargetError(f"{op.op_name} needs AVX-512, which {e.target.name} has not")
    return width


def _by_registers(
    e: FunctionEmitter, width: int, count: int | None, given: Sequence[tuple[str, str]], made: str,
    one: Callable[..., str],
) -> str:  # fmt: skip
    """`one(*registers)` for as many whole registers as the `given` (scalar type, text) fill, put together again."""
    lanes = REGISTER_BITS // width
    if count is None:
        registers = [
            e.emit(f"insertelement <{lanes} x {scalar}> poison, {scalar} {text}, i64 0") for scalar, text in given
        ]
        return e.emit(f"extractelement <{lanes} x {made}> {one(*registers)}, i64 0")
    whole = -(-count // lanes) * lanes
    wide = [(scalar, padded(e, scalar, text, count, whole)) for scalar, text in given]
    parts = [
        one(*(sliced(e, scalar, text, whole, first, lanes) for scalar, text in wide))
        for first in range(0, whole, lanes)
    ]
    return sliced(e, made, joined(e, made, parts, lanes), whole, 0, count)
