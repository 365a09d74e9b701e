"""Recurrent layers."""

from __future__ import annotations

from typing import Any

from stepwell.dialects.graph import recurrent as graph
from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.exports.composing import Item, cast
from stepwell.frontends.onnx.writer import Writer, exports
from stepwell.ir.types import SI32

ACTIVATIONS = {name: "".join(part.capitalize() for part in name.split("_")) for name in graph.ACTIVATIONS}


def _attributes(op: graph.RecurrentOp, writer: Writer) -> dict[str, Any]:
    """Parameters are listed for the functions that have them."""
    functions = [graph.ACTIVATIONS[name] for name in op.activations]
    alphas = [a for a, f in zip(op.alphas, functions, strict=True) if f.alpha is not None]
    betas = [b for b, f in zip(op.betas, functions, strict=True) if f.beta is not None]
    hidden = shape_of(op.r)[2]
    return {
        "direction": op.direction, "activations": [ACTIVATIONS[name] for name in op.activations],
        "activation_alpha": [writer.float32(op, "alpha", alpha) for alpha in alphas] or None,
        "activation_beta": [writer.float32(op, "beta", beta) for beta in betas] or None,
        "clip": writer.float32(op, "clip", op.clip), "hidden_size": hidden if isinstance(hidden, int) else None,
    }  # fmt: skip


def _operands(op: graph.RecurrentOp, writer: Writer) -> list[Item | None]:
    lengths = None if op.lengths is None else cast(writer, op.lengths, SI32)
    return [op.x, op.w, op.r, op.bias, lengths, op.initial_h]


@exports(graph.RnnOp)
def rnn(op: graph.RnnOp, writer: Writer) -> None:
    """graph.rnn %x, %w, %r, %bias, %lengths, %h -> RNN(x, w, r, bias, lengths, h)"""
    writer.node("RNN", _operands(op, writer), op.results, **_attributes(op, writer))


@exports(graph.GruOp)
def gru(op: graph.GruOp, writer: Writer) -> None:
    """graph.gru %x, %w, %r, %bias, %lengths, %h -> GRU(x, w, r, bias, lengths, h)"""
    linear = int(op.linear_before_reset) or None
    writer.node("GRU", _operands(op, writer), op.results, linear_before_reset=linear, **_attributes(op, writer))


@exports(graph.LstmOp)
def lstm(op: graph.LstmOp, writer: Writer) -> None:
    """graph.lstm %x, %w, %r, %bias, %lengths, %h, %c, %p -> LSTM(x, w, r, bias, lengths, h, c, p)"""
    operands = [*_operands(op, writer), op.initial_c, op.peepholes]
    writer.node("LSTM", operands, op.results, input_forget=int(op.input_forget) or None, **_attributes(op, writer))
