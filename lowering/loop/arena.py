"""Places in one arena for buffers whose lifetimes are known, with sizes that may be expressions over symbols.

Words. A buffer lives from its first to its last *position* in the program, both included. Its size is `weight * unit`
bytes, where the weight is a multiple of 64 and the unit an expression; buffers of one unit are a *family*, within which
sizes compare as integers. A *cluster* is a part of a family whose lifetimes hang together; it is packed on its own, in
weights. A *slot* is a stretch of the arena for clusters that never live at the same time, as large as the largest.

    sizes 64*n, 128*n, 64*s   ->   slot 0: 192*n bytes for the cluster of unit n; slot 1: 64*s bytes for that of unit s

The packing inside a cluster is greedy, by size and by breadth among other orders, with the best fitting gap (Pisarchyk
and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs

from stepwell.errors import IRError
from stepwell.ir.dim_poly import terms_of
from stepwell.ir.dims import Dim, ceildiv, dim_max, divide_exact, evaluate, free_symbols

ALIGNMENT = 64  # bytes; the start of every buffer
ROUNDED_WEIGHT = 16 * ALIGNMENT  # from here on rounding a weight up to the alignment wastes little
ROUNDS = 16  # placements that are tried from one order
TYPICAL_SIZE = 32  # stands for a symbol of which nothing is known where sizes are only compared
LONGEST = 500  # characters of a slot's symbolic size


@attrs.define(eq=False)
class Planned:
    """A buffer: its size in bytes, its lifetime, and (once planned) its place."""

    size: Dim
    first: int
    last: int
    weight: int = attrs.field(init=False)
    unit: Dim = attrs.field(init=False)
    offset: int = 0  # within its cluster, in weights
    cluster: Cluster | None = None

    def __attrs_post_init__(self) -> None:
        self.weight, self.unit = weight_and_unit(self.size)

    def lives_with(self, other: Planned) -> bool:
        """Whether there is a position at which both live."""
        return self.first <= other.last and other.first <= self.last


@attrs.define(eq=False)
class Cluster:
    """Buffers of one family whose lifetimes hang together."""

    members: list[Planned]
    weight: int = 0
    slot: int = -1

    @property
    def unit(self) -> Dim:
        """The family's unit."""
        return self.members[0].unit

    @property
    def size(self) -> Dim:
        """Bytes."""
        return self.weight * self.unit

    @property
    def first(self) -> int:
        """The first position at which a member lives."""
        return min(member.first for member in self.members)

    @property
    def last(self) -> int:
        """The last position at which a member lives."""
        return max(member.last for member in self.members)


@attrs.define(eq=False)
class Slot:
    """A stretch of the arena."""

    size: Dim
    clusters: list[Cluster]
    base: Dim = 0

    def is_free_for(self, cluster: Cluster) -> bool:
        """Whether no member of the slot lives together with the cluster."""
        return all(c.last < cluster.first or cluster.last < c.first for c in self.clusters)


@attrs.frozen
class Plan:
    """Where everything lies; `size` in bytes."""

    slots: Sequence[Slot]
    clusters: Sequence[Cluster]
    size: Dim


def weight_and_unit(size: Dim) -> tuple[int, Dim]:
    """(weight, unit) with `weight * unit >= size` and a weight that is a multiple of the alignment.

    100 -> (128, 1)     3072*n -> (3072, n)     4*n -> (64, n/16 rounded up)"""
    if isinstance(size, int):
        return _aligned(size), 1
    common = math.gcd(*(coefficient for _, coefficient in terms_of(size)))
    if common % ALIGNMENT == 0 or common >= ROUNDED_WEIGHT:
        unit = divide_exact(size, common)
        assert unit is not None
        return _aligned(common), unit
    return ALIGNMENT, ceildiv(size, ALIGNMENT)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan_arena(buffers: Sequence[Planned], typical: Mapping[str, int]) -> Plan:
    """Give every buffer a place. `typical` gives the symbols' usual values, by which sizes of families are compared;
    the plan is right for all values."""
    clusters = _clusters(buffers)
    for cluster in clusters:
        _pack(cluster)
    slots: list[Slot] = []
    for cluster in sorted(clusters, key=lambda c: (-at_typical(c.size, typical), c.first)):
        _assign(cluster, slots, typical)
    slots.sort(key=lambda slot: not isinstance(slot.size, int))
    base: Dim = 0
    for number, slot in enumerate(slots):
        slot.base = base
        base = base + slot.size
        for cluster in slot.clusters:
            cluster.slot = number
    return Plan(slots, clusters, base)


def _clusters(buffers: Sequence[Planned]) -> list[Cluster]:
    open_: dict[Dim, Cluster] = {}
    found: list[Cluster] = []
    for planned in sorted(buffers, key=lambda b: b.first):
        cluster = open_.get(planned.unit)
        if cluster is None or cluster.last < planned.first:
            cluster = open_[planned.unit] = Cluster([])
            found.append(cluster)
        cluster.members.append(planned)
        planned.cluster = cluster
    return found


def _pack(cluster: Cluster) -> None:
    """Place the members in several orders and keep the tightest outcome: no order is best for every program.

    Each order is improved by moving the buffer that ends highest to its front, as long as that may help."""
    members = cluster.members
    breadth = {p: sum(m.weight for m in members if m.first <= p <= m.last) for p in {m.first for m in members}}
    least = max(breadth.values())
    best: list[int] = []
    for order in _orders(members, breadth):
        for _ in range(ROUNDS):
            weight = _place(order)
            if not best or weight < cluster.weight:
                cluster.weight, best = weight, [member.offset for member in members]
            if cluster.weight == least:
                break
            order.sort(key=lambda m: m.offset + m.weight != weight)
    for member, offset in zip(members, best, strict=True):
        member.offset = offset


def _orders(members: Sequence[Planned], breadth: Mapping[int, int]) -> Iterator[list[Planned]]:
    """By size; by size times lifetime; by how much lives at a buffer's fullest position; by time. `breadth` is what
    lives at each position at which a buffer's life begins."""
    fullest = {m: max(width for position, width in breadth.items() if m.first <= position <= m.last) for m in members}
    yield sorted(members, key=lambda m: (-m.weight, m.first))
    yield sorted(members, key=lambda m: (-m.weight * (m.last - m.first + 1), m.first))
    yield sorted(members, key=lambda m: (-fullest[m], -m.weight, m.first))
    yield sorted(members, key=lambda m: (m.first, -m.last, -m.weight))


def _place(order: Sequence[Planned]) -> int:
    """Put buffers into the best fitting gaps in an order; answers the weight of all."""
    placed: list[Planned] = []
    total = 0
    for planned in order:
        neighbours = [b for b in placed if b.lives_with(planned)]
        planned.offset = _best_gap(planned, sorted(neighbours, key=lambda b: b.offset))
        placed.append(planned)
        total = max(total, planned.offset + planned.weight)
    return total


def _best_gap(planned: Planned, neighbours: Sequence[Planned]) -> int:
    """The start of the smallest gap between neighbours (sorted by offset) that holds it; else behind them all."""
    best, best_size, end = -1, 0, 0
    for other in neighbours:
        gap = other.offset - end
        if gap >= planned.weight and (best < 0 or gap < best_size):
            best, best_size = end, gap
        end = max(end, other.offset + other.weight)
    return best if best >= 0 else end


def _assign(cluster: Cluster, slots: list[Slot], typical: Mapping[str, int]) -> None:
    """Put a cluster into the free slot that grows least, or into a new one."""
    best: Slot | None = None
    best_size: Dim = 0
    least = 0
    for slot in slots:
        if not slot.is_free_for(cluster):
            continue
        size = dim_max(slot.size, cluster.size)
        if len(str(size)) > LONGEST:
            continue  # the maximum of so many expressions grows too large to be worth it
        growth = at_typical(size, typical) - at_typical(slot.size, typical)
        if best is None or growth < least:
            best, best_size, least = slot, size, growth
    if best is None:
        slots.append(Slot(cluster.size, [cluster]))
    else:
        best.size = best_size
        best.clusters.append(cluster)


def at_typical(size: Dim, typical: Mapping[str, int]) -> int:
    """A size with the symbols' usual values in it, or values near them where these divide by zero."""
    names = sorted(free_symbols(size))
    for factor in range(1, 9):
        try:
            return evaluate(size, {name: factor * typical.get(name, TYPICAL_SIZE) for name in names})
        except IRError:
            continue
    return TYPICAL_SIZE


def lower_bound(buffers: Sequence[Planned], typical: Mapping[str, int]) -> int:
    """The most bytes that live at one position: no plan without recomputation needs less."""
    change: dict[int, int] = {}
    for planned in buffers:
        size = at_typical(planned.size, typical)
        change[planned.first] = change.get(planned.first, 0) + size
        change[planned.last + 1] = change.get(planned.last + 1, 0) - size
    live = most = 0
    for position in sorted(change):
        live += change[position]
        most = max(most, live)
    return most
