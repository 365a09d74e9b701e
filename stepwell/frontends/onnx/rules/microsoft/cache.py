"""The keys and values of earlier calls, with the rows of this one.

A cache either grows: the new rows stand behind it; or it has room for more rows than are valid, and the new ones are
written into it from a place on that is a number in a tensor."""

from __future__ import annotations

import attrs
import numpy as np

from stepwell.dialects.graph.base import content, shape_of
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.movement import ConcatOp, SliceOp
from stepwell.dialects.graph.scatter import TensorScatterOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.frontends.onnx.registry import Node
from stepwell.frontends.onnx.rules.attention import size_of
from stepwell.frontends.onnx.rules.composing import cast, reshaped, scalar
from stepwell.frontends.onnx.shapes import as_list, int_list
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, dim_max, proven_equal
from stepwell.ir.types import SI64


@attrs.frozen
class Kept:
    """The cache behind a call: `present` [b, heads, rows, d] and its `valid` first rows."""

    present: Value
    valid: Value


def counted(node: Node, number: Value, most: Value) -> Value:
    """A number in a tensor as the size of a list, [1] with a content: of a list that has so many of `most` elements,
    where only the run knows it."""
    number = as_list(node, cast(node, number, SI64))
    if content(number) is not None:
        return number
    zero, one = (node.constant(np.array(end, np.int64)) for end in (0, 1))
    places = node.insert(RangeOp(zero, reshaped(node, most, ()), one)).result
    return size_of(node, node.insert(SliceOp(places, int_list(node, [0]), number, axes=[0])).result, 0)


def for_each(node: Node, number: Value, batch: Dim) -> Value:
    """[b or 1] -> [b]"""
    return number if shape_of(number)[0] == batch else node.insert(ExpandOp.to(number, (batch,))).result


def grown(node: Node, past: Value, new: Value) -> Kept:
    """The new rows behind the past."""
    present = node.insert(ConcatOp([past, new], axis=2)).result
    return Kept(present, present)


def written(node: Node, past: Value, new: Value, first: Value, total: Value) -> Kept:
    """The new rows written from the places `first` [b or 1] on, in max(total, rows of the past) rows; `total` [1] has
    a content, and is how many are valid."""
    batch, heads, held, size = shape_of(past)
    (count,) = content(total) or (held,)
    more = dim_max(count, held) - held
    if more != 0:
        room = node.insert(ExpandOp.to(scalar(node, 0, past), (batch, heads, more, size))).result
        past = node.insert(ConcatOp([past, room], axis=2)).result
    present = node.insert(TensorScatterOp(past, new, for_each(node, first, batch), axis=2)).result
    if proven_equal(count, shape_of(present)[2]):
        return Kept(present, present)
    return Kept(present, node.insert(SliceOp(present, int_list(node, [0]), total, axes=[2])).result)


def shared(node: Node, past: Value, new: Value, first: Value) -> Kept:
    """The new rows written behind the `first` [1] rows of a past of as many rows as the present."""
    rows = size_of(node, new, 2)
    total = node.insert(AddOp(as_list(node, cast(node, first, SI64)), rows)).result
    return written(node, past, new, first, counted(node, total, size_of(node, past, 2)))
