"""The nodes of symbolic dimensions, floordiv, mod, max and min, built in simplified form; and interval bounds.

Division rounds towards minus infinity and a remainder has the sign of its divisor, as in Python. A divisor is taken to
be non-zero: simplifying `n // n` to 1 defines the expression at n = 0 too, and changes no value that was defined.

Invariants of the nodes that stay, which make equal forms structurally equal:
- the coefficients of a numerator lie in [0, k) for a divisor k; `(a*k + r) // k` is always split as `a + r // k`;
- numerator and divisor share no constant and no monomial factor; a positive divisor chain is one division;
- the arguments of max and min share no summand and no constant factor, none is proven to be decided by another, and
  they are sorted, and not nested where the flat list would be short.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from typing import TypeAlias

from stepwell.errors import IRError
from stepwell.ir.dim_poly import (
    NODE_BUILDERS,
    ONE,
    Atom,
    Dim,
    DimExpr,
    Monomial,
    as_dim,
    from_atom,
    from_coefficients,
    make_monomial,
    make_node,
    terms_of,
)

Bound: TypeAlias = float
"""An int of any size, or minus or plus infinity. Finite bounds are never floats."""

Interval: TypeAlias = tuple[Bound, Bound]
Ranges: TypeAlias = Mapping[str, tuple[int, int | None]]

_INF = math.inf
_NO_RANGES: Ranges = {}
_FUEL = 16
MAX_EXTREME_ARGS = 16


# Constructors.


@lru_cache(maxsize=1 << 14)
def floordiv(a: Dim, b: Dim) -> Dim:
    """`a // b`, simplified. Raises IRError where `b` is the integer 0."""
    a, b = _normal_sign(a, b)
    if isinstance(a, int):
        if isinstance(b, int):
            return a // b
    elif isinstance(b, int):
        return _floordiv_constant(a, b)
    if a == 0:
        return 0
    factor, small_a, small_b = _cancel(a, b)
    if factor != 1:
        return floordiv(small_a, small_b)
    whole, rest = _split(a, b)
    if whole != 0:
        return whole + floordiv(rest, b)
    return 0 if _is_remainder(a, b) else from_atom(make_node("floordiv", (a, b)))


@lru_cache(maxsize=1 << 14)
def mod(a: Dim, b: Dim) -> Dim:
    """`a % b`, simplified. Raises IRError where `b` is the integer 0."""
    positive_a, positive_b = _normal_sign(a, b)
    if positive_b != b:
        return -mod(positive_a, positive_b)
    if isinstance(a, int):
        if isinstance(b, int):
            return a % b
    elif isinstance(b, int):
        return _mod_constant(a, b)
    if a == 0:
        return 0
    factor, small_a, small_b = _cancel(a, b)
    if factor != 1:
        return factor * mod(small_a, small_b)
    whole, rest = _split(a, b)
    if whole != 0:
        return mod(rest, b)
    return a if _is_remainder(a, b) else from_atom(make_node("mod", (a, b)))


def ceildiv(a: Dim, b: Dim) -> Dim:
    """The quotient rounded up, as a floordiv; a symbolic `b` is taken to be positive."""
    a, b = _normal_sign(as_dim(a), as_dim(b))
    whole, rest = _split(a, b)
    return whole if rest == 0 else whole + floordiv(rest + b - 1, b)


@lru_cache(maxsize=1 << 14)
def dim_max(a: Dim, b: Dim) -> Dim:
    """The larger of the two, simplified; plain where one is proven to be the larger for all symbol values."""
    return extreme("max", [a, b])


@lru_cache(maxsize=1 << 14)
def dim_min(a: Dim, b: Dim) -> Dim:
    """The smaller of the two, simplified; plain where one is proven to be the smaller for all symbol values."""
    return extreme("min", [a, b])


NODE_BUILDERS.update(floordiv=floordiv, mod=mod, max=dim_max, min=dim_min)


# Division.


def quotient(a: Monomial, b: Monomial) -> Monomial | None:
    """`a / b` when `b` divides `a`, else None."""
    if b is ONE:
        return a
    powers = dict(a.factors)
    for atom, power in b.factors:
        left = powers.get(atom, 0) - power
        if left < 0:
            return None
        powers[atom] = left
    return make_monomial(tuple(item for item in powers.items() if item[1]))


def common_factor(a: Monomial, b: Monomial) -> Monomial:
    other = dict(b.factors)
    return make_monomial(tuple((atom, min(power, other[atom])) for atom, power in a.factors if atom in other))


def divide_exact(a: Dim, b: Dim) -> Dim | None:
    """The polynomial `q` with `a == q * b`, by division of leading terms; None when there is none (or `b` is 0).

    `a = q * b` holds for all values; `q = a / b` of course only where `b` is not 0.
    """
    divisor = terms_of(as_dim(b))
    rest = as_dim(a)
    if not divisor:
        return None
    lead, lead_coefficient = divisor[0]
    result: dict[Monomial, int] = {}
    while terms := terms_of(rest):
        monomial = quotient(terms[0][0], lead)
        if monomial is None or terms[0][1] % lead_coefficient:
            return None
        result[monomial] = terms[0][1] // lead_coefficient
        step = from_coefficients({monomial: result[monomial]})
        rest = rest - step * b
    return from_coefficients(result)


def _normal_sign(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """The pair with a divisor whose leading coefficient is positive; the quotient stays, the remainder changes sign."""
    terms = terms_of(b)
    if not terms:
        raise IRError(f"division by zero in a dimension: ({a}) by 0")
    return (-a, -b) if terms[0][1] < 0 else (a, b)


def _cancel(a: Dim, b: Dim) -> tuple[Dim, Dim, Dim]:
    """(factor, a / factor, b / factor) for the largest constant times monomial that divides every term of both."""
    terms = terms_of(a) + terms_of(b)
    number = math.gcd(*(coefficient for _, coefficient in terms))
    monomial = reduce(common_factor, (m for m, _ in terms))
    factor = from_coefficients({monomial: number})
    if factor == 1:
        return 1, a, b
    small_a, small_b = divide_exact(a, factor), divide_exact(b, factor)
    return (1, a, b) if small_a is None or small_b is None else (factor, small_a, small_b)


def _split(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """(q, r) with `a == q * b + r` for a non-zero `b`; r has no term with a multiple of a one-term `b` in it."""
    exact = divide_exact(a, b)
    if exact is not None:
        return exact, 0
    terms = terms_of(b)
    if len(terms) > 1:
        return 0, a
    monomial, divisor = terms[0]
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for term, coefficient in terms_of(a):
        ratio = quotient(term, monomial)
        if ratio is not None:
            whole[ratio], coefficient = divmod(coefficient, divisor)
        rest[term] = coefficient
    return from_coefficients(whole), from_coefficients(rest)


def _is_remainder(a: Dim, b: Dim) -> bool:
    """Whether 0 <= a < b is proven."""
    return interval(a)[0] >= 0 and interval(b - a)[0] >= 1


def _floordiv_constant(a: DimExpr, k: int) -> Dim:
    whole = {monomial: coefficient // k for monomial, coefficient in a.terms}
    if any(whole.values()):
        rest = {monomial: coefficient % k for monomial, coefficient in a.terms}
        return from_coefficients(whole) + floordiv(from_coefficients(rest), k)
    shared = math.gcd(k, *(coefficient for monomial, coefficient in a.terms if monomial is not ONE))
    if shared > 1:
        return floordiv(_divide_terms(a, shared), k // shared)
    variable = a - a.constant
    atom = variable.as_atom() if isinstance(variable, DimExpr) else None
    if atom is not None and atom.kind == "floordiv":
        numerator, divisor = atom.args
        return floordiv(numerator + a.constant * divisor, divisor * k)
    value = _common_quotient(a, k)
    return from_atom(make_node("floordiv", (a, k))) if value is None else value


def _mod_constant(a: DimExpr, k: int) -> Dim:
    reduced: Dim = from_coefficients({monomial: coefficient % k for monomial, coefficient in a.terms})
    for monomial, coefficient in terms_of(reduced):
        atom = monomial.factors[0][0] if monomial.degree == 1 else None
        # c * (x % m) is congruent to c * x modulo k when k divides c * m.
        if (
            atom is not None
            and atom.kind == "mod"
            and isinstance(atom.args[1], int)
            and not coefficient * atom.args[1] % k
        ):
            reduced = reduced - coefficient * from_atom(atom) + coefficient * atom.args[0]
    if reduced is not a:
        return mod(reduced, k)
    shared = math.gcd(k, *(coefficient for monomial, coefficient in a.terms if monomial is not ONE))
    if shared > 1:
        return shared * mod(_divide_terms(a, shared), k // shared) + a.constant % shared
    value = _common_quotient(a, k)
    return from_atom(make_node("mod", (a, k))) if value is None else a - k * value


def _divide_terms(a: DimExpr, k: int) -> Dim:
    """`a // k` where k divides every coefficient but the constant's, which is rounded down."""
    return from_coefficients({monomial: coefficient // k for monomial, coefficient in a.terms})


def _common_quotient(a: DimExpr, k: int) -> int | None:
    """`a // k` when it is the same for all symbol values."""
    low, high = interval(a)
    if isinstance(low, int) and isinstance(high, int) and low // k == high // k:
        return low // k
    return None


# Maximum and minimum.


def extreme(kind: str, args: Sequence[Dim]) -> Dim:
    """The maximum or minimum (`kind` is max or min) of one dimension or more, simplified."""
    # The common part goes first, so that max(x + z, y + z) is max(x, y) + z even where z holds a maximum itself.
    shift = _pulled_out(kind, args)
    if shift != 0:
        return shift + extreme(kind, [arg - shift for arg in args])
    flat = _flattened(kind, args)
    if len(flat) > MAX_EXTREME_ARGS:
        parts = sorted(flat, key=str)
        halves = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        return extreme(kind, [extreme(kind, half) for half in halves])
    # Sorted first: where two arguments are proven equal, the one that stays must not depend on their order.
    unique = _undecided(kind, sorted(flat, key=lambda arg: (isinstance(arg, DimExpr), str(arg))))
    if len(unique) == 1:
        return unique[0]
    if _pulled_out(kind, unique) != 0:
        return extreme(kind, unique)
    shared = math.gcd(*(coefficient for arg in unique for _, coefficient in terms_of(arg)))
    if shared > 1:
        return shared * extreme(kind, [_exact(arg, shared) for arg in unique])
    return from_atom(make_node(kind, tuple(unique)))


def _exact(arg: Dim, k: int) -> Dim:
    return from_coefficients({monomial: coefficient // k for monomial, coefficient in terms_of(arg)})


def _flattened(kind: str, args: Sequence[Dim]) -> set[Dim]:
    """The arguments with those of inner nodes, as far as these are few: sums of many nodes have their product."""
    found: set[Dim] = set()
    for count, part in enumerate(itertools.chain.from_iterable(_flatten(kind, arg) for arg in args)):
        found.add(part)
        if max(len(found), count // MAX_EXTREME_ARGS) > MAX_EXTREME_ARGS:
            return set(args)
    return found


def _flatten(kind: str, arg: Dim) -> Iterator[Dim]:
    """max(max(a, b) + n, c) is one maximum of a + n, b + n, c; so for positive multiples of the inner one."""
    for monomial, coefficient in terms_of(arg):
        if monomial.degree == 1 and coefficient > 0 and monomial.factors[0][0].kind == kind:
            atom = monomial.factors[0][0]
            rest = arg - coefficient * from_atom(atom)
            for inner in atom.args:
                yield from _flatten(kind, rest + coefficient * inner)
            return
    yield arg


def _undecided(kind: str, args: list[Dim]) -> list[Dim]:
    """The arguments less those that another one is proven to beat."""
    kept: list[Dim] = []
    for arg in args:
        if any(_beats(kind, other, arg) for other in kept):
            continue
        kept = [other for other in kept if not _beats(kind, arg, other)]
        kept.append(arg)
    return kept


def _beats(kind: str, winner: Dim, loser: Dim) -> bool:
    return interval(winner - loser if kind == "max" else loser - winner)[0] >= 0


def _pulled_out(kind: str, args: Sequence[Dim]) -> Dim:
    """What is added to an extreme instead of to its arguments: their common part, negative terms of one of them among
    it. A min(1, n - k) keeps those: it is the factor of a size that nothing is broadcast to, and has to stay one."""
    coefficients = [dict(terms_of(arg)) for arg in args]
    monomials = {monomial for table in coefficients for monomial in table}
    common = {m: min(table.get(m, 0) for table in coefficients) for m in monomials}
    if kind == "min" and any(map(_is_at_most_one, args)):
        common = {monomial: coefficient for monomial, coefficient in common.items() if coefficient > 0}
    return from_coefficients(common)


def _is_at_most_one(arg: Dim) -> bool:
    """Whether a dim is 1, or a min(1, ...)."""
    if isinstance(arg, int):
        return arg == 1
    (monomial, coefficient), *others = terms_of(arg)
    atom, power = monomial.factors[0] if monomial.factors else (None, 0)
    alone = atom is not None and not others and coefficient == power == len(monomial.factors) == 1
    return alone and atom is not None and atom.kind == "min" and 1 in atom.args


# Intervals.


def interval(dim: Dim, ranges: Ranges = _NO_RANGES) -> Interval:
    """Bounds of `dim` when every symbol lies in its inclusive range (default: from 0); sound, not exact."""
    if isinstance(dim, int):
        return dim, dim
    if ranges:
        return _interval(dim, ranges, _FUEL)
    if dim.interval_cache is None:
        dim.interval_cache = _interval(dim, _NO_RANGES, _FUEL)
    return dim.interval_cache


def _interval(dim: Dim, ranges: Ranges, fuel: int) -> Interval:
    if isinstance(dim, int):
        return dim, dim
    low: Bound = 0
    high: Bound = 0
    for monomial, coefficient in dim.terms:
        term_low, term_high = _scale(_monomial_interval(monomial, ranges, fuel), coefficient)
        low, high = _add(low, term_low), _add(high, term_high)
    if len(dim.terms) > 1 and fuel > 1:
        for rewritten_low, rewritten_high in _rewritten(dim, ranges, fuel):
            low, high = max(low, rewritten_low), min(high, rewritten_high)
    return low, high


def _rewritten(dim: DimExpr, ranges: Ranges, fuel: int) -> list[Interval]:
    """Bounds that see that the terms of a sum depend on each other, through its first linear node, and through the
    first one that takes the other side: max(m, c) - max(5, c) is at least 0 for each case of the second maximum, in
    none of the first alone."""
    found: dict[bool, Interval] = {}  # by whether the node makes the sum the largest of its cases, or the smallest
    for monomial, coefficient in dim.terms:
        if monomial.degree != 1:
            continue
        atom = monomial.factors[0][0]
        rest = dim - coefficient * from_atom(atom)
        if isinstance(rest, int):
            continue
        if atom.kind == "floordiv" and isinstance(atom.args[1], int) and not found:
            return [_through_remainder(atom.args[0], atom.args[1], coefficient, rest, ranges, fuel)]
        is_largest = (atom.kind == "max") == (coefficient > 0)
        if atom.kind in ("max", "min") and is_largest not in found:
            found[is_largest] = _by_cases(atom, coefficient, rest, ranges, fuel)
    return list(found.values())


def _through_remainder(a: Dim, k: int, coefficient: int, rest: Dim, ranges: Ranges, fuel: int) -> Interval:
    """Bounds of `c * (a // k) + rest`, which is `(c * (a - a % k) + k * rest) / k`."""
    low, high = _interval(coefficient * (a - mod(a, k)) + k * rest, ranges, fuel // 2)
    return (-(-low // k) if isinstance(low, int) else low), (high // k if isinstance(high, int) else high)


def _by_cases(atom: Atom, coefficient: int, rest: Dim, ranges: Ranges, fuel: int) -> Interval:
    """Bounds of `c * max(a, b) + rest`: the maximum (minimum for c < 0) of `c * a + rest` and `c * b + rest`."""
    share = fuel // (2 * len(atom.args))
    cases = [_interval(coefficient * arg + rest, ranges, share) for arg in atom.args]
    pick = max if (atom.kind == "max") == (coefficient > 0) else min
    return pick(low for low, _ in cases), pick(high for _, high in cases)


def _monomial_interval(monomial: Monomial, ranges: Ranges, fuel: int) -> Interval:
    low: Bound = 1
    high: Bound = 1
    for atom, power in monomial.factors:
        factor = _atom_interval(atom, ranges, fuel)
        for _ in range(power):
            corners = [_multiply(x, y) for x in (low, high) for y in factor]
            low, high = min(corners), max(corners)
    return low, high


def _atom_interval(atom: Atom, ranges: Ranges, fuel: int) -> Interval:
    if atom.kind == "symbol":
        low, high = ranges.get(atom.name, (0, None))
        return low, (_INF if high is None else high)
    parts = [_interval(arg, ranges, fuel // 2) if ranges else interval(arg) for arg in atom.args]
    if atom.kind in ("max", "min"):
        pick = max if atom.kind == "max" else min
        return pick(low for low, _ in parts), pick(high for _, high in parts)
    if parts[1][0] < 0:
        return -_INF, _INF
    divisor = (max(parts[1][0], 1), max(parts[1][1], 1))
    return (_floordiv_interval if atom.kind == "floordiv" else _mod_interval)(parts[0], divisor)


def _floordiv_interval(a: Interval, b: Interval) -> Interval:
    low = _quotient(a[0], b[1] if a[0] >= 0 else b[0])
    high = _quotient(a[1], b[0] if a[1] >= 0 else b[1])
    return low, high


def _mod_interval(a: Interval, b: Interval) -> Interval:
    high = _add(b[1], -1)
    return 0, (min(high, a[1]) if a[0] >= 0 else high)


def _add(x: Bound, y: Bound) -> Bound:
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    return y if isinstance(x, int) else x


def _multiply(x: Bound, y: Bound) -> Bound:
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    if x == 0 or y == 0:
        return 0
    return _INF if (x > 0) == (y > 0) else -_INF


def _scale(bounds: Interval, factor: int) -> Interval:
    low, high = _multiply(bounds[0], factor), _multiply(bounds[1], factor)
    return (low, high) if factor > 0 else (high, low)


def _quotient(x: Bound, k: Bound) -> Bound:
    """`x // k` for k >= 1; the limit where one of them is infinite."""
    if not isinstance(x, int):
        return x
    if not isinstance(k, int):
        return 0 if x >= 0 else -1
    return x // k
