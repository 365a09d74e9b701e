"""From the graph landing back to ONNX, so that other runtimes can run what the compiler has made of a model.

    @exports(SoftmaxOp)
    def softmax(op: SoftmaxOp, writer: Writer) -> None:
        writer.node("Softmax", op.operands, op.results, axis=op.axis)

Names that came from a model are kept; symbolic dims become `dim_param` texts; constants become initializers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from stepwell import __version__
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.errors import ModelError
from stepwell.frontends.onnx import names
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS, type_proto
from stepwell.frontends.onnx.weights import Array, element_is_packed, pack
from stepwell.ir.attributes import DictAttr, StringAttr
from stepwell.ir.core import Block, Operation, OpResult, Value
from stepwell.ir.opdef import Trait, has_trait
from stepwell.ir.symbols import SymbolTable
from stepwell.ir.types import TensorType, bit_width, type_of_dtype

OPSET = 23  # ONNX 1.18; export functions write the operators as of this version
IR_VERSION = 11
EMBEDDED_LIMIT = 1 << 30  # bytes of weights up to which a model is one file
ALIGNMENT = 4096  # of tensors in an external file

Export = Callable[[Any, "Writer"], None]
EXPORTS: dict[type[Operation], Export] = {}


def exports(*classes: type[Operation]) -> Callable[[Export], Export]:
    """Register the decorated function as what writes ops of these classes. Raises ModelError where another one does."""

    def register(function: Export) -> Export:
        for cls in classes:
            other = EXPORTS.setdefault(cls, function)
            if other is not function:
                owners = f"{other.__module__}.{other.__name__} and {function.__module__}.{function.__name__}"
                raise ModelError(f"{cls.name} has two export functions: {owners}")
        return function

    return register


def export_model(module: Operation) -> Any:
    """The ModelProto of a module at the graph landing: its function @main as a graph, all weights inside.

    Raises ModelError that lists every op without an export function, and for weights of 2 GiB and more."""
    proto, arrays = _export(module)
    weights = list(_placed(proto.graph, arrays))
    if sum(array.nbytes for _, array in weights) >= (1 << 31) - (1 << 20):
        raise ModelError("the weights have 2 GiB or more; use save_model, which puts them into a file of their own")
    for tensor, array in weights:
        tensor.raw_data = array.tobytes()
    return proto


def save_model(module: Operation, path: str | os.PathLike[str]) -> None:
    """Write a module at the graph landing as an ONNX file, its weights in `NAME.data` beside it where they are large.

    Raises ModelError like `export_model`, and where the files cannot be written."""
    path = Path(path)
    proto, arrays = _export(module)
    weights = list(_placed(proto.graph, arrays))
    try:
        if sum(array.nbytes for _, array in weights) > EMBEDDED_LIMIT:
            _write_external(path.with_name(path.name + ".data"), weights)
        else:
            for tensor, array in weights:
                tensor.raw_data = array.tobytes()
        path.write_bytes(proto.SerializeToString())
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}") from None


def _write_external(path: Path, weights: Sequence[tuple[Any, Array]]) -> None:
    with path.open("wb") as file:
        for tensor, array in weights:
            offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
            file.seek(offset)
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", path.name), ("offset", offset), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))


def _placed(graph: Any, arrays: Mapping[str, Array]) -> Iterator[tuple[Any, Array]]:
    """(TensorProto, array) of every initializer in a graph and the graphs inside it."""
    yield from ((tensor, arrays[tensor.name]) for tensor in graph.initializer if tensor.name in arrays)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _placed(attribute.g, arrays)


def _export(module: Operation) -> tuple[Any, dict[str, Array]]:
    from stepwell.frontends.onnx import exports as _registered

    assert _registered
    main = SymbolTable(module).lookup("main")
    if not isinstance(main, FuncOp) or len(main.body.blocks) != 1:
        raise ModelError("the module has no function @main of one block, so there is no graph to export")
    writer = Writer(main)
    graph = writer.main_graph(module)
    writer.check()
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    proto.producer_name, proto.producer_version = "stepwell", __version__
    metadata = module.attributes.get(names.METADATA)
    if isinstance(metadata, DictAttr):
        helper.set_model_props(proto, {k: v.value for k, v in metadata.items if isinstance(v, StringAttr)})
    for domain in sorted(writer.domains - {""}):
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    return proto, writer.weights


class Writer:
    """What an export function writes with. Every value has one ONNX name, no two have the same."""

    def __init__(self, function: FuncOp) -> None:
        self.domains: set[str] = set()
        self.weights: dict[str, Array] = {}  # name of an initializer -> its bytes, still to be put somewhere
        self._function = function
        self._names: dict[Value, str] = {}
        self._taken: set[str] = set()
        self._graph = onnx.GraphProto()  # of the block that is being written
        self._missing: Counter[str] = Counter()

    # For export functions

    def name(self, value: Value) -> str:
        """The ONNX name of a value."""
        if value not in self._names:
            self._names[value] = self.fresh(names.name_of(value) or value.name or "v")
        return self._names[value]

    def fresh(self, hint: str) -> str:
        """A name that nothing has: `hint` or `hint_1`, `hint_2`, ..."""
        name, count = hint, 0
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def node(
        self,
        op_type: str,
        inputs: Sequence[Value | str | None],
        outputs: Sequence[Value | str],
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Append a node; attributes that are None are left out. Returns the names of its outputs.

        Inputs and outputs are values or names (of `fresh`, `constant` or another node's output); None is absent."""
        given = {key: value for key, value in attributes.items() if value is not None}
        made = [item if isinstance(item, str) else self.name(item) for item in outputs]
        read = ["" if item is None else item if isinstance(item, str) else self.name(item) for item in inputs]
        self._graph.node.append(helper.make_node(op_type, read, made, self._label, domain=domain, **given))
        self.domains.add(domain)
        return made

    def constant(self, array: Any, hint: str = "const") -> str:
        """An initializer of this array; returns its name."""
        name = self.fresh(hint)
        self._initializer(name, np.asarray(array))
        return name

    def graph(self, block: Block, name: str) -> Any:
        """The GraphProto of a region's block, for a graph attribute: its arguments are the inputs, the operands of its
        terminator the outputs."""
        outer, outer_label = self._graph, self._label
        self._graph = onnx.GraphProto(name=name)
        for argument in block.arguments:
            self._graph.input.append(_value_info(self.name(argument), argument))
        self._operations(block)
        defined = {id(argument) for argument in block.arguments}
        for value in block.terminator.operands:
            # An output is computed in the graph itself, once: arguments, outer values and repeats go through Identity.
            inside = isinstance(value, OpResult) and value.op.parent is block and not isinstance(value.op, ConstantOp)
            if not inside or id(value) in defined:
                copied = self.node("Identity", [value], [self.fresh(f"{self.name(value)}_out")])
                self._graph.output.append(_value_info(copied[0], value))
            else:
                self._graph.output.append(_value_info(self.name(value), value))
            defined.add(id(value))
        made, self._graph, self._label = self._graph, outer, outer_label
        return made

    # The main graph

    _label = ""

    def main_graph(self, module: Operation) -> Any:
        """The GraphProto of @main."""
        function = self._function
        title = module.sym_name if isinstance(module, ModuleOp) else None
        self._graph = onnx.GraphProto(name=title or "main")
        given = names.argument_names(function)
        for index, argument in enumerate(function.arguments):
            self._names[argument] = self.fresh(given[index] or argument.name or f"input_{index}")
            self._graph.input.append(_value_info(self._names[argument], argument))
        outputs = self._name_outputs()
        self._operations(function.entry)
        self._label = ""
        for name, value in zip(outputs, function.returned, strict=True):
            if self.name(value) != name:
                self.node("Identity", [value], [name])
            self._graph.output.append(_value_info(name, value))
        return self._graph

    def _name_outputs(self) -> list[str]:
        """The outputs' names come first: a value that is returned has the output's name, unless it has one already."""
        outputs: list[str] = []
        given = names.result_names(self._function)
        for index, value in enumerate(self._function.returned):
            name = given[index] or f"output_{index}"
            if self._names.get(value) != name or name in outputs:
                name = self.fresh(name)
            outputs.append(name)
            self._names.setdefault(value, name)
        return outputs

    def check(self) -> None:
        """Raise ModelError naming all ops for which there is no export function."""
        if self._missing:
            listed = ", ".join(f"{name} ({count})" for name, count in sorted(self._missing.items()))
            raise ModelError(f"these ops cannot be written as ONNX: {listed}; add a function with @exports")

    def _operations(self, block: Block) -> None:
        for op in block:
            self._label = op.loc.label
            if isinstance(op, ConstantOp):
                self._initializer(self.name(op.results[0]), op.value.numpy())
            elif not has_trait(op, Trait.TERMINATOR):
                export = EXPORTS.get(type(op))
                if export is None:
                    self._missing[op.op_name] += 1
                else:
                    export(op, self)

    def _initializer(self, name: str, array: Array) -> None:
        element = type_of_dtype(array.dtype)
        tensor = self._graph.initializer.add(name=name, dims=array.shape, data_type=ELEMENT_NUMBERS[element])
        if array.dtype == object:
            tensor.string_data.extend(str(item).encode() for item in array.reshape(-1))
        elif element_is_packed(element):
            codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.weights[name] = pack(codes, bit_width(element))
        else:
            self.weights[name] = array


def _value_info(name: str, value: Value) -> Any:
    if not isinstance(value.type, TensorType) or value.type.element not in ELEMENT_NUMBERS:
        raise ModelError(f"{name!r} is of type {value.type}, which ONNX lacks")
    return helper.make_value_info(name, type_proto(value.type))
