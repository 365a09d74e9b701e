"""Which limit binds a kernel, and how long it takes there."""

from __future__ import annotations

import attrs
import pytest

from stepwell.backends.cpu.limits import OVERHEAD, Roofs, Work, compute_seconds, limit_of, streaming_seconds

KB, MB = 1 << 10, 1 << 20
ROOFS = Roofs(
    threads=2,
    flops=1e11,
    bandwidth={"L1": 4e11, "L2": 2e11, "L3": 5e10, "memory": 1e10},
    capacity={"L1": 64 * KB, "L2": 2 * MB, "L3": 32 * MB},
    launch=1e-6,
)


@pytest.mark.parametrize(
    ("work", "limit", "seconds"),
    [
        pytest.param(Work(10**9, 32, MB, 0, 8 * MB), "compute", 0.01, id="much arithmetic on little data"),
        pytest.param(Work(10**9, 64, MB, 0, 8 * MB), "compute", 0.02, id="vectors hold half as many f64"),
        pytest.param(Work(10**9, 16, MB, 0, 8 * MB), "compute", 0.01, id="f16 is computed in f32"),
        pytest.param(Work(0, None, 2 * MB, 0, 8 * MB), "L2", 2 * MB / 2e11, id="a copy that just fits L2"),
        pytest.param(Work(0, None, 2 * MB + 1, 0, 8 * MB), "L3", (2 * MB + 1) / 5e10, id="one byte too many for L2"),
        pytest.param(Work(0, None, 33 * MB, 0, 64 * MB), "memory", 33 * MB / 1e10, id="a copy larger than L3"),
        pytest.param(Work(10**6, 32, MB, MB, 500 * MB), "memory", MB / 1e10, id="few weights of a large model"),
        pytest.param(Work(10**6, 32, MB, MB, 20 * MB), "L3", MB / 5e10, id="weights of a model that fits L3"),
        pytest.param(Work(10**5, 32, MB, 999 * MB, 500 * MB), "memory", MB / 1e10, id="some rows of a large table"),
        pytest.param(Work(10**9, None, 2 * MB, 0, 8 * MB), "L2", 2 * MB / 2e11, id="no roof for integers"),
        pytest.param(Work(100, 32, 400, 0, 8 * MB), OVERHEAD, 1e-6, id="too small"),
        pytest.param(Work(0, None, 0, 0, 0), OVERHEAD, 1e-6, id="nothing at all"),
    ],
)
def test_the_limit(work: Work, limit: str, seconds: float) -> None:
    found = limit_of(work, ROOFS)
    assert (found.name, found.seconds) == (limit, pytest.approx(seconds))


@pytest.mark.parametrize(("flops", "limit"), [(10**6, "memory"), (10**8, "compute")])
def test_more_arithmetic_moves_the_limit(flops: int, limit: str) -> None:
    assert limit_of(Work(flops, 32, MB, MB, 500 * MB), ROOFS).name == limit


def test_what_comes_from_memory_passes_the_caches() -> None:
    times = streaming_seconds(Work(0, None, 3 * MB, MB, 500 * MB), ROOFS)
    assert times == {"L2": 3 * MB / 2e11, "L3": 3 * MB / 5e10, "memory": MB / 1e10}


@pytest.mark.parametrize(
    ("grains", "busy"), [(0, 1), (1, 1), (2, 2), (3, 1.5), (4, 2), (5, 5 / 3), (0.5, 1), (1000, 2), (1001, 1001 / 501)]
)
def test_grains_keep_threads_busy(grains: float, busy: float) -> None:
    assert ROOFS.busy(grains) == pytest.approx(busy)


def test_a_part_of_the_team_reaches_less() -> None:
    rates = {"L1": 2e11, "L2": 1e11, "L3": 4e10, "memory": 9e9}
    one = Roofs(1, 6e10, rates, {"L1": 32, "L2": MB, "L3": 32 * MB}, 1e-7)
    team = attrs.evolve(ROOFS, alone=one)
    assert team.of_part(2) is team and ROOFS.of_part(1) is ROOFS
    part = team.of_part(1)
    assert (part.flops, part.bandwidth, part.launch) == (6e10, one.bandwidth, 1e-6)
    assert part.capacity == {"L1": 32, "L2": MB, "L3": 32 * MB}
    more = team.of_part(1.5)
    assert (more.flops, more.bandwidth["L3"], more.bandwidth["memory"]) == (9e10, 5e10, 1e10)
    assert limit_of(Work(10**9, 32, MB, 0, MB), part).seconds == pytest.approx(10**9 / 6e10)


def test_work_without_a_roof_takes_no_time() -> None:
    assert compute_seconds(Work(10**9, None, MB, 0, MB), ROOFS) == 0
