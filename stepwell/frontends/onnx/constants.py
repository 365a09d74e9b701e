"""What is known at import time: values that constants, shapes and arithmetic on them determine.

Knowledge is kept in the value's facts and does not change the IR: folding is the canonicaliser's work."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph.base import content, is_content_type
from stepwell.errors import StepwellError
from stepwell.ir.attributes import Attribute, ElementsAttr, elements
from stepwell.ir.core import OpResult, Value
from stepwell.ir.opdef import Op, Trait, has_trait
from stepwell.ir.types import TensorType, numpy_dtype

Array = np.ndarray[Any, Any]

FACT = "onnx.constant"  # ElementsAttr, or None where the value is known not to be a constant

# What an interpretation may raise on operands that its op does not fit; the op then stays as it is.
_FOLD_ERRORS = (StepwellError, ArithmeticError, ValueError, TypeError, LookupError, MemoryError, NotImplementedError)


def constant_of(value: Value) -> Array | None:
    """The array that a value is known to be at import time; None where it is not known."""
    pending = [value]
    while pending:
        current = pending[-1]
        if FACT in current.facts:
            pending.pop()
            continue
        missing = _find(current)
        if missing is None:
            pending.pop()
        else:
            pending.extend(missing)
    found = value.facts[FACT]
    return found.numpy() if isinstance(found, ElementsAttr) else None


def _find(value: Value) -> list[Value] | None:
    """Enter the fact and return None, or return the values whose facts are needed first."""
    op = value.defining_op
    if not isinstance(op, Op) or not isinstance(value, OpResult) or op.regions or not has_trait(op, Trait.PURE):
        value.facts[FACT] = None
        return None
    if has_trait(op, Trait.CONSTANT):
        value.facts[FACT] = op.properties.get("value")
        return None
    known = _from_content(value)
    if known is not None:
        value.facts[FACT] = known
        return None
    if any(FACT in operand.facts and operand.facts[FACT] is None for operand in op.operands):
        value.facts[FACT] = None
        return None
    missing = [operand for operand in op.operands if FACT not in operand.facts]
    return missing[:1] if missing else _fold(op, value)


def _fold(op: Op, value: OpResult) -> list[Value] | None:
    try:
        folded = op.fold([operand.facts[FACT] for operand in op.operands])
    except _FOLD_ERRORS:
        folded = None
    if folded is None:
        value.facts[FACT] = None
        return None
    item: Attribute | Value = folded[value.index]
    if isinstance(item, Value):
        if FACT not in item.facts:
            return [item]
        item = item.facts[FACT]
    for result, other in zip(op.results, folded, strict=True):
        if isinstance(other, ElementsAttr):
            result.facts[FACT] = other
    value.facts[FACT] = item if isinstance(item, ElementsAttr) else None
    return None


def _from_content(value: Value) -> ElementsAttr | None:
    """A shape-like tensor all of whose elements are integers."""
    if not is_content_type(value.type):
        return None
    dims = content(value)
    if dims is None or not all(isinstance(dim, int) for dim in dims):
        return None
    assert isinstance(value.type, TensorType)
    try:
        array = np.array(dims, numpy_dtype(value.type)).reshape(value.type.static_shape)
        return elements(array, value.type)
    except (StepwellError, OverflowError, ValueError):
        return None
