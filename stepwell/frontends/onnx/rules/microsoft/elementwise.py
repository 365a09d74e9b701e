"""Elementwise operators, softmax of sums, and products of complex numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.logic import AndOp, IsInfOp, IsNanOp, NotOp
from stepwell.dialects.graph.movement import ConcatOp, SplitOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.dialects.graph.softmax import SoftmaxOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import Arithmetic, binary, cast, reshaped, unary
from stepwell.frontends.onnx.rules.microsoft.common import DOMAIN, rounded_like, summed
from stepwell.frontends.onnx.shapes import axis_attr, rank_of
from stepwell.ir.core import Value


@rule("BiasSoftmax", domain=DOMAIN)
def bias_softmax(node: Node) -> Value:
    """softmax of x + bias over the axes from `axis` on. The bias has these axes last; those before them broadcast from
    the back, or where `is_inner_broadcast` is set from the front."""
    x, bias = node.input(0), node.input(1)
    rank, own = rank_of(x), rank_of(bias)
    axis = axis_attr(node, rank, 1)
    if node.int("is_inner_broadcast") and own < rank:
        shape, inner = shape_of(bias), rank - axis
        bias = reshaped(node, bias, (*shape[: own - inner], *(1,) * (rank - own), *shape[own - inner :]))
    made = node.insert(SoftmaxOp(summed(node, x, bias), axes=list(range(axis, rank)))).result
    return rounded_like(node, made, x)


@rule("BiasDropout", domain=DOMAIN)
def bias_dropout(node: Node) -> Sequence[Value]:
    """x + bias + residual, and a mask of ones: nothing is dropped where a model is not trained."""
    training = node.constant_input(4)
    if node.has_input(4) and (training is None or training.any()):
        raise node.unsupported("dropping elements in training is not supported", "export the model for inference")
    x = node.input(0)
    y = rounded_like(node, summed(node, x, node.input(1), node.optional(2)), x)
    return [y, node.insert(ExpandOp.to(node.constant(np.array(True)), shape_of(y))).result]


@rule("GatedAdd", domain=DOMAIN)
def gated_add(node: Node) -> Value:
    """x + y * gate, rounded after each step."""
    x, y, gate = node.inputs()
    return binary(node, graph.AddOp, x, binary(node, graph.MulOp, y, gate))


@rule("ScaledSiLU", domain=DOMAIN)
def scaled_silu(node: Node) -> Value:
    """z * sigmoid(z) with z = scale * x, rounded after each step."""
    x = node.input(0)
    scale = node.optional(1)
    if scale is None:
        z = binary(node, graph.MulOp, x, node.float("alpha", 1.0))
    else:
        factor = reshaped(node, scale, ())
        z = binary(node, graph.MulOp, cast(node, x, tensor_type(factor).element), factor)
        z = rounded_like(node, z, x)
    return binary(node, graph.MulOp, z, unary(node, graph.SigmoidOp, z))


@rule("IsAllFinite", domain=DOMAIN)
def is_all_finite(node: Node) -> Value:
    """Whether no element of any input is NaN or infinite."""
    wrong = [*([] if node.int("isinf_only", 0) else [IsNanOp]), *([] if node.int("isnan_only", 0) else [IsInfOp])]
    found: Value | None = None
    for x in node.inputs():
        for kind in wrong:
            right = node.insert(NotOp(node.insert(kind(x)).results[0])).result
            every = node.insert(ReduceOp(right, kind="min", axes=list(range(rank_of(x))), keepdims=False)).result
            found = every if found is None else node.insert(AndOp(found, every)).result
    return found if found is not None else node.constant(np.array(True))


@rule("ComplexMul", "ComplexMulConj", domain=DOMAIN)
def complex_mul(node: Node) -> Value:
    """Products of complex numbers whose real and imaginary parts are the last axis; Conj: of the second one's
    conjugate."""
    a, b, c = node.input(0), node.input(1), Arithmetic(node)
    (ar, ai), (br, bi) = (node.insert(SplitOp.into(x, [1, 1], rank_of(x) - 1)).parts for x in (a, b))
    if node.op_type == "ComplexMulConj":
        bi = unary(node, graph.NegOp, bi)
    real, imaginary = c.sub(c.mul(ar, br), c.mul(ai, bi)), c.add(c.mul(ar, bi), c.mul(ai, br))
    return node.insert(ConcatOp([real, imaginary], axis=rank_of(real) - 1)).result
