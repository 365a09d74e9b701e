"""The names of one graph or function body while its nodes are imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from stepwell.errors import ModelError
from stepwell.frontends.onnx.element_types import text
from stepwell.frontends.onnx.maps import Pairs, Rows
from stepwell.frontends.onnx.structure import NodeInfo
from stepwell.ir.builder import Builder
from stepwell.ir.core import Value


class Poison:
    """What stands for a value of unknown type that could not be imported."""


POISON = Poison()

Slot = Value | Pairs | Rows | Poison | None  # None: an optional input that the caller of a function did not give


@attrs.define(eq=False)
class Scope:
    """The names of one graph or function body, and how its nodes are read: the opset versions, the attributes of the
    calling node (in a function), and the prefix for names inside an inlined function."""

    builder: Builder
    opsets: Mapping[str, int]
    parent: Scope | None = None
    attributes: Mapping[str, Any] | None = None
    prefix: str = ""
    value_types: Mapping[str, Any] = attrs.Factory(dict)
    unnamed: frozenset[str] = frozenset()  # values whose ONNX name is that of the calling node's output
    values: dict[str, Slot] = attrs.Factory(dict)

    def lookup(self, name: str) -> Slot:
        """What a name means; None for an absent input."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        raise ModelError(f"its input {name!r} is defined nowhere")


def resolved_attributes(node: NodeInfo, scope: Scope) -> dict[str, Any]:
    """The node's attributes, references to attributes of the enclosing function replaced by what its caller gave."""
    found: dict[str, Any] = {}
    for name, attribute in node.attributes.items():
        reference = text(attribute.ref_attr_name)
        if not reference:
            found[name] = attribute
        elif scope.attributes is None:
            raise ModelError(f"its attribute {name!r} refers to {reference!r} of a function, and it is in none")
        elif reference in scope.attributes:
            found[name] = scope.attributes[reference]
    return found
