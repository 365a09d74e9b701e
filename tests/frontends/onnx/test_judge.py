"""A sample of what the commands `judge` and `round_trip` do for all models and all node cases."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import materialize
from stepwell.frontends.onnx.importer import import_model
from tests.frontends.onnx.judge import Judge, compare, judge_model
from tests.frontends.onnx.models import model
from tests.frontends.onnx.round_trip import KINDS, SAME, difference, round_trip
from tests.onnx_conformance.cases import node_cases, table

FLOATS = np.array([1, 2, 3], np.float32)


@pytest.mark.parametrize("name", ["digits_cnn", "mlp_b64", "unet_dyn"])
def test_every_pass_keeps_what_the_model_computes(name: str) -> None:
    verdicts = judge_model(materialize.MODELS / f"{name}.onnx")
    assert [(verdict.stage, verdict.reason) for verdict in verdicts] == [
        (stage, "")
        for stage in (
            "import", "canonicalize", "spread-sequences", "cse", "dce", "recognize", "cse", "dce", "append-states",
        )
    ]  # fmt: skip


def test_a_wrong_result_is_found(tmp_path: Path) -> None:
    module = import_model(model("g (float[3] x) => (y) { y = Neg(x) }"))
    judge = Judge({"x": FLOATS}, [FLOATS], tmp_path)
    judge.judge("wrong", module)
    assert [verdict.reason for verdict in judge.verdicts] == ["output 0 is off by 6"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (FLOATS, ""),
        (FLOATS + np.float32(1e-5), ""),
        (FLOATS[:2], "output 0 is float32[2], not float32[3]"),
        (FLOATS.astype(np.float64), "output 0 is float64[3], not float32[3]"),
        (FLOATS + np.float32(1), "output 0 is off by 1"),
        (np.array([1, np.nan, 3], np.float32), "output 0 has NaN or infinities in other places"),
    ],
)
def test_comparison(found: Any, reason: str) -> None:
    assert compare([found], [FLOATS])[1] == reason


def test_integers_are_compared_exactly() -> None:
    assert compare([np.array([1, 2])], [np.array([1, 3])])[1] == "output 0: 1 of 2 elements differ"


def sampled(part: int, of: int) -> list[str]:
    """A share of the node cases, chosen by their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [name for name in node_cases() if zlib.crc32(name.encode()) % of == part]


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_node_cases_come_back(dynamic: bool) -> None:
    trips = [round_trip(node_cases()[name], dynamic, runtime=True) for name in sampled(int(dynamic), 40)]
    # ONNX has no operator that gives the stream that seeded Dropout draws from.
    imported = [trip for trip in trips if trip.kind != "not imported" and "numbers of mt19937" not in trip.reason]
    assert len(imported) > len(trips) * 0.7
    assert [trip for trip in imported if trip.kind != SAME] == []
    assert table(trips, KINDS, SAME).splitlines()[-1].startswith(f"all {len(trips)} cases")


def test_differences_are_told() -> None:

    assert difference([FLOATS], [FLOATS]) == ""
    assert difference([np.array(np.nan)], [np.array(np.nan)]) == ""
    assert difference([FLOATS + np.float32(1e-6)], [FLOATS]) == "result 0: 3 of 3 elements differ"
    assert difference([FLOATS + np.float32(1e-6)], [FLOATS], 1e-5) == ""
    assert difference([FLOATS[:1]], [FLOATS]) == "result 0: float32[1], not float32[3]"
    assert difference([np.array(1, np.int32)], [np.array(1)]) == "result 0: int32[], not int64[]"
