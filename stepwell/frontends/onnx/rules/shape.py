"""Operators on shapes, and those that make tensors from numbers: Reshape to Unsqueeze, Expand, Constant, Range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import generate, shape
from stepwell.dialects.graph.base import content, shape_of, tensor_type
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.selection import NonZeroOp
from stepwell.errors import UnknownError
from stepwell.frontends.onnx.registry import Array, Node, rule
from stepwell.frontends.onnx.shapes import (
    axis_attr,
    checked_axes,
    int_list,
    known_input,
    rank_of,
    reshape,
    scattered,
    static_length,
)
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import BF16, F16, F32, TensorType


@rule("Reshape")
def reshape_1(node: Node) -> Value:
    """The target shape is an attribute before version 5."""
    x = node.input(0)
    return reshape(node, x, shape.reshape_dims(shape_of(x), node.ints("shape")))


@rule("Reshape", since=5)
def reshape_5(node: Node) -> Value:
    """Known contents become the result type; else the shape stays an operand."""
    return _reshape_to(node, node.input(0), node.input(1), bool(node.int("allowzero", 0)))


def _reshape_to(node: Node, x: Value, target: Value, allow_zero: bool = False) -> Value:
    dims = content(target)
    if dims is not None:
        return reshape(node, x, shape.reshape_dims(shape_of(x), dims, allow_zero))
    return node.insert(shape.ReshapeOp(x, target, allow_zero=allow_zero)).result


@rule("Flatten")
def flatten(node: Node) -> Value:
    """Flatten(x [a, b, c], axis=1) -> reshape x to [a, b*c]"""
    x = node.input(0)
    dims = shape_of(x)
    axis = node.int("axis", 1)
    if axis != len(dims):
        axis = axis_attr(node, len(dims), 1) if dims else 0
    return reshape(node, x, [shape.product(dims[:axis]), shape.product(dims[axis:])])


@rule("Squeeze")
def squeeze_1(node: Node) -> Value:
    """The axes are an attribute before version 13."""
    x = node.input(0)
    return _squeeze(node, x, node.ints("axes") if node.has("axes") else _unit_axes(node, x))


@rule("Squeeze", since=13)
def squeeze_13(node: Node) -> Value:
    """Axes known only at run time: the sizes at the other places are gathered."""
    x = node.input(0)
    if not node.has_input(1):
        return _squeeze(node, x, _unit_axes(node, x))
    axes = known_input(node, 1)
    if axes is not None:
        return _squeeze(node, x, axes)
    rank = rank_of(x)
    sizes = node.insert(shape.ShapeOp(x, start=0, end=rank)).result
    kept = _other_places(node, rank, node.input(1), rank - static_length(node, 1))
    return _reshape_to(node, x, node.insert(GatherOp(sizes, kept, axis=0)).result, allow_zero=True)


def _unit_axes(node: Node, x: Value) -> list[int]:
    dims = shape_of(x)
    if not all(isinstance(dim, int) for dim in dims):
        reason = f"without axes, the rank of the result depends on whether the sizes {shape.show_shape(dims)} are 1"
        advice = "Export the model with axes, or with those sizes fixed."
        raise node.unsupported(reason, advice, UnknownError(reason, dims))
    return [axis for axis, dim in enumerate(dims) if dim == 1]


def _squeeze(node: Node, x: Value, axes: Sequence[int]) -> Value:
    dims = shape_of(x)
    gone = set(checked_axes(node, axes, len(dims)))
    for axis in gone:
        if isinstance(dims[axis], int) and dims[axis] != 1:
            raise node.unsupported(f"axis {axis} to be squeezed has size {dims[axis]}", "The model is malformed.")
    kept = [dim for axis, dim in enumerate(dims) if axis not in gone]
    if all(dims[axis] == 1 for axis in gone):
        return reshape(node, x, kept)
    # A squeezed dim that is symbolic must be 1: the element counts agree only then, which the run time checks.
    return node.insert(shape.ReshapeOp(x, result_types=[tensor_type(x).with_shape(kept)])).result


def _other_places(node: Node, size: int, axes: Value, count: int) -> Value:
    """The `count` positions below `size` that are not among `axes`, ascending."""
    zeros = node.insert(shape.ExpandOp.to(int_list(node, [0]), shape_of(axes))).result
    mask = scattered(node, size, 1, axes, zeros)
    return reshape(node, node.insert(NonZeroOp(mask)).result, [count])


@rule("Unsqueeze")
def unsqueeze_1(node: Node) -> Value:
    """The axes are an attribute before version 13."""
    return _unsqueeze(node, node.input(0), node.ints("axes"))


@rule("Unsqueeze", since=13)
def unsqueeze_13(node: Node) -> Value:
    """Axes known only at run time: the sizes are scattered to the other places of a list of ones."""
    x = node.input(0)
    axes = known_input(node, 1)
    if axes is not None:
        return _unsqueeze(node, x, axes)
    rank = rank_of(x) + static_length(node, 1)
    sizes = node.insert(shape.ShapeOp(x, start=0, end=rank_of(x))).result
    places = _other_places(node, rank, node.input(1), rank_of(x))
    return _reshape_to(node, x, scattered(node, rank, 1, places, sizes), allow_zero=True)


def _unsqueeze(node: Node, x: Value, axes: Sequence[int]) -> Value:
    new = checked_axes(node, axes, rank_of(x) + len(axes))
    dims = iter(shape_of(x))
    return reshape(node, x, [1 if axis in new else next(dims) for axis in range(rank_of(x) + len(axes))])


@rule("Expand", since=8)
def expand(node: Node) -> Value:
    """Broadcast both ways: a target of 1 keeps the operand's size."""
    return _expand_to(node, node.input(0), node.input(1))


def _expand_to(node: Node, x: Value, target: Value) -> Value:
    dims = content(target)
    if dims is not None:
        return node.insert(shape.ExpandOp.to(x, dims)).result
    return node.insert(shape.ExpandOp(x, target)).result


@rule("Shape")
def shape_(node: Node) -> Value:
    """`start` and `end` (version 15) wrap and clamp."""
    x = node.input(0)
    rank = rank_of(x)
    start, end = (
        min(max(bound + rank if bound < 0 else bound, 0), rank)
        for bound in (node.int("start", 0), node.int("end", rank))
    )
    return node.insert(shape.ShapeOp(x, start=start, end=max(start, end))).result


@rule("Size")
def size(node: Node) -> Value:
    """The product of the dims."""
    return node.insert(shape.SizeOp(node.input(0))).result


@rule("ConstantOfShape", since=9)
def constant_of_shape(node: Node) -> Value:
    """ConstantOfShape(shape, value) -> expand(value, shape)"""
    value = node.tensor("value") if node.has("value") else np.zeros(1, np.float32)
    if value.size != 1:
        raise node.unsupported(f"the value has {value.size} elements, not one", "The model is malformed.")
    return _expand_to(node, node.constant(value.reshape(())), node.input(0))


@rule("Constant")
def constant(node: Node) -> Value:
    """Exactly one of the attributes holds the value; a sparse one is read as a dense array."""
    return node.constant(_constant_array(node))


def _constant_array(node: Node) -> Array:
    for name in ("value", "sparse_value"):
        if node.has(name):
            return node.tensor(name)
    if node.has("value_float"):
        return np.array(node.float("value_float"), np.float32)
    if node.has("value_floats"):
        return np.array(node.floats("value_floats"), np.float32)
    if node.has("value_int"):
        return np.array(node.int("value_int"), np.int64)
    if node.has("value_ints"):
        return np.array(node.ints("value_ints"), np.int64)
    if node.has("value_string"):
        return np.array(node.string("value_string"), object)
    if node.has("value_strings"):
        return np.array(node.strings("value_strings"), object)
    raise node.unsupported("a Constant without a value", "The model is malformed.")


@rule("Range", since=11)
def range_(node: Node) -> Value:
    """f16 and bf16 are computed in f32 unless `stash_type` (version 27) names their own type."""
    element = tensor_type(node.input(0)).element
    stash = node.element_type("stash_type", F32)
    if element in (F16, BF16) and stash not in (F32, element):
        raise node.unsupported(f"stash_type {stash} for a range of {element}", "Use f32.")
    start, limit, delta = (reshape(node, value, []) if rank_of(value) else value for value in node.inputs())
    return node.insert(generate.RangeOp(start, limit, delta, narrow=stash is element and stash is not F32)).result


@rule("EyeLike", since=9)
def eye_like(node: Node) -> Value:
    """Only the operand's shape is used, and its element type where `dtype` is not given."""
    like = tensor_type(node.input(0))
    if like.rank != 2:
        raise node.unsupported(f"an identity matrix like {like}, which is no matrix", "The model is malformed.")
    dims: tuple[Dim, ...] = like.shape
    type_ = TensorType(dims, node.element_type("dtype", like.element))
    return node.insert(generate.EyeOp(k=node.int("k", 0), result_types=[type_])).result
