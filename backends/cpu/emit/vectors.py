"""Vectors: building them, taking them apart, masks."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects import vector
from stepwell.dialects.arith import constant_int
from stepwell.errors import TargetError
from stepwell.ir.types import element_of

from .function import FunctionEmitter, emits
from .memory import broadcast
from .types import lane_count, register_type, scalar_type


@emits(vector.BroadcastOp)
def splat(e: FunctionEmitter, op: vector.BroadcastOp) -> None:
    """insertelement + shufflevector, which every target selects as one broadcast."""
    scalar = scalar_type(op.source.type)
    e.bind(op.result, broadcast(e, scalar, e.value(op.source), lane_count(op.result.type)))


@emits(vector.StepOp)
def step(e: FunctionEmitter, op: vector.StepOp) -> None:
    """A constant."""
    e.bind(op.result, step_literal(scalar_type(element_of(op.result.type)), lane_count(op.result.type) or 0))


def step_literal(scalar: str, lanes: int) -> str:
    """`<i64 0, i64 1, ...>`"""
    return f"<{', '.join(f'{scalar} {lane}' for lane in range(lanes))}>"


@emits(vector.CreateMaskOp)
def create_mask(e: FunctionEmitter, op: vector.CreateMaskOp) -> None:
    """lane < count; compared in lanes that fill a register, since counts past the last lane are all alike."""
    lanes = lane_count(op.result.type) or 0
    known = constant_int(op.count)
    if known is not None:
        e.bind(op.result, f"<{', '.join(f'i1 {str(lane < known).lower()}' for lane in range(lanes))}>")
        return
    low = e.intrinsic("llvm.smax.i64", "i64", ("i64", e.value(op.count)), ("i64", "0"))
    clamped = e.intrinsic("llvm.smin.i64", "i64", ("i64", low), ("i64", str(lanes)))
    width = max(8 if lanes < 128 else 16, min(64, e.target.lanes(lanes)))
    narrow = clamped if width == 64 else e.emit(f"trunc i64 {clamped} to i{width}")
    count = broadcast(e, f"i{width}", narrow, lanes)
    e.bind(op.result, e.emit(f"icmp slt <{lanes} x i{width}> {step_literal(f'i{width}', lanes)}, {count}"))


@emits(vector.ShuffleOp)
def shuffle(e: FunctionEmitter, op: vector.ShuffleOp) -> None:
    """Lanes by constant positions. LLVM wants two vectors of one length: the shorter one is padded first."""
    scalar = scalar_type(element_of(op.v1.type))
    first, second = lane_count(op.v1.type) or 0, lane_count(op.v2.type) or 0
    length = max(first, second)
    texts = [padded(e, scalar, e.value(v), lane_count(v.type) or 0, length) for v in (op.v1, op.v2)]
    places = [lane if lane < first else lane - first + length for lane in op.mask]
    if not all(0 <= place < 2 * length for place in places):
        raise TargetError(f"shuffle positions {list(op.mask)} leave {op.v1.type} and {op.v2.type}")
    type_ = f"<{length} x {scalar}>"
    mask = f"<{len(places)} x i32> <{', '.join(f'i32 {place}' for place in places)}>"
    e.bind(op.result, e.emit(f"shufflevector {type_} {texts[0]}, {type_} {texts[1]}, {mask}"))


def shuffled(e: FunctionEmitter, scalar: str, text: str, lanes: int, places: Sequence[int | None]) -> str:
    """The lanes of one vector at some places, anything where there is None."""
    if list(places) == list(range(lanes)):
        return text
    mask = ", ".join("i32 poison" if place is None else f"i32 {place}" for place in places)
    type_ = f"<{lanes} x {scalar}>"
    return e.emit(f"shufflevector {type_} {text}, {type_} poison, <{len(places)} x i32> <{mask}>")


def padded(e: FunctionEmitter, scalar: str, text: str, lanes: int, length: int) -> str:
    """A vector with lanes of any content behind its own."""
    return shuffled(e, scalar, text, lanes, [*range(lanes), *[None] * (length - lanes)])


def sliced(e: FunctionEmitter, scalar: str, text: str, lanes: int, first: int, length: int) -> str:
    """Neighbouring lanes of a vector."""
    return shuffled(e, scalar, text, lanes, range(first, first + length))


def joined(e: FunctionEmitter, scalar: str, parts: Sequence[str], lanes: int) -> str:
    """Vectors of so many lanes each, one after the other."""
    text, length = parts[0], lanes
    for part in parts[1:]:
        more = padded(e, scalar, part, lanes, length)
        places = ", ".join(f"i32 {lane}" for lane in range(length + lanes))
        type_ = f"<{length} x {scalar}>"
        text = e.emit(f"shufflevector {type_} {text}, {type_} {more}, <{length + lanes} x i32> <{places}>")
        length += lanes
    return text


@emits(vector.ExtractOp)
def extract(e: FunctionEmitter, op: vector.ExtractOp) -> None:
    """One lane."""
    e.bind(op.result, e.emit(f"extractelement {e.typed(op.source)}, i64 {op.static_position[0]}"))


@emits(vector.FromElementsOp)
def from_elements(e: FunctionEmitter, op: vector.FromElementsOp) -> None:
    """Lane by lane."""
    type_, made = register_type(op.result.type), "poison"
    for lane, value in enumerate(op.elements):
        made = e.emit(f"insertelement {type_} {made}, {e.typed(value)}, i64 {lane}")
    e.bind(op.result, made)
