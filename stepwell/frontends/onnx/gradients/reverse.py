"""The walk back from a value to those by which it is differentiated."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.frontends.onnx.gradients.rules import RULES, Backward
from stepwell.frontends.onnx.registry import Node, Unsupported
from stepwell.frontends.onnx.rules.composing import scalar
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import FloatType


def gradients(node: Node, xs: Sequence[Value], zs: Sequence[Value], y: Value) -> list[Value]:
    """dy/dx for each of `xs`, at the values of the node's inputs, which stand for `xs` and `zs` in this order.

    %y = f(%x); gradient %a {x, y}  ->  %y' = f(%a) where %a is not %x; the ops of f backwards, from ones

    Raises ModelError naming an op that has no rule."""
    marks, given = [*xs, *zs], node.inputs()
    if len(marks) != len(given):
        raise node.unsupported(f"{len(given)} inputs for {len(marks)} names", "The model is malformed.")
    ops = _between(node, marks, xs, y)
    if any(mark is not value for mark, value in zip(marks, given, strict=True)):
        mapping = dict(zip(marks, given, strict=True))
        ops = [node.insert(op.clone(mapping)) for op in ops]
        y, xs = mapping.get(y, y), given[: len(xs)]
    back = Backward(node)
    found: dict[Value, Value] = {y: _ones(node, y)}
    for op in reversed(ops):
        _differentiate(node, op, found, back)
    return [found.get(x) or back.mul(_ones(node, x), 0.0) for x in xs]


def _ones(node: Node, like: Value) -> Value:
    if not isinstance(tensor_type(like).element, FloatType):
        raise node.unsupported(f"{like.type} has no gradient")
    return node.insert(ExpandOp.to(scalar(node, 1, like), shape_of(like))).result


def _between(node: Node, marks: Sequence[Value], xs: Sequence[Value], y: Value) -> list[Operation]:
    """The ops through which `y` depends on `xs`, in order; the walk ends at the marks."""
    depends: dict[Value, bool] = {**dict.fromkeys(marks, False), **dict.fromkeys(xs, True)}
    ordered: list[Operation] = []
    pending = [(y, False)]
    while pending:
        value, is_ready = pending.pop()
        op = value.defining_op
        if value in depends and not is_ready:
            continue
        if op is not None and op.regions:
            raise _without_rule(node, op)
        if op is None:
            depends[value] = False
        elif not is_ready:
            pending.append((value, True))
            pending.extend((operand, False) for operand in op.operands if operand not in depends)
        elif value not in depends:
            flows = any(depends[operand] for operand in op.operands)
            depends.update(dict.fromkeys(op.results, flows))
            if flows:
                ordered.append(op)
    return ordered


def _differentiate(node: Node, op: Operation, found: dict[Value, Value], back: Backward) -> None:
    """Add what the gradients of an op's results give for its operands."""
    if not any(result in found for result in op.results):
        return
    rule = RULES.get(type(op))
    if rule is None or len(op.results) != 1:
        raise _without_rule(node, op)
    parts = rule(op, found[op.results[0]], back)
    for operand, part in zip(op.operands, parts, strict=True):
        if part is not None:
            found[operand] = back.add(found[operand], part) if operand in found else part


def _without_rule(node: Node, op: Operation) -> Unsupported:
    label = f" ({op.loc.label})" if op.loc.label else ""
    return node.unsupported(f"{op.op_name}{label} has no rule of differentiation")
