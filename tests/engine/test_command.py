"""The `lower` command, its engine files and the cache: what is asked for is done whether a model is there or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stepwell
from stepwell import cli
from stepwell.backends.cpu import target

TEXT = """builtin.module {
  func.func @main(%x : tensor<4xf32>) -> tensor<4xf32> {
    %y = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>
    func.return %y : tensor<4xf32>
  }
}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and an empty cache."""
    monkeypatch.setenv("STEPWELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("stepwell.ir.origins._others", set())
    monkeypatch.setattr("stepwell.engine.code.fingerprint", lambda: "this code")
    (tmp_path / "model.mlir").write_text(TEXT)
    return tmp_path / "model.mlir"


@pytest.mark.parametrize("again", [False, True])
def test_the_command_writes_an_engine_and_runs_it(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], again: bool
) -> None:
    """Whether the model is in the cache or not."""
    out = tmp_path / "out.well"
    for _ in range(1 + again):
        out.unlink(missing_ok=True)
        capsys.readouterr()
        assert cli.main(["--to", "engine", "-o", str(out), "--run", "--timing", str(path)]) == 0
    shown = capsys.readouterr()
    assert ("(model from the cache)" in shown.err) == again
    assert ": float32[4]" in shown.out
    np.testing.assert_array_equal(stepwell.load(out)(np.array([-1, 2, -3, 4], np.float32)), [0, 2, 0, 4])


@pytest.mark.parametrize("action", [[], ["--run"]])
def test_the_command_writes_an_engine_for_another_machine_again(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], action: list[str]
) -> None:
    other = "aarch64" if target.host().arch == "x86_64" else "x86-64"
    for number in range(2):
        out = tmp_path / f"out{number}.well"
        assert cli.main(["--to", "engine", "--target", other, "-o", str(out), *action, str(path)]) == len(action)
        assert out.exists() and ("cannot run on this machine" in capsys.readouterr().err) == bool(action)
