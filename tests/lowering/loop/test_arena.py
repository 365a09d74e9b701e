"""Places in the arena: what lives together never overlaps, what does not shares, at any value of the symbols."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.ir.dims import Dim, evaluate, parse_dim
from stepwell.lowering.loop.arena import Plan, Planned, at_typical, lower_bound, plan_arena, weight_and_unit


def planned(*buffers: tuple[Dim | str, int, int]) -> list[Planned]:
    return [Planned(parse_dim(size) if isinstance(size, str) else size, *life) for size, *life in buffers]


@pytest.mark.parametrize(
    ("size", "weight", "unit"),
    [
        ("100", 128, "1"),
        ("0", 0, "1"),
        ("3072*n", 3072, "n"),
        ("256*n + 256", 256, "n + 1"),
        ("1028*n", 1088, "n"),
        ("4*n", 64, "(n + 15) // 16"),
        ("12*n*m", 64, "(12*n*m + 63) // 64"),
    ],
)
def test_sizes_are_weights_times_units(size: str, weight: int, unit: str) -> None:
    assert weight_and_unit(parse_dim(size)) == (weight, parse_dim(unit))


@pytest.mark.parametrize(
    ("buffers", "size"),
    [
        ([], "0"),
        ([(1000, 0, 1)], "1024"),
        ([(1024, 0, 1), (1024, 2, 3)], "1024"),
        ([(1024, 0, 1), (1024, 1, 2)], "2048"),
        # The small one fits beside the later large one, under the early large one's place.
        ([(2048, 0, 1), (1024, 1, 3), (1024, 2, 3)], "3072"),
        # One family: the largest multiple, exactly packed.
        ([("64*n", 0, 1), ("128*n", 1, 2), ("64*n", 2, 3)], "192*n"),
        # Families that never live together share a slot, those that do cannot.
        ([("64*n", 0, 1), ("64*m", 2, 3)], "64*max(n, m)"),
        ([("64*n", 0, 2), ("64*m", 2, 3)], "64*n + 64*m"),
        ([(64, 0, 1), ("64*n + 64", 2, 3)], "64*n + 64"),
    ],
)
def test_arena_sizes(buffers: list[tuple[Dim | str, int, int]], size: str) -> None:
    assert plan_arena(planned(*buffers), {}).size == parse_dim(size)


SIZES = ["0", "4", "64", "1000", "4*n", "3072*n", "64*n", "256*n*m", "4*m + 4", "128*m", "2048*(n // 2)"]
BUFFERS = st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 12), st.integers(0, 6)), max_size=14)


def spans(plan: Plan, buffers: list[Planned], symbols: dict[str, int]) -> list[tuple[Planned, int, int]]:
    found = []
    for item in buffers:
        assert item.cluster is not None
        start = evaluate(plan.slots[item.cluster.slot].base + item.offset * item.unit, symbols)
        found.append((item, start, start + evaluate(item.size, symbols)))
    return found


@settings(deadline=None, max_examples=60)
@given(BUFFERS, st.integers(0, 40), st.integers(0, 40))
def test_what_lives_together_does_not_overlap(given: list[tuple[str, int, int]], n: int, m: int) -> None:
    buffers = planned(*((size, first, first + length) for size, first, length in given))
    plan, symbols = plan_arena(buffers, {"n": 8}), {"n": n, "m": m}
    places = spans(plan, buffers, symbols)
    assert all(start % 64 == 0 and end <= evaluate(plan.size, symbols) for _, start, end in places)
    for (a, start_a, end_a), (b, start_b, end_b) in combinations(places, 2):
        assert not a.lives_with(b) or end_a <= start_b or end_b <= start_a


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 4)), max_size=10))
def test_the_arena_is_at_least_what_lives_at_once(given: list[tuple[int, int, int]]) -> None:
    buffers = planned(*((64 * size, first, first + length) for size, first, length in given))
    size = plan_arena(buffers, {}).size
    assert lower_bound(buffers, {}) <= at_typical(size, {}) <= sum(at_typical(b.size, {}) for b in buffers)


def test_an_order_that_misleads_is_improved() -> None:
    """Inverted residual blocks: a skip connection lives past two wide buffers; by size alone it lands above them."""
    widths = [(2, 12, 12, 2), (3, 18, 18, 3), (3, 18, 18, 3), (1, 9, 9, 6)]
    buffers: list[Planned] = []
    time = 0
    for narrow, wide, deep, out in widths:
        buffers += planned((64 * narrow, time, time + 3), (64 * wide, time, time + 1), (64 * deep, time + 1, time + 2),
                           (64 * out, time + 2, time + 4))  # fmt: skip
        time += 3
    assert plan_arena(buffers, {}).size == lower_bound(buffers, {})


def test_a_size_that_divides_by_zero_at_the_usual_values() -> None:
    assert at_typical(parse_dim("n//(n//20 - 1)"), {"n": 20}) == 40 // (40 // 20 - 1)
