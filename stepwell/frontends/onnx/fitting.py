"""Whether a node fits the version of its operator that its opset has: how many inputs and outputs, which attributes, of
which types and words, and the types of its inputs and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from stepwell.dialects.sequence_types import OptionalType, SequenceType
from stepwell.errors import ModelError
from stepwell.frontends.onnx.attribute_values import allowed_words, first_with
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS, element_name, text
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.frontends.onnx.schema import attribute_type_name, declared_attributes
from stepwell.frontends.onnx.structure import NodeInfo
from stepwell.frontends.onnx.versions import history, schema_of, type_misfit
from stepwell.ir.types import ComplexType, TensorType, Type

Types = Sequence["Type | None"]  # None: absent, or not known


def check_node(node: NodeInfo, version: int, attributes: Mapping[str, Any], types: Types = ()) -> None:
    """Raise ModelError where a node does not fit its operator's schema; nothing where there is no schema."""
    schema = schema_of(node.domain, node.op_type, version)
    if schema is None:
        return
    needed = schema.min_input if len(node.inputs) >= schema.min_input else _required(schema)
    for what, count, least, most in (
        ("inputs", len(node.inputs), needed, schema.max_input),
        ("outputs", len(node.outputs), schema.min_output, schema.max_output),
    ):
        # Trailing absent ones are not counted: what must be there ends with the last input that is not optional.
        if count > most or (what == "inputs" and count < least):
            wanted = str(least) if least == most else f"{least} to {most}"
            raise ModelError(f"it has {count} {what}, and {node.op_type} takes {wanted}")
    declared = declared_attributes(node.domain, node.op_type, version)
    for name, given in attributes.items():
        if name.startswith("__") and name not in declared:
            continue
        if name not in declared:
            raise ModelError(_unknown(node, version, name, sorted(declared)))
        if given.type != declared[name][0]:
            wanted = attribute_type_name(declared[name][0])
            raise ModelError(f"its attribute {name!r} is of type {attribute_type_name(given.type)}, not {wanted}")
        _check_word(node, version, name, text(given.s))
    for name, (_, required, _) in declared.items():
        if required and name not in attributes:
            raise ModelError(f"it lacks its attribute {name!r}")
    _check_types(node, version, types, ())


def _required(schema: Any) -> int:
    """How many inputs a node has at least: up to the last one that may not be absent."""
    options = onnx.defs.OpSchema.FormalParameterOption
    arities = {options.Single: 1, options.Optional: 0}
    ends = (n + arity for n, given in enumerate(schema.inputs) if (arity := arities.get(given.option, given.min_arity)))
    return max(ends, default=0)


def check_results(node: NodeInfo, version: int, inputs: Types, outputs: Types) -> None:
    """Raise ModelError where a schema does not allow the types of a node's results; for complex numbers as well,
    which no lowering takes: transforms have their parts as an axis."""
    _check_types(node, version, inputs, outputs)
    for type_ in (*inputs, *outputs):
        if isinstance(type_, TensorType) and isinstance(type_.element, ComplexType):
            advice = "give real and imaginary parts as an axis of two, as DFT does"
            raise Unsupported(f"tensors of {type_.element} are not compiled", advice)


def _unknown(node: NodeInfo, version: int, name: str, known: Sequence[str]) -> str:
    having = [schema.since_version for schema in history(node.domain, node.op_type) if name in schema.attributes]
    reason = f"{node.op_type} has no attribute {name!r} in opset {version}"
    later = min((since for since in having if since > version), default=None)
    if later is not None:
        reason += f": it came with opset {later}"
    elif having:
        after = [s.since_version for s in history(node.domain, node.op_type) if s.since_version > max(having)]
        reason += f": opset {after[0] - 1} is the last one in which it has it"
    return f"{reason} (it has: {', '.join(known) or 'none'})"


def _check_word(node: NodeInfo, version: int, name: str, word: str) -> None:
    words = allowed_words(node.domain, node.op_type, version, name)
    if words is None or word in words:
        return
    first = first_with(node.domain, node.op_type, name, word)
    since = "" if first is None or first <= version else f", which came with opset {first}"
    raise ModelError(
        f"its attribute {name!r} is {word!r}{since}; in opset {version}, {node.op_type} has {', '.join(words)}"
    )


def _check_types(node: NodeInfo, version: int, inputs: Types, outputs: Types) -> None:
    reason = type_misfit(
        node.domain, node.op_type, version, tuple(map(schema_type, inputs)), tuple(map(schema_type, outputs))
    )
    if reason:
        raise ModelError(f"{node.op_type} {reason}")


def schema_type(type_: Type | None) -> str | None:
    """What schemas call the type of a value: `tensor(float)`, `seq(tensor(int64))`; None for one that they lack."""
    if isinstance(type_, (TensorType, SequenceType)) and type_.element in ELEMENT_NUMBERS:
        tensor = f"tensor({element_name(ELEMENT_NUMBERS[type_.element])})"
        return tensor if isinstance(type_, TensorType) else f"seq({tensor})"
    if isinstance(type_, OptionalType):
        inner = schema_type(type_.of)
        return inner and f"optional({inner})"
    return None
