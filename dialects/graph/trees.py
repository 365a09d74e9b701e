"""Decision trees and tables: what classical models are made of besides matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, GraphOp, constant_array, same_element, shape_of, tensor_type
from stepwell.dialects.graph.demands import demand_at_most
from stepwell.dialects.graph.movement import agree
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INT, enum
from stepwell.ir.constraints import BOOL_TENSOR, FLOAT_TENSOR, INT_TENSOR, NUMERIC_TENSOR, SCALAR_OR_STRING_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, operand, result
from stepwell.ir.types import TensorType, Type, numpy_dtype

MODES = ("leq", "lt", "gte", "gt", "eq", "neq")
"""How a node compares a feature with its value, by number."""

COMPARISONS = {
    "leq": np.less_equal, "lt": np.less, "gte": np.greater_equal, "gt": np.greater, "eq": np.equal, "neq": np.not_equal,
}  # fmt: skip


class TreeEnsembleOp(GraphOp):
    """Decision trees on the rows of x [n, features], and their leaves' weights merged over the trees -> [n, targets].

    Node k compares feature `features`[k] with `values`[k] as `modes`[k] says and goes on to `children`[k, 1] where that
    holds, else to `children`[k, 0]; NaN goes to 1 where `missing`[k]. Leaves come first: leaf k is node k, is its own
    child, and adds row k of `weights` [leaves, targets]. A walk begins at each of `roots` and ends after `depth` steps.
    `sum` and `mean` take all trees, `min` and `max` those whose leaf has a finite weight (0 where there are none).
    ONNX: TreeEnsemble, TreeEnsembleRegressor, TreeEnsembleClassifier.

    ```mlir
    %x = "test.value"() : () -> tensor<8x3xf32>
    %f = graph.constant dense<[0, 0, 2]> : tensor<3xsi32>
    %m = graph.constant dense<[0, 0, 0]> : tensor<3xui8>
    %v = graph.constant dense<[0.0, 0.0, 1.5]> : tensor<3xf32>
    %c = graph.constant dense<[[0, 0], [1, 1], [0, 1]]> : tensor<3x2xsi32>
    %n = graph.constant dense<[false, false, true]> : tensor<3xi1>
    %w = graph.constant dense<[[2.0], [5.0]]> : tensor<2x1xf32>
    %r = graph.constant dense<[2]> : tensor<1xsi32>
    %y = graph.tree_ensemble %x, %f, %m, %v, %c, %n, %w, %r {aggregate = "sum", depth = 1 : i64}
      : (tensor<8x3xf32>, tensor<3xsi32>, tensor<3xui8>, tensor<3xf32>, tensor<3x2xsi32>, tensor<3xi1>, tensor<2x1xf32>,
         tensor<1xsi32>) -> tensor<8x1xf32>
    ```
    """

    name = "graph.tree_ensemble"
    x: Value = operand(FLOAT_TENSOR)
    features: Value = operand(INT_TENSOR)
    modes: Value = operand(INT_TENSOR)
    values: Value = operand(FLOAT_TENSOR)
    children: Value = operand(INT_TENSOR)
    missing: Value = operand(BOOL_TENSOR)
    weights: Value = operand(FLOAT_TENSOR)
    roots: Value = operand(INT_TENSOR)
    depth: int = attr(INT)
    aggregate: str = attr(enum("sum", "mean", "min", "max"))
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        if len(shape_of(self.x)) != 2 or len(shape_of(self.weights)) != 2:
            raise IRError("features and weights are matrices")
        same_element(self.x, self.values)
        for what in (self.modes, self.values, self.children, self.missing):
            agree(shape_of(what)[0], shape_of(self.features)[0], "the numbers of nodes")
        return [tensor_type(self.weights).with_shape((shape_of(self.x)[0], shape_of(self.weights)[1]))]

    def verify_op(self) -> None:
        columns, features = shape_of(self.x)[1], constant_array(self.features)
        if features is None or not features.size:
            return
        if isinstance(columns, int) and features.max() >= columns:
            raise IRError(f"a node reads feature {features.max()} of {columns}")
        demand_at_most(int(features.max()) + 1, columns, "the features that nodes read")

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, features, modes, values, children, missing, weights, roots = map(np.asarray, args)
        rows = np.arange(len(x))[:, None]
        at = np.broadcast_to(roots.astype(np.int64), (len(x), len(roots)))
        for _ in range(self.depth):
            seen, bound = x[rows, features[at]], values[at]
            holds = np.zeros(at.shape, np.bool_)
            for number, mode in enumerate(MODES):
                holds |= (modes[at] == number) & COMPARISONS[mode](seen, bound)
            at = children[at, (holds | (np.isnan(seen) & missing[at])).astype(np.int64)].astype(np.int64)
        return merged(weights[at], self.aggregate).astype(numpy_dtype(self.result.type))


def merged(leaves: Array, aggregate: str) -> Array:
    """[n, trees, targets] -> [n, targets]"""
    if aggregate in ("sum", "mean"):
        total = leaves.sum(axis=1, dtype=leaves.dtype)
        return np.asarray(total / leaves.dtype.type(leaves.shape[1]) if aggregate == "mean" else total)
    reduce, start = (np.minimum, np.inf) if aggregate == "min" else (np.maximum, -np.inf)
    made = reduce.reduce(leaves, axis=1, initial=start)
    return np.where(np.isinf(made), np.zeros((), leaves.dtype), made)


class LookupOp(GraphOp):
    """values[k] for the k with keys[k] = x, element by element, else the default (one element). Keys are sorted, NaN
    last; NaN finds NaN. Keys that are strings are constants. ONNX: LabelEncoder.

    ```mlir
    %x = "test.value"() : () -> tensor<2x3xsi64>
    %k = graph.constant dense<[1, 5, 7]> : tensor<3xsi64>
    %v = graph.constant dense<[0.5, 1.5, 2.5]> : tensor<3xf32>
    %d = graph.constant dense<-1.0> : tensor<f32>
    %r = graph.lookup %x, %k, %v, %d
      : (tensor<2x3xsi64>, tensor<3xsi64>, tensor<3xf32>, tensor<f32>) -> tensor<2x3xf32>
    ```
    """

    name = "graph.lookup"
    x: Value = operand(SCALAR_OR_STRING_TENSOR)
    keys: Value = operand(SCALAR_OR_STRING_TENSOR)
    values: Value = operand(NUMERIC_TENSOR)
    default: Value = operand(NUMERIC_TENSOR)
    result: Value = result(NUMERIC_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        same_element(self.x, self.keys)
        element = same_element(self.values, self.default)
        (count,), (given,) = shape_of(self.keys), shape_of(self.values)
        agree(count, given, "the numbers of keys and values")
        if not isinstance(count, int):
            raise IRError("the number of keys is known")
        return [TensorType(shape_of(self.x), element)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, keys, values, default = map(np.asarray, args)
        if not len(keys):
            return np.full(x.shape, default.reshape(-1)[0])
        place = np.minimum(np.searchsorted(keys, x), len(keys) - 1)
        found = keys[place]
        same = (found == x) | ((found != found) & (x != x))
        return np.where(same, values[place], default.reshape(-1)[0])
