"""Arithmetic: one LLVM instruction where that is the whole op, lane by lane where something must be watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepwell.backends.cpu.functions import LIBM, ROUNDINGS
from stepwell.dialects import arith, isa, math, vector
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import VectorType, bit_width, element_of

from .memory import lanes_of
from .writer import NoScalarForm, Writer, text_type, writes

INSTRUCTIONS: dict[Any, str] = {
    arith.AddFOp: "fadd", arith.SubFOp: "fsub", arith.MulFOp: "fmul", arith.DivFOp: "fdiv", arith.RemFOp: "frem",
    arith.AddIOp: "add", arith.SubIOp: "sub", arith.MulIOp: "mul", arith.AndIOp: "and", arith.OrIOp: "or",
    arith.XOrIOp: "xor",
}  # fmt: skip
CHOICES: dict[Any, str] = {
    arith.MaxSIOp: "icmp sgt", arith.MinSIOp: "icmp slt", arith.MaxUIOp: "icmp ugt", arith.MinUIOp: "icmp ult",
}  # fmt: skip
INTRINSICS: dict[Any, str] = {
    **ROUNDINGS, math.AbsFOp: "fabs", math.CopySignOp: "copysign", math.FmaOp: "fma",
    vector.FmaOp: "fma", arith.MaximumFOp: "maximum", arith.MinimumFOp: "minimum", arith.MaxNumFOp: "maxnum",
    arith.MinNumFOp: "minnum",
}  # fmt: skip
CASTS: dict[Any, str] = {
    arith.ExtFOp: "fpext", arith.TruncFOp: "fptrunc", arith.SIToFPOp: "sitofp", arith.UIToFPOp: "uitofp",
    arith.ExtSIOp: "sext", arith.ExtUIOp: "zext", arith.TruncIOp: "trunc",
    arith.BitcastOp: "bitcast",
}  # fmt: skip


def lane_by_lane(w: Writer, op: Operation, make: Callable[..., str]) -> None:
    """`make(*scalars)` writes one lane of the op's one result."""
    over_lanes(w, op, op.operands, make)


def over_lanes(w: Writer, op: Operation, operands: Sequence[Value], make: Callable[..., str]) -> None:
    """The same with the lanes of some of the operands."""
    result, made = op.results[0], "poison"
    if not isinstance(result.type, VectorType):
        w.values[result] = make(*(w.value(value) for value in operands))
        return
    type_, scalar = text_type(result.type), text_type(element_of(result.type))
    for lane in range(lanes_of(result)):
        parts = [w.emit(f"extractelement {w.typed(value)}, i64 {lane}") for value in operands]
        made = w.emit(f"insertelement {type_} {made}, {scalar} {make(*parts)}, i64 {lane}")
    w.values[result] = made


def _scalar(value: Value) -> str:
    return text_type(element_of(value.type))


def _ending(value: Value) -> str:
    """`v16f32`: how an intrinsic's name says what it works on."""
    short = {"float": "f32", "double": "f64"}
    scalar = _scalar(value)
    return (f"v{lanes_of(value)}" if isinstance(value.type, VectorType) else "") + short.get(scalar, scalar)


@writes(*INSTRUCTIONS)
def instruction(w: Writer, op: arith.BinaryOp) -> None:
    """The same on vectors."""
    w.values[op.result] = w.emit(f"{INSTRUCTIONS[type(op)]} {w.typed(op.lhs)}, {w.value(op.rhs)}")


@writes(arith.NegFOp)
def negate(w: Writer, op: arith.NegFOp) -> None:
    """fneg"""
    w.values[op.result] = w.emit(f"fneg {w.typed(op.value)}")


@writes(*CHOICES)
def choice(w: Writer, op: arith.BinaryOp) -> None:
    """Compare and pick."""

    def one(a: str, b: str) -> str:
        type_ = _scalar(op.result)
        wins = w.emit(f"{CHOICES[type(op)]} {type_} {a}, {b}")
        return w.emit(f"select i1 {wins}, {type_} {a}, {type_} {b}")

    lane_by_lane(w, op, one)


@writes(*INTRINSICS)
def intrinsic(w: Writer, op: Operation) -> None:
    """The intrinsic whose meaning is the op's."""
    type_ = text_type(op.results[0].type)
    name = f"llvm.{INTRINSICS[type(op)]}.{_ending(op.results[0])}"
    w.values[op.results[0]] = w.call(name, type_, *((type_, w.value(value)) for value in op.operands))


@writes(math.RsqrtOp)
def reciprocal_root(w: Writer, op: math.UnaryOp) -> None:
    """1 / sqrt(x)"""
    scalar = _scalar(op.result)

    def one(x: str) -> str:
        root = w.call(f"llvm.sqrt.{'f64' if scalar == 'double' else 'f32'}", scalar, (scalar, x))
        return w.emit(f"fdiv {scalar} 1.0, {root}")

    lane_by_lane(w, op, one)


@writes(isa.LookupOp)
def lookup(w: Writer, op: isa.LookupOp) -> None:
    """The lane that the low bits name."""
    integer, table, last = _scalar(op.index), w.typed(op.table), lanes_of(op.table) - 1

    def one(index: str) -> str:
        return w.emit(f"extractelement {table}, {integer} {w.emit(f'and {integer} {index}, {last}')}")

    over_lanes(w, op, [op.index], one)


@writes(isa.ScaleOp)
def scale(w: Writer, op: isa.ScaleOp) -> None:
    """llvm.ldexp, and NaN for NaN"""
    scalar = _scalar(op.result)
    short = "f64" if scalar == "double" else "f32"

    def one(x: str, n: str) -> str:
        whole = w.call(f"llvm.floor.{short}", scalar, (scalar, n))
        power = w.call(f"llvm.fptosi.sat.i32.{short}", "i32", (scalar, whole))
        made = w.call(f"llvm.ldexp.{short}.i32", scalar, (scalar, x), ("i32", power))
        return w.emit(f"select i1 {w.emit(f'fcmp uno {scalar} {n}, {n}')}, {scalar} {n}, {scalar} {made}")

    lane_by_lane(w, op, one)


@writes(*LIBM)
def library(w: Writer, op: Operation) -> None:
    """A call of libm for each lane."""
    scalar = _scalar(op.results[0])
    name = LIBM[type(op)] + ("" if scalar == "double" else "f")
    lane_by_lane(w, op, lambda *parts: w.call(name, scalar, *((scalar, part) for part in parts)))


@writes(math.AbsIOp, math.CtPopOp)
def integer_intrinsic(w: Writer, op: math.UnaryOp) -> None:
    """|x| (of the least number itself), and the number of bits."""
    type_ = text_type(op.result.type)
    more = [("i1", "false")] if isinstance(op, math.AbsIOp) else []
    name = "abs" if isinstance(op, math.AbsIOp) else "ctpop"
    w.values[op.result] = w.call(f"llvm.{name}.{_ending(op.result)}", type_, (type_, w.value(op.value)), *more)


@writes(arith.CmpIOp, arith.CmpFOp)
def compare(w: Writer, op: arith.CmpIOp | arith.CmpFOp) -> None:
    """LLVM's predicates have the same names."""
    name = "icmp" if isinstance(op, arith.CmpIOp) else "fcmp"
    w.values[op.result] = w.emit(f"{name} {op.predicate} {w.typed(op.lhs)}, {w.value(op.rhs)}")


# Integers that LLVM leaves undefined


@writes(arith.DivUIOp, arith.RemUIOp)
def divide_unsigned(w: Writer, op: arith.BinaryOp) -> None:
    """A divisor of 0 stops the kernel."""
    type_, name = _scalar(op.result), "udiv" if isinstance(op, arith.DivUIOp) else "urem"

    def one(a: str, b: str) -> str:
        w.require(w.emit(f"icmp ne {type_} {b}, 0"), op)
        return w.emit(f"{name} {type_} {a}, {b}")

    lane_by_lane(w, op, one)


@writes(arith.DivSIOp, arith.RemSIOp, arith.FloorDivSIOp, arith.CeilDivSIOp)
def divide_signed(w: Writer, op: arith.BinaryOp) -> None:
    """A divisor of 0 stops the kernel; x / -1 is 0 - x."""
    type_ = _scalar(op.result)

    def one(a: str, b: str) -> str:
        w.require(w.emit(f"icmp ne {type_} {b}, 0"), op)
        negates = w.emit(f"icmp eq {type_} {b}, -1")
        divisor = w.emit(f"select i1 {negates}, {type_} 1, {type_} {b}")
        quotient, rest = w.emit(f"sdiv {type_} {a}, {divisor}"), w.emit(f"srem {type_} {a}, {divisor}")
        if isinstance(op, arith.RemSIOp):
            return rest
        quotient = w.emit(f"select i1 {negates}, {type_} {w.emit(f'sub {type_} 0, {a}')}, {type_} {quotient}")
        if isinstance(op, arith.DivSIOp):
            return quotient
        signs_differ = w.emit(f"icmp slt {type_} {w.emit(f'xor {type_} {a}, {b}')}, 0")
        floors = isinstance(op, arith.FloorDivSIOp)
        moves = signs_differ if floors else w.emit(f"xor i1 {signs_differ}, true")
        moves = w.emit(f"and i1 {moves}, {w.emit(f'icmp ne {type_} {rest}, 0')}")
        moved = w.emit(f"{'sub' if floors else 'add'} {type_} {quotient}, 1")
        return w.emit(f"select i1 {moves}, {type_} {moved}, {type_} {quotient}")

    lane_by_lane(w, op, one)


@writes(arith.ShLIOp, arith.ShRUIOp, arith.ShRSIOp)
def shift(w: Writer, op: arith.BinaryOp) -> None:
    """By the width or more: 0, or the sign."""
    type_, width = _scalar(op.result), bit_width(op.result.type)
    name = {arith.ShLIOp: "shl", arith.ShRUIOp: "lshr", arith.ShRSIOp: "ashr"}[type(op)]

    def one(a: str, b: str) -> str:
        fits = w.emit(f"icmp ult {type_} {b}, {width}")
        amount = w.emit(f"select i1 {fits}, {type_} {b}, {type_} {width - 1}")
        shifted = w.emit(f"{name} {type_} {a}, {amount}")
        return shifted if name == "ashr" else w.emit(f"select i1 {fits}, {type_} {shifted}, {type_} 0")

    lane_by_lane(w, op, one)


# Conversions


@writes(*CASTS)
def cast(w: Writer, op: arith.CastOp) -> None:
    """The same on vectors."""
    w.values[op.result] = w.emit(f"{CASTS[type(op)]} {w.typed(op.value)} to {text_type(op.result.type)}")


@writes(arith.IndexCastOp, arith.IndexCastUIOp)
def index_cast(w: Writer, op: arith.CastOp) -> None:
    """To 64 bits or from them."""
    before, after = bit_width(op.value.type), bit_width(op.result.type)
    widens = "zext" if isinstance(op, arith.IndexCastUIOp) else "sext"
    if before == after:
        w.values[op.result] = w.value(op.value)
        return
    name = "trunc" if after < before else widens
    w.values[op.result] = w.emit(f"{name} {w.typed(op.value)} to {text_type(op.result.type)}")


@writes(arith.FPToSIOp, arith.FPToUIOp)
def to_integer(w: Writer, op: arith.CastOp) -> None:
    """Out of range comes the nearest integer, of NaN 0."""
    source, target = text_type(op.value.type), text_type(op.result.type)
    kind = "fptosi" if isinstance(op, arith.FPToSIOp) else "fptoui"
    name = f"llvm.{kind}.sat.{_ending(op.result)}.{_ending(op.value)}"
    w.values[op.result] = w.call(name, target, (source, w.value(op.value)))


# Vectors put together and taken apart


def _assembled(w: Writer, result: Value, lanes: list[str]) -> None:
    type_, scalar, made = text_type(result.type), text_type(element_of(result.type)), "poison"
    for lane, text in enumerate(lanes):
        made = w.emit(f"insertelement {type_} {made}, {scalar} {text}, i64 {lane}")
    w.values[result] = made


@writes(vector.BroadcastOp)
def broadcast(w: Writer, op: vector.BroadcastOp) -> None:
    """The scalar, inserted once and shuffled into all lanes."""
    type_, count = text_type(op.result.type), lanes_of(op.result)
    one = w.emit(f"insertelement {type_} poison, {w.typed(op.source)}, i64 0")
    zeros = f"<{count} x i32> zeroinitializer"
    w.values[op.result] = w.emit(f"shufflevector {type_} {one}, {type_} poison, {zeros}")


@writes(vector.StepOp)
def step(w: Writer, op: vector.StepOp) -> None:
    """0, 1, 2, ..."""
    _assembled(w, op.result, [str(lane) for lane in range(lanes_of(op.result))])


@writes(vector.CreateMaskOp)
def create_mask(w: Writer, op: vector.CreateMaskOp) -> None:
    """lane < count"""
    count = w.value(op.count)
    _assembled(w, op.result, [w.emit(f"icmp slt i64 {lane}, {count}") for lane in range(lanes_of(op.result))])


@writes(vector.ShuffleOp)
def shuffle(w: Writer, op: vector.ShuffleOp) -> None:
    """Lane by lane out of the two."""
    first = lanes_of(op.v1)
    places = [(op.v1, lane) if lane < first else (op.v2, lane - first) for lane in op.mask]
    _assembled(w, op.result, [w.emit(f"extractelement {w.typed(side)}, i64 {lane}") for side, lane in places])


@writes(vector.ExtractOp)
def extract(w: Writer, op: vector.ExtractOp) -> None:
    """One lane."""
    w.values[op.result] = w.emit(f"extractelement {w.typed(op.source)}, i64 {op.static_position[0]}")


@writes(vector.FromElementsOp)
def from_elements(w: Writer, op: vector.FromElementsOp) -> None:
    """Lane by lane."""
    _assembled(w, op.result, [w.value(value) for value in op.elements])


REDUCTIONS = {
    "minui": "icmp ult", "minsi": "icmp slt", "maxui": "icmp ugt", "maxsi": "icmp sgt", "and": "and", "or": "or",
    "xor": "xor",
}  # fmt: skip
FLOAT_REDUCTIONS = {"minnumf": "minnum", "maxnumf": "maxnum", "maximumf": "maximum", "minimumf": "minimum"}


@writes(vector.ReductionOp)
def reduction(w: Writer, op: vector.ReductionOp) -> None:
    """From the first lane to the last, after the accumulator."""
    lanes = [w.emit(f"extractelement {w.typed(op.vector)}, i64 {lane}") for lane in range(lanes_of(op.vector))]
    texts = lanes if op.acc is None else [w.value(op.acc), *lanes]
    made = texts[0]
    for text in texts[1:]:
        made = _merged(w, op, made, text)
    w.values[op.dest] = made


def _merged(w: Writer, op: vector.ReductionOp, a: str, b: str) -> str:
    type_ = text_type(op.dest.type)
    if op.kind in ("add", "mul"):
        return w.emit(f"{'f' if type_ in ('float', 'double') else ''}{op.kind} {type_} {a}, {b}")
    if op.kind in FLOAT_REDUCTIONS:
        return w.call(f"llvm.{FLOAT_REDUCTIONS[op.kind]}.{_ending(op.dest)}", type_, (type_, a), (type_, b))
    if op.kind not in REDUCTIONS:
        raise NoScalarForm(f"no plain code for a reduction of kind {op.kind}")
    made = w.emit(f"{REDUCTIONS[op.kind]} {type_} {a}, {b}")
    if REDUCTIONS[op.kind].startswith("icmp"):
        return w.emit(f"select i1 {made}, {type_} {a}, {type_} {b}")
    return made
