"""Kinds of declared attributes: how a Python value becomes an attribute and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stepwell.errors import IRError
from stepwell.ir.attributes import (
    AffineMapAttr,
    ArrayAttr,
    Attribute,
    DenseArrayAttr,
    ElementsAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    TypeAttr,
    UnitAttr,
    bool_attr,
)
from stepwell.ir.types import F64, I1, I64, FunctionType, Type


class AttrKind(NamedTuple):
    """A kind of attribute: its description, both conversions, and what attributes it accepts.

    A kind with `keywords` is written as a bare word in custom forms."""

    description: str
    encode: Callable[[Any], Attribute]
    decode: Callable[[Attribute], Any]
    accepts: Callable[[Attribute], bool]
    keywords: tuple[str, ...] = ()


def _wrapped(description: str, cls: type[Any], field: str, convert: Callable[[Any], Any]) -> AttrKind:
    return AttrKind(
        description,
        lambda value: cls(convert(value)),
        lambda attribute: getattr(attribute, field),
        lambda attribute: isinstance(attribute, cls),
    )


INT = AttrKind(
    "an i64", lambda value: IntegerAttr(int(value), I64), lambda a: a.value,  # type: ignore[attr-defined]
    lambda a: isinstance(a, IntegerAttr) and a.type is I64,
)  # fmt: skip
BOOL = AttrKind(
    "true or false", lambda value: bool_attr(bool(value)), lambda a: bool(a.value),  # type: ignore[attr-defined]
    lambda a: isinstance(a, IntegerAttr) and a.type is I1,
)  # fmt: skip
FLOAT = AttrKind(
    "an f64", lambda value: FloatAttr(float(value), F64), lambda a: a.value,  # type: ignore[attr-defined]
    lambda a: isinstance(a, FloatAttr) and a.type is F64,
)  # fmt: skip
STRING = _wrapped("a string", StringAttr, "value", str)
SYMBOL = _wrapped("a symbol", SymbolRefAttr, "name", str)
TYPE = _wrapped("a type", TypeAttr, "type", lambda value: value)
MAP = _wrapped("an affine map", AffineMapAttr, "map", lambda value: value)
UNIT = AttrKind("unit", lambda value: UnitAttr(), lambda a: True, lambda a: isinstance(a, UnitAttr))
INTS = AttrKind(
    "a list of i64", lambda value: DenseArrayAttr(I64, tuple(int(v) for v in value)),
    lambda a: a.values,  # type: ignore[attr-defined]
    lambda a: isinstance(a, DenseArrayAttr) and a.type is I64,
)  # fmt: skip
FLOATS = AttrKind(
    "a list of f64", lambda value: DenseArrayAttr(F64, tuple(float(v) for v in value)),
    lambda a: a.values,  # type: ignore[attr-defined]
    lambda a: isinstance(a, DenseArrayAttr) and a.type is F64,
)  # fmt: skip
ANY_ATTR = AttrKind("any attribute", lambda value: value, lambda a: a, lambda a: True)
TYPED = AttrKind(
    "an integer, float or elements attribute", lambda value: value, lambda a: a,
    lambda a: isinstance(a, (IntegerAttr, FloatAttr, ElementsAttr)),
)  # fmt: skip
ELEMENTS = AttrKind("elements", lambda value: value, lambda a: a, lambda a: isinstance(a, ElementsAttr))
SCALAR = AttrKind(
    "an integer or float", lambda value: value, lambda a: a, lambda a: isinstance(a, (IntegerAttr, FloatAttr))
)
FUNCTION_TYPE = AttrKind(
    "a function type", lambda value: TypeAttr(value), lambda a: a.type,  # type: ignore[attr-defined]
    lambda a: isinstance(a, TypeAttr) and isinstance(a.type, FunctionType),
)  # fmt: skip


def enum(*choices: str) -> AttrKind:
    """One of a few words, kept as a string."""

    def encode(value: Any) -> Attribute:
        if value not in choices:
            raise IRError(f"{value!r} is not one of {', '.join(choices)}")
        return StringAttr(value)

    return AttrKind(
        f"one of {', '.join(choices)}", encode, lambda a: a.value,  # type: ignore[attr-defined]
        lambda a: isinstance(a, StringAttr) and a.value in choices, choices,
    )  # fmt: skip


def int_enum(*choices: str) -> AttrKind:
    """One of a few words, kept as its number in the list, as upstream keeps comparison predicates."""

    def encode(value: Any) -> Attribute:
        if value not in choices:
            raise IRError(f"{value!r} is not one of {', '.join(choices)}")
        return IntegerAttr(choices.index(value), I64)

    return AttrKind(
        f"one of {', '.join(choices)}", encode, lambda a: choices[a.value],  # type: ignore[attr-defined]
        lambda a: isinstance(a, IntegerAttr) and a.type is I64 and 0 <= a.value < len(choices), choices,
    )  # fmt: skip


def list_of(kind: AttrKind) -> AttrKind:
    """An array of attributes of one kind, as a tuple."""

    def encode(value: Sequence[Any]) -> Attribute:
        return ArrayAttr(tuple(kind.encode(item) for item in value))

    decode_one = kind.decode

    def decode(attribute: Attribute) -> tuple[Any, ...]:
        assert isinstance(attribute, ArrayAttr)
        return tuple([decode_one(item) for item in attribute.values])

    return AttrKind(
        f"a list, each {kind.description}", encode, decode,
        lambda a: isinstance(a, ArrayAttr) and all(kind.accepts(item) for item in a.values),
    )  # fmt: skip


MAPS = list_of(MAP)
STRINGS = list_of(STRING)
ATTRS = list_of(ANY_ATTR)


def attr_of(cls: type[Attribute]) -> AttrKind:
    """An attribute of one class, as it is."""
    what = getattr(cls, "mnemonic", "") or cls.__name__
    return AttrKind(f"#{what}", lambda value: value, lambda a: a, lambda a: isinstance(a, cls))


def type_attr_of(accepts: Callable[[Type], bool], description: str) -> AttrKind:
    """A type that satisfies a predicate."""
    return AttrKind(
        description, lambda value: TypeAttr(value), lambda a: a.type,  # type: ignore[attr-defined]
        lambda a: isinstance(a, TypeAttr) and accepts(a.type),
    )  # fmt: skip
