"""What a program function's arguments are: the model's inputs, its outputs, perhaps a heap and the arena; names, types,
sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.dialects.kept import kept_in
from stepwell.dialects.program_attributes import DESCRIPTOR
from stepwell.errors import PassError
from stepwell.ir.attr_parser import AttributeParser
from stepwell.ir.attributes import Attribute, IntegerAttr, StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, parse_dim, symbol
from stepwell.ir.types import DYNAMIC, MemRefType, TensorType, Type, numpy_dtype

from .abi import ArgsLayout


class Port(NamedTuple):
    """An input or output: its name, element type and sizes (symbolic where they vary).

    Of an output that is `published`, the argument is a descriptor: address and dims, which the program writes. An input
    that is `roomy` lies in memory with room for more rows along an axis, up to `capacity`, and is written to; a call
    leaves `rows` there."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[Dim, ...]
    published: bool = False
    axis: int = 0
    capacity: int = 0
    rows: Dim = 0

    @property
    def roomy(self) -> bool:
        """Whether its memory has room for more rows."""
        return self.capacity > 0


class Signature(NamedTuple):
    """The arguments of a program in their order: inputs, outputs, the heap and the arena where there are such.

    `arena_bytes` is the arena's size over the symbols of the inputs' dims, `segments` counts those of the heap (0 where
    there is none)."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    has_arena: bool
    arena_bytes: Dim
    segments: int = 0

    @property
    def layout(self) -> ArgsLayout:
        """Where the native program finds them; the heap is one more output."""
        return ArgsLayout(tuple(len(port.dims) for port in self.inputs), len(self.outputs) + (self.segments > 0))

    @staticmethod
    def of(function: FuncOp) -> Signature:
        """Read it off a program. Raises PassError where its arguments are out of order."""
        described = [function.argument_attributes(index) for index in range(len(function.arguments))]
        kinds = ["out" if "sw.out" in attributes else "in" for attributes in described]
        has_arena = "sw.arena" in function.attributes or ("out" in kinds and kinds[-1] == "in")
        if has_arena:
            kinds[-1] = "arena"
        segments = 0
        for number, attributes in enumerate(described):
            if "sw.heap" in attributes:
                kinds[number] = "heap"
                type_ = function.arguments[number].type
                segments = type_.shape[0] if isinstance(type_, MemRefType) else 0
        if kinds != sorted(kinds, key=("in", "out", "heap", "arena").index):
            raise PassError(f"@{function.sym_name}: arguments must be inputs, outputs, the heap, the arena")
        ports = []
        for index, (argument, attributes) in enumerate(zip(function.arguments, described, strict=True)):
            ports.append(_port(index, argument.name, argument.type, attributes))
        inputs, outputs = kinds.count("in"), kinds.count("out")
        return Signature(
            tuple(ports[:inputs]), tuple(ports[inputs : inputs + outputs]), has_arena,
            dim_attribute(function, "sw.arena"), segments,
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
        published = DESCRIPTOR in attributes
        if not published and not _lies_in(tensor, type_):
            raise PassError(f"argument {index} of a program is a buffer {type_} that stands for {tensor}")
        kept = kept_in(attributes, index)
        if kept is None or not kept.is_placed:
            return Port(label, numpy_dtype(tensor), tensor.shape, published)
        present = AttributeParser(kept.type, label, None).type()
        assert isinstance(present, TensorType)
        rows = present.shape[kept.axis]
        return Port(label, numpy_dtype(tensor), tensor.shape, False, kept.axis, kept.capacity, rows)
    dims = tuple(symbol(f"{label}.{axis}") if dim == DYNAMIC else dim for axis, dim in enumerate(type_.shape))
    return Port(label, numpy_dtype(type_), dims)


def _lies_in(tensor: TensorType, memory: MemRefType) -> bool:
    """Whether a buffer's type fits the tensor type that callers see."""
    if tensor.rank != memory.rank or numpy_dtype(tensor).itemsize != numpy_dtype(memory).itemsize:
        return False
    return all(theirs in (DYNAMIC, mine) for mine, theirs in zip(tensor.shape, memory.shape, strict=True))
