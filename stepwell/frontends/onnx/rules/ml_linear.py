"""Linear models."""

from __future__ import annotations

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar, unary
from stepwell.frontends.onnx.rules.ml_common import (
    DOMAIN,
    best_label,
    both_classes,
    class_labels,
    features,
    row,
    transformed,
)
from stepwell.ir.core import Value
from stepwell.ir.types import F32


def linear_scores(node: Node, x: Value, targets: int) -> Value:
    """x [n, features] -> [n, targets]"""
    numbers = node.floats("coefficients")
    if targets < 1 or len(numbers) % targets:
        raise node.unsupported(f"{len(numbers)} coefficients for {targets} targets", "The model is malformed.")
    weights = np.array(numbers, np.float64).reshape(targets, -1).T
    scores = node.insert(MatmulOp(x, row(node, np.ascontiguousarray(weights), x))).result
    intercepts = node.floats("intercepts", [])
    return binary(node, graph.AddOp, scores, row(node, intercepts, x)) if intercepts else scores


@rule("LinearRegressor", domain=DOMAIN)
def linear_regressor(node: Node) -> Value:
    """x w + b"""
    scores = linear_scores(node, features(node), node.int("targets", 1))
    return cast(node, transformed(node, scores, node.string("post_transform", "NONE")), F32)


@rule("LinearClassifier", domain=DOMAIN)
def linear_classifier(node: Node) -> list[Value]:
    """(labels, scores); one score for two classes is that of the second one."""
    x, labels = features(node), class_labels(node, "classlabels_ints")
    columns, name = shape_of(x)[1], node.string("post_transform", "NONE")
    count, classes = len(node.floats("coefficients")), len(labels or ())
    if node.floats("intercepts", []):
        targets = len(node.floats("intercepts"))
    elif isinstance(columns, int) and columns:
        targets = count // columns
    else:
        targets = 1 if classes <= 2 else classes
    scores = linear_scores(node, x, targets)
    if targets == 1 and classes == 2:
        scores = both_classes(node, scores, unary(node, graph.NegOp, scores))
    scores = transformed(node, scores, name)
    if targets > 1 or classes == 2:
        return [best_label(node, scores, labels), cast(node, scores, F32)]
    above = node.insert(
        logic.CompareOp(scores, scalar(node, 0.0 if name == "NONE" else 0.5, scores), predicate="ge")
    ).result
    yes, no = (node.constant(np.int64(label)) for label in ((labels or [1])[0], 0))
    picked = node.insert(logic.WhereOp(reshaped(node, above, shape_of(scores)[:1]), yes, no)).result
    return [picked, cast(node, scores, F32)]
