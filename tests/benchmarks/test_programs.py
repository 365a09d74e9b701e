"""What is told of compiled programs: counts, arenas at all sizes, and the CPU time of an idle process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from benchmarks import programs
from benchmarks.programs import Arena, Program


def test_a_small_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert programs.main(["digits_cnn", "--threads", "1", "--seconds", "0.01", "--json", str(out)]) == 0
    (found,) = programs.programs(json.loads(out.read_text()))
    assert (found.model, found.threads, found.kernels, found.launches) == ("digits_cnn", 1, 5, 5)
    assert 0 < found.barriers <= found.launches and not found.rounds
    assert 0 <= found.arithmetic <= 1 and 0 <= found.idle < programs.PAUSE
    (arena,) = found.arenas
    assert arena.at == "typical" and arena.size >= arena.aligned >= arena.bound > 0
    assert "| digits_cnn |" in capsys.readouterr().out


def test_arenas_at_all_sizes() -> None:
    words = ("arena bytes", "arena lower bound bytes", "arena lower bound bytes, aligned")
    found = {f"{word}{at}": 10 * n + m for n, at in enumerate(programs.WORDS.values()) for m, word in enumerate(words)}
    least, largest = Arena("least", 10, 11, 12), Arena("largest", 20, 21, 22)
    assert programs.arenas(found) == (Arena("typical", 0, 1, 2), least, largest)
    assert programs.arenas(dict.fromkeys(words, 1)) == (Arena("typical", 1, 1, 1),)
    assert programs.arenas({}) == ()


@pytest.mark.parametrize(
    ("arena", "factors"),
    [
        (Arena("typical", 150, 100, 120), (1.5, 1.25)),
        (Arena("typical", 0, 0, 0), (1.0, 1.0)),  # nothing is needed, nothing taken
    ],
)
def test_factors_of_an_arena(arena: Arena, factors: tuple[float, float]) -> None:
    assert (arena.factor, arena.aligned_factor) == factors


class Nothing:
    """A model that does nothing."""

    def run(self, feeds: dict[str, Any]) -> None:
        """Nothing."""


def test_what_an_idle_process_takes_is_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([0.0, 0.001, 1.0, 1.005, 2.0, 2.002])
    monkeypatch.setattr(programs, "PAUSES", 3)
    monkeypatch.setattr(time, "process_time", lambda: next(taken))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert programs.idle_seconds(Nothing(), {}) == pytest.approx(0.002)


def test_a_table() -> None:
    program = Program("m", 2, 3, 8, 4, False, 0.9, 2e-4, (Arena("typical", 3 << 20, 2 << 20, 3 << 20),))
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in programs.table([program, attrs.evolve(program, rounds=True)]).splitlines()[2:]]  # fmt: skip
    assert rows[0] == ["m", "2", "3", "8", "4", "90%", "0.20", "3.00 1.50 (1.00)", "-", "-"]
    assert rows[1][3:5] == ["8+", "4+"]


@pytest.mark.parametrize("option", ["nothing", "digits_cnn nothing"])
def test_a_model_that_is_not_there(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        programs.main(option.split())
    assert "no model named nothing" in capsys.readouterr().err
