"""The polynomial ring under symbolic dimensions: interned atoms, monomials and `DimExpr` with its `+ - *`.

A dimension is an `int` or a `DimExpr`: a sum of integer multiples of monomials over atoms. An atom is a symbol (a
non-negative integer known at run time) or a node that is no polynomial: `floordiv`, `mod`, `max`, `min`. Everything is
interned, so equal polynomials are one object and `==` is `is`. Terms are kept in graded lexicographic order, which is
multiplicative: the first term of a product is the product of the first terms (exact division relies on it).

The nodes simplify in `stepwell.ir.dim_nodes`, which enters its constructors into `NODE_BUILDERS`; use the names through
`stepwell.ir.dims`.
"""

from __future__ import annotations

import operator
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import SupportsIndex, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from stepwell.errors import IRError

T = TypeVar("T")

# What one expression may grow to. Dimension texts come from model files, so every algorithm below needs a bound on its
# input; real models stay one or two orders of magnitude under these.
MAX_SIZE = 2048
MAX_DEPTH = 48
MAX_COEFFICIENT_BITS = 512

_BARE_NAME = re.compile(r"[^\W\d]\w*")
# A character that starts no token of the dimension grammar: a text that holds one can only be an opaque symbol.
_NO_TOKEN = re.compile(r"[^\w\s+\-*/%(),`]")

_lock = threading.Lock()


class Atom:
    """A symbol (`kind == "symbol"`, `name`) or a node (`kind` floordiv, mod, max or min, and its `args`); interned."""

    __slots__ = ("__weakref__", "args", "depth", "key", "kind", "name", "size", "symbols", "text")

    kind: str
    name: str
    args: tuple[Dim, ...]
    text: str
    key: tuple[bool, str]
    size: int
    depth: int
    symbols: frozenset[str]

    def value(self, values: Mapping[str, int]) -> int:
        if self.kind == "symbol":
            try:
                return values[self.name]
            except KeyError:
                raise IRError(f"the dimension symbol '{self.name}' has no value here") from None
        args = [evaluate(arg, values) for arg in self.args]
        if self.kind == "max":
            return max(args)
        if self.kind == "min":
            return min(args)
        if args[1] == 0:
            raise IRError(f"division by zero in the dimension '{self.text}'")
        return args[0] // args[1] if self.kind == "floordiv" else args[0] % args[1]

    def __repr__(self) -> str:
        return f"Atom({self.text})"

    def __reduce__(self) -> tuple[object, ...]:
        return (make_symbol, (self.name,)) if self.kind == "symbol" else (make_node, (self.kind, self.args))


class Monomial:
    """A product of atoms with their powers, sorted by atom; `ONE` is the empty product. Interned."""

    __slots__ = ("__weakref__", "degree", "factors", "key")

    factors: tuple[tuple[Atom, int], ...]
    degree: int
    key: tuple[int, tuple[tuple[tuple[bool, str], int], ...]]

    def __reduce__(self) -> tuple[object, ...]:
        return (make_monomial, (self.factors,))


Terms: TypeAlias = tuple[tuple[Monomial, int], ...]

_atoms: WeakValueDictionary[tuple[str, object], Atom] = WeakValueDictionary()
_monomials: WeakValueDictionary[tuple[tuple[Atom, int], ...], Monomial] = WeakValueDictionary()
_exprs: WeakValueDictionary[Terms, DimExpr] = WeakValueDictionary()


class DimExpr:
    """A dimension that is not a plain integer, immutable and interned; made by `symbol`, operators and `parse_dim`."""

    __slots__ = ("__weakref__", "depth", "interval_cache", "size", "symbols", "terms", "text_cache")

    terms: Terms
    symbols: frozenset[str]
    size: int
    depth: int
    text_cache: str | None
    interval_cache: tuple[float, float] | None

    @property
    def constant(self) -> int:
        monomial, coefficient = self.terms[-1]
        return coefficient if monomial is ONE else 0

    def as_atom(self) -> Atom | None:
        """The atom that this expression is, without factor or offset; else None."""
        monomial, coefficient = self.terms[0]
        if len(self.terms) == 1 and coefficient == 1 and monomial.degree == 1:
            return monomial.factors[0][0]
        return None

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The integer at these symbol values. Raises IRError for a missing symbol and for a division by zero."""
        total = 0
        for monomial, coefficient in self.terms:
            for atom, power in monomial.factors:
                coefficient *= atom.value(values) ** power
            total += coefficient
        return total

    def substitute(self, mapping: Mapping[str, Dim]) -> Dim:
        """This expression with symbols replaced, all at once, and simplified again."""
        if self.symbols.isdisjoint(mapping):
            return self

        def symbol_value(name: str) -> Dim:
            return mapping[name] if name in mapping else make_symbol_expr(name)

        def add(a: Dim, b: Dim) -> Dim:
            return a + b

        def mul(a: Dim, b: Dim) -> Dim:
            return a * b

        build = NODE_BUILDERS
        return fold(self, as_dim, symbol_value, add, mul, build["floordiv"], build["mod"], build["max"], build["min"])

    def fold(
        self,
        leaf_int: Callable[[int], T],
        leaf_symbol: Callable[[str], T],
        add: Callable[[T, T], T],
        mul: Callable[[T, T], T],
        floordiv: Callable[[T, T], T],
        mod: Callable[[T, T], T],
        max_: Callable[[T, T], T],
        min_: Callable[[T, T], T],
    ) -> T:
        """Rebuild the expression bottom up with the given operations; see `fold`."""
        return fold(self, leaf_int, leaf_symbol, add, mul, floordiv, mod, max_, min_)

    def __add__(self, other: Dim) -> Dim:
        if isinstance(other, DimExpr):
            return from_coefficients(_accumulate(dict(self.terms), other.terms, 1))
        if (number := _index(other)) is not None:
            return from_coefficients(_accumulate(dict(self.terms), ((ONE, number),), 1))
        return NotImplemented

    def __sub__(self, other: Dim) -> Dim:
        if isinstance(other, DimExpr):
            return from_coefficients(_accumulate(dict(self.terms), other.terms, -1))
        if (number := _index(other)) is not None:
            return from_coefficients(_accumulate(dict(self.terms), ((ONE, -number),), 1))
        return NotImplemented

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    def __neg__(self) -> DimExpr:
        return _intern(tuple((monomial, -coefficient) for monomial, coefficient in self.terms))

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, DimExpr):
            if len(self.terms) * len(other.terms) > MAX_SIZE:
                raise too_large()
            product: dict[Monomial, int] = {}
            for monomial, coefficient in self.terms:
                scaled = ((multiply(monomial, m), c) for m, c in other.terms)
                _accumulate(product, scaled, coefficient)
            return from_coefficients(product)
        if (factor := _index(other)) is not None:
            return _intern(tuple((m, c * factor) for m, c in self.terms)) if factor else 0
        return NotImplemented

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return NODE_BUILDERS["floordiv"](self, as_dim(other))

    def __rfloordiv__(self, other: int) -> Dim:
        return NODE_BUILDERS["floordiv"](as_dim(other), self)

    def __mod__(self, other: Dim) -> Dim:
        return NODE_BUILDERS["mod"](self, as_dim(other))

    def __rmod__(self, other: int) -> Dim:
        return NODE_BUILDERS["mod"](as_dim(other), self)

    def __str__(self) -> str:
        """Text that `parse_dim` reads back as this very expression, in an order that depends on nothing but itself."""
        if self.text_cache is None:
            self.text_cache = _expr_text(self)
        return self.text_cache

    def __repr__(self) -> str:
        return f"DimExpr({self})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_intern, (self.terms,))


Dim: TypeAlias = int | DimExpr

# Filled by stepwell.ir.dim_nodes: the simplifying constructor of every node kind.
NODE_BUILDERS: dict[str, Callable[[Dim, Dim], Dim]] = {}


class TooLarge(IRError):
    """An expression would have more terms and factors than one may have."""


def too_large() -> TooLarge:
    """What to raise for such an expression."""
    return TooLarge(f"a dimension expression grows beyond {MAX_SIZE} terms and factors; name its parts with symbols")


def _index(value: SupportsIndex) -> int | None:
    if isinstance(value, int):
        return int(value)
    try:
        return operator.index(value)
    except TypeError:
        return None


def as_dim(value: Dim | SupportsIndex) -> Dim:
    """`value` as a plain int or a DimExpr (NumPy integers become ints). Raises TypeError for anything else."""
    return value if isinstance(value, DimExpr) else operator.index(value)


# Construction. Lookups are lock-free; the lock makes one object win when two threads miss at once.


def make_symbol(name: str) -> Atom:
    if not name:
        raise IRError("a dimension symbol needs a name")
    atom = _atoms.get(("symbol", name))
    return atom if atom is not None else _new_atom("symbol", name, ())


def make_node(kind: str, args: tuple[Dim, ...]) -> Atom:
    """The node as it stands, without simplification."""
    atom = _atoms.get((kind, args))
    return atom if atom is not None else _new_atom(kind, "", args)


def _new_atom(kind: str, name: str, args: tuple[Dim, ...]) -> Atom:
    atom = Atom()
    atom.kind, atom.name, atom.args = kind, name, args
    parts = [arg for arg in args if isinstance(arg, DimExpr)]
    atom.size = 1 + sum(part.size for part in parts)
    atom.depth = 1 + max((part.depth for part in parts), default=0)
    if atom.depth > MAX_DEPTH:
        raise IRError(f"a dimension expression nests deeper than {MAX_DEPTH} levels; name its parts with symbols")
    atom.symbols = frozenset().union(*(part.symbols for part in parts)) if args else frozenset((name,))
    atom.text = _node_text(kind, args) if args else _symbol_text(name)
    atom.key = (bool(args), atom.text)
    key: tuple[str, object] = (kind, args if args else name)
    with _lock:
        return _atoms.setdefault(key, atom)


def make_monomial(factors: tuple[tuple[Atom, int], ...]) -> Monomial:
    """The product of `factors`, which are sorted by `Atom.key`, distinct, and have positive powers."""
    found = _monomials.get(factors)
    if found is not None:
        return found
    monomial = Monomial()
    monomial.factors = factors
    monomial.degree = sum(power for _, power in factors)
    monomial.key = (-monomial.degree, tuple((atom.key, -power) for atom, power in factors))
    with _lock:
        return _monomials.setdefault(factors, monomial)


ONE = make_monomial(())


def multiply(a: Monomial, b: Monomial) -> Monomial:
    if a is ONE:
        return b
    if b is ONE:
        return a
    powers = dict(a.factors)
    for atom, power in b.factors:
        powers[atom] = powers.get(atom, 0) + power
    return make_monomial(tuple(sorted(powers.items(), key=lambda item: item[0].key)))


def terms_of(dim: Dim) -> Terms:
    """The (monomial, coefficient) pairs of `dim`, highest degree first; empty for 0."""
    if isinstance(dim, DimExpr):
        return dim.terms
    return ((ONE, dim),) if dim else ()


def _accumulate(into: dict[Monomial, int], terms: Iterable[tuple[Monomial, int]], factor: int) -> dict[Monomial, int]:
    for monomial, coefficient in terms:
        into[monomial] = into.get(monomial, 0) + factor * coefficient
    return into


def _term_order(term: tuple[Monomial, int]) -> tuple[int, tuple[tuple[tuple[bool, str], int], ...]]:
    return term[0].key


def from_coefficients(coefficients: Mapping[Monomial, int]) -> Dim:
    """The sum of `coefficient * monomial`; a plain int when nothing symbolic is left."""
    terms = [term for term in coefficients.items() if term[1]]
    if not terms:
        return 0
    if len(terms) == 1:
        if terms[0][0] is ONE:
            return terms[0][1]
    else:
        terms.sort(key=_term_order)
    return _intern(tuple(terms))


def _intern(terms: Terms) -> DimExpr:
    found = _exprs.get(terms)
    if found is not None:
        return found
    expr = DimExpr()
    expr.terms = terms
    atoms = [factor for monomial, _ in terms for factor in monomial.factors]
    expr.size = len(terms) + sum(atom.size * power for atom, power in atoms)
    if expr.size > MAX_SIZE or any(abs(c).bit_length() > MAX_COEFFICIENT_BITS for _, c in terms):
        raise too_large()
    expr.depth = max(atom.depth for atom, _ in atoms)
    expr.symbols = frozenset().union(*(atom.symbols for atom, _ in atoms))
    expr.text_cache = expr.interval_cache = None
    with _lock:
        return _exprs.setdefault(terms, expr)


def from_atom(atom: Atom) -> DimExpr:
    return _intern(((make_monomial(((atom, 1),)), 1),))


def make_symbol_expr(name: str) -> DimExpr:
    return from_atom(make_symbol(name))


# Whole-expression functions that take ints as well.


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """`dim` at these symbol values. Raises IRError for a missing symbol and for a division by zero."""
    return dim.evaluate(values) if isinstance(dim, DimExpr) else dim


def substitute(dim: Dim, mapping: Mapping[str, Dim]) -> Dim:
    """`dim` with symbols replaced, all at once, and simplified again."""
    return dim.substitute(mapping) if isinstance(dim, DimExpr) else dim


def free_symbols(dim: Dim) -> frozenset[str]:
    """The names of the symbols in `dim`."""
    return dim.symbols if isinstance(dim, DimExpr) else frozenset()


def fold(
    dim: Dim,
    leaf_int: Callable[[int], T],
    leaf_symbol: Callable[[str], T],
    add: Callable[[T, T], T],
    mul: Callable[[T, T], T],
    floordiv: Callable[[T, T], T],
    mod: Callable[[T, T], T],
    max_: Callable[[T, T], T],
    min_: Callable[[T, T], T],
) -> T:
    """Rebuild `dim` bottom up with the given operations, in a fixed order, each distinct node once.

    Neutral factors and offsets are left out (`n` is one `leaf_symbol`). Subtraction is addition of a negative multiple;
    division rounds towards minus infinity and the remainder has the divisor's sign.
    """
    binary = {"floordiv": floordiv, "mod": mod, "max": max_, "min": min_}
    done: dict[Atom, T] = {}

    def visit_atom(atom: Atom) -> T:
        if atom not in done:
            if atom.kind == "symbol":
                done[atom] = leaf_symbol(atom.name)
            else:
                result, *others = [visit(arg) for arg in atom.args]
                for other in others:
                    result = binary[atom.kind](result, other)
                done[atom] = result
        return done[atom]

    def visit_term(monomial: Monomial, coefficient: int) -> T:
        factors = [visit_atom(atom) for atom, power in monomial.factors for _ in range(power)]
        if coefficient != 1 or not factors:
            factors.append(leaf_int(coefficient))
        result = factors[0]
        for factor in factors[1:]:
            result = mul(result, factor)
        return result

    def visit(part: Dim) -> T:
        terms = terms_of(part)
        if not terms:
            return leaf_int(0)
        result = visit_term(*terms[0])
        for monomial, coefficient in terms[1:]:
            result = add(result, visit_term(monomial, coefficient))
        return result

    return visit(dim)


# Text.


def _symbol_text(name: str) -> str:
    return name if _BARE_NAME.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def _node_text(kind: str, args: tuple[Dim, ...]) -> str:
    if kind in ("max", "min"):
        return f"{kind}({', '.join(str(arg) for arg in args)})"
    sign = "//" if kind == "floordiv" else "%"
    return f"{_operand_text(args[0])}{sign}{_operand_text(args[1])}"


def _operand_text(dim: Dim) -> str:
    if isinstance(dim, int):
        return str(dim) if dim >= 0 else f"({dim})"
    atom = dim.as_atom()
    return _factor_text(atom) if atom is not None else f"({dim})"


def _factor_text(atom: Atom) -> str:
    return f"({atom.text})" if atom.kind in ("floordiv", "mod") else atom.text


def _expr_text(expr: DimExpr) -> str:
    atom = expr.as_atom()
    if atom is not None and atom.kind == "symbol":
        name = atom.name
        return name if _NO_TOKEN.search(name) and "`" not in name and name == name.strip() else atom.text
    pieces: list[str] = []
    for monomial, coefficient in expr.terms:
        text = _term_text(monomial, abs(coefficient), lone=coefficient > 0 or bool(pieces))
        if pieces:
            pieces.append(f" {'+' if coefficient > 0 else '-'} {text}")
        else:
            pieces.append(text if coefficient > 0 else f"-{text}")
    return "".join(pieces)


def _term_text(monomial: Monomial, coefficient: int, lone: bool) -> str:
    if monomial is ONE:
        return str(coefficient)
    if lone and coefficient == 1 and monomial.degree == 1:
        return monomial.factors[0][0].text
    factors = [_factor_text(atom) + (f"**{power}" if power > 1 else "") for atom, power in monomial.factors]
    return "*".join(factors if coefficient == 1 else [str(coefficient), *factors])
