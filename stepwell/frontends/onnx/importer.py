"""From a loaded model to a module of the graph landing: one function @main, each node turned into ops by its rule.

    module = import_model("model.onnx", shapes={"batch": 1})

A node is imported by, in this order: the model's own function of that name, inlined; the rule for its operator and
opset version; the function that the operator's schema gives. A node for which all of this fails is reported, stands in
the IR as a placeholder so that the nodes behind it can be looked at too, and makes the import fail in the end: a report
names all that is wrong with a model at once. Values that depend on a placeholder are tainted; what fails on them is no
news."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from onnx import TensorShapeProto

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.graph.sequence import OptionalGetElementOp
from stepwell.dialects.sequence_types import MapType, OptionalType
from stepwell.errors import ModelError, StepwellError
from stepwell.frontends.onnx import names, schema
from stepwell.frontends.onnx import rules as _rules  # registers the rules
from stepwell.frontends.onnx.declared import fits, fresh_dims, plain_dims
from stepwell.frontends.onnx.element_types import Port, Unranked, shown, text, value_type
from stepwell.frontends.onnx.failures import RULE_FAULTS, check_importable, placeholders, problem_of
from stepwell.frontends.onnx.fitting import check_node, check_results
from stepwell.frontends.onnx.input_shapes import Shapes, input_types, symbol_prefix
from stepwell.frontends.onnx.maps import Keys, Pairs, Rows, described_parts, described_rows
from stepwell.frontends.onnx.model import Model, load_model
from stepwell.frontends.onnx.needs import Needs
from stepwell.frontends.onnx.node import FollowUp, ImportNode
from stepwell.frontends.onnx.registry import RULES, Array, RuleTable, Unsupported
from stepwell.frontends.onnx.report import Problem, Report
from stepwell.frontends.onnx.scope import POISON, Poison, Scope, Slot, resolved_attributes
from stepwell.frontends.onnx.structure import (
    Function,
    FunctionKey,
    Graph,
    NodeInfo,
    Structure,
    read_function,
    read_structure,
)
from stepwell.ir.attributes import DictAttr, ElementsAttr, StringAttr, elements
from stepwell.ir.builder import Builder
from stepwell.ir.core import Block, OpResult, Value
from stepwell.ir.dims import free_symbols
from stepwell.ir.location import NameLoc
from stepwell.ir.types import TensorType, Type

assert _rules

MAX_NODES = 1 << 18  # nodes imported in all, functions inlined: small functions that call each other can mean billions
MAX_DEPTH = 40  # subgraphs and functions inside each other


def import_model(
    source: Any,
    *,
    shapes: Shapes | None = None,
    folder: str | os.PathLike[str] | None = None,
    as_inputs: Collection[str] = (),
    rules: RuleTable = RULES,
    values: Mapping[str, Array] | None = None,
) -> ModuleOp:
    """Import a model (see `load_model` for what `source` may be) as a module with a function @main.

    Its arguments are the graph's inputs; inputs that have an initializer are constants, except those named in
    `as_inputs`; inputs in `values` are constants of these arrays.
    `shapes` fixes dims: symbol -> size, or name of an input -> its shape. Raises ModelError; where the
    model parses, its subclass ImportFailed, which lists everything that is wrong."""
    module, report = _import(load_model(source, folder=folder), shapes, as_inputs, rules, values or {})
    report.check()
    return module


def unsupported_report(
    source: Any,
    *,
    shapes: Shapes | None = None,
    folder: str | os.PathLike[str] | None = None,
    as_inputs: Collection[str] = (),
    rules: RuleTable = RULES,
) -> list[Problem]:
    """Everything that keeps a model from being imported; empty where nothing does. Parameters as in `import_model`.

    Raises ModelError for a model that cannot be loaded at all."""
    return _import(load_model(source, folder=folder), shapes, as_inputs, rules, {})[1].problems


def _import(
    model: Model, shapes: Shapes | None, as_inputs: Collection[str], table: RuleTable, values: Mapping[str, Array]
) -> tuple[ModuleOp, Report]:
    report = Report(model.label)
    structure = read_structure(model, report)
    module = ModuleOp.empty(names.hint(structure.graph.name) if structure.graph.name else None)
    if not len(report):
        try:
            _Importer(model, structure, table, report).run(module, shapes, as_inputs, values)
        except FollowUp:
            assert len(report)
    return module, report


class _Importer:
    """The state of one import; also the `Services` of its nodes."""

    def __init__(self, model: Model, structure: Structure, table: RuleTable, report: Report) -> None:
        self.model = model
        self.graph = structure.graph
        self.functions: Mapping[FunctionKey, Function] = structure.functions
        self.table = table
        self.report = report
        self.loc = NameLoc(model.label)
        self.aliases: dict[str, str] = {}
        self._tainted: set[Value] = set()
        self._named: set[str] = set()
        self._keys: dict[str, Keys] = {}  # of outputs that are lists of maps
        self._blob_names: set[str] = set()
        self._constants: dict[int, tuple[Any, ElementsAttr]] = {}  # id of a TensorProto -> itself, its elements
        self._schema_functions: dict[tuple[str, str, int], Function] = {}
        self._symbols: set[str] = set()  # those of unnamed dims, so that none means two things
        self._nodes = 0
        self._depth = 0

    # The whole model

    def run(
        self, module: ModuleOp, shapes: Shapes | None, as_inputs: Collection[str], values: Mapping[str, Array]
    ) -> None:
        """Fill the module."""
        graph = self.graph
        for name in as_inputs:
            if name not in {port.name for port in graph.inputs}:
                raise ModelError(f"as_inputs={name!r}: the graph of {self.model.label} has no input of this name")
        inputs = [port for port in graph.inputs if port.name not in graph.initializers or port.name in as_inputs]
        inputs = [port for port in inputs if port.name not in values]
        self.function = function = FuncOp.declare("main", [])
        function.loc = self.loc
        module.block.append(function)
        scope = Scope(Builder.at_end(function.entry), self.model.opsets, value_types=graph.value_types)
        self._arguments(function, scope, inputs, shapes)
        self._initializers(graph, scope, skipped={port.name for port in inputs} | values.keys())
        for name, array in values.items():
            self._constant(scope, name, elements(array, None, self.blob_name(name)))
        self._check_defaults(scope, [port for port in graph.inputs if port not in inputs])
        self._import_nodes(graph.nodes, scope)
        returned = [self._output(port, scope) for port in graph.outputs]
        if not returned:
            self._complain("model", self.model.label, "its graph has no output, so there is nothing to compute")
        if not len(self.report):
            self._finish(module, function, [v for v in returned if v is not None])

    def _complain(
        self, kind: str, name: str, reason: str, advice: str = "", cause: Exception | None = None,
        needs: Needs | None = None,
    ) -> None:  # fmt: skip
        self.report.add(Problem(kind, name, reason, advice, cause=cause, needs=needs))

    def _arguments(self, function: FuncOp, scope: Scope, inputs: Sequence[Port], shapes: Shapes | None) -> None:
        types = input_types(inputs, shapes)
        given = []
        for port in inputs:
            type_ = types[port.name]
            if isinstance(type_, Unsupported):
                advice, needs = type_.advice.replace("NAME", port.name), None
                if isinstance(type_, Unranked):
                    advice += "; or stepwell.compile does so when the model is called"
                    needs = Needs(ranks=frozenset({port.name}))
                    self.report.inputs.append((port.name, type_))
                self._complain("input", port.name, type_.reason, advice, type_, needs)
                scope.values[port.name] = POISON
                continue
            if isinstance(type_, MapType):
                scope.values[port.name] = self._map(function, port, type_)
                given += described_parts(port.name, type_)
                continue
            scope.values[port.name] = function.entry.add_argument(type_, names.hint(port.name))
            if isinstance(type_, TensorType):
                self._symbols.update(name for dim in type_.shape for name in free_symbols(dim))
            self._named.add(port.name)
            self.report.inputs.append((port.name, type_))
            given.append(names.named(port.name))
        function.arg_attrs = given or None

    def _map(self, function: FuncOp, port: Port, type_: MapType) -> Pairs:
        """The arguments for a map, whose number of keys is a symbol."""
        self.report.inputs.append((port.name, type_))
        (count,) = fresh_dims(symbol_prefix(port.name), self._symbols)(TensorShapeProto(dim=[{}]))
        parts = [function.entry.add_argument(TensorType((count,), element), f"{names.hint(port.name)}_{part}")
                 for part, element in (("keys", type_.key), ("values", type_.value))]  # fmt: skip
        return Pairs(*parts)

    def _initializers(self, graph: Graph, scope: Scope, skipped: Collection[str]) -> None:
        for name, tensor in graph.initializers.items():
            if name in skipped:
                continue
            try:
                attribute = self._elements(tensor, name, graph.embedded.get(name))
            except StepwellError as error:
                advice = error.advice if isinstance(error, Unsupported) else ""
                self._complain("initializer", name, str(error), advice, error)
                scope.values[name] = POISON
                continue
            self._constant(scope, name, attribute)

    def _constant(self, scope: Scope, name: str, attribute: ElementsAttr) -> None:
        constant = scope.builder.insert(ConstantOp(value=attribute, loc=NameLoc(scope.prefix + name)))
        scope.values[name] = self._bind(scope, name, constant.results[0])

    def _elements(self, tensor: Any, name: str, index: int | None) -> ElementsAttr:
        if id(tensor) not in self._constants:
            array = self.load(tensor) if index is None else self.model.weights.array(tensor, index)
            self._constants[id(tensor)] = tensor, elements(array, None, self.blob_name(name))
        return self._constants[id(tensor)][1]

    def _check_defaults(self, scope: Scope, ports: Sequence[Port]) -> None:
        """An input that has an initializer declares the initializer's type."""
        for port in ports:
            value = scope.values.get(port.name)
            declared = self._declared(port)
            if isinstance(value, Value) and declared is not None and not fits(declared, value.type):
                reason = f"it is declared as {shown(declared)}, and its initializer is {shown(value.type)}"
                self._complain("input", port.name, reason, "the model contradicts itself: export it again")

    def _output(self, port: Port, scope: Scope) -> Value | None:
        value = scope.lookup(port.name)
        if isinstance(value, Pairs):
            self._complain("output", port.name, "a map that comes in cannot leave", "leave the output out")
        if isinstance(value, Rows):
            self._keys[port.name] = value.keys
            return value.value
        if not isinstance(value, Value):
            return None
        declared = self._declared(port)
        if isinstance(value.type, OptionalType) and declared is not None and not isinstance(declared, OptionalType):
            value = scope.builder.insert(OptionalGetElementOp(value)).result
        if declared is None or self.is_tainted(value) or fits(declared, value.type, sizes=False):
            return value
        reason = f"it is declared as {shown(declared)}, and its nodes compute {shown(value.type)}"
        self._complain("output", port.name, reason, "the model contradicts itself: export it again")
        return None

    def _declared(self, port: Port) -> Type | None:
        """What a model says about a value; None where it says nothing that can be compared."""
        try:
            return value_type(port.proto, plain_dims)
        except Unsupported:
            return None

    def _finish(self, module: ModuleOp, function: FuncOp, returned: Sequence[Value]) -> None:
        function.entry.append(ReturnOp(returned, loc=self.loc))
        function.update_type()
        function.res_attrs = [
            described_rows(port.name, self._keys[port.name]) if port.name in self._keys else names.named(port.name)
            for port in self.graph.outputs
        ]
        for op in list(function.walk_of(ConstantOp)):
            if not op.results[0].has_uses:
                op.erase()
        kept = {name for name, _ in names.named_values(function)}
        aliases = {name: StringAttr(other) for name, other in self.aliases.items() if other in kept}
        if aliases:
            function.attributes[names.ALIASES] = DictAttr.of(aliases)
        proto = self.model.proto
        metadata = {text(entry.key): StringAttr(text(entry.value)) for entry in proto.metadata_props}
        if metadata:
            module.attributes[names.METADATA] = DictAttr.of(metadata)
        producer = " ".join(filter(None, (text(proto.producer_name), text(proto.producer_version))))
        if producer:
            module.attributes[names.PRODUCER] = StringAttr(producer)

    # Nodes

    def _import_nodes(self, nodes: Sequence[NodeInfo], scope: Scope) -> None:
        for node in nodes:
            self._nodes += 1
            if self._nodes > MAX_NODES:
                reason = f"with its functions inlined it has more than {MAX_NODES} nodes"
                self._complain("model", self.model.label, reason, "split it into several models")
                raise FollowUp(reason)
            self._import_node(node, scope)

    def _import_node(self, node: NodeInfo, scope: Scope) -> None:
        before = len(self.report)
        version = scope.opsets.get(node.domain, 0)
        inputs: list[Slot] = [scope.lookup(name) if name else None for name in node.inputs]
        bad = any(map(self._is_bad, (*inputs, *map(scope.lookup, node.captured))))
        attributes: Mapping[str, Any] = {}
        view: ImportNode | None = None
        results: list[Slot] | None = None
        try:
            attributes = resolved_attributes(node, scope)
            if node.function_key not in self.functions:
                check_importable(node, version, self.table)
            if any(slot is POISON for slot in inputs):
                raise FollowUp("an input could not be imported")
            view = self._view(node, version, attributes, inputs, scope)
            results = self._convert(node, version, attributes, view, scope)
        except FollowUp:
            if self._nodes > MAX_NODES:
                raise
        except (StepwellError, *RULE_FAULTS) as error:
            # What goes wrong on values that stand for failed nodes is news only where the rule says so in its own
            # words, without having asked for their contents.
            told = view is None or (isinstance(error, Unsupported) and not view.asked_tainted)
            if told or not bad:
                self.report.add(problem_of(node, version, inputs, scope.prefix, error, self.function))
        if results is None:
            results = placeholders(node, version, attributes, inputs, scope)
        if bad or len(self.report) > before or view is None:
            self._tainted.update(result for result in results if isinstance(result, Value))
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                scope.values[name] = self._bind(scope, name, result) if isinstance(result, Value) else result or POISON

    def _view(
        self, node: NodeInfo, version: int, attributes: Mapping[str, Any], inputs: Sequence[Slot], scope: Scope
    ) -> ImportNode:
        given = [slot if isinstance(slot, (Value, Pairs, Rows)) else None for slot in inputs]
        while given and given[-1] is None:
            given.pop()

        def import_graph(graph: Graph, block: Block, arguments: Sequence[Value]) -> list[Value]:
            return self._subgraph(graph, block, arguments, scope)

        loc = NameLoc(scope.prefix + node.label)
        return ImportNode(node, version, attributes, given, scope.builder, loc, self, import_graph, scope.lookup)

    def _convert(
        self, node: NodeInfo, version: int, attributes: Mapping[str, Any], view: ImportNode, scope: Scope
    ) -> list[Slot]:
        def inputs() -> list[Value | None]:
            return [view.optional(index) for index in range(len(node.inputs))]

        function = self.functions.get(node.function_key)
        if function is not None:
            return self._inline(node, function, {**function.defaults, **attributes}, inputs(), scope)
        check_node(node, version, attributes, view.input_types)
        rule = self.table.find(node.domain, node.op_type, version)
        if rule is None:
            return self._expand(node, version, attributes, inputs(), scope)
        made = rule(view)
        results: list[Slot] = [made] if isinstance(made, (Value, Rows)) else list(made)
        for index, name in enumerate(node.outputs):
            if name and (index >= len(results) or results[index] is None):
                raise Unsupported(f"its output {index} ({name!r}) is not supported", "remove what uses it")
        check_results(node, version, view.input_types, [_type_of(slot) for slot in results[: len(node.outputs)]])
        return results

    def _is_bad(self, slot: Slot) -> bool:
        if isinstance(slot, Rows):
            slot = slot.value
        return isinstance(slot, Poison) or (isinstance(slot, Value) and self.is_tainted(slot))

    def _bind(self, scope: Scope, name: str, value: Value) -> Value:
        """Give a value its ONNX name, or make the name an alias where the value has one."""
        full = scope.prefix + name
        if name in scope.unnamed:
            return value
        if value.name is None:
            value.name = names.hint(name)
        if full in self._named or self.is_tainted(value):
            return value
        self._named.add(full)
        other = names.name_of(value)
        if other:
            self.aliases[full] = other
        elif isinstance(value, OpResult):
            names.set_name(value, full)
        return value

    # Graphs and functions inside

    @contextmanager
    def _nested(self) -> Iterator[None]:
        if self._depth >= MAX_DEPTH:
            raise ModelError(f"graphs and functions are nested more than {MAX_DEPTH} deep")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def _subgraph(self, graph: Graph, block: Block, arguments: Sequence[Value], outer: Scope) -> list[Value]:
        scope = Scope(
            Builder.at_end(block), outer.opsets, outer, outer.attributes, outer.prefix, value_types=graph.value_types
        )
        for port, argument in zip(graph.inputs, arguments, strict=True):
            scope.values[port.name] = argument
            if argument.name is None:
                argument.name = names.hint(port.name)
        with self._nested():
            self._initializers(graph, scope, {port.name for port in graph.inputs})
            self._import_nodes(graph.nodes, scope)
        results = [scope.lookup(port.name) for port in graph.outputs]
        found = [result for result in results if isinstance(result, Value)]
        if any(isinstance(result, (Pairs, Rows)) for result in results):
            raise Unsupported("a map leaves a subgraph", "only the whole model can give maps")
        if len(found) < len(results):
            raise FollowUp("an output of a subgraph could not be imported")
        return found

    def _inline(
        self, node: NodeInfo, function: Function, attributes: Mapping[str, Any],
        inputs: Sequence[Value | None], outer: Scope,
    ) -> list[Slot]:  # fmt: skip
        if len(inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
            raise ModelError(
                f"it has {len(inputs)} inputs and {len(node.outputs)} outputs, and the function "
                f"{function.name or node.op_type} has {len(function.inputs)} and {len(function.outputs)}"
            )
        given = {name: attributes[name] for name in function.attributes if name in attributes}
        prefix = f"{outer.prefix}{node.label}/"
        scope = Scope(outer.builder, function.opsets, None, given, prefix, unnamed=frozenset(function.outputs))
        padded = [*inputs, *[None] * (len(function.inputs) - len(inputs))]
        scope.values.update(zip(function.inputs, padded, strict=True))
        with self._nested():
            self._import_nodes(function.nodes, scope)
        return [scope.lookup(inner) if name else None
                for inner, name in zip(function.outputs, node.outputs, strict=False)]  # fmt: skip

    def _expand(
        self, node: NodeInfo, version: int, attributes: Mapping[str, Any],
        inputs: Sequence[Value | None], scope: Scope,
    ) -> list[Slot]:  # fmt: skip
        """Import a node by the definition that its schema gives; what is wrong with that is wrong with the node.

        A definition may hold nodes of the model's own (FlexAttention's does), and of domains that it does not name:
        these are read as those of the model."""
        outer, self.report = self.report, Report(self.report.label)
        try:
            function = self._schema_function(node, version, attributes, inputs)
            given = schema.function_attributes(node, version, attributes)
            function = attrs.evolve(function, opsets={**scope.opsets, **function.opsets})
            results = self._inline(node, function, given, inputs, scope)
            problems = self.report.problems
        finally:
            self.report = outer
        if problems:
            needed = ", ".join(sorted({problem.op or problem.name for problem in problems}))
            reason = f"it has no import rule, and its definition needs {needed}: {problems[0].reason}"
            raise Unsupported(reason, "write a rule for it, or express the node by other operators")
        return results

    def _schema_function(
        self, node: NodeInfo, version: int, attributes: Mapping[str, Any], inputs: Sequence[Value | None]
    ) -> Function:
        key = (node.domain, node.op_type, version)
        if key in self._schema_functions:
            return self._schema_functions[key]
        types = [value.type if value is not None else None for value in inputs]
        proto = schema.function_body(node, version, attributes, types)
        if proto is None:
            raise Unsupported("it has no import rule for these types", "write one, or express it by other operators")
        function = read_function(proto, self.report)
        if not schema.is_context_dependent(node, version):
            self._schema_functions[key] = function
        return function

    # Services for nodes

    def load(self, tensor: Any) -> Array:
        """A TensorProto or SparseTensorProto as an array."""
        weights = self.model.weights
        return weights.sparse_array(tensor) if hasattr(tensor, "indices") else weights.array(tensor)

    def blob_name(self, hint: str) -> str:
        """A name for a blob that no other has, made of letters, digits and underscores."""
        base = name = names.hint(hint).translate(str.maketrans(".-$", "___"))
        count = 0
        while name in self._blob_names:
            count += 1
            name = f"{base}_{count}"
        self._blob_names.add(name)
        return name

    def is_tainted(self, value: Value) -> bool:
        """Whether a value stands for, or depends on, what could not be imported."""
        return value in self._tainted

    def port_types(self, graph: Graph) -> list[Type | None]:
        """The types that a subgraph declares for its inputs; None where it declares none."""
        found: list[Type | None] = []
        for port in graph.inputs:
            dims = fresh_dims(symbol_prefix(port.name), self._symbols)
            try:
                found.append(value_type(port.proto, dims))
            except Unsupported:
                found.append(None)
        return found


def _type_of(slot: Slot) -> Type | None:
    return slot.type if isinstance(slot, Value) else None
