"""Arithmetic, functions and activations: the graph's results at the tensor landing, in loops and as machine code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.activation import GeluOp, SiluOp, SoftplusOp
from stepwell.dialects.graph.logic import AndOp, NotOp, OrOp, ShiftLeftOp, ShiftRightOp, XorOp
from tests.lowering.to_tensor.descent import constant, descend, f32

ODD = f32([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.5, -2.5, 3e9, -3e9, 1e20, -1e20, 2.5, 255.5, -129.0, 0.7])
SMALL = f32([0.0, -0.0, 1.0, -1.0, 0.3, -0.7, 2.5, -4.0, 11.0, np.nan])
I8 = np.array([-128, -7, -1, 0, 1, 5, 127, 3], np.int8)
DIVISORS = np.array([-1, 2, -1, 1, -3, 7, -128, -5], np.int8)

FUNCTIONS = [
    graph.NegOp, graph.AbsOp, graph.SignOp, graph.CeilOp, graph.FloorOp, graph.RoundOp, graph.ExpOp, graph.ExpM1Op,
    graph.LogOp, graph.SqrtOp, graph.ErfOp, graph.AsinOp, graph.AcosOp, graph.AtanOp, graph.SinhOp, graph.CoshOp,
    graph.TanhOp, graph.AsinhOp, graph.AcoshOp, graph.AtanhOp, graph.SigmoidOp, graph.ReluOp, SiluOp, SoftplusOp,
    GeluOp,
]  # fmt: skip


@pytest.mark.parametrize("op", [*FUNCTIONS, graph.SinOp, graph.CosOp, graph.TanOp])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_functions_keep_nan_infinities_and_zeros(op: Any, dtype: Any) -> None:
    tolerance = 1e-3 if dtype == np.float16 else 4e-6
    with np.errstate(over="ignore"):
        values = ODD.astype(dtype)
    descend(op, values, rtol=tolerance)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_run_as_machine_code(op: Any) -> None:
    descend(op, ODD, symbolic=True, rtol=4e-6, native=True)


def test_gelu_has_a_form_with_tanh() -> None:
    descend(lambda x: GeluOp(x, approximate="tanh"), SMALL.reshape(2, 5), loops=True, native=True)


BINARY = [
    graph.AddOp, graph.SubOp, graph.MulOp, graph.DivOp, graph.ModOp, graph.RemOp, graph.MaxOp, graph.MinOp, AndOp, OrOp,
    XorOp, ShiftLeftOp, ShiftRightOp,
]  # fmt: skip


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_integers_wrap_and_never_trap(op: Any, dtype: Any) -> None:
    descend(op, I8.view(dtype), DIVISORS.view(dtype), native=True)


@pytest.mark.parametrize("op", [graph.NegOp, graph.AbsOp, graph.SignOp, graph.ReluOp, NotOp])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_signs_of_integers(op: Any, dtype: Any) -> None:
    descend(op, I8.view(dtype))


@pytest.mark.parametrize("op", [graph.ModOp, graph.RemOp, graph.DivOp, graph.MaxOp, graph.MinOp, graph.PowOp])
def test_floats_meet_nan_infinities_and_zeros(op: Any) -> None:
    descend(op, ODD.reshape(-1, 1), ODD, rtol=4e-6, native=True)


def test_integer_powers() -> None:
    base = np.array([-3, 2, 1, -1, 7, 5, -1, 0], np.int32)
    descend(graph.PowOp, base, np.array([0, 31, -2, -3, 4, -1, -4, 0], np.int32), native=True)
    descend(graph.PowOp, base.astype(np.uint8), np.array([0, 9, 200, 255, 4, 1, 2, 0], np.uint8))


@pytest.mark.parametrize("exponent", [0.0, 0.25, 0.5, 0.75, -0.25, -0.5, -0.75, 1.0, -1.0, 2.0, 3.0, 1.7])
def test_powers_known_at_compile_time(exponent: float) -> None:
    descend(lambda x: graph.PowOp(x, constant(f32(exponent))), ODD, native=True, rtol=4e-6)


@pytest.mark.parametrize("number", [2, -3, -1, 1])
def test_division_by_a_known_integer(number: int) -> None:
    for op in (graph.DivOp, graph.ModOp, graph.RemOp):
        descend(lambda x, op=op: op(x, constant(np.int8(number))), I8)


@pytest.mark.parametrize("symbolic", [False, True])
def test_chains_with_clip_run_at_every_landing(symbolic: bool) -> None:
    def chain(x: Any, bias: Any) -> Any:
        shifted = graph.AddOp(x, bias).result
        clipped = graph.MinOp(graph.MaxOp(shifted, constant(f32(-1.0))).result, constant(f32(1.0)))
        return graph.MulOp(clipped.result, x)

    rows = np.random.default_rng(0).standard_normal((3, 21)).astype(np.float32)
    rows[0, :3] = [np.nan, np.inf, -np.inf]
    descend(chain, rows, rows[1], symbolic=symbolic, loops=True, native=True)
