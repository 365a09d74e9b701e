"""Mixtures of experts: each token goes through the k of several feed-forward networks that a router chooses for it.

Every expert is computed for every token, and the ones that were not chosen count with weight 0: two dense products,
whatever the router says."""

from __future__ import annotations

import attrs
import numpy as np

from stepwell.dialects.graph.activation import GeluOp, SiluOp
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.contraction import EinsumOp, MatmulOp
from stepwell.dialects.graph.elementwise import AddOp, DivOp, MaxOp, MinOp, MulOp, ReluOp, SigmoidOp
from stepwell.dialects.graph.indexing import GatherElementsOp
from stepwell.dialects.graph.movement import SplitOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.scatter import ScatterElementsOp
from stepwell.dialects.graph.selection import TopKOp
from stepwell.dialects.graph.shape import ExpandOp, product
from stepwell.dialects.graph.softmax import SoftmaxOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, unary, widened
from stepwell.frontends.onnx.rules.contraction import transpose
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN
from stepwell.frontends.onnx.rules.microsoft.packed_weights import (
    MALFORMED,
    WIDTHS,
    Blocks,
    block_weights,
    known_size,
)
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value
from stepwell.ir.dims import floordiv
from stepwell.ir.types import F32


@attrs.frozen
class Layer:
    """The weights [experts, n, k] and the bias [experts, n], if there is one, of one layer of all experts."""

    weights: Value
    bias: Value | None


@rule("MoE", domain=DOMAIN)
def mixture_of_experts(node: Node) -> Value:
    """Inputs x, router logits, then weights and bias of three layers, the last of them optional."""
    layers = [
        Layer(widened(node, node.input(index)), _bias(node, index + 1)) if node.has_input(index) else None
        for index in (2, 4, 6)
    ]
    return _mixed(node, layers, None)


@rule("QMoE", domain=DOMAIN)
def quantized_mixture_of_experts(node: Node) -> Value:
    """Inputs x, router logits, then packed weights, scales and bias of three layers, the last of them optional, their
    zero points, and the factors of the chosen experts where they are not the router's."""
    if node.string("quant_type", "int") != "int":
        raise node.unsupported(f"weights of quant_type {node.string('quant_type')!r} are not supported, 'int' ones are")
    if node.int("weights_prepacked", -1) == 1:
        raise node.unsupported("weights in the order of another device's kernel are not supported", "export them plain")
    layers = [_packed_layer(node, index) if node.has_input(2 + 3 * index) else None for index in range(3)]
    return _mixed(node, layers, node.optional(14))


def _packed_layer(node: Node, index: int) -> Layer:
    place = 2 + 3 * index
    bits = node.int(f"fc{index + 1}_expert_weight_bits", node.int("expert_weight_bits", 4))
    if bits not in WIDTHS:
        raise node.unsupported(f"numbers of {bits} bits are not supported, those of 2, 4 and 8 are")
    shape = shape_of(node.input(place))
    if len(shape) != 3 or not node.has_input(place + 1):
        raise node.unsupported(f"its weights (input {place}) need scales and rank 3, not {len(shape)}", MALFORMED)
    sizes = [known_size(node, size, f"weights (input {place})") for size in shape]
    k = sizes[2] * (8 // bits)
    block = node.int("block_size", 0)
    if block and (block < 1 or k % block or block * bits % 8):
        raise node.unsupported(f"blocks of {block} do not divide rows of {k} numbers of {bits} bits", MALFORMED)
    layout = Blocks((sizes[0], sizes[1]), k, block or k, bits, points_go_on=not block)
    return Layer(block_weights(node, (place, place + 1, 11 + index), layout, F32), _bias(node, place + 2))


def _bias(node: Node, index: int) -> Value | None:
    return widened(node, node.input(index)) if node.has_input(index) else None


def _mixed(node: Node, layers: list[Layer | None], factors: Value | None) -> Value:
    """sum over experts e of factor[t, e] * (act(x w1' + b1) w2' + b2), computed in f32"""
    first, second, third = layers
    if first is None or second is None:
        raise node.unsupported("it lacks the weights of its first or second layer", MALFORMED)
    x = node.input(0)
    tokens = widened(node, reshaped(node, x, (product(shape_of(x)[:-1]), shape_of(x)[-1])))
    factor = _factors(node, widened(node, node.input(1)), factors)
    inner = _activated(node, _applied(node, tokens, first), None if third is None else _applied(node, tokens, third))
    each = transpose(node, factor, (1, 0))
    weighted = binary(node, MulOp, inner, reshaped(node, each, (*shape_of(each), 1)))
    y = node.insert(EinsumOp([weighted, second.weights], equation="eti,eni->tn")).result
    if second.bias is not None:
        y = binary(node, AddOp, y, node.insert(MatmulOp(factor, second.bias)).result)
    return reshaped(node, cast(node, y, tensor_type(x).element), (*shape_of(x)[:-1], shape_of(y)[-1]))


def _applied(node: Node, tokens: Value, layer: Layer) -> Value:
    """[t, k] -> [experts, t, n]"""
    batch = reshaped(node, tokens, (1, *shape_of(tokens)))
    made = node.insert(MatmulOp(batch, transpose(node, layer.weights, (0, 2, 1)))).result
    if layer.bias is None:
        return made
    experts, n = shape_of(layer.bias)
    return binary(node, AddOp, made, reshaped(node, layer.bias, (experts, 1, n)))


def _factors(node: Node, logits: Value, factors: Value | None) -> Value:
    """[t, experts]: the factor of each of the k experts with the largest logits, 0 for the others. It is a softmax over
    all logits, or over the chosen ones where it is normalised; or what `factors` says, divided by the chosen ones' sum
    where it is normalised."""
    if node.int("use_sparse_mixer", 0):
        raise node.unsupported("the sparse mixer is not supported")
    k, normalised = node.int("k", 1), bool(node.int("normalize_routing_weights", 0))
    found = node.insert(TopKOp(logits, int_list(node, [k]), axis=1))
    if factors is None and normalised:
        chosen = node.insert(SoftmaxOp(found.values, axes=[1])).result
    else:
        given = node.insert(SoftmaxOp(logits, axes=[1])).result if factors is None else widened(node, factors)
        chosen = node.insert(GatherElementsOp(given, found.indices, axis=1)).result
        if normalised:
            total = node.insert(ReduceOp(chosen, kind="sum", axes=(1,), keepdims=True)).result
            chosen = binary(node, DivOp, chosen, total)
    zeros = node.insert(ExpandOp.to(node.constant(np.array(0, np.float32)), shape_of(logits))).result
    return node.insert(ScatterElementsOp(zeros, found.indices, chosen, axis=1)).result


def _activated(node: Node, h: Value, gated: Value | None) -> Value:
    """act(h), or act(h) * gated; swiglu finds both in h, one after the other or in turns, or takes them apart."""
    kind = node.string("activation_type", "relu")
    if kind == "swiglu":
        return _swiglu(node, *((h, gated) if gated is not None else _halves(node, h)))
    if kind == "relu":
        h = unary(node, ReluOp, h)
    elif kind == "gelu":
        h = node.insert(GeluOp(h, approximate="tanh")).result
    elif kind == "silu":
        h = unary(node, SiluOp, h)
    elif kind != "identity":
        raise node.unsupported(f"the activation {kind!r} is not one of relu, gelu, silu, swiglu and identity")
    return h if gated is None else binary(node, MulOp, h, gated)


def _halves(node: Node, h: Value) -> tuple[Value, Value]:
    """[experts, t, 2 * n] -> two of [experts, t, n]"""
    experts, tokens, columns = shape_of(h)
    fusion = node.int("swiglu_fusion", 0)
    if fusion not in (1, 2) or (isinstance(columns, int) and columns % 2):
        reason = f"swiglu_fusion {fusion} with {columns} columns and no third layer: there are no two parts"
        raise node.unsupported(reason, MALFORMED)
    size = floordiv(columns, 2)
    if fusion == 1:
        h = transpose(node, reshaped(node, h, (experts, tokens, size, 2)), (0, 1, 3, 2))
    else:
        h = reshaped(node, h, (experts, tokens, 2, size))
    first, second = node.insert(SplitOp.into(h, [1, 1], 2)).parts
    return reshaped(node, first, (experts, tokens, size)), reshaped(node, second, (experts, tokens, size))


def _swiglu(node: Node, gate: Value, linear: Value) -> Value:
    """min(g, limit) * sigmoid(alpha * min(g, limit)) * (clip(l, -limit, limit) + beta)"""
    if node.has("swiglu_limit"):
        limit = node.float("swiglu_limit")
        gate = binary(node, MinOp, gate, limit)
        linear = binary(node, MaxOp, binary(node, MinOp, linear, limit), -limit)
    alpha, beta = node.float("activation_alpha", 1.0), node.float("activation_beta", 0.0)
    slope = gate if alpha == 1 else binary(node, MulOp, gate, alpha)
    moved = linear if beta == 0 else binary(node, AddOp, linear, beta)
    return binary(node, MulOp, binary(node, MulOp, gate, unary(node, SigmoidOp, slope)), moved)
