"""Peaks of memory: measured in processes of their own, and shown."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from benchmarks import memory


def test_a_small_model_takes_little_more_than_one_without_weights(tmp_path: Path) -> None:
    base = memory.baseline(tmp_path, 1)
    found = memory.measured("digits_cnn", tmp_path, 1, base)
    assert not list(tmp_path.iterdir())
    assert found.baseline == base > 50 * memory.MEBI
    assert base < found.compiling < base + 200 * memory.MEBI
    assert found.running < found.compiling
    assert 50_000 < found.weights < 57_000


@pytest.mark.parametrize(
    ("sizes", "factor", "cells"),
    [
        ((100, 50, 250, 150, 300), 2.0, ["100", "250", "2.00", "150", "300", "0.50"]),
        ((0.5, 50, 60, 50, 40), 20.0, ["0.5", "60", "20.00", "50", "40", "1.25"]),
        ((1, 50, 49, 45, 45), 0.0, ["1", "49", "0.00", "45", "45", "1.00"]),
    ],
)
def test_a_table_of_peaks(sizes: tuple[float, ...], factor: float, cells: list[str]) -> None:
    peaks = memory.Peaks("m", *(int(size * memory.MEBI) for size in sizes))
    assert peaks.factor == factor
    row = memory.table([peaks]).splitlines()[-1]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["m", *cells]
    assert memory.peaks({"peaks": [attrs.asdict(peaks)]}) == [peaks]
