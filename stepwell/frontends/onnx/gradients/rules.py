"""How rules of differentiation are registered and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.logic import CompareOp, WhereOp
from stepwell.dialects.graph.movement import TransposeOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp
from stepwell.frontends.onnx.rules.composing import Arithmetic, scalar, unary
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim, proven_equal
from stepwell.ir.types import numpy_dtype

Vjp = Callable[[Any, Value, "Backward"], "Sequence[Value | None]"]
RULES: dict[type[Operation], Vjp] = {}


def vjp(*classes: type[Operation]) -> Callable[[Vjp], Vjp]:
    """Register a function as the rule of ops of some classes."""

    def register(function: Vjp) -> Vjp:
        for cls in classes:
            RULES[cls] = function
        return function

    return register


class Backward(Arithmetic):
    """Inserts ops for rules."""

    def unary(self, cls: type[graph.UnaryOp], a: Value) -> Value:
        """An elementwise function."""
        return unary(self.node, cls, a)

    def neg(self, a: Value) -> Value:
        """-a"""
        return unary(self.node, graph.NegOp, a)

    def compare(self, predicate: str, a: Value, b: Value | float) -> Value:
        """a PREDICATE b"""
        other = b if isinstance(b, Value) else scalar(self.node, b, a)
        return self.node.insert(CompareOp(a, other, predicate=predicate)).result

    def where(self, condition: Value, a: Value, b: Value | float = 0.0) -> Value:
        """a where the condition holds, else b"""
        return self.node.insert(WhereOp(condition, a, b if isinstance(b, Value) else scalar(self.node, b, a))).result

    def total(self, x: Value, axes: Sequence[int], *, keep: bool = True) -> Value:
        """Sums over axes."""
        return self.node.insert(ReduceOp(x, kind="sum", axes=list(axes), keepdims=keep)).result if axes else x

    def reshape(self, x: Value, dims: Sequence[Dim]) -> Value:
        """x under another shape."""
        return x if shape_of(x) == tuple(dims) else self.node.insert(ReshapeOp.to(x, dims)).result

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """The axes of x in another order."""
        return self.node.insert(TransposeOp(x, permutation=list(order))).result

    def turned(self, x: Value) -> Value:
        """x with its last two axes exchanged."""
        rank = len(shape_of(x))
        return self.transpose(x, [*range(rank - 2), rank - 1, rank - 2])

    def spread(self, x: Value, dims: Sequence[Dim]) -> Value:
        """x broadcast to a shape."""
        return x if shape_of(x) == tuple(dims) else self.node.insert(ExpandOp.to(x, dims)).result

    def constant(self, array: Any, like: Value) -> Value:
        """A constant in another value's element type."""
        return self.node.constant(np.asarray(array).astype(numpy_dtype(tensor_type(like))))

    def gathered(self, g: Value, like: Value, matrix: int = 0) -> Value:
        """The gradient of what was broadcast: sums over the axes along which it was, of which the last `matrix` are
        none. Raises ModelError where sizes do not tell whether it was."""
        own, full = shape_of(like), shape_of(g)
        front = len(full) - len(own)
        axes = list(range(front))
        for axis, size in enumerate(own[: len(own) - matrix], start=front):
            if proven_equal(size, full[axis]):
                continue
            if size != 1:
                raise self.node.unsupported(f"whether size {size} is broadcast to {full[axis]} is not known")
            axes.append(axis)
        return self.reshape(self.total(g, axes), own)
