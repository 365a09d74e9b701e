"""What the importer has for maps, which are no values of the graph: they are known at its border only.

A map that comes in is two lists there; a list of maps that leaves is a matrix whose columns have keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from stepwell.dialects.sequence_types import MapType
from stepwell.frontends.onnx import names
from stepwell.ir.attributes import ArrayAttr, Attribute, DictAttr, IntegerAttr, StringAttr
from stepwell.ir.core import Value
from stepwell.ir.types import SI64

Keys = tuple[int, ...] | tuple[str, ...]

KEYS = "sw.keys"
"""Of a result that callers see as maps: the keys of its columns."""


@attrs.frozen
class Pairs:
    """A map: its keys in ascending order, and their values, [n] each."""

    keys: Value
    values: Value


@attrs.frozen
class Rows:
    """A list of maps: a row of a matrix [n, k] each, whose columns have keys. It can only leave the model."""

    value: Value
    keys: Keys


def described_rows(name: str, keys: Sequence[int] | Sequence[str]) -> DictAttr:
    """The attributes of a result of this ONNX name that callers see as maps."""
    listed: list[Attribute] = [StringAttr(key) if isinstance(key, str) else IntegerAttr(key, SI64) for key in keys]
    return DictAttr.of({names.NAME: StringAttr(name), KEYS: ArrayAttr(tuple(listed))})


def keys_of(described: Mapping[str, Attribute]) -> Keys | None:
    """The keys of a result's columns; None where callers see it as it is."""
    listed = described.get(KEYS)
    found = tuple(key.value for key in listed if isinstance(key, (StringAttr, IntegerAttr))) if isinstance(
        listed, ArrayAttr) else ()  # fmt: skip
    texts = tuple(key for key in found if isinstance(key, str))
    return texts or tuple(key for key in found if isinstance(key, int)) or None


def described_parts(name: str, type_: MapType) -> list[DictAttr]:
    """The attributes of the two arguments that a map becomes."""
    whole = StringAttr(str(type_))
    return [DictAttr.of({names.NAME: StringAttr(name), "sw.list": whole, "sw.part": StringAttr(part)})
            for part in ("keys", "values")]  # fmt: skip
