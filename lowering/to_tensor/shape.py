"""Shape arithmetic: integer tensors whose elements are known as sizes become those sizes; reshapes are views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph.base import ConstantOp, content, is_content_type
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp, ShapeOp, SizeOp
from stepwell.dialects.tensor import ConstantOp as TensorConstantOp
from stepwell.dialects.tensor import tensor_type
from stepwell.ir.attributes import ElementsAttr, elements
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import IntegerType, TensorType, bit_width, numpy_dtype
from stepwell.lowering.to_tensor.places import Places, moved, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers, map_generic


@lowers(Operation)
def known_content(op: Operation, c: Conversion) -> Value:
    """An op of one integer tensor that holds sizes, such as graph.shape or sums and parts of its results  ->
    tensor.generic { tensor.size }, which needs no operands."""
    if len(op.results) != 1 or isinstance(op, ConstantOp) or not is_content_type(op.results[0].type):
        raise NoMatch("")
    found = content(op.results[0])
    if found is None or isinstance(op, ReshapeOp) or bit_width(op.results[0].type) == 1:
        raise NoMatch("")
    return sizes_tensor(c, found, result_type(op))


def sizes_tensor(c: Conversion, sizes: Sequence[Dim], result: TensorType) -> Value:
    """An integer tensor that holds these sizes, row by row."""
    element = result.element
    assert isinstance(element, IntegerType)
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        array = np.array(known, np.int64).astype(numpy_dtype(result)).reshape(result.static_shape)
        value = elements(array, result)
        assert isinstance(value, ElementsAttr)
        return c.insert(TensorConstantOp(value=value)).result

    def body(p: Places) -> Value:
        values = [p.integer_of(p.size(size), element) for size in sizes]
        chosen, number = values[-1], p.whole(0)
        for axis, size in enumerate(result.static_shape):
            number = p.add(p.mul(number, p.whole(size)), p.at(axis))
        for position in range(len(values) - 2, -1, -1):
            here = p.compare("eq", number, p.whole(position))
            chosen = p.select(here, values[position], chosen)
        return chosen

    return moved(c, result, body)


@lowers(ShapeOp, SizeOp)
def sizes(op: ShapeOp | SizeOp, c: Conversion) -> Value:
    """Sizes of more dims than content is followed for."""
    found = op.infer_content()
    if found is None:
        raise NoMatch("the sizes are not known")
    return sizes_tensor(c, found, result_type(op))


@lowers(ReshapeOp)
def reshape(op: ReshapeOp, c: Conversion) -> Value:
    """graph.reshape %x  ->  tensor.reshape %x"""
    return reshaped(c, c.new(op.x), result_type(op).shape)




@lowers(ExpandOp)
def expand(op: ExpandOp, c: Conversion) -> Value:
    """graph.expand %x  ->  a view where only dims of size 1 are added, else out[i, j] = x[j]"""
    result, value = result_type(op), c.new(op.x)
    shape = tensor_type(value).shape
    front = result.rank - len(shape)
    if all(size == 1 for size in result.shape[:front]) and result.shape[front:] == shape:
        return reshaped(c, value, result.shape)
    return map_generic(c, [value], result, lambda s, x: x, widen=False)
