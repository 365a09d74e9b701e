"""Operators that look their input up in a list known at compile time: labels and categories.

Strings are looked up as numbers are: strings are equal where their handles are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import tensor_type
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.trees import LookupOp
from stepwell.frontends.onnx.registry import Array, Node, rule
from stepwell.ir.core import Value
from stepwell.ir.types import StringType, numpy_dtype

ML = "ai.onnx.ml"
MALFORMED = "The model is malformed."


def texts(items: Sequence[str]) -> Array:
    """A list of strings as an array."""
    array = np.empty(len(items), object)
    array[:] = list(items)
    return array


# Labels


def looked_up(node: Node, x: Value, keys: Array, values: Array, default: Any) -> Value:
    """values[i] where x is keys[i] (of several the last; NaN is NaN), else the default"""
    if keys.ndim != 1 or keys.shape != values.shape:
        raise node.unsupported(f"keys of shape {list(keys.shape)} for values of {list(values.shape)}", MALFORMED)
    element = tensor_type(x).element
    if (keys.dtype == object) != isinstance(element, StringType) or keys.dtype != numpy_dtype(element):
        raise node.unsupported(f"keys of type {keys.dtype} for an input of {element}", MALFORMED)
    table = np.empty(len(values) + 1, values.dtype)
    table[0], table[1:] = default, values
    return node.insert(GatherOp(node.constant(table, "values"), place_of(node, x, keys), axis=0)).result


def place_of(node: Node, x: Value, keys: Array) -> Value:
    """lookup(x, sorted keys, i + 1), else 0: which of the keys x is; of equal ones the last"""
    items = keys.tolist()
    last = {key: place for place, key in enumerate(items) if key == key}
    nan = [place for place, key in enumerate(items) if key != key][-1:]
    places = np.array([*(last[key] for key in sorted(last)), *nan], np.int64)
    operands = (keys[places], places + 1, np.array(0))
    return node.insert(LookupOp(x, *map(node.constant, operands))).result


def _one_of(node: Node, what: str, kinds: Sequence[str]) -> str:
    given = [kind for kind in kinds if node.has(f"{what}_{kind}")]
    if len(given) != 1:
        raise node.unsupported(f"{what}: one of {', '.join(kinds)} is given, not {len(given)}", MALFORMED)
    return given[0]


_DEFAULTS: dict[str, tuple[str, Any]] = {
    "strings": ("default_string", "_Unused"), "int64s": ("default_int64", -1), "floats": ("default_float", -0.0),
}  # fmt: skip


def _listed(node: Node, what: str, kind: str) -> Array:
    name = f"{what}_{kind}"
    if kind == "tensor":
        return node.tensor(name).reshape(-1)
    if kind == "strings":
        return texts(node.strings(name))
    return np.array(node.ints(name), np.int64) if kind == "int64s" else np.array(node.floats(name), np.float32)


def _default(node: Node, kind: str, dtype: np.dtype[Any]) -> Any:
    if kind == "tensor":
        if node.has("default_tensor"):
            given = node.tensor("default_tensor")
            if given.size != 1 or given.dtype != dtype:
                shown = f"{given.dtype}{list(given.shape)}"
                raise node.unsupported(f"default_tensor is {shown}, not one {dtype}", MALFORMED)
            return given.reshape(-1)[0]
        kind = {"O": "strings", "f": "floats"}.get(dtype.kind, "int64s")
    name, usual = _DEFAULTS[kind]
    if kind == "strings":
        return node.string(name, usual)
    return node.int(name, usual) if kind == "int64s" else node.float(name, usual)


@rule("LabelEncoder", domain=ML)
@rule("CategoryMapper", domain=ML)
def strings_and_numbers(node: Node) -> Value:
    """Strings become integers, integers strings; the integers of a LabelEncoder count the strings."""
    names = texts(node.strings("classes_strings" if node.op_type == "LabelEncoder" else "cats_strings"))
    numbers = np.arange(len(names)) if node.op_type == "LabelEncoder" else np.array(node.ints("cats_int64s"), np.int64)
    x = node.input(0)
    if isinstance(tensor_type(x).element, StringType):
        return looked_up(node, x, names, numbers, _default(node, "int64s", numbers.dtype))
    return looked_up(node, x, numbers, names, _default(node, "strings", names.dtype))


@rule("LabelEncoder", since=2, domain=ML)
def label_encoder(node: Node) -> Value:
    """Keys and values of any of the types; version 4 has them as tensors, too."""
    kinds = ("strings", "int64s", "floats", "tensor")
    keys = _listed(node, "keys", _one_of(node, "keys", kinds))
    kind = _one_of(node, "values", kinds)
    values = _listed(node, "values", kind)
    return looked_up(node, node.input(0), keys, values, _default(node, kind, values.dtype))
