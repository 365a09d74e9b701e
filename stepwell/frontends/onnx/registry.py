"""Import rules: which function turns an ONNX node of a given operator and version into graph ops.

    @rule("Softmax", since=13)
    def softmax(node: Node) -> Value:
        return node.insert(SoftmaxOp(node.input(0), axis=node.int("axis", -1))).result

A rule holds from its `since` version up to the next one registered for the same operator."""

from __future__ import annotations

import builtins
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import numpy as np

from stepwell.errors import ModelError, UnknownError
from stepwell.frontends.onnx.maps import Pairs, Rows
from stepwell.ir.core import OpT, Value
from stepwell.ir.origins import note
from stepwell.ir.types import Type

Array = np.ndarray[Any, Any]


class Unsupported(ModelError):
    """A rule cannot import a node: `reason` says what is missing, `advice` what the user can do. `unknown` is set where
    it is what is not known yet."""

    def __init__(self, reason: str, advice: str = "", unknown: UnknownError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.unknown = unknown


class Node(Protocol):
    """What a rule sees of the ONNX node it imports. Attribute getters raise ModelError for a wrong attribute type and,
    where no default is given, for a missing attribute."""

    @property
    def op_type(self) -> str:
        """The ONNX operator's name."""

    @property
    def domain(self) -> str:
        """The operator's domain, "" for ai.onnx."""

    @property
    def version(self) -> int:
        """The opset version under which the node is read."""

    @property
    def num_inputs(self) -> int:
        """Inputs as written, absent trailing ones not counted."""

    @property
    def num_outputs(self) -> int:
        """Outputs as written."""

    def has_input(self, index: int) -> bool:
        """Whether an optional input is present."""

    def has_output(self, index: int) -> bool:
        """Whether an optional output is asked for."""

    def input(self, index: int) -> Value:
        """An input; raises ModelError where it is absent."""

    def optional(self, index: int) -> Value | None:
        """An input that may be absent."""

    def pairs(self, index: int) -> Pairs:
        """An input that is a map; raises Unsupported where it is none."""

    def inputs(self) -> list[Value]:
        """All inputs; raises ModelError where one is absent."""

    def value_of(self, name: str) -> Value:
        """A value of the graph that the node stands in, by its ONNX name; raises ModelError where there is none."""

    def constant_input(self, index: int) -> Array | None:
        """The array of a present input known at import time; None where it is absent or not constant."""

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""

    def int(self, name: str, default: int | None = None) -> int:
        """An integer attribute."""

    def float(self, name: str, default: float | None = None) -> float:
        """A float attribute."""

    def string(self, name: str, default: str | None = None) -> str:
        """A string attribute."""

    def ints(self, name: str, default: Sequence[builtins.int] | None = None) -> list[builtins.int]:
        """A list of integers."""

    def floats(self, name: str, default: Sequence[builtins.float] | None = None) -> list[builtins.float]:
        """A list of floats."""

    def strings(self, name: str, default: Sequence[str] | None = None) -> list[str]:
        """A list of strings."""

    def tensor(self, name: str) -> Array:
        """A tensor attribute."""

    def element_type(self, name: str, default: Type | None = None) -> Type:
        """An attribute that holds a TensorProto element type number, as a graph-level type."""

    def type_proto(self, name: str) -> Any:
        """A type attribute, as a TypeProto."""

    def subgraph(self, name: str) -> Any:
        """A graph attribute, for control flow; see the importer."""

    def insert(self, op: OpT) -> OpT:
        """Put a graph op at the insertion point with the node's location."""

    def constant(self, array: Any, name: str = "") -> Value:
        """A constant of an array (its NumPy dtype decides the element type)."""

    def unsupported(self, reason: str, advice: str = "", unknown: UnknownError | None = None) -> Unsupported:
        """The error to raise for a case that is not supported."""


Rule = Callable[[Any], "Value | Rows | Sequence[Value | None]"]
RuleT = TypeVar("RuleT", bound=Rule)


@attrs.define
class RuleTable:
    """All import rules: (domain, operator) -> versions in ascending order and their rules."""

    _rules: dict[tuple[str, str], list[tuple[int, Rule]]] = attrs.Factory(dict)

    def add(self, domain: str, op_type: str, since: int, function: Rule) -> None:
        """Register a rule. Raises ModelError naming both owners where one is registered for that version."""
        note(function)
        versions = self._rules.setdefault((domain, op_type), [])
        for version, other in versions:
            if version == since and other is not function:
                owners = f"{other.__module__}.{other.__name__} and {function.__module__}.{function.__name__}"
                raise ModelError(f"{domain or 'ai.onnx'}.{op_type} since {since} has two import rules: {owners}")
        versions.append((since, function))
        versions.sort(key=lambda item: item[0])

    def find(self, domain: str, op_type: str, version: int) -> Rule | None:
        """The rule that holds at an opset version."""
        versions = self._rules.get((domain, op_type), [])
        index = bisect_right([since for since, _ in versions], version)
        return versions[index - 1][1] if index else None

    def since(self, domain: str, op_type: str) -> list[int]:
        """The opset versions from which an operator's rules hold, ascending."""
        return [version for version, _ in self._rules.get((domain, op_type), [])]

    def copy(self) -> RuleTable:
        """A table of the same rules, to which others can be added."""
        return RuleTable({key: list(versions) for key, versions in self._rules.items()})

    def names(self) -> list[tuple[str, str]]:
        """(domain, operator) of everything that has a rule."""
        return sorted(self._rules)


RULES = RuleTable()


def rule(*op_types: str, since: int | Sequence[int] = 1, domain: str = "") -> Callable[[RuleT], RuleT]:
    """Register the decorated function for operators from version(s) `since` on."""

    def register(function: RuleT) -> RuleT:
        for op_type in op_types:
            for version in (since,) if isinstance(since, int) else since:
                RULES.add(domain, op_type, version, function)
        return function

    return register


@attrs.frozen
class HostUse:
    """A function on the host that a rule calls: its name, why Python has to do it, and when (empty: always)."""

    callee: str
    why: str
    when: str = ""


_HOST_USES: dict[Rule, HostUse] = {}


def calls_host(callee: str, why: str, when: str = "") -> Callable[[RuleT], RuleT]:
    """Note that the decorated rule makes calls of a function on the host."""

    def register(function: RuleT) -> RuleT:
        _HOST_USES[function] = HostUse(callee, why, when)
        return function

    return register


def host_use(function: Rule) -> HostUse | None:
    """What a rule calls on the host; None where everything that it makes becomes machine code."""
    return _HOST_USES.get(function)
