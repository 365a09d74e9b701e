"""Floating-point arithmetic, elementary functions and conversions.

No instruction carries a fast-math flag. Fused multiply-add is used exactly where the IR says so.
"""

from __future__ import annotations

import numpy as np

from stepwell.backends.cpu.functions import LIBM, ROUNDINGS
from stepwell.dialects import arith, loop, math, vector
from stepwell.dialects.arith import ConstantOp
from stepwell.errors import TargetError
from stepwell.ir.attributes import ElementsAttr, FloatAttr
from stepwell.ir.core import BlockArgument, Value
from stepwell.ir.types import FloatType, Type, bit_width

from .function import FunctionEmitter, emits
from .narrow import compute_type, is_narrow, narrowed, rounded_to_odd, widened
from .types import (
    element_literal,
    float_literal,
    integer_literal,
    lane_count,
    lanes_literal,
    register_type,
    vector_of,
)

_PLAIN = {arith.AddFOp: "fadd", arith.SubFOp: "fsub", arith.MulFOp: "fmul", arith.DivFOp: "fdiv", arith.RemFOp: "frem"}
_TWO_OPERANDS = {arith.MaxNumFOp: "maxnum", arith.MinNumFOp: "minnum"}


def _short(type_: Type) -> str:
    """`f32`, `v16f64`: an intrinsic's ending for the type that is computed in."""
    lanes = lane_count(type_)
    return f"{'' if lanes is None else f'v{lanes}'}f{64 if bit_width(type_) == 64 else 32}"


def _operand(e: FunctionEmitter, value: Value) -> str:
    """A float operand in its computing type; narrow constants are widened here and now."""
    lanes = known_floats(value)
    if lanes is None or not is_narrow(value.type):
        return widened(e, e.value(value), value.type)
    wide = np.asarray(lanes, np.float32)
    texts = [element_literal(lane, _F32) for lane in wide.reshape(-1)]
    return texts[0] if lane_count(value.type) is None else lanes_literal(_F32, texts)


_F32 = FloatType("f32")


def known_floats(value: Value) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """The constants that a value's lanes are."""
    op = value.defining_op
    if not isinstance(op, ConstantOp):
        return None
    if isinstance(op.value, FloatAttr):
        return np.asarray(op.value.value, np.float64)
    return op.value.numpy().astype(np.float64) if isinstance(op.value, ElementsAttr) else None


def _result(e: FunctionEmitter, result: Value, text: str) -> None:
    e.bind(result, narrowed(e, text, result.type))


@emits(*_PLAIN)
def plain(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """One instruction."""
    type_ = compute_type(op.result.type)
    a, b = _operand(e, op.lhs), _operand(e, op.rhs)
    _result(e, op.result, e.emit(f"{_PLAIN[type(op)]} {type_} {a}, {b}"))


@emits(arith.NegFOp)
def negate(e: FunctionEmitter, op: arith.NegFOp) -> None:
    """Flips the sign bit, of NaN too."""
    _sign_bit(e, op.value, op.result, "xor", keep=False)


@emits(math.AbsFOp)
def absolute(e: FunctionEmitter, op: math.UnaryOp) -> None:
    """Clears the sign bit, of NaN too."""
    _sign_bit(e, op.value, op.result, "and", keep=True)


def _sign_bit(e: FunctionEmitter, value: Value, result: Value, name: str, *, keep: bool) -> None:
    type_, text = register_type(value.type), e.value(value)
    if not is_narrow(value.type):
        made = f"fneg {type_} {text}"
        e.bind(result, e.intrinsic(f"llvm.fabs.{_short(value.type)}", type_, (type_, text)) if keep else e.emit(made))
        return
    width = max(8, bit_width(value.type))
    sign = 1 << (bit_width(value.type) - 1)
    mask = sign - 1 if keep else sign - (1 << width if sign >> (width - 1) else 0)
    lanes = lane_count(value.type)
    e.bind(result, e.emit(f"{name} {type_} {text}, {mask if lanes is None else f'splat (i{width} {mask})'}"))


@emits(*ROUNDINGS)
def intrinsic(e: FunctionEmitter, op: math.UnaryOp) -> None:
    """One instruction where the target has it, a library call per lane where not."""
    type_ = compute_type(op.result.type)
    name = f"llvm.{ROUNDINGS[type(op)]}.{_short(op.result.type)}"
    _result(e, op.result, e.intrinsic(name, type_, (type_, _operand(e, op.value))))


@emits(math.RsqrtOp)
def reciprocal_root(e: FunctionEmitter, op: math.UnaryOp) -> None:
    """1 / sqrt(x)"""
    type_ = compute_type(op.result.type)
    root = e.intrinsic(f"llvm.sqrt.{_short(op.result.type)}", type_, (type_, _operand(e, op.value)))
    one = "0x3FF0000000000000"
    scalar = "double" if bit_width(op.result.type) == 64 else "float"
    ones = one if lane_count(op.result.type) is None else f"splat ({scalar} {one})"
    _result(e, op.result, e.emit(f"fdiv {type_} {ones}, {root}"))


@emits(*_TWO_OPERANDS, math.CopySignOp)
def two_operands(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """llvm.maxnum, llvm.minnum, llvm.copysign. Of the first two, x86's max(a, b), which gives b where either is NaN,
    where b is known not to be NaN."""
    known = next((value for value in op.operands if never_nan(value)), None)
    if e.target.arch != "aarch64" and type(op) in _TWO_OPERANDS and known is not None:
        other = op.lhs if known is op.rhs else op.rhs
        _result(e, op.result, _x86_extreme(e, op, other, known, largest=isinstance(op, arith.MaxNumFOp)))
        return
    type_ = compute_type(op.result.type)
    name = f"llvm.{_TWO_OPERANDS.get(type(op), 'copysign')}.{_short(op.result.type)}"
    _result(e, op.result, e.intrinsic(name, type_, (type_, _operand(e, op.lhs)), (type_, _operand(e, op.rhs))))


@emits(arith.MaximumFOp, arith.MinimumFOp)
def extreme(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """The larger or smaller one, NaN if either is NaN.

    x86's max(a, b) is `a > b ? a : b`: it gives b where either is NaN, and of two zeros b. So one instruction is enough
    where a is known not to be NaN; else a NaN in a is put back. Which zero of two wins is left open there; AArch64
    orders them.
    """
    type_, short = compute_type(op.result.type), _short(op.result.type)
    largest = isinstance(op, arith.MaximumFOp)
    first, second = op.lhs, op.rhs
    if e.target.arch == "aarch64":
        name = f"llvm.{'maximum' if largest else 'minimum'}.{short}"
        _result(e, op.result, e.intrinsic(name, type_, (type_, _operand(e, first)), (type_, _operand(e, second))))
        return
    if never_nan(second):
        first, second = second, first
    made = _x86_extreme(e, op, first, second, largest=largest)
    if not never_nan(first):
        a = _operand(e, first)
        nan = e.emit(f"fcmp uno {type_} {a}, {a}")
        i1 = vector_of("i1", lane_count(op.result.type))
        made = e.emit(f"select {i1} {nan}, {type_} {a}, {type_} {made}")
    _result(e, op.result, made)


def _x86_extreme(e: FunctionEmitter, op: arith.BinaryOp, first: Value, second: Value, *, largest: bool) -> str:
    """first > second ? first : second, or <: one instruction"""
    type_, i1 = compute_type(op.result.type), vector_of("i1", lane_count(op.result.type))
    a, b = _operand(e, first), _operand(e, second)
    wins = e.emit(f"fcmp {'ogt' if largest else 'olt'} {type_} {a}, {b}")
    return e.emit(f"select {i1} {wins}, {type_} {a}, {type_} {b}")


def never_nan(value: Value, assumed: frozenset[Value] = frozenset()) -> bool:
    """Whether a value is known to be no NaN: a constant, the larger or smaller number of two of which one is known, the
    lanes of such, and what a loop carries that begins so and stays so, where it is what is `assumed`."""
    if value in assumed:
        return True
    if isinstance(value, BlockArgument):
        around = value.block.parent_op
        if not isinstance(around, loop.ForOp) or value.index == 0:
            return False
        place = value.index - 1
        ends = around.inits[place], around.block.terminator.operands[place]
        return all(never_nan(end, assumed | {value}) for end in ends)
    op = value.defining_op
    if isinstance(op, loop.ForOp):
        place = next(n for n, result in enumerate(op.results) if result is value)
        return never_nan(op.carried[place], assumed)
    if isinstance(op, (arith.MaxNumFOp, arith.MinNumFOp)):
        return any(never_nan(operand, assumed) for operand in op.operands)
    if isinstance(op, (vector.BroadcastOp, vector.ExtractOp)):
        return never_nan(op.source, assumed)
    if isinstance(op, (vector.ShuffleOp, arith.SelectOp)):
        return all(never_nan(operand, assumed) for operand in op.operands[-2:])
    lanes = known_floats(value)
    return lanes is not None and not bool(np.isnan(lanes).any())


@emits(vector.FmaOp, math.FmaOp)
def fused(e: FunctionEmitter, op: vector.FmaOp | math.FmaOp) -> None:
    """llvm.fma, or two instructions on a target without it (there it would be a library call)."""
    type_ = compute_type(op.result.type)
    a, b, c = (_operand(e, value) for value in op.operands)
    if e.target.has_fma:
        made = e.intrinsic(f"llvm.fma.{_short(op.result.type)}", type_, (type_, a), (type_, b), (type_, c))
    else:
        made = e.emit(f"fadd {type_} {e.emit(f'fmul {type_} {a}, {b}')}, {c}")
    _result(e, op.result, made)


@emits(*LIBM)
def library(e: FunctionEmitter, op: math.UnaryOp | arith.BinaryOp) -> None:
    """A libm call per lane; passes before the backend leave few of these."""
    lanes, wide = lane_count(op.result.type), bit_width(op.result.type) == 64
    scalar, type_ = "double" if wide else "float", compute_type(op.result.type)
    name = LIBM[type(op)] + ("" if wide else "f")
    operands = [_operand(e, value) for value in op.operands]
    if lanes is None:
        _result(e, op.result, e.intrinsic(name, scalar, *((scalar, text) for text in operands)))
        return
    made = "poison"
    for lane in range(lanes):
        parts = [e.emit(f"extractelement {type_} {text}, i64 {lane}") for text in operands]
        called = e.intrinsic(name, scalar, *((scalar, text) for text in parts))
        made = e.emit(f"insertelement {type_} {made}, {scalar} {called}, i64 {lane}")
    _result(e, op.result, made)


@emits(arith.CmpFOp)
def compare(e: FunctionEmitter, op: arith.CmpFOp) -> None:
    """fcmp has the same predicates."""
    type_ = compute_type(op.lhs.type)
    e.bind(op.result, e.emit(f"fcmp {op.predicate} {type_} {_operand(e, op.lhs)}, {_operand(e, op.rhs)}"))


# Conversions


@emits(arith.ExtFOp)
def extend(e: FunctionEmitter, op: arith.CastOp) -> None:
    """Through float where the source is narrower still."""
    text = _operand(e, op.value)
    source, target = compute_type(op.value.type), compute_type(op.result.type)
    _result(e, op.result, text if source == target else e.emit(f"fpext {source} {text} to {target}"))


@emits(arith.TruncFOp)
def truncate(e: FunctionEmitter, op: arith.CastOp) -> None:
    """To nearest even, in one rounding from f64 to narrow types too."""
    text = _operand(e, op.value)
    if bit_width(op.value.type) == 64 and bit_width(op.result.type) < 64:
        if is_narrow(op.result.type):
            text = rounded_to_odd(e, text, lane_count(op.result.type))
        else:
            text = e.emit(f"fptrunc {compute_type(op.value.type)} {text} to {compute_type(op.result.type)}")
    _result(e, op.result, text)


@emits(arith.SIToFPOp, arith.UIToFPOp)
def from_integer(e: FunctionEmitter, op: arith.CastOp) -> None:
    """sitofp, uitofp"""
    name = "sitofp" if isinstance(op, arith.SIToFPOp) else "uitofp"
    _result(e, op.result, e.emit(f"{name} {e.typed(op.value)} to {compute_type(op.result.type)}"))


@emits(arith.FPToSIOp, arith.FPToUIOp)
def to_integer(e: FunctionEmitter, op: arith.CastOp) -> None:
    """Rounds to zero; out of range it gives the nearest integer there is, for NaN 0."""
    kind = "fptosi" if isinstance(op, arith.FPToSIOp) else "fptoui"
    source, target, x = compute_type(op.value.type), register_type(op.result.type), _operand(e, op.value)
    if lane_count(op.result.type) is None:
        name = f"llvm.{kind}.sat.i{bit_width(op.result.type)}.{_short(op.value.type)}"
        e.bind(op.result, e.intrinsic(name, target, (source, x)))
    else:
        e.bind(op.result, _lanes_to_integers(e, op, kind, x))


def _lanes_to_integers(e: FunctionEmitter, op: arith.CastOp, kind: str, x: str) -> str:
    """The instruction where it is defined, and the bounds elsewhere: LLVM takes vectors apart for the intrinsics. Both
    bounds of what is converted are 0 or powers of two, exact in float and double."""
    source, target, bits = compute_type(op.value.type), register_type(op.result.type), bit_width(op.result.type)
    least, beyond = (-(1 << (bits - 1)), 1 << (bits - 1)) if kind == "fptosi" else (0, 1 << bits)
    scalar = "double" if bit_width(op.value.type) == 64 else "float"
    low, high, zero = (f"splat ({scalar} {float_literal(float(edge), 64)})" for edge in (least, beyond, 0))
    below, above = e.emit(f"fcmp olt {source} {x}, {low}"), e.emit(f"fcmp oge {source} {x}, {high}")
    mask = f"<{lane_count(op.result.type)} x i1>"
    inside = e.emit(f"and {mask} {e.emit(f'fcmp oge {source} {x}, {low}')}, {e.emit(f'fcmp olt {source} {x}, {high}')}")
    held = e.emit(f"select {mask} {inside}, {source} {x}, {source} {zero}")
    made = e.emit(f"{kind} {source} {held} to {target}")
    for where, edge in ((above, beyond - 1), (below, least)):
        bound = f"splat (i{bits} {integer_literal(edge, bits)})"
        made = e.emit(f"select {mask} {where}, {target} {bound}, {target} {made}")
    return made


@emits(arith.ExtSIOp, arith.ExtUIOp, arith.TruncIOp, arith.IndexCastOp, arith.IndexCastUIOp)
def resize(e: FunctionEmitter, op: arith.CastOp) -> None:
    """sext, zext, trunc, or nothing between index and i64."""
    before, after = bit_width(op.value.type), bit_width(op.result.type)
    if before == after:
        e.bind(op.result, e.value(op.value))
        return
    unsigned = isinstance(op, (arith.ExtUIOp, arith.IndexCastUIOp))
    name = "trunc" if after < before else "zext" if unsigned else "sext"
    e.bind(op.result, e.emit(f"{name} {e.typed(op.value)} to {register_type(op.result.type)}"))


@emits(arith.BitcastOp)
def bitcast(e: FunctionEmitter, op: arith.CastOp) -> None:
    """The same bits; nothing between a narrow float and its integer."""
    source, target = register_type(op.value.type), register_type(op.result.type)
    if bit_width(op.value.type) != bit_width(op.result.type):
        raise TargetError(f"bitcast from {op.value.type} to {op.result.type} changes the width")
    same = source == target
    e.bind(op.result, e.value(op.value) if same else e.emit(f"bitcast {source} {e.value(op.value)} to {target}"))
