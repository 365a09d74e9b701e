"""From a model to machine code on this machine: the same numbers as another runtime, at sizes around the tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import stepwell
from stepwell import cli
from stepwell.errors import InputError
from stepwell.ir.passes import PassContext
from stepwell.lowering.pipeline import phases
from stepwell.sources import load_source

MLP = Path(__file__).parents[1] / "examples" / "digits_mlp.onnx"


@pytest.fixture(scope="module")
def model() -> stepwell.Model:
    return stepwell.compile(MLP)


def images(count: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(count).random((count, 64), np.float32)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 33, 130])
def test_any_batch_size(model: stepwell.Model, count: int) -> None:
    session = onnxruntime.InferenceSession(MLP)
    expected = session.run(None, {session.get_inputs()[0].name: images(count)})[0]
    np.testing.assert_allclose(model(images(count)), expected, rtol=1e-4, atol=1e-5)


def test_not_a_number_stays_in_its_row(model: stepwell.Model) -> None:
    x = images(3)
    clean = model(x)
    x[1, 5] = np.nan
    y = model(x)
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(y[[0, 2]], clean[[0, 2]])


def test_arrays_that_do_not_fit(model: stepwell.Model) -> None:
    with pytest.raises(InputError, match="float64"):
        model(images(2).astype(np.float64))
    with pytest.raises(InputError, match=r"\[2, 32\]"):
        model(images(2)[:, ::2])


@pytest.mark.parametrize("landing", ["graph", "tensor", "loop"])
def test_entering_at_a_landing_gives_the_same_bits(model: stepwell.Model, landing: str) -> None:
    from stepwell.backends.cpu import target
    from stepwell.ir.passes import PassManager

    module, _ = load_source(MLP)
    PassManager(phases("graph", landing)).run(module, PassContext(target.host()))
    np.testing.assert_array_equal(stepwell.compile(module)(images(5)), model(images(5)))


def test_a_session_gives_the_same_bits(model: stepwell.Model) -> None:
    name = model.inputs[0].name
    hidden = stepwell.InferenceSession(str(MLP)).run(None, {name: images(4)})
    np.testing.assert_array_equal(hidden[0], model(images(4)))


def test_the_command_shows_code_and_results(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main([str(MLP)]) == 0
    assert "define " in capsys.readouterr().out
    assert cli.main(["--to", "asm", "-o", str(tmp_path / "mlp.s"), str(MLP)]) == 0
    assert ".text" in (tmp_path / "mlp.s").read_text()
    assert cli.main(["--to", "obj", "-o", str(tmp_path / "mlp.a"), str(MLP)]) == 0
    assert b"\x7fELF" in (tmp_path / "mlp.a").read_bytes()
    assert cli.main(["--run", "--check-each", str(MLP)]) == 0
    assert "no pass changed a result" in capsys.readouterr().out
