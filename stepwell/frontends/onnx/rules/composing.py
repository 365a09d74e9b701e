"""What rules that compose graph ops share: constants of a value's type, f32 around narrow floats, known integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.conversion import CastOp, is_narrow_float
from stepwell.dialects.graph.host import HostCallOp
from stepwell.errors import UnknownError
from stepwell.frontends.onnx.registry import Node
from stepwell.frontends.onnx.shapes import known_input, reshape
from stepwell.ir.attributes import Attribute, DictAttr, TypeAttr
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, StringType, Type, numpy_dtype

HELD_AS_NUMBERS = "machine code has numbers for strings, and Python their text"
"""Why what looks into strings is called on the host."""


def scalar(node: Node, number: float, like: Value) -> Value:
    """A constant of rank 0 with the element type of another value; infinite where that type is too narrow."""
    with np.errstate(over="ignore"):
        return node.constant(np.array(number).astype(numpy_dtype(like.type)))


def cast(node: Node, x: Value, element: Type) -> Value:
    """x in another element type; x itself where it has that type. Strings are read and written on the host."""
    source = tensor_type(x).element
    if source is element:
        return x
    if isinstance(source, StringType) or isinstance(element, StringType):
        return node.insert(HostCallOp([x], callee="string_cast", config=config_of(to=TypeAttr(element)))).results[0]
    return node.insert(CastOp(x, to=element)).result


def config_of(**entries: Attribute) -> DictAttr:
    """What a function on the host is told."""
    return DictAttr.of(entries)


def widened(node: Node, x: Value) -> Value:
    """x in f32 where its floats are narrower: so that a composition rounds once, as one op would."""
    return cast(node, x, F32) if is_narrow_float(tensor_type(x).element) else x


def in_f32(node: Node, x: Value, compute: Callable[[Value], Value]) -> Value:
    """cast(compute(cast(x, f32)), type of x) for floats narrower than f32, else compute(x)"""
    return cast(node, compute(widened(node, x)), tensor_type(x).element)


def binary(node: Node, cls: type[graph.BinaryOp], lhs: Value, rhs: Value | float) -> Value:
    """A binary op; a number becomes a constant of the other operand's type."""
    return node.insert(cls(lhs, rhs if isinstance(rhs, Value) else scalar(node, rhs, lhs))).result


def unary(node: Node, cls: type[graph.UnaryOp], x: Value) -> Value:
    """A unary op."""
    return node.insert(cls(x)).result


def reshaped(node: Node, x: Value, dims: Sequence[Dim]) -> Value:
    """x with other dims; x itself where it has them."""
    return x if shape_of(x) == tuple(dims) else reshape(node, x, dims)


def known_integers(node: Node, index: int, what: str) -> list[int] | None:
    """The elements of an integer input that decide types, None where it is absent. Raises Unsupported where they are
    not known at import time."""
    if node.has_input(index) and shape_of(node.input(index)) == (0,):
        return []
    found = known_input(node, index)
    if found is None and node.has_input(index):
        reason = f"its {what} (input {index}) must be known when the model is compiled"
        advice = f"make the {what} an initializer or a constant"
        raise node.unsupported(reason, advice, UnknownError(reason, shape_of(node.input(index)), [node.input(index)]))
    return found


class Arithmetic:
    """Inserts elementwise ops for a node: each takes tensors of one float type, or a number for the second of them, and
    gives a tensor of the broadcast shape."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def add(self, a: Value, b: Value | float) -> Value:
        """a + b"""
        return binary(self.node, graph.AddOp, a, b)

    def sub(self, a: Value, b: Value | float) -> Value:
        """a - b"""
        return binary(self.node, graph.SubOp, a, b)

    def mul(self, a: Value, b: Value | float) -> Value:
        """a * b"""
        return binary(self.node, graph.MulOp, a, b)

    def div(self, a: Value, b: Value | float) -> Value:
        """a / b"""
        return binary(self.node, graph.DivOp, a, b)
