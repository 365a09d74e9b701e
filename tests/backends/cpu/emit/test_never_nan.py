"""What the emitter knows to be no NaN, so that one instruction finds the larger of two numbers."""

from __future__ import annotations

import pytest

from stepwell.backends.cpu.emit.floats import never_nan
from stepwell.ir.parser import parse_module

LOOP = """
%n = arith.constant 8 : index
%low = arith.constant {start} : f32
%r = loop.for %i = %n to %n step %n iter(%a = %low) -> (f32) {{
  %v = "test.value"() : () -> f32
  %m = {op} : f32
  loop.yield %m : f32
}}
"""
CASES = {
    "a constant": ("%r = arith.constant 0xFF800000 : f32", True),
    "NaN": ("%r = arith.constant 0x7FC00000 : f32", False),
    "any value": ('%r = "test.value"() : () -> f32', False),
    "the larger of a number and anything": (
        '%x = "test.value"() : () -> f32\n%c = arith.constant 1.0 : f32\n%r = arith.maxnumf %x, %c : f32', True,
    ),
    "the larger of anything": ('%x = "test.value"() : () -> f32\n%r = arith.maxnumf %x, %x : f32', False),
    "the largest number from -inf on": (LOOP.format(start="0xFF800000", op="arith.maxnumf %a, %v"), True),
    "the largest number from NaN on": (LOOP.format(start="0x7FC00000", op="arith.maxnumf %a, %v"), False),
    "the maximum from -inf on": (LOOP.format(start="0xFF800000", op="arith.maximumf %a, %v"), False),
    "lanes of numbers": (
        "%c = arith.constant dense<1.0> : vector<4xf32>\n"
        "%r = vector.shuffle %c, %c {mask = array<i64: 2, 3, 0, 1>} : vector<4xf32>, vector<4xf32> -> vector<4xf32>",
        True,
    ),
    "one of two numbers": (
        '%i = "test.value"() : () -> i1\n%c = arith.constant 1.0 : f32\n%r = arith.select %i, %c, %c : f32', True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_never_nan(name: str) -> None:
    text, expected = CASES[name]
    *_, last = parse_module(f"builtin.module {{\n{text}\n}}").body.block
    assert never_nan(last.results[0]) is expected
