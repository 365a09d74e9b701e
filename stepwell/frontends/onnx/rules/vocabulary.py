"""Operators that look their input up in a list known at compile time: labels, categories, n-grams.

Strings are looked up as numbers are: strings are equal where their handles are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import AddOp, MulOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp
from stepwell.dialects.graph.reduction import ReduceOp
from stepwell.dialects.graph.trees import LookupOp
from stepwell.frontends.onnx.registry import Array, Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast, reshaped
from stepwell.frontends.onnx.rules.movement import sliced
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value
from stepwell.ir.types import F32, SI64, IntegerType, StringType, numpy_dtype

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
    places = _places_of_numbers if keys.dtype != object else _places_of_strings
    table = np.empty(len(values) + 1, values.dtype)
    table[0], table[1:] = default, values
    return node.insert(GatherOp(node.constant(table, "values"), places(node, x, keys), axis=0)).result


def _places_of_strings(node: Node, x: Value, keys: Array) -> Value:
    """max over i of (x == keys[i] ? i + 1 : 0): handles are in no order that is known before the call."""
    wide = reshaped(node, x, (*shape_of(x), 1))
    found = node.insert(logic.CompareOp(wide, node.constant(keys, "keys"), predicate="eq")).result
    numbers, none = node.constant(np.arange(1, len(keys) + 1)), node.constant(np.array(0))
    places = node.insert(logic.WhereOp(found, numbers, none)).result
    return node.insert(ReduceOp(places, kind="max", axes=(tensor_type(x).rank,), keepdims=False)).result


def _places_of_numbers(node: Node, x: Value, keys: Array) -> Value:
    """lookup(x, sorted keys, i + 1), else 0"""
    last = {key.item(): place for place, key in enumerate(keys)}
    nan = [place for place, key in enumerate(keys) if key != key][-1:]
    places = np.array([*sorted((at for key, at in last.items() if key == key), key=lambda at: keys[at].item()), *nan],
                      np.int64)  # fmt: skip
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


# n-grams


@rule("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(node: Node) -> Value:
    """How often each n-gram of a list appears in a row of numbers or strings, with the steps 1 .. max_skip_count + 1
    between its parts (of a 1-gram: one way).

    Weights belong to coordinates of the result, as in the implementations that are in use; where `ngram_indexes` are 0,
    1, .. this is what the specification says."""
    x = node.input(0)
    element, shape = tensor_type(x).element, shape_of(x)
    if len(shape) not in (1, 2) or not isinstance(element, (IntegerType, StringType)):
        raise node.unsupported(f"rows of integers or strings are [c] or [b, c], not {tensor_type(x)}", MALFORMED)
    pool = _pool(node, isinstance(element, StringType))
    rows = reshaped(node, x if pool.dtype == object else cast(node, x, SI64), (*shape[:-1], 1, shape[-1]))
    counts, places = [], []
    for size, grams, indexes in _grams(node, pool):
        skips = range(1, 2 if size == 1 else node.int("max_skip_count") + 2)
        found = [_counted(node, rows, grams, step) for step in skips]
        total = found[0]
        for more in found[1:]:
            total = binary(node, AddOp, total, more)
        counts.append(total)
        places += indexes
    return _weighted(node, cast(node, _placed(node, counts, places, len(shape)), F32))


def _pool(node: Node, of_strings: bool) -> Array:
    name = "pool_strings" if of_strings else "pool_int64s"
    if not node.has(name):
        raise node.unsupported(f"it lacks {name} for an input of this type", MALFORMED)
    return texts(node.strings(name)) if of_strings else np.array(node.ints(name), np.int64)


def _grams(node: Node, pool: Array) -> list[tuple[int, Array, list[int]]]:
    """(n, n-grams [g, n], their coordinates) for the sizes that count."""
    starts, indexes = [*node.ints("ngram_counts"), len(pool)], node.ints("ngram_indexes")
    least, most = node.int("min_gram_length"), node.int("max_gram_length")
    if not 1 <= least <= most or node.int("max_skip_count") < 0:
        raise node.unsupported(f"n-grams of {least} to {most} parts, {node.int('max_skip_count')} skipped", MALFORMED)
    found, done = [], 0
    for size, (start, end) in enumerate(itertools.pairwise(starts), start=1):
        count, rest = divmod(end - start, size)
        if start < 0 or end < start or rest:
            raise node.unsupported(f"{size}-grams from {start} to {end} in a pool of {len(pool)}", MALFORMED)
        if least <= size <= most and count:
            found.append((size, pool[start:end].reshape(count, size), indexes[done : done + count]))
        done += count
    if done != len(indexes) or len(set(indexes)) != done or min(indexes, default=0) < 0:
        raise node.unsupported(f"{done} n-grams have {len(set(indexes))} coordinates", MALFORMED)
    return found


def _counted(node: Node, rows: Value, grams: Array, step: int) -> Value:
    """[.., 1, c] -> [.., g]: over all places p, those where rows[p + j * step] is gram[j] for all j"""
    size, reach = grams.shape[1], (grams.shape[1] - 1) * step
    last = tensor_type(rows).rank - 1
    inside = node.insert(logic.CompareOp(rows, rows, predicate="eq")).result  # so that it is as long as the rows
    padded, hit = _extended(node, rows, reach), _part(node, _extended(node, inside, reach), reach, reach)
    for part in range(size):
        gram = node.constant(np.ascontiguousarray(grams[:, part]).reshape(-1, 1), "grams")
        equal = logic.CompareOp(_part(node, padded, part * step, reach), gram, predicate="eq")
        hit = binary(node, logic.AndOp, hit, node.insert(equal).result)
    return node.insert(ReduceOp(cast(node, hit, SI64), kind="sum", axes=(last,), keepdims=False)).result


def _extended(node: Node, rows: Value, reach: int) -> Value:
    """`reach` empty elements behind each row."""
    if not reach:
        return rows
    rank = tensor_type(rows).rank
    pads = np.zeros(2 * rank, np.int64)
    pads[-1] = reach
    return node.insert(PadOp(rows, node.constant(pads), None)).result


def _part(node: Node, padded: Value, start: int, reach: int) -> Value:
    """As many elements from `start` on as there were before `reach` were added."""
    if not reach:
        return padded
    end = start - reach or np.iinfo(np.int64).max
    return sliced(node, padded, int_list(node, [start]), int_list(node, [end]), [tensor_type(padded).rank - 1])


def _placed(node: Node, counts: Sequence[Value], places: Sequence[int], rank: int) -> Value:
    """The counts at their coordinates, 0 elsewhere."""
    indexes = node.ints("ngram_indexes")
    size, axis = max(indexes, default=-1) + 1, rank - 1
    if not counts:
        raise node.unsupported("no n-gram of its list has a length that counts", MALFORMED)
    joined = counts[0] if len(counts) == 1 else node.insert(ConcatOp(list(counts), axis=axis)).result
    if list(places) == list(range(size)):
        return joined
    pads = np.zeros(2 * rank, np.int64)
    pads[-1] = 1
    source = np.full(size, len(places), np.int64)
    source[list(places)] = np.arange(len(places))
    padded = node.insert(PadOp(joined, node.constant(pads), None)).result
    return node.insert(GatherOp(padded, node.constant(source), axis=axis)).result


def _weighted(node: Node, counts: Value) -> Value:
    mode = node.string("mode")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise node.unsupported(f"mode {mode!r}", "It is TF, IDF or TFIDF.")
    if mode == "TF":
        return counts
    size = max(node.ints("ngram_indexes")) + 1
    weights = np.array(node.floats("weights", [1.0] * size), np.float32)
    if weights.shape != (size,):
        raise node.unsupported(f"{len(weights)} weights for {size} coordinates", MALFORMED)
    known = node.constant(weights, "weights")
    if mode == "TFIDF":
        return binary(node, MulOp, counts, known)
    zero = node.constant(np.array(0, np.float32))
    there = node.insert(logic.CompareOp(counts, zero, predicate="gt")).result
    return node.insert(logic.WhereOp(there, known, zero)).result
