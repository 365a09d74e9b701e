"""ONNX's own node tests, and tables of what became of them."""

from __future__ import annotations

import functools
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import numpy_helper

from stepwell.frontends.onnx.versions import schema_of

OK, HOST, SPECIALISED = "ok", "host", "specialised"
WRONG, REFUSED, INTERNAL, CRASH, HANG = "wrong", "refused", "internal", "crash", "hang"
RIGHT = (OK, HOST, SPECIALISED)
OUTCOMES = (*RIGHT, WRONG, CRASH, HANG, INTERNAL, REFUSED)


@attrs.frozen
class Outcome:
    """What became of a case: one of OUTCOMES, and why. `operators` are all of its model, see `operators_of`.

    OK is compiled, for any call; HOST calls functions in Python for a part; SPECIALISED is compiled at the call, for
    what that tells."""

    name: str
    operator: str
    kind: str
    reason: str = ""
    operators: tuple[str, ...] = attrs.field(default=(), converter=tuple)


@functools.cache
def node_cases() -> dict[str, Any]:
    """All cases of one node or more, by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    return {case.name: case for case in found if case.model is not None and case.data_sets}


def operator_of(model: Any) -> str:
    """The operator that a case's model is about; those of several nodes are expanded functions, or small models."""
    nodes = model.graph.node
    return nodes[0].op_type if len(nodes) == 1 else "(several nodes)"


def operators_of(model: Any) -> list[str]:
    """All operators of a model with the opset that their version came with, each once: `Add 14`, and
    `ai.onnx.ml.Binarizer 1` of another domain. Nodes of subgraphs and of functions count."""
    graphs = [(model.graph.node, model.opset_import)]
    graphs += [(function.node, [*model.opset_import, *function.opset_import]) for function in model.functions]
    found = set()
    for nodes, imports in graphs:
        opsets = {_domain(opset): opset.version for opset in imports}
        for node in _nodes(nodes):
            schema = schema_of(_domain(node), node.op_type, opsets.get(_domain(node), 0))
            if schema is not None:
                found.add(operator_text(schema))
    return sorted(found)


def operator_text(schema: Any) -> str:
    """A version of an operator as text."""
    return f"{schema.domain}.{schema.name} {schema.since_version}".lstrip(".")


def _domain(proto: Any) -> str:
    return "" if proto.domain == "ai.onnx" else str(proto.domain)


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes with those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def table(made: Sequence[Any], kinds: Sequence[str], good: str) -> str:
    """A table of what became of cases (their `operator`, `kind` and `reason`): one per operator with a
    case that is not `good`, then the sums."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for one in made:
        groups[one.operator].append(one)
    lines = [f"{'operator':<28}" + "".join(f"{kind:>14}" for kind in kinds) + "  why"]
    for operator, group in sorted(groups.items()):
        why = next((one.reason for one in group if one.kind != good), None)
        if why is not None:
            lines.append(f"{_line(operator, group, kinds)}  {why[:150]}")
    return "\n".join([*lines, _line(f"all {len(made)} cases", made, kinds)])


def _line(label: str, made: Sequence[Any], kinds: Sequence[str]) -> str:
    counts = Counter(one.kind for one in made)
    return f"{label:<28}" + "".join(f"{counts[kind] or '-':>14}" for kind in kinds)


def as_array(value: Any) -> Any:
    """An input of a case as an array; a list, a map and an absent value as they are."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if isinstance(value, (list, dict)) or value is None else np.asarray(value)


def with_constants(model: Any, arrays: list[Any], kinds: str) -> tuple[Any, list[Any]]:
    """The model with inputs of rank 0 and 1 whose dtype is of one of the kinds as constants, and the other arrays."""
    given = dict(zip((port.name for port in model.graph.input), arrays, strict=False))
    fixed = {name: array for name, array in given.items()
             if isinstance(array, np.ndarray) and array.ndim <= 1 and array.dtype.kind in kinds}  # fmt: skip
    return with_initializers(model, fixed), [array for name, array in given.items() if name not in fixed]


def with_initializers(model: Any, fixed: Mapping[str, Any]) -> Any:
    """The model with some of its inputs, by their names, as initializers."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.input[:]
    made.graph.input.extend(port for port in model.graph.input if port.name not in fixed)
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in fixed.items())
    return made
