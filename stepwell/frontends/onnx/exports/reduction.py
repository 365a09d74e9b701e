"""Reductions, index of an extreme element, running sums; softmax and its relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph import reduction as graph
from stepwell.dialects.graph import softmax
from stepwell.dialects.graph.base import shape_of
from stepwell.dialects.graph.shape import product
from stepwell.frontends.onnx.exports.composing import (
    Item,
    cast,
    finish,
    integers,
    is_float,
    reshaped,
    wide_integer,
)
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.writer import Writer, element_of, exports
from stepwell.ir.types import I1, SI8, SI32, SI64, UI8, UI32, UI64, Type

OPERATORS = {
    "sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin", "mean": "ReduceMean",
    "log_sum_exp": "ReduceLogSumExp",
}  # fmt: skip
SUMMED: tuple[Type, ...] = (SI32, SI64, UI32, UI64)  # the integers that all reductions know


@exports(graph.ReduceOp)
def reduce(op: graph.ReduceOp, writer: Writer) -> None:
    """graph.reduce %x {sum, axes} -> ReduceSum(x, axes); over no axes Identity(x)

    Integers that the operator lacks are reduced in wider ones with the same low bits; their mean, whose sum wraps, is
    that sum divided by a count, which needs to know whether there are axes."""
    element = element_of(op.x)
    if not op.axes and op.where is None:
        writer.node("Identity", [op.x], op.results)
        return
    known = is_float(op.x) or element in SUMMED
    if known or (op.kind in ("max", "min") and element in (SI8, UI8, I1)):
        _reduce(op, writer, op.kind, op.x, op.result)
        return
    total = writer.fresh("reduced")
    computed = wide_integer(element)
    _reduce(op, writer, "sum" if op.kind == "mean" else op.kind, cast(writer, op.x, computed), total)
    if op.kind != "mean":
        finish(writer, total, computed, op.result)
        return
    wrapped = cast(writer, total, element)
    if op.where is not None and not isinstance(shape_of(op.where)[0], int):
        raise Unsupported(f"the mean of {element} over axes of unknown number")
    if op.where is None:
        merged: Item = writer.shape([product([shape_of(op.x)[axis] for axis in op.axes])])
    else:
        merged = writer.make("ReduceProd", [writer.make("Gather", [writer.shape(shape_of(op.x)), op.where])])
    count = cast(writer, merged, element)
    scalar = writer.make("Reshape", [count, integers(writer, [])])
    writer.node("Div", [wrapped, scalar], op.results)


def _reduce(op: graph.ReduceOp, writer: Writer, kind: str, x: Item, result: Item) -> None:
    axes: Item = integers(writer, op.axes, "axes") if op.where is None else op.where
    noop = int(op.none_if_empty) or None
    writer.node(OPERATORS[kind], [x, axes], [result], keepdims=int(op.keepdims), noop_with_empty_axes=noop)


@exports(graph.ArgReduceOp)
def arg_reduce(op: graph.ArgReduceOp, writer: Writer) -> None:
    """graph.arg_reduce %x {max, axis} -> ArgMax(x) {axis}"""
    writer.node(
        "ArgMax" if op.kind == "max" else "ArgMin", [op.x], op.results, axis=op.axis, keepdims=int(op.keepdims),
        select_last_index=int(op.last) or None,
    )  # fmt: skip


@exports(graph.CumulativeOp)
def cumulative(op: graph.CumulativeOp, writer: Writer) -> None:
    """graph.cumulative %x {sum, axis} -> CumSum(x, axis); narrow integers in wider ones"""
    element = element_of(op.x)
    computed = element if is_float(op.x) or element in SUMMED else wide_integer(element)
    options: dict[str, Any] = {"exclusive": int(op.exclusive) or None, "reverse": int(op.reverse) or None}
    operator = "CumSum" if op.kind == "sum" else "CumProd"
    axis: Item = writer.constant(np.array(op.axis, np.int64), "axis") if op.where is None else op.where
    if computed is element:
        writer.node(operator, [op.x, axis], op.results, **options)
    else:
        finish(writer, writer.make(operator, [cast(writer, op.x, computed), axis], **options), computed, op.result)


@exports(softmax.SoftmaxOp, softmax.LogSoftmaxOp, softmax.HardmaxOp)
def softmax_family(op: softmax.AxesNormalizingOp, writer: Writer) -> None:
    """graph.softmax %x {axes = [i]} -> Softmax(x) {axis = i}; several axes are one while it is computed"""
    operator = {softmax.SoftmaxOp: "Softmax", softmax.LogSoftmaxOp: "LogSoftmax"}.get(type(op), "Hardmax")
    first, last = op.axes[0], op.axes[-1]
    if first == last:
        writer.node(operator, [op.x], op.results, axis=first)
        return
    dims = shape_of(op.x)
    flat = reshaped(writer, op.x, (*dims[:first], product(dims[first : last + 1]), *dims[last + 1 :]))
    made = writer.make(operator, [flat], axis=first)
    writer.node("Reshape", [made, writer.shape(dims)], op.results, allowzero=int(0 in dims) or None)
