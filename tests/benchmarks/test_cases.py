"""What goals are judged by: pairs of made-up results and the part of the goal that they reach."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import pytest

from benchmarks import cases
from benchmarks.cases import Case
from benchmarks.decode import Step
from benchmarks.harness import Comparison, Outcome
from benchmarks.memory import Peaks
from benchmarks.programs import Arena, Program
from tests.benchmarks.made_up import case

MIB = 1 << 20


def reached(found: Iterable[Case]) -> dict[str, float]:
    return {one.name: pytest.approx(one.reached, abs=1e-3) for one in found}


def test_at_least_and_at_most_reach_all_at_the_goal() -> None:
    assert [cases.at_least(value, 0.8) for value in (0.4, 0.8, 1.6)] == [0.5, 1, 2]
    assert [cases.at_most(value, 8) for value in (16, 8, 4, 0, -1)] == [0.5, 1, 2, float("inf"), float("inf")]


MODELS = [case("m", 1, 1.5, 0.8), case("n", 2, 0.6, 3.0), case("resnet50_int8_qdq", 1, 0.2, 0.2)]


def test_against_a_peer_leaves_out_integers_and_other_peers() -> None:
    assert reached(cases.against(MODELS, "a", 1)) == {"m, threads 1": 1.5, "n, threads 2": 0.6}
    assert reached(cases.against(MODELS, "b", 1.25)) == {"m, threads 1": 0.64, "n, threads 2": 2.4}
    assert reached(cases.against(MODELS, "a", 1, names=("m*",))) == {"m, threads 1": 1.5}
    assert reached(cases.against(MODELS, "a", 1, threads=2)) == {"n, threads 2": 0.6}


def test_what_fails_here_reaches_nothing_and_what_fails_there_says_nothing() -> None:
    good = case("m", 1, 2.0)
    ours, theirs = good.outcomes
    failed = Comparison("m", 1, (Outcome("ours", error="no"), attrs.evolve(theirs, ratio=None)))
    assert [(one.reached, one.text) for one in cases.against([failed], "a", 1)] == [(0, "failed")]
    assert not list(cases.against([Comparison("m", 1, (ours, Outcome("a", error="no")))], "a", 1))


def test_a_disturbed_case_says_so() -> None:
    (found,) = cases.against([case("m", 2, 0.9, disturbed=1)], "a", 1)
    assert str(found) == "m, threads 2: 0.90 (0.45-1.80) (disturbed 1 of 1 blocks)"
    (found,) = cases.against([case("m", 2, 0.9)], "a", 1)
    assert str(found) == "m, threads 2: 0.90 (0.45-1.80)"


def test_means_are_by_threads() -> None:
    found = list(cases.mean_against([*MODELS, case("o", 1, 6.0, 1.0)], "a", 1.25))
    assert reached(found) == {"threads 1": 2.4, "threads 2": 0.48}
    assert [one.text for one in found] == ["3.00 (2 models)", "0.60 (1 models)"]


KERNELS = [
    case("matmul_256", 1, 1.0, limit=0.9), case("matmul_256", 2, 1.0, limit=0.5),
    case("matmul_512_inputs", 1, 1.0, limit=0.6), case("matmul_1024", 1, 1.0),
]  # fmt: skip


def test_the_peak_is_that_of_one_core() -> None:
    found = cases.near_peak(KERNELS, 0.8, ("matmul_*",), ("*_inputs",))
    assert reached(found) == {"matmul_256, threads 1": 1.125, "matmul_1024, threads 1": 0}
    assert [one.text for one in cases.near_peak(KERNELS, 0.8, ("*_inputs",))] == ["60.0%"]


@pytest.mark.parametrize(
    ("ratios", "limit", "expected"),
    [
        ((1.2, 5.0), 0.1, 1.0),  # the better peer counts
        ((0.6, 5.0), 0.1, 0.5),
        ((0.6, 5.0), 0.9, 1.0),  # at the machine's limit nothing is to be had
        ((0.6, 5.0), 0.72, 0.8),
        ((0.6,), None, 0.5),
        ((), 0.45, 0.5),
    ],
)
def test_ahead_or_near_the_limit(ratios: tuple[float, ...], limit: float | None, expected: float) -> None:
    found = cases.ahead_or_near_limit([case("lstm_256", 1, *ratios, limit=limit)], 1.2, 0.9, ("lstm_*",))
    assert reached(found) == {"lstm_256, threads 1": expected}


STEP = Step("m", 1, False, 1000, 700, ((1e-3, 8.5e-4), (1e-3, 6e-4), (1e-3, 9e-4)), past=200)


def test_streaming_takes_the_median_of_the_rounds() -> None:
    found = list(cases.streaming([STEP, attrs.evolve(STEP, has_state=True, disturbed=2)], 0.85))
    assert reached(found) == {"m, threads 1, arrays": 1.0, "m, threads 1, state": 1.0}
    assert [one.disturbed for one in found] == ["", "2 of 3 rounds"]


@pytest.mark.parametrize(("others", "expected"), [(500, 1.0), (600, 0.5), (700, 0.0), (300, 2.0)])
def test_a_step_with_state_saves_the_past(others: int, expected: float) -> None:
    kept = attrs.evolve(STEP, has_state=True, others=others)
    assert reached(cases.no_copy_of_past([STEP, kept])) == {"m, threads 1": expected}
    assert not list(cases.no_copy_of_past([STEP]))
    assert not list(cases.no_copy_of_past([attrs.evolve(STEP, threads=2), kept]))


def loaded(kernels: int, seconds: float, engine: float = 0.04, foreign: float = 0.0) -> dict[str, dict[str, float]]:
    cold = {"seconds": seconds, "kernels": kernels, "foreign": foreign}
    return {"cold": cold, "engine": {"seconds": engine, "again": 0.01, "call": 0.1, "foreign": 0.0}}


def test_getting_ready_is_judged_for_some() -> None:
    models = {"m": loaded(10, 4.0), "n": loaded(10, 16.0, 0.1, foreign=0.7)}
    assert reached(cases.ready(models, "cold", 8, ("m", "n", "o"))) == {"m": 2.0, "n": 0.5}
    assert [str(one) for one in cases.ready(models, "cold", 8, ("n",))] == ["n: 16.00 s (disturbed by 0.7 CPUs)"]
    assert [str(one) for one in cases.ready(models, "engine", 0.05, ("n",))] == ["n: 100 ms (10 ms once more)"]


@pytest.mark.parametrize(("power", "expected"), [(1, 1.1), (2, 0.55)])
def test_growth_is_the_power_of_kernels(power: int, expected: float) -> None:
    models = {str(n): loaded(n, 0.1 * n**power) for n in (1, 5, 20, 50)}
    assert reached(cases.growth(models, 1.1)) == {"4 models": expected}


def test_growth_of_too_few_models_is_unknown() -> None:
    assert not list(cases.growth({}, 1.1))
    assert not list(cases.growth({"m": loaded(1, 1.0), "n": loaded(2, 2.0), "o": loaded(2, 3.0)}, 1.1))


def test_memory_is_judged_beside_the_peer_and_above_the_baseline() -> None:
    peaks = [Peaks("m", 100 * MIB, 150 * MIB, 350 * MIB, 200 * MIB, 250 * MIB),
             Peaks("small", 1 * MIB, 150 * MIB, 160 * MIB, 100 * MIB, 80 * MIB)]  # fmt: skip
    assert reached(cases.running_memory(peaks)) == {"m": 1.25, "small": 0.8}
    assert reached(cases.compiling_memory(peaks, 2.5)) == {"m": 1.25, "small": 0.25}
    (_, small) = cases.compiling_memory(peaks, 2.5)
    assert str(small) == "small: 10.0 (10 MiB, weights 1 MiB)"


def program(name: str = "m", arithmetic: float = 0.9, idle: float = 2e-4, **other: object) -> Program:
    arenas = (Arena("typical", 110, 100, 105), Arena("largest", 130, 100, 128), Arena("least", 0, 0, 0))
    return attrs.evolve(Program(name, 2, 3, 8, 4, False, arithmetic, idle, arenas), **other)


def test_arenas_are_judged_at_all_sizes() -> None:
    found = list(cases.tight_arenas([program()], 1.1))
    assert reached(found) == {"m, typical sizes": 1.0, "m, largest sizes": 0.846, "m, least sizes": 1.1}
    assert str(found[1]) == "m, largest sizes: 1.30 (1.02 by that of aligned buffers)"


def test_two_threads_are_judged_where_arithmetic_limits() -> None:
    comparisons = [case("m", 1, seconds=0.003), case("m", 2, seconds=0.002), case("n", 1), case("n", 2), case("o", 2)]
    programs = [program("m"), program("n", arithmetic=0.5), program("o")]
    found = list(cases.scaling(programs, comparisons, 1.8))
    assert reached(found) == {"m": 0.833}
    assert str(found[0]) == "m: 1.50 (arithmetic 90%)"


def test_teams() -> None:
    assert reached(cases.sleeping([program(idle=2e-3), program("n", idle=0.0)], 1e-3)) == {"m": 0.5, "n": float("inf")}
    programs = [program(), program("n", barriers=16), program("o", barriers=0)]
    assert reached(cases.few_barriers(programs)) == {"m": 2.0, "n": 0.5, "o": float("inf")}
