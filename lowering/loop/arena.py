"""Places in one arena for buffers whose lifetimes are known, with sizes that may be expressions over symbols.

Words. A buffer lives from its first to its last *position* in the program, both included; two that live at one position
are *neighbours*. A plan says which of two neighbours lies *below* the other, and nothing else: the offset of a buffer
is the largest end of those below it, at any sizes.

    b above a, c above a, d above b and c, of 64*n, 64*m, 128*n and 64 bytes
    ->  a at 0, b and c at 64*n, d at max(64*n + 64*m, 192*n)

So no two sizes have to be compared to share memory, and what one order of sizes leaves free, another one uses. Offsets
are worked out in the order of the plan, each from those below. Only the arena's size is one expression over symbols;
where that would be long, it is an upper bound, near at the *points*, values that the symbols may well have.

Which of two lies below is taken from packings with numbers in place of the symbols, at each point; that plan is kept
which is nearest to what lives at once, at the point where it is farthest from it.

The packing is greedy, by size and by breadth among other orders, with the best fitting gap (Pisarchyk and Lee,
"Efficient Memory Management for Deep Neural Net Inference", 2020)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import attrs

from stepwell.errors import IRError
from stepwell.ir.dim_largest import Maxima, Maximum
from stepwell.ir.dim_poly import terms_of
from stepwell.ir.dims import Dim, ceildiv, dim_max, divide_exact, evaluate, free_symbols

ALIGNMENT = 64  # bytes; the start of every buffer
ROUNDED_FACTOR = 64 * ALIGNMENT  # from here on rounding a symbol's factor up to the alignment wastes little
ROUNDS = 16  # packings that are tried from one order
ENOUGH = 1.01  # times what lives at once: no plan is searched that is nearer, where sizes are symbols
TYPICAL_SIZE = 32  # stands for a symbol of which nothing is known where sizes are only compared
LARGE_SIZES = 8  # times that, for the point at which it is large

Point: TypeAlias = Mapping[str, int]
"""Values of symbols."""


@attrs.define(eq=False)
class Planned:
    """A buffer: its size in bytes, its lifetime, and (once planned) its place: its number in the plan, and those
    directly below it; it begins where the last of them ends."""

    size: Dim
    first: int
    last: int
    number: int = 0
    below: tuple[Planned, ...] = ()

    @property
    def room(self) -> Dim:
        """The bytes that it takes, a multiple of the alignment and never negative."""
        return dim_max(0, aligned(self.size))

    def lives_with(self, other: Planned) -> bool:
        """Whether there is a position at which both live."""
        return self.first <= other.last and other.first <= self.last


@attrs.frozen
class Plan:
    """Where everything lies: the buffers, each behind those below it, and the size of the arena in bytes, at any values
    of the symbols at least the largest end."""

    buffers: Sequence[Planned]
    size: Dim

    @property
    def is_fixed(self) -> bool:
        """Whether no place depends on symbols."""
        return all(isinstance(planned.room, int) for planned in self.buffers)


def aligned(size: Dim) -> Dim:
    """A multiple of the alignment, at least the size.

    100 -> 128     3072*n -> 3072*n     5000*n -> 5056*n     4*n -> 64*((n + 15) // 16)"""
    common = math.gcd(*(coefficient for _, coefficient in terms_of(size)))
    if common % ALIGNMENT == 0:
        return size
    if isinstance(size, int) or common < ROUNDED_FACTOR:
        return ALIGNMENT * ceildiv(size, ALIGNMENT)
    unit = divide_exact(size, common)
    assert unit is not None
    return -(-common // ALIGNMENT) * ALIGNMENT * unit


def plan_arena(buffers: Sequence[Planned], points: Sequence[Point] = ({},)) -> Plan:
    """Give every buffer a place. At the `points` the plan is good; it is right for all values of the symbols."""
    order = sorted(buffers, key=lambda b: (b.first, b.last))
    if order:
        ranks = _Search.of(order, points).best()
        order = [order[n] for n in sorted(range(len(order)), key=lambda n: ranks[n])]
    _stack(order)
    return Plan(order, _size(order, points))


def _size(order: Sequence[Planned], points: Sequence[Point]) -> Dim:
    """The largest end of all buffers, or a little more."""
    maxima = Maxima([planned.room for planned in order], lambda size: [at_point(size, point) for point in points])
    ends: list[Maximum] = []
    for planned in order:
        offset = maxima.largest(ends[lower.number] for lower in planned.below)
        ends.append(maxima.plus(offset, planned.room))
    below = {lower.number for planned in order for lower in planned.below}
    return maxima.dim(maxima.largest(end for number, end in enumerate(ends) if number not in below))


def _stack(order: Sequence[Planned]) -> None:
    """Each buffer lies on those of its neighbours that come before it in the order."""
    neighbours = neighbours_of(order)
    reached: list[int] = []  # of each buffer, those that lie below it, directly or not, as bits
    for n, planned in enumerate(order):
        lower = [m for m in neighbours[n] if m < n]
        farther = functools.reduce(lambda bits, m: bits | reached[m], lower, 0)
        direct = [m for m in lower if not farther >> m & 1]
        reached.append(farther | sum(1 << m for m in direct))
        planned.number = n
        planned.below = tuple(order[m] for m in direct)


def neighbours_of(buffers: Sequence[Planned]) -> list[list[int]]:
    """By number, the numbers of those that live with it."""
    found: list[list[int]] = [[] for _ in buffers]
    alive: list[int] = []
    for n in sorted(range(len(buffers)), key=lambda n: buffers[n].first):
        alive = [m for m in alive if buffers[m].last >= buffers[n].first]
        for m in alive:
            found[m].append(n)
            found[n].append(m)
        alive.append(n)
    return found


@attrs.frozen(eq=False)
class _Search:
    """For the order from bottom to top in which buffers are nearest to what lives at once. All of them are named by
    their numbers; `rooms` has their bytes at each point."""

    buffers: Sequence[Planned]
    rooms: Sequence[Sequence[int]]
    neighbours: Sequence[Sequence[int]]
    least: Sequence[int]

    @staticmethod
    def of(buffers: Sequence[Planned], points: Sequence[Point]) -> _Search:
        """Points at which all sizes are the same count once."""
        found = dict.fromkeys(tuple(at_point(b.room, point) for b in buffers) for point in points)
        rooms = list(found)
        return _Search(buffers, rooms, neighbours_of(buffers), [_most_at_once(buffers, sizes) for sizes in rooms])

    def best(self) -> list[int]:
        """The rank of each buffer in the best order that was met.

        Each order of packing is improved by moving the buffer that ends highest to its front, while that may help."""
        best: list[int] = []
        least = (math.inf, math.inf)
        enough = 1.0 if len(self.rooms) == 1 else ENOUGH
        for rooms in self.rooms:
            for order in self._orders(rooms):
                for _ in range(ROUNDS):
                    offsets = self._pack(order, rooms)
                    ranks = self._ranks(offsets, rooms)
                    sizes, tops = self._heights(ranks)
                    far = [size / max(1, bound) for size, bound in zip(sizes, self.least, strict=True)]
                    cost = max(far), sum(far)
                    if cost < least:
                        least, best = cost, ranks
                    if cost[0] <= enough:
                        return best
                    highest = tops[far.index(cost[0])]
                    order.remove(highest)
                    order.insert(0, highest)
        return best

    def _orders(self, rooms: Sequence[int]) -> Iterator[list[int]]:
        """By size; by size times lifetime; by how much lives at a buffer's fullest position; by time."""
        buffers, numbers = self.buffers, range(len(rooms))
        breadth = _breadth(buffers, rooms)
        fullest = [max((width for position, width in breadth.items() if b.first <= position <= b.last), default=0)
                   for b in buffers]  # fmt: skip
        yield sorted(numbers, key=lambda n: (-rooms[n], buffers[n].first))
        yield sorted(numbers, key=lambda n: (-rooms[n] * (buffers[n].last - buffers[n].first + 1), buffers[n].first))
        yield sorted(numbers, key=lambda n: (-fullest[n], -rooms[n], buffers[n].first))
        yield sorted(numbers, key=lambda n: (buffers[n].first, -buffers[n].last, -rooms[n]))

    def _pack(self, order: Sequence[int], rooms: Sequence[int]) -> list[int]:
        """Put buffers into the best fitting gaps in an order; answers their offsets."""
        offsets = [-1] * len(rooms)
        for n in order:
            placed = sorted((offsets[m], rooms[m]) for m in self.neighbours[n] if offsets[m] >= 0)
            offsets[n] = _best_gap(rooms[n], placed)
        return offsets

    def _ranks(self, offsets: Sequence[int], rooms: Sequence[int]) -> list[int]:
        """The rank of each buffer from bottom to top. Those of no bytes at this point lie below what begins there."""
        ranks = [0] * len(offsets)
        for rank, n in enumerate(sorted(range(len(offsets)), key=lambda n: (offsets[n], offsets[n] + rooms[n], n))):
            ranks[n] = rank
        return ranks

    def _heights(self, ranks: Sequence[int]) -> tuple[list[int], list[int]]:
        """At each point, the size of the arena with the buffers in that order, and which of them ends highest."""
        order = sorted(range(len(ranks)), key=lambda n: ranks[n])
        lower = [[m for m in self.neighbours[n] if ranks[m] < ranks[n]] for n in order]
        sizes, tops = [], []
        for rooms in self.rooms:
            ends = [0] * len(ranks)
            for n, below in zip(order, lower, strict=True):
                ends[n] = rooms[n] + max((ends[m] for m in below), default=0)
            sizes.append(max(ends))
            tops.append(ends.index(sizes[-1]))
        return sizes, tops


def _best_gap(size: int, placed: Sequence[tuple[int, int]]) -> int:
    """The start of the smallest gap that holds a size between places (offset, size), sorted; else behind them all."""
    best, best_size, end = -1, 0, 0
    for offset, room in placed:
        gap = offset - end
        if gap >= size and (best < 0 or gap < best_size):
            best, best_size = end, gap
        end = max(end, offset + room)
    return best if best >= 0 else end


def at_point(size: Dim, point: Point) -> int:
    """A size with values in place of the symbols, or values near them where these divide by zero; at least 0."""
    names = sorted(free_symbols(size))
    for factor in range(1, 9):
        try:
            return max(0, evaluate(size, {name: factor * point.get(name, TYPICAL_SIZE) for name in names}))
        except IRError:
            continue
    return TYPICAL_SIZE


def points_of(sizes: Sequence[Dim], hints: Mapping[str, tuple[int, int, int]]) -> list[Point]:
    """The points at which a plan should be good: all symbols at their usual, their least and their largest values, and
    each by itself at its largest. `hints` has (least, usual, most) of symbols; of others nothing is known."""
    names = sorted(frozenset[str]().union(*(free_symbols(size) for size in sizes)))
    known = {name: hints.get(name, (1, TYPICAL_SIZE, LARGE_SIZES * TYPICAL_SIZE)) for name in names}
    usual = {name: values[1] for name, values in known.items()}
    if not names:
        return [usual]
    ends = [{name: values[end] for name, values in known.items()} for end in (0, 2)]
    return [usual, *ends, *({**usual, name: known[name][2]} for name in names if len(names) > 1)]


def lower_bound(buffers: Sequence[Planned], point: Point) -> int:
    """The most bytes that live at one position: no plan without recomputation needs less."""
    return _most_at_once(buffers, [at_point(planned.size, point) for planned in buffers])


def _most_at_once(buffers: Sequence[Planned], sizes: Sequence[int]) -> int:
    return max(_breadth(buffers, sizes).values(), default=0)


def _breadth(buffers: Sequence[Planned], sizes: Sequence[int]) -> dict[int, int]:
    """The bytes that live at each position at which a life begins or has ended."""
    change: dict[int, int] = {}
    for planned, size in zip(buffers, sizes, strict=True):
        change[planned.first] = change.get(planned.first, 0) + size
        change[planned.last + 1] = change.get(planned.last + 1, 0) - size
    live, found = 0, {}
    for position in sorted(change):
        live += change[position]
        found[position] = live
    return found
