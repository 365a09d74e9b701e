"""How long models take to get ready: all steps of a small one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import loading


def test_a_model_gets_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert loading.main(["digits_cnn", "--json", str(out)]) == 0
    found = json.loads(out.read_text())["digits_cnn"]
    assert {step: set(figures) for step, figures in found.items()} == {
        "cold": {"seconds"}, "warm": {"seconds"}, "engine": {"seconds", "again", "call"},
    }  # fmt: skip
    assert all(value > 0 for figures in found.values() for value in figures.values())
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()][2:] == ["digits_cnn"]


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        loading.main(["nothing"])
    assert "no model named nothing" in capsys.readouterr().err
