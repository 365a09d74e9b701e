"""Recurrent layers: simple RNN, GRU and LSTM over whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, same_element, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_equal
from stepwell.dialects.graph.numeric import rounded, widened
from stepwell.errors import IRError
from stepwell.ir.attrkinds import BOOL, FLOAT, FLOATS, STRINGS, enum
from stepwell.ir.constraints import FLOAT_TENSOR, tensor_with
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import attr, operand, optional_operand, result
from stepwell.ir.types import IntegerType, TensorType, Type, numpy_dtype

DIRECTION = enum("forward", "reverse", "bidirectional")
LENGTHS = tensor_with("a list of integers", lambda e: isinstance(e, IntegerType), rank=1)


@attrs.frozen
class Activation:
    """A function f(x, alpha, beta) with its default parameters; None: it has no such parameter."""

    compute: Callable[[Array, float, float], Array]
    alpha: float | None = None
    beta: float | None = None


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(lambda x, a, b: np.maximum(x, 0)),
    "tanh": Activation(lambda x, a, b: np.tanh(x)),
    "sigmoid": Activation(lambda x, a, b: 1 / (1 + np.exp(-x))),
    "affine": Activation(lambda x, a, b: a * x + b, 1.0, 0.0),
    "leaky_relu": Activation(lambda x, a, b: np.where(x < 0, a * x, x), 0.01),
    "thresholded_relu": Activation(lambda x, a, b: np.where(x > a, x, 0 * x), 1.0),
    "scaled_tanh": Activation(lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hard_sigmoid": Activation(lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": Activation(lambda x, a, b: np.where(x < 0, a * np.expm1(x), x), 1.0),
    "softsign": Activation(lambda x, a, b: x / (1 + np.abs(x))),
    "softplus": Activation(lambda x, a, b: np.logaddexp(x, 0)),
}


class RecurrentOp(GraphOp):
    """Base of the recurrent layers, over d directions (2 where bidirectional, forward first), t steps, a batch of n:
    x [t, n, inputs], w [d, gates * hidden, inputs], r [d, gates * hidden, hidden], bias [d, 2 * gates * hidden] (of x,
    then of h), lengths [n], initial_h [d, n, hidden] -> y [t, d, n, hidden], y_h [d, n, hidden].

    Reverse runs from the last step of each sequence to its first. Steps at and after a sequence's length leave its
    state as it is, and y is 0 there. `activations` names, per direction, the functions in their order;
    `alphas` and `betas` hold their parameters (0 where a function has none). `clip` bounds the inputs of the
    activations at the gates to [-clip, clip]. Floats narrower than f32 are computed in f32."""

    gates: ClassVar[int] = 1
    functions: ClassVar[int] = 1  # activations per direction

    x: Value = operand(FLOAT_TENSOR)
    w: Value = operand(FLOAT_TENSOR)
    r: Value = operand(FLOAT_TENSOR)
    bias: Value | None = optional_operand(FLOAT_TENSOR)
    lengths: Value | None = optional_operand(LENGTHS)
    initial_h: Value | None = optional_operand(FLOAT_TENSOR)
    direction: str = attr(DIRECTION)
    activations: tuple[str, ...] = attr(STRINGS)
    alphas: tuple[float, ...] = attr(FLOATS)
    betas: tuple[float, ...] = attr(FLOATS)
    clip: float | None = attr(FLOAT, default=None)
    y: Value = result(FLOAT_TENSOR)
    y_h: Value = result(FLOAT_TENSOR)

    @property
    def directions(self) -> int:
        """How many."""
        return 2 if self.direction == "bidirectional" else 1

    def state_shape(self) -> tuple[Dim, ...]:
        """[d, n, hidden]."""
        return (self.directions, shape_of(self.x)[1], shape_of(self.r)[2])

    def expected(self) -> dict[str, tuple[Dim, ...]]:
        """The shape that each operand with a fixed one needs."""
        hidden, d = shape_of(self.r)[2], self.directions
        rows = hidden * self.gates
        inputs = shape_of(self.x)[2]
        return {
            "w": (d, rows, inputs), "r": (d, rows, hidden), "bias": (d, rows * 2), "lengths": (shape_of(self.x)[1],),
            "initial_h": self.state_shape(),
        }  # fmt: skip

    def infer_types(self) -> Sequence[Type]:
        for name in ("x", "r"):
            if len(shape_of(getattr(self, name))) != 3:
                raise IRError(f"{name} needs rank 3, not {len(shape_of(getattr(self, name)))}")
        for name, wanted in self.expected().items():
            value = getattr(self, name)
            if value is not None and not _fits(shape_of(value), wanted):
                given = ", ".join(map(str, shape_of(value)))
                raise IRError(f"{name} needs shape [{', '.join(map(str, wanted))}], not [{given}]")
            for axis, size in enumerate(wanted if value is not None else ()):
                demand_equal(shape_of(value)[axis], size, f"axis {axis} of {name}")
        self._check_activations()
        element = same_element(*(v for v in self.operands if v is not self.lengths))
        state = self.state_shape()
        return [TensorType((shape_of(self.x)[0], *state), element), *[TensorType(state, element)] * self.state_count]

    state_count: ClassVar[int] = 1

    def _check_activations(self) -> None:
        count = self.functions * self.directions
        if not len(self.activations) == len(self.alphas) == len(self.betas) == count:
            raise IRError(f"{count} activations with their parameters are needed, not {len(self.activations)}")
        for name in self.activations:
            if name not in ACTIVATIONS:
                raise IRError(f"activation {name!r} is not one of {', '.join(ACTIVATIONS)}")

    def function(self, direction: int, index: int) -> Callable[[Array], Array]:
        """Activation number `index` of a direction."""
        place = direction * self.functions + index
        activation = ACTIVATIONS[self.activations[place]]
        alpha, beta = self.alphas[place], self.betas[place]
        return lambda x: activation.compute(x, alpha, beta).astype(x.dtype)

    def clipped(self, x: Array) -> Array:
        """The input of a gate's activation."""
        return x if self.clip is None else np.clip(x, -self.clip, self.clip)

    def step(self, d: int, x: Array, state: tuple[Array, ...], weights: dict[str, Array]) -> tuple[Array, ...]:
        """The states after one step of direction `d`: h first. x [n, gates * hidden] already holds x times w."""
        raise NotImplementedError

    def interpret(self, frame: Any, *args: Any) -> Any:
        given = {id(value): widened(array) for value, array in zip(self.operands, args, strict=True)}

        def array_of(name: str) -> Array | None:
            value = getattr(self, name, None)
            return None if value is None else given[id(value)]

        x = given[id(self.x)]
        hidden = given[id(self.r)].shape[2]
        zeros = np.zeros((self.directions, x.shape[1], hidden), x.dtype)
        starts = [zeros if (a := array_of(name)) is None else a for name in ("initial_h", "initial_c")]
        lengths = array_of("lengths")
        lengths = np.full(x.shape[1], x.shape[0]) if lengths is None else lengths
        weights = {name: a for name in ("w", "r", "bias", "peepholes") if (a := array_of(name)) is not None}
        ys = np.zeros((x.shape[0], *zeros.shape), x.dtype)
        ends: list[tuple[Array, ...]] = []
        with np.errstate(all="ignore"):
            for d in range(self.directions):
                own = {name: array[d] for name, array in weights.items()}
                begin = tuple(start[d] for start in starts[: self.state_count])
                ends.append(self._run(d, x, lengths, begin, own, ys[:, d]))
        dtype = numpy_dtype(tensor_type(self.results[0]))
        finals = [rounded(np.stack(states), dtype) for states in zip(*ends, strict=True)]
        return (rounded(ys, dtype), *finals)

    def _run(
        self, d: int, x: Array, lengths: Array, state: tuple[Array, ...], weights: dict[str, Array], ys: Array
    ) -> tuple[Array, ...]:
        backward = self.direction == "reverse" or d == 1
        steps = x.shape[0]
        products = x @ weights["w"].T
        for t in reversed(range(steps)) if backward else range(steps):
            alive = (t < lengths)[:, None]
            new = self.step(d, products[t], state, weights)
            state = tuple(np.where(alive, a, b) for a, b in zip(new, state, strict=True))
            ys[t] = np.where(alive, state[0], 0)
        return state


def _fits(given: Sequence[Dim], expected: Sequence[Dim]) -> bool:
    return len(given) == len(expected) and not any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(given, expected, strict=True)
    )


def _halves(weights: dict[str, Array], dtype: Any) -> tuple[Array, Array]:
    """The biases of x and of h."""
    bias = weights.get("bias")
    if bias is None:
        return np.zeros((), dtype), np.zeros((), dtype)
    first, second = np.split(bias, 2)
    return first, second


class RnnOp(RecurrentOp):
    """h' = f(w x + r h + biases); one gate, one function. See the base for shapes and attributes. Stands for ONNX RNN.

    ```mlir
    %x = "test.value"() : () -> tensor<5x2x3xf32>
    %w = "test.value"() : () -> tensor<1x4x3xf32>
    %r = "test.value"() : () -> tensor<1x4x4xf32>
    %y, %h = graph.rnn %x, %w, %r {direction = "forward", activations = ["tanh"], alphas = array<f64: 0.0>,
      betas = array<f64: 0.0>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
      : (tensor<5x2x3xf32>, tensor<1x4x3xf32>, tensor<1x4x4xf32>) -> (tensor<5x1x2x4xf32>, tensor<1x2x4xf32>)
    ```
    """

    name = "graph.rnn"

    def step(self, d: int, x: Array, state: tuple[Array, ...], weights: dict[str, Array]) -> tuple[Array, ...]:
        bias = sum(_halves(weights, x.dtype))
        return (self.function(d, 0)(self.clipped(x + state[0] @ weights["r"].T + bias)),)


class GruOp(RecurrentOp):
    """Gates in the order update z, reset s, hidden h; functions f, g.

    z = f(w_z x + r_z h + b), s = f(w_s x + r_s h + b); candidate = g(w_h x + r_h (s * h) + b), or, with
    `linear_before_reset`, g(w_h x + b_w + s * (r_h h + b_r)); h' = (1 - z) * candidate + z * h. See the base for shapes
    and attributes. Stands for ONNX GRU (Cho et al. 2014).

    ```mlir
    %x = "test.value"() : () -> tensor<5x2x3xf32>
    %w = "test.value"() : () -> tensor<1x12x3xf32>
    %r = "test.value"() : () -> tensor<1x12x4xf32>
    %y, %h = graph.gru %x, %w, %r {direction = "forward", activations = ["sigmoid", "tanh"],
      alphas = array<f64: 0.0, 0.0>, betas = array<f64: 0.0, 0.0>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
      : (tensor<5x2x3xf32>, tensor<1x12x3xf32>, tensor<1x12x4xf32>) -> (tensor<5x1x2x4xf32>, tensor<1x2x4xf32>)
    ```
    """

    name = "graph.gru"
    gates = 3
    functions = 2
    linear_before_reset: bool = attr(BOOL, default=False)

    def step(self, d: int, x: Array, state: tuple[Array, ...], weights: dict[str, Array]) -> tuple[Array, ...]:
        (h,) = state
        hidden = h.shape[1]
        f, g = self.function(d, 0), self.function(d, 1)
        of_x, of_h = (b + np.zeros(3 * hidden, x.dtype) for b in _halves(weights, x.dtype))
        x = x + of_x
        r_gates, r_hidden = weights["r"][: 2 * hidden], weights["r"][2 * hidden :]
        update, reset = np.split(f(self.clipped(x[:, : 2 * hidden] + h @ r_gates.T + of_h[: 2 * hidden])), 2, axis=1)
        bias = of_h[2 * hidden :]
        if self.linear_before_reset:
            recurrent = reset * (h @ r_hidden.T + bias)
        else:
            recurrent = (reset * h) @ r_hidden.T + bias
        candidate = g(self.clipped(x[:, 2 * hidden :] + recurrent))
        return ((1 - update) * candidate + update * h,)


class LstmOp(RecurrentOp):
    """Gates in the order input i, output o, forget f, cell c; functions f, g, h; peepholes [d, 3 * hidden] of i, o, f.

    i = f(gate + p_i * c), f = f(gate + p_f * c) (with `input_forget`: 1 - i), c' = f * c + i * g(gate),
    o = f(gate + p_o * c'), h' = o * h(c'). initial_c and y_c are [d, n, hidden]. See the base for shapes and
    attributes. Stands for ONNX LSTM (Hochreiter and Schmidhuber 1997; peepholes: Gers and Schmidhuber 2000).

    ```mlir
    %x = "test.value"() : () -> tensor<5x2x3xf32>
    %w = "test.value"() : () -> tensor<1x16x3xf32>
    %r = "test.value"() : () -> tensor<1x16x4xf32>
    %y, %h, %c = graph.lstm %x, %w, %r {direction = "reverse", activations = ["sigmoid", "tanh", "tanh"],
      alphas = array<f64: 0.0, 0.0, 0.0>, betas = array<f64: 0.0, 0.0, 0.0>,
      operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>}
      : (tensor<5x2x3xf32>, tensor<1x16x3xf32>, tensor<1x16x4xf32>)
      -> (tensor<5x1x2x4xf32>, tensor<1x2x4xf32>, tensor<1x2x4xf32>)
    ```
    """

    name = "graph.lstm"
    gates = 4
    functions = 3
    state_count = 2
    initial_c: Value | None = optional_operand(FLOAT_TENSOR)
    peepholes: Value | None = optional_operand(FLOAT_TENSOR)
    input_forget: bool = attr(BOOL, default=False)
    y_c: Value = result(FLOAT_TENSOR)

    def expected(self) -> dict[str, tuple[Dim, ...]]:
        state = self.state_shape()
        return super().expected() | {"initial_c": state, "peepholes": (self.directions, state[2] * 3)}

    def step(self, d: int, x: Array, state: tuple[Array, ...], weights: dict[str, Array]) -> tuple[Array, ...]:
        h, c = state
        f, g, h_function = (self.function(d, index) for index in range(3))
        sums = x + h @ weights["r"].T + sum(_halves(weights, x.dtype))
        gate_i, gate_o, gate_f, gate_c = np.split(sums, 4, axis=1)
        p_i, p_o, p_f = np.split(weights.get("peepholes", np.zeros(3 * h.shape[1], x.dtype)), 3)
        i = f(self.clipped(gate_i + p_i * c))
        forget = 1 - i if self.input_forget else f(self.clipped(gate_f + p_f * c))
        new_c = forget * c + i * g(self.clipped(gate_c))
        o = f(self.clipped(gate_o + p_o * new_c))
        return (o * h_function(new_c), new_c)
