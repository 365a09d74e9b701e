"""Tables in registers and scaling by powers of two: their meaning, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.dialects.isa import scaled
from stepwell.errors import VerifyError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.graph.canonicalize import Canonicalize

TABLE = "arith.constant dense<[1.0, 2.0, 4.0, 8.0]> : vector<4xf32>"


def lookup(table: str, index: str, result: str) -> str:
    return f"""func.func @f(%t: {table}, %i: {index}) -> {result} {{
      %r = isa.lookup %t, %i : {table}, {index} -> {result}
      func.return %r : {result}
    }}"""


def test_low_bits_name_the_lane() -> None:
    module = parse_module(lookup("vector<4xf32>", "vector<6xi32>", "vector<6xf32>"))
    verify(module)
    table = np.array([10, 20, 30, 40], np.float32)
    (got,) = run_function(module, [table, np.array([0, 3, 4, 7, -1, -4], np.int32)])
    np.testing.assert_array_equal(got, np.array([10, 40, 10, 40, 40, 10], np.float32), strict=True)
    (scalar,) = run_function(parse_module(lookup("vector<4xf32>", "i32", "f32")), [table, np.int32(-2)])
    assert scalar == 30


@pytest.mark.parametrize(
    ("table", "index", "result", "expected"),
    [
        ("vector<3xf32>", "i32", "f32", r"2\^n lanes, not vector<3xf32>"),
        ("vector<2x2xf32>", "i32", "f32", r"2\^n lanes, not vector<2x2xf32>"),
        ("vector<4xf32>", "i64", "f32", "integers of 32 bits, not i64"),
        ("vector<4xf64>", "vector<4xi32>", "vector<4xf64>", "integers of 64 bits, not vector<4xi32>"),
        ("vector<4xf32>", "vector<4xi32>", "vector<8xf32>", "vector<4xf32>"),
        ("vector<4xi32>", "i32", "f32", "a vector of floats"),
    ],
)
def test_what_a_lookup_refuses(table: str, index: str, result: str, expected: str) -> None:
    with pytest.raises(VerifyError, match=expected):
        verify(parse_module(lookup(table, index, result)))


@pytest.mark.parametrize(
    ("value", "exponent", "expected"),
    [
        (1.5, 3.0, 12.0), (1.5, 3.99, 12.0), (1.5, -0.5, 0.75), (-1.0, 200.0, -np.inf), (1.0, -149.0, 2.0**-149),
        (1.0, -151.0, 0.0), (1.0 + 2.0**-23, -127.0, 2.0**-127), (3.0, -150.0, 2.0**-148), (0.0, 9.0, 0.0),
        (np.inf, -9.0, np.inf), (np.nan, 1.0, np.nan), (1.0, np.nan, np.nan), (2.0**-149, 149.0, 1.0),
        (1.0, 1e9, np.inf), (1.0, -1e9, 0.0),
    ],
)  # fmt: skip
def test_scaling_rounds_once(value: float, exponent: float, expected: float) -> None:
    got = scaled(np.float32(value), np.float32(exponent))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.float32(expected))


def test_both_fold() -> None:
    module = parse_module(f"""func.func @f() -> f32 {{
      %t = {TABLE}
      %i = arith.constant 6 : i32
      %n = arith.constant -2.0 : f32
      %a = isa.lookup %t, %i : vector<4xf32>, i32 -> f32
      %b = isa.scale %a, %n : f32
      func.return %b : f32
    }}""")
    Canonicalize().run(module, PassContext())
    body = [op for op in module.walk() if op.op_name == "arith.constant"]
    assert [str(op.value) for op in body] == ["1.0 : f32"]
