"""Maps: a matrix of scores as maps from labels, and maps as rows of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.shape import SizeOp
from stepwell.frontends.onnx.maps import Keys, Pairs, Rows
from stepwell.frontends.onnx.registry import Array, Node, calls_host, rule
from stepwell.frontends.onnx.rules.composing import HELD_AS_NUMBERS, binary, cast, reshaped
from stepwell.frontends.onnx.rules.ml_common import DOMAIN
from stepwell.frontends.onnx.rules.vocabulary import MALFORMED, texts
from stepwell.ir.core import Value
from stepwell.ir.dims import proven_different
from stepwell.ir.types import F32, SI64, StringType, Type, numpy_dtype


@rule("ZipMap", domain=DOMAIN)
def zip_map(node: Node) -> Rows:
    """The matrix of scores, with the labels as the keys of its columns; of one row where it is a list."""
    x, names = node.input(0), node.strings("classlabels_strings", [])
    keys: Keys = tuple(names) if names else tuple(node.ints("classlabels_int64s", []))
    shape = shape_of(x)
    if not keys or len(shape) not in (1, 2):
        raise node.unsupported(f"{len(keys)} labels for scores {tensor_type(x)}", MALFORMED)
    if proven_different(shape[-1], len(keys)):
        raise node.unsupported(f"{len(keys)} labels for {shape[-1]} scores", MALFORMED)
    return Rows(reshaped(node, x, (shape[0] if len(shape) == 2 else 1, len(keys))), keys)


@rule("DictVectorizer", domain=DOMAIN)
def dict_vectorizer(node: Node) -> Value:
    """The values of the words of a vocabulary, [1, words]; 0 for those that the map does not have."""
    pairs, words = node.pairs(0), node.strings("string_vocabulary", [])
    vocabulary = texts(words) if words else np.array(node.ints("int64_vocabulary", []), np.int64)
    return _values_of(node, pairs, vocabulary, "" if _holds_text(pairs) else 0)


CAST_TO: dict[str, Type] = {"TO_FLOAT": F32, "TO_STRING": StringType(), "TO_INT64": SI64}


@rule("CastMap", domain=DOMAIN)
@calls_host("string_cast", HELD_AS_NUMBERS, "between strings and numbers")
def cast_map(node: Node) -> Value:
    """The values in the order of their keys, [1, n], cast; `SPARSE`: those of the keys 0 .. max_map - 1, else 0."""
    pairs, to, form = node.pairs(0), node.string("cast_to", "TO_FLOAT"), node.string("map_form", "DENSE")
    if to not in CAST_TO or form not in ("DENSE", "SPARSE"):
        raise node.unsupported(f"cast_to {to!r} with map_form {form!r}", MALFORMED)
    values = cast(node, pairs.values, CAST_TO[to])
    if form == "DENSE":
        return reshaped(node, values, (1, *shape_of(values)))
    count = node.int("max_map", 1)
    if count < 1 or tensor_type(pairs.keys).element is not SI64:
        raise node.unsupported(f"{count} places for keys of {tensor_type(pairs.keys)}", MALFORMED)
    return _values_of(node, Pairs(pairs.keys, values), np.arange(count), "0" if to == "TO_STRING" else 0)


def _holds_text(pairs: Pairs) -> bool:
    return isinstance(tensor_type(pairs.values).element, StringType)


def _values_of(node: Node, pairs: Pairs, wanted: Array, default: Any) -> Value:
    """The values of these keys, [1, keys]; the default for those that the map does not have."""
    keys, values = pairs.keys, tensor_type(pairs.values)
    if len(wanted) == 0 or (wanted.dtype == object) != isinstance(tensor_type(keys).element, StringType):
        raise node.unsupported(f"{len(wanted)} keys for {tensor_type(keys)}", MALFORMED)
    column = node.constant(wanted[:, None].astype(numpy_dtype(keys.type)), "keys")
    found = node.insert(logic.CompareOp(column, keys, predicate="eq")).result
    one = node.constant(np.array(1))
    behind = binary(node, AddOp, node.insert(SizeOp(keys)).result, one)
    numbers = node.insert(RangeOp(one, behind, one, narrow=False)).result
    places = node.insert(logic.WhereOp(found, numbers, node.constant(np.array(0)))).result
    # No two keys are equal, so the sum is the number of the one that is found, or 0.
    place = node.insert(ReduceOp(places, kind="sum", axes=(1,), keepdims=False)).result
    none = texts([default]) if isinstance(values.element, StringType) else np.array([default], numpy_dtype(values))
    table = node.insert(ConcatOp([node.constant(none), pairs.values], axis=0)).result
    return node.insert(GatherOp(table, reshaped(node, place, (1, len(wanted))), axis=0)).result
