"""Moves data as the small integers that it is kept in, instead of as floats.

Dequantising maps each number by itself, is monotone, and never gives NaN or -0, so that what only moves numbers, or
picks the largest, may run before it. Below, D is `quant.dcast` with one scale, S `quant.scast`:

reshape(D(q))                     ->  D(S(reshape(S(q))))
concat(D(p), D(q))                ->  D(S(concat(S(p), S(q))))
pad(D(q)) with a number           ->  D(S(pad(S(q)))) with the integer that stands for it
transpose, slice, gather of D(q)  ->  D(S(transpose ..(S(q))))
max over windows of D(q)          ->  D(S(max over windows of S(q)))
quant.qcast(D(q))                 ->  q, where the types are equal and every integer survives the way
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from stepwell.dialects import arith
from stepwell.dialects.arith import attribute_of
from stepwell.dialects.quant import DCastOp, QCastOp, SCastOp, UniformType, uniform
from stepwell.dialects.tensor import ConcatOp, GenericOp, PadOp, ReadOp, ReshapeOp, YieldOp, tensor_type
from stepwell.ir.affine_expr import AffineExpr
from stepwell.ir.attributes import ArrayAttr, Attribute, FloatAttr
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, Region, Value
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.rewrite import Pattern, Rewriter, apply_greedily, pattern
from stepwell.ir.types import TensorType, Type, is_unsigned
from stepwell.lowering.graph.canonicalize import count_rewrites


@attrs.frozen
class MoveQuantised(Pass):
    """Let quantised numbers be moved before they are dequantised."""

    name: ClassVar[str] = "move-quantised"

    def run(self, module: Operation, context: PassContext) -> None:
        if any(isinstance(op, DCastOp) for op in module.walk()):
            count_rewrites(context, apply_greedily(module, PATTERNS))


def one_scale(value: Value) -> UniformType | None:
    """The quantised type of what a value is dequantised from, where it has one scale."""
    op = value.defining_op
    type_ = uniform(op.input) if isinstance(op, DCastOp) else None
    return type_ if type_ is not None and type_.axis is None else None


def stored(value: Value, rewriter: Rewriter) -> Value:
    """The integers that a value is dequantised from: S(q) for D(q)."""
    op = value.defining_op
    assert isinstance(op, DCastOp)
    type_ = tensor_type(op.input)
    return rewriter.insert(SCastOp(op.input, result_types=[type_.with_element(uniform(op.input).storage)])).result


def dequantise(op: Operation, integers: Value, type_: UniformType, rewriter: Rewriter) -> bool:
    """Replace an op by D(S(integers))."""
    quantised = tensor_type(integers).with_element(type_)
    number = rewriter.insert(SCastOp(integers, result_types=[quantised])).result
    rewriter.replace(op, rewriter.insert(DCastOp(number, result_types=[op.results[0].type])).result)
    return True


@pattern
def drop_requantise(op: QCastOp, rewriter: Rewriter) -> bool:
    """qcast(dcast(q)) -> q, where the types are equal and every integer survives. dcast(qcast(x)) stays: it rounds and
    saturates x."""
    inner = op.input.defining_op
    if isinstance(inner, DCastOp) and inner.input.type is op.result.type and uniform(op.result).survives:
        rewriter.replace(op, inner.input)
        return True
    return False


@pattern
def reshape_before_dequantise(op: ReshapeOp, rewriter: Rewriter) -> bool:
    """reshape(D(q)) -> D(S(reshape(S(q))))"""
    type_ = one_scale(op.x)
    if type_ is None:
        return False
    shape = tensor_type(op.result).with_element(type_.storage)
    made = rewriter.insert(ReshapeOp(stored(op.x, rewriter), result_types=[shape])).result
    return dequantise(op, made, type_, rewriter)


@pattern
def concat_before_dequantise(op: ConcatOp, rewriter: Rewriter) -> bool:
    """concat(D(p), D(q)) -> D(S(concat(S(p), S(q)))), where all have one type"""
    types = {one_scale(x) for x in op.xs}
    type_ = types.pop() if len(types) == 1 else None
    if type_ is None:
        return False
    made = rewriter.insert(ConcatOp([stored(x, rewriter) for x in op.xs], axis=op.axis)).result
    return dequantise(op, made, type_, rewriter)


@pattern
def pad_before_dequantise(op: PadOp, rewriter: Rewriter) -> bool:
    """pad(D(q)) with 0.0 -> D(S(pad(S(q)))) with the zero point; or with another number that an integer stands for"""
    type_ = one_scale(op.x)
    value = integer_for(op.value, type_) if type_ is not None else None
    if type_ is None or value is None:
        return False
    made = _padded(op, value, rewriter)
    return dequantise(op, made, type_, rewriter)


def _padded(op: PadOp, value: Attribute, rewriter: Rewriter) -> Value:
    return rewriter.insert(PadOp(stored(op.x, rewriter), low=op.low, high=op.high, value=value)).result


def integer_for(value: Attribute, type_: UniformType) -> Attribute | None:
    """The stored integer that stands for a float, bit for bit; None where none does."""
    number = type_.stored(float(value.value)) if isinstance(value, FloatAttr) else None
    return None if number is None else _signless(number, type_)


def _signless(number: int, type_: UniformType) -> Attribute:
    """An integer as an attribute of the storage type, which reads its bits as signed."""
    top = 1 << type_.integer.width
    return attribute_of(number - top if number >= top >> 1 else number, type_.storage)


# Bodies that only move


@pattern
def move_before_dequantise(op: GenericOp, rewriter: Rewriter) -> bool:
    """generic(D(q)) { reads, chooses } -> D(S(generic(S(q)) { reads, chooses integers }))"""
    moves = Moves.of(op)
    if moves is None:
        return False
    made = rewriter.insert(_with_storage(op, moves, rewriter))
    return dequantise(op, made.outputs[0], moves.type, rewriter)


@attrs.frozen(eq=False)
class Moves:
    """What a body moves: the operands of type `type` (their positions), and the values that are such numbers."""

    type: UniformType
    operands: frozenset[int]
    numbers: frozenset[Value]

    @staticmethod
    def of(op: GenericOp) -> Moves | None:
        """What the body of a map moves; None where it does anything else with a number."""
        if op.has_reduction or len(op.outputs) != 1:
            return None
        types = {one_scale(value) for value in op.operands} - {None}
        type_ = types.pop() if len(types) == 1 else None
        if type_ is None:
            return None
        arguments = list(op.body.block.arguments)
        found: set[Value] = set()
        if not _collect(op.body.block.terminator.operands[0], arguments, type_, found):
            return None
        positions = frozenset(arguments.index(value) for value in found if value in arguments)
        if not positions or any(one_scale(op.operands[n]) is not type_ for n in positions):
            return None
        if any(not _only_moves(user, index) for value in found for user, index in value.uses):
            return None
        return Moves(type_, positions, frozenset(found))


def _collect(value: Value, arguments: Sequence[Value], type_: UniformType, found: set[Value]) -> bool:
    """Gather the values of which this one is: arguments, constants, reads, choices; False where it is computed."""
    if value in found:
        return True
    found.add(value)
    op = value.defining_op
    if value in arguments:
        return True
    if isinstance(op, arith.ConstantOp):
        return integer_for(op.value, type_) is not None
    if isinstance(op, ReadOp):
        return all(_collect(v, arguments, type_, found) for v in (op.source, op.otherwise))
    if isinstance(op, arith.SelectOp):
        return all(_collect(v, arguments, type_, found) for v in (op.true_value, op.false_value))
    return False


def _only_moves(user: Operation, index: int) -> bool:
    """Whether an operand of an op is moved by it."""
    if isinstance(user, ReadOp):
        return index in (0, len(user.operands) - 1)
    return isinstance(user, YieldOp) or (isinstance(user, arith.SelectOp) and index > 0)


def _with_storage(op: GenericOp, moves: Moves, rewriter: Rewriter) -> GenericOp:
    """The map on integers."""
    type_ = moves.type
    operands = [stored(v, rewriter) if n in moves.operands else v for n, v in enumerate(op.operands)]
    old = op.body.block
    block = Block([_as_storage(a.type, type_) if a in moves.numbers else a.type for a in old.arguments])
    mapping: dict[Value, Value] = dict(zip(old.arguments, block.arguments, strict=True))
    for inner in old:
        is_number = any(result in moves.numbers for result in inner.results)
        if isinstance(inner, arith.ConstantOp) and is_number:
            value = integer_for(inner.value, type_)
            assert value is not None
            made = Builder.at_end(block).insert(arith.ConstantOp(value=value)).result
            mapping[inner.result] = made
            continue
        copy = inner.clone(mapping)
        block.append(copy)
        for result in copy.results if is_number else ():
            result.type = type_.storage
    results = [tensor_type(op.outputs[0]).with_element(type_.storage)]
    made_op = GenericOp.make(operands, results, op.properties, op.attributes, loc=op.loc)
    made_op.add_region(Region([block]))
    assert isinstance(made_op, GenericOp)
    return made_op


def _as_storage(type_: Type, quantised: UniformType) -> Type:
    return type_.with_element(quantised.storage) if isinstance(type_, TensorType) else quantised.storage


# Maxima over windows


@pattern
def max_before_dequantise(op: GenericOp, rewriter: Rewriter) -> bool:
    """max over windows of D(q) -> D(S(max over windows of S(q))); also of pad(D(q)) with -inf, where every window
    reaches an element that is none of the border"""
    if not is_maximum(op):
        return False
    value = op.inputs[0]
    pad = value.defining_op
    data = pad.x if isinstance(pad, PadOp) else value
    type_ = one_scale(data)
    if type_ is None or (isinstance(pad, PadOp) and not every_window_meets_data(op, pad)):
        return False
    least = _signless(type_.low, type_)
    operand = _padded(pad, least, rewriter) if isinstance(pad, PadOp) else stored(data, rewriter)
    element = type_.storage
    body, combine = Block([element]), Block([element, element])
    Builder.at_end(body).insert(YieldOp([body.arguments[0]]))
    larger = arith.MaxUIOp if is_unsigned(type_.integer) else arith.MaxSIOp
    builder = Builder.at_end(combine)
    builder.insert(YieldOp([builder.insert(larger(*combine.arguments)).results[0]]))
    properties = {**op.properties, "identities": ArrayAttr((least,))}
    results = [tensor_type(op.outputs[0]).with_element(element)]
    made = GenericOp.make([operand], results, properties, op.attributes, loc=op.loc)
    made.add_region(Region([body]))
    made.add_region(Region([combine]))
    return dequantise(op, rewriter.insert(made).results[0], type_, rewriter)


def is_maximum(op: GenericOp) -> bool:
    """Whether a generic is the maximum of one input, starting from -inf."""
    if not op.has_reduction or len(op.inputs) != 1 or op.sources or len(op.outputs) != 1 or op.combine is None:
        return False
    body, combine = op.body.block, op.combine.block
    chosen = combine.terminator.operands[0].defining_op
    identity = op.identities[0]
    return (
        list(body.terminator.operands) == body.arguments
        and isinstance(chosen, arith.MaximumFOp)
        and set(chosen.operands) == set(combine.arguments)
        and isinstance(identity, FloatAttr)
        and identity.value == float("-inf")
    )


def every_window_meets_data(op: GenericOp, pad: PadOp) -> bool:
    """Whether no window lies in the border alone, which has -inf all over.

    Along an axis of `size` elements a window has taps 0, t, .., t (k - 1) behind its start. It meets data where t is at
    most the size, and the border on either side no wider than the last tap is away from the first."""
    if not isinstance(pad.value, FloatAttr) or pad.value.value != float("-inf"):
        return False
    shape = tensor_type(pad.x).shape
    for low, high, size, place in zip(pad.low, pad.high, shape, op.input_maps[0].results, strict=True):
        window = _window(op, place) if low or high else (1, 1)
        if window is None:
            return False
        step, count = window
        if (low or high) and (not isinstance(size, int) or size < step or max(low, high) > step * (count - 1)):
            return False
    return True


def _window(op: GenericOp, place: AffineExpr) -> tuple[int, int] | None:
    """(distance of taps, their number) of a place `stride * o + distance * k`; None for another form."""
    form = place.linear_form()
    if form is None or form[1]:
        return None
    taps = [d for d in form[0] if op.iterators[d] == "reduction"]
    if len(taps) != 1 or len(form[0]) != 2 or min(form[0].values()) < 1:
        return None
    count = op.sizes.dims[taps[0]]
    return (form[0][taps[0]], count) if isinstance(count, int) else None


PATTERNS: list[Pattern] = [
    drop_requantise, reshape_before_dequantise, concat_before_dequantise, pad_before_dequantise,
    move_before_dequantise, max_before_dequantise,
]  # fmt: skip
