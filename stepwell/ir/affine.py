"""Affine maps, `affine_map<(d0, d1)[s0] -> (d0 + 1, d1 floordiv 16)>`: from iteration dims and symbols to indices.

Maps and expressions are immutable and interned, so `==` is `is`. Expressions live in `affine_expr`, their
simplification by known ranges in `affine_simplify`, the reader in `affine_text`; this module is the public face.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, SupportsIndex
from weakref import WeakValueDictionary

from stepwell.errors import IRError
from stepwell.ir.affine_expr import AffineExpr, Range, Ranges, as_affine, const, dim, sym
from stepwell.ir.affine_simplify import simplify_expr
from stepwell.ir.affine_text import AffineParseError, AffineReader

__all__ = [
    "AffineExpr",
    "AffineMap",
    "AffineParseError",
    "Range",
    "Ranges",
    "as_affine",
    "const",
    "dim",
    "parse_affine_map",
    "read_affine_map",
    "simplify_expr",
    "sym",
]

REMEMBERED = 1 << 13  # maps made of maps: a model has few different ones, and asks for each many times

_lock = threading.Lock()


class AffineMap:
    """A map from `num_dims` dims and `num_symbols` symbols to the values of `results`.

    Raises IRError when a result uses a dim or symbol that the map does not have.
    """

    __slots__ = ("__weakref__", "_used_dims", "num_dims", "num_symbols", "results", "text_cache")

    num_dims: int
    num_symbols: int
    results: tuple[AffineExpr, ...]
    text_cache: str | None
    _used_dims: frozenset[int]

    def __new__(cls, num_dims: int, num_symbols: int, results: Iterable[AffineExpr | SupportsIndex]) -> AffineMap:
        exprs = tuple(as_affine(result) for result in results)
        key = (num_dims, num_symbols, exprs)
        found = _maps.get(key)
        if found is not None:
            return found
        for expr in exprs:
            if any(i >= num_dims for i in expr.dims) or any(i >= num_symbols for i in expr.symbols):
                raise IRError(f"'{expr}' does not fit an affine map of {num_dims} dims and {num_symbols} symbols")
        self = super().__new__(cls)
        self.num_dims, self.num_symbols, self.results = key
        self.text_cache = None
        self._used_dims = frozenset().union(*(expr.dims for expr in exprs))
        with _lock:
            return _maps.setdefault(key, self)

    # Constructors.

    @staticmethod
    @lru_cache(maxsize=64)
    def identity(num_dims: int) -> AffineMap:
        """(d0, d1, ..) -> (d0, d1, ..)"""
        return AffineMap.projection(num_dims, range(num_dims))

    @staticmethod
    def projection(num_dims: int, dims: Iterable[int]) -> AffineMap:
        """The named dims of `num_dims` in the given order: projection(3, [2, 0]) is (d0, d1, d2) -> (d2, d0)."""
        return AffineMap(num_dims, 0, [dim(index) for index in dims])

    @staticmethod
    def permutation(dims: Sequence[int]) -> AffineMap:
        """permutation([1, 0]) is (d0, d1) -> (d1, d0). Raises IRError unless `dims` holds 0 .. n-1 once each."""
        if sorted(dims) != list(range(len(dims))):
            raise IRError(f"{list(dims)} is no permutation of the dims 0 to {len(dims) - 1}")
        return AffineMap.projection(len(dims), dims)

    @staticmethod
    def constant(values: Iterable[int], num_dims: int = 0) -> AffineMap:
        """A map to these integers, whatever the dims."""
        return AffineMap(num_dims, 0, values)

    @staticmethod
    def from_callable(fn: Callable[..., Any], num_symbols: int = 0) -> AffineMap:
        """The map of a function of dims, the last `num_symbols` parameters being symbols, to one or more results.

        `from_callable(lambda n, k: (n + 1, k // 16))`
        """
        count = len(inspect.signature(fn).parameters)
        num_dims = count - num_symbols
        if num_dims < 0:
            raise IRError(f"a function of {count} parameters cannot have {num_symbols} symbols")
        results = fn(*(dim(i) for i in range(num_dims)), *(sym(i) for i in range(num_symbols)))
        return AffineMap(num_dims, num_symbols, results if isinstance(results, tuple | list) else [results])

    # Values.

    def evaluate(self, dims: Sequence[Any], symbols: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The results at these values: ints, NumPy arrays, or anything with + * // % that floors.

        Raises IRError when their number is not that of the map's dims and symbols.
        """
        if len(dims) != self.num_dims or len(symbols) != self.num_symbols:
            raise IRError(f"{self} was given {len(dims)} dims and {len(symbols)} symbols")
        return tuple(expr.evaluate(dims, symbols) for expr in self.results)

    def result_bounds(self, dims: Ranges, symbols: Ranges = ()) -> tuple[Range, ...]:
        """Inclusive (low, high) of each result for dims and symbols in these ranges; None for unbounded."""
        return tuple(expr.bounds(dims, symbols) for expr in self.results)

    # Questions.

    def used_dims(self) -> frozenset[int]:
        """The dims that occur in any result."""
        return self._used_dims

    def dim_results(self) -> tuple[int | None, ...]:
        """For each result the i where it is just `d<i>`, else None."""
        return tuple(expr.dim_index for expr in self.results)

    def is_identity(self) -> bool:
        return self.num_dims == len(self.results) and all(e.dim_index == i for i, e in enumerate(self.results))

    def is_permutation(self) -> bool:
        """Every dim is exactly one result."""
        return self.num_dims == len(self.results) and self.is_projected_permutation()

    def is_projected_permutation(self, allow_zeros: bool = False) -> bool:
        """No symbols, and the results are distinct dims; with `allow_zeros` also the constant 0."""
        if self.num_symbols:
            return False
        found = [i for i, e in zip(self.dim_results(), self.results, strict=True) if not allow_zeros or e is not _ZERO]
        return None not in found and len(set(found)) == len(found)

    def linear_form(self) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]] | None:
        """(matrix with a row per result and a column per dim, constants); None where a result is not linear in dims."""
        forms = [expr.linear_form() for expr in self.results]
        rows: list[tuple[int, ...]] = []
        constants: list[int] = []
        for form in forms:
            if form is None:
                return None
            rows.append(tuple(form[0].get(index, 0) for index in range(self.num_dims)))
            constants.append(form[1])
        return tuple(rows), tuple(constants)

    # Maps from maps.

    def compose(self, inner: AffineMap) -> AffineMap:
        """`self` after `inner`: its dims are those of `inner`, its symbols those of `self`, then those of `inner`.

        Raises IRError unless `inner` has as many results as `self` has dims.
        """
        if len(inner.results) != self.num_dims:
            raise IRError(f"{self} cannot follow {inner}: {len(inner.results)} results for {self.num_dims} dims")
        values: Sequence[AffineExpr] = inner.results
        if self.num_symbols and inner.num_symbols:
            moved = {i: sym(i + self.num_symbols) for i in range(inner.num_symbols)}
            values = [expr.substitute({}, moved) for expr in values]
        return self.replace_dims(values, inner.num_dims, self.num_symbols + inner.num_symbols)

    def replace_dims(
        self, dims: Sequence[AffineExpr | int], num_dims: int, num_symbols: int | None = None
    ) -> AffineMap:
        """The map over `num_dims` new dims where `d<i>` is `dims[i]`. Raises IRError unless every dim has one."""
        if len(dims) != self.num_dims:
            raise IRError(f"{len(dims)} expressions given to replace the {self.num_dims} dims of {self}")
        symbols = self.num_symbols if num_symbols is None else num_symbols
        return _replaced(self, tuple([as_affine(value) for value in dims]), num_dims, symbols)

    def shift_dims(self, shift: int, offset: int = 0) -> AffineMap:
        """Make room for `shift` more dims before `d<offset>`: the dims from there on move up by `shift`."""
        results = [expr.shift_dims(shift, offset) for expr in self.results]
        return AffineMap(self.num_dims + shift, self.num_symbols, results)

    def select(self, positions: Iterable[int]) -> AffineMap:
        """The map with only the results at `positions`, in that order."""
        return AffineMap(self.num_dims, self.num_symbols, [self.results[position] for position in positions])

    def simplify(
        self,
        dims: Ranges = (),
        symbols: Ranges = (),
        dim_multiples: Sequence[int] = (),
        symbol_multiples: Sequence[int] = (),
    ) -> AffineMap:
        """The map with each result simplified by what is known of dims and symbols; see `simplify_expr`."""
        return _simplified(self, tuple(dims), tuple(symbols), tuple(dim_multiples), tuple(symbol_multiples))

    def inverse_permutation(self) -> AffineMap | None:
        """The map from results back to dims: each dim from the first result that is just that dim.

        (d0, d1) -> (d1, d0 + d1, d0) gives (d0, d1, d2) -> (d2, d0). None where a dim is no result, or with symbols.
        """
        places = self.dim_results()
        if self.num_symbols or not set(range(self.num_dims)) <= set(places):
            return None
        return AffineMap.projection(len(places), [places.index(index) for index in range(self.num_dims)])

    def __str__(self) -> str:
        """MLIR's text without the surrounding `affine_map<>`: `(d0)[s0] -> (d0 + s0)`."""
        if self.text_cache is None:
            symbols = f"[{', '.join(f's{i}' for i in range(self.num_symbols))}]" if self.num_symbols else ""
            dims = ", ".join(f"d{i}" for i in range(self.num_dims))
            self.text_cache = f"({dims}){symbols} -> ({', '.join(map(str, self.results))})"
        return self.text_cache

    def __repr__(self) -> str:
        return f"affine_map<{self}>"

    def __reduce__(self) -> tuple[object, ...]:
        return (AffineMap, (self.num_dims, self.num_symbols, self.results))


_ZERO = const(0)
_maps: WeakValueDictionary[tuple[int, int, tuple[AffineExpr, ...]], AffineMap] = WeakValueDictionary()


@lru_cache(maxsize=REMEMBERED)
def _replaced(map_: AffineMap, dims: tuple[AffineExpr, ...], num_dims: int, num_symbols: int) -> AffineMap:
    return AffineMap(num_dims, num_symbols, [expr.substitute(dims) for expr in map_.results])


@lru_cache(maxsize=REMEMBERED)
def _simplified(map_: AffineMap, *known: tuple[Any, ...]) -> AffineMap:
    return AffineMap(map_.num_dims, map_.num_symbols, [simplify_expr(expr, *known) for expr in map_.results])


def parse_affine_map(text: str) -> AffineMap:
    """The map that `text` writes, with or without `affine_map<>`. Raises ParseError with the place of the fault."""
    result, end = read_affine_map(text)
    if end != len(text):
        raise AffineParseError("unexpected text after the map", text, end)
    return result


def read_affine_map(text: str, position: int = 0) -> tuple[AffineMap, int]:
    """The map that starts at `position`, and the offset of the first character after it that is no space."""
    reader = AffineReader(text, position)
    result = AffineMap(*reader.read_map())
    return result, reader.start
