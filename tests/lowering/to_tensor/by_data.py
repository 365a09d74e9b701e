"""Graph functions whose result sizes data decide: the same results after every pass, and as machine code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import stepwell
from stepwell.check import CheckEach
from stepwell.compiler import lower
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import PassContext
from stepwell.ir.types import Type
from tests.lowering.to_tensor.descent import Build, assert_close, graph_module, main

BUDGET = 4_000_000


def check_by_data(types: Sequence[Type], build: Build, *arrays: Any, others: Sequence[Sequence[Any]] = ()) -> None:
    """The results agree exactly at every landing, after every pass and at any number of threads; one compilation also
    runs on the `others`."""
    for threads in (1, 3):
        model = stepwell.compile(graph_module(types, build), threads=threads)
        for given in (arrays, *others):
            assert_close(_tuple(model(*given)), _expected(types, build, given), 0, 0)
    checks = CheckEach(arrays, BUDGET)
    lower(graph_module(types, build), "loop", PassContext(), [checks])
    assert not [outcome for outcome in checks.outcomes if outcome.skipped]


def _expected(types: Sequence[Type], build: Build, arrays: Sequence[Any]) -> Sequence[Any]:
    return run_function(main(graph_module(types, build)), [np.asarray(array) for array in arrays])


def _tuple(made: Any) -> Sequence[Any]:
    return made if isinstance(made, tuple) else [made]
