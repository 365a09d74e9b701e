"""Uniqued immutable objects: two objects of one class with equal fields are the same object."""

from __future__ import annotations

import functools
import struct
from collections.abc import Hashable
from typing import Any, TypeVar, dataclass_transform
from weakref import WeakValueDictionary

import attrs


class InternedMeta(type):
    """Makes `Class(...)` return the one object with those fields, so that equality is identity and hashing is free."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        candidate = super().__call__(*args, **kwargs)
        return _POOL.setdefault((cls, candidate._key()), candidate)


_POOL: WeakValueDictionary[tuple[type, Hashable], Any] = WeakValueDictionary()


@functools.cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple([field.name for field in attrs.fields(cls)])


def _exact(value: Any) -> Hashable:
    """A key that tells apart what Python calls equal: 1, 1.0 and True; 0.0 and -0.0."""
    kind = value.__class__
    if kind is tuple:
        return tuple([_exact(item) for item in value])
    if kind is float:
        return float, struct.pack("<d", value)
    return (bool, value) if kind is bool else value


_BY_VALUE = frozenset((tuple, float, bool))  # classes of which `_exact` gives another key than the value


class Interned(metaclass=InternedMeta):
    """Base of attributes, types and locations; subclasses are `attrs.frozen(eq=False)` classes with hashable fields."""

    __slots__ = ("__weakref__",)

    def _key(self) -> Hashable:
        """What tells two objects of this class apart; a class whose fields do not compare by value overrides it."""
        values = [getattr(self, name) for name in _names(type(self))]
        return tuple([_exact(value) if value.__class__ in _BY_VALUE else value for value in values])

    def __copy__(self) -> Interned:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Interned:
        return self


ClassT = TypeVar("ClassT", bound=type)


@dataclass_transform(frozen_default=True, eq_default=False)
def interned(cls: ClassT) -> ClassT:
    """Class decorator: a frozen attrs class whose equality is identity."""
    made: ClassT = attrs.frozen(cls, eq=False, repr=False, slots=True, weakref_slot=False)
    return made
