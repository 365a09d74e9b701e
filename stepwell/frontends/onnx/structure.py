"""The graphs of a model, checked and in order: what is left to do afterwards is to give each node a meaning.

Holds for a `Graph` made here: every name is defined once, before its use, in its own graph or one around it; nesting is
bounded; no function calls itself."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from onnx import AttributeProto

from stepwell.errors import ModelError
from stepwell.frontends.onnx.element_types import Port, text
from stepwell.frontends.onnx.model import Model, canonical_domain, opset_versions
from stepwell.frontends.onnx.report import Problem, Report

MAX_NESTING = 32  # graphs inside graphs

FunctionKey = tuple[str, str, str]  # domain, name, overload


@attrs.frozen(eq=False)
class NodeInfo:
    """A node with its names read once. `label` is its name, or its operator and place where it has none; `captured` are
    the names that its subgraphs take from the graphs around them."""

    proto: Any
    label: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    graphs: Mapping[str, Graph]
    captured: frozenset[str]

    @property
    def function_key(self) -> FunctionKey:
        """The function that the node would call."""
        return self.domain, self.op_type, text(getattr(self.proto, "overload", ""))

    @property
    def needs(self) -> Iterable[str]:
        """Every name that must be defined before this node."""
        yield from (name for name in self.inputs if name)
        yield from self.captured


@attrs.frozen(eq=False)
class Graph:
    """A graph whose nodes are in an order in which they can be imported."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    initializers: Mapping[str, Any]  # name -> TensorProto or SparseTensorProto
    embedded: Mapping[str, int]  # name of a dense one -> its place, in the main graph: see `Weights`
    nodes: tuple[NodeInfo, ...]
    captured: frozenset[str]
    value_types: Mapping[str, Any]  # name -> TypeProto, as far as the model says


@attrs.frozen(eq=False)
class Function:
    """A function of the model, or the body that an operator's schema gives it; `defaults` are attribute values."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    defaults: Mapping[str, Any]
    nodes: tuple[NodeInfo, ...]
    opsets: Mapping[str, int]
    undefined: frozenset[str]


@attrs.frozen(eq=False)
class Structure:
    """A whole model: its main graph and its functions."""

    graph: Graph
    functions: Mapping[FunctionKey, Function]


def read_structure(model: Model, report: Report) -> Structure:
    """Read and check all graphs. Problems go to the report; the result is sound only where there are none."""
    graph = _Reader(report).graph(model.proto.graph, "graph")
    _complain_undefined(report, graph.captured, graph.nodes)
    functions: dict[FunctionKey, Function] = {}
    for proto in getattr(model.proto, "functions", ()):
        key = (canonical_domain(text(proto.domain)), text(proto.name), text(getattr(proto, "overload", "")))
        if key in functions:
            _complain(report, "function", key[1], f"{key[0] or 'ai.onnx'}.{key[1]} is defined twice")
            continue
        functions[key] = read_function(proto, report)
    for function in functions.values():
        _complain_undefined(report, function.undefined, function.nodes, f" of the function {function.name}")
    _check_recursion(functions, report)
    return Structure(graph, functions)


def read_function(proto: Any, report: Report) -> Function:
    """Read one FunctionProto."""
    name = text(proto.name)
    try:
        opsets = opset_versions(proto.opset_import, f"the function {name}")
    except ModelError as error:
        _complain(report, "function", name, str(error))
        opsets = {}
    inputs = tuple(map(text, proto.input))
    reader = _Reader(report)
    nodes, captured = reader.body(proto.node, inputs, (), f"function {name}", 0)
    return Function(
        name, inputs, tuple(map(text, proto.output)),
        tuple(map(text, proto.attribute)) + tuple(text(a.name) for a in proto.attribute_proto),
        {text(a.name): a for a in proto.attribute_proto}, nodes, opsets, captured,
    )  # fmt: skip


class _Reader:
    def __init__(self, report: Report) -> None:
        self.report = report

    def graph(self, proto: Any, where: str, depth: int = 0) -> Graph:
        inputs = tuple(Port(text(item.name), item.type) for item in proto.input)
        outputs = tuple(Port(text(item.name), item.type) for item in proto.output)
        initializers: dict[str, Any] = {}
        for tensor in (*proto.initializer, *proto.sparse_initializer):
            named = tensor.values if hasattr(tensor, "values") else tensor
            name = text(named.name)
            if name in initializers:
                _complain(self.report, "initializer", name, f"defined twice in the {where}")
            initializers[name] = tensor
        embedded = {text(tensor.name): index for index, tensor in enumerate(proto.initializer)} if depth == 0 else {}
        names = [port.name for port in inputs]
        nodes, captured = self.body(proto.node, names, initializers, where, depth)
        defined = {*names, *initializers, *(name for node in nodes for name in node.outputs)}
        free = captured | {port.name for port in outputs if port.name not in defined}
        types = {text(item.name): item.type for item in (*proto.value_info, *proto.output)}
        return Graph(text(proto.name), inputs, outputs, initializers, embedded, nodes, frozenset(free), types)

    def body(
        self, protos: Sequence[Any], inputs: Sequence[str], constants: Iterable[str], where: str, depth: int
    ) -> tuple[tuple[NodeInfo, ...], frozenset[str]]:
        """The nodes in order, and the names that come from outside."""
        nodes = [self.node(proto, index, depth) for index, proto in enumerate(protos)]
        producers: dict[str, int] = {}
        known = set(inputs)
        for name, count in Counter(inputs).items() if len(known) != len(inputs) else ():
            if count > 1:
                _complain(self.report, "input", name, f"the {where} has {count} inputs of this name")
        known.update(constants)
        for index, node in enumerate(nodes):
            for name in filter(None, node.outputs):
                if name in producers or name in known:
                    self.complain(node, f"its output {name!r} is defined a second time; names must be unique")
                else:
                    producers[name] = index
        captured = frozenset(n for node in nodes for n in node.needs if n not in producers and n not in known)
        return tuple(self.order(nodes, producers)), captured

    def node(self, proto: Any, index: int, depth: int) -> NodeInfo:
        op_type, domain = text(proto.op_type), canonical_domain(text(proto.domain))
        label = text(proto.name) or f"{op_type}_{index}"
        attributes: dict[str, Any] = {}
        graphs: dict[str, Graph] = {}
        for attribute in proto.attribute:
            name = text(attribute.name)
            if name in attributes:
                self._complain_node(label, op_type, domain, f"its attribute {name!r} is given twice")
            attributes[name] = attribute
            if attribute.type != AttributeProto.GRAPH or not attribute.HasField("g"):
                continue
            if depth >= MAX_NESTING:
                self._complain_node(label, op_type, domain, f"graphs are nested more than {MAX_NESTING} deep")
            else:
                graphs[name] = self.graph(attribute.g, f"subgraph {name} of {label}", depth + 1)
        captured = frozenset(free for graph in graphs.values() for free in graph.captured)
        return NodeInfo(
            proto, label, op_type, domain, _trimmed(proto.input), _trimmed(proto.output), attributes, graphs, captured
        )

    def order(self, nodes: list[NodeInfo], producers: Mapping[str, int]) -> Iterator[NodeInfo]:
        """The nodes in their order, except that each comes after those that it needs."""
        needs = [{producers[name] for name in node.needs if name in producers} for node in nodes]
        order, cycle = sort_topologically(needs)
        if cycle:
            path = " -> ".join(nodes[index].label for index in reversed(cycle))
            self.complain(nodes[cycle[0]], f"it needs its own result: {path}")
            return iter(nodes)
        return (nodes[index] for index in order)

    def complain(self, node: NodeInfo, reason: str) -> None:
        self._complain_node(node.label, node.op_type, node.domain, reason)

    def _complain_node(self, label: str, op_type: str, domain: str, reason: str) -> None:
        where = f"{op_type} {label}" if op_type not in label else label
        _complain(self.report, "model", where, reason)


def sort_topologically(needs: Sequence[Collection[int]]) -> tuple[list[int], list[int]]:
    """(the smallest order in which each index comes after those it needs, a cycle that leaves some out).

    Kahn's algorithm. In the cycle each index needs the one behind it, and the first is repeated at the end."""
    waiting = list(map(len, needs))
    users: list[list[int]] = [[] for _ in needs]
    for index, needed in enumerate(needs):
        for other in needed:
            users[other].append(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users[index]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, user)
    left = [index for index, count in enumerate(waiting) if count]
    return order, _cycle(left[0], needs, waiting) if left else []


def _cycle(node: int, needs: Sequence[Collection[int]], waiting: Sequence[int]) -> list[int]:
    path: list[int] = []
    places: dict[int, int] = {}
    while node not in places:
        places[node] = len(path)
        path.append(node)
        node = min(other for other in needs[node] if waiting[other])
    return [*path[places[node] :], node]


def _check_recursion(functions: Mapping[FunctionKey, Function], report: Report) -> None:
    index_of = {key: index for index, key in enumerate(functions)}
    needs = [{index_of[k] for k in _called(function.nodes) if k in index_of} for function in functions.values()]
    _, cycle = sort_topologically(needs)
    if cycle:
        names = [key[1] for key in functions]
        path = " -> ".join(names[index] for index in cycle)
        _complain(report, "function", names[cycle[0]], f"it calls itself: {path}")


def _called(nodes: Iterable[NodeInfo]) -> Iterator[FunctionKey]:
    for node in nodes:
        yield node.function_key
        for graph in node.graphs.values():
            yield from _called(graph.nodes)


def _trimmed(names: Iterable[Any]) -> tuple[str, ...]:
    """The names without absent ones at the end."""
    found = [text(name) for name in names]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _complain_undefined(report: Report, names: Collection[str], nodes: Sequence[NodeInfo], where: str = "") -> None:
    readers: dict[str, str] = {}
    for node in nodes if names else ():
        for name in node.needs:
            readers.setdefault(name, f"node {node.label} reads it")
    for name in sorted(names):
        reason = f"{readers.get(name, 'an output names it')}, and no input, initializer or node defines it"
        advice = "the model is damaged, or an initializer was dropped: export it again"
        _complain(report, "model", f"value {name!r}{where}", reason, advice)


DAMAGED = "the model is damaged: export it again"


def _complain(report: Report, kind: str, name: str, reason: str, advice: str = DAMAGED) -> None:
    report.add(Problem(kind, name, reason, advice))
