"""Goals are met where every case meets them, missed where one does not, and open where nothing was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from benchmarks import goals
from benchmarks.cases import Case
from benchmarks.goals import Goal, Results
from benchmarks.harness import Comparison
from tests.benchmarks.made_up import case


def by_name(found: Sequence[Comparison]) -> Iterator[Case]:
    """A part of the goal in tenths."""
    for comparison in found:
        name, disturbed = comparison.case, str(comparison.threads - 1 or "")
        yield Case(name, int(name) / 10, name, disturbed=disturbed)


def judged(*names: str, threads: int = 1, limit: str = "") -> list[str]:
    models = [case(name, threads) for name in names]
    return Goal("w", ("models",), by_name, limit).judge(Results(models=models)).row()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (judged("10"), ["w", "10: 10", "yes", "-"]),
        (judged("10", "12", "11"), ["w", "3 of 3; worst 10: 10", "yes", "-"]),
        (judged("10", "9", "8"), ["w", "1 of 3; worst 8: 8", "no", "8: 8; 9: 9"]),
        (judged("9", limit="Why"), ["w", "9: 9", "no", "9: 9. Why"]),
        (judged("10", limit="Why"), ["w", "10: 10", "yes", "-"]),
        (judged("9", threads=3), ["w", "9: 9; 1 disturbed", "no", "9: 9 (disturbed 2)"]),
        (judged(*"12345678"), ["w", "0 of 8; worst 1: 1", "no", "1: 1; 2: 2; 3: 3; 4: 4; 5: 5; 6: 6; 2 more"]),
        (judged(), ["w", "no case", "not measured", "-"]),
    ],
)
def test_a_row(row: list[str], expected: list[str]) -> None:
    assert row == expected


def test_a_goal_whose_parts_are_left_out_is_open() -> None:
    goal = Goal("w", ("models", "memory"), by_name)
    assert goal.judge(Results(models=[case("1", 1)])).row() == ["w", "left out: memory", "not measured", "-"]


def test_every_goal_has_a_row_without_any_results() -> None:
    lines = goals.table(Results()).splitlines()
    assert lines[0] == "| goal | measured | met | what limits it |"
    assert len(lines) == 2 + len(goals.GOALS)
    assert all("not measured" in line and line.count(" | ") == 3 for line in lines[2:])
    assert len({goal.words for goal in goals.GOALS}) == len(goals.GOALS)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("matmul_512", 0.85), ("matmul_2048_inputs", 0.8), ("conv3x3_64_56", 0.85), ("conv1x1_64_256_56", 0.85),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("more", "met"), [(0.01, True), (-0.01, False)])
def test_the_peak_that_each_kernel_has_to_reach(name: str, least: float, more: float, met: bool) -> None:
    results = Results(kernels=[case(name, 1, limit=least + more), case(name, 2, limit=0.1)])
    assert [goal.judge(results).is_met for goal in goals.GOALS if goal.judge(results).cases] == [met]


@pytest.mark.parametrize("name", ["conv3x3_512_7", "conv1x1_2048_512_7"])
def test_the_last_convolutions_are_judged_beside_a_peer(name: str) -> None:
    """Not by the peak."""
    results = Results(kernels=[case(name, 1, limit=0.1)])
    assert not [goal for goal in goals.GOALS if goal.judge(results).cases]


@pytest.mark.parametrize(
    "name",
    ["softmax_1536x128", "layernorm_128x768", "gelu_128x3072", "attention_128x12x64", "depthwise_144_56", "lstm_256"],
)
@pytest.mark.parametrize(("ratio", "limit", "met"), [(1.3, 0.1, True), (1.1, 0.95, True), (1.1, 0.8, False)])
def test_operators_are_ahead_or_at_the_limit(name: str, ratio: float, limit: float, met: bool) -> None:
    results = Results(kernels=[case(name, 2, ratio, 2.0, limit=limit)])
    assert [goal.judge(results).is_met for goal in goals.GOALS if goal.judge(results).cases] == [met]
