"""Symbolic sizes as ONNX values: `2*n + 1` becomes Shape, Mul and Add nodes, for operators that take a shape as input.

A symbol is read off the first tensor whose type tells it: a dim `n` does, and a dim `8*h8` does by a division. What is
known in a graph is known in the graphs inside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs
import numpy as np

from stepwell.frontends.onnx.registry import Array, Unsupported
from stepwell.ir.core import Value
from stepwell.ir.dims import (
    Dim,
    dim_max,
    dim_min,
    fold,
    free_symbols,
    proven_non_negative,
    proven_positive,
    solve_for,
    symbol,
)
from stepwell.ir.types import TensorType

Pair = tuple[str, Dim]  # the name of a list that holds a size, and the size

_MEASURED = "\0measured"  # the symbol that stands for the size that is read


class Nodes(Protocol):
    """What the writer of nodes offers."""

    def make(self, op_type: str, inputs: Sequence[Value | str | None], **attributes: object) -> str:
        """Append a node of one output; returns its name."""

    def constant(self, array: Array, hint: str = "const") -> str:
        """An initializer; returns its name."""


@attrs.frozen
class Source:
    """Where a symbol is read: size number `axis` of `value`, put in for the measured symbol in `solved`."""

    value: Value
    axis: int
    solved: Dim


@attrs.define
class Sizes:
    """The symbols that can be read at a place in a graph, and the sizes that were computed there already."""

    sources: dict[str, Source] = attrs.Factory(dict)
    made: dict[Dim, str] = attrs.Factory(dict)  # name of a list of one int64

    def inner(self) -> Sizes:
        """What a graph inside starts with."""
        return Sizes(dict(self.sources), dict(self.made))

    def learn(self, *values: Value) -> None:
        """Note the symbols that the types of values tell."""
        before = -1
        while before != len(self.sources):
            before = len(self.sources)
            for value in values:
                self._learn(value)

    def _learn(self, value: Value) -> None:
        if not isinstance(value.type, TensorType):
            return
        for axis, dim in enumerate(value.type.shape):
            unknown = free_symbols(dim) - self.sources.keys()
            if len(unknown) == 1:
                (name,) = unknown
                solved = solve_for(dim, name, symbol(_MEASURED))
                if solved is not None:
                    self.sources[name] = Source(value, axis, solved)

    def shape(self, nodes: Nodes, dims: Sequence[Dim]) -> str:
        """A list of int64 that holds the sizes. Raises Unsupported for a symbol that no tensor tells."""
        if all(isinstance(dim, int) for dim in dims):
            return nodes.constant(np.array(dims, np.int64), "shape")
        parts = [self.size(nodes, dim) for dim in dims]
        return parts[0] if len(parts) == 1 else nodes.make("Concat", parts, axis=0)

    def size(self, nodes: Nodes, dim: Dim) -> str:
        """A list of one int64 that holds a size. Raises Unsupported for a symbol that no tensor tells."""
        if dim not in self.made:
            if isinstance(dim, int):
                return nodes.constant(np.array([dim], np.int64), "size")
            self.made[dim] = self._compute(nodes, dim)[0]
        return self.made[dim]

    def _compute(self, nodes: Nodes, dim: Dim, measured: str = "") -> Pair:
        """(name of the list that holds a size, the size)"""
        def leaf(name: str) -> Pair:
            return (measured if name == _MEASURED else self._symbol(nodes, name)), symbol(name)

        def floor_division(a: Pair, b: Pair) -> Pair:
            return self._floor_divide(nodes, a, b), a[1] // b[1]

        return fold(
            dim,
            lambda number: (nodes.constant(np.array([number], np.int64), "size"), number),
            leaf,
            lambda a, b: (nodes.make("Add", [a[0], b[0]]), a[1] + b[1]),
            lambda a, b: (nodes.make("Mul", [a[0], b[0]]), a[1] * b[1]),
            floor_division,
            lambda a, b: (nodes.make("Mod", [a[0], b[0]]), a[1] % b[1]),
            lambda a, b: (nodes.make("Max", [a[0], b[0]]), dim_max(a[1], b[1])),
            lambda a, b: (nodes.make("Min", [a[0], b[0]]), dim_min(a[1], b[1])),
        )

    @staticmethod
    def _floor_divide(nodes: Nodes, a: Pair, b: Pair) -> str:
        """a // b -> Div(a, b), which cuts towards zero, or Div(a - Mod(a, b), b)"""
        if proven_non_negative(a[1]) and proven_positive(b[1]):
            return nodes.make("Div", [a[0], b[0]])
        whole = nodes.make("Sub", [a[0], nodes.make("Mod", [a[0], b[0]])])
        return nodes.make("Div", [whole, b[0]])

    def _symbol(self, nodes: Nodes, name: str) -> str:
        if symbol(name) not in self.made:
            source = self.sources.get(name)
            if source is None:
                raise Unsupported(
                    f"the size {name} is not that of any tensor before the op",
                    "give an input a dimension of that name, or a fixed size",
                )
            read = nodes.make("Shape", [source.value], start=source.axis, end=source.axis + 1)
            self.made[symbol(name)] = self._compute(nodes, source.solved, read)[0]
        return self.made[symbol(name)]
