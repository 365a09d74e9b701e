"""The comparison of predicted and measured times: its numbers, its picture, and a run of a small model."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import materialize, schedules, svg
from benchmarks.schedules import Measured

ROWS = [
    Measured("m", "a <&>", 2, 0, "s", 1e-6, 2e-6, "compute"),
    Measured("m", "b", 1, 0, "s", 4e-6, 4e-6, "L2"),
    Measured("m", "b", 1, 1, "s", 4e-6, 3e-6, "L2"),  # not the model's choice
]


def test_the_summary_counts_launches() -> None:
    lines = schedules.summary(ROWS).splitlines()
    assert lines[0].startswith("2 kernels; measured / predicted: median 1.50")
    assert lines[1] == "  limited by L2: 1 kernels, 50.0% of the time, median 1.00"
    assert lines[-1] == "  all launches: 0.0 ms measured, 0.0 ms predicted"


def test_the_picture_has_a_point_for_each_kernel() -> None:
    root = ElementTree.fromstring(schedules.picture(ROWS))
    titles = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["m: b", "m: a <&>"]


@pytest.mark.parametrize(("x", "y"), [(1.0, 1.0), (1.0, 10.0), (10.0, 1.0)])
def test_points_lie_in_the_square(x: float, y: float) -> None:
    root = ElementTree.fromstring(svg.scatter("t", "x", "y", {"s": [(x, y, "p")]}))
    (point,) = [c for c in root.iter("{http://www.w3.org/2000/svg}circle") if len(c)]
    assert svg.LEFT <= float(point.attrib["cx"]) <= svg.LEFT + svg.SIZE
    assert svg.ABOVE <= float(point.attrib["cy"]) <= svg.ABOVE + svg.SIZE


def test_nothing_to_draw() -> None:
    ElementTree.fromstring(svg.scatter("t", "x", "y", {}))


def test_a_model_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "SECONDS", 0.0)
    monkeypatch.setattr(schedules, "ROUNDS", 1)
    out, picture = tmp_path / "k.json", tmp_path / "k.svg"
    assert schedules.main(["digits_cnn", "--json", str(out), "--svg", str(picture), "--candidates", "3"]) == 0
    rows = [Measured(**row) for row in json.loads(out.read_text())]
    assert {row.model for row in rows} == {"digits_cnn"} and {row.rank for row in rows} == {0, 1, 2}
    assert all(row.predicted > 0 and row.measured >= 0 for row in rows)
    assert schedules.main(["--from", str(out), "--svg", str(picture)]) == 0
    ElementTree.fromstring(picture.read_text())
    assert "kernels; measured / predicted" in capsys.readouterr().out


def test_without_models(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        schedules.main([])
    assert "no models given" in capsys.readouterr().err


def test_symbols_of_the_models() -> None:
    import onnx

    assert materialize.symbols(onnx.load(materialize.MODELS / "resnet50.onnx")) == {}
    assert materialize.symbols(onnx.load(materialize.MODELS / "bert4_dyn.onnx")).keys() >= {"batch", "seq"}
