"""What an import rule works with: a node of the model, its inputs as IR values, its attributes checked, its subgraphs.

`ImportNode` implements `registry.Node`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from onnx import AttributeProto

from stepwell.dialects.graph.base import ConstantOp, content
from stepwell.errors import ModelError, StepwellError, UnknownError
from stepwell.frontends.onnx.constants import constant_of
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS, element_type, text
from stepwell.frontends.onnx.maps import Pairs, Rows
from stepwell.frontends.onnx.registry import Array, Unsupported
from stepwell.frontends.onnx.schema import attribute_type_name, default_of
from stepwell.frontends.onnx.structure import Graph, NodeInfo
from stepwell.ir.attributes import elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, Operation, OpT, Region, Value
from stepwell.ir.location import Location
from stepwell.ir.types import Type
from stepwell.ir.verifier import verify


class FollowUp(ModelError):
    """A node fails only because another one did: nothing to report."""


class Services(Protocol):
    """What a node needs of the importer."""

    def load(self, tensor: Any) -> Array:
        """A TensorProto or SparseTensorProto as an array."""

    def blob_name(self, hint: str) -> str:
        """A name for a blob that no other has."""

    def is_tainted(self, value: Value) -> bool:
        """Whether a value stands for, or depends on, what could not be imported."""

    def port_types(self, graph: Graph) -> list[Type | None]:
        """The types that a subgraph declares for its inputs; None where it declares none."""


_SCALARS = (AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING)

ImportGraph = Callable[[Graph, Block, Sequence[Value]], "list[Value]"]


class SubGraph:
    """A graph attribute. Values of the graphs around it are visible inside.

    `input_types` are the declared types of its inputs (None: not declared), `num_outputs` the number of its outputs."""

    def __init__(self, graph: Graph, services: Services, import_graph: ImportGraph, here: Block) -> None:
        self.input_types: list[Type | None] = services.port_types(graph)
        self.num_outputs = len(graph.outputs)
        self.input_names = [port.name for port in graph.inputs]
        self._graph = graph
        self._import = import_graph
        self._here = here

    def import_into(self, block: Block, arguments: Sequence[Value]) -> list[Value]:
        """Import the graph at the end of a block, with these values as its inputs; returns the values of its outputs,
        which may be defined outside the block. May be called again for another block. Raises ModelError."""
        if len(arguments) != len(self.input_types):
            raise ModelError(f"a subgraph of {len(self.input_types)} inputs is given {len(arguments)}")
        return self._import(self._graph, block, arguments)

    def import_here(self, arguments: Sequence[Value]) -> list[Value]:
        """Import the graph where the node itself stands, as often as called. Raises ModelError."""
        return self.import_into(self._here, arguments)


class ImportNode:
    """A node at one place of the IR; see `registry.Node` for the members that rules use."""

    def __init__(
        self,
        info: NodeInfo,
        version: int,
        attributes: Mapping[str, Any],
        inputs: Sequence[Value | Pairs | Rows | None],
        builder: Builder,
        loc: Location,
        services: Services,
        import_graph: ImportGraph,
        lookup: Callable[[str], Any] | None = None,
    ) -> None:
        self.op_type = info.op_type
        self.domain = info.domain
        self.version = version
        self.num_inputs = len(inputs)
        self.num_outputs = len(info.outputs)
        self.asked_tainted = False  # a decision was made on the contents of a value that is not known only by failure
        self._info = info
        self._attributes = attributes
        self._inputs = inputs
        self._builder = builder
        self._loc = loc
        self._services = services
        self._import_graph = import_graph
        self._lookup = lookup

    # Inputs and outputs

    @property
    def input_types(self) -> list[Type | None]:
        """The types of the inputs as written; None for what is absent, or a map."""
        return [found.type if isinstance(found, Value) else None for found in self._inputs]

    def has_input(self, index: int) -> bool:
        """Whether an optional input is present."""
        return 0 <= index < len(self._inputs) and self._inputs[index] is not None

    def has_output(self, index: int) -> bool:
        """Whether an optional output is asked for."""
        return 0 <= index < self.num_outputs and self._info.outputs[index] != ""

    def input(self, index: int) -> Value:
        """An input; raises ModelError where it is absent."""
        value = self.optional(index)
        if value is None:
            raise ModelError(f"its input {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        """An input that may be absent."""
        found = self._inputs[index] if self.has_input(index) else None
        if isinstance(found, Rows):
            raise Unsupported(f"its input {index} is a list of maps, which can only be an output of the model")
        if isinstance(found, Pairs):
            raise Unsupported(f"its input {index} is a map, which only DictVectorizer and CastMap take")
        return found

    def pairs(self, index: builtins.int) -> Pairs:
        """An input that is a map; raises Unsupported where it is none."""
        found = self._inputs[index] if self.has_input(index) else None
        if not isinstance(found, Pairs):
            raise Unsupported(f"its input {index} is no map", "The model is malformed.")
        return found

    def inputs(self) -> list[Value]:
        """All inputs; raises ModelError where one is absent."""
        return [self.input(index) for index in range(self.num_inputs)]

    def value_of(self, name: str) -> Value:
        """A value of the graph that the node stands in, by its ONNX name; raises ModelError where there is none."""
        found = None if self._lookup is None else self._lookup(name)
        if not isinstance(found, Value):
            raise FollowUp(f"the value {name!r} could not be imported")
        return found

    def constant_input(self, index: int) -> Array | None:
        """The array of a present input known at import time; None where it is absent or not constant."""
        value = self.optional(index)
        if value is None:
            return None
        array = constant_of(value)
        if array is None and self._services.is_tainted(value):
            self.asked_tainted = True
        return array

    # Attributes: where one is not given, the schema of the node's version says what it is, then the rule

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self._attributes

    def int(self, name: str, default: builtins.int | None = None) -> builtins.int:
        """An integer attribute."""
        return int(self._get(name, AttributeProto.INT, default, lambda a: a.i))

    def float(self, name: str, default: builtins.float | None = None) -> builtins.float:
        """A float attribute: a number of f32, its default too."""
        found = self._get(name, AttributeProto.FLOAT, default, lambda a: a.f)
        return float(np.float32(found))

    def string(self, name: str, default: str | None = None) -> str:
        """A string attribute."""
        return str(self._get(name, AttributeProto.STRING, default, lambda a: text(a.s)))

    def ints(self, name: str, default: Sequence[builtins.int] | None = None) -> list[builtins.int]:
        """A list of integers."""
        return list(self._get(name, AttributeProto.INTS, default, lambda a: a.ints))

    def floats(self, name: str, default: Sequence[builtins.float] | None = None) -> list[builtins.float]:
        """A list of floats."""
        return list(self._get(name, AttributeProto.FLOATS, default, lambda a: a.floats))

    def strings(self, name: str, default: Sequence[str] | None = None) -> list[str]:
        """A list of strings."""
        return list(self._get(name, AttributeProto.STRINGS, default, lambda a: [text(item) for item in a.strings]))

    def tensor(self, name: str) -> Array:
        """A tensor attribute, a sparse one as its dense elements."""
        given = self._attributes.get(name)
        if given is not None and given.type == AttributeProto.SPARSE_TENSOR:
            return self._services.load(given.sparse_tensor)
        found: Array = self._get(name, AttributeProto.TENSOR, None, lambda a: self._services.load(a.t))
        return found

    def element_type(self, name: str, default: Type | None = None) -> Type:
        """An attribute that holds a TensorProto element type number, as a graph-level type."""
        number = None if default is None else ELEMENT_NUMBERS.get(default, 0)
        return element_type(self.int(name, number))

    def type_proto(self, name: str) -> Any:
        """A type attribute, as a TypeProto."""
        return self._get(name, AttributeProto.TYPE_PROTO, None, lambda a: a.tp)

    def subgraph(self, name: str) -> SubGraph:
        """A graph attribute."""
        self._get(name, AttributeProto.GRAPH, None, lambda a: a.g)
        return SubGraph(self._info.graphs[name], self._services, self._import_graph, self._builder.block)

    def _get(self, name: str, number: builtins.int, default: Any, read: Callable[[Any], Any]) -> Any:
        given = self._attributes.get(name)
        if given is None:
            declared = default_of(self.domain, self.op_type, self.version, name)
            # Lists by default are as long as one case wants them: two activations, for an RNN of both directions.
            given = declared if default is None or number in _SCALARS else None
            if given is None and default is not None:
                return default
            if given is None:
                raise ModelError(f"it lacks its attribute {name!r}")
        if given.type != number:
            wanted = attribute_type_name(number)
            raise ModelError(f"its attribute {name!r} is of type {attribute_type_name(given.type)}, not {wanted}")
        return read(given)

    # Building

    def insert(self, op: OpT) -> OpT:
        """Put a graph op at the insertion point with the node's location. Raises VerifyError where it is not valid."""
        op.loc = self._loc
        try:
            _verify_alone(op)
        except StepwellError:
            op.drop_all_references()
            raise
        self._builder.insert(op)
        for result in op.results:
            content(result)  # known in order, so that asking later does not recurse along the whole model
        return op

    def constant(self, array: Any, name: str = "") -> Value:
        """A constant of an array (its NumPy dtype decides the element type)."""
        array = np.asarray(array)
        blob = self._services.blob_name(name or self._loc.label)
        return self.insert(ConstantOp(value=elements(array, None, blob))).results[0]

    def unsupported(self, reason: str, advice: str = "", unknown: UnknownError | None = None) -> Unsupported:
        """The error to raise for a case that is not supported; `unknown` is what is not known yet."""
        return Unsupported(reason, advice, unknown)


def _verify_alone(op: Operation) -> None:
    """Check an op in a block of its own: in the real one each check would number all operations before it anew, and the
    block may be in no region yet. That its operands are visible follows from the order of the nodes."""
    place = Region([Block([], [op])])
    try:
        verify(op)
    finally:
        op.detach()
        place.blocks.clear()
