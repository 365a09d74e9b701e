"""Training (ai.onnx.preview.training): gradients, and steps of optimisers.

A step takes a rate, its number, and then groups of as many tensors: parameters, gradients, and what is kept of earlier
steps; it gives the new ones, group after group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import tensor_type
from stepwell.frontends.onnx.gradients.reverse import gradients
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import Arithmetic, binary, cast, reshaped, scalar, unary
from stepwell.ir.core import Value

DOMAIN = "ai.onnx.preview.training"


class Step(Arithmetic):
    """A rate and the number of a step, as scalars of the parameter's type, and arithmetic on tensors of that type."""

    def __init__(self, node: Node, like: Value) -> None:
        super().__init__(node)
        element = tensor_type(like).element
        self.rate, self.time = (cast(node, reshaped(node, node.input(index), ()), element) for index in range(2))
        self.started = node.insert(
            logic.CompareOp(self.time, scalar(node, 0, self.time), predicate="gt")
        ).result  # fmt: skip

    def rooted(self, a: Value) -> Value:
        """sqrt(a) + epsilon"""
        return self.add(unary(self.node, graph.SqrtOp, a), self.node.float("epsilon", 1e-6))

    def regular(self, x: Value, g: Value) -> Value:
        """The gradient with that of the squared norm of the parameters."""
        factor = self.node.float("norm_coefficient", 0.0)
        return self.add(self.mul(x, factor), g) if factor else g

    def later(self, then: Value, first: float | Value) -> Value:
        """A scalar, or another one in step 0."""
        other = first if isinstance(first, Value) else scalar(self.node, first, then)
        return self.node.insert(logic.WhereOp(self.started, then, other)).result

    def without_power(self, base: float) -> Value:
        """1 - base^time"""
        power = binary(self.node, graph.PowOp, scalar(self.node, base, self.time), self.time)
        return self.sub(scalar(self.node, 1, power), power)


def stepped(node: Node, kept: int, step: Callable[..., Sequence[Value]]) -> list[Value]:
    """The results of `step(arithmetic, x, g, kept tensors ..)` for all parameters, as the operators order them."""
    given = node.inputs()[2:]
    count, left = divmod(len(given), 2 + kept)
    if left or not count:
        raise node.unsupported(f"{len(given)} tensors are not groups of {2 + kept}", "The model is malformed.")
    groups = [given[number::count] for number in range(count)]
    made = [step(Step(node, group[0]), *group) for group in groups]
    return [results[place] for place in range(1 + kept) for results in made]


@rule("Adagrad", domain=DOMAIN)
def adagrad(node: Node) -> list[Value]:
    """h += g^2; x -= rate / (1 + decay time) * g / (sqrt(h) + epsilon)"""

    def step(s: Step, x: Value, g: Value, h: Value) -> list[Value]:
        decayed = s.add(s.mul(s.time, node.float("decay_factor", 0.0)), 1.0)
        g = s.regular(x, g)
        h = s.add(h, s.mul(g, g))
        return [s.sub(x, s.div(s.mul(s.div(s.rate, decayed), g), s.rooted(h))), h]

    return stepped(node, 1, step)


@rule("Adam", domain=DOMAIN)
def adam(node: Node) -> list[Value]:
    """v, h = running means of g and g^2; x -= rate' * v / (sqrt(h) + epsilon), where from step 1 on the rate is also
    multiplied by sqrt(1 - beta^time) / (1 - alpha^time)"""
    alpha, beta = node.float("alpha", 0.9), node.float("beta", 0.999)

    def step(s: Step, x: Value, g: Value, v: Value, h: Value) -> list[Value]:
        g = s.regular(x, g)
        v = s.add(s.mul(v, alpha), s.mul(g, 1 - alpha))
        h = s.add(s.mul(h, beta), s.mul(s.mul(g, g), 1 - beta))
        unbiased = s.div(unary(node, graph.SqrtOp, s.without_power(beta)), s.without_power(alpha))
        rate = s.mul(s.rate, s.later(unbiased, 1.0))
        x = s.sub(x, s.div(s.mul(rate, v), s.rooted(h)))
        return [s.mul(x, 1 - node.float("norm_coefficient_post", 0.0)), v, h]

    return stepped(node, 2, step)


@rule("Momentum", domain=DOMAIN)
def momentum(node: Node) -> list[Value]:
    """v = alpha v + beta g (g itself in step 0); x -= rate * v, or rate * (g + alpha v) after Nesterov"""
    alpha, beta, mode = node.float("alpha"), node.float("beta"), node.string("mode", "standard")
    if mode not in ("standard", "nesterov"):
        raise node.unsupported(f"the mode {mode!r} is not known", "The model is malformed.")

    def step(s: Step, x: Value, g: Value, v: Value) -> list[Value]:
        g = s.regular(x, g)
        v = s.add(s.mul(v, alpha), s.mul(g, s.later(scalar(node, beta, g), 1.0)))
        move = s.add(g, s.mul(v, alpha)) if mode == "nesterov" else v
        return [s.sub(x, s.mul(move, s.rate)), v]

    return stepped(node, 1, step)


@rule("Gradient", domain=DOMAIN)
def gradient(node: Node) -> list[Value]:
    """The derivatives of the sum of tensor `y` by the tensors `xs`, where these and `zs` have the inputs' values."""
    names = node.strings("xs"), node.strings("zs", [])
    return gradients(node, [node.value_of(name) for name in names[0]], [node.value_of(name) for name in names[1]],
                     node.value_of(node.string("y")))  # fmt: skip
