"""What symbolic sizes count as, where layouts, fusion and schedules are chosen.

    with usual_sizes(module, {"seq": (1, 64, 512)}):
        size_of(seq)                # 64
        size_of(8 * h)              # 128: the size of an input of which nothing is known
        size_of(4 * h * seq)        # 4 * 16 * 64: one assumption for all sizes

The same numbers serve all kernels of a compilation, so that costs of several ways to compute one thing compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import attrs

from stepwell.dialects.func import FuncOp
from stepwell.dialects.tensor_born import BornOp, MeasureOp
from stepwell.errors import IRError
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, evaluate, free_symbols

TYPICAL = 128  # the size assumed of an input's symbolic dim
Hints = Mapping[str, tuple[int, int, int]]


@attrs.define(eq=False)
class Usual:
    """The sizes of symbols; others are TYPICAL."""

    sizes: Mapping[str, int]
    _known: dict[Dim, int] = attrs.Factory(dict)

    def of(self, size: Dim) -> int:
        """A size for counting; an empty dim counts as 1."""
        if size not in self._known:
            values = {name: self.sizes.get(name, TYPICAL) for name in free_symbols(size)}
            try:
                self._known[size] = max(1, evaluate(size, values))
            except IRError:  # a divisor that is 0 at these sizes
                self._known[size] = TYPICAL
        return self._known[size]

    def key(self) -> tuple[tuple[str, int], ...]:
        """Equal where all sizes are."""
        return tuple(sorted(self.sizes.items()))


_usual: ContextVar[Usual] = ContextVar("usual sizes", default=Usual({}))  # noqa: B039 (only its cache ever changes)


def size_of(size: Dim) -> int:
    """A size for counting; an empty dim counts as 1."""
    return max(1, size) if isinstance(size, int) else _usual.get().of(size)


def assumed() -> tuple[tuple[str, int], ...]:
    """A key for what `size_of` assumes now."""
    return _usual.get().key()


@contextmanager
def usual_sizes(module: Operation, hints: Hints) -> Iterator[None]:
    """Let `size_of` count symbols as the hints' (least, usual, most) say; of others, an input's dim as TYPICAL."""
    token = _usual.set(Usual(usual_of(module, hints)))
    try:
        yield
    finally:
        _usual.reset(token)


def usual_of(module: Operation, hints: Hints) -> dict[str, int]:
    """The symbols that do not count as TYPICAL: 8 * h as an input's dim makes h a TYPICAL // 8."""
    found: dict[str, int] = {}
    for function in module.walk_of(FuncOp):
        if function.sym_name == "main":
            for dim in (dim for type_ in function.function_type.inputs for dim in getattr(type_, "shape", ())):
                symbols = free_symbols(dim)
                if len(symbols) == 1:
                    (name,) = symbols
                    step = evaluate(dim, {name: 2}) - evaluate(dim, {name: 1})
                    if step > 1:
                        found[name] = min(found.get(name, TYPICAL), max(1, TYPICAL // step))
    found.update((name, usual) for name, (_, usual, _) in hints.items())
    return found


def unbounded_symbols(op: Operation) -> frozenset[str]:
    """The symbols that are born in an op's function as sizes which nothing that its arguments tell bounds."""
    function = op
    while not isinstance(function, FuncOp):
        assert function.parent_op is not None
        function = function.parent_op
    shapes = (getattr(type_, "shape", ()) for type_ in function.function_type.inputs)
    given = {name for shape in shapes for dim in shape for name in free_symbols(dim)}
    found = {measure.symbol for measure in function.walk_of(MeasureOp)}
    for born in function.walk_of(BornOp):
        if born.at_most is None or not free_symbols(born.at_most.dims[0]) <= given:
            found.add(born.symbol)
    return frozenset(found)
