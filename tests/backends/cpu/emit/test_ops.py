"""Every op of the table on scalars and vectors, on values where rounding, signs, NaN and overflow show."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.backends.cpu.emit.function import RULES
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module

_spec = importlib.util.spec_from_file_location("elementwise", Path(__file__).parent / "elementwise.py")
assert _spec is not None and _spec.loader is not None
elementwise = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(elementwise)

BINARY = "%r = {name} %x0, %x1 : {{0}}"
UNARY = "%r = {name} %x0 : {{0}}"
CAST = "%r = {name} %x0 : {{0}} to {{r}}"


def binary(name: str, *elements: str) -> list[Any]:
    return [(BINARY.format(name=name), [element, element], element) for element in elements]


def unary(name: str, *elements: str) -> list[Any]:
    return [(UNARY.format(name=name), [element], element) for element in elements]


def cast(name: str, *pairs: tuple[str, str]) -> list[Any]:
    return [(CAST.format(name=name), [source], result) for source, result in pairs]


CASES = [
    *(case for name in ("addi", "subi", "muli") for case in binary(f"arith.{name}", "i8", "i32", "index")),
    *(case for name in ("andi", "ori", "xori") for case in binary(f"arith.{name}", "i1", "i32")),
    *(case for name in ("maxsi", "minsi", "maxui", "minui") for case in binary(f"arith.{name}", "i8", "i64")),
    *(case for name in ("divsi", "remsi", "floordivsi", "ceildivsi") for case in binary(f"arith.{name}", "i8", "i64")),
    *(case for name in ("divui", "remui") for case in binary(f"arith.{name}", "i8", "i32")),
    *(case for name in ("shli", "shrsi", "shrui") for case in binary(f"arith.{name}", "i16", "i32")),
    *(case for name in ("addf", "subf", "mulf", "divf")
      for case in binary(f"arith.{name}", "f16", "bf16", "f32", "f64")),
    *binary("arith.remf", "f32", "f64"),
    *(case for name in ("maximumf", "minimumf") for case in binary(f"arith.{name}", "bf16", "f32", "f64")),
    *(case for name in ("maxnumf", "minnumf") for case in binary(f"arith.{name}", "f32", "f64")),
    *binary("math.copysign", "f32", "f64"),
    *unary("arith.negf", "f16", "f32", "f64"),
    *unary("math.absf", "bf16", "f32", "f64"),
    *(case for name in ("sqrt", "floor", "ceil", "trunc", "roundeven")
      for case in unary(f"math.{name}", "f16", "f32", "f64")),
    *unary("math.absi", "i8", "i32"),
    *unary("math.ctpop", "i8", "i64"),
    *cast("arith.extf", ("f16", "f32"), ("bf16", "f32"), ("f32", "f64"), ("f16", "f64")),
    *cast("arith.truncf", ("f32", "f16"), ("f32", "bf16"), ("f64", "f32"), ("f64", "f16")),
    *cast("arith.extsi", ("i8", "i32"), ("i1", "i8")),
    *cast("arith.extui", ("i8", "i32"), ("i1", "i32"), ("i32", "i64")),
    *cast("arith.trunci", ("i32", "i8"), ("i64", "i32"), ("i32", "i1")),
    *cast("arith.sitofp", ("i8", "f32"), ("i32", "f32"), ("i64", "f64"), ("i8", "f16")),
    *cast("arith.uitofp", ("i8", "f32"), ("i32", "f64"), ("i1", "f32")),
    *cast("arith.index_cast", ("i32", "index"), ("index", "i8")),
    *cast("arith.index_castui", ("i8", "index"), ("index", "i32")),
    *cast("arith.bitcast", ("f32", "i32"), ("i64", "f64"), ("bf16", "i16"), ("i16", "f16")),
    *((f"%r = arith.cmpi {p}, %x0, %x1 : {{0}}", ["i32", "i32"], "i1")
      for p in ("eq", "ne", "slt", "sge", "ult", "uge")),
    *((f"%r = arith.cmpf {p}, %x0, %x1 : {{0}}", ["f32", "f32"], "i1")
      for p in ("oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "ult", "une", "uno", "false", "true")),
    ("%r = arith.cmpf olt, %x0, %x1 : {0}", ["bf16", "bf16"], "i1"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "inputs", "output"), CASES, ids=lambda x: str(x))
def test_like_the_interpreter(both: Any, line: str, inputs: list[str], output: str) -> None:
    arrays = elementwise.arguments(inputs, line)
    scalar, lanes = both(elementwise.program(line, inputs, output, len(arrays[0])), arrays)
    np.testing.assert_array_equal(scalar.view(np.uint8), lanes.view(np.uint8))


@pytest.mark.parametrize("name", ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "rsqrt", "cbrt", "sin",
                                  "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
                                  "atanh", "erf"])  # fmt: skip
@pytest.mark.parametrize("element", ["f32", "f64"])
def test_functions_of_the_c_library(name: str, element: str) -> None:
    dtype = elementwise.DTYPES[element]
    x = np.linspace(0.1, 0.9, 32).astype(dtype) + (1 if name == "acosh" else 0)
    text = elementwise.program(UNARY.format(name=f"math.{name}"), [element], element, 32)
    module = parse_module(text)
    scalar, lanes = model.build(module, target.host()).run([x])
    expected = [np.zeros_like(x), np.zeros_like(x)]
    run_function(model.program_of(module), [x, *expected])
    np.testing.assert_allclose(scalar, expected[0], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(scalar, lanes)


@pytest.mark.parametrize("name", ["powf", "atan2"])
def test_functions_of_two_arguments_of_the_c_library(name: str) -> None:
    x, y = np.linspace(0.1, 3, 32, dtype=np.float32), np.linspace(-2, 2, 32, dtype=np.float32)
    text = elementwise.program(BINARY.format(name=f"math.{name}"), ["f32", "f32"], "f32", 32)
    scalar, lanes = model.build(parse_module(text), target.host()).run([x, y])
    expected = (np.power if name == "powf" else np.arctan2)(x.astype(np.float64), y)
    np.testing.assert_allclose(scalar, expected, rtol=1e-6)
    np.testing.assert_array_equal(scalar, lanes)


@pytest.mark.parametrize("element", ["f16", "bf16", "f32", "f64"])
def test_fused_multiply_add(both: Any, element: str) -> None:
    values = np.array([1.5, -2, 0.25, 3, 0, -0.5, np.inf, np.nan] * 4).astype(elementwise.DTYPES[element])
    line = "%r = math.fma %x0, %x1, %x2 : {0}"
    both(elementwise.program(line, [element] * 3, element, 32), [values, values[::-1].copy(), np.roll(values, 5)])


def test_fused_multiply_add_rounds_once(level: target.CpuTarget) -> None:
    a = np.full(16, 1 + 2.0**-12, np.float32)
    line = "%r = math.fma %x0, %x0, %x1 : {0}"
    text = elementwise.program(line, ["f32", "f32"], "f32", 16)
    for result in model.build(parse_module(text), level).run([a, np.full(16, -1 - 2.0**-11, np.float32)]):
        assert set(result.tolist()) == {2.0**-24 if level.has_fma else 0.0}


@pytest.mark.parametrize("element", ["i1", "i8", "i64", "bf16", "f32"])
def test_select(both: Any, element: str) -> None:
    inputs = ["i1", element, element]
    line = "%r = arith.select %x0, %x1, %x2 : {1}"
    arrays = [np.resize(column, 32) for column in (np.array([True, False, False]), *[elementwise.values(element)] * 2)]
    arrays[2] = arrays[2][::-1].copy()
    both(elementwise.program(line, inputs, element, 32), arrays)


@pytest.mark.parametrize(("line", "inputs", "output"), CASES, ids=lambda x: str(x))
def test_every_op_compiles_for_aarch64(line: str, inputs: list[str], output: str) -> None:
    text = elementwise.program(line, inputs, output, 64)
    assert "scalar:" in model.assembly(parse_module(text), target.named("aarch64"))


@pytest.mark.parametrize(("line", "inputs", "output"), CASES[::4], ids=lambda x: str(x))
def test_like_the_interpreter_on_aarch64(both_on_aarch64: Any, line: str, inputs: list[str], output: str) -> None:
    arrays = elementwise.arguments(inputs, line)
    scalar, lanes = both_on_aarch64(elementwise.program(line, inputs, output, len(arrays[0])), arrays)
    np.testing.assert_array_equal(scalar.view(np.uint8), lanes.view(np.uint8))


def test_every_op_of_the_table_is_tried() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("*.py"))
    shared = {"cpu.share", "cpu.join", "cpu.poll", "func.call"}  # what `ShareOut` makes of every launch
    launched = shared | {"cpu.clock", "cpu.traced_share"}  # ... for profiles and traces
    names = {cls.name for cls in RULES} - launched
    assert [name for name in sorted(names) if name not in tests and f'"{name.partition(".")[2]}"' not in tests] == []
