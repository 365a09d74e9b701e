"""What an op demands of sizes that are not known before the model runs: two of them equal, one that broadcasts, one
that is a multiple of another.

The checks of type inference refuse what is proven wrong. What is neither proven wrong nor proven right they tell to
`demand_equal` and its like, which forget it, except inside `recorded()`: there the demands of one op come together, so
that they can be asked again when the sizes are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import attrs

from stepwell.ir.dims import (
    Dim,
    DimExpr,
    dim_max,
    dim_min,
    expand_mod,
    floordiv,
    is_multiple_of,
    proven_equal,
    proven_le,
    proven_non_negative,
)


@attrs.frozen
class Demand:
    """A size that must be 0 when the model runs, and what is wrong where it is not."""

    zero: Dim
    reason: str


_record: ContextVar[list[Demand] | None] = ContextVar("demands", default=None)


@contextmanager
def recorded() -> Iterator[list[Demand]]:
    """Collect the demands that checks make inside."""
    found: list[Demand] = []
    token = _record.set(found)
    try:
        yield found
    finally:
        _record.reset(token)


def demand_equal(a: Dim, b: Dim, what: str) -> None:
    """Two sizes must be equal."""
    record = _record.get()
    if record is not None and _is_open(a, b) and not proven_equal(a, b):
        record.append(Demand(expand_mod(a) - expand_mod(b), f"{what}: sizes {a} and {b} differ"))


def demand_broadcast(a: Dim, b: Dim) -> None:
    """Two sizes must be equal, or one of them 1."""
    record = _record.get()
    if record is not None and _is_open(a, b) and not proven_equal(a, b):
        # A minimum of what must be 0, not its product, whose terms are as many as those of the sizes multiplied.
        larger, smaller = dim_max(a, b), dim_min(a, b)
        from_one = dim_min(dim_max(smaller - 1, 1 - smaller), dim_max(larger - 1, 0))
        record.append(Demand(dim_min(larger - smaller, from_one), f"sizes {a} and {b} do not broadcast"))


def demand_stretch(size: Dim, wanted: Dim, what: str) -> None:
    """A size must be 1 or the wanted one."""
    record = _record.get()
    if record is not None and _is_open(size, wanted) and not proven_equal(size, wanted):
        record.append(Demand((size - wanted) * (size - 1), f"{what}: size {size} does not broadcast to {wanted}"))


def demand_multiple(size: Dim, of: Dim, what: str) -> None:
    """A size must be a multiple of another one: 0 where that is 0."""
    record = _record.get()
    if record is not None and _is_open(size, of) and not is_multiple_of(size, of):
        rest = expand_mod(size) - of * floordiv(size, dim_max(of, 1))
        record.append(Demand(rest, f"{what}: {size} is not a multiple of {of}"))


def demand_at_most(size: Dim, limit: Dim, what: str) -> None:
    """A size must not be above another one."""
    record = _record.get()
    if record is not None and _is_open(size, limit) and not proven_le(size, limit):
        record.append(Demand(dim_max(size - limit, 0), f"{what}: {size} is more than {limit}"))


def demand_one_of(size: Dim, choices: Sequence[Dim], what: str) -> None:
    """A size must be one of several."""
    record = _record.get()
    if record is not None and not any(proven_equal(size, choice) for choice in choices):
        zero: Dim = 1
        for choice in choices:
            zero = zero * (size - choice)
        record.append(Demand(zero, f"{what}: {size} is none of {', '.join(map(str, choices))}"))


def demand_size(size: Dim, what: str) -> None:
    """A size must not be negative."""
    record = _record.get()
    if record is not None and isinstance(size, DimExpr) and not proven_non_negative(size):
        record.append(Demand(dim_min(size, 0), f"{what} would have size {size}, below 0"))


def _is_open(a: Dim, b: Dim) -> bool:
    return isinstance(a, DimExpr) or isinstance(b, DimExpr)
