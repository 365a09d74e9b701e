"""Running IR on arrays: calls, regions, observers, and errors that name the op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.errors import IRError, RuntimeError
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import Frame, run_function
from stepwell.ir.parser import parse_module

MODULE = """
builtin.module {
  func.func @double(%x: f32) -> f32 {
    %y = arith.addf %x, %x : f32
    func.return %y : f32
  }
  func.func @main(%x: f32, %n: index) -> (f32, index) {
    %zero = arith.constant 0 : index
    %one = arith.constant 1 : index
    %r = loop.for %i = %zero to %n step %one iter(%a = %x) -> (f32) {
      %b = func.call @double(%a) : (f32) -> f32
      loop.yield %b : f32
    }
    func.return %r, %n : f32, index
  }
}
"""


def function(text: str, name: str = "main") -> Operation:
    return next(op for op in parse_module(text).walk() if f"@{name}(" in str(op).partition("\n")[0])


def body(lines: str, result: str = "i32") -> Operation:
    return parse_module(f"func.func @main(%x: i32, %y: i32) -> {result} {{\n{lines}\nfunc.return %r : {result}\n}}")


def test_calls_and_loops() -> None:
    made = run_function(function(MODULE), [np.float32(1.5), np.int64(3)])
    assert made == (12.0, 3)
    assert made[0].dtype == np.float32


def test_an_observer_sees_every_op_in_order() -> None:
    seen: list[tuple[str, Sequence[Any]]] = []
    run_function(
        function(MODULE), [np.float32(1), np.int64(2)], observer=lambda op, out: seen.append((op.op_name, out))
    )
    assert [name for name, _ in seen] == ["arith.constant"] * 2 + ["arith.addf", "func.call"] * 2 + ["loop.for"]
    assert seen[-1][1] == (4.0,)


def test_an_if_without_results() -> None:
    module = parse_module("""
        func.func @main(%c: i1, %m: memref<1xf32>) {
          %zero = arith.constant 0 : index
          loop.if %c : (i1) -> () {
            %two = arith.constant 2.0 : f32
            buffer.store %two, %m[%zero] : memref<1xf32>
            loop.yield
          } {
          }
          func.return
        }""")
    for condition, expected in ((True, 2.0), (False, 0.0)):
        memory = np.zeros(1, np.float32)
        assert run_function(module, [np.bool_(condition), memory]) == ()
        assert memory[0] == expected


@pytest.mark.parametrize(
    ("lines", "x", "y", "expected"),
    [
        ("%r = arith.addi %x, %y : i32", 2**31 - 1, 1, -(2**31)),
        ("%r = arith.divsi %x, %y : i32", -7, 2, -3),
        ("%r = arith.remsi %x, %y : i32", -7, 2, -1),
        ("%r = arith.floordivsi %x, %y : i32", -7, 2, -4),
        ("%r = arith.ceildivsi %x, %y : i32", 7, 2, 4),
        ("%r = arith.divui %x, %y : i32", -1, 2, 2**31 - 1),
        ("%r = arith.shrui %x, %y : i32", -1, 28, 15),
        ("%r = arith.shrsi %x, %y : i32", -16, 2, -4),
        ("%r = arith.maxui %x, %y : i32", -1, 1, -1),
        ("%r = arith.minsi %x, %y : i32", -1, 1, -1),
        ("%c = arith.cmpi ult, %x, %y : i32\n%r = arith.extui %c : i1 to i32", -1, 1, 0),
        ("%c = arith.cmpi slt, %x, %y : i32\n%r = arith.extsi %c : i1 to i32", -1, 1, -1),
        (
            "%f = arith.uitofp %x : i32 to f64\n%g = arith.truncf %f : f64 to f32\n%r = arith.bitcast %g : f32 to i32",
            -1,
            0,
            0x4F800000,
        ),
        (
            "%c = arith.cmpi slt, %x, %y : i32\n%f = arith.sitofp %c : i1 to f32\n%r = arith.fptosi %f : f32 to i32",
            0,
            1,
            -1,
        ),
    ],
)
def test_integers_are_what_the_op_says(lines: str, x: int, y: int, expected: int) -> None:
    assert run_function(body(lines), [np.int32(x), np.int32(y)]) == (expected,)


@pytest.mark.parametrize(
    ("lines", "x", "y", "message"),
    [
        ("%r = arith.divsi %x, %y : i32", 1, 0, r"arith.divsi: division of an integer by zero \(value 1\)"),
        ("%r = arith.divsi %x, %y : i32", -(2**31), -1, "signed division overflows"),
        ("%r = arith.shli %x, %y : i32", 1, 32, "shift by the width or more"),
        ("%f = arith.constant 1.0e10 : f32\n%r = arith.fptosi %f : f32 to i32", 0, 0, "out of the integer's range"),
        ("%f = arith.constant 0x7FC00000 : f32\n%r = arith.fptoui %f : f32 to i32", 0, 0, "out of the integer's range"),
        (
            '%r = "unknown"() : () -> i32',
            0,
            0,
            r"interpreting unknown \(from <text>:2:1\): unknown has no interpretation",
        ),
    ],
)
def test_undefined_results_are_errors(lines: str, x: int, y: int, message: str) -> None:
    with pytest.raises((IRError, RuntimeError), match=message):
        run_function(body(lines), [np.int32(x), np.int32(y)])


@pytest.mark.parametrize(
    ("kind", "type_", "lanes", "acc", "expected"),
    [
        ("add", "f32", [1, 2, 3, 4], None, 10),
        ("add", "f32", [1, 2, 3, 4], 0.5, 10.5),
        ("mul", "i32", [1, 2, 3, 4], 2, 48),
        ("maximumf", "f32", [1, np.nan, 3, 4], None, np.nan),
        ("maxnumf", "f32", [1, np.nan, 3, 4], None, 4),
        ("minimumf", "f32", [0.0, -0.0, 3, 4], None, -0.0),
        ("minsi", "i32", [-1, 2, 3, 4], None, -1),
        ("minui", "i32", [-1, 2, 3, 4], None, 2),
        ("maxui", "i32", [-1, 2, 3, 4], None, -1),
        ("and", "i32", [7, 6, 5, 4], None, 4),
        ("xor", "i32", [1, 2, 4, 8], 1, 14),
        ("or", "i1", [0, 0, 1, 0], None, 1),
        ("or", "i1", [0, 0, 0, 0], None, 0),
        ("add", "f32", [1e8, 1, -1e8, 1], None, 1),
    ],
)
def test_reductions_go_from_the_first_lane_to_the_last(
    kind: str, type_: str, lanes: list[float], acc: float | None, expected: float
) -> None:
    dtype: Any = {"f32": np.float32, "i32": np.int32, "i1": np.bool_}[type_]
    argument = "" if acc is None else ", %a"
    module = parse_module(f"""
        func.func @main(%v: vector<4x{type_}>, %a: {type_}) -> {type_} {{
          %r = vector.reduction<{kind}>, %v{argument} : vector<4x{type_}> into {type_}
          func.return %r : {type_}
        }}""")
    (made,) = run_function(module, [np.array(lanes, dtype), dtype(acc or 0)])
    np.testing.assert_array_equal(made, np.array(expected, dtype))
    assert np.signbit(float(made)) == np.signbit(expected)


def test_a_value_without_contents_is_named() -> None:
    module = parse_module('"region"() ({\n^bb0(%x: f32):\n  "use"(%x) : (f32) -> ()\n}) : () -> ()')
    with pytest.raises(IRError, match="%x has no value here"):
        Frame().get(module.regions[0].block.arguments[0])


def test_the_number_of_arguments_is_checked() -> None:
    with pytest.raises(IRError, match="a block of 2 arguments was given 1"):
        run_function(body("%r = arith.addi %x, %y : i32"), [np.int32(1)])
