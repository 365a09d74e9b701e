"""Whose code takes part in compilations, besides Stepwell's own.

Everything that joins (a dialect's classes, a pattern, a rule of import or conversion) is noted here as it does, by the
module that defines it. What such code makes of a model may follow from anything, so results are kept for other
processes only where there is none."""

from __future__ import annotations

from typing import Any

_others: set[str] = set()


def note(member: Any) -> None:
    """A class or function joins; what wraps one counts as what it wraps."""
    member = getattr(member, "func", member)
    module = getattr(member, "__module__", None) or type(member).__module__
    if module != "stepwell" and not module.startswith("stepwell."):
        _others.add(module)


def note_plugin(name: str) -> None:
    """A plug-in's code has run."""
    _others.add(name)


def others() -> frozenset[str]:
    """The modules, outside Stepwell, whose code takes part."""
    return frozenset(_others)
