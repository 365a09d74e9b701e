"""Recurrent layers -> one product for the inputs of all steps, then `tensor.for` over the steps.

graph.lstm %x, %w, %r  ->  %p = x w + biases, for all steps at once
                           tensor.for %h, %c { %s = p[t] + h r; %h', %c' = cell(%s, %c) }

Sums and states are kept in f32 where the element type is narrower."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from stepwell.dialects.arith import IndexCastOp, SubIOp, attribute_of
from stepwell.dialects.graph.recurrent import GruOp, LstmOp, RecurrentOp, RnnOp
from stepwell.dialects.tensor import DimsAttr, ForOp, GenericOp, RowOp, SizeOp, YieldOp, tensor_type
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import I1, I64, INDEX, TensorType, is_unsigned
from stepwell.lowering.to_tensor.gates import FUNCTIONS
from stepwell.lowering.to_tensor.places import reshaped
from stepwell.lowering.to_tensor.rules import (
    accumulator_type,
    dim_names,
    lowers,
    plain_region,
    reduce_generics,
)
from stepwell.lowering.to_tensor.scalars import Scalars

Read = tuple[Value, Sequence[AffineExpr]]
Cell = Callable[..., Sequence[Value]]


def computed(c: Conversion, reads: Sequence[Read], results: Sequence[TensorType], body: Cell) -> list[Value]:
    """results[k][i] = body(each read's element at its place)[k]; floats are widened before and rounded behind it."""

    def scalars(s: Scalars, *elements: Value) -> list[Value]:
        made = body(s, *map(s.widened, elements))
        return [s.narrowed(value, type_.element) for value, type_ in zip(made, results, strict=True)]

    rank = results[0].rank
    op = GenericOp(
        [value for value, _ in reads],
        (),
        result_types=results,
        regions=[plain_region([tensor_type(value).element for value, _ in reads], scalars)],
        sizes=DimsAttr(tuple(results[0].shape)),
        iterators=["parallel"] * rank,
        maps=[*(AffineMap(rank, 0, places) for _, places in reads), *[AffineMap.identity(rank)] * len(results)],
        names=dim_names(rank),
    )
    return list(c.insert(op).outputs)


@attrs.frozen(eq=False)
class Layer:
    """One direction of a layer on its way down; n is the batch, states are [n, hidden].

    What belongs to several gates is [.., gates * hidden], and [.., gates, hidden] where hidden is not known."""

    op: RecurrentOp
    c: Conversion
    direction: int

    @property
    def state(self) -> TensorType:
        """The type of a state while the layer runs."""
        _, batch, hidden = self.op.state_shape()
        return TensorType((batch, hidden), accumulator_type(tensor_type(self.op.x).element))

    @property
    def steps(self) -> Dim:
        """How many."""
        return tensor_type(self.op.x).shape[0]

    @property
    def hidden(self) -> Dim:
        """The size of the state."""
        return self.state.shape[1]

    def width(self, gates: int) -> list[Dim]:
        """The sizes of what belongs to some gates."""
        return [gates * self.hidden] if isinstance(self.hidden, int) else [gates, self.hidden]

    def gates(self, first: int, *behind: AffineExpr) -> list[AffineExpr]:
        """Where the elements of gates from `first` on are, at the dims from d1 on."""
        if isinstance(self.hidden, int):
            return [dim(1) + first * self.hidden, *behind]
        return [dim(1) + first, dim(2), *behind]

    def gate_at(self, number: int) -> list[AffineExpr]:
        """Where the elements of one gate are, at the dim d1."""
        return [dim(1) + number * self.hidden] if isinstance(self.hidden, int) else [const(number), dim(1)]

    @property
    def is_backward(self) -> bool:
        """Whether the last step comes first."""
        return self.op.direction == "reverse" or self.direction == 1

    def part(self, value: Value, *places: AffineExpr) -> Read:
        """An operand [d, ..] of the layer, read in this direction."""
        return self.c.new(value), [const(self.direction), *places]

    def gated(self, value: Value, gates: int, places: Sequence[AffineExpr]) -> Read:
        """An operand [d, gates * hidden, ..] of the layer, read in this direction."""
        new = self.c.new(value)
        d, _, *behind = tensor_type(new).shape
        return reshaped(self.c, new, [d, *self.width(gates), *behind]), [const(self.direction), *places]

    def function(self, number: int) -> Callable[[Scalars, Value], Value]:
        """Activation `number` of this direction."""
        place = self.direction * self.op.functions + number
        compute = FUNCTIONS[self.op.activations[place]]
        alpha, beta = self.op.alphas[place], self.op.betas[place]
        return lambda s, x: compute(s, x, alpha, beta)

    def activation(self, number: int) -> Callable[[Scalars, Value], Value]:
        """Activation `number` behind the clip."""
        function, clip = self.function(number), self.op.clip
        return lambda s, x: function(s, x if clip is None else s.bounded(x, clip))

    def product(self, lhs: Value, weights: Value, first: int, count: int) -> Value:
        """[m, count gates]: lhs [m, k] times the rows of gates from `first` on of weights [d, rows, k], transposed."""
        (rows, depth), width = tensor_type(lhs).shape, self.width(count)
        space, last = 2 + len(width), dim(1 + len(width))
        source, places = self.gated(weights, self.op.gates, self.gates(first, last))
        return reduce_generics(
            self.c, [lhs, source], [TensorType((rows, *width), self.state.element)],
            sizes=[rows, *width, depth],
            iterators=["parallel"] * (space - 1) + ["reduction"],
            maps=[
                AffineMap(space, 0, [dim(0), last]),
                AffineMap(space, 0, places),
                AffineMap(space, 0, [dim(axis) for axis in range(space - 1)]),
            ],
            names=["m", "n", "k"] if len(width) == 1 else ["m", "g", "n", "k"],
            body=lambda s, x, y: s.mul(x, y),
            combine=lambda s, x, y: s.add(x, y),
            identities=[attribute_of(0, self.state.element)],
        )[0]  # fmt: skip

    def plus(self, total: Value, *terms: Read) -> Value:
        """[m, gates]: the sum of a value and of others, in this order."""
        if not terms:
            return total

        def body(s: Scalars, first: Value, *rest: Value) -> list[Value]:
            for value in rest:
                first = s.add(first, value)
            return [first]

        return computed(self.c, [self.whole(total), *terms], [tensor_type(total)], body)[0]

    @staticmethod
    def whole(value: Value) -> Read:
        """Every element where it is."""
        return value, [dim(axis) for axis in range(tensor_type(value).rank)]

    def projected(self) -> Value:
        """[t, n, gates]: the inputs of all steps times w, plus the biases that are added to nothing else."""
        op = self.op
        x = self.c.new(op.x)
        steps, batch, features = tensor_type(x).shape
        biases = [] if op.bias is None else [self.gated(op.bias, 2 * op.gates, self.gates(0))]
        if op.bias is not None and not self.keeps_recurrent_bias:
            biases.append(self.gated(op.bias, 2 * op.gates, self.gates(op.gates)))
        made = self.product(reshaped(self.c, x, (steps * batch, features)), op.w, 0, op.gates)
        return reshaped(self.c, self.plus(made, *biases), (steps, batch, *self.width(op.gates)))

    @property
    def keeps_recurrent_bias(self) -> bool:
        """Whether a gate multiplies the recurrent product together with its bias."""
        return isinstance(self.op, GruOp) and self.op.linear_before_reset

    def start(self, value: Value | None) -> Value:
        """An initial state [d, n, hidden] in this direction; zeros where there is none."""
        if value is not None and self.op.directions == 1 and tensor_type(value).element is self.state.element:
            return reshaped(self.c, self.c.new(value), self.state.shape)
        reads = [] if value is None else [self.part(value, dim(0), dim(1))]
        element = self.state.element
        return computed(self.c, reads, [self.state], lambda s, *x: x or [s.constant(0.0, element)])[0]

    def alive(self) -> Value | None:
        """[t, n]: whether a sequence is longer than t; None where all are as long as the steps."""
        if self.op.lengths is None:
            return None
        unsigned = is_unsigned(self.op.lengths.type)

        def body(s: Scalars, length: Value) -> list[Value]:
            step = s.emit(IndexCastOp(s.index(0), result_types=[I64]))
            return [s.compare("lt", step, s.resized(length, I64, unsigned))]

        type_ = TensorType((self.steps, self.state.shape[0]), I1)
        return computed(self.c, [(self.c.new(self.op.lengths), [dim(1)])], [type_], body)[0]

    def run(self) -> list[Value]:
        """y [t, n, hidden], then the final states."""
        op, c = self.op, self.c
        projected, alive = self.projected(), self.alive()
        starts = [self.start(getattr(op, name)) for name in ("initial_h", "initial_c")[: op.state_count]]
        block = Block([INDEX, *(value.type for value in starts)])
        outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
        place: Value = block.arguments[0]
        if self.is_backward:
            last = c.insert(SizeOp(of=DimsAttr((self.steps - 1,)))).result
            place = c.insert(SubIOp(last, place)).result
        step = Step(
            self, c.insert(RowOp(projected, place)).result, list(block.arguments[1:]),
            None if alive is None else c.insert(RowOp(alive, place)).result,
        )  # fmt: skip
        c.insert(YieldOp(STEPS[type(op)](step)))
        c.builder = outside
        made = c.insert(
            ForOp(starts, steps=DimsAttr((self.steps,)), backward=[int(self.is_backward)], regions=[Region([block])])
        )
        return [made.stacks[0], *made.finals]


@attrs.frozen(eq=False)
class Step:
    """One step of a layer: `x` [n, gates] are the inputs' products, `states` the states before, h first, and
    `alive` [n] says which sequences go on."""

    layer: Layer
    x: Value
    states: Sequence[Value]
    alive: Value | None

    @property
    def h(self) -> Value:
        """The state that the recurrent product reads."""
        return self.states[0]

    def column(self, value: Value, gate: int = 0) -> Read:
        """The part of [n, gates] that belongs to a gate."""
        return value, [dim(0), *self.layer.gate_at(gate)]

    def recurrent(self, first: int, count: int) -> Value:
        """h times the rows of r of some gates."""
        return self.layer.product(self.h, self.layer.op.r, first, count)

    def ends(self, reads: Sequence[Read], cell: Cell) -> list[Value]:
        """The states behind the step, then its row of y: `cell` computes the states, given the elements that are read.

        Where a sequence has ended, states stay and y is 0."""
        layer, alive = self.layer, self.alive
        row = layer.state.with_element(tensor_type(layer.op.x).element)
        kept = [] if alive is None else [(alive, [dim(0)]), *map(layer.whole, self.states)]
        results = [layer.state] * len(self.states)
        has_row = alive is not None or row is not layer.state

        def body(s: Scalars, *elements: Value) -> list[Value]:
            new = list(cell(s, *elements[len(kept) :]))
            y = new[0]
            if kept:
                goes_on, *old = elements[: len(kept)]
                y = s.select(goes_on, y, s.constant(0.0, y.type))
                new = [s.select(goes_on, a, b) for a, b in zip(new, old, strict=True)]
            return [*new, y] if has_row else new

        made = computed(layer.c, [*kept, *reads], [*results, row] if has_row else results, body)
        return made if has_row else [*made, made[0]]


def rnn_step(step: Step) -> list[Value]:
    """h' = f(x + h r)"""
    f = step.layer.activation(0)
    reads = [step.column(step.recurrent(0, 1)), step.column(step.x)]
    return step.ends(reads, lambda s, recurrent, x: [f(s, s.add(x, recurrent))])


def gru_step(step: Step) -> list[Value]:
    """h' = (1 - z) * candidate + z * h"""
    layer = step.layer
    assert isinstance(layer.op, GruOp)
    f, g = layer.activation(0), layer.activation(1)

    def mixed(s: Scalars, update: Value, candidate: Value, h: Value) -> list[Value]:
        rest = s.sub(s.constant(1.0, h.type), update)
        return [s.add(s.mul(rest, candidate), s.mul(update, h))]

    xs = [step.column(step.x, gate) for gate in range(3)]
    if layer.op.linear_before_reset:
        biases = [] if layer.op.bias is None else [layer.gated(layer.op.bias, 6, layer.gates(3))]
        recurrent = layer.plus(step.recurrent(0, 3), *biases)

        def whole(s: Scalars, h: Value, *parts: Value) -> list[Value]:
            xz, rz, xr, rr, xh, rh = parts
            reset = f(s, s.add(xr, rr))
            return mixed(s, f(s, s.add(xz, rz)), g(s, s.add(xh, s.mul(reset, rh))), h)

        rs = [step.column(recurrent, gate) for gate in range(3)]
        return step.ends([layer.whole(step.h), *(read for pair in zip(xs, rs, strict=True) for read in pair)], whole)
    gates = layer.plus(step.recurrent(0, 2), (step.x, [dim(0), *layer.gates(0)]))
    reset_h = computed(
        layer.c, [step.column(gates, 1), layer.whole(step.h)], [layer.state], lambda s, r, h: [s.mul(f(s, r), h)]
    )[0]
    candidate = layer.product(reset_h, layer.op.r, 2, 1)

    def last(s: Scalars, rh: Value, z: Value, xh: Value, h: Value) -> list[Value]:
        return mixed(s, f(s, z), g(s, s.add(xh, rh)), h)

    return step.ends([step.column(candidate), step.column(gates, 0), xs[2], layer.whole(step.h)], last)


def lstm_step(step: Step) -> list[Value]:
    """c' = f * c + i * g; h' = o * h(c')"""
    layer, op = step.layer, step.layer.op
    assert isinstance(op, LstmOp)
    f, g, last = layer.activation(0), layer.activation(1), layer.function(2)
    sums = layer.plus(step.recurrent(0, 4), (step.x, [dim(0), *layer.gates(0)]))
    peepholes = [] if op.peepholes is None else [
        layer.gated(op.peepholes, 3, layer.gate_at(gate)) for gate in range(3)
    ]  # fmt: skip
    coupled = op.input_forget

    def cell(s: Scalars, c: Value, i: Value, o: Value, forget: Value, new: Value, *holes: Value) -> list[Value]:
        if holes:
            i, forget = s.add(i, s.mul(holes[0], c)), s.add(forget, s.mul(holes[2], c))
        i = f(s, i)
        forget = s.sub(s.constant(1.0, i.type), i) if coupled else f(s, forget)
        c = s.add(s.mul(forget, c), s.mul(i, g(s, new)))
        if holes:
            o = s.add(o, s.mul(holes[1], c))
        return [s.mul(f(s, o), last(s, c)), c]

    return step.ends([layer.whole(step.states[1]), *(step.column(sums, gate) for gate in range(4)), *peepholes], cell)


STEPS: dict[type[RecurrentOp], Callable[[Step], list[Value]]] = {RnnOp: rnn_step, GruOp: gru_step, LstmOp: lstm_step}


@lowers(RnnOp, GruOp, LstmOp)
def recurrent(op: RecurrentOp, c: Conversion) -> list[Value]:
    """graph.lstm  ->  a product of all inputs, a tensor.for over the steps; the directions put together"""
    runs = [Layer(op, c, direction).run() for direction in range(op.directions)]
    y, *finals = zip(*runs, strict=True)
    states = zip(finals, op.results[1:], strict=True)
    return [_together(c, y, op.y, 1), *(_together(c, values, result, 0) for values, result in states)]


def _together(c: Conversion, values: Sequence[Value], result: Value, axis: int) -> Value:
    """The values of all directions along a new axis, rounded to the element type."""
    type_ = tensor_type(result)
    if len(values) == 1 and tensor_type(values[0]).element is type_.element:
        return reshaped(c, values[0], type_.shape)
    places = [dim(d) for d in range(type_.rank) if d != axis]

    def body(s: Scalars, first: Value, *second: Value) -> list[Value]:
        if not second:
            return [first]
        return [s.select(s.compare("eq", s.index(axis), s.constant(0, INDEX)), first, second[0])]

    return computed(c, [(value, places) for value in values], [type_], body)[0]
