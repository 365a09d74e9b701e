"""Kernels as plain code do what the interpreter does, and stop where an index leaves its buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu.scalar import NoScalarForm, ScalarKernel, compile_kernels
from stepwell.errors import InputError, RuntimeError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify
from stepwell.ports import main_function

FLOATS = np.array([-3.5, -0.0, 0.25, 1.0, 2.5, np.inf, -np.inf, np.nan], np.float32)
OTHERS = np.array([2.0, 0.0, -0.5, np.nan, 2.5, 1.0, -1.0, 0.0], np.float32)
INTEGERS = np.array([7, -7, 0, 1, -1, 2**31 - 1, -(2**31), 5], np.int32)
DIVISORS = np.array([2, 2, 3, -1, 5, -7, 9, -5], np.int32)
AMOUNTS = np.array([0, 1, 31, 4, 5, 6, 7, 30], np.int32)


def kernel(text: str) -> Any:
    module = parse_module(text)
    verify(module)
    return main_function(module)


def run_both(text: str, arguments: Sequence[Any]) -> list[Any]:
    """The arguments after a run as scalar code, held against the interpreter's."""
    function = kernel(text)
    scalar = ScalarKernel(function)
    compile_kernels([scalar])
    made, expected = ([a.copy() if isinstance(a, np.ndarray) else a for a in arguments] for _ in range(2))
    scalar(made)
    with np.errstate(all="ignore"):
        run_function(function, expected)
    for a, b in zip(made, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    return made


def elementwise(op: str, operands: int, source: str, target: str) -> str:
    """The op on 8 scalars, then on one vector of 8 lanes."""
    buffers = ", ".join(f"%m{n}: memref<8x{source}>" for n in range(operands))

    def body(kind: str, at: str, type_: str, made: str) -> str:
        tail = f", {type_}" if kind == "vector" else ""
        loads = "\n".join(f"%{kind}{n} = {kind}.load %m{n}[{at}] : memref<8x{source}>{tail}" for n in range(operands))
        given = ", ".join(f"%{kind}{n}" for n in range(operands))
        signature = made if made == type_ or op.startswith("arith.cmp") else f"{type_} to {made}"
        shown = type_ if op.startswith("arith.cmp") else signature
        stored = f", {made}" if kind == "vector" else ""
        to = "%s" if kind == "buffer" else "%v"
        return f"""{loads}
          %r{kind} = {op} {given} : {shown}
          {kind}.store %r{kind}, {to}[{at}] : memref<8x{target}>{stored}"""

    return f"""builtin.module {{
      func.func @main({buffers}, %s: memref<8x{target}>, %v: memref<8x{target}>) {{
        %c0 = arith.constant 0 : index
        %c1 = arith.constant 1 : index
        %c8 = arith.constant 8 : index
        loop.for %i = %c0 to %c8 step %c1 {{
          {body("buffer", "%i", source, target)}
          loop.yield
        }}
        {body("vector", "%c0", f"vector<8x{source}>", f"vector<8x{target}>")}
        func.return
      }}
    }}"""


FLOAT_BINARY = ["addf", "subf", "mulf", "divf", "remf", "maximumf", "minimumf", "maxnumf", "minnumf"]
FLOAT_UNARY = ["arith.negf", *(f"math.{name}" for name in (
    "sqrt", "rsqrt", "floor", "ceil", "trunc", "roundeven", "absf", "exp", "log1p", "tanh", "erf", "sin", "cbrt",
))]  # fmt: skip
INTEGER_BINARY = ["addi", "subi", "muli", "andi", "ori", "xori", "maxsi", "minsi", "maxui", "minui"]


@pytest.mark.parametrize("name", FLOAT_BINARY)
def test_floats(name: str) -> None:
    run_both(elementwise(f"arith.{name}", 2, "f32", "f32"), [FLOATS, OTHERS, *np.zeros((2, 8), np.float32)])


@pytest.mark.parametrize("name", FLOAT_UNARY)
def test_functions_of_floats(name: str) -> None:
    run_both(elementwise(name, 1, "f32", "f32"), [FLOATS, *np.zeros((2, 8), np.float32)])


@pytest.mark.parametrize("name", INTEGER_BINARY)
def test_integers(name: str) -> None:
    run_both(elementwise(f"arith.{name}", 2, "i32", "i32"), [INTEGERS, DIVISORS, *np.zeros((2, 8), np.int32)])


@pytest.mark.parametrize("name", ["divsi", "remsi", "floordivsi", "ceildivsi", "divui", "remui"])
def test_quotients(name: str) -> None:
    run_both(elementwise(f"arith.{name}", 2, "i32", "i32"), [INTEGERS, DIVISORS, *np.zeros((2, 8), np.int32)])


@pytest.mark.parametrize("name", ["shli", "shrsi", "shrui"])
def test_shifts(name: str) -> None:
    run_both(elementwise(f"arith.{name}", 2, "i32", "i32"), [INTEGERS, AMOUNTS, *np.zeros((2, 8), np.int32)])


@pytest.mark.parametrize(("op", "array", "target", "dtype"), [
    ("arith.sitofp", INTEGERS, "f32", np.float32), ("arith.uitofp", INTEGERS, "f32", np.float32),
    ("arith.extsi", INTEGERS, "i64", np.int64), ("arith.extui", INTEGERS, "i64", np.int64),
    ("arith.trunci", INTEGERS, "i8", np.int8), ("arith.bitcast", INTEGERS, "f32", np.float32),
    ("arith.index_cast", INTEGERS, "index", np.int64), ("arith.extf", FLOATS, "f64", np.float64),
    ("arith.fptosi", FLOATS[:5].repeat(2)[:8], "i32", np.int32),
])  # fmt: skip
def test_conversions(op: str, array: Any, target: str, dtype: Any) -> None:
    source = "i32" if array.dtype == np.int32 else "f32"
    run_both(elementwise(op, 1, source, target), [array, *np.zeros((2, 8), dtype)])


@pytest.mark.parametrize("predicate", ["slt", "uge", "eq"])
def test_comparisons(predicate: str) -> None:
    run_both(elementwise(f"arith.cmpi {predicate},", 2, "i32", "i1"), [INTEGERS, DIVISORS, *np.zeros((2, 8), np.bool_)])


STAGE = """builtin.module {{
  func.func @main(%x: memref<?x5xf32>, %y: memref<?xf32>, %n: index) {{
    %c0 = arith.constant 0 : index
    %c5 = arith.constant 5 : index
    %c2 = arith.constant 2 : index
    loop.stage %c0, {start}, %n, {count}, %x, %y{flags} {{
      identities = [0.0 : f32], iterators = ["parallel", "reduction"],
      maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
      operandSegmentSizes = array<i32: 2, 2, 1, 0, 1, {segments}>
    }} : (index, index, index, index, memref<?x5xf32>, memref<?xf32>{types}) -> () {{
    ^bb0(%a: f32):
      loop.yield %a : f32
    }} {{
    ^bb0(%s: f32, %a: f32):
      %t = arith.addf %s, %a : f32
      loop.yield %t : f32
    }} {{
    ^bb0(%s: f32):
      %t = arith.mulf %s, %s : f32
      loop.yield %t : f32
    }}
    func.return
  }}
}}"""


def stage(count: str = "%c5", flags: str = "", types: str = "", segments: str = "0, 0", start: str = "%c0") -> str:
    return STAGE.format(start=start, count=count, flags=flags, types=types, segments=segments)


def test_a_stage_reduces_and_finalizes() -> None:
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    _, y, _ = run_both(stage(), [x, np.zeros(3, np.float32), np.int64(3)])
    np.testing.assert_array_equal(y, x.sum(axis=1) ** 2)


@pytest.mark.parametrize("last", ["false", "true"])
def test_a_part_of_a_stage_goes_on_from_what_is_there(last: str) -> None:
    text = stage("%c2", ", %first, %last", ", i1, i1", "1, 1").replace(
        "%c0 =", f"%first = arith.constant false\n%last = arith.constant {last}\n%c0 ="
    )
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    _, y, _ = run_both(text, [x, np.full(3, 10, np.float32), np.int64(3)])
    total = 10 + x[:, :2].sum(axis=1)
    np.testing.assert_array_equal(y, total**2 if last == "true" else total)


@pytest.mark.parametrize("first", ["false", "true"])
def test_what_is_there_is_scaled_before_a_part_is_added(first: str) -> None:
    text = stage("%c2", ", %first, %last", ", i1, i1", "1, 1")
    for old, new in (
        ("%c0 =", f"%first = arith.constant {first}\n%last = arith.constant false\n%c0 ="),
        ("%y: memref<?xf32>, %n", "%y: memref<?xf32>, %n: index, %f: memref<?xf32>, %m"), ("%x, %y", "%x, %f, %y"),
        ("(d0, d1)>, affine_map", "(d0, d1)>, affine_map<(d0, d1) -> (d0)>, affine_map"),
        ("2, 2, 1, 0", "2, 2, 2, 0"), ("identities", "scaled = true, identities"),
        ("memref<?x5xf32>, memref<?xf32>,", "memref<?x5xf32>, memref<?xf32>, memref<?xf32>,"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new, 1)
    x, factors = np.arange(15, dtype=np.float32).reshape(3, 5), np.array([0, 0.5, 2], np.float32)
    _, y, *_ = run_both(text, [x, np.full(3, 10, np.float32), np.int64(3), factors, np.int64(0)])
    before = 0 if first == "true" else 10 * factors
    np.testing.assert_array_equal(y, before + x[:, :2].sum(axis=1))


def test_an_index_outside_is_found() -> None:
    made = ScalarKernel(kernel(stage(start="%c2")))
    compile_kernels([made])
    with pytest.raises(RuntimeError, match=r"@main: loop.stage .*leaves its buffer"):
        made([np.zeros((3, 5), np.float32), np.zeros(3, np.float32), 3])


def test_a_vector_that_ends_outside_is_found() -> None:
    made = ScalarKernel(kernel("""builtin.module {
      func.func @main(%x: memref<?xf32>, %i: index) {
        %v = vector.load %x[%i] : memref<?xf32>, vector<4xf32>
        func.return
      }
    }"""))
    compile_kernels([made])
    made([np.zeros(8, np.float32), 4])
    for index in (5, -1, 8):
        with pytest.raises(RuntimeError, match=r"vector.load .*leaves its buffer"):
            made([np.zeros(8, np.float32), index])


@pytest.mark.parametrize(("sizes", "fits"), [
    ([2, 8], True), ([0, 8], True), ([-1, 8], False), ([-2, -8], False), ([1 << 20, 1 << 20], False),
    ([1 << 32, 1 << 32], False), ([1 << 40, 1 << 50], False),
])  # fmt: skip
def test_sizes_of_local_buffers(sizes: list[int], fits: bool) -> None:
    """Below 0, beyond the room there is, and with a product beyond 64 bits."""
    made = ScalarKernel(kernel("""builtin.module {
      func.func @main(%n: index, %m: index) {
        %a = buffer.local() : memref<16xf32>
        %b = buffer.local(%n, %m) : memref<?x?xf32>
        func.return
      }
    }"""))
    compile_kernels([made])
    if fits:
        made(sizes)
    else:
        with pytest.raises(RuntimeError, match=r"buffer.local .*needs more than 1024 MB, or a size below 0"):
            made(sizes)


@pytest.mark.parametrize("sizes", [[3, 4], [-3, -5], [1 << 32, 1 << 32]])
def test_a_reshape_that_does_not_fit_is_found(sizes: list[int]) -> None:
    function = kernel("""builtin.module {
      func.func @main(%x: memref<?xf32>, %n: index, %m: index) {
        %b = buffer.reshape %x(%n, %m) : memref<?xf32> to memref<?x?xf32>
        func.return
      }
    }""")
    made = ScalarKernel(function)
    compile_kernels([made])
    x = np.zeros(15 if abs(sizes[0]) == 3 else 0, np.float32)
    with pytest.raises(RuntimeError, match=r"buffer.reshape .*leaves its buffer"):
        made([x, *sizes])
    if min(sizes) < 0:
        with pytest.raises(RuntimeError, match=r"memref<\?x\?xf32> would have the sizes \[-3, -5\]"):
            run_function(function, [x, *map(np.int64, sizes)])
    made([np.zeros(15, np.float32), 3, 5])


def test_masked_lanes_touch_no_memory() -> None:
    text = """builtin.module {
      func.func @main(%x: memref<5xf32>, %y: memref<5xf32>, %n: index) {
        %c2 = arith.constant 2 : index
        %k = vector.create_mask %n : vector<8xi1>
        %p = arith.constant dense<7.0> : vector<8xf32>
        %v = vector.maskedload %x[%c2], %k, %p : memref<5xf32>, vector<8xi1>, vector<8xf32> into vector<8xf32>
        %s = vector.reduction<add>, %v : vector<8xf32> into f32
        %b = vector.broadcast %s : f32 to vector<8xf32>
        vector.maskedstore %y[%c2], %k, %b : memref<5xf32>, vector<8xi1>, vector<8xf32>
        func.return
      }
    }"""
    _, y, _ = run_both(text, [np.arange(5, dtype=np.float32), np.zeros(5, np.float32), np.int64(3)])
    np.testing.assert_array_equal(y, [0, 0, 44, 44, 44])


def test_local_buffers_are_not_clean() -> None:
    """What is read before it is written is NaN, so that it shows."""
    made = ScalarKernel(kernel("""builtin.module {
      func.func @main(%y: memref<1xf32>) {
        %c0 = arith.constant 0 : index
        %b = buffer.local() : memref<4xf32>
        %x = buffer.load %b[%c0] : memref<4xf32>
        buffer.store %x, %y[%c0] : memref<1xf32>
        func.return
      }
    }"""))
    compile_kernels([made])
    y = np.zeros(1, np.float32)
    made([y])
    assert np.isnan(y[0])


def test_what_has_no_plain_code_is_refused() -> None:
    with pytest.raises(NoScalarForm, match="no plain code for bf16"):
        ScalarKernel(kernel("builtin.module { func.func @main(%y: memref<1xbf16>) { func.return } }"))


@pytest.mark.parametrize("name", ["divsi", "remui", "floordivsi"])
def test_a_divisor_of_zero_is_found(name: str) -> None:
    made = ScalarKernel(kernel(elementwise(f"arith.{name}", 2, "i32", "i32")))
    compile_kernels([made])
    with pytest.raises(RuntimeError, match=f"arith.{name} .*divides by zero"):
        made([INTEGERS, np.zeros(8, np.int32), *np.zeros((2, 8), np.int32)])


def test_arrays_are_dense() -> None:
    made = ScalarKernel(kernel("builtin.module { func.func @main(%y: memref<4xf32>) { func.return } }"))
    compile_kernels([made])
    with pytest.raises(InputError, match="dense"):
        made([np.zeros(8, np.float32)[::2]])


def test_a_border_is_written_before_the_elements() -> None:
    text = """builtin.module {
      func.func @main(%x: memref<2x2xf32>, %y: memref<3x4xf32>) {
        %c0 = arith.constant 0 : index
        %c2 = arith.constant 2 : index
        loop.stage %c0, %c0, %c2, %c2, %x, %y {border = -1.0 : f32, identities = [],
          iterators = ["parallel", "parallel"], label = "", names = ["h", "w"],
          maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1 + 1)>],
          operandSegmentSizes = array<i32: 2, 2, 1, 0, 1, 0, 0>
        } : (index, index, index, index, memref<2x2xf32>, memref<3x4xf32>) -> () {
        ^bb0(%e: f32):
          loop.yield %e : f32
        }
        func.return
      }
    }"""
    x = np.array([[1, 2], [3, 4]], np.float32)
    _, y = run_both(text, [x, np.full((3, 4), np.nan, np.float32)])
    assert y.tolist() == [[-1, 1, 2, -1], [-1, 3, 4, -1], [-1, -1, -1, -1]]
