"""What the operators of ai.onnx.ml share: features as floats, post-transforms of scores, labels of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.reduction import ArgReduceOp, ReduceOp
from stepwell.dialects.graph.softmax import SoftmaxOp
from stepwell.frontends.onnx.registry import Array, Node
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar, unary
from stepwell.ir.core import Value
from stepwell.ir.types import F32, F64

DOMAIN = "ai.onnx.ml"
NEAR_ZERO = 1e-7  # scores that SOFTMAX_ZERO takes for zeros
PROBIT_A = 0.147  # of Winitzki's approximation to the inverse error function, 2008


def features(node: Node, index: int = 0) -> Value:
    """An input as a matrix of floats, one row per sample: f64 stays, everything else becomes f32."""
    x = node.input(index)
    if len(shape_of(x)) == 1:
        x = reshaped(node, x, (1, *shape_of(x)))
    if len(shape_of(x)) != 2:
        raise node.unsupported(f"samples are the rows of a matrix, not {x.type}", "The model is malformed.")
    return x if tensor_type(x).element is F64 else cast(node, x, F32)


def row(node: Node, numbers: Sequence[float] | Array, like: Value) -> Value:
    """A constant array in the element type of another value."""
    dtype = np.float64 if tensor_type(like).element is F64 else np.float32
    return node.constant(np.asarray(numbers, dtype))


def transformed(node: Node, scores: Value, name: str) -> Value:
    """The scores [n, classes] behind a post-transform. Raises ModelError for one that is not known."""
    if name == "NONE":
        return scores
    if name == "SOFTMAX":
        return node.insert(SoftmaxOp(scores, axes=[1])).result
    if name == "LOGISTIC":
        return unary(node, graph.SigmoidOp, scores)
    if name == "SOFTMAX_ZERO":
        return _softmax_zero(node, scores)
    if name == "PROBIT":
        return _probit(node, scores)
    raise node.unsupported(f"the post-transform {name!r} is not known", "The model is malformed.")


def _softmax_zero(node: Node, scores: Value) -> Value:
    """Softmax in which a score of zero stays zero."""
    peak = node.insert(ReduceOp(scores, kind="max", axes=[1])).result
    power = unary(node, graph.ExpOp, binary(node, graph.SubOp, scores, peak))
    small = binary(node, graph.MulOp, scores, unary(node, graph.ExpOp, unary(node, graph.NegOp, peak)))
    size = unary(node, graph.AbsOp, scores)
    counts = node.insert(logic.CompareOp(size, scalar(node, NEAR_ZERO, scores), predicate="gt")).result
    made = node.insert(logic.WhereOp(counts, power, small)).result
    total = node.insert(ReduceOp(made, kind="sum", axes=[1])).result
    none = node.insert(logic.CompareOp(total, scalar(node, 0, total), predicate="eq")).result
    share = binary(node, graph.DivOp, made, node.insert(logic.WhereOp(none, scalar(node, 1, total), total)).result)
    return node.insert(logic.WhereOp(none, scalar(node, 0.5, scores), share)).result


def _probit(node: Node, scores: Value) -> Value:
    """sqrt(2) * erfinv(2 p - 1)"""
    x = binary(node, graph.SubOp, binary(node, graph.MulOp, scores, 2.0), 1.0)
    one = scalar(node, 1, x)
    inside = binary(node, graph.MulOp, binary(node, graph.SubOp, one, x), binary(node, graph.AddOp, x, one))
    log = unary(node, graph.LogOp, inside)
    half = binary(node, graph.AddOp, binary(node, graph.MulOp, log, 0.5), 2 / (math.pi * PROBIT_A))
    square = binary(node, graph.SubOp, binary(node, graph.MulOp, half, half),
                    binary(node, graph.MulOp, log, 1 / PROBIT_A))  # fmt: skip
    root = unary(node, graph.SqrtOp, binary(node, graph.SubOp, unary(node, graph.SqrtOp, square), half))
    signed = binary(node, graph.MulOp, unary(node, graph.SignOp, x), root)
    edge = node.insert(logic.CompareOp(inside, scalar(node, 0, x), predicate="eq")).result
    made = node.insert(logic.WhereOp(edge, scalar(node, 0, x), signed)).result
    return binary(node, graph.MulOp, made, math.sqrt(2))


Labels = Sequence[int] | Sequence[str]


def class_labels(node: Node, integers: str) -> Labels | None:
    """The classes' labels; None where there are none."""
    return node.strings("classlabels_strings", []) or node.ints(integers, []) or None


def label_of_place(node: Node, place: Value, labels: Labels | None) -> Value:
    """The label of the class with a number, for each sample."""
    if labels is None or list(labels) == list(range(len(labels))):
        return place
    dtype = object if isinstance(labels[0], str) else np.int64
    return node.insert(GatherOp(node.constant(np.array(labels, dtype)), place, axis=0)).result


def best_label(node: Node, scores: Value, labels: Labels | None) -> Value:
    """The label of the largest score of each sample; the first of equal ones."""
    place = node.insert(ArgReduceOp(scores, kind="max", axis=1, keepdims=False)).result
    return label_of_place(node, place, labels)


def label_above(node: Node, score: Value, threshold: float, labels: Labels) -> Value:
    """The second label where a sample's only score [n, 1] is above the threshold, else the first one."""
    above = node.insert(logic.CompareOp(score, scalar(node, threshold, score), predicate="gt")).result
    place = cast(node, reshaped(node, above, shape_of(score)[:1]), tensor_type(node.constant(np.int64(0))).element)
    return label_of_place(node, place, labels)


def both_classes(node: Node, score: Value, other: Value) -> Value:
    """The scores of the first and the second class, side by side."""
    return node.insert(ConcatOp([other, score], axis=1)).result
