"""Scales and shifts per channel behind a convolution or a matrix product with constant weights go into the weights.

conv(x, w) * f + s  ->  conv(x, w * f, s)

Weights are multiplied in f64 and rounded once. Narrow floats stay: their weights would lose bits that they do not have
to spare."""

from __future__ import annotations

import attrs
import numpy as np

from stepwell.dialects.graph.base import Array, ConstantOp, constant_array, tensor_type
from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.convolution import ConvOp, ConvTransposeOp
from stepwell.dialects.graph.elementwise import AddOp, BinaryOp, MulOp
from stepwell.dialects.graph.normalization import BatchNormOp
from stepwell.ir.attributes import ElementsAttr, elements, lazy_elements
from stepwell.ir.core import Operation, Value
from stepwell.ir.rewrite import Rewriter
from stepwell.ir.types import F32, F64, numpy_dtype
from stepwell.lowering.graph.simplify import simplifies_each


@attrs.frozen(eq=False)
class Linear:
    """A sum of products with constant weights, and the constant added to its channels: conv + bias, matmul, or
    add(matmul, bias)."""

    product: ConvOp | ConvTransposeOp | MatmulOp
    result: Value
    weights: ElementsAttr
    bias: Array | None  # one number per channel, or one for all
    axis: int  # the result's axis of channels

    @property
    def channels(self) -> int:
        """How many there are."""
        size = tensor_type(self.result).shape[self.axis]
        assert isinstance(size, int)
        return size


def linear_of(value: Value) -> Linear | None:
    """What makes a value, where weights and bias are constants that nothing else reads, and so is the value."""
    op = value.defining_op
    type_ = tensor_type(value)
    if op is None or type_.element not in (F32, F64) or not value.has_one_use:
        return None
    if isinstance(op, (ConvOp, ConvTransposeOp)):
        bias = None if op.bias is None else constant_array(op.bias)
        if op.bias is not None and bias is None:
            return None
        return _linear(op, value, op.w, bias, 1)
    if isinstance(op, AddOp):
        for product, other in (op.operands, reversed(op.operands)):
            if isinstance(product.defining_op, MatmulOp) and product.has_one_use and product.type is type_:
                bias = per_channel(other, type_.rank, type_.rank - 1)
                if bias is not None:
                    return _linear(product.defining_op, value, product.defining_op.rhs, bias, type_.rank - 1)
        return None
    return _linear(op, value, op.rhs, None, type_.rank - 1) if isinstance(op, MatmulOp) else None


def _linear(
    op: ConvOp | ConvTransposeOp | MatmulOp, result: Value, weights: Value, bias: Array | None, axis: int
) -> Linear | None:
    constant = weights.defining_op
    known = weights.has_one_use and isinstance(tensor_type(result).shape[axis], int)
    is_matrix = not isinstance(op, MatmulOp) or tensor_type(weights).rank == 2
    if not isinstance(constant, ConstantOp) or not known or not is_matrix:
        return None
    return Linear(op, result, constant.value, bias, axis)


def per_channel(value: Value, rank: int, axis: int) -> Array | None:
    """The elements of a constant that, broadcast to a rank, differs along one axis only: a vector of them, or one."""
    array = constant_array(value)
    if array is None or array.ndim > rank:
        return None
    shape = [1] * (rank - array.ndim) + list(array.shape)
    return array.reshape(-1) if all(size == 1 for n, size in enumerate(shape) if n != axis) else None


def rescaled(linear: Linear, factor: Array, shift: Array, rewriter: Rewriter) -> Value:
    """linear * factor + shift, both per channel, in f64, with new weights and bias."""
    op, count = linear.product, linear.channels
    factor = np.broadcast_to(factor, count)
    own = np.zeros(()) if linear.bias is None else linear.bias.astype(np.float64)
    bias = np.broadcast_to(own * factor + shift, count)
    type_, factors = linear.weights.tensor_type, _along_weights(op, factor)
    scaled = lazy_elements(lambda w: _rounded(w.astype(np.float64) * factors, w.dtype), [linear.weights], type_, "w")
    weights = rewriter.insert(ConstantOp(value=scaled)).result
    shifted = elements(_rounded(bias, numpy_dtype(type_)), name="bias")
    added = rewriter.insert(ConstantOp(value=shifted)).result
    if not isinstance(op, MatmulOp):
        made = type(op).make([op.x, weights, added], [op.result.type], op.properties, op.attributes, loc=op.loc)
        return rewriter.insert(made).results[0]
    product = rewriter.insert(MatmulOp(op.lhs, weights, loc=op.loc)).result
    return rewriter.insert(AddOp(product, added)).results[0] if linear.bias is not None or shift.any() else product


def _along_weights(op: Operation, factor: Array) -> Array:
    """One number per result channel, so that it broadcasts over the weights of that channel."""
    if isinstance(op, MatmulOp):
        return factor
    assert isinstance(op, (ConvOp, ConvTransposeOp))
    rank = tensor_type(op.w).rank
    if isinstance(op, ConvOp):
        return factor.reshape(-1, *[1] * (rank - 1))
    # w: [groups * channels / groups, result channels / groups, kernel...]
    inputs = tensor_type(op.w).shape[0]
    assert isinstance(inputs, int)
    by_group = np.repeat(factor.reshape(op.groups, -1), inputs // op.groups, axis=0)
    return by_group.reshape(*by_group.shape, *[1] * (rank - 2))


def _rounded(array: Array, dtype: np.dtype[np.generic]) -> Array:
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(array.astype(dtype))


@simplifies_each(BatchNormOp, rounds=True)
def fold_batch_norm(op: BatchNormOp, rewriter: Rewriter) -> bool:
    """batch_norm(conv(x, w, b), scale, bias, mean, variance)
    -> conv(x, w * f, (b - mean) * f + bias) with f = scale / sqrt(variance + epsilon); a matmul's columns likewise"""
    linear = linear_of(op.x)
    vectors = [constant_array(value) for value in op.operands[1:]]
    if linear is None or linear.axis != 1 or any(vector is None for vector in vectors):
        return False
    scale, bias, mean, variance = (vector.astype(np.float64) for vector in vectors if vector is not None)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + op.epsilon)
        shift = bias - mean * factor
    rewriter.replace(op, rescaled(linear, factor, shift, rewriter))
    return True


@simplifies_each(MulOp, rounds=True)
def fold_channel_scale(op: BinaryOp, rewriter: Rewriter) -> bool:
    """conv(x, w, b) * f -> conv(x, w * f, b * f) for a constant f per channel; a matmul's columns likewise"""
    for value, other in (op.operands, reversed(op.operands)):
        linear = linear_of(value)
        if linear is None or value.type is not op.result.type:
            continue
        factor = per_channel(other, tensor_type(value).rank, linear.axis)
        if factor is not None and bool(np.all(np.isfinite(factor))):
            rewriter.replace(op, rescaled(linear, factor.astype(np.float64), np.zeros(()), rewriter))
            return True
    return False


@simplifies_each(AddOp, rounds=True)
def fold_channel_shift(op: BinaryOp, rewriter: Rewriter) -> bool:
    """conv(x, w, b) + s -> conv(x, w, b + s) for a constant s per channel"""
    for value, other in (op.operands, reversed(op.operands)):
        linear = linear_of(value)
        if linear is None or isinstance(linear.product, MatmulOp) or value.type is not op.result.type:
            continue
        shift = per_channel(other, tensor_type(value).rank, 1)
        if shift is not None:
            rewriter.replace(op, rescaled(linear, np.ones(()), shift.astype(np.float64), rewriter))
            return True
    return False
