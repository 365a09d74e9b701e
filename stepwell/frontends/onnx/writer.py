"""What writes a function of the graph landing as ONNX nodes, and the functions that write each kind of op.

    @exports(SoftplusOp)
    def softplus(op: SoftplusOp, writer: Writer) -> None:
        writer.node("Softplus", op.operands, op.results)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from stepwell.dialects.func import FuncOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.sequence_types import is_list, list_element
from stepwell.errors import ModelError
from stepwell.frontends.onnx import names
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS, shown, type_proto
from stepwell.frontends.onnx.maps import Keys, keys_of
from stepwell.frontends.onnx.operators import element_text, least_opset
from stepwell.frontends.onnx.registry import Array, Unsupported
from stepwell.frontends.onnx.report import Problem
from stepwell.frontends.onnx.sizes import Sizes
from stepwell.frontends.onnx.weights import element_is_packed, pack
from stepwell.ir.core import Block, Operation, OpResult, Value
from stepwell.ir.dims import Dim
from stepwell.ir.opdef import Trait, has_trait
from stepwell.ir.types import F64, TensorType, Type, bit_width, type_of_dtype

OPSET = 21  # ONNX 1.16; operators, attributes and element types that came later raise it for the model
SMALL = 64  # bytes up to which equal constants of the export functions are one initializer

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


class Writer:
    """What an export function writes with. Every value has one ONNX name, no two have the same."""

    def __init__(self, function: FuncOp) -> None:
        self.domains: set[str] = set()
        self.opset = OPSET
        self.weights: dict[str, Array] = {}  # name of an initializer -> its bytes, still to be put somewhere
        self.problems: list[Problem] = []
        self._function = function
        self._names: dict[Value, str] = {}
        self._taken: set[str] = set()
        self._labels: set[str] = set()  # names of nodes
        self._graph = onnx.GraphProto()  # of the block that is being written
        self._sizes = Sizes()
        self._constants: dict[tuple[Any, ...], str] = {}
        self._label = ""

    # For export functions

    def name(self, value: Value) -> str:
        """The ONNX name of a value."""
        if value not in self._names:
            self._names[value] = self.fresh(names.name_of(value) or value.name or "v")
        return self._names[value]

    def fresh(self, hint: str) -> str:
        """A name that nothing has: `hint` or `hint_1`, `hint_2`, ..."""
        return _fresh(hint, self._taken)

    def node(
        self,
        op_type: str,
        inputs: Sequence[Value | str | None],
        outputs: Sequence[Value | str | None],
        domain: str = "",
        since: int = 0,
        **attributes: Any,
    ) -> list[str]:
        """Append a node; attributes that are None are left out. Returns the names of its outputs.

        Inputs and outputs are values or names (of `fresh`, `constant` or another node's output); None is absent.
        `since` is the opset whose meaning of the operator is needed, where older ones mean something else. Raises
        Unsupported where no version of the operator takes these element types and attributes."""
        given = {key: value for key, value in attributes.items() if value is not None}
        types = [[_element(item) for item in side] for side in (inputs, outputs)]
        self.opset = max(self.opset, least_opset(domain, op_type, max(self.opset, since), list(given), *types))
        read, made = ([self._name_of(item) for item in side] for side in (inputs, outputs))
        while read and not read[-1]:
            read.pop()
        label = _fresh(self._label, self._labels) if self._label else ""
        self._graph.node.append(helper.make_node(op_type, read, made, label, domain=domain, **given))
        self.domains.add(domain)
        return made

    def make(self, op_type: str, inputs: Sequence[Value | str | None], **attributes: Any) -> str:
        """Append a node of one output that is no value of the IR; returns its name."""
        return self.node(op_type, inputs, [self.fresh(op_type.lower())], **attributes)[0]

    def constant(self, array: Any, hint: str = "const") -> str:
        """An initializer of this array; returns its name. Small equal ones are one."""
        array = np.asarray(array)
        key = (array.dtype, array.shape, array.tobytes()) if array.nbytes <= SMALL and array.dtype != object else None
        if key is not None and key in self._constants:
            return self._constants[key]
        name = self.fresh(hint)
        self._initializer(name, array)
        if key is not None:
            self._constants[key] = name
        return name

    def shape(self, dims: Sequence[Dim]) -> str:
        """A list of int64 that holds sizes. Raises Unsupported for a symbol that no tensor tells."""
        return self._sizes.shape(self, dims)

    def float32(self, op: Operation, what: str, number: float | None) -> float | None:
        """A number as an attribute, which has 32 bits. Raises Unsupported where an op on f64 would notice."""
        if number is None or float(np.float32(number)) == number:
            return number
        if any(isinstance(v.type, TensorType) and v.type.element is F64 for v in op.operands):
            raise Unsupported(f"{what} {number!r} is not a number of 32 bits, as the attribute of ONNX is")
        return number

    def graph(self, block: Block, name: str) -> Any:
        """The GraphProto of a region's block, for a graph attribute: its arguments are the inputs, the operands of its
        terminator the outputs."""
        outer = self._graph, self._label, self._sizes, self._constants
        self._graph, self._sizes = onnx.GraphProto(name=name), self._sizes.inner()
        self._constants = dict(self._constants)
        try:
            for argument in block.arguments:
                self._graph.input.append(_value_info(self.name(argument), argument))
            self._sizes.learn(*block.arguments)
            self._operations(block)
            self._block_outputs(block)
            return self._graph
        finally:
            self._graph, self._label, self._sizes, self._constants = outer

    def _block_outputs(self, block: Block) -> None:
        """An output is computed in the graph itself, once: arguments, outer values and repeats go through Identity."""
        defined: set[Value] = set(block.arguments)
        for value in block.terminator.operands:
            inside = isinstance(value, OpResult) and value.op.parent is block and not isinstance(value.op, ConstantOp)
            if not inside or value in defined:
                copied = self.node("Identity", [value], [self.fresh(f"{self.name(value)}_out")])
                self._graph.output.append(_value_info(copied[0], value))
            else:
                self._graph.output.append(_value_info(self.name(value), value))
            defined.add(value)

    # The main graph

    def main_graph(self, title: str) -> Any:
        """The GraphProto of @main; `problems` then holds what could not be written."""
        function = self._function
        self._graph = onnx.GraphProto(name=title)
        given = names.argument_names(function)
        for index, argument in enumerate(function.arguments):
            self._names[argument] = self.fresh(given[index] or argument.name or f"input_{index}")
            self._port("input", self._graph.input, self._names[argument], argument)
        outputs = self._name_outputs()
        self._sizes.learn(*function.arguments)
        self._operations(function.entry)
        self._label = ""
        for index, (name, value) in enumerate(zip(outputs, function.returned, strict=True)):
            keys = keys_of(function.result_attributes(index))
            if keys is not None:
                self._rows(name, value, keys)
                continue
            if self.name(value) != name:
                self.node("Identity", [value], [name])
            self._port("output", self._graph.output, name, value)
        return self._graph

    def _rows(self, name: str, value: Value, keys: Keys) -> None:
        """The rows of a matrix as maps, under a name."""
        texts = isinstance(keys[0], str)
        label: dict[str, Any] = {"classlabels_strings" if texts else "classlabels_int64s": list(keys)}
        self.node("ZipMap", [value], [name], domain="ai.onnx.ml", **label)
        scores = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
        key = onnx.TensorProto.STRING if texts else onnx.TensorProto.INT64
        rows = onnx.helper.make_sequence_type_proto(onnx.helper.make_map_type_proto(key, scores))
        self._graph.output.append(onnx.helper.make_value_info(name, rows))

    def _port(self, kind: str, ports: Any, name: str, value: Value) -> None:
        try:
            ports.append(_value_info(name, value))
        except Unsupported as error:
            self.problems.append(Problem(kind, name, error.reason, error.advice, types=(shown(value.type),)))

    def _name_outputs(self) -> list[str]:
        """The outputs' names come first: a value that is returned has the output's name, unless it has one already."""
        outputs: list[str] = []
        given = names.result_names(self._function)
        for index, value in enumerate(self._function.returned):
            name = given[index] or f"output_{index}"
            if self._names.get(value) != name or name in outputs:
                name = self.fresh(name)
            outputs.append(name)
            if keys_of(self._function.result_attributes(index)) is None:
                self._names.setdefault(value, name)
        return outputs

    def _operations(self, block: Block) -> None:
        for op in block:
            if has_trait(op, Trait.TERMINATOR):
                continue
            self._label = op.loc.label
            try:
                self._operation(op)
            except Unsupported as error:
                types = tuple(shown(operand.type) for operand in op.operands)
                place = op.loc.label or (self.name(op.results[0]) if op.results else "")
                self.problems.append(
                    Problem("node", place, error.reason, error.advice, op.op_name, types=types, cause=error)
                )
            self._sizes.learn(*op.results)

    def _operation(self, op: Operation) -> None:
        if isinstance(op, ConstantOp):
            self._initializer(self.name(op.results[0]), op.value.numpy())
            return
        export = EXPORTS.get(type(op))
        if export is None:
            raise Unsupported("nothing says what it is in ONNX", "register a function with @exports")
        export(op, self)

    def _name_of(self, item: Value | str | None) -> str:
        return "" if item is None else item if isinstance(item, str) else self.name(item)

    def _initializer(self, name: str, array: Array) -> None:
        element = type_of_dtype(array.dtype)
        element_text(element)
        tensor = self._graph.initializer.add(name=name, dims=array.shape, data_type=ELEMENT_NUMBERS[element])
        if array.dtype == object:
            tensor.string_data.extend(str(item).encode() for item in array.reshape(-1))
        elif element_is_packed(element):
            codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.weights[name] = pack(codes, bit_width(element))
        else:
            self.weights[name] = array


def _fresh(hint: str, taken: set[str]) -> str:
    name, count = hint, 0
    while name in taken:
        count += 1
        name = f"{hint}_{count}"
    taken.add(name)
    return name


def element_of(value: Value) -> Type:
    """The element type of a tensor value. Raises Unsupported for a value of another type."""
    if not isinstance(value.type, TensorType):
        raise Unsupported(f"{value.type} is no tensor type, which is what ONNX graphs compute with")
    return value.type.element


def _element(item: Value | str | None) -> str | None:
    return element_text(element_of(item)) if isinstance(item, Value) and isinstance(item.type, TensorType) else None


def _value_info(name: str, value: Value) -> Any:
    element_text(list_element(value.type) if is_list(value.type) else element_of(value))
    return helper.make_value_info(name, type_proto(value.type))
