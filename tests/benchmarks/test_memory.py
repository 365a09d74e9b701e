"""Peaks of memory: measured in processes of their own, and shown."""

from __future__ import annotations

from pathlib import Path

from benchmarks import memory


def test_a_small_model_takes_little_more_than_the_imports(tmp_path: Path) -> None:
    found = memory.measured("digits_cnn", tmp_path, 1)
    assert not list(tmp_path.iterdir())
    assert found.idle > 10 * memory.MEBI
    assert found.idle < found.compiling < found.idle + 300 * memory.MEBI
    assert found.running < found.compiling


def test_a_table_of_peaks() -> None:
    peaks = memory.Peaks("m", *(size * memory.MEBI for size in (100, 50, 250, 150, 300)))
    assert peaks.factor == 2.5
    assert memory.table([peaks]).splitlines()[-1] == "| m | 100 | 50 | 250 | 2.50 | 150 | 300 | 0.50 |"
