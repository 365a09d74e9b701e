"""Integer arithmetic. What LLVM leaves undefined has a meaning here:

* division by zero is reported, the lane goes on with a divisor of 1;
* the most negative number divided by -1 wraps, with remainder 0;
* a shift by the width or more gives 0, or the sign.
"""

from __future__ import annotations

from stepwell.dialects import arith, math
from stepwell.dialects.arith_proofs import is_never, known_lanes
from stepwell.dialects.check import RequireOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import INDEX, bit_width

from .function import FunctionEmitter, emits
from .memory import broadcast
from .types import integer_literal, lane_count, register_type, scalar_type, vector_of

_PLAIN = {
    arith.AddIOp: "add", arith.SubIOp: "sub", arith.MulIOp: "mul", arith.AndIOp: "and", arith.OrIOp: "or",
    arith.XOrIOp: "xor",
}  # fmt: skip
_CHOICES = {arith.MaxSIOp: "smax", arith.MinSIOp: "smin", arith.MaxUIOp: "umax", arith.MinUIOp: "umin"}


def intrinsic_suffix(value: Value) -> str:
    """`i64`, `v16i32`: how an intrinsic's name ends."""
    lanes, short = lane_count(value.type), {"float": "f32", "double": "f64"}
    scalar = scalar_type(value.type if lanes is None else value.type.element)  # type: ignore[attr-defined]
    return f"{'' if lanes is None else f'v{lanes}'}{short.get(scalar, scalar)}"


@emits(*_PLAIN)
def plain(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """One instruction. On indices it moves out of the loops it does not depend on."""
    a, b = e.value(op.lhs), e.value(op.rhs)
    instruction = f"{_PLAIN[type(op)]} {register_type(op.result.type)} {a}, {b}"
    e.bind(op.result, e.pure(instruction, a, b) if op.result.type is INDEX else e.emit(instruction))


@emits(*_CHOICES)
def choice(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """llvm.smax and its like."""
    type_ = register_type(op.result.type)
    name = f"llvm.{_CHOICES[type(op)]}.{intrinsic_suffix(op.result)}"
    e.bind(op.result, e.intrinsic(name, type_, (type_, e.value(op.lhs)), (type_, e.value(op.rhs))))


@emits(math.AbsIOp)
def absolute(e: FunctionEmitter, op: math.UnaryOp) -> None:
    """llvm.abs, defined for the most negative number too."""
    type_ = register_type(op.result.type)
    name = f"llvm.abs.{intrinsic_suffix(op.result)}"
    e.bind(op.result, e.intrinsic(name, type_, (type_, e.value(op.value)), ("i1", "false")))


@emits(math.CtPopOp)
def population(e: FunctionEmitter, op: math.UnaryOp) -> None:
    """llvm.ctpop"""
    type_ = register_type(op.result.type)
    name = f"llvm.ctpop.{intrinsic_suffix(op.result)}"
    e.bind(op.result, e.intrinsic(name, type_, (type_, e.value(op.value))))


@emits(arith.CmpIOp)
def compare(e: FunctionEmitter, op: arith.CmpIOp) -> None:
    """icmp has the same predicates."""
    e.bind(op.result, e.emit(f"icmp {op.predicate} {e.typed(op.lhs)}, {e.value(op.rhs)}"))


class Lanes:
    """Integer instructions on the lanes of one type."""

    def __init__(self, e: FunctionEmitter, value: Value) -> None:
        self.e = e
        self.count = lane_count(value.type)
        self.width = bit_width(value.type)
        self.type = register_type(value.type)
        self.mask = vector_of("i1", self.count)

    def number(self, value: int) -> str:
        """A constant in all lanes."""
        return broadcast(self.e, f"i{self.width}", integer_literal(value, self.width), self.count)

    def do(self, name: str, a: str, b: str) -> str:
        """An instruction or comparison on two values of the type."""
        return self.e.emit(f"{name} {self.type} {a}, {b}")

    def logic(self, name: str, a: str, b: str) -> str:
        """An instruction on two masks."""
        return self.e.emit(f"{name} {self.mask} {a}, {b}")

    def pick(self, condition: str, a: str, b: str) -> str:
        """Lane by lane, a where the condition holds, else b."""
        return self.e.emit(f"select {self.mask} {condition}, {self.type} {a}, {self.type} {b}")


def report_lanes(e: FunctionEmitter, op: Operation, message: str, failed: str, value: Value) -> None:
    """Report an error where `failed` holds (in any lane), with the value (of the first lane that failed).

    br any(failed), failed, go_on      failed: report; br go_on"""
    count, type_, text = lane_count(value.type), register_type(value.type), e.value(value)
    strikes, packed = failed, ""
    if count is not None:
        packed = e.emit(f"bitcast <{count} x i1> {failed} to i{count}")
        strikes = e.emit(f"icmp ne i{count} {packed}, 0")
    struck, go_on = e.start_block("failed"), e.start_block("go_on")
    e.line(f"br i1 {strikes}, label %{struck.name}, label %{go_on.name}")
    e.move_to(struck)
    if count is not None:
        lane = e.intrinsic(f"llvm.cttz.i{count}", f"i{count}", (f"i{count}", packed), ("i1", "false"))
        text = e.emit(f"extractelement {type_} {text}, i{count} {lane}")
    width = bit_width(value.type)
    if width < 64:
        text = e.emit(f"sext i{width} {text} to i64")
    e.report(message, op, text)
    e.line(f"br label %{go_on.name}")
    e.move_to(go_on)


@emits(RequireOp)
def require(e: FunctionEmitter, op: RequireOp) -> None:
    """A report where the condition fails."""
    mask = register_type(op.condition.type)
    every = "splat (i1 true)" if lane_count(op.condition.type) is not None else "true"
    report_lanes(e, op, op.message, e.emit(f"xor {mask} {e.value(op.condition)}, {every}"), op.value)


def _checked_divisor(e: FunctionEmitter, op: arith.BinaryOp, lanes: Lanes) -> str:
    """The divisor, with 1 in place of 0; a 0 is reported with the dividend of its lane."""
    divisor = e.value(op.rhs)
    if is_never(op.rhs, 0):
        return divisor
    zero = lanes.do("icmp eq", divisor, lanes.number(0))
    report_lanes(e, op, arith.ZERO_DIVISOR, zero, op.lhs)
    return lanes.pick(zero, lanes.number(1), divisor)


@emits(arith.DivUIOp, arith.RemUIOp)
def divide_unsigned(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """udiv, urem"""
    lanes = Lanes(e, op.result)
    divisor = _checked_divisor(e, op, lanes)
    name = "udiv" if isinstance(op, arith.DivUIOp) else "urem"
    e.bind(op.result, lanes.do(name, e.value(op.lhs), divisor))


@emits(arith.DivSIOp, arith.RemSIOp, arith.FloorDivSIOp, arith.CeilDivSIOp)
def divide_signed(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """sdiv and srem with a divisor of -1 handled apart, corrected by one where the rounding asks for it."""
    lanes = Lanes(e, op.result)
    dividend, divisor = e.value(op.lhs), _checked_divisor(e, op, lanes)
    minus_one = None
    if not is_never(op.rhs, -1):
        minus_one = lanes.do("icmp eq", divisor, lanes.number(-1))
        divisor = lanes.pick(minus_one, lanes.number(1), divisor)
    remainder = "" if isinstance(op, arith.DivSIOp) else lanes.do("srem", dividend, divisor)
    if isinstance(op, arith.RemSIOp):
        e.bind(op.result, remainder)  # divided by 1 in place of -1, it is 0 as well
        return
    quotient = lanes.do("sdiv", dividend, divisor)
    if not isinstance(op, arith.DivSIOp):
        inexact = lanes.do("icmp ne", remainder, lanes.number(0))
        signs = lanes.do("xor", dividend, divisor)
        down = isinstance(op, arith.FloorDivSIOp)
        sided = lanes.do("icmp slt" if down else "icmp sge", signs, lanes.number(0))
        moved = lanes.do("sub" if down else "add", quotient, lanes.number(1))
        quotient = lanes.pick(lanes.logic("and", inexact, sided), moved, quotient)
    if minus_one is not None:
        quotient = lanes.pick(minus_one, lanes.do("sub", lanes.number(0), dividend), quotient)
    e.bind(op.result, quotient)


@emits(arith.ShLIOp, arith.ShRUIOp, arith.ShRSIOp)
def shift(e: FunctionEmitter, op: arith.BinaryOp) -> None:
    """shl, lshr, ashr"""
    lanes = Lanes(e, op.result)
    value, amount = e.value(op.lhs), e.value(op.rhs)
    known = known_lanes(op.rhs)
    fits = known is not None and all(0 <= lane < lanes.width for lane in known)
    if isinstance(op, arith.ShRSIOp):
        if not fits:
            name = f"llvm.umin.{intrinsic_suffix(op.result)}"
            last = lanes.number(lanes.width - 1)
            amount = e.intrinsic(name, lanes.type, (lanes.type, amount), (lanes.type, last))
        e.bind(op.result, lanes.do("ashr", value, amount))
        return
    shifted = lanes.do("shl" if isinstance(op, arith.ShLIOp) else "lshr", value, amount)
    if not fits:
        inside = lanes.do("icmp ult", amount, lanes.number(lanes.width))
        shifted = lanes.pick(inside, shifted, lanes.number(0))
    e.bind(op.result, shifted)
