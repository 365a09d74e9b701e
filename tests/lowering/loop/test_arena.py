"""Places in the arena: what lives together never overlaps, what does not shares, at any value of the symbols."""

from __future__ import annotations

from functools import partial
from itertools import combinations, product

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.ir.dim_largest import Maxima
from stepwell.ir.dims import Dim, evaluate, parse_dim
from stepwell.lowering.loop import arena
from stepwell.lowering.loop.arena import Plan, Planned, aligned, at_point, lower_bound, plan_arena, points_of


def planned(*buffers: tuple[Dim | str, int, int]) -> list[Planned]:
    return [Planned(parse_dim(size) if isinstance(size, str) else size, *life) for size, *life in buffers]


@pytest.mark.parametrize(
    ("size", "room"),
    [
        ("100", "128"),
        ("0", "0"),
        ("3072*n", "3072*n"),
        ("256*n + 256", "256*n + 256"),
        ("5000*n", "5056*n"),
        ("1028*n", "64*((257*n + 15) // 16)"),
        ("4*n", "64*((n + 15) // 16)"),
        ("12*n*m", "64*((3*n*m + 15) // 16)"),
    ],
)
def test_every_buffer_takes_a_multiple_of_the_alignment(size: str, room: str) -> None:
    assert aligned(parse_dim(size)) == parse_dim(room)


@pytest.mark.parametrize(
    ("buffers", "size"),
    [
        ([], "0"),
        ([(1000, 0, 1)], "1024"),
        ([(1024, 0, 1), (1024, 2, 3)], "1024"),
        ([(1024, 0, 1), (1024, 1, 2)], "2048"),
        # The small one fits beside the later large one, under the early large one's place.
        ([(2048, 0, 1), (1024, 1, 3), (1024, 2, 3)], "3072"),
        # One symbol: the largest multiple, exactly packed.
        ([("64*n", 0, 1), ("128*n", 1, 2), ("64*n", 2, 3)], "192*n"),
        # What never lives together shares memory, whichever is larger.
        ([("64*n", 0, 1), ("64*m", 2, 3)], "64*max(n, m)"),
        ([("64*n", 0, 2), ("64*m", 2, 3)], "64*n + 64*m"),
        ([(64, 0, 1), ("64*n + 64", 2, 3)], "64*n + 64"),
        # Where the larger of two ends, both leave room that others use.
        ([("64*n", 0, 1), ("64*m", 1, 2), ("64*n", 2, 3)], "64*n + 64*m"),
        ([("64*n", 0, 1), ("64*m", 2, 3), (64, 1, 2)], "64*max(n, m) + 64"),
    ],
)
def test_arena_sizes(buffers: list[tuple[Dim | str, int, int]], size: str) -> None:
    assert plan_arena(planned(*buffers)).size == parse_dim(size)


SIZES = ["0", "4", "64", "1000", "4*n", "3072*n", "64*n", "256*n*m", "4*m + 4", "128*m", "2048*(n // 2)"]
BUFFERS = st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 12), st.integers(0, 6)), max_size=14)


def spans(plan: Plan, symbols: dict[str, int]) -> list[tuple[Planned, int, int]]:
    places: list[tuple[Planned, int, int]] = []
    for item in plan.buffers:
        starts = [places[lower.number][1] + evaluate(lower.room, symbols) for lower in item.below]
        places.append((item, start := max(starts, default=0), start + evaluate(item.size, symbols)))
    return places


@settings(deadline=None, max_examples=60)
@given(BUFFERS, st.integers(0, 40), st.integers(0, 40))
def test_what_lives_together_does_not_overlap(given: list[tuple[str, int, int]], n: int, m: int) -> None:
    buffers = planned(*((size, first, first + length) for size, first, length in given))
    plan, symbols = plan_arena(buffers, [{"n": 8}, {"n": 40, "m": 2}]), {"n": n, "m": m}
    assert set(plan.buffers) == set(buffers)
    places = spans(plan, symbols)
    assert all(start % 64 == 0 and end <= evaluate(plan.size, symbols) for _, start, end in places)
    for (a, start_a, end_a), (b, start_b, end_b) in combinations(places, 2):
        assert not a.lives_with(b) or end_a <= start_b or end_b <= start_a


@pytest.mark.parametrize("most", [1, 2, 16])
def test_an_arena_of_fewer_sums_is_no_smaller(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(arena, "Maxima", partial(Maxima, most=most))
    sizes = ["4*n", "4*m + 4", "64", "12*n*m", "128*m", "2048*(n // 2)", "64*n", "3072*m", "4*(n - 2) + 8", "256*m"]
    buffers = planned(*((size, time, time + 2) for time, size in enumerate(sizes)))
    plan = plan_arena(buffers, [{"n": 8}])
    for n, m in product((0, 1, 7, 100), repeat=2):
        places = spans(plan, {"n": n, "m": m})
        assert all(end <= evaluate(plan.size, {"n": n, "m": m}) for _, _, end in places)
        for (a, start_a, end_a), (b, start_b, end_b) in combinations(places, 2):
            assert not a.lives_with(b) or end_a <= start_b or end_b <= start_a


def test_many_sizes_that_cannot_be_compared() -> None:
    """An encoder's masks and embeddings, of a byte to eight for each batch, row or both, before the layers."""
    masks = [f"{bytes_}*{of}" for bytes_ in (1, 4, 8) for of in ("n", "m", "n*m")]
    masks = [item for size in masks for item in (size, f"4*min(512, {size})")]
    start = planned(*((size, time, time + 2 + time % 5) for time, size in enumerate(masks)))
    layers = ["3072*n*m", "3072*n*m", "4*n*m**2", "3072*n*m", "12288*n*m", "3072*m", "96*min(512, m)"]
    rest = planned(*((size, len(masks) + time, len(masks) + time + 2) for time, size in enumerate(3 * layers)))
    buffers = [*start, *rest]
    points = points_of([b.size for b in buffers], {"n": (1, 2, 8), "m": (1, 128, 512)})
    plan = plan_arena(buffers, points)
    for point in points:
        assert at_point(plan.size, point) <= 1.02 * max(end for _, _, end in spans(plan, dict(point)))
        assert at_point(plan.size, point) <= 1.1 * lower_bound([attrs.evolve(b, size=b.room) for b in buffers], point)


def test_one_plan_is_good_at_all_points() -> None:
    """Heads and rows of attention: which of them is the largest depends on the length, and each layer has them all."""
    layer = ["3072*n", "9216*n", "48*n*m", "48*n*m", "3072*n", "12288*n", "3072*n"]
    buffers = [
        item for start in range(0, 70, 7)
        for item in planned(*((size, start + n, start + n + 2) for n, size in enumerate(layer)))
    ]  # fmt: skip
    points = points_of([b.size for b in buffers], {"n": (1, 16, 128), "m": (1, 100, 1024)})
    plan = plan_arena(buffers, points)
    assert len(points) == 5
    for point in points:
        assert at_point(plan.size, point) <= 1.05 * lower_bound(buffers, point) + 64 * 3


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 4)), max_size=10))
def test_the_arena_is_at_least_what_lives_at_once(given: list[tuple[int, int, int]]) -> None:
    buffers = planned(*((64 * size, first, first + length) for size, first, length in given))
    size = plan_arena(buffers).size
    assert lower_bound(buffers, {}) <= at_point(size, {}) <= sum(at_point(b.size, {}) for b in buffers)


def test_an_order_that_misleads_is_improved() -> None:
    """Inverted residual blocks: a skip connection lives past two wide buffers; by size alone it lands above them."""
    widths = [(2, 12, 12, 2), (3, 18, 18, 3), (3, 18, 18, 3), (1, 9, 9, 6)]
    buffers: list[Planned] = []
    time = 0
    for narrow, wide, deep, out in widths:
        buffers += planned((64 * narrow, time, time + 3), (64 * wide, time, time + 1), (64 * deep, time + 1, time + 2),
                           (64 * out, time + 2, time + 4))  # fmt: skip
        time += 3
    assert plan_arena(buffers).size == lower_bound(buffers, {})


def test_a_size_that_divides_by_zero_at_the_usual_values() -> None:
    assert at_point(parse_dim("n//(n//20 - 1)"), {"n": 20}) == 40 // (40 // 20 - 1)
