"""Whatever the bytes are: a module or a ModelError, nothing else."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.frontends.onnx.mutation import mutant, survives

CORPUS = sorted((Path(__file__).parents[2] / "fuzz" / "corpus").glob("*.onnx"))
MUTANTS = 60  # of each model of the corpus


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 5


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_truncated_at_every_byte(path: Path) -> None:
    data = path.read_bytes()
    step = max(1, len(data) // 700)
    for size in range(0, len(data), step):
        survives(data[:size])


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_mutants(path: Path) -> None:
    data = path.read_bytes()
    for seed in range(MUTANTS):
        try:
            survives(mutant(data, Random(seed)))
        except Exception as error:
            raise AssertionError(f"seed {seed} of {path.name}") from error
