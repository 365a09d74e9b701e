"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwell.dialects.graph.recurrent import ACTIVATIONS, GruOp, LstmOp, RecurrentOp, RnnOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.ir.core import Value

DEFAULTS: dict[type[RecurrentOp], list[str]] = {
    RnnOp: ["Tanh"], GruOp: ["Sigmoid", "Tanh"], LstmOp: ["Sigmoid", "Tanh", "Tanh"],
}  # fmt: skip
NAMES = {name.replace("_", ""): name for name in ACTIVATIONS}


def activation_fields(node: Node, cls: type[RecurrentOp], directions: int) -> dict[str, Any]:
    """Activations with a parameter pair each. ONNX lists parameters only for the functions that have them, in order;
    missing ones take the function's default."""
    given = node.strings("activations", DEFAULTS[cls] * directions)
    names = []
    for name in given:
        if name.lower() not in NAMES:
            raise node.unsupported(f"the activation {name!r} is not known", f"use one of {', '.join(NAMES)}")
        names.append(NAMES[name.lower()])
    alphas, betas = iter(node.floats("activation_alpha", [])), iter(node.floats("activation_beta", []))
    chosen: list[tuple[float, float]] = []
    for name in names:
        activation = ACTIVATIONS[name]
        alpha = 0.0 if activation.alpha is None else next(alphas, activation.alpha)
        beta = 0.0 if activation.beta is None else next(betas, activation.beta)
        chosen.append((alpha, beta))
    return {"activations": names, "alphas": [a for a, _ in chosen], "betas": [b for _, b in chosen]}


def common_fields(node: Node, cls: type[RecurrentOp]) -> dict[str, Any]:
    """The attributes that all layers have."""
    direction = node.string("direction", "forward")
    if direction == "foward":  # the default of GRU 1, as its schema spells it
        direction = "forward"
    if direction not in ("forward", "reverse", "bidirectional"):
        raise node.unsupported(f"the direction {direction!r} is not known")
    fields = activation_fields(node, cls, 2 if direction == "bidirectional" else 1)
    return fields | {"direction": direction, "clip": node.float("clip") if node.has("clip") else None}


def import_layer(node: Node, op: RecurrentOp) -> Sequence[Value]:
    """Insert a layer; with layout 1 its results have the batch in front."""
    results = list(node.insert(op).results)
    if not node.int("layout", 0):
        return results
    return [transpose(node, results[0], (2, 0, 1, 3)), *(transpose(node, state, (1, 0, 2)) for state in results[1:])]


def operands(node: Node) -> list[Value | None]:
    """x, w, r, bias, lengths, initial_h (and initial_c), as of layout 0."""
    found: list[Value | None] = [node.optional(index) for index in range(8)]
    if node.int("layout", 0):
        for index in (0, 5, 6):
            value = found[index]
            found[index] = None if value is None else transpose(node, value, (1, 0, 2))
    return found


@rule("RNN")
def rnn(node: Node) -> Sequence[Value]:
    """Outputs Y, Y_h."""
    return import_layer(node, RnnOp(*operands(node)[:6], **common_fields(node, RnnOp)))


@rule("GRU")
def gru(node: Node) -> Sequence[Value]:
    """Outputs Y, Y_h."""
    linear = bool(node.int("linear_before_reset", 0)) or None
    return import_layer(node, GruOp(*operands(node)[:6], linear_before_reset=linear, **common_fields(node, GruOp)))


@rule("LSTM")
def lstm(node: Node) -> Sequence[Value]:
    """Outputs Y, Y_h, Y_c; inputs 6 and 7 are the initial cell state and the peepholes."""
    coupled = bool(node.int("input_forget", 0)) or None
    return import_layer(node, LstmOp(*operands(node), input_forget=coupled, **common_fields(node, LstmOp)))
