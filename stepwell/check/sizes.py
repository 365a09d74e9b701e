"""A kernel of symbolic sizes at other sizes than those of the call: about its register tile, where tails begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.ir.attributes import StringAttr
from stepwell.ir.dims import Dim, DimExpr, evaluate, free_symbols, parse_dim
from stepwell.ir.types import TensorType, numpy_dtype
from stepwell.lowering.to_loop.work import FLOPS

from .launches import Launch

MOST_ELEMENTS = 1 << 20  # of a buffer
MOST_OPERATIONS = 1 << 27  # of a launch, a fraction of a second as scalar code


def other_sizes(launch: Launch, function: FuncOp) -> Iterator[Launch]:
    """Launches with made-up contents, whose results are not known yet (`after` is `before`).

    All symbols have one value, since sizes that must agree may have different names."""
    if not launch.symbols:
        return
    schedule = function.attributes.get("schedule")
    tiles = {tile for _, tile in schedule.register} if isinstance(schedule, ScheduleAttr) else set()
    random = np.random.default_rng(0)
    for value in sorted({1, *(tile + 1 for tile in tiles)}):
        symbols = dict.fromkeys(launch.symbols, value)
        if _operations(function, symbols) > MOST_OPERATIONS:
            return
        arguments = [_sample(type_, symbols, random) for type_ in launch.types]
        if all(array is not None for array in arguments):
            before = (*arguments, *(value for _ in launch.symbols))
            yield attrs.evolve(launch, label=f"{launch.label} with sizes of {value}", before=before, after=before)


def _operations(function: FuncOp, symbols: Mapping[str, int]) -> int:
    attribute = function.attributes.get(FLOPS)
    dim = parse_dim(attribute.value) if isinstance(attribute, StringAttr) else 0
    return _size(dim, symbols) if not isinstance(dim, DimExpr) or free_symbols(dim) <= symbols.keys() else 0


def _sample(type_: TensorType, symbols: Mapping[str, int], random: np.random.Generator) -> Any:
    if not all(free_symbols(dim) <= symbols.keys() for dim in type_.shape):
        return None
    shape = [_size(dim, symbols) for dim in type_.shape]
    if min(shape, default=1) < 0 or np.prod(shape, dtype=float) > MOST_ELEMENTS:
        return None
    return sample(numpy_dtype(type_), shape, random)


def _size(dim: Dim, symbols: Mapping[str, int]) -> int:
    return evaluate(dim, symbols) if isinstance(dim, DimExpr) else dim


def sample(dtype: np.dtype[Any], shape: Any, random: np.random.Generator) -> Any:
    """Made-up contents: normally distributed floats; zeros and ones, which are places in most arrays."""
    if dtype.kind in "biu" or "int" in dtype.name:
        return random.integers(0, 2, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)
