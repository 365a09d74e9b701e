"""ONNX element types and value types, and their counterparts in the IR, both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import onnx
from onnx import TensorProto

from stepwell.dialects.sequence_types import EVERY_SIZE, MapType, OptionalType, SequenceType, without_symbols
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.types import (
    BF16,
    F16,
    F32,
    F64,
    I1,
    ComplexType,
    FloatType,
    IntegerType,
    Signedness,
    StringType,
    TensorType,
    Type,
)


def _integers() -> dict[int, Type]:
    found: dict[int, Type] = {}
    for width in (2, 4, 8, 16, 32, 64):
        for prefix, signedness in (("INT", Signedness.SIGNED), ("UINT", Signedness.UNSIGNED)):
            number = getattr(TensorProto, f"{prefix}{width}", None)  # the 2-bit ones are newer than onnx 1.19
            if number is not None:
                found[number] = IntegerType(width, signedness)
    return found


_SMALL_FLOATS = {
    "FLOAT8E4M3FN": "f8E4M3FN", "FLOAT8E4M3FNUZ": "f8E4M3FNUZ", "FLOAT8E5M2": "f8E5M2",
    "FLOAT8E5M2FNUZ": "f8E5M2FNUZ", "FLOAT8E8M0": "f8E8M0FNU", "FLOAT6E2M3": "f6E2M3FN", "FLOAT6E3M2": "f6E3M2FN",
    "FLOAT4E2M1": "f4E2M1FN",
}  # fmt: skip

ELEMENT_TYPES: dict[int, Type] = {
    TensorProto.FLOAT: F32, TensorProto.DOUBLE: F64, TensorProto.FLOAT16: F16, TensorProto.BFLOAT16: BF16,
    TensorProto.BOOL: I1, TensorProto.STRING: StringType(),
    TensorProto.COMPLEX64: ComplexType(F32), TensorProto.COMPLEX128: ComplexType(F64),
    **_integers(),
    **{getattr(TensorProto, n): FloatType(ours) for n, ours in _SMALL_FLOATS.items() if hasattr(TensorProto, n)},
}  # fmt: skip

ELEMENT_NUMBERS: dict[Type, int] = {type_: number for number, type_ in ELEMENT_TYPES.items()}


def element_name(number: int) -> str:
    """The name that ONNX gives to an element type number."""
    try:
        return str(TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return f"element type number {number}"


def element_type(number: int) -> Type:
    """The graph-level element type of a TensorProto.DataType number. Raises Unsupported for one that does not exist."""
    found = ELEMENT_TYPES.get(number)
    if found is None:
        raise Unsupported(
            f"{element_name(number)} is not an element type that can be compiled",
            "export the model again, or upgrade the onnx package if the model is newer than it",
        )
    return found


class Unranked(Unsupported):
    """A tensor of which the model gives the element type alone."""

    def __init__(self, element: Type) -> None:
        super().__init__(
            "the model does not say how many dimensions it has",
            "give its shape, as in shapes={'NAME': (1, 3, 'h', 'w')}",
        )
        self.element = element


# How the dims of a tensor type become dims of ours; the importer knows the symbols, a subgraph has its own rule.
Dims = Callable[[Any], "tuple[Dim, ...]"]


def _tensor(proto: Any, dims: Dims) -> Type:
    tensor = proto.tensor_type
    element = element_type(tensor.elem_type)
    if not tensor.HasField("shape"):
        raise Unranked(element)
    return TensorType(dims(tensor.shape), element)


def _sequence(proto: Any, dims: Dims) -> Type:
    inner = proto.sequence_type.elem_type
    if inner.WhichOneof("value") != "tensor_type":
        raise Unsupported("a sequence of what is no tensor is not supported", "pass its parts as sequences of tensors")
    tensor = inner.tensor_type
    element = element_type(tensor.elem_type)
    if not tensor.HasField("shape"):
        return SequenceType(element)
    sizes = [int(dim.dim_value) if dim.HasField("dim_value") else EVERY_SIZE for dim in tensor.shape.dim]
    return SequenceType(element, tuple(max(size, EVERY_SIZE) for size in sizes))


def _map(proto: Any, dims: Dims) -> Type:
    inner = proto.map_type.value_type
    if inner.WhichOneof("value") != "tensor_type":
        raise Unsupported("a map to what is no tensor is not supported", "pass its parts as tensors of their own")
    key = element_type(proto.map_type.key_type)
    if not isinstance(key, (IntegerType, StringType)):
        raise Unsupported(f"a map from {key} is not supported", "its keys are integers or strings")
    return MapType(key, element_type(inner.tensor_type.elem_type))


def _optional(proto: Any, dims: Dims) -> Type:
    inner = proto.optional_type.elem_type
    if inner.WhichOneof("value") not in ("tensor_type", "sequence_type"):
        raise Unsupported("an optional value is a tensor or a sequence", "pass its parts as values of their own")
    try:
        of = value_type(inner, lambda shape: tuple(_plain(dim) for dim in shape.dim))
    except Unranked as error:  # None would not tell the rank
        raise Unsupported(error.reason, error.advice) from None
    return OptionalType(without_symbols(of))


def _plain(proto: Any) -> Dim:
    return int(proto.dim_value) if proto.HasField("dim_value") and proto.dim_value >= 0 else symbol("?")


def _unsupported(what: str) -> Callable[[Any, Dims], Type]:
    def refuse(proto: Any, dims: Dims) -> Type:
        raise Unsupported(f"{what} are not supported", "pass the parts as tensors of their own")

    return refuse


VALUE_TYPES: dict[str, Callable[[Any, Dims], Type]] = {
    "tensor_type": _tensor,
    "sequence_type": _sequence,
    "optional_type": _optional,
    "map_type": _map,
    "sparse_tensor_type": _unsupported("sparse tensors as inputs or outputs"),
    "opaque_type": _unsupported("opaque types"),
}


def value_type(proto: Any, dims: Dims) -> Type:
    """The type of a TypeProto, its dims made by `dims(TensorShapeProto)`. Raises Unsupported."""
    kind = proto.WhichOneof("value")
    if kind is None:
        raise Unsupported("the model does not say which type it has", "export the model again, or run shape inference")
    convert = VALUE_TYPES.get(kind)
    if convert is None:
        raise Unsupported(f"a value of kind {kind} is not supported")
    return convert(proto, dims)


def type_proto(type_: Type) -> Any:
    """The TypeProto of a tensor, sequence or optional type, symbolic dims as the text of their expression; an empty one
    for other types."""
    proto = onnx.TypeProto()
    if isinstance(type_, TensorType):
        proto.tensor_type.elem_type = ELEMENT_NUMBERS.get(type_.element, TensorProto.UNDEFINED)
        proto.tensor_type.shape.SetInParent()
        for dim in type_.shape:
            if isinstance(dim, int):
                proto.tensor_type.shape.dim.add(dim_value=dim)
            else:
                proto.tensor_type.shape.dim.add(dim_param=str(dim))
    elif isinstance(type_, SequenceType):
        inner = proto.sequence_type.elem_type.tensor_type
        inner.elem_type = ELEMENT_NUMBERS.get(type_.element, TensorProto.UNDEFINED)
        if type_.sizes is not None:
            inner.shape.SetInParent()
            for size in type_.sizes:
                inner.shape.dim.add(**({} if size == EVERY_SIZE else {"dim_value": size}))
    elif isinstance(type_, OptionalType):
        proto.optional_type.elem_type.CopyFrom(type_proto(type_.of))
    return proto


def shown(type_: Type) -> str:
    """A type as messages show it: `f32[batch, 3, 8*h]`."""
    if isinstance(type_, TensorType):
        element = "string" if isinstance(type_.element, StringType) else str(type_.element)
        return f"{element}[{', '.join(map(str, type_.shape))}]"
    return str(type_)


def text(value: Any) -> str:
    """A protobuf string field as text; one that is not UTF-8 comes from protobuf as bytes."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "backslashreplace")


@attrs.frozen
class Port:
    """A declared input or output of a graph: its name and TypeProto."""

    name: str
    proto: Any
