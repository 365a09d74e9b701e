"""Symbolic dimensions: normal forms, texts, proofs, bounds, and properties over random expressions."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.errors import IRError, ParseError
from stepwell.ir.dims import (
    Dim,
    DimExpr,
    bounds,
    ceildiv,
    dim_broadcast,
    dim_max,
    dim_min,
    divide_exact,
    evaluate,
    fold,
    free_symbols,
    is_multiple_of,
    parse_dim,
    proven_different,
    proven_equal,
    proven_le,
    proven_lt,
    proven_positive,
    solve_for,
    substitute,
    symbol,
    unflagged,
)

n, m, k = symbol("n"), symbol("m"), symbol("k")
h = symbol("h")


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        ((2 * n + 4) // 2, "n + 2"),
        ((n * k + m) // k, "n + m//k"),
        ((n * k) // k, "n"),
        (n // 2 // 3, "n//6"),
        ((n // 2 + 5) // 3, "(n + 4)//6 + 1"),
        (n // m // 4, "n//(4*m)"),
        (n // 1, "n"),
        (n % 1, "0"),
        (n - n, "0"),
        (n // n, "1"),
        (n // -2, "-n + n//2"),
        ((n - 1) // 2, "(n + 1)//2 - 1"),
        ((3 * n + 7) // 2, "n + (n + 1)//2 + 3"),
        ((8 * n) // 16, "n//2"),
        ((8 * n + 3) // 16, "n//2"),
        ((8 * n) % 16, "8*(n%2)"),
        ((8 * n + 3) % 16, "8*(n%2) + 3"),
        ((n + 17) % 16, "(n + 1)%16"),
        ((16 * n) % 8, "0"),
        (n % 6 % 3, "n%3"),
        ((n % 16 + m % 16) % 8, "(m + n)%8"),
        ((n % 4) // 4, "0"),
        ((n % 4) % 8, "n%4"),
        (n % -4, "-((3*n)%4)"),
        ((n * m) % m, "0"),
        ((6 * n * m) // (4 * m), "n + n//2"),
        ((6 * n * m) // (4 * n * k), "(3*m)//(2*k)"),
        (n // (n + 1), "0"),
        (n % (n + 1), "n"),
        (((n + 1) * (m - 3)) // (m - 3), "n + 1"),
        (7 // n, "7//n"),
        (7 % n, "7%n"),
        (ceildiv(n, 4), "(n + 3)//4"),
        (ceildiv(n * k, k), "n"),
        (dim_max(n, n + 1), "n + 1"),
        (dim_max(0, n), "n"),
        (dim_max(1, n), "max(1, n)"),
        (dim_max(n - 3, 0), "max(3, n) - 3"),
        (dim_max(n + m, n + k), "n + max(k, m)"),
        (dim_max(4 * n, 4 * m), "4*max(m, n)"),
        (dim_max(n, n // 2), "n"),
        (dim_max(dim_max(n, m) + 1, k), "max(k, m + 1, n + 1)"),
        (dim_max(dim_max(n, m), n), "max(m, n)"),
        (dim_min(n, 0), "0"),
        (dim_min(n, n // 16 * 16), "16*(n//16)"),
        (dim_min(dim_min(n, 8), 4), "min(4, n)"),
        (-dim_min(n, m), "-min(m, n)"),
        (n * n * m - 2 * n + 5, "m*n**2 - 2*n + 5"),
        (3 - n, "-n + 3"),
        (-(n // 16), "-(n//16)"),
        (m - n // 16, "m - n//16"),
        ((n // 16) * m, "m*(n//16)"),
        (2 * (n // 3) * (n // 3), "2*(n//3)**2"),
    ],
)
def test_normal_form(expr: Dim, text: str) -> None:
    assert str(expr) == text
    assert parse_dim(text) == expr


def test_equal_polynomials_are_one_object() -> None:
    assert (n + m) * (n - m) is n * n - m * m
    assert hash(n + 1) == hash(1 + n)
    assert n + 1 != m + 1
    assert n != 1
    assert (n + 1) - n == 1
    assert type((n + 1) - n) is int


def test_copies_are_the_same_object() -> None:
    expr = dim_max(n // 3, 7) * m - n % 5
    assert pickle.loads(pickle.dumps(expr)) is expr
    assert copy.deepcopy(expr) is expr


def test_numpy_integers_are_integers() -> None:
    expr = n + np.int64(3)
    assert expr is n + 3
    assert isinstance(evaluate(expr * np.int32(2), {"n": 1}), int)
    with pytest.raises(TypeError):
        n + 1.5  # type: ignore[operator]


@pytest.mark.parametrize("operation", [lambda: n // 0, lambda: n % 0, lambda: 3 % (n - n), lambda: ceildiv(n, 0)])
def test_division_by_the_integer_zero(operation: Callable[[], Dim]) -> None:
    with pytest.raises((IRError, ZeroDivisionError)):
        operation()


# Texts.


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("batch", symbol("batch")),
        ("  batch ", symbol("batch")),
        ("8*h8", 8 * symbol("h8")),
        ("past + 1", symbol("past") + 1),
        ("floor((h - 3)/2) + 1", (h - 3) // 2 + 1),
        ("floor(h/2 - 3/2) + 1", (h - 3) // 2 + 1),
        ("(h//2)", h // 2),
        ("-h//2", -h // 2),
        ("Max(1, n)", dim_max(1, n)),
        ("Max(1, n, m)", dim_max(1, dim_max(n, m))),
        ("Min(n, 4)", dim_min(n, 4)),
        ("ceiling(h/2)", ceildiv(h, 2)),
        ("CeilToInt(IntTrueDiv(h, 2))", ceildiv(h, 2)),
        ("FloorDiv(h, 2)", h // 2),
        ("Mod(n, 4)", n % 4),
        ("s0**2", symbol("s0") * symbol("s0")),
        ("4*h/2", 2 * h),
        ("64", 64),
        ("-5", -5),
        ("2*(n + 1) - 2*n", 2),
        ("`a.b` + 1", symbol("a.b") + 1),
        ("`a``b`", symbol("a`b")),
        ("max", symbol("max")),
        ("größe + 1", symbol("größe") + 1),
        ("-" * 4000 + "n", n),
    ],
)
def test_parse(text: str, expr: Dim) -> None:
    assert parse_dim(text) == expr


@pytest.mark.parametrize(
    "text",
    [
        "encoder.seq",
        "a/b",
        "seq / 2",
        "a b",
        "n +",
        "8h",
        "f(x)",
        "floor(n",
        "max()",
        "Mod(n)",
        "n // 0",
        "n / 0",
        "2.0*n",
        "n**m",
        "n**-1",
        "9**9**9",
        "`",
        "``",
        "a`b",
        "__import__('os').abort()",
        "(" * 5000 + "n" + ")" * 5000,
        "*".join(f"(a{i}+b{i})" for i in range(200)),
        "floor(" * 200 + "n" + "/7+a)" * 200,
        "max(" + ",".join(f"a{i}" for i in range(1000)) + ")",
        "((((n**64)**64)**64)**64)",
        "((((7**64)**64)**64)**64)",
        "9" * 5000,
        "n+" * 50_000 + "n",
    ],
)
def test_other_texts_are_one_symbol(text: str) -> None:
    expr = parse_dim(text)
    assert expr is symbol(text)
    assert parse_dim(str(expr)) is expr


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_text(text: str) -> None:
    with pytest.raises(ParseError, match="empty"):
        parse_dim(text)
    with pytest.raises(IRError, match="name"):
        symbol("")


@given(st.text(min_size=1, max_size=12))
def test_any_name_survives_its_text(name: str) -> None:
    expr = symbol(name)
    assert parse_dim(str(expr)) is expr
    assert parse_dim(str(2 * expr + 1)) is 2 * expr + 1


@given(st.text(alphabet="nm123()+-*/% ,`floormax", min_size=1, max_size=30))
def test_any_text_is_a_dimension(text: str) -> None:
    if text.strip():
        expr = parse_dim(text)
        assert parse_dim(str(expr)) == expr


def test_expressions_have_a_largest_size() -> None:
    grown: Dim = n
    with pytest.raises(IRError, match="name its parts"):
        for index in range(3000):
            grown = grown + symbol(f"s{index}")
    nested: Dim = n
    with pytest.raises(IRError, match="nests deeper"):
        for index in range(100):
            nested = (nested + symbol(f"s{index}")) // 7


# Values.


def test_evaluate_and_substitute() -> None:
    expr = dim_max((n + 3) // 4, m % 5) * 2
    assert evaluate(expr, {"n": 9, "m": 4}) == 8
    assert evaluate(7, {}) == 7
    assert substitute(expr, {"m": 5}) == 2 * ((n + 3) // 4)
    assert substitute(n - m, {"n": m, "m": n}) == m - n
    assert substitute(n, {"m": 1}) is n
    assert free_symbols(expr) == {"n", "m"}
    with pytest.raises(IRError, match="'m' has no value"):
        evaluate(expr, {"n": 9})
    with pytest.raises(IRError, match="division by zero in the dimension 'n//m'"):
        evaluate(n // m, {"n": 9, "m": 0})


def test_fold_visits_each_node_once_and_leaves_out_neutral_factors() -> None:
    seen: list[str] = []

    def binary(sign: str) -> Callable[[str, str], str]:
        def build(a: str, b: str) -> str:
            seen.append(sign)
            return f"({a}{sign}{b})"

        return build

    def run(dim: Dim) -> str:
        signs = ("+", "*", "/", "%", "max", "min")
        return fold(dim, str, str, *(binary(sign) for sign in signs))

    quarter = n // 4
    assert run(n) == "n"
    assert run(0) == "0"
    assert run(quarter * m + 3 * quarter - 1) == "(((m*(n/4))+((n/4)*3))+-1)"
    assert seen.count("/") == 1
    assert run(dim_max(n, dim_max(m, 5))) == "((5maxm)maxn)"


# Proofs.


@pytest.mark.parametrize(
    ("dim", "ranges", "expected"),
    [
        (n, None, (0, None)),
        (5 - n, None, (None, 5)),
        (n % 16, None, (0, 15)),
        (n % 16, {"n": (0, 7)}, (0, 7)),
        (n - 16 * (n // 16), None, (0, 15)),
        ((15 - n) // 4, None, (None, 3)),
        ((15 - n) // 4, {"n": (0, 15)}, (0, 3)),
        (n * m, {"n": (2, 3), "m": (5, None)}, (10, None)),
        (n * m - n, {"m": (1, None)}, (0, None)),
        (dim_max(n, m) - n, None, (0, None)),
        (dim_min(n, m) - n, None, (None, 0)),
        (dim_max(n + 5, m) - dim_max(5, m), None, (0, None)),  # each case of the second maximum is in the first
        (dim_min(5, m) - dim_min(n + 5, m), None, (None, 0)),
        (n // m, {"n": (10, 20), "m": (2, 5)}, (2, 10)),
        (n % m, {"m": (1, 5)}, (0, 4)),
        (12, None, (12, 12)),
    ],
)
def test_bounds(dim: Dim, ranges: dict[str, tuple[int, int | None]] | None, expected: tuple[int, int]) -> None:
    assert bounds(dim, ranges) == expected


def test_proofs() -> None:
    assert proven_equal(n % 4 + 4 * (n // 4), n)
    assert proven_equal(n % m + m * (n // m), n)
    assert not proven_equal(n, m)
    assert proven_equal(n, m, {"n": (3, 3), "m": (3, 3)})
    assert proven_le(n // 16 * 16, n)
    assert proven_le(n, ceildiv(n, 16) * 16)
    assert proven_lt(n, n // 16 * 16 + 16)
    assert not proven_le(n, m)
    assert proven_le(dim_min(n, 8), 8)
    assert not proven_positive(n)
    assert proven_positive(n, {"n": (1, None)})
    assert proven_different(n, n + 1)
    assert not proven_different(n, 2 * n)


@pytest.mark.parametrize(
    ("dim", "divisor", "expected"),
    [
        (8 * n + 16, 8, True),
        (8 * n + 4, 8, False),
        (8 * dim_max(n, 2 * m), 4, True),
        ((16 * n) % 64, 16, True),
        (n * m, m, True),
        (n * m + m, m, True),
        (n, m, False),
        (0, 7, True),
        (n, 0, False),
        (12, 4, True),
        (n, 1, True),
    ],
)
def test_is_multiple_of(dim: Dim, divisor: Dim, expected: bool) -> None:
    assert is_multiple_of(dim, divisor) is expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (12 * n * m, 4 * m, 3 * n),
        ((n + 1) * (m - 2), m - 2, n + 1),
        (n * n - m * m, n + m, n - m),
        (n, m, None),
        (5 * n, 2, None),
        (n + 1, n, None),
        (12, 4, 3),
        (12, 5, None),
        (0, n, 0),
        (n, 0, None),
        (n * (m // 3), m // 3, n),
    ],
)
def test_divide_exact(a: Dim, b: Dim, expected: Dim | None) -> None:
    assert divide_exact(a, b) == expected


@pytest.mark.parametrize(
    ("dim", "value", "expected"),
    [
        (8 * n, k, k // 8),
        (n + 1, k, k - 1),
        (n, 5, 5),
        (2 * n + m, k, (k - m) // 2),
        (4 - n, k, 4 - k),
        (8 * n, 24, 3),
        (8 * n, 20, None),
        (n * m, k, None),
        (n * n, k, None),
        (n + n // 2, k, None),
        (m, k, None),
        (7, k, None),
    ],
)
def test_solve_for(dim: Dim, value: Dim, expected: Dim | None) -> None:
    assert solve_for(dim, "n", value) == expected


# Properties: every expression is built beside a plain function of the symbol values.

Meaning = Callable[[dict[str, int]], int]
NAMES = ("n", "m", "k")
VALUES = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})


class _Undefined(Exception):
    """A division by zero in the meaning of an expression."""


def _apply(sign: str, x: int, y: int) -> int:
    if sign in "/%" and y == 0:
        raise _Undefined
    operations: dict[str, Callable[[int, int], int]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a // b,
        "%": lambda a, b: a % b,
        "max": max,
        "min": min,
    }
    return operations[sign](x, y)


def _build(sign: str, a: Dim, b: Dim) -> Dim:
    if sign == "max":
        return dim_max(a, b)
    if sign == "min":
        return dim_min(a, b)
    if sign in "/%" and b == 0:
        b = 1
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a // b, "%": lambda: a % b}[sign]()


Pair = tuple[Dim, Meaning]


def _leaf(value: int | str) -> Pair:
    if isinstance(value, str):
        return symbol(value), lambda values: values[value]
    return value, lambda values: value


def _node(parts: tuple[str, Pair, Pair]) -> Pair:
    sign, (a, mean_a), (b, mean_b) = parts
    built = _build(sign, a, b)
    if sign in "/%" and b == 0:
        return built, lambda values: _apply(sign, mean_a(values), 1)
    return built, lambda values: _apply(sign, mean_a(values), mean_b(values))


PAIRS = st.recursive(
    st.one_of(st.sampled_from(NAMES), st.integers(-9, 9)).map(_leaf),
    lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "/", "%", "max", "min"]), inner, inner).map(_node),
    max_leaves=7,
)


def _meaning(pair: Pair, values: dict[str, int]) -> int | None:
    try:
        return pair[1](values)
    except _Undefined:
        return None


@settings(max_examples=150, deadline=None)
@given(PAIRS, st.lists(VALUES, min_size=4, max_size=4))
def test_simplification_keeps_values(pair: Pair, cases: list[dict[str, int]]) -> None:
    for values in cases:
        expected = _meaning(pair, values)
        if expected is not None:
            assert evaluate(pair[0], values) == expected


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_text_round_trip(pair: Pair) -> None:
    assert parse_dim(str(pair[0])) == pair[0]
    assert substitute(pair[0], {"n": symbol("x")}) == pair[0] or "n" in free_symbols(pair[0])


@settings(max_examples=80, deadline=None)
@given(PAIRS, st.lists(VALUES, min_size=4, max_size=4))
def test_bounds_hold(pair: Pair, cases: list[dict[str, int]]) -> None:
    ranges = {name: (min(c[name] for c in cases), max(c[name] for c in cases)) for name in NAMES}
    free, limited = bounds(pair[0]), bounds(pair[0], ranges)
    for values in cases:
        value = _meaning(pair, values)
        if value is not None:
            for low, high in (free, limited):
                assert low is None or low <= value
                assert high is None or value <= high


@settings(max_examples=80, deadline=None)
@given(PAIRS, PAIRS, PAIRS)
def test_ring_laws_hold_structurally(a: Pair, b: Pair, c: Pair) -> None:
    x, y, z = a[0], b[0], c[0]
    assert x + y == y + x
    assert (x + y) + z == x + (y + z)
    assert x * (y + z) == x * y + x * z
    assert (x + y) - y == x
    assert dim_max(x, y) == dim_max(y, x)
    assert dim_max(x + z, y + z) == dim_max(x, y) + z


@settings(max_examples=80, deadline=None)
@given(PAIRS, PAIRS, VALUES)
def test_exact_quotients_multiply_back(a: Pair, b: Pair, values: dict[str, int]) -> None:
    x, y = a[0], b[0]
    if y != 0:
        assert divide_exact(x * y, y) == x
    quotient = divide_exact(x, y)
    if quotient is not None:
        assert quotient * y == x
    if isinstance(y, int) and y and is_multiple_of(x, y):
        value = _meaning(a, values)
        assert value is None or value % y == 0


@settings(max_examples=100, deadline=None)
@given(PAIRS, VALUES)
def test_substitution_commutes_with_evaluation(pair: Pair, values: dict[str, int]) -> None:
    if _meaning(pair, values) is None or not isinstance(pair[0], DimExpr):
        return
    numbers: dict[str, Dim] = dict(values)
    assert substitute(pair[0], numbers) == evaluate(pair[0], values)


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (dim_broadcast(n, m), "max(m, n)*min(1, m, n)"),
        (dim_broadcast(4 * n, 4 * m), "4*max(m, n)*min(1, m, n)"),
        (dim_broadcast(n + 1, m + 2), "max(m + 1, n) + 1"),
        (dim_broadcast(n, 3), "max(3, n)*min(1, n)"),
        (dim_broadcast(n, 1), "n"),
        (dim_broadcast(n, dim_min(m, 1)), "n*min(1, m)"),
        (dim_broadcast(n * dim_min(m, 1), dim_min(m, 1)), "n*min(1, m)"),
        (dim_broadcast(0, 1), "0"),
        (dim_broadcast(n, m - 3), "max(m, n + 3)*min(1, m - 3, n) - 3*min(1, m - 3, n)"),
    ],
)
def test_sizes_that_broadcast(dim: Dim, text: str) -> None:
    assert str(dim) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4*n*min(1, n)", "4*n"),
        ("n*m*min(1, n) + 3*m*min(1, n)", "n*m + 3*m*min(1, n)"),
        ("n*min(1, m, n)", "n*min(1, m)"),
        ("n**2*min(1, n)**2", "n**2"),
        ("n*min(2, n)", "n*min(2, n)"),
        ("n*min(1, n - 1)", "n*min(1, n - 1)"),
        ("max(3, n)*min(1, n)", "max(3, n)*min(1, n)"),
        ("5", "5"),
    ],
)
def test_flags_that_say_nothing_beside_their_size(text: str, expected: str) -> None:
    found = unflagged(parse_dim(text))
    assert str(found) == str(parse_dim(expected))
    for a, b in product(range(4), repeat=2):
        assert evaluate(found, {"n": a, "m": b}) == evaluate(parse_dim(text), {"n": a, "m": b})


def test_a_sum_that_is_one_at_most_broadcasts_with_a_size() -> None:
    """x[-5:1:2] of k elements: 1, or 0 of none or of many."""
    few = dim_max((dim_max(5, k) + dim_min(1, k)) // 2 + 3, k) - dim_max(5, k)
    made = dim_broadcast(n, few)
    assert made == n * few
    assert all(dim_broadcast(made, part) == made for part in (n, few, made))
    assert [evaluate(made, {"n": 4, "k": size}) for size in (0, 1, 9)] == [0, 4, 0]


SIZES = st.sampled_from([n, m, k, 2 * n, 3 * m, n + 1, n + m, n * m, n // 2, 4 * n + 4 * m, 1, 7])


@given(SIZES, SIZES, SIZES, st.fixed_dictionaries({name: st.integers(0, 3) for name in ("n", "m", "k")}))
def test_a_size_that_was_broadcast_is_what_it_was_made_of(a: Dim, b: Dim, c: Dim, values: dict[str, int]) -> None:
    made = dim_broadcast(dim_broadcast(a, b), c)
    assert all(dim_broadcast(made, part) == made for part in (a, b, c, made, dim_broadcast(a, b)))
    found = [evaluate(size, values) for size in (a, b, c)]
    if len({*found} - {1}) <= 1:
        assert evaluate(made, values) == np.broadcast_shapes(*((size,) for size in found))[0]


def test_halves_that_broadcast_do_not_multiply_out() -> None:
    """The two halves of a rotary embedding, each with the cosines' and the sines' own symbols, eight times over."""
    first, second = (n + 4) // 8, n // 4 - (n + 4) // 8
    made = dim_broadcast(dim_broadcast(first, m), dim_broadcast(second, k))
    for _ in range(8):
        made = dim_broadcast(dim_broadcast(made, first), dim_broadcast(second, made))
    assert len(str(made)) < 600
    assert evaluate(made, {"n": 16, "m": 2, "k": 1}) == 2
    assert evaluate(made, {"n": 16, "m": 1, "k": 2}) == 2


def test_a_sum_of_many_minima_does_not_multiply_out() -> None:
    """Detection models add up what is left of hundreds of candidate lists."""
    total: Dim = 0
    for number in range(60):
        total = total + dim_min(symbol(f"found_{number}"), 300)
    most = dim_min(total, 100)
    assert bounds(most) == (0, 100)
    assert evaluate(most, {f"found_{number}": 1 for number in range(60)}) == 60
    assert evaluate(dim_max(total, symbol("n")), {f"found_{number}": 400 for number in range(60)} | {"n": 7}) == 18000


def test_a_maximum_of_many_dims() -> None:
    dims = [symbol(f"n{number}") for number in range(40)]
    most = functools.reduce(dim_max, dims)
    assert evaluate(most, {f"n{number}": number for number in range(40)}) == 39
