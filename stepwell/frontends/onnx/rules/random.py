"""Random numbers, and what is made of them.

A node with a seed gives the same numbers in every run; one without draws others each time. Seeded Dropout draws from
MT19937, as NumPy's `RandomState` does; everything else from Philox."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.random import RandomOp
from stepwell.dialects.graph.reduction import CumulativeOp, ReduceOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.dialects.graph.softmax import SoftmaxOp
from stepwell.dialects.random_streams import WORD
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped, scalar, widened
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import F32, F64, I1, FloatType, TensorType, Type, bit_width

DEFAULT_RATIO = 0.5


def key_of(node: Node) -> int | None:
    """The key of a float seed: itself where it is whole; None without one."""
    seed = node.float("seed") if node.has("seed") else math.nan
    if math.isnan(seed):
        return None
    if seed == math.floor(seed) and abs(seed) < 1 << 62:
        return int(seed) & ((1 << 63) - 1)
    return int(struct.unpack("<I", struct.pack("<f", seed))[0]) | 1 << 32


def drawn(node: Node, dims: Sequence[Dim], element: Type, distribution: str = "uniform") -> Value:
    """Random numbers under the node's seed."""
    if not isinstance(element, FloatType) or bit_width(element) < 16:
        raise node.unsupported(f"random numbers of type {element} are not supported", "draw floats and cast them")
    type_ = TensorType(tuple(dims), element)
    return node.insert(RandomOp(distribution=distribution, seed=key_of(node), result_types=[type_])).result


def _like(node: Node) -> tuple[Sequence[Dim], Type]:
    like = tensor_type(node.input(0))
    return like.shape, node.element_type("dtype", like.element)


def _shape(node: Node) -> tuple[Sequence[Dim], Type]:
    dims = node.ints("shape")
    if any(size < 0 for size in dims):
        raise node.unsupported(f"a shape of {dims}", "The model is malformed.")
    return dims, node.element_type("dtype", F32)


def _moved(node: Node, x: Value, factor: float, offset: float) -> Value:
    """factor * x + offset"""
    made = x if factor == 1 else binary(node, graph.MulOp, widened(node, x), factor)
    made = made if offset == 0 else binary(node, graph.AddOp, widened(node, made), offset)
    return cast(node, made, tensor_type(x).element)


@rule("RandomNormal", "RandomNormalLike")
def random_normal(node: Node) -> Value:
    """mean + scale * z"""
    dims, element = _like(node) if node.op_type.endswith("Like") else _shape(node)
    z = drawn(node, dims, element, "normal")
    return _moved(node, z, node.float("scale", 1.0), node.float("mean", 0.0))


@rule("RandomUniform", "RandomUniformLike")
def random_uniform(node: Node) -> Value:
    """low + (high - low) * u"""
    dims, element = _like(node) if node.op_type.endswith("Like") else _shape(node)
    low, high = node.float("low", 0.0), node.float("high", 1.0)
    return _moved(node, drawn(node, dims, element), high - low, low)


@rule("Bernoulli", since=15)
def bernoulli(node: Node) -> Value:
    """u < p, as numbers"""
    p = widened(node, node.input(0))
    u = drawn(node, shape_of(p), tensor_type(p).element)
    hits = node.insert(logic.CompareOp(u, p, predicate="lt")).result
    return cast(node, hits, node.element_type("dtype", tensor_type(node.input(0)).element))


@rule("Multinomial", since=7)
def multinomial(node: Node) -> Value:
    """x [b, classes], logarithms of weights -> [b, samples]: the number of classes whose running share is at most u."""
    x, samples = widened(node, node.input(0)), node.int("sample_size", 1)
    if len(shape_of(x)) != 2 or samples < 1:
        raise node.unsupported(f"{samples} samples of {x.type}", "The model is malformed.")
    batch, classes = shape_of(x)
    shares = node.insert(SoftmaxOp(x, axes=[1])).result
    running = node.insert(CumulativeOp(shares, kind="sum", axis=1)).result
    # The last share is rounded; what lies behind it belongs to the last class that has one.
    most = node.insert(ReduceOp(running, kind="max", axes=[1])).result
    u = binary(node, graph.MulOp, drawn(node, (batch, samples), tensor_type(x).element), most)
    below = node.insert(
        logic.CompareOp(reshaped(node, running, (batch, 1, classes)), reshaped(node, u, (batch, samples, 1)),
                        predicate="le")
    ).result  # fmt: skip
    counted = cast(node, below, node.element_type("dtype"))
    return node.insert(ReduceOp(counted, kind="sum", axes=[2], keepdims=False)).result


@rule("Dropout")
def dropout_without_mode(node: Node) -> list[Value]:
    """Dropout(x) -> x, ones: models are run for inference, whatever `is_test` says"""
    return [node.input(0), *_kept_all(node, tensor_type(node.input(0)).element)]


@rule("Dropout", since=(7, 10))
def dropout_by_attribute(node: Node) -> list[Value]:
    """Dropout(x) -> x, true"""
    return [node.input(0), *_kept_all(node, I1 if node.version >= 10 else tensor_type(node.input(0)).element)]


@rule("Dropout", since=12)
def dropout(node: Node) -> list[Value]:
    """Dropout(x, ratio, training_mode) -> x * (1 / (1 - ratio)) * m, m = u >= ratio; in inference x, true

    By the product, as the standard says it, a NaN stays where it is dropped."""
    training, ratio = node.constant_input(2), node.constant_input(1)
    is_known = not node.has_input(2) or training is not None
    keeps_all = ratio is not None and float(ratio.reshape(-1)[0]) == 0
    if keeps_all or (is_known and (training is None or not training.reshape(-1)[0])):
        return [node.input(0), *_kept_all(node, I1)]
    x = node.input(0)
    share = reshaped(node, node.input(1), ()) if node.has_input(1) else node.constant(np.float32(DEFAULT_RATIO))
    mode = None if is_known else reshaped(node, node.input(2), ())
    kept = node.insert(logic.CompareOp(cast(node, share, F64), _chances(node, x), predicate="le")).result
    wide = widened(node, x)
    element = tensor_type(wide).element
    left = binary(node, graph.SubOp, scalar(node, 1, wide), cast(node, share, element))
    factor = binary(node, graph.DivOp, scalar(node, 1, wide), left)
    if mode is not None:
        off = node.insert(logic.NotOp(mode)).result
        kept = node.insert(logic.OrOp(kept, off)).result
        factor = node.insert(logic.WhereOp(mode, factor, scalar(node, 1, wide))).result
    made = binary(node, graph.MulOp, binary(node, graph.MulOp, wide, factor), cast(node, kept, element))
    return [cast(node, made, tensor_type(x).element), kept]


def _chances(node: Node, x: Value) -> Value:
    """Numbers of [0, 1) that decide what is dropped, in the shape of x."""
    type_ = TensorType(shape_of(x), F64)
    if not node.has("seed"):
        return node.insert(RandomOp(distribution="uniform", result_types=[type_])).result
    seed = node.int("seed") & WORD
    made = RandomOp(distribution="uniform", generator="mt19937", seed=seed, result_types=[type_])
    return node.insert(made).result


def _kept_all(node: Node, element: Type) -> list[Value]:
    """All ones in the shape of input 0, where the mask is asked for."""
    if not node.has_output(1):
        return []
    x = node.input(0)
    one = node.constant(np.True_) if element is I1 else scalar(node, 1, x)
    return [node.insert(ExpandOp.to(one, shape_of(x))).result]
