"""How long models take to get ready: all steps of a small one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import loading


def test_a_model_gets_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert loading.main(["digits_cnn", "--json", str(out)]) == 0
    found = json.loads(out.read_text())["models"]["digits_cnn"]
    assert {step: set(figures) for step, figures in found.items()} == {
        "cold": {"seconds", "kernels", "foreign"}, "warm": {"seconds", "foreign"},
        "engine": {"seconds", "again", "call", "foreign"},
    }  # fmt: skip
    assert all(figures.pop("foreign") >= 0 for figures in found.values())
    assert all(value > 0 for figures in found.values() for value in figures.values())
    assert found["cold"]["kernels"] == 5
    assert "| digits_cnn |       5 |" in capsys.readouterr().out


def test_a_disturbed_step_is_remarked() -> None:
    found = {"m": {"cold": {"seconds": 1.0, "foreign": 0.7}, "warm": {"seconds": 1.0, "foreign": 0.01}}}
    assert loading.remarks(found) == ["m, cold: other processes took 0.7 CPUs"]


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        loading.main(["nothing"])
    assert "no model named nothing" in capsys.readouterr().err
