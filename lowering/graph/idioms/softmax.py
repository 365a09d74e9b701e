"""Softmax written out."""

from __future__ import annotations

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.softmax import LogSoftmaxOp, SoftmaxOp
from stepwell.ir.core import Value
from stepwell.ir.rewrite import Rewriter
from stepwell.lowering.graph.idioms import recognises, take_over
from stepwell.lowering.graph.matching import made_by


@recognises(graph.DivOp)
def softmax(op: graph.BinaryOp, rewriter: Rewriter) -> bool:
    """e / sum(e) with e = exp(x - max(x)) -> softmax(x)

    Without the maximum it stays: exp(x) / sum(exp(x)) overflows where softmax does not."""
    powers, total = made_by(op.lhs, graph.ExpOp), reduction(op.rhs, "sum")
    if powers is None or total is None or total.x is not op.lhs:
        return False
    shifted = _less_its_peak(powers.operands[0])
    if shifted is None or shifted[1] != tuple(total.axes) or op.result.type is not shifted[0].type:
        return False
    take_over(rewriter, op.result, rewriter.insert(SoftmaxOp(shifted[0], axes=list(shifted[1]))))
    return True


@recognises(graph.SubOp)
def log_softmax(op: graph.BinaryOp, rewriter: Rewriter) -> bool:
    """s - log(sum(exp(s))) with s = x - max(x) -> log_softmax(x)"""
    log, shifted = made_by(op.rhs, graph.LogOp), _less_its_peak(op.lhs)
    total = reduction(log.operands[0], "sum") if log is not None else None
    powers = made_by(total.x, graph.ExpOp) if total is not None else None
    if shifted is None or total is None or powers is None or powers.operands[0] is not op.lhs:
        return False
    if shifted[1] != tuple(total.axes) or op.result.type is not shifted[0].type:
        return False
    take_over(rewriter, op.result, rewriter.insert(LogSoftmaxOp(shifted[0], axes=list(shifted[1]))))
    return True


def reduction(value: Value, kind: str) -> ReduceOp | None:
    """The reduction of a kind over known axes that makes a value and keeps the dims it merges as 1."""
    op = made_by(value, ReduceOp)
    return op if op is not None and op.kind == kind and op.keepdims and op.where is None else None


def _less_its_peak(value: Value) -> tuple[Value, tuple[int, ...]] | None:
    """(x, axes) of x - max(x over axes), where the axes are consecutive."""
    op = made_by(value, graph.SubOp)
    peak = reduction(op.rhs, "max") if op is not None else None
    if op is None or peak is None or peak.x is not op.lhs or not peak.axes:
        return None
    axes = tuple(peak.axes)
    consecutive = list(axes) == list(range(axes[0], axes[-1] + 1))
    return (op.lhs, axes) if consecutive and tensor_type(op.lhs).rank else None
