"""TfIdfVectorizer: how often n-grams appear in rows of numbers or strings.

Each token is looked up once. A window of n tokens is followed from prefix to prefix, each step a lookup of the pair of
the prefix's number and the next token's, so that the time grows with the logarithm of the number of n-grams."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs
import numpy as np

from stepwell.dialects.graph import logic
from stepwell.dialects.graph.base import shape_of, tensor_type
from stepwell.dialects.graph.elementwise import AddOp, MulOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp
from stepwell.dialects.graph.scatter import ScatterElementsOp
from stepwell.dialects.graph.shape import ExpandOp
from stepwell.dialects.graph.trees import LookupOp
from stepwell.frontends.onnx.registry import Array, Node, rule
from stepwell.frontends.onnx.rules.composing import binary, cast
from stepwell.frontends.onnx.rules.movement import sliced
from stepwell.frontends.onnx.rules.vocabulary import MALFORMED, place_of, texts
from stepwell.frontends.onnx.shapes import int_list
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim
from stepwell.ir.types import SI64, IntegerType, StringType


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
    grams = _grams(node, pool)
    if not grams:
        raise node.unsupported("no n-gram of its list has a length that counts", MALFORMED)
    counting = Counting.of(pool, grams, max(node.ints("ngram_indexes")) + 1)
    rows = place_of(node, x if pool.dtype == object else cast(node, x, SI64), counting.tokens)
    found = [
        counting.numbers(node, rows, size, step)
        for size, _, _ in grams
        for step in range(1, 2 if size == 1 else node.int("max_skip_count") + 2)
    ]
    joined = found[0] if len(found) == 1 else node.insert(ConcatOp(found, axis=len(shape) - 1)).result
    return _weighted(node, counting.counts(node, joined, shape[:-1]))


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


@attrs.frozen
class Counting:
    """The n-grams of all sizes, numbered from 1; 0 stands for what is none.

    `tokens` are their parts, numbered from 1 as well. `steps[size]` are the tables by which a window becomes the number
    of its n-gram: of its first token's number, then of prefix * (tokens + 1) + token. `places` has the n-gram's number
    for each coordinate of the result."""

    tokens: Array
    steps: dict[int, list[dict[int, int]]]
    places: list[int]

    @staticmethod
    def of(pool: Array, grams: Sequence[tuple[int, Array, list[int]]], width: int) -> Counting:
        """Number the n-grams of a pool, for a result of so many coordinates; equal ones share a number."""
        token = {item: number for number, item in enumerate(dict.fromkeys(pool.tolist()), start=1)}
        places, count = [0] * width, 0
        steps: dict[int, list[dict[int, int]]] = {}
        for size, rows, indexes in grams:
            tables: list[dict[int, int]] = [{} for _ in range(size)]
            for gram, coordinate in zip(rows.tolist(), indexes, strict=True):
                code = token[gram[0]]
                for table, item in zip(tables[:-1], gram[1:], strict=True):
                    code = table.setdefault(code, len(table) + 1) * (len(token) + 1) + token[item]
                count += code not in tables[-1]
                places[coordinate] = tables[-1].setdefault(code, count)
            steps[size] = tables
        tokens = texts(list(token)) if pool.dtype == object else np.array(list(token), np.int64)
        return Counting(tokens, steps, places)

    def numbers(self, node: Node, rows: Value, size: int, step: int) -> Value:
        """[.., c] numbers of tokens -> [.., c] the number of the n-gram that begins there, with so many places from one
        part to the next."""
        reach = (size - 1) * step
        padded = _extended(node, rows, reach)
        made = _followed(node, _part(node, padded, 0, reach), self.steps[size][0])
        for part, table in enumerate(self.steps[size][1:], start=1):
            scaled = binary(node, MulOp, made, node.constant(np.array(len(self.tokens) + 1)))
            pairs = binary(node, AddOp, scaled, _part(node, padded, part * step, reach))
            made = _followed(node, pairs, table)
        return made

    def counts(self, node: Node, numbers: Value, leading: Sequence[Dim]) -> Value:
        """[.., m] numbers of n-grams -> [.., coordinates] how often each is there, in f32. Column 0 collects what is no
        n-gram, and the one behind the last stays 0: for coordinates that no n-gram has."""
        axis, last = len(leading), max(self.places) + 1
        zeros, ones = (
            node.insert(ExpandOp.to(node.constant(np.array(value, np.float32)), dims)).result
            for value, dims in ((0, (*leading, last + 1)), (1, shape_of(numbers)))
        )
        found = node.insert(ScatterElementsOp(zeros, numbers, ones, axis=axis, reduction="add")).result
        source = node.constant(np.array([place or last for place in self.places]))
        return node.insert(GatherOp(found, source, axis=axis)).result


def _followed(node: Node, codes: Value, table: dict[int, int]) -> Value:
    keys = sorted(table)
    operands = (np.array(keys, np.int64), np.array([table[key] for key in keys], np.int64), np.array(0))
    return node.insert(LookupOp(codes, *map(node.constant, operands))).result


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
