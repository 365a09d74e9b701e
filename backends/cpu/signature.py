"""What a program function's arguments are: the model's inputs, its outputs, perhaps the arena; names, types, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from stepwell.dialects.func import FuncOp
from stepwell.errors import PassError
from stepwell.ir.attr_parser import AttributeParser
from stepwell.ir.attributes import Attribute, IntegerAttr, StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, parse_dim, symbol
from stepwell.ir.types import DYNAMIC, MemRefType, TensorType, Type, numpy_dtype

from .abi import ArgsLayout


@frozen
class Port:
    """An input or output: its name, element type and sizes (symbolic where they vary)."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[Dim, ...]


@frozen
class Signature:
    """The arguments of a program in their order: inputs, outputs, the arena where there is one. `arena_bytes` is its
    size over the symbols of the inputs' dims."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    has_arena: bool
    arena_bytes: Dim

    @property
    def layout(self) -> ArgsLayout:
        """Where the native program finds them."""
        return ArgsLayout(tuple(len(port.dims) for port in self.inputs), len(self.outputs))

    @staticmethod
    def of(function: FuncOp) -> Signature:
        """Read it off a program. Raises PassError where its arguments are out of order."""
        described = [function.argument_attributes(index) for index in range(len(function.arguments))]
        kinds = ["out" if "sw.out" in attributes else "in" for attributes in described]
        has_arena = "sw.arena" in function.attributes or ("out" in kinds and kinds[-1] == "in")
        if has_arena:
            kinds[-1] = "arena"
        if kinds != sorted(kinds, key=("in", "out", "arena").index):
            raise PassError(f"@{function.sym_name}: arguments must be inputs, then outputs, then the arena")
        ports = []
        for index, (argument, attributes) in enumerate(zip(function.arguments, described, strict=True)):
            ports.append(_port(index, argument.name, argument.type, attributes))
        inputs, outputs = kinds.count("in"), kinds.count("out")
        return Signature(
            tuple(ports[:inputs]), tuple(ports[inputs : inputs + outputs]), has_arena,
            dim_attribute(function, "sw.arena"),
        )  # fmt: skip


def dim_attribute(op: Operation, name: str) -> Dim:
    """A size in an attribute: an integer or the text of a dim; 0 where there is none."""
    attribute = op.attributes.get(name)
    if isinstance(attribute, StringAttr):
        return parse_dim(attribute.value)
    return attribute.value if isinstance(attribute, IntegerAttr) else 0


def _port(index: int, name: str | None, type_: Type, attributes: Mapping[str, Attribute]) -> Port:
    if not isinstance(type_, MemRefType):
        raise PassError(f"argument {index} of a program must be a buffer, not {type_}")
    shown = attributes.get("onnx.name")
    label = shown.value if isinstance(shown, StringAttr) else name or f"argument {index}"
    text = attributes.get("sw.tensor")
    tensor = AttributeParser(text.value, label, None).type() if isinstance(text, StringAttr) else None
    if isinstance(tensor, TensorType):
        if not _lies_in(tensor, type_):
            raise PassError(f"argument {index} of a program is a buffer {type_} that stands for {tensor}")
        return Port(label, numpy_dtype(tensor), tensor.shape)
    dims = tuple(symbol(f"{label}.{axis}") if dim == DYNAMIC else dim for axis, dim in enumerate(type_.shape))
    return Port(label, numpy_dtype(type_), dims)


def _lies_in(tensor: TensorType, memory: MemRefType) -> bool:
    """Whether a buffer's type fits the tensor type that callers see."""
    if tensor.rank != memory.rank or numpy_dtype(tensor).itemsize != numpy_dtype(memory).itemsize:
        return False
    return all(theirs in (DYNAMIC, mine) for mine, theirs in zip(tensor.shape, memory.shape, strict=True))
