"""Runs ONNX node cases through import rules and interpretation: a stand-in for the importer.

Operators without a rule are evaluated by the onnx package's reference evaluator, so that bodies of control flow may
use any of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import stepwell.frontends.onnx.rules
from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.graph.symbols import run_time_shape
from stepwell.errors import ModelError
from stepwell.frontends.onnx.registry import RULES, Unsupported
from stepwell.ir.attributes import elements
from stepwell.ir.attrkinds import INT
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import symbol
from stepwell.ir.interpreter import run_function
from stepwell.ir.opdef import Op, attr, operands, results
from stepwell.ir.types import OpaqueType, TensorType, Type, type_of_dtype
from stepwell.ir.verifier import verify

NODES: list[tuple[onnx.NodeProto, int]] = []


class OnnxNodeOp(Op):
    """A node that the reference evaluator runs."""

    name = "test.onnx_node"
    inputs: Sequence[Value] = operands()
    index: int = attr(INT)
    outputs: Sequence[Value] = results()

    def interpret(self, frame: Any, *args: Any) -> Any:
        node, version = NODES[self.index]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        names = [name for name in node.input if name]
        inputs = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names)]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
        graph = helper.make_graph([copy], "node", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
        return tuple(ReferenceEvaluator(model).run(None, dict(zip(names, args, strict=True))))


def element_type(number: int) -> Type:
    return type_of_dtype(np.dtype(helper.tensor_dtype_to_np_dtype(number)))


def type_of_proto(proto: onnx.TypeProto, prefix: str | None = None, fixed: Sequence[int] = ()) -> Type | None:
    """The IR type of a TypeProto; with a prefix, every dim but those of the `fixed` axes (counted from the back)
    becomes a symbol of its own."""
    if not proto.HasField("tensor_type"):
        return OpaqueType("!test.other") if proto.WhichOneof("value") else None
    if not proto.tensor_type.HasField("shape"):
        return None
    dims = []
    for axis, dim in enumerate(proto.tensor_type.shape.dim):
        size = dim.dim_value if dim.HasField("dim_value") else symbol(dim.dim_param or f"{id(proto)}_{axis}")
        kept = prefix is None or axis - len(proto.tensor_type.shape.dim) in fixed
        dims.append(size if kept else symbol(f"{prefix}_{axis}"))
    return TensorType(tuple(dims), element_type(proto.tensor_type.elem_type))


def proto_of_type(type_: Type) -> onnx.TypeProto:
    if not isinstance(type_, TensorType):
        return helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    from stepwell.ir.types import numpy_dtype

    number = helper.np_dtype_to_tensor_dtype(numpy_dtype(type_))
    return helper.make_tensor_type_proto(number, [d if isinstance(d, int) else str(d) for d in type_.shape])


@attrs.define(eq=False)
class Scope:
    """The values that nodes of a graph may name."""

    block: Block
    versions: dict[str, int]
    values: dict[str, Value] = attrs.Factory(dict)
    outer: Scope | None = None

    def find(self, name: str) -> Value:
        if name in self.values:
            return self.values[name]
        if self.outer is None:
            raise ModelError(f"{name!r} is not defined")
        return self.outer.find(name)

    def import_graph(self, graph: onnx.GraphProto) -> list[Value]:
        for initializer in graph.initializer:
            array = numpy_helper.to_array(initializer)
            op = ConstantOp(value=elements(array))
            self.block.append(op)
            self.values[initializer.name] = op.result
        for proto in graph.node:
            made = self.import_node(proto)
            for name, value in zip(proto.output, made, strict=False):
                if name and value is not None:
                    value.name = value.name or name
                    self.values[name] = value
        return [self.find(output.name) for output in graph.output]

    def import_node(self, proto: onnx.NodeProto) -> Sequence[Value | None]:
        node = HarnessNode(proto, self)
        found = RULES.find(proto.domain, proto.op_type, node.version)
        if found is None:
            return self.reference_node(proto, node.version)
        made = found(node)
        return [made] if isinstance(made, Value) else made

    def reference_node(self, proto: onnx.NodeProto, version: int) -> Sequence[Value]:
        names = [name for name in proto.input if name]
        values = [self.find(name) for name in names]
        schema = onnx.defs.get_schema(proto.op_type, version, proto.domain)
        types = {name: proto_of_type(value.type) for name, value in zip(names, values, strict=True)}
        inferred = onnx.shape_inference.infer_node_outputs(schema, proto, types)
        NODES.append((proto, version))
        result_types = [type_of_proto(inferred[name]) or OpaqueType("!test.other") for name in proto.output]
        op = OnnxNodeOp(values, index=len(NODES) - 1, result_types=result_types)
        self.block.append(op)
        return op.results


@attrs.frozen(eq=False)
class Subgraph:
    graph: onnx.GraphProto
    outer: Scope

    @property
    def input_types(self) -> list[Type | None]:
        return [type_of_proto(value.type) for value in self.graph.input]

    @property
    def num_outputs(self) -> int:
        return len(self.graph.output)

    def import_into(self, block: Block, arguments: Sequence[Value]) -> list[Value]:
        names = [value.name for value in self.graph.input]
        scope = Scope(block, self.outer.versions, dict(zip(names, arguments, strict=True)), self.outer)
        return scope.import_graph(self.graph)


class HarnessNode:
    """The Node protocol over a NodeProto."""

    def __init__(self, proto: onnx.NodeProto, scope: Scope) -> None:
        self.proto, self.scope = proto, scope
        self.op_type, self.domain = proto.op_type, proto.domain
        self.version = scope.versions[proto.domain]
        self.num_inputs, self.num_outputs = len(proto.input), len(proto.output)
        self.attributes = {a.name: a for a in proto.attribute}

    def has_input(self, index: int) -> bool:
        return index < len(self.proto.input) and bool(self.proto.input[index])

    def has_output(self, index: int) -> bool:
        return index < len(self.proto.output) and bool(self.proto.output[index])

    def input(self, index: int) -> Value:
        if not self.has_input(index):
            raise ModelError(f"input {index} is absent")
        return self.scope.find(self.proto.input[index])

    def optional(self, index: int) -> Value | None:
        return self.input(index) if self.has_input(index) else None

    def inputs(self) -> list[Value]:
        return [self.input(index) for index in range(self.num_inputs)]

    def constant_input(self, index: int) -> Any:
        op = self.input(index).defining_op if self.has_input(index) else None
        return op.value.numpy() if isinstance(op, ConstantOp) else None

    def has(self, name: str) -> bool:
        return name in self.attributes

    def _get(self, name: str, default: Any) -> Any:
        if name not in self.attributes:
            if default is None:
                raise ModelError(f"lacks its attribute {name!r}")
            return default
        value = helper.get_attribute_value(self.attributes[name])
        return value.decode() if isinstance(value, bytes) else value

    int = float = string = lambda self, name, default=None: self._get(name, default)

    def ints(self, name: str, default: Any = None) -> Any:
        return list(self._get(name, default))

    floats = ints

    def strings(self, name: str, default: Any = None) -> Any:
        return [v.decode() if isinstance(v, bytes) else v for v in self._get(name, default)]

    def tensor(self, name: str) -> Any:
        return numpy_helper.to_array(self._get(name, None))

    def element_type(self, name: str, default: Type | None = None) -> Type:
        return element_type(self._get(name, None)) if self.has(name) or default is None else default

    def subgraph(self, name: str) -> Subgraph:
        return Subgraph(self._get(name, None), self.scope)

    def insert(self, op: Any) -> Any:
        self.scope.block.append(op)
        return op

    def constant(self, array: Any, name: str = "") -> Value:
        return self.insert(ConstantOp(value=elements(np.asarray(array)))).result

    def unsupported(self, reason: str, advice: str = "") -> Unsupported:
        return Unsupported(reason, advice)


def import_model(model: onnx.ModelProto, symbolic: Sequence[str] = (), fixed: Sequence[int] = ()) -> FuncOp:
    """The function of a model; inputs named in `symbolic` get dims that are symbols of their own, but for the `fixed`
    axes, counted from the back."""
    inputs = {value.name: value for value in model.graph.input}
    types = []
    for name, value in inputs.items():
        found = type_of_proto(value.type, name if name in symbolic else None, fixed)
        assert found is not None
        types.append(found)
    function = FuncOp.declare("main", types, [])
    for argument, name in zip(function.arguments, inputs, strict=True):
        argument.name = name
    versions = {item.domain: item.version for item in model.opset_import}
    scope = Scope(function.entry, versions, dict(zip(inputs, function.arguments, strict=True)))
    function.entry.append(ReturnOp(scope.import_graph(model.graph)))
    function.update_type()
    verify(function)
    return function


def run(function: FuncOp, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Interpret an imported function and check its result types against the arrays."""
    made = run_function(function, inputs)
    for value, array in zip(function.returned, made, strict=True):
        if isinstance(value.type, TensorType):
            assert np.asarray(array).dtype == np.dtype(object) or type_of_dtype(
                np.asarray(array).dtype
            ) is value.type.element, value.type
            assert len(value.type.shape) == np.ndim(array), value.type
            for dim, size in zip(value.type.shape, np.shape(array), strict=True):
                assert not isinstance(dim, int) or dim == size, (value.type, np.shape(array))
    return made


def check_sizes(function: FuncOp, inputs: Sequence[Any], made: Sequence[Any]) -> None:
    """The result types' symbolic dims, at the inputs' sizes, are the sizes of the results."""
    terminator = function.entry.terminator
    for value, array in zip(function.returned, made, strict=True):
        frame = _ArgumentFrame(dict(zip(function.arguments, inputs, strict=True)))
        assert run_time_shape(terminator, frame, made, value.type) == np.shape(array), value.type


@attrs.frozen
class _ArgumentFrame:
    values: dict[Value, Any]
    state: dict[str, Any] = attrs.Factory(dict)

    def get(self, value: Value) -> Any:
        return self.values[value]


@functools.cache
def node_cases(op_type: str) -> list[Any]:
    """The onnx package's node cases whose model is the one node of an operator."""
    return [case for case in _all_cases() if any(n.op_type == op_type for n in case.model.graph.node)
            and "_expanded" not in case.name]  # fmt: skip


@functools.cache
def _all_cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        return list(collect_testcases(None))


def cases_of(*op_types: str) -> dict[str, Any]:
    return {case.name: case for op_type in op_types for case in node_cases(op_type)}


def data_sets(case: Any) -> list[tuple[list[Any], list[Any]]]:
    """(inputs, expected outputs) of a case as arrays."""
    return [([_array(x) for x in inputs], [_array(y) for y in outputs]) for inputs, outputs in case.data_sets]


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def assert_matches(made: Any, expected: Any, rtol: float = 1e-3, atol: float = 1e-6) -> None:
    """Equal shapes and element types, values within tolerance; lists item by item."""
    if isinstance(expected, (list, tuple)):
        assert len(made) == len(expected)
        for one, other in zip(made, expected, strict=True):
            assert_matches(one, other, rtol, atol)
        return
    if expected is None:
        assert made is None
        return
    expected, made = np.asarray(expected), np.asarray(made)
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "fV" and expected.dtype != object:
        rtol = rtol if expected.dtype.name != "bfloat16" else 2**-6
        made, expected = made.astype(np.float64), expected.astype(np.float64)
        np.testing.assert_allclose(made, expected, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(made, expected)


assert stepwell.frontends.onnx.rules
