"""Floats of 8 bits and less: all codes to float, and floats around every code back, like ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.ir.parser import parse_module

DTYPES = {
    "f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "f8E5M2": ml_dtypes.float8_e5m2,
    "f8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz, "!tensor.f4E2M1FN": ml_dtypes.float4_e2m1fn,
    "!tensor.f8E8M0FNU": ml_dtypes.float8_e8m0fnu,
}  # fmt: skip

PROGRAM = """
builtin.module {{
  func.func private @k(%x: memref<{n}x{a}>, %y: memref<{n}x{b}>) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %step = arith.constant {lanes} : index
    %n = arith.constant {n} : index
    loop.parallel %i = %c0 to %n step %step {{
      {body}
      loop.yield
    }}
    func.return
  }}
  func.func @main(%x: memref<{n}x{a}>, %y: memref<{n}x{b}> {{sw.out}}) {{
    kernel.launch @k(%x, %y) : (memref<{n}x{a}>, memref<{n}x{b}>) -> ()
    func.return
  }}
}}
"""
SCALAR = """%v = buffer.load %x[%i] : memref<{n}x{a}>
      %r = {op} %v : {a} to {b}
      buffer.store %r, %y[%i] : memref<{n}x{b}>"""
VECTOR = """%v = vector.load %x[%i] : memref<{n}x{a}>, vector<16x{a}>
      %r = {op} %v : vector<16x{a}> to vector<16x{b}>
      vector.store %r, %y[%i] : memref<{n}x{b}>, vector<16x{b}>"""


def convert(op: str, array: np.ndarray, a: str, b: str, lanes: int) -> np.ndarray:  # type: ignore[type-arg]
    body = (SCALAR if lanes == 1 else VECTOR).format(n=len(array), a=a, b=b, op=op)
    text = PROGRAM.format(n=len(array), a=a, b=b, lanes=lanes, body=body)
    (made,) = model.build(parse_module(text), target.host()).run([array])
    return made


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("name", DTYPES)
def test_every_code_becomes_its_float(name: str, lanes: int) -> None:
    codes = np.arange(16 if "f4" in name else 256, dtype=np.uint8).view(DTYPES[name])
    made = convert("arith.extf", codes, name, "f32", lanes)
    expected = codes.astype(np.float32)
    np.testing.assert_array_equal(made, expected)
    np.testing.assert_array_equal(np.signbit(made[expected == 0]), np.signbit(expected[expected == 0]))


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("name", [name for name in DTYPES if "E8M0" not in name])
def test_floats_are_rounded_to_nearest_even(name: str, lanes: int) -> None:
    numbers = np.arange(16 if "f4" in name else 256, dtype=np.uint8).view(DTYPES[name]).astype(np.float32)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    middles = (numbers[1:] + numbers[:-1]) / 2
    around = [f(middles, np.float32(limit)) for limit in (-np.inf, np.inf) for f in (np.nextafter,)]
    rest = np.array([np.nan, np.inf, -np.inf, 1e9, -1e9, 0, -0.0, 1e-9, -1e-9, 1e-40, numbers[-1] * 1.06], np.float32)
    values = np.concatenate([numbers, middles, *around, rest, -rest])
    values = np.resize(values, -(-len(values) // 16) * 16)
    made = convert("arith.truncf", values, "f32", name, lanes)
    np.testing.assert_array_equal(made.view(np.uint8), values.astype(DTYPES[name]).view(np.uint8))
