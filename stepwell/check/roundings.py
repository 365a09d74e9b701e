"""What roundings of a computation's inputs make of its results.

The tangent near a pole, or the cosine of a large number, makes any error of its operand a thousand times as large: two
right programs differ there by more than a tolerance for sums allows. How much more is measured: the inputs are rounded
otherwise, as often as a tolerance allows, and what that changes, a result may be off by (a condition number by
perturbation: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 1.6). Integers made of rounded
numbers, as their bits or cut off, may be as far apart as that makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.errors import StepwellError
from stepwell.ports import Array

from .compare import ROUNDINGS, distance, step_of

TIMES = 8


def nudged(value: Any, random: np.random.Generator, step: float = 0.0) -> Any:
    """A copy of an array of floats with each element larger or smaller by ROUNDINGS of its type, or by as many of a
    `step` that is coarser; others as they are."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fV":
        return value
    signs = random.choice([-1.0, 1.0], value.shape)
    with np.errstate(all="ignore"):
        moved = value.astype(np.float64) * (1 + signs * ROUNDINGS * max(step, step_of(value.dtype)))
    return np.asarray(moved, value.dtype)  # of no dims NumPy makes numbers, which kernels take for sizes


def slack_of(results: Sequence[Any], again: Callable[[np.random.Generator], Sequence[Any]]) -> list[Array | None]:
    """How far each result moves when it is computed `again` of nudged inputs; None where that says nothing: it is no
    array of numbers, has another size then, or cannot be computed."""
    slack: list[Array | None] = [None] * len(results)
    for seed in range(TIMES):
        try:
            others = again(np.random.default_rng(seed))
        except StepwellError:
            continue
        for n, (result, other) in enumerate(zip(results, others, strict=False)):  # lists may have other lengths
            if not isinstance(result, np.ndarray) or result.dtype.kind not in "fViub" or result.shape != other.shape:
                continue
            with np.errstate(all="ignore"):
                moved = np.nan_to_num(distance(result, other), posinf=0.0)
            known = slack[n]
            slack[n] = moved if known is None else np.maximum(known, moved)
    return slack
