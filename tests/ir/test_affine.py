"""Affine expressions and maps: normal forms, MLIR's text, known ranges, and properties over random expressions."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.errors import IRError, ParseError
from stepwell.ir.affine import (
    AffineExpr,
    AffineMap,
    AffineParseError,
    Range,
    as_affine,
    const,
    dim,
    parse_affine_map,
    read_affine_map,
    simplify_expr,
    sym,
)

d0, d1, d2 = dim(0), dim(1), dim(2)
s0, s1 = sym(0), sym(1)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (d1 + d0, "d0 + d1"),
        (s0 + d0 - 3, "d0 + s0 - 3"),
        (3 - d0, "-d0 + 3"),
        (d0 * 2 - d1 * 3, "d0 * 2 - d1 * 3"),
        (d0 * -2 + 1, "d0 * -2 + 1"),
        (d0 - d0, "0"),
        (d0 * 0, "0"),
        (const(3) * d0, "d0 * 3"),
        (const(-3), "-3"),
        (d0 // 1, "d0"),
        (d0 % 1, "0"),
        ((16 * d0) // 16, "d0"),
        ((16 * d0 + d1) // 16, "d0 + d1 floordiv 16"),
        ((16 * d0 + d1) % 16, "d1 mod 16"),
        ((8 * d0 + 3) // 16, "d0 floordiv 2"),
        ((8 * d0 + 3) % 16, "(d0 mod 2) * 8 + 3"),
        ((d0 - 1) // 2, "(d0 + 1) floordiv 2 - 1"),
        (d0 // 2 // 3, "d0 floordiv 6"),
        ((d0 // 2 + 1) // 3, "(d0 + 2) floordiv 6"),
        (d0 % 6 % 3, "d0 mod 3"),
        ((d0 % 4 + d1) % 2, "(d0 + d1) mod 2"),
        ((d0 % 4) // 4, "0"),
        ((d0 % 4) % 8, "d0 mod 4"),
        (d0.ceildiv(4), "(d0 + 3) floordiv 4"),
        ((4 * d0).ceildiv(4), "d0"),
        (const(7) // 2, "3"),
        (const(-7) % 4, "1"),
        (-(d0 // 2), "-(d0 floordiv 2)"),
        ((d0 // 2) * 3 - (d1 % 2), "(d0 floordiv 2) * 3 - (d1 mod 2)"),
        ((-d0 + 7) // 2, "(-d0 + 1) floordiv 2 + 3"),
    ],
)
def test_normal_form(expr: AffineExpr, text: str) -> None:
    assert str(expr) == text
    assert parse_affine_map(f"(d0, d1)[s0] -> ({text})").results == (expr,)


def test_equal_expressions_and_maps_are_one_object() -> None:
    assert (d0 + d1) * 2 is d1 * 2 + d0 + d0
    assert d0 != s0
    assert AffineMap.identity(2) is AffineMap(2, 0, [d0, d1])
    assert AffineMap(1, 0, [d0]) != AffineMap(2, 0, [d0])
    affine_map = AffineMap(2, 1, [(d0 + s0) // 3, d1 % 5])
    assert pickle.loads(pickle.dumps(affine_map)) is affine_map
    assert copy.deepcopy(affine_map) is affine_map


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda: d0 * d1, "not affine"),
        (lambda: d0 // d1, "must be a constant"),
        (lambda: d0 // 0, "at least 1"),
        (lambda: d0 % -2, "at least 1"),
        (lambda: d0.ceildiv(s0), "must be a constant"),
        (lambda: AffineMap(1, 0, [d1]), "does not fit an affine map of 1 dims"),
        (lambda: AffineMap(1, 0, [s0 % 2]), "does not fit"),
        (lambda: AffineMap.permutation([0, 0]), "no permutation"),
        (lambda: AffineMap.identity(2).compose(AffineMap.identity(3)), "3 results for 2 dims"),
        (lambda: AffineMap.identity(2).evaluate([1]), "given 1 dims"),
        (lambda: AffineMap.identity(2).replace_dims([d0], 1), "1 expressions given"),
        (lambda: AffineMap.from_callable(lambda i: i, num_symbols=2), "cannot have 2 symbols"),
        (lambda: (d0 + d2).evaluate([1]), "needs more than"),
    ],
)
def test_misuse(operation: Callable[[], object], message: str) -> None:
    with pytest.raises(IRError, match=message):
        operation()


def test_linear_questions() -> None:
    expr = 2 * d0 - d1 + 5
    assert expr.linear_form() == ({0: 2, 1: -1}, 5)
    assert [expr.coefficient(i) for i in range(3)] == [2, -1, 0]
    assert (d0 + d1 // 2).coefficient(0) == 1
    assert (d0 + d1 // 2).coefficient(1) is None
    assert (d0 + (d0 + d1) % 2).coefficient(0) is None
    assert (d0 + d1 // 2).linear_form() is None
    assert (d0 + s0).linear_form() is None
    assert (d0 + s0).is_linear
    assert const(4).linear_form() == ({}, 4)
    assert d1.dim_index == 1
    assert s0.dim_index is None
    assert (d1 + 1).dim_index is None
    assert AffineMap(2, 0, [d0 * 2 + d1, const(3)]).linear_form() == (((2, 1), (0, 0)), (0, 3))
    assert AffineMap(2, 0, [d0, d1 % 2]).linear_form() is None


# Maps.


@pytest.mark.parametrize(
    ("affine_map", "text"),
    [
        (AffineMap.identity(2), "(d0, d1) -> (d0, d1)"),
        (AffineMap.identity(0), "() -> ()"),
        (AffineMap(2, 0, []), "(d0, d1) -> ()"),
        (AffineMap.permutation([2, 0, 1]), "(d0, d1, d2) -> (d2, d0, d1)"),
        (AffineMap.projection(3, [2]), "(d0, d1, d2) -> (d2)"),
        (AffineMap.constant([0, 7], num_dims=1), "(d0) -> (0, 7)"),
        (AffineMap(2, 1, [d0 + s0, d1 // 16]), "(d0, d1)[s0] -> (d0 + s0, d1 floordiv 16)"),
        (AffineMap.from_callable(lambda h, kh: 2 * h + kh), "(d0, d1) -> (d0 * 2 + d1)"),
        (AffineMap.from_callable(lambda i, n: (i, n - 1), num_symbols=1), "(d0)[s0] -> (d0, s0 - 1)"),
    ],
)
def test_map_text(affine_map: AffineMap, text: str) -> None:
    assert str(affine_map) == text
    assert parse_affine_map(text) is affine_map
    assert parse_affine_map(f" affine_map< {text} > ") is affine_map


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("affine_map<(i, j)[N] -> (i + N, j)>", "(d0, d1)[s0] -> (d0 + s0, d1)"),
        ("(d0) -> (d0 ceildiv 4)", "(d0) -> ((d0 + 3) floordiv 4)"),
        ("(d0) -> (d0 * 2 floordiv 4 mod 3)", "(d0) -> ((d0 floordiv 2) mod 3)"),
        ("(d0) -> (-d0 + -3 * -2)", "(d0) -> (6 - d0)"),
        ("(d0)[]->(d0-1-1)", "(d0) -> (d0 - 2)"),
        ("(d0)\n -> \n(d0)", "(d0) -> (d0)"),
    ],
)
def test_other_spellings(text: str, same: str) -> None:
    assert parse_affine_map(text) is parse_affine_map(same)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected '('"),
        ("(d0", 3, "expected ','"),
        ("(d0, d0) -> ()", 5, "declared twice"),
        ("(d0) -> (d1)", 9, "'d1' is no dim or symbol"),
        ("(d0) -> (d0 * d0)", 12, "not affine"),
        ("(d0) -> (d0 floordiv 0)", 12, "at least 1"),
        ("(d0) -> (d0 mod d0)", 12, "must be a constant"),
        ("(d0) -> (d0 +)", 13, "expected an expression"),
        ("(d0) -> (d0) x", 13, "unexpected text"),
        ("(d0) => (d0)", 5, "expected '->', found this"),
        ("affine_map<(d0) -> (d0)", 23, "expected '>', found the end"),
        ("(mod) -> ()", 1, "expected the name"),
        ("(d0) -> (d0, )", 13, "expected an expression"),
        ("(d0)\n -> (\n d0 ? 1)", 15, "expected ')', found this"),
        ("(d0) -> (" + "(" * 500, 73, "nested deeper"),
        ("(d0) -> (" + "9" * 5000 + ")", 9, "too many digits"),
    ],
)
def test_parse_errors(text: str, position: int, message: str) -> None:
    with pytest.raises(AffineParseError) as caught:
        parse_affine_map(text)
    assert isinstance(caught.value, ParseError)
    assert caught.value.position == position
    assert message in caught.value.message
    line, caret = str(caught.value).splitlines()[-2:]
    if position < len(text):
        assert line[caret.index("^")] == text[position]


def test_a_map_is_read_from_the_middle_of_other_text() -> None:
    text = "{map = affine_map<(d0) -> (d0 + 1)>, other = ?}"
    affine_map, end = read_affine_map(text, 7)
    assert affine_map is AffineMap(1, 0, [d0 + 1])
    assert text[end] == ","


def test_permutations() -> None:
    permutation = AffineMap.permutation([2, 0, 1])
    assert permutation.is_permutation()
    assert not permutation.is_identity()
    assert AffineMap.identity(3).is_identity()
    assert not AffineMap(2, 0, [d0]).is_identity()
    inverse = permutation.inverse_permutation()
    assert inverse is not None
    assert inverse.compose(permutation).is_identity()
    assert AffineMap(2, 0, [d1, d0 + d1, d0]).inverse_permutation() is AffineMap.projection(3, [2, 0])
    assert AffineMap(2, 0, [d1]).inverse_permutation() is None
    assert AffineMap.projection(3, [2, 0]).is_projected_permutation()
    assert not AffineMap.projection(3, [2, 2]).is_projected_permutation()
    assert not AffineMap(1, 0, [d0 + 1]).is_projected_permutation()
    assert not AffineMap(1, 0, [const(0), d0]).is_projected_permutation()
    assert AffineMap(1, 0, [const(0), d0, const(0)]).is_projected_permutation(allow_zeros=True)
    assert not AffineMap(1, 0, [const(1), d0]).is_projected_permutation(allow_zeros=True)


def test_maps_from_maps() -> None:
    conv = AffineMap.from_callable(lambda h, w, kh, kw: (2 * h + kh, 2 * w + kw))
    assert conv.used_dims() == {0, 1, 2, 3}
    assert conv.select([1]) is AffineMap(4, 0, [dim(1) * 2 + dim(3)])
    assert conv.shift_dims(1) is AffineMap(5, 0, [dim(1) * 2 + dim(3), dim(2) * 2 + dim(4)])
    assert conv.shift_dims(2, offset=2) is AffineMap(6, 0, [dim(0) * 2 + dim(4), dim(1) * 2 + dim(5)])
    assert conv.replace_dims([d0, 0, d1, 1], 2) is AffineMap(2, 0, [2 * d0 + d1, const(1)])
    outer = AffineMap(1, 1, [d0 + s0])
    inner = AffineMap(2, 1, [d0 * 4 + d1 - s0])
    assert outer.compose(inner) is AffineMap(2, 2, [d0 * 4 + d1 + s0 - s1])


def test_evaluate() -> None:
    affine_map = AffineMap(2, 1, [(d0 + s0) // 4, d1 % 3, const(7)])
    assert affine_map.evaluate([9, -1], [3]) == (3, 2, 7)
    first, second, third = affine_map.evaluate([np.arange(3), np.arange(-3, 0)], [2])
    np.testing.assert_array_equal(first, [0, 0, 1])
    np.testing.assert_array_equal(second, [0, 1, 2])
    assert third == 7


def test_fold_gives_the_steps() -> None:
    expr = (d0 + s0) // 4 * 3 - d1 % 2 - 1

    def binary(sign: str) -> Callable[[str, str], str]:
        return lambda a, b: f"({a}{sign}{b})"

    signs = ("+", "*", "/", "%")
    text = expr.fold(str, "d{}".format, "s{}".format, *(binary(sign) for sign in signs))
    assert text == "(((((d0+s0)/4)*3)+((d1%2)*-1))+-1)"


# What is known.


@pytest.mark.parametrize(
    ("expr", "ranges", "multiples", "expected"),
    [
        ((16 * d0 + d1) // 16, [None, (0, 15)], [], d0),
        ((16 * d0 + d1) % 16, [None, (0, 15)], [], d1),
        ((16 * d0 + d1) // 16, [None, (0, 16)], [], d0 + d1 // 16),
        ((16 * d0 + 4 * d1 + d2) // 16, [None, (0, 3), (0, 3)], [], d0),
        ((16 * d0 + 4 * d1 + d2) // 4, [None, (0, 3), (0, 3)], [], 4 * d0 + d1),
        ((16 * d0 + 4 * d1 + d2) % 4, [None, None, (0, 3)], [], d2),
        ((8 * d0 + d1) // 16, [None, (0, 7)], [], d0 // 2),
        ((8 * d0 + d1) % 16, [None, (0, 7)], [], d0 % 2 * 8 + d1),
        ((8 * d0 + d1) // 16, [None, (8, 15)], [], (d0 + 1) // 2),
        (d0 % 16, [(16, 31)], [], d0 - 16),
        ((15 - d0) % 16, [(0, 15)], [], 15 - d0),
        ((15 - d0) // 16, [(0, 15)], [], const(0)),
        (d0 // 16 + d1, [(3, 3), (5, 5)], [], const(5)),
        (d0 % 16, [], [16], const(0)),
        ((d0 + d1) % 16, [None, (0, 15)], [16], d1),
        ((d0 + d1) // 16, [None, (0, 15)], [16], d0 // 16),
        ((d0 + d1) // 16, [], [16], d0 // 16 + d1 // 16),
        ((d0 + d1) // 16, [None, (0, 3)], [4], d0 // 16),
        ((3 * d0 + d1) % 8, [None, (0, 1)], [8, 1], d1),
        ((d0 % 8 + d1) // 8, [None, (0, 0)], [], const(0)),
        ((d0 + d1) % 16, [None, (0, 15)], [], (d0 + d1) % 16),
    ],
)
def test_simplify(expr: AffineExpr, ranges: list[Range | None], multiples: list[int], expected: AffineExpr) -> None:
    assert simplify_expr(expr, ranges, dim_multiples=multiples) is expected
    simplified = AffineMap(3, 0, [expr]).simplify(ranges, dim_multiples=multiples)
    assert simplified is AffineMap(3, 0, [expected])


@pytest.mark.parametrize(
    ("expr", "ranges", "expected"),
    [
        (2 * d0 - d1 + 1, [(0, 3), (1, 5)], (-4, 6)),
        (d0 + d1, [(0, None), (1, 5)], (1, None)),
        (-d0, [(0, None)], (None, 0)),
        (d0 // 4, [(-1, 9)], (-1, 2)),
        (d0 % 4, [(5, 6)], (1, 2)),
        (d0 % 4, [], (0, 3)),
        (const(3), [], (3, 3)),
    ],
)
def test_bounds(expr: AffineExpr, ranges: list[Range | None], expected: Range) -> None:
    assert expr.bounds(ranges) == expected
    assert AffineMap(2, 0, [expr]).result_bounds(ranges) == (expected,)


def test_known_multiples() -> None:
    assert (8 * d0 + 12).known_multiple() == 4
    assert (d0 + 16).known_multiple([8]) == 8
    assert ((d0 + 8) // 4).known_multiple([16]) == 2
    assert (d0 % 12).known_multiple([8]) == 4
    assert const(0).known_multiple() == 0
    assert (s0 * 3).known_multiple((), [5]) == 15


# Properties: expressions are built beside a plain function of the values of d0, d1, s0.

Meaning = Callable[[tuple[int, int, int]], int]
Pair = tuple[AffineExpr, Meaning]


def _combine(parts: tuple[str, Pair, Pair, int]) -> Pair:
    sign, (a, mean_a), (b, mean_b), k = parts
    if sign == "+":
        return a + b, lambda v: mean_a(v) + mean_b(v)
    if sign == "-":
        return a - b, lambda v: mean_a(v) - mean_b(v)
    if sign == "*":
        return a * (k - 4), lambda v: mean_a(v) * (k - 4)
    if sign == "/":
        return a // k, lambda v: mean_a(v) // k
    if sign == "^":
        return a.ceildiv(k), lambda v: -(-mean_a(v) // k)
    return a % k, lambda v: mean_a(v) % k


LEAVES: list[Pair] = [(d0, lambda v: v[0]), (d1, lambda v: v[1]), (s0, lambda v: v[2])]
PAIRS = st.recursive(
    st.one_of(st.sampled_from(LEAVES), st.integers(-9, 9).map(lambda c: (const(c), lambda v: c))),
    lambda inner: st.tuples(st.sampled_from("+-*/^%"), inner, inner, st.integers(1, 12)).map(_combine),
    max_leaves=8,
)
VALUES = st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.integers(-20, 20))


def _map_value(expr: AffineExpr, values: tuple[int, int, int]) -> int:
    return int(AffineMap(2, 1, [expr]).evaluate(values[:2], values[2:])[0])


@settings(max_examples=120, deadline=None)
@given(PAIRS, st.lists(VALUES, min_size=4, max_size=4))
def test_simplification_keeps_values(pair: Pair, cases: list[tuple[int, int, int]]) -> None:
    for values in cases:
        assert _map_value(pair[0], values) == pair[1](values)


@settings(max_examples=120, deadline=None)
@given(PAIRS)
def test_text_round_trip(pair: Pair) -> None:
    affine_map = AffineMap(2, 1, [pair[0]])
    assert parse_affine_map(str(affine_map)) is affine_map
    assert parse_affine_map(f"affine_map<{affine_map}>") is affine_map
    assert pair[0].fold(const, dim, sym, *OPERATIONS) is pair[0]


OPERATIONS = (
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a // b,
    lambda a, b: a % b,
)


@settings(max_examples=150, deadline=None)
@given(
    PAIRS,
    st.lists(VALUES, min_size=4, max_size=4),
    st.tuples(st.sampled_from([1, 2, 3, 4, 6, 8]), st.sampled_from([1, 4, 12]), st.sampled_from([1, 5])),
)
def test_knowledge_keeps_values(pair: Pair, raw: list[tuple[int, int, int]], multiples: tuple[int, int, int]) -> None:
    cases = [(v[0] * multiples[0], v[1] * multiples[1], v[2] * multiples[2]) for v in raw]
    ranges: list[Range] = [(min(v[i] for v in cases), max(v[i] for v in cases)) for i in range(3)]
    simplified = simplify_expr(pair[0], ranges[:2], ranges[2:], multiples[:2], multiples[2:])
    low, high = pair[0].bounds(ranges[:2], ranges[2:])
    divisor = pair[0].known_multiple(multiples[:2], multiples[2:])
    for values in cases:
        value = pair[1](values)
        assert _map_value(simplified, values) == value
        assert low is not None and high is not None and low <= value <= high
        assert math.gcd(value, divisor) == divisor


@settings(max_examples=150, deadline=None)
@given(PAIRS, PAIRS, PAIRS, VALUES)
def test_composition_is_evaluation_in_turn(outer: Pair, a: Pair, b: Pair, values: tuple[int, int, int]) -> None:
    # The inner map has no symbols of its own here: its s0 becomes a third dim.
    inner = AffineMap(3, 0, [e.substitute({}, {0: dim(2)}) for e in (a[0], b[0])])
    composed = AffineMap(2, 1, [outer[0]]).compose(inner)
    assert composed.evaluate(values, [5]) == (outer[1]((a[1](values), b[1](values), 5)),)


def test_integers_become_constants() -> None:
    assert as_affine(np.int64(3)) is const(3)
    assert type(as_affine(np.int64(3)).constant) is int
    assert d0 + np.int64(1) is d0 + 1
    with pytest.raises(TypeError):
        as_affine(1.5)  # type: ignore[arg-type]
