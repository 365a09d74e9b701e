"""Support vector machines."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import Array, shape_of, tensor_type
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.coupling import PairwiseCouplingOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar, unary
from stepwell.frontends.onnx.rules.ml_common import (
    DOMAIN,
    Labels,
    best_label,
    both_classes,
    class_labels,
    features,
    label_above,
    row,
    transformed,
)
from stepwell.ir.core import Value
from stepwell.ir.types import F32

SURE = 1e-7  # how near to 0 and 1 the probability of a pair may be


def kernel(node: Node, x: Value, vectors: Array, kind: str) -> Value:
    """The kernel of each sample with each vector: [n, features], [vectors, features] -> [n, vectors]"""
    gamma, offset, degree = [*node.floats("kernel_params", []), 0.0, 0.0, 0.0][:3]
    if kind == "RBF":
        count, columns = vectors.shape
        apart = binary(node, graph.SubOp, reshaped(node, x, (shape_of(x)[0], 1, columns)),
                       row(node, vectors.reshape(1, count, columns), x))  # fmt: skip
        squares = binary(node, graph.MulOp, apart, apart)
        far = node.insert(ReduceOp(squares, kind="sum", axes=[2], keepdims=False)).result
        return unary(node, graph.ExpOp, binary(node, graph.MulOp, far, -gamma))
    product = node.insert(MatmulOp(x, row(node, np.ascontiguousarray(vectors.T), x))).result
    if kind == "LINEAR":
        return product
    moved = binary(node, graph.AddOp, binary(node, graph.MulOp, product, gamma), offset)
    if kind == "POLY":
        return binary(node, graph.PowOp, moved, float(int(degree)))
    if kind == "SIGMOID":
        return unary(node, graph.TanhOp, moved)
    raise node.unsupported(f"the kernel {kind!r} is not known", "The model is malformed.")


def _weighted(node: Node, x: Value, weights: Array, offsets: Array) -> Value:
    product = node.insert(MatmulOp(x, row(node, np.ascontiguousarray(weights), x))).result
    return binary(node, graph.AddOp, product, row(node, offsets, x))


def _vectors(node: Node, count: int) -> Array:
    numbers = np.array(node.floats("support_vectors"), np.float64)
    if len(numbers) % count:
        raise node.unsupported(f"{len(numbers)} numbers for {count} support vectors", "The model is malformed.")
    return numbers.reshape(count, -1)


@rule("SVMRegressor", domain=DOMAIN)
def svm_regressor(node: Node) -> Value:
    """kernel(x) a + rho; of one class whether that is above 0, as 1 and -1"""
    x, count = features(node), node.int("n_supports", 0)
    coefficients = np.array(node.floats("coefficients"), np.float64).reshape(-1, 1)
    if count:
        x = kernel(node, x, _vectors(node, count), node.string("kernel_type", "LINEAR"))
    scores = _weighted(node, x, coefficients, np.array(node.floats("rho")[:1]))
    if node.int("one_class", 0):
        inside = node.insert(logic.CompareOp(scores, scalar(node, 0, scores), predicate="gt")).result
        scores = node.insert(logic.WhereOp(inside, scalar(node, 1, scores), scalar(node, -1, scores))).result
    return cast(node, transformed(node, scores, node.string("post_transform", "NONE")), F32)


@rule("SVMClassifier", domain=DOMAIN)
def svm_classifier(node: Node) -> list[Value]:
    """(labels, scores): votes of the pairs of classes; without vectors the largest score"""
    x, labels = features(node), class_labels(node, "classlabels_ints")
    sizes, name = node.ints("vectors_per_class", []), node.string("post_transform", "NONE")
    coefficients, rho = np.array(node.floats("coefficients"), np.float64), np.array(node.floats("rho"), np.float64)
    if not sum(sizes):
        return _linear(node, x, coefficients, rho, labels, name)
    classes = len(sizes)
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    sums = kernel(node, x, _vectors(node, sum(sizes)), node.string("kernel_type", "LINEAR"))
    scores = _weighted(node, sums, _pair_weights(coefficients.reshape(-1, sum(sizes)), sizes, pairs), rho)
    picked = best_label(node, _votes(node, scores, pairs, classes), labels)
    if node.floats("prob_a", []):
        scores = _probabilities(node, scores, classes)
    elif len(pairs) == 1:
        scores = both_classes(node, scores, unary(node, graph.NegOp, scores))
    return [picked, cast(node, transformed(node, scores, name), F32)]


def _linear(
    node: Node, x: Value, coefficients: Array, rho: Array, labels: Labels | None, name: str
) -> list[Value]:  # fmt: skip
    classes = max(len(labels or ()), 1)
    scores = _weighted(node, x, coefficients.reshape(classes, -1).T, rho[:1])
    if classes == 1:
        return [label_above(node, scores, 0.0, [0, 1]), cast(node, transformed(node, scores, name), F32)]
    return [best_label(node, scores, labels), cast(node, transformed(node, scores, name), F32)]


def _pair_weights(coefficients: Array, sizes: list[int], pairs: list[tuple[int, int]]) -> Array:
    """[vectors, pairs]: a vector of class i counts for the pair (i, j) by its coefficient j - 1, one of j by its i."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    weights = np.zeros((sum(sizes), len(pairs)))
    for place, (i, j) in enumerate(pairs):
        for own, number in ((i, j - 1), (j, i)):
            span = slice(starts[own], starts[own + 1])
            weights[span, place] = coefficients[number, span]
    return weights


def _votes(node: Node, scores: Value, pairs: list[tuple[int, int]], classes: int) -> Value:
    """How many pairs each class wins: the first of a pair where its score is positive, else the second."""
    wins, losses = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes))
    for place, (i, j) in enumerate(pairs):
        wins[place, i], losses[place, j] = 1, 1
    positive = node.insert(logic.CompareOp(scores, scalar(node, 0, scores), predicate="gt")).result
    won = cast(node, positive, tensor_type(scores).element)
    return _weighted(node, won, wins - losses, losses.sum(axis=0))


def _probabilities(node: Node, scores: Value, classes: int) -> Value:
    """Platt's sigmoid of each pair, coupled."""
    slope, offset = (row(node, node.floats(name), scores) for name in ("prob_a", "prob_b"))
    moved = binary(node, graph.AddOp, binary(node, graph.MulOp, scores, slope), offset)
    chance = unary(node, graph.SigmoidOp, unary(node, graph.NegOp, moved))
    held = binary(node, graph.MinOp, binary(node, graph.MaxOp, chance, SURE), 1 - SURE)
    return node.insert(PairwiseCouplingOp(held, classes=classes)).result
