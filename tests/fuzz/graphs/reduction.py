"""Shrinks a failing case: fewer outputs and nodes, smaller dims, simpler arrays, while it fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fuzz.graphs.cases import Case, Feeds
from tests.fuzz.graphs.draft import port_of
from tests.fuzz.graphs.oracle import Oracle, Unevaluated, reads
from tests.fuzz.graphs.values import ELEMENT_OF, Array


@attrs.frozen
class Parts:
    """A case taken apart: nodes, the arrays of inputs and constants, names of outputs."""

    case: Case
    nodes: tuple[Any, ...]
    inputs: dict[str, Array]
    constants: dict[str, Array]
    outputs: tuple[str, ...]
    others: tuple[Feeds, ...]

    @classmethod
    def of(cls, case: Case) -> Parts:
        """The parts of a case."""
        graph = case.model.graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        outputs = tuple(port.name for port in graph.output)
        return cls(case, tuple(graph.node), dict(case.feeds), constants, outputs, case.others)

    def values(self) -> dict[str, Array]:
        """Every value by name. Raises Unevaluated."""
        return Oracle(self._model([])).values(self.inputs)

    def _model(self, results: list[Any]) -> Any:
        initializers = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        ports = [port_of(name, array) for name, array in self.inputs.items()]
        graph = helper.make_graph(self.nodes, "reduced", ports, results, initializers)
        source = self.case.model
        return helper.make_model(graph, opset_imports=source.opset_import, ir_version=source.ir_version)

    def made(self) -> Case:
        """The case, without what no output needs. Raises Unevaluated, KeyError where the parts make no model."""
        needed, nodes = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed.update(reads(node))
        live = attrs.evolve(
            self, nodes=tuple(reversed(nodes)), inputs={n: a for n, a in self.inputs.items() if n in needed},
            constants={n: a for n, a in self.constants.items() if n in needed},
        )  # fmt: skip
        values = live.values()
        model = live._model([port_of(name, values[name]) for name in self.outputs])
        others = [{name: array for name, array in other.items() if name in live.inputs} for other in self.others]
        kept = tuple(other for other in others if other.keys() == live.inputs.keys())
        return attrs.evolve(self.case, model=model, feeds=live.inputs, others=kept)


def is_drawable(value: Any) -> bool:
    """Whether a value can be an input or an output: a tensor of a drawn element type."""
    return isinstance(value, np.ndarray) and value.dtype in ELEMENT_OF


def reduced(case: Case, fails: Callable[[Case], bool], seconds: float = 60.0) -> Case:
    """The smallest case found in that time that still fails."""
    end = time.monotonic() + seconds
    progress = True
    while progress and time.monotonic() < end:
        progress = False
        for smaller in _smaller(case):
            if time.monotonic() >= end:
                break
            if weight(smaller) < weight(case) and _still(fails, smaller):
                case, progress = smaller, True
                break
    return case


def _still(fails: Callable[[Case], bool], case: Case) -> bool:
    try:
        onnx.checker.check_model(case.model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return fails(case)


def weight(case: Case) -> tuple[int, ...]:
    """What is to become less: nodes, outputs, bindings, attributes, elements, inputs, numbers that are not 0."""
    graph = case.model.graph
    constants = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    arrays = [*case.feeds.values(), *constants]
    attributes = sum(len(node.attribute) + sum(map(bool, node.input)) for node in graph.node)
    return (len(graph.node), len(graph.output), len(case.others), attributes, sum(array.size for array in arrays),
            len(case.feeds), sum(int(np.count_nonzero(array)) for array in arrays))  # fmt: skip


def _smaller(case: Case) -> Iterator[Case]:
    parts = Parts.of(case)
    try:
        values = parts.values()
    except Unevaluated:
        return
    for step in (_fewer_outputs, _cut_above, _bypassed, _simpler_nodes, _as_constants, _smaller_dims, _simpler_arrays):
        for changed in step(parts, values):
            try:
                yield changed.made()
            except (Unevaluated, KeyError, ValueError, TypeError, AttributeError):
                continue


def _fewer_outputs(parts: Parts, values: dict[str, Array]) -> Iterator[Parts]:
    """One output, each value that a node gives; first those made early."""
    if parts.others:
        yield attrs.evolve(parts, others=())
        for other in parts.others:
            yield attrs.evolve(parts, others=(other,))
    for node in parts.nodes:
        for name in node.output:
            if name and is_drawable(values[name]):
                yield attrs.evolve(parts, outputs=(name,))
    if len(parts.outputs) > 1:
        for name in parts.outputs:
            yield attrs.evolve(parts, outputs=tuple(other for other in parts.outputs if other != name))


def _cut_above(parts: Parts, values: dict[str, Array]) -> Iterator[Parts]:
    """What a node gives becomes an input or a constant."""
    for node in reversed(parts.nodes):
        names = [name for name in node.output if name]
        if set(names) <= set(parts.outputs) or not all(is_drawable(values[name]) for name in names):
            continue
        left = tuple(other for other in parts.nodes if other is not node)
        given = {name: values[name] for name in names}
        outputs = tuple(name for name in parts.outputs if name not in names)
        yield attrs.evolve(parts, nodes=left, inputs={**parts.inputs, **given}, outputs=outputs, others=())
        yield attrs.evolve(parts, nodes=left, constants={**parts.constants, **given}, outputs=outputs)


def _bypassed(parts: Parts, values: dict[str, Array]) -> Iterator[Parts]:
    """Readers of a node's result read one of its inputs of the same type instead."""
    for node in parts.nodes:
        for name in node.input:
            result = values[node.output[0]]
            if not (name and is_drawable(result) and is_drawable(values[name])):
                continue
            same = (values[name].dtype, values[name].shape) == (result.dtype, result.shape)
            if same and node.output[0] not in parts.outputs:
                yield _renamed(parts, node, name)


def _renamed(parts: Parts, node: Any, name: str) -> Parts:
    left = []
    for other in parts.nodes:
        if other is node:
            continue
        made = onnx.NodeProto()
        made.CopyFrom(other)
        made.input[:] = [name if given == node.output[0] else given for given in other.input]
        left.append(made)
    return attrs.evolve(parts, nodes=tuple(left))


def _simpler_nodes(parts: Parts, values: dict[str, Array]) -> Iterator[Parts]:
    """A node without an attribute, or without its last input."""
    for place, node in enumerate(parts.nodes):
        for attribute in range(len(node.attribute)):
            made = onnx.NodeProto()
            made.CopyFrom(node)
            del made.attribute[attribute]
            yield attrs.evolve(parts, nodes=(*parts.nodes[:place], made, *parts.nodes[place + 1 :]))
        if len(node.input) > 1:
            made = onnx.NodeProto()
            made.CopyFrom(node)
            del made.input[-1]
            yield attrs.evolve(parts, nodes=(*parts.nodes[:place], made, *parts.nodes[place + 1 :]))


def _as_constants(parts: Parts, values: dict[str, Array]) -> Iterator[Parts]:
    """An input becomes a constant."""
    for name, array in parts.inputs.items():
        left = {other: given for other, given in parts.inputs.items() if other != name}
        yield attrs.evolve(parts, inputs=left, constants={**parts.constants, name: array}, others=())


def _smaller_dims(parts: Parts, values: dict[str, Array]) -> Iterator[Parts]:
    """All dims of a size become 1, 2 or half of it: arrays lose what is behind."""
    arrays = {**parts.inputs, **parts.constants}
    sizes = sorted({dim for array in arrays.values() for dim in array.shape if dim > 1}, reverse=True)
    for size in sizes:
        for new in sorted({1, 2, size // 2, size - 1} - {0, size}):
            yield attrs.evolve(parts, inputs=_cut(parts.inputs, size, new), constants=_cut(parts.constants, size, new),
                               others=())  # fmt: skip
            for axis in range(5):
                yield attrs.evolve(parts, inputs=_cut(parts.inputs, size, new, axis), others=(),
                                   constants=_cut(parts.constants, size, new, axis))  # fmt: skip


def _cut(arrays: dict[str, Array], size: int, new: int, axis: int | None = None) -> dict[str, Array]:
    return {name: np.ascontiguousarray(array[tuple(slice(new if dim == size and axis in (None, place) else None)
                                                   for place, dim in enumerate(array.shape))]).reshape(
                [new if dim == size and axis in (None, place) else dim for place, dim in enumerate(array.shape)])
            for name, array in arrays.items()}  # fmt: skip


def _simpler_arrays(parts: Parts, values: dict[str, Array]) -> Iterator[Parts]:
    """An array of zeros, of small integers, or with half of its elements 0."""
    for field in ("inputs", "constants"):
        for name, array in getattr(parts, field).items():
            for made in _simpler(array):
                yield attrs.evolve(parts, **{field: {**getattr(parts, field), name: made}})


def _simpler(array: Array) -> Iterator[Array]:
    yield np.zeros_like(array)
    flat = array.reshape(-1)
    for first in (0, 1):
        made = flat.copy()
        made[first * (flat.size // 2) : flat.size // 2 + first * flat.size] = array.dtype.type(0)
        yield made.reshape(array.shape)


def text_of(case: Case) -> str:
    """A case as text: the graph in ONNX's own form, and its arrays."""
    lines = [onnx.printer.to_text(case.model), f"symbols: {case.symbols or 'none'}"]
    for label, feeds in (("input", case.feeds), *(("further", other) for other in case.others)):
        lines += [f"{label} {name}: {array.dtype}{list(array.shape)} {np.array2string(array, threshold=64)}"
                  for name, array in feeds.items()]  # fmt: skip
    return "\n".join(lines) + "\n"
