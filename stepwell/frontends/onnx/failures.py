"""Nodes that cannot be imported: why, and what stands in the IR for their results so that the import can go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import helper

from stepwell.dialects.func import FuncOp
from stepwell.errors import StepwellError, UnknownError
from stepwell.frontends.onnx import schema
from stepwell.frontends.onnx.constants import constant_of
from stepwell.frontends.onnx.declared import plain_dims
from stepwell.frontends.onnx.element_types import shown, value_type
from stepwell.frontends.onnx.needs import needs_of
from stepwell.frontends.onnx.registry import RuleTable, Unsupported
from stepwell.frontends.onnx.report import Problem
from stepwell.frontends.onnx.scope import POISON, Scope, Slot
from stepwell.frontends.onnx.structure import NodeInfo
from stepwell.frontends.onnx.versions import absence, schema_of
from stepwell.ir.core import UnregisteredOp, Value

# What a rule may raise by a fault of its own on a model that it did not expect: reported like the rest, never a crash.
RULE_FAULTS = (
    ArithmeticError, ValueError, TypeError, LookupError, AttributeError, AssertionError, NotImplementedError,
    RecursionError, MemoryError,
)  # fmt: skip

SMALL = 64  # elements of constants that type inference may look at


def check_importable(node: NodeInfo, version: int, table: RuleTable) -> None:
    """Raise Unsupported where neither a rule nor the schema can import a node, whatever its inputs are."""
    if not version:
        raise Unsupported(f"the model does not import the domain {node.domain or 'ai.onnx'!r}", "export it again")
    absent = absence(node.domain, node.op_type, version)
    if absent is not None:
        raise Unsupported(*absent)
    if table.find(node.domain, node.op_type, version) or schema.has_function_body(node, version):
        return
    since = table.since(node.domain, node.op_type)
    if since:
        raise Unsupported(
            f"opset {version} is too old: {node.op_type} is known from opset {since[0]} on",
            f"convert the model to opset {max(since[0], 13)} or newer with onnx.version_converter, or export it so",
        )
    if schema_of(node.domain, node.op_type, version) is None:
        raise Unsupported("this opset has no such operator", "write an import rule for it, or export it otherwise")
    raise Unsupported("it has no import rule", "write one, or express the node by other operators")


def problem_of(
    node: NodeInfo, version: int, inputs: Sequence[Slot], prefix: str, error: BaseException, function: FuncOp
) -> Problem:  # fmt: skip
    """The report's entry for a node of a function whose import raised an error."""
    reason, advice = str(error) or type(error).__name__, ""
    if isinstance(error, Unsupported):
        reason, advice = error.reason, error.advice
    elif not isinstance(error, StepwellError):
        reason = f"its import rule failed: {type(error).__name__}: {error}"
        advice = "this is a fault of the importer: please report it with the model"
    unknown = error.unknown if isinstance(error, Unsupported) else error
    needs = needs_of(unknown, function) if isinstance(unknown, UnknownError) else None
    if needs is not None:
        fixing = f"fix {needs}, in shapes= and as initializers; stepwell.compile does so when the model is called"
        advice = f"{advice.rstrip('.')}; or {fixing}" if advice else fixing
    types = tuple(shown(slot.type) if isinstance(slot, Value) else "?" if slot else "absent" for slot in inputs)
    return Problem("node", prefix + node.label, reason, advice, node.op_type, node.domain, version, types, error, needs)


def placeholders(
    node: NodeInfo, version: int, attributes: Mapping[str, Any], inputs: Sequence[Slot], scope: Scope
) -> list[Slot]:
    """A value for each output of a node that could not be imported, where its type is known; else POISON."""
    inferred = {}
    if len(inputs) == len(node.inputs):
        types = [slot.type if isinstance(slot, Value) else None for slot in inputs]
        arrays = _small_constants(node, inputs)
        inferred = schema.infer_output_types(node, version, attributes, types, arrays)
    return [_placeholder(name, inferred.get(name) or scope.value_types.get(name), scope) for name in node.outputs]


def _small_constants(node: NodeInfo, inputs: Sequence[Slot]) -> dict[str, Any]:
    found = {}
    for name, slot in zip(node.inputs, inputs, strict=True):
        array = constant_of(slot) if isinstance(slot, Value) else None
        if array is not None and array.size <= SMALL and array.dtype.kind in "iu":
            number = helper.np_dtype_to_tensor_dtype(array.dtype)
            found[name] = helper.make_tensor(name, number, array.shape, array.reshape(-1))
    return found


def _placeholder(name: str, proto: Any, scope: Scope) -> Slot:
    if proto is None or not name:
        return POISON
    try:
        type_ = value_type(proto, plain_dims)
    except StepwellError:
        return POISON
    op = UnregisteredOp.named("onnx.placeholder", result_types=[type_])
    scope.builder.insert(op)
    return op.results[0]
