"""Signal processing."""

from __future__ import annotations

from stepwell.dialects.graph.base import normalize_axis, shape_of
from stepwell.dialects.graph.signal import DftOp, MelWeightsOp, StftOp, WindowFunctionOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.shapes import rank_of, reshape
from stepwell.ir.core import Value
from stepwell.ir.types import F32


def insert_dft(node: Node, axis: int | None) -> Value:
    """A transform along an axis that may count from the back; None: input 2."""
    x = node.input(0)
    where = node.input(2) if axis is None else None
    axis = None if axis is None else normalize_axis(axis, len(shape_of(x)))
    inverse, onesided = (bool(node.int(name, 0)) or None for name in ("inverse", "onesided"))
    return node.insert(DftOp(x, node.optional(1), where, axis=axis, inverse=inverse, onesided=onesided)).result


@rule("DFT", since=17)
def dft_17(node: Node) -> Value:
    """The axis is an attribute."""
    return insert_dft(node, node.int("axis", 1))


@rule("DFT", since=20)
def dft(node: Node) -> Value:
    """The axis is an input, by default the last signal axis."""
    if not node.has_input(2):
        return insert_dft(node, -2)
    axis = node.constant_input(2)
    return insert_dft(node, None if axis is None else int(axis.reshape(-1)[0]))


@rule("STFT", since=17)
def stft(node: Node) -> Value:
    """Inputs signal, frame_step, window, frame_length; a complex signal has no one-sided transform.

    A signal [batch, samples], as PyTorch exports it, is a real one."""
    x = node.input(0)
    if rank_of(x) == 2:
        x = reshape(node, x, [*shape_of(x), 1])
    onesided = (bool(node.int("onesided", 1)) and shape_of(x)[-1] != 2) or None
    return node.insert(StftOp(x, node.input(1), node.optional(2), node.optional(3), onesided=onesided)).result


@rule("HannWindow", "HammingWindow", "BlackmanWindow", since=17)
def window(node: Node) -> Value:
    """The kind is the operator's name."""
    kind = node.op_type.removesuffix("Window").lower()
    element, periodic = node.element_type("output_datatype", F32), bool(node.int("periodic", 1)) or None
    return node.insert(WindowFunctionOp(node.input(0), kind=kind, periodic=periodic, element=element)).result


@rule("MelWeightMatrix", since=17)
def mel_weight_matrix(node: Node) -> Value:
    """Inputs num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz."""
    operands = [node.input(index) for index in range(5)]
    return node.insert(MelWeightsOp(*operands, element=node.element_type("output_datatype", F32))).result
