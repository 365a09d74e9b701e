"""How the importer takes every version of every operator of ONNX: known from its rules, without a run.

    Cast   1          compiled; on the host between strings and numbers
    Cast   6, 9, ..   the same, by another rule
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import attrs

from stepwell.frontends.onnx import rules as _rules  # registers the rules
from stepwell.frontends.onnx.registry import RULES, HostUse, RuleTable, host_use
from stepwell.frontends.onnx.versions import is_deprecated, newest_opsets, schemas
from tests.onnx_conformance.cases import operator_text

assert _rules

COMPILED, BY_DEFINITION, REFUSED = "compiled", "compiled, from ONNX's definition", "refused: there is no rule"


@attrs.frozen
class Taken:
    """Versions of an operator that are taken in one way. `members` are as `operators_of` says."""

    domain: str
    name: str
    versions: tuple[int, ...]
    how: str
    members: tuple[str, ...]

    @property
    def label(self) -> str:
        """The operator's name, with its domain where that is not ai.onnx."""
        return f"{self.domain}.{self.name}".lstrip(".")


def taken(opsets: Mapping[str, int] | None = None, table: RuleTable = RULES) -> list[Taken]:
    """All versions that are not deprecated, those that share a rule in one entry; up to these opsets of the domains
    (default: those of which there are schemas)."""
    limits = newest_opsets() if opsets is None else opsets
    known = [schema for schema in schemas()
             if schema.since_version <= limits.get(schema.domain, 0) and not is_deprecated(schema)]  # fmt: skip
    return [_entry(list(group), how) for (_, _, how), group in groupby(known, lambda schema: _way(schema, table))]


def _way(schema: Any, table: RuleTable) -> tuple[str, Any, str]:
    """What the versions of one entry have in common."""
    rule = table.find(schema.domain, schema.name, schema.since_version)
    if rule is not None:
        return f"{schema.domain}.{schema.name}", rule, _described(host_use(rule))
    defined = schema.has_function or schema.has_context_dependent_function
    return f"{schema.domain}.{schema.name}", None, BY_DEFINITION if defined else REFUSED


def _described(use: HostUse | None) -> str:
    if use is None:
        return COMPILED
    before = f"{COMPILED}; {use.when} on the host" if use.when else "on the host"
    return f"{before} (`{use.callee}`): {use.why}"


def _entry(schemas: list[Any], how: str) -> Taken:
    first = schemas[0]
    versions = tuple(int(schema.since_version) for schema in schemas)
    return Taken(str(first.domain), str(first.name), versions, how, tuple(map(operator_text, schemas)))


def calls_host(operators: tuple[str, ...]) -> bool:
    """Whether a rule of one of these operators says that it calls the host."""
    return any(name in operators for entry in _on_host() for name in entry.members)


def _on_host() -> Iterator[Taken]:
    return (entry for entry in taken() if "on the host" in entry.how)
