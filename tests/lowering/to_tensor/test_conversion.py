"""Casts and bitcasts: every pair of number types, in range and out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.conversion import BitcastOp, CastOp
from stepwell.errors import PassError
from stepwell.ir.types import (
    BF16,
    F16,
    F32,
    F64,
    I1,
    SI8,
    SI16,
    SI32,
    SI64,
    UI8,
    UI16,
    UI32,
    UI64,
    FloatType,
    StringType,
    Type,
)  # fmt: skip
from tests.lowering.to_tensor.descent import descend, f32
from tests.lowering.to_tensor.test_elementwise import I8, ODD

NUMBERS = [SI8, UI8, SI16, UI16, SI32, UI32, SI64, UI64, I1, F16, BF16, F32, F64]
EDGES = np.array([2.0**31, 2.0**31 - 1, -(2.0**31), -(2.0**31) - 1, 2.0**63, 2.0**64, 1.9e19, -1e30, 65520.0, 1e-45])
with np.errstate(over="ignore"):
    SOURCES = [
        ODD, np.concatenate([ODD.astype(np.float64), EDGES]), EDGES.astype(np.float32), ODD.astype(np.float16), I8,
        I8.view(np.uint8), I8.astype(np.int64) << 50, (I8.astype(np.int64) << 50).view(np.uint64), I8 > 0,
    ]  # fmt: skip


@pytest.mark.parametrize("to", NUMBERS, ids=str)
@pytest.mark.parametrize("source", SOURCES, ids=lambda array: str(array.dtype))
def test_casts(source: Any, to: Type) -> None:
    descend(lambda x: CastOp(x, to=to), source, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("source", "to"),
    [(ODD, SI32), (ODD, UI8), (ODD, SI64), (I8, F32), (I8.view(np.uint8), F32), (ODD, I1), (I8 > 0, F32)],
)
def test_casts_run_as_machine_code(source: Any, to: Type) -> None:
    descend(lambda x: CastOp(x, to=to), source, rtol=0, atol=0, loops=True, native=True)


@pytest.mark.parametrize("name", ["f8E4M3FN", "f8E5M2", "f8E4M3FNUZ", "f8E5M2FNUZ"])
@pytest.mark.parametrize("saturate", [True, False])
def test_eight_bits_saturate_or_overflow(name: str, saturate: bool) -> None:
    descend(lambda x: CastOp(x, to=FloatType(name), saturate=saturate), ODD)
    descend(lambda x: CastOp(CastOp(x, to=FloatType(name)).result, to=F32), ODD)


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [True, False])
def test_powers_of_two(mode: str, saturate: bool) -> None:
    to = FloatType("f8E8M0FNU")
    values = np.concatenate([ODD, f32([1.0, 1.0001, 1.49, 1.5, 1.75, 2.0, 1e-40, 1e-38, 3.3e38])])
    descend(lambda x: CastOp(x, to=to, saturate=saturate, round_mode=mode), values, rtol=0, atol=0)
    descend(lambda x: CastOp(x, to=to, saturate=saturate, round_mode=mode), values.astype(np.float64) * 1e10, rtol=0)


@pytest.mark.parametrize(
    ("source", "to"),
    [(ODD, SI32), (I8, UI8), (I8.astype(np.int16), F16), (ODD > 0, UI8), (np.array([0, 1], np.uint8), I1)],
)
def test_bitcasts(source: Any, to: Type) -> None:
    descend(lambda x: BitcastOp(x, to=to), source, rtol=0, atol=0, native=to is SI32)


def test_strings_stay_on_the_host() -> None:
    with pytest.raises(PassError, match="no type of scalar code"):
        descend(lambda x: CastOp(x, to=StringType()), ODD)
