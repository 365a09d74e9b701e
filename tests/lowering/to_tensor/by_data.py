"""Graph functions whose result sizes data decide: the same results after every pass, and as machine code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.check import CheckEach
from stepwell.ir.interpreter import run_function
from stepwell.ir.types import Type
from tests.lowering.to_tensor.descent import Build, assert_close, graph_module, main
from tests.teams import compiled_for

BUDGET = 4_000_000


def serves(types: Sequence[Type], build: Build, *sets: Sequence[Any], tolerance: float = 0) -> None:
    """One compilation gives the graph's results for every set of arrays."""
    module = graph_module(types, build)
    model = stepwell.compile(module.clone(), threads=1)
    for given in sets:
        with np.errstate(all="ignore"):
            expected = run_function(main(module), list(map(np.asarray, given)))
        made = model(*given)
        assert_close(made if isinstance(made, tuple) else [made], expected, tolerance, tolerance)


def fails(types: Sequence[Type], build: Build, *arrays: Any, match: str) -> None:
    """Interpreted and as machine code, a call ends with an error that says so."""
    module = graph_module(types, build)
    with pytest.raises(stepwell.RuntimeError, match=match):
        run_function(main(module), list(map(np.asarray, arrays)))
    with pytest.raises(stepwell.RuntimeError, match=match):
        stepwell.compile(module, threads=1)(*arrays)


def check_by_data(
    types: Sequence[Type], build: Build, *arrays: Any, others: Sequence[Sequence[Any]] = (), every_pass: bool = True
) -> None:
    """The results agree exactly at every landing, after `every_pass` and at any number of threads; one compilation also
    runs on the `others`."""
    module, checks = graph_module(types, build), CheckEach(arrays, BUDGET)
    sets = [list(map(np.asarray, given)) for given in (arrays, *others)]
    expected = [run_function(main(module), given) for given in sets]
    for model in compiled_for(module, (1, 3), [checks] if every_pass else []):
        for given, results in zip(sets, expected, strict=True):
            made = model(*given)
            assert_close(made if isinstance(made, tuple) else [made], results, 0, 0)
    assert not [outcome for outcome in checks.outcomes if outcome.skipped]
