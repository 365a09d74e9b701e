"""Probabilities of classes from those of pairs of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import GraphOp, shape_of, tensor_type
from stepwell.dialects.graph.numeric import rounded
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INT
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import Type, numpy_dtype

ROUNDS = 100
TOLERANCE = 0.005  # of the probabilities' error, times the number of classes


class PairwiseCouplingOp(GraphOp):
    """The probabilities [n, classes] that fit those of pairs best: r [n, pairs] is how probable class i is among i and
    j, for the pairs (0, 1), (0, 2), .., (1, 2), ... By the iteration of Wu, Lin and Weng, "Probability Estimates for
    Multi-class Classification by Pairwise Coupling", 2004 (algorithm 2), at most 100 rounds, until the error of a row
    is below 0.005 / classes. Computed in f64. Part of ONNX SVMClassifier.

    ```mlir
    %r = "test.value"() : () -> tensor<8x3xf32>
    %p = graph.pairwise_coupling %r {classes = 3 : i64} : (tensor<8x3xf32>) -> tensor<8x3xf32>
    ```
    """

    name = "graph.pairwise_coupling"
    pairs: Value = operand(FLOAT_TENSOR)
    classes: int = attr(INT)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        shape = shape_of(self.pairs)
        if len(shape) != 2 or shape[1] != self.classes * (self.classes - 1) // 2 or self.classes < 2:
            raise IRError(f"probabilities of the pairs of {self.classes} classes, not {self.pairs.type}")
        return [tensor_type(self.pairs).with_shape((shape[0], self.classes))]

    def interpret(self, frame: Any, *args: Any) -> Any:
        given, count = np.asarray(args[0]).astype(np.float64), self.classes
        rows, (i, j) = len(given), np.triu_indices(count, 1)
        r = np.zeros((rows, count, count))
        r[:, i, j], r[:, j, i] = given, 1 - given
        q = -np.swapaxes(r, 1, 2) * r
        q[:, range(count), range(count)] = (r**2).sum(axis=1)
        p = np.full((rows, count), 1 / count)
        goes_on = np.ones(rows, np.bool_)
        for _ in range(ROUNDS):
            qp = (q * p[:, None]).sum(axis=2)
            total = (p * qp).sum(axis=1)
            goes_on &= np.abs(qp - total[:, None]).max(axis=1) >= TOLERANCE / count
            state = p
            for t in range(count):
                own = q[:, t, t]
                step = (total - qp[:, t]) / own
                total = (total + step * (step * own + 2 * qp[:, t])) / (1 + step) ** 2
                state = (state + step[:, None] * (np.arange(count) == t)) / (1 + step)[:, None]
                qp = (qp + step[:, None] * q[:, t]) / (1 + step)[:, None]
            p = np.where(goes_on[:, None], state, p)
        return rounded(p, numpy_dtype(self.result.type))
