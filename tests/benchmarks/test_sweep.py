"""The sweep's cases are models that both engines run to the same result, and its command says what it found."""

from __future__ import annotations

import onnx
import pytest

from benchmarks import sweep
from benchmarks.sweep import Convolution, Found


def test_cases_are_the_same_everywhere_and_valid() -> None:
    cases = [Convolution.drawn(f"3/{n}") for n in range(60)]
    assert cases == [Convolution.drawn(f"3/{n}") for n in range(60)]
    assert {case.tail for case in cases} == set(sweep.TAILS)
    for case in cases:
        onnx.checker.check_model(case.model())
        assert case.channels % case.groups == case.outputs % case.groups == 0


def test_a_case_in_words() -> None:
    case = Convolution(96, 96, 56, 3, 2, 96, "global pool")
    assert str(case) == "96 -> 96 of 56x56, 3x3 by 2, 96 groups, global pool"
    assert str(Convolution(3, 16, 7, 1, 1, 1, "relu")) == "3 -> 16 of 7x7, 1x1, relu"


@pytest.mark.parametrize("tail", sweep.TAILS)
def test_both_engines_agree(tail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sweep, "TURNS", 1)
    found = sweep.run(Convolution(8, 16, 7, 3, 1, 1, tail))
    assert found.differs is None and found.ours > 0 and found.theirs > 0


@pytest.mark.parametrize(
    ("found", "lines", "status"),
    [
        (Found(10, 20, None), ["1 cases: geometric mean 2.00, 0 below 0.9, 0 wrong"], 0),
        (Found(10, 5, None), ["10.0 us, onnxruntime 5.0 us, 0.50", "mean 0.50, 1 below 0.9, 0 wrong"], 0),
        (Found(10, 20, "3 of 9 values"), ["2.00, WRONG: 3 of 9 values", "0 below 0.9, 1 wrong"], 1),
    ],
)
def test_the_command(
    found: Found, lines: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "run", lambda case: found)
    monkeypatch.setattr(sweep, "cores", lambda count: None)  # the tests keep their CPUs
    assert sweep.main(["--seconds", "0"]) == status
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(lines)
    assert all(part in line for part, line in zip(lines, printed, strict=True))
