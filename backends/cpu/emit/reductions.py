"""The lanes of a vector merged into one scalar."""

from __future__ import annotations

from stepwell.dialects import vector
from stepwell.ir.types import FloatType, Type, element_of

from .function import FunctionEmitter, emits
from .integers import intrinsic_suffix
from .narrow import compute_type, is_narrow, narrowed, widened
from .types import lane_count, register_type

_INTEGERS = {
    "add": "add", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "minui": "umin", "minsi": "smin",
    "maxui": "umax", "maxsi": "smax",
}  # fmt: skip
_EXTREMES = {"maximumf": "fmaximum", "minimumf": "fminimum", "maxnumf": "fmax", "minnumf": "fmin"}
_PAIRS = {"maximumf": "maximum", "minimumf": "minimum", "maxnumf": "maxnum", "minnumf": "minnum"}
_ORDERED = {"add": ("fadd", "-0.0"), "mul": ("fmul", "1.0")}


@emits(vector.ReductionOp)
def reduction(e: FunctionEmitter, op: vector.ReductionOp) -> None:
    """llvm.vector.reduce; the accumulator of an ordered float reduction comes first, others are merged last."""
    element = op.dest.type
    acc = None if op.acc is None else e.value(op.acc)
    lanes = e.value(op.vector)
    if not isinstance(element, FloatType):
        e.bind(op.dest, _integers(e, op, lanes, acc))
    elif op.kind in _EXTREMES:
        acc = acc and widened(e, acc, element)
        made = _extreme(e, op.kind, op.vector.type, widened(e, lanes, op.vector.type), acc)
        e.bind(op.dest, narrowed(e, made, element))
    elif is_narrow(element):
        e.bind(op.dest, _rounding_each(e, op, lanes, acc))
    else:
        e.bind(op.dest, _ordered(e, op, lanes, acc))


def _integers(e: FunctionEmitter, op: vector.ReductionOp, lanes: str, acc: str | None) -> str:
    name, type_ = _INTEGERS[op.kind], register_type(op.dest.type)
    made = e.intrinsic(f"llvm.vector.reduce.{name}.{intrinsic_suffix(op.vector)}", type_,
                       (register_type(op.vector.type), lanes))  # fmt: skip
    if acc is None:
        return made
    if op.kind in ("add", "mul", "and", "or", "xor"):
        return e.emit(f"{name} {type_} {acc}, {made}")
    return e.intrinsic(f"llvm.{name}.{intrinsic_suffix(op.dest)}", type_, (type_, acc), (type_, made))


def _extreme(e: FunctionEmitter, kind: str, type_: Type, lanes: str, acc: str | None) -> str:
    wide, scalar = compute_type(type_), compute_type(element_of(type_))
    short = "f64" if scalar == "double" else "f32"
    name = f"llvm.vector.reduce.{_EXTREMES[kind]}.v{lane_count(type_)}{short}"
    made = e.intrinsic(name, scalar, (wide, lanes))
    if acc is None:
        return made
    return e.intrinsic(f"llvm.{_PAIRS[kind]}.{short}", scalar, (scalar, acc), (scalar, made))


def _ordered(e: FunctionEmitter, op: vector.ReductionOp, lanes: str, acc: str | None) -> str:
    name, start = _ORDERED[op.kind]
    scalar = register_type(op.dest.type)
    return e.intrinsic(f"llvm.vector.reduce.{name}.{intrinsic_suffix(op.vector)}", scalar,
                       (scalar, acc or start), (register_type(op.vector.type), lanes))  # fmt: skip


def _rounding_each(e: FunctionEmitter, op: vector.ReductionOp, lanes: str, acc: str | None) -> str:
    """Lane by lane, since every step rounds to the narrow type."""
    element, (name, _) = op.dest.type, _ORDERED[op.kind]
    texts = [e.emit(f"extractelement {register_type(op.vector.type)} {lanes}, i64 {lane}")
             for lane in range(lane_count(op.vector.type) or 0)]  # fmt: skip
    if acc is not None:
        texts.insert(0, acc)
    made = texts[0]
    for text in texts[1:]:
        wide = e.emit(f"{name} float {widened(e, made, element)}, {widened(e, text, element)}")
        made = narrowed(e, wide, element)
    return made
