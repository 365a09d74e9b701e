"""Engines without an engine, which the harness's tests run in child processes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def build() -> tuple[None, dict[str, Array]]:
    return None, {"x": np.array([1.0, 2.0, np.nan], np.float32)}


def doubling(model: object, threads: int) -> Any:
    return lambda feeds: (feeds["x"] * 2,)


def doubling_slowly(model: object, threads: int) -> Any:
    def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
        time.sleep(0.01)
        return (feeds["x"] * 2,)

    return run


def tripling(model: object, threads: int) -> Any:
    return lambda feeds: (feeds["x"] * 3,)


def telling_threads(model: object, threads: int) -> Any:
    return lambda feeds: (np.array([threads, len(os.sched_getaffinity(0)), int(os.environ["OMP_NUM_THREADS"])]),)


def refusing(model: object, threads: int) -> Any:
    raise NotImplementedError("no such operator: Frobnicate\n(second line)")


def dying_at_load(model: object, threads: int) -> Any:
    os._exit(3)


def hanging(model: object, threads: int) -> Any:
    time.sleep(60)


def dying_in_turn(model: object, threads: int) -> Any:
    calls = 0

    def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
        nonlocal calls
        calls += 1
        if calls > 3:
            os._exit(4)
        return (feeds["x"] * 2,)

    return run
