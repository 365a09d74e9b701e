"""The shapes of a model's inputs: dimension texts become expressions, unnamed dims get a symbol, and what the caller
wants is put in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stepwell.dialects.sequence_types import EVERY_SIZE, OptionalType, SequenceType, without_symbols
from stepwell.errors import ModelError
from stepwell.frontends.onnx.declared import UNNAMED
from stepwell.frontends.onnx.element_types import Port, element_type, text, value_type
from stepwell.frontends.onnx.registry import Unsupported
from stepwell.ir.dims import Dim, DimExpr, free_symbols, parse_dim, solve_for, substitute, symbol
from stepwell.ir.types import TensorType, Type

# symbol -> size, or name of an input -> its whole shape (ints and dimension texts)
Shapes = Mapping[str, "int | Sequence[int | str]"]


def input_types(inputs: Sequence[Port], shapes: Shapes | None = None) -> dict[str, Type | Unsupported]:
    """Input name -> its type, or why it has none.

    Every symbol of the types can be computed from the sizes of the inputs: an expression that does not determine its
    symbols becomes a symbol of its own. Raises ModelError for a key of `shapes` that is no input and no symbol, and for
    a shape that does not fit."""
    given, fixed = _split(shapes or {}, {port.name for port in inputs})
    found: dict[str, Type | Unsupported] = {}
    for port in inputs:
        try:
            found[port.name] = _declared(port, given)
        except Unsupported as error:
            found[port.name] = error
    tensors = {name: type_ for name, type_ in found.items() if isinstance(type_, TensorType)}
    _check_symbols(fixed, tensors.values())
    tensors = {n: t.with_shape([substitute(dim, fixed) for dim in t.shape]) for n, t in tensors.items()}
    opaque = _undetermined(tensors.values())
    for name, type_ in tensors.items():
        found[name] = _checked(name, type_.with_shape([symbol(str(d)) if d in opaque else d for d in type_.shape]))
    return found


def _split(shapes: Shapes, inputs: set[str]) -> tuple[dict[str, Sequence[int | str]], dict[str, Dim]]:
    given: dict[str, Sequence[int | str]] = {}
    fixed: dict[str, Dim] = {}
    for key, value in shapes.items():
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            fixed[key] = value
        elif isinstance(value, Sequence) and not isinstance(value, str) and key in inputs:
            given[key] = value
        else:
            what = "no input has this name" if isinstance(value, Sequence) else f"{value!r} is no size"
            raise ModelError(f"shapes={{{key!r}: ...}}: {what}; the inputs are {_list(inputs)}")
    return given, fixed


def _declared(port: Port, given: Mapping[str, Sequence[int | str]]) -> Type:
    if port.name not in given:
        return value_type(port.proto, lambda shape: tuple(_dim(dim, port.name, i) for i, dim in enumerate(shape.dim)))
    shape = given[port.name]
    if port.proto.WhichOneof("value") == "sequence_type":
        declared_type = value_type(port.proto, lambda _: ())
        assert isinstance(declared_type, SequenceType)
        sizes = tuple(dim if isinstance(dim, int) else EVERY_SIZE for dim in shape)
        return SequenceType(declared_type.element, sizes)
    if port.proto.WhichOneof("value") == "optional_type" and port.proto.optional_type.elem_type.HasField("tensor_type"):
        element = element_type(port.proto.optional_type.elem_type.tensor_type.elem_type)
        return OptionalType(without_symbols(TensorType(tuple(_given_dim(port.name, dim) for dim in shape), element)))
    if port.proto.WhichOneof("value") != "tensor_type":
        return value_type(port.proto, lambda _: ())
    tensor = port.proto.tensor_type
    if tensor.HasField("shape") and len(tensor.shape.dim) != len(shape):
        raise ModelError(f"shapes={{{port.name!r}: ...}} has {len(shape)} dims; the model has {len(tensor.shape.dim)}")
    for axis, dim in enumerate(tensor.shape.dim):
        declared = _dim(dim, port.name, axis)
        if isinstance(declared, int) and isinstance(shape[axis], int) and declared != shape[axis]:
            raise ModelError(f"shapes={{{port.name!r}: ...}}: dim {axis} is {declared} in the model, not {shape[axis]}")
    return TensorType(tuple(_given_dim(port.name, dim) for dim in shape), element_type(tensor.elem_type))


def _given_dim(name: str, dim: int | str) -> Dim:
    parsed = parse_dim(dim) if isinstance(dim, str) and dim.strip() else dim
    if isinstance(parsed, bool) or not isinstance(parsed, (int, DimExpr)) or (isinstance(parsed, int) and parsed < 0):
        raise ModelError(f"shapes={{{name!r}: ...}}: {dim!r} is no dimension; give a size or a name")
    return parsed


def symbol_prefix(name: str) -> str:
    """What symbols of an input's unnamed dims start with."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_") or "input"


def unnamed_dim(name: str, axis: int) -> str:
    """The symbol of an input's dim that has neither size nor name."""
    return f"{symbol_prefix(name)}_d{axis}"


def _dim(proto: Any, name: str, axis: int) -> Dim:
    """A TensorShapeProto.Dimension; one without size or name gets a symbol from the input's name and the axis."""
    kind = proto.WhichOneof("value")
    if kind == "dim_value" and proto.dim_value >= 0:
        return int(proto.dim_value)
    if kind == "dim_param" and text(proto.dim_param).strip() not in UNNAMED:
        parsed = parse_dim(text(proto.dim_param))
        if isinstance(parsed, DimExpr) or parsed >= 0:
            return parsed
    return symbol(unnamed_dim(name, axis))


def _check_symbols(fixed: Mapping[str, Dim], types: Iterable[TensorType]) -> None:
    known = {name for type_ in types for dim in type_.shape for name in free_symbols(dim)}
    for name in fixed:
        if name not in known:
            raise ModelError(f"shapes={{{name!r}: ...}}: no input has this dimension; there are {_list(known)}")


def _undetermined(types: Iterable[TensorType]) -> set[DimExpr]:
    """The expressions whose symbols do not follow from the measured sizes of all dims."""
    waiting = {dim for type_ in types for dim in type_.shape if isinstance(dim, DimExpr)}
    known: set[str] = set()
    measured = symbol("measured size")
    progress = True
    while progress:
        progress = False
        for dim in list(waiting):
            unknown = set(free_symbols(dim)) - known
            if not unknown:
                waiting.discard(dim)
            elif len(unknown) == 1 and solve_for(dim, name := next(iter(unknown)), measured) is not None:
                known.add(name)
                waiting.discard(dim)
                progress = True
    return waiting


def _checked(name: str, type_: TensorType) -> TensorType | Unsupported:
    negative = [dim for dim in type_.shape if isinstance(dim, int) and dim < 0]
    if negative:
        return Unsupported(f"a dim would have size {negative[0]}", f"check the sizes given in shapes= for {name!r}")
    return type_


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
