"""What import rules share that read axes, sizes and positions from attributes or inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.indexing import GatherOp, known_integers
from stepwell.dialects.graph.scatter import ScatterElementsOp
from stepwell.dialects.graph.shape import ReshapeOp, list_length
from stepwell.errors import IRError, UnknownError
from stepwell.frontends.onnx.registry import Node
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import numpy_dtype


def rank_of(value: Value) -> int:
    """The rank of a tensor value."""
    return tensor_type(value).rank


def int_list(node: Node, values: Sequence[int]) -> Value:
    """A constant list of si64."""
    return node.constant(np.array(values, np.int64))


def axis_attr(node: Node, rank: int, default: int | None = None, name: str = "axis") -> int:
    """An axis attribute counted from the front. Raises ModelError outside [-rank, rank)."""
    return checked_axis(node, node.int(name, default), rank)


def checked_axis(node: Node, axis: int, rank: int) -> int:
    """An axis counted from the front. Raises ModelError outside [-rank, rank)."""
    if not -rank <= axis < rank:
        raise node.unsupported(f"axis {axis} is out of range for rank {rank}", "The model is malformed.")
    return axis % rank


def checked_axes(node: Node, axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front, in the given order. Raises ModelError for one out of range or given twice."""
    found = [checked_axis(node, axis, rank) for axis in axes]
    if len(set(found)) != len(found):
        raise node.unsupported(f"axes {list(axes)} name an axis twice", "The model is malformed.")
    return found


def known_input(node: Node, index: int) -> list[int] | None:
    """The elements of an integer input that are known while importing; None where it is absent or not known."""
    if not node.has_input(index):
        return None
    array = node.constant_input(index)
    return [int(v) for v in array.reshape(-1)] if array is not None else known_integers(node.input(index))


def reshape(node: Node, x: Value, dims: Sequence[Dim]) -> Value:
    """`x` under another shape."""
    return node.insert(ReshapeOp.to(x, dims)).result


def as_list(node: Node, value: Value) -> Value:
    """A tensor of one element as a list of one; the run checks a number of elements that is symbolic."""
    return value if shape_of(value) == (1,) else reshape(node, value, [1])


def exactly(node: Node, value: Value, count: int) -> Value:
    """A list of so many elements: itself, but where its length is symbolic, which the run checks."""
    shape = shape_of(value)
    return value if len(shape) != 1 or isinstance(shape[0], int) else reshape(node, value, [count])


def pick(node: Node, values: Value, positions: Sequence[int]) -> Value:
    """The elements of a list at known positions."""
    if list(positions) == list(range(_length(node, values))):
        return values
    return node.insert(GatherOp(values, int_list(node, positions), axis=0)).result


def scattered(node: Node, size: int, fill: int, positions: Value, values: Value) -> Value:
    """A list of `size` integers that are `fill` but for `values` at `positions` (negative ones count from the back)."""
    base = node.constant(np.full(size, fill).astype(numpy_dtype(values.type)))
    return node.insert(ScatterElementsOp(base, positions, values, axis=0)).result


def _length(node: Node, values: Value) -> int:
    try:
        return list_length(values, "a list")
    except IRError as error:
        raise node.unsupported(str(error), unknown=error if isinstance(error, UnknownError) else None) from None


def static_length(node: Node, index: int) -> int:
    """The length of a list input. Raises ModelError where it is not a list or its length is symbolic."""
    if len(shape_of(node.input(index))) != 1:
        raise node.unsupported(f"input {index} must be a list, is {node.input(index).type}", "The model is malformed.")
    return _length(node, node.input(index))
