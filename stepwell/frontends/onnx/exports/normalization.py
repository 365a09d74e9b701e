"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph import normalization as graph
from stepwell.dialects.graph.base import shape_of
from stepwell.frontends.onnx.exports.composing import (
    Item,
    cast,
    finish,
    integers,
    number_of,
    reshaped,
    scalar,
    wide,
)  # fmt: skip
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.core import Value
from stepwell.ir.types import Type, bit_width, numpy_dtype


def _widest(*values: Value) -> Type:
    return max((element_of(value) for value in values), key=bit_width)


@exports(graph.BatchNormOp)
def batch_norm(op: graph.BatchNormOp, writer: Writer) -> None:
    """graph.batch_norm %x, %scale, %bias, %mean, %variance -> BatchNormalization(x, scale, bias, mean, variance), scale
    and bias in the wider of their types, mean and variance too"""
    vectors: list[Item] = []
    for pair in ((op.scale, op.bias), (op.mean, op.variance)):
        vectors += [cast(writer, value, _widest(*pair)) for value in pair]
    epsilon = writer.float32(op, "epsilon", op.epsilon)
    writer.node("BatchNormalization", [op.x, *vectors], op.results, epsilon=epsilon)


def _are_trailing(axes: Sequence[int], rank: int) -> bool:
    return bool(axes) and list(axes) == list(range(axes[0], rank))


def _axes(writer: Writer, axes: Sequence[int]) -> str:
    return integers(writer, axes, "axes")


def _fits_behind(value: Value | None, x: Value, axes: Sequence[int]) -> bool:
    """Whether a scale or bias has the shape of the normalised axes, which is what every runtime takes."""
    return value is None or shape_of(value) == shape_of(x)[axes[0] :]


@exports(graph.LayerNormOp)
def layer_norm(op: graph.LayerNormOp, writer: Writer) -> None:
    """graph.layer_norm %x, %scale, %bias {axes} -> LayerNormalization(x, scale, bias) {axis} over the last axes, with
    an absent scale of ones; else

        centred = x - mean(x), inverse = 1 / sqrt(mean(centred * centred) + epsilon), y = centred * inverse * scale +
        bias, in the types of the op
    """
    rank, given = len(shape_of(op.x)), [v for v in (op.scale, op.bias) if v is not None]
    same = all(element_of(value) is element_of(op.x) for value in given)
    fits = _are_trailing(op.axes, rank) and same and all(_fits_behind(value, op.x, op.axes) for value in given)
    scale: Item | None = op.scale
    tail = shape_of(op.x)[op.axes[0] :] if op.axes else ()
    if fits and scale is None and all(isinstance(dim, int) for dim in tail):
        scale = writer.constant(np.ones(tail, numpy_dtype(element_of(op.x))), "ones")
    if not fits or scale is None:
        _composed_layer_norm(op, writer)
        return
    results = [result if result.uses or result is op.y else None for result in op.results]
    writer.node(
        "LayerNormalization", [op.x, scale, op.bias], results, axis=op.axes[0],
        epsilon=writer.float32(op, "epsilon", op.epsilon), stash_type=number_of(op.stash),
    )  # fmt: skip


def _composed_layer_norm(op: graph.LayerNormOp, writer: Writer) -> None:
    stash, axes = wide(op.stash), _axes(writer, op.axes)
    x = cast(writer, op.x, stash)
    mean = _mean(writer, x, axes, op.axes)
    centred = writer.make("Sub", [x, mean])
    variance = _mean(writer, writer.make("Mul", [centred, centred]), axes, op.axes)
    inverse = _inverse_root(writer, variance, op.epsilon, stash)
    element = wide(element_of(op.x))
    y: Item = writer.make("Mul", [centred, inverse])
    y = cast(writer, y, element) if stash is not element else y
    if op.scale is not None:
        y = writer.make("Mul", [y, cast(writer, op.scale, element)])
    if op.bias is not None:
        y = writer.make("Add", [y, cast(writer, op.bias, element)])
    assert isinstance(y, str)
    finish(writer, y, element, op.y)
    finish(writer, mean, stash, op.mean)
    finish(writer, inverse, stash, op.inverse_deviation)


def _mean(writer: Writer, x: Item, axes: str, places: Sequence[int]) -> str:
    if not places:
        return writer.make("Identity", [x])
    return writer.make("ReduceMean", [x, axes])


def _inverse_root(writer: Writer, square: str, epsilon: float, element: Type) -> str:
    """1 / sqrt(square + epsilon)"""
    root = writer.make("Sqrt", [writer.make("Add", [square, scalar(writer, epsilon, element)])])
    return writer.make("Div", [scalar(writer, 1, element), root])


@exports(graph.RmsNormOp)
def rms_norm(op: graph.RmsNormOp, writer: Writer) -> None:
    """graph.rms_norm %x, %scale {axes} -> RMSNormalization(x, scale) {axis} over the last axes, where nobody asks for
    the reciprocal root; else x * inverse * scale with inverse = 1 / sqrt(mean(x * x) + epsilon)"""
    if _are_trailing(op.axes, len(shape_of(op.x))) and not op.inverse_rms.uses and _fits_behind(
        op.scale, op.x, op.axes
    ):  # fmt: skip
        writer.node(
            "RMSNormalization", [op.x, op.scale], [op.y], axis=op.axes[0],
            epsilon=writer.float32(op, "epsilon", op.epsilon), stash_type=number_of(op.stash),
        )  # fmt: skip
        return
    stash, element = wide(op.stash), wide(element_of(op.scale))
    x = cast(writer, op.x, stash)
    square = _mean(writer, writer.make("Mul", [x, x]), _axes(writer, op.axes), op.axes)
    inverse = _inverse_root(writer, square, op.epsilon, stash)
    y: Item = writer.make("Mul", [x, inverse])
    y = cast(writer, y, element) if stash is not element else y
    finish(writer, writer.make("Mul", [y, cast(writer, op.scale, element)]), element, op.y)
    finish(writer, inverse, stash, op.inverse_rms)


@exports(graph.GroupNormOp)
def group_norm(op: graph.GroupNormOp, writer: Writer) -> None:
    """graph.group_norm %x, %scale, %bias {groups} -> GroupNormalization(x, scale, bias) {num_groups}, scale and bias
    repeated where they are per group; without groups InstanceNormalization(x, scale, bias)

    Where types differ, in x's, f32 at least."""
    element = element_of(op.x)
    same = element_of(op.scale) is element and element_of(op.bias) is element
    computed = element if same else wide(element)
    x = cast(writer, op.x, computed)
    vectors = [cast(writer, _per_channel(op, writer, value), computed) for value in (op.scale, op.bias)]
    epsilon = writer.float32(op, "epsilon", op.epsilon)
    made = writer.fresh("normalized")
    result: Item = op.result if computed is element else made
    if op.groups is None and wide(op.stash) is wide(element):
        writer.node("InstanceNormalization", [x, *vectors], [result], epsilon=epsilon)
    else:
        groups = shape_of(op.x)[1] if op.groups is None else op.groups
        if not isinstance(groups, int):
            raise Unsupported(f"GroupNormalization needs a known number of groups, not {groups}")
        writer.node(
            "GroupNormalization", [x, *vectors], [result], num_groups=groups, epsilon=epsilon,
            stash_type=number_of(op.stash),
        )  # fmt: skip
    if result is made:
        finish(writer, made, computed, op.result)


def _per_channel(op: graph.GroupNormOp, writer: Writer, vector: Value) -> Item:
    channels, (size,) = shape_of(op.x)[1], shape_of(vector)
    if op.groups is None or size == channels or size != op.groups:
        return vector
    column = reshaped(writer, vector, (size, 1))
    spread = writer.make("Expand", [column, writer.shape((size, channels // size))])
    return reshaped(writer, spread, (channels,))


@exports(graph.LrnOp)
def local_response_norm(op: graph.LrnOp, writer: Writer) -> None:
    """graph.lrn %x -> LRN(x)"""
    numbers: dict[str, Any] = {name: writer.float32(op, name, getattr(op, name)) for name in ("alpha", "beta", "bias")}
    writer.node("LRN", [op.x], op.results, size=op.size, **numbers)
