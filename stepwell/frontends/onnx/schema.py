"""What the onnx package knows of an operator: its attributes and their defaults, the function that defines it, and the
types of its results."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto

from stepwell.frontends.onnx.element_types import text, type_proto
from stepwell.frontends.onnx.structure import NodeInfo
from stepwell.frontends.onnx.versions import schema_of
from stepwell.ir.types import Type

# What the onnx package raises where a node does not suit it.
_ONNX_ERRORS = (
    onnx.shape_inference.InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError, DecodeError,
    RuntimeError, ValueError, TypeError, LookupError,
)  # fmt: skip

Attributes = Mapping[str, Any]  # name -> AttributeProto, references to a function's attributes resolved


@functools.lru_cache(maxsize=1024)
def declared_attributes(domain: str, op_type: str, version: int) -> Mapping[str, tuple[int, bool, Any]]:
    """Attribute name -> (type number, required, default AttributeProto or None)."""
    found = {}
    for name, attribute in schema_of(domain, op_type, version).attributes.items():
        default = attribute.default_value
        number = int(getattr(attribute.type, "value", attribute.type))
        found[name] = (number, bool(attribute.required), default if default.name or default.type else None)
    return found


def attribute_type_name(number: int) -> str:
    """`ints` for AttributeProto.INTS."""
    try:
        return str(AttributeProto.AttributeType.Name(number)).lower()
    except ValueError:
        return f"type number {number}"


def default_of(domain: str, op_type: str, version: int, name: str) -> Any:
    """The AttributeProto that holds an attribute's default, None where there is none."""
    if schema_of(domain, op_type, version) is None:
        return None
    return declared_attributes(domain, op_type, version).get(name, (0, False, None))[2]


def function_body(node: NodeInfo, version: int, attributes: Attributes, types: Sequence[Type | None]) -> Any:
    """The FunctionProto that the schema gives for a node, None where it gives none.

    A body written for a later opset serves as well: it defines the same version of the operator, and names the opset in
    which its own nodes are to be read."""
    schema = schema_of(node.domain, node.op_type, version)
    if schema is None:
        return None
    data = b""
    try:
        if schema.has_function:
            data = schema.get_function_with_opset_version(_best(schema.function_opset_versions, version))
        elif schema.has_context_dependent_function:
            proto = _with_defaults(node, version, attributes)
            protos = [(type_proto(t) if t is not None else onnx.TypeProto()).SerializeToString() for t in types]
            data = schema.get_context_dependent_function_with_opset_version(
                _best(schema.context_dependent_function_opset_versions, version), proto.SerializeToString(), protos
            )
        return onnx.FunctionProto.FromString(data) if data else None
    except _ONNX_ERRORS:
        return None


def has_function_body(node: NodeInfo, version: int) -> bool:
    """Whether the schema defines the operator by others."""
    schema = schema_of(node.domain, node.op_type, version)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def is_context_dependent(node: NodeInfo, version: int) -> bool:
    """Whether the body depends on the node's attributes and the types of its inputs."""
    schema = schema_of(node.domain, node.op_type, version)
    return schema is not None and not schema.has_function


def _best(versions: Sequence[int], version: int) -> int:
    return max((v for v in versions if v <= version), default=min(versions))


def function_attributes(node: NodeInfo, version: int, attributes: Attributes) -> Attributes:
    """The node's attributes, with the schema's defaults for those not given."""
    declared = declared_attributes(node.domain, node.op_type, version)
    defaults = {name: default for name, (_, _, default) in declared.items() if default is not None}
    return {**defaults, **attributes}


def _with_defaults(node: NodeInfo, version: int, attributes: Attributes) -> Any:
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=node.inputs, output=node.outputs)
    for name, attribute in function_attributes(node, version, attributes).items():
        copy = proto.attribute.add()
        copy.CopyFrom(attribute)
        copy.name = name
    return proto


def infer_output_types(
    node: NodeInfo, version: int, attributes: Attributes, types: Sequence[Type | None], arrays: Mapping[str, Any]
) -> dict[str, Any]:
    """Output name -> TypeProto, as far as the schema's own inference knows it from the inputs' types and the constant
    ones among them (name -> TensorProto). Empty where it fails."""
    schema = schema_of(node.domain, node.op_type, version)
    if schema is None or node.graphs or any(t is None for t in types):
        return {}
    known = {name: type_proto(t) for name, t in zip(node.inputs, types, strict=True) if name and t is not None}
    opsets = [onnx.helper.make_opsetid(node.domain, version)]
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, _with_defaults(node, version, attributes), known, dict(arrays), opset_imports=opsets
        )
    except _ONNX_ERRORS:
        return {}
    return {text(name): proto for name, proto in found.items()}
