"""Reductions, ArgMax and ArgMin, CumSum and CumProd."""

from __future__ import annotations

from collections.abc import Callable

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import normalize_axes, normalize_axis, shape_of, tensor_type
from stepwell.dialects.graph.reduction import ArgReduceOp, CumulativeOp, ReduceOp
from stepwell.frontends.onnx.registry import Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, unary, widened
from stepwell.frontends.onnx.shapes import exactly, known_input, static_length
from stepwell.ir.core import Value
from stepwell.ir.types import F64, FloatType

KINDS = {"ReduceSum": "sum", "ReduceProd": "prod", "ReduceMax": "max", "ReduceMin": "min", "ReduceMean": "mean"}
COMPOSED = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")

Axes = tuple[int, ...] | Value
"""The axes of a reduction: known ones, or a list that only data tell."""


def _attribute_axes(node: Node) -> Axes:
    """The form that gives axes as an attribute: absent or empty, they are all."""
    rank = tensor_type(node.input(0)).rank
    return normalize_axes(node.ints("axes", []), rank) or tuple(range(rank))


def _input_axes(node: Node) -> Axes:
    """The form that gives axes as an input: absent or empty, they are all, or none with `noop_with_empty_axes`."""
    rank = tensor_type(node.input(0)).rank
    axes = known_input(node, 1)
    if axes is None and node.has_input(1) and shape_of(node.input(1)) != (0,):
        if not node.int("keepdims", 1) and len(shape_of(node.input(1))) == 1:
            static_length(node, 1)
        return node.input(1)
    if not axes:
        return () if node.int("noop_with_empty_axes", 0) else tuple(range(rank))
    return normalize_axes(axes, rank)


def _reduce(node: Node, x: Value, kind: str, axes: Axes) -> Value:
    known, where = ((), axes) if isinstance(axes, Value) else (axes, None)
    empty = bool(node.int("noop_with_empty_axes", 0)) if where is not None else False
    return node.insert(ReduceOp(
        x, where, kind=kind, axes=known, keepdims=bool(node.int("keepdims", 1)), none_if_empty=empty,
    )).result  # fmt: skip


def _named(node: Node, axes: Axes) -> Value:
    return _reduce(node, node.input(0), KINDS[node.op_type], axes)


def _composed(node: Node, axes: Axes) -> Value:
    """L1 -> sum(|x|); SumSquare -> sum(x * x); L2 -> sqrt(sum(x * x)); LogSum -> log(sum(x));
    LogSumExp -> log_sum_exp(x)

    Narrow floats are in f32 from end to end; integers pass through f64 where the function is not one of integers."""
    x, kind = node.input(0), node.op_type
    element = tensor_type(x).element
    is_float = isinstance(element, FloatType)
    x = widened(node, x) if is_float or kind in ("ReduceL1", "ReduceSumSquare") else cast(node, x, F64)
    if kind == "ReduceLogSumExp":
        made = _reduce(node, x, "log_sum_exp", axes)
    elif kind == "ReduceL1":
        made = _reduce(node, unary(node, graph.AbsOp, x), "sum", axes)
    elif kind == "ReduceLogSum":
        made = unary(node, graph.LogOp, _reduce(node, x, "sum", axes))
    else:
        made = _reduce(node, binary(node, graph.MulOp, x, x), "sum", axes)
        made = unary(node, graph.SqrtOp, made) if kind == "ReduceL2" else made
    return cast(node, made, element)


def _register(build: Callable[[Node, Axes], Value], op_types: tuple[str, ...], input_since: int) -> None:
    rule(*op_types)(lambda node: build(node, _attribute_axes(node)))
    rule(*op_types, since=input_since)(lambda node: build(node, _input_axes(node)))


_register(_named, ("ReduceSum",), 13)
_register(_named, tuple(kind for kind in KINDS if kind != "ReduceSum"), 18)
_register(_composed, COMPOSED, 18)


@rule("ArgMax", "ArgMin")
def arg_extremum(node: Node) -> Value:
    x = node.input(0)
    return node.insert(ArgReduceOp(
        x, kind="max" if node.op_type == "ArgMax" else "min",
        axis=normalize_axis(node.int("axis", 0), tensor_type(x).rank),
        keepdims=bool(node.int("keepdims", 1)), last=bool(node.int("select_last_index", 0)),
    )).result  # fmt: skip


@rule("CumSum", "CumProd")
def cumulative(node: Node) -> Value:
    """The axis is an input, a number or a list of one."""
    x, axes = node.input(0), known_input(node, 1)
    axis = normalize_axis(axes[0], tensor_type(x).rank) if axes else None
    where = exactly(node, node.input(1), 1) if axis is None else None
    return node.insert(CumulativeOp(
        x, where, kind="sum" if node.op_type == "CumSum" else "prod", axis=axis,
        exclusive=bool(node.int("exclusive", 0)), reverse=bool(node.int("reverse", 0)),
    )).result  # fmt: skip
