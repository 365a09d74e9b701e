"""Affine expressions: integer combinations of dims `d0..`, symbols `s0..`, and floordiv / mod of such by constants.

Expressions are interned, so equal ones are one object, and they are kept as a sorted sum of integer multiples of atoms
plus a constant. `ceildiv` is written through floordiv. Division rounds towards minus infinity and a remainder lies in
[0, divisor), as in MLIR. Dims and symbols may be negative: what is known about them enters through ranges.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, SupportsIndex, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from stepwell.errors import IRError

T = TypeVar("T")

Range: TypeAlias = tuple[int | None, int | None]
"""Inclusive (low, high), None for unbounded."""
Ranges: TypeAlias = Sequence[Range | None]
"""By position; None, or a position past the end, is a range without bounds."""

UNBOUNDED: Range = (None, None)

_lock = threading.Lock()

DIM, SYMBOL, FLOORDIV, MOD = "dim", "symbol", "floordiv", "mod"
_RANK = {DIM: 0, SYMBOL: 1, FLOORDIV: 2, MOD: 3}


class AffineAtom:
    """A dim or symbol (`kind`, `index`), or a floordiv or mod of `operand` by the constant `divisor` >= 2. Interned."""

    __slots__ = ("__weakref__", "dims", "divisor", "index", "key", "kind", "operand", "symbols")

    kind: str
    index: int
    operand: AffineExpr
    divisor: int
    key: tuple[Any, ...]
    dims: frozenset[int]
    symbols: frozenset[int]

    @property
    def is_leaf(self) -> bool:
        return self.kind == DIM or self.kind == SYMBOL

    def __reduce__(self) -> tuple[object, ...]:
        return (_leaf, (self.kind, self.index)) if self.is_leaf else (_node, (self.kind, self.operand, self.divisor))


Terms: TypeAlias = tuple[tuple[AffineAtom, int], ...]
Sum: TypeAlias = dict[AffineAtom, int]

_atoms: WeakValueDictionary[tuple[object, ...], AffineAtom] = WeakValueDictionary()
_exprs: WeakValueDictionary[tuple[Terms, int], AffineExpr] = WeakValueDictionary()


class AffineExpr:
    """`sum of coefficient * atom + constant`, immutable and interned; made by `dim`, `sym`, `const` and operators."""

    __slots__ = ("__weakref__", "constant", "dims", "key", "symbols", "terms", "text_cache")

    terms: Terms
    constant: int
    dims: frozenset[int]
    symbols: frozenset[int]
    key: tuple[Any, ...]
    text_cache: str | None

    @property
    def is_constant(self) -> bool:
        return not self.terms

    @property
    def is_linear(self) -> bool:
        """No floordiv and no mod."""
        return all(atom.is_leaf for atom, _ in self.terms)

    @property
    def dim_index(self) -> int | None:
        """i where the expression is just `d<i>`, else None."""
        if len(self.terms) == 1 and not self.constant:
            atom, coefficient = self.terms[0]
            if coefficient == 1 and atom.kind == DIM:
                return atom.index
        return None

    @property
    def quotient(self) -> tuple[AffineExpr, int] | None:
        """(x, n) where the expression is just `x floordiv n`, else None."""
        return self._divided(FLOORDIV)

    @property
    def remainder(self) -> tuple[AffineExpr, int] | None:
        """(x, n) where the expression is just `x mod n`, else None."""
        return self._divided(MOD)

    def _divided(self, kind: str) -> tuple[AffineExpr, int] | None:
        if len(self.terms) == 1 and not self.constant:
            atom, coefficient = self.terms[0]
            if coefficient == 1 and atom.kind == kind:
                return atom.operand, atom.divisor
        return None

    def coefficient(self, index: int) -> int | None:
        """The factor of `d<index>`; 0 where it does not occur, None where it occurs inside a floordiv or mod."""
        factor = 0
        for atom, coefficient in self.terms:
            if atom.kind == DIM:
                if atom.index == index:
                    factor = coefficient
            elif index in atom.dims:
                return None
        return factor

    def linear_form(self) -> tuple[dict[int, int], int] | None:
        """({dim: coefficient}, constant) of an expression over dims alone, zeros left out; None for any other."""
        if any(atom.kind != DIM for atom, _ in self.terms):
            return None
        return {atom.index: coefficient for atom, coefficient in self.terms}, self.constant

    def evaluate(self, dims: Sequence[Any], symbols: Sequence[Any] = ()) -> Any:
        """The value at these dims and symbols: ints, NumPy arrays, or anything with + * // % that floors.

        A constant expression gives an int whatever the dims are. Raises IRError for a dim or symbol without a value.
        """
        if any(index >= len(dims) for index in self.dims) or any(index >= len(symbols) for index in self.symbols):
            raise IRError(f"'{self}' needs more than the {len(dims)} dims and {len(symbols)} symbols given")
        return self._evaluate(dims, symbols)

    def _evaluate(self, dims: Sequence[Any], symbols: Sequence[Any]) -> Any:
        total: Any = None
        for atom, coefficient in self.terms:
            if atom.is_leaf:
                value = (dims if atom.kind == DIM else symbols)[atom.index]
            else:
                inner = atom.operand._evaluate(dims, symbols)
                value = inner // atom.divisor if atom.kind == FLOORDIV else inner % atom.divisor
            if coefficient != 1:
                value = value * coefficient
            total = value if total is None else total + value
        if total is None:
            return self.constant
        return total + self.constant if self.constant else total

    def fold(
        self,
        leaf_int: Callable[[int], T],
        leaf_dim: Callable[[int], T],
        leaf_symbol: Callable[[int], T],
        add: Callable[[T, T], T],
        mul: Callable[[T, T], T],
        floordiv: Callable[[T, T], T],
        mod: Callable[[T, T], T],
    ) -> T:
        """Rebuild bottom up with the given operations, in a fixed order; neutral factors and offsets are left out."""

        def visit_atom(atom: AffineAtom) -> T:
            if atom.is_leaf:
                return (leaf_dim if atom.kind == DIM else leaf_symbol)(atom.index)
            return (floordiv if atom.kind == FLOORDIV else mod)(visit(atom.operand), leaf_int(atom.divisor))

        def visit(expr: AffineExpr) -> T:
            parts = [visit_atom(a) if c == 1 else mul(visit_atom(a), leaf_int(c)) for a, c in expr.terms]
            if expr.constant or not parts:
                parts.append(leaf_int(expr.constant))
            result = parts[0]
            for part in parts[1:]:
                result = add(result, part)
            return result

        return visit(self)

    def substitute(
        self, dims: Mapping[int, AffineExpr] | Sequence[AffineExpr], symbols: Mapping[int, AffineExpr] | None = None
    ) -> AffineExpr:
        """This expression with dims (and symbols) replaced, all at once; those not mentioned stay."""
        table = dims if isinstance(dims, Mapping) else dict(enumerate(dims))
        return self._substitute(table, symbols or {})

    def _substitute(self, dims: Mapping[int, AffineExpr], symbols: Mapping[int, AffineExpr]) -> AffineExpr:
        if self.dims.isdisjoint(dims) and self.symbols.isdisjoint(symbols):
            return self
        result: dict[AffineAtom, int] = {}
        constant = self.constant
        for atom, coefficient in self.terms:
            if atom.is_leaf:
                value = (dims if atom.kind == DIM else symbols).get(atom.index)
            else:
                value = _BUILD[atom.kind](atom.operand._substitute(dims, symbols), atom.divisor)
            if value is None:
                result[atom] = result.get(atom, 0) + coefficient
            else:
                constant += coefficient * value.constant
                accumulate(result, value.terms, coefficient)
        return from_terms(result, constant)

    def shift_dims(self, shift: int, offset: int = 0) -> AffineExpr:
        """Every `d<i>` with i >= `offset` becomes `d<i + shift>`."""
        return self.substitute({index: dim(index + shift) for index in self.dims if index >= offset})

    def __add__(self, other: AffineExpr | int) -> AffineExpr:
        if isinstance(other, AffineExpr):
            if not other.terms:
                return _intern(self.terms, self.constant + other.constant)
            return from_terms(accumulate(dict(self.terms), other.terms, 1), self.constant + other.constant)
        return _intern(self.terms, self.constant + operator.index(other))

    __radd__ = __add__

    def __sub__(self, other: AffineExpr | int) -> AffineExpr:
        return self + -other

    def __rsub__(self, other: int) -> AffineExpr:
        return -self + other

    def __neg__(self) -> AffineExpr:
        return self * -1

    def __mul__(self, other: AffineExpr | int) -> AffineExpr:
        if isinstance(other, AffineExpr):
            if other.terms and self.terms:
                raise IRError(f"a product of '{self}' and '{other}' is not affine; one factor must be a constant")
            return self * other.constant if self.terms else other * self.constant
        factor = operator.index(other)
        if not factor:
            return const(0)
        return _intern(tuple((atom, factor * c) for atom, c in self.terms), factor * self.constant)

    __rmul__ = __mul__

    def __floordiv__(self, divisor: AffineExpr | int) -> AffineExpr:
        return floordiv(self, divisor)

    def __mod__(self, divisor: AffineExpr | int) -> AffineExpr:
        return mod(self, divisor)

    def ceildiv(self, divisor: AffineExpr | int) -> AffineExpr:
        """The quotient rounded up, as a floordiv. Raises IRError unless `divisor` is a constant >= 1."""
        k = _divisor(divisor)
        return floordiv(self + (k - 1), k)

    def bounds(self, dims: Ranges = (), symbols: Ranges = ()) -> Range:
        """Inclusive (low, high) for dims and symbols in these ranges; None for unbounded. Sound, not always tight."""
        low: int | None = self.constant
        high: int | None = self.constant
        for atom, coefficient in self.terms:
            first, last = atom_bounds(atom, dims, symbols)
            if coefficient < 0:
                first, last = last, first
            low = None if low is None or first is None else low + coefficient * first
            high = None if high is None or last is None else high + coefficient * last
        return low, high

    def known_multiple(self, dims: Sequence[int] = (), symbols: Sequence[int] = ()) -> int:
        """The largest known divisor of the value (0: it is 0), where `d<i>` is a multiple of `dims[i]`."""
        return math.gcd(self.constant, *(c * atom_multiple(atom, dims, symbols) for atom, c in self.terms))

    def __str__(self) -> str:
        """MLIR's text, terms in a fixed order."""
        if self.text_cache is None:
            self.text_cache = _expr_text(self)
        return self.text_cache

    def __repr__(self) -> str:
        return f"AffineExpr({self})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_intern, (self.terms, self.constant))


# Construction. Lookups are lock-free; the lock makes one object win when two threads miss at once.


def _leaf(kind: str, index: int) -> AffineAtom:
    return _atoms.get((kind, index)) or _new_atom(kind, index, None, 0)


def _node(kind: str, operand: AffineExpr, divisor: int) -> AffineAtom:
    return _atoms.get((kind, operand, divisor)) or _new_atom(kind, 0, operand, divisor)


def _new_atom(kind: str, index: int, operand: AffineExpr | None, divisor: int) -> AffineAtom:
    atom = AffineAtom()
    atom.kind, atom.index, atom.divisor = kind, index, divisor
    if operand is None:
        atom.key = (_RANK[kind], index)
        atom.dims = frozenset((index,)) if kind == DIM else frozenset()
        atom.symbols = frozenset((index,)) if kind == SYMBOL else frozenset()
        with _lock:
            return _atoms.setdefault((kind, index), atom)
    atom.operand = operand
    atom.key = (_RANK[kind], operand.key, divisor)
    atom.dims, atom.symbols = operand.dims, operand.symbols
    with _lock:
        return _atoms.setdefault((kind, operand, divisor), atom)


def _intern(terms: Terms, constant: int) -> AffineExpr:
    found = _exprs.get((terms, constant))
    if found is not None:
        return found
    expr = AffineExpr()
    expr.terms, expr.constant = terms, constant
    expr.dims = frozenset().union(*(atom.dims for atom, _ in terms))
    expr.symbols = frozenset().union(*(atom.symbols for atom, _ in terms))
    expr.key = (tuple((atom.key, coefficient) for atom, coefficient in terms), constant)
    expr.text_cache = None
    with _lock:
        return _exprs.setdefault((terms, constant), expr)


def accumulate(into: Sum, terms: Iterable[tuple[AffineAtom, int]], factor: int) -> Sum:
    for atom, coefficient in terms:
        into[atom] = into.get(atom, 0) + factor * coefficient
    return into


def from_terms(coefficients: Mapping[AffineAtom, int], constant: int) -> AffineExpr:
    """The sum of `coefficient * atom` and `constant`."""
    terms = [term for term in coefficients.items() if term[1]]
    if len(terms) > 1:
        terms.sort(key=lambda term: term[0].key)
    return _intern(tuple(terms), constant)


def dim(index: int) -> AffineExpr:
    """`d<index>`."""
    return _intern(((_leaf(DIM, index), 1),), 0)


def sym(index: int) -> AffineExpr:
    """`s<index>`."""
    return _intern(((_leaf(SYMBOL, index), 1),), 0)


def const(value: int) -> AffineExpr:
    """The constant `value`."""
    return _intern((), operator.index(value))


def as_affine(value: AffineExpr | SupportsIndex) -> AffineExpr:
    """`value` as an expression; integers become constants. Raises TypeError for anything else."""
    return value if isinstance(value, AffineExpr) else const(operator.index(value))


def _divisor(value: AffineExpr | int) -> int:
    if isinstance(value, AffineExpr):
        if value.terms:
            raise IRError(f"division by '{value}' is not affine; the divisor must be a constant")
        value = value.constant
    k = operator.index(value)
    if k < 1:
        raise IRError(f"affine division by {k}; the divisor must be at least 1")
    return k


def floordiv(expr: AffineExpr, divisor: AffineExpr | int) -> AffineExpr:
    """`expr floordiv divisor`, simplified. Raises IRError unless `divisor` is a constant >= 1."""
    k = _divisor(divisor)
    if k == 1:
        return expr
    whole = {atom: coefficient // k for atom, coefficient in expr.terms if not coefficient % k}
    rest = from_terms({atom: coefficient for atom, coefficient in expr.terms if coefficient % k}, expr.constant % k)
    fraction = _plain_floordiv(rest, k)
    return from_terms(accumulate(whole, fraction.terms, 1), expr.constant // k + fraction.constant)


def _plain_floordiv(expr: AffineExpr, k: int) -> AffineExpr:
    """The quotient of an expression without multiples of k whose constant lies in [0, k)."""
    if not expr.terms:
        return const(0)
    shared = math.gcd(k, *(coefficient for _, coefficient in expr.terms))
    if shared > 1:
        return floordiv(_divide_terms(expr, shared), k // shared)
    atom, coefficient = expr.terms[0]
    if len(expr.terms) == 1 and coefficient == 1 and not atom.is_leaf:
        if atom.kind == FLOORDIV:
            return floordiv(atom.operand + expr.constant * atom.divisor, atom.divisor * k)
        if atom.divisor - 1 + expr.constant < k:
            return const(0)
    return _intern(((_node(FLOORDIV, expr, k), 1),), 0)


def mod(expr: AffineExpr, divisor: AffineExpr | int) -> AffineExpr:
    """`expr mod divisor`, simplified. Raises IRError unless `divisor` is a constant >= 1."""
    k = _divisor(divisor)
    rest: dict[AffineAtom, int] = {}
    constant = expr.constant
    for atom, coefficient in expr.terms:
        # c * (x mod m) is congruent to c * x modulo k when k divides c * m.
        if atom.kind == MOD and not coefficient * atom.divisor % k:
            accumulate(rest, atom.operand.terms, coefficient)
            constant += coefficient * atom.operand.constant
        else:
            accumulate(rest, ((atom, coefficient),), 1)
    reduced = from_terms({atom: c for atom, c in rest.items() if c % k}, constant % k)
    if not reduced.terms:
        return reduced
    if reduced is not expr:
        return mod(reduced, k)
    shared = math.gcd(k, *(coefficient for _, coefficient in reduced.terms))
    if shared > 1:
        return mod(_divide_terms(reduced, shared), k // shared) * shared + reduced.constant % shared
    atom, coefficient = reduced.terms[0]
    if len(reduced.terms) == 1 and coefficient == 1 and atom.kind == MOD and atom.divisor - 1 + reduced.constant < k:
        return reduced
    return _intern(((_node(MOD, reduced, k), 1),), 0)


def _divide_terms(expr: AffineExpr, k: int) -> AffineExpr:
    return _intern(tuple((atom, coefficient // k) for atom, coefficient in expr.terms), expr.constant // k)


_BUILD: dict[str, Callable[[AffineExpr, AffineExpr | int], AffineExpr]] = {FLOORDIV: floordiv, MOD: mod}


# What is known of an atom.


def atom_bounds(atom: AffineAtom, dims: Ranges, symbols: Ranges) -> Range:
    if atom.is_leaf:
        ranges = dims if atom.kind == DIM else symbols
        return (ranges[atom.index] or UNBOUNDED) if atom.index < len(ranges) else UNBOUNDED
    low, high = atom.operand.bounds(dims, symbols)
    k = atom.divisor
    if atom.kind == FLOORDIV:
        return (None if low is None else low // k), (None if high is None else high // k)
    if low is not None and high is not None and low // k == high // k:
        return low % k, high % k
    return 0, k - 1


def atom_multiple(atom: AffineAtom, dims: Sequence[int], symbols: Sequence[int]) -> int:
    if atom.is_leaf:
        multiples = dims if atom.kind == DIM else symbols
        return multiples[atom.index] if atom.index < len(multiples) else 1
    inner = atom.operand.known_multiple(dims, symbols)
    if atom.kind == MOD:
        return math.gcd(inner, atom.divisor)
    return inner // atom.divisor if inner % atom.divisor == 0 else 1


# Text.


def _expr_text(expr: AffineExpr) -> str:
    if not expr.terms:
        return str(expr.constant)
    text = ""
    for atom, coefficient in expr.terms:
        piece = _atom_text(atom, bare=coefficient == 1)
        if coefficient == -1:
            piece, sign = (f"-{piece}", "") if not text else (piece, " - ")
        elif coefficient < 0 and text:
            piece, sign = f"{piece} * {-coefficient}", " - "
        else:
            piece, sign = (piece if coefficient == 1 else f"{piece} * {coefficient}"), " + "
        text += sign + piece if text else piece
    if expr.constant:
        text += f" {'+' if expr.constant > 0 else '-'} {abs(expr.constant)}"
    return text


def _atom_text(atom: AffineAtom, bare: bool) -> str:
    if atom.is_leaf:
        return f"{'d' if atom.kind == DIM else 's'}{atom.index}"
    inner = atom.operand
    simple = len(inner.terms) == 1 and not inner.constant and inner.terms[0][1] == 1 and inner.terms[0][0].is_leaf
    text = f"{inner if simple else f'({inner})'} {atom.kind} {atom.divisor}"
    return text if bare else f"({text})"
