"""The referees accept what every pass leaves of four models, and of others where a hash points."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from stepwell import cli
from stepwell.ir.resources import read_module
from stepwell.ir.verifier import verify
from tests.models import dumps
from tests.referee import FULL, MINIMAL, available, complaints, generic_text

WHOLE = ("digits_cnn", "mlp_b64", "lstm_2x256_s64", "llama_decode_dyn")
SAMPLE = 3

pytestmark = pytest.mark.skipif(
    not (available(MINIMAL) and available(FULL)), reason=f"{MINIMAL} or {FULL} is not installed (Debian: mlir-19-tools)"
)


@pytest.mark.parametrize("name", WHOLE)
def test_every_dump_of_a_model(name: str) -> None:
    texts = {pass_: generic_text(module) for pass_, module in dumps.dumps(name)}
    assert tuple(texts) == dumps.PASSES
    refused = {r: complaints(r, list(texts.values())) for r in (MINIMAL, FULL)}
    assert refused == {MINIMAL: "", FULL: ""}


@pytest.mark.parametrize(("name", "pass_"), dumps.sample({*dumps.NAMES} - {*WHOLE}, SAMPLE))
def test_a_sample_of_the_other_models(name: str, pass_: str) -> None:
    module = next(module for label, module in dumps.dumps(name) if label == pass_)
    assert dumps.refusals(module, again=False) == ""


def test_the_files_of_a_dump_folder(tmp_path: Path) -> None:
    model = tmp_path / "digits.onnx"
    onnx.save(dumps.quickly_filled("digits_cnn"), model)
    folder = tmp_path / "dumps"
    assert cli.main(["--to", "loop", "--dump-dir", str(folder), "-o", str(tmp_path / "out.mlir"), str(model)]) == 0
    paths = sorted(folder.glob("*.mlir"))
    assert len(paths) == len(dumps.PASSES) + 1
    for path in paths:
        module = read_module(path)
        verify(module)
        assert dumps.refusals(module, again=False) == "", path.name


def test_a_text_that_cannot_be_read_is_refused() -> None:
    (_, module), *_ = dumps.dumps("digits_cnn")
    function = module.regions[0].block.first
    assert function is not None
    function.body.block.terminator.detach()
    assert "cannot be read back" in dumps.refusals(module)


def test_the_sample_is_the_same_each_time_and_spread() -> None:
    chosen = dumps.sample(dumps.NAMES, 50)
    assert chosen == dumps.sample(reversed(dumps.NAMES), 50)
    assert len({name for name, _ in chosen}) > 10
    assert len({pass_ for _, pass_ in chosen}) > 10


def test_unknown_models_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dumps.main(["no_such_model"])
    assert "no_such_model" in capsys.readouterr().err


def test_the_command_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert dumps.main(["digits_cnn"]) == 0
    assert f"digits_cnn: 0 of {len(dumps.PASSES)} dumps refused" in capsys.readouterr().out
