"""The expansion of elementary functions: IR before -> after, run by the interpreter against NumPy."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu.target import named
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.expand_math import ExpandMath
from stepwell.lowering.loop.math.numpy_builder import NumpyMath
from stepwell.lowering.loop.math.recipes import FUNCTIONS

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

LD = np.longdouble
REFERENCES: dict[str, Any] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "powf": np.power, "tanh": np.tanh, "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "atan2": np.arctan2, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "rsqrt": lambda x: 1 / np.sqrt(x), "cbrt": np.cbrt,
}  # fmt: skip
BINARY = ("powf", "atan2")
HUGE_ANGLES = [1e6, -3e8, 1e22, 1e30]
POINTS = [0.0, -0.0, 1.0, -1.0, 0.3, -0.7, 0.9, 2.5, -4.0, 11.0, -23.0, 77.0, 1e-4, -1e-9, 1e-30, 0.5,
          np.inf, -np.inf, np.nan, *HUGE_ANGLES]  # fmt: skip


def text_of(name: str, type_: str) -> str:
    """A function of one elementary function."""
    operands = "%x, %y" if name in BINARY else "%x"
    return f"""
        func.func @f(%x: {type_}, %y: {type_}) -> {type_} {{
          %r = math.{name} {operands} : {type_}
          func.return %r : {type_}
        }}"""


def expanded(name: str, type_: str, **options: Any) -> Operation:
    module = parse_module(text_of(name, type_))
    ExpandMath(**options).run(module, PassContext())
    verify(module)
    return module


def names(module: Operation) -> set[str]:
    return {op.op_name for op in module.walk()}


def operands_of(name: str, dtype: Any) -> tuple[Any, Any]:
    x = np.array(POINTS, dtype)
    return x, np.array(POINTS[3:] + POINTS[:3], dtype)


def assert_within(name: str, got: Any, x: Any, y: Any, bound: float) -> None:
    """Errors in units in the last place of the exact result, NaN where the reference has it."""
    dtype = got.dtype
    wide = np.float64 if dtype == np.float32 or name == "erf" else LD
    arguments = [x.astype(wide), y.astype(wide)][: 2 if name in BINARY else 1]
    exact = REFERENCES[name](*arguments)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    rounded = exact.astype(dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite & ~np.isnan(exact)], rounded[~finite & ~np.isnan(exact)])
    errors = np.abs(got[finite].astype(wide) - exact[finite]) / np.spacing(np.abs(rounded[finite])).astype(wide)
    assert errors.max() <= bound + (0.5 if name == "erf" else 0), f"{name}: {errors}"


@pytest.mark.parametrize(("has_fma", "has_tables"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("name", REFERENCES)
def test_vectors(name: str, width: int, has_fma: bool, has_tables: bool) -> None:
    x, y = operands_of(name, f"f{width // 8}")
    module = expanded(name, f"vector<{x.size}xf{width}>", has_fma=has_fma, has_tables=has_tables)
    assert f"math.{name}" not in names(module)
    assert ("vector.fma" in names(module)) == (has_fma and name != "rsqrt")
    (got,) = run_function(module, [x, y])
    function = FUNCTIONS[name]
    assert_within(name, got, x, y, function.bound(width, has_fma))
    same = function.recipe(NumpyMath(width, has_fma, has_tables), *([x, y] if name in BINARY else [x]))
    np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("name", REFERENCES)
def test_scalars_give_the_bits_of_vectors(name: str) -> None:
    x, y = operands_of(name, np.float32)
    (lanes,) = run_function(expanded(name, f"vector<{x.size}xf32>"), [x, y])
    module = expanded(name, "f32")
    got = [run_function(module, [a, b])[0] for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(np.array(got, np.float32), lanes)


@pytest.mark.parametrize("type_", ["f32", "vector<8xf32>", "vector<8xf64>"])
def test_exponentials_by_tables(type_: str) -> None:
    """16 roots of two in f32, 8 in f64, whatever the type that looks one up."""
    module = expanded("exp", type_, has_tables=True)
    lookup, scale = (next(op for op in module.walk() if op.op_name == name) for name in ("isa.lookup", "isa.scale"))
    table = lookup.operands[0].defining_op
    count, element = (8, "f64") if "64" in type_ else (16, "f32")
    assert str(table.first_result.type) == f"vector<{count}x{element}>"
    roots = np.exp2(np.arange(count) / count).astype(f"f{int(element[1:]) // 8}")
    np.testing.assert_array_equal(table.value.numpy(), roots)
    assert scale.op_name == list(module.walk())[-2].op_name  # the last thing before the return


def test_targets_say_what_they_have() -> None:
    for target, expected in [("x86-64-v4", True), ("x86-64-v3", False), ("x86-64", False), ("aarch64", False)]:
        module = parse_module(text_of("exp", "vector<16xf32>"))
        ExpandMath().run(module, PassContext(named(target)))
        assert ("isa.lookup" in names(module)) == expected, target


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles_are_behind_a_branch(name: str) -> None:
    x = np.array([0.5, *HUGE_ANGLES[:3]], np.float32)
    branching, straight = expanded(name, "vector<4xf32>"), expanded(name, "vector<4xf32>", branches=False)
    assert {"loop.if", "vector.reduction"} <= names(branching)
    assert not {"loop.if", "vector.reduction"} & names(straight)
    np.testing.assert_array_equal(run_function(branching, [x, x])[0], run_function(straight, [x, x])[0])
    assert "loop.if" not in names(expanded(name, "vector<2x2xf32>"))  # a reduction takes vectors of rank 1


@pytest.mark.parametrize("narrow", ["f16", "bf16"])
def test_narrow_floats_are_computed_in_f32(narrow: str) -> None:
    module = expanded("exp", narrow)
    assert {"arith.extf", "arith.truncf"} <= names(module)
    (got,) = run_function(module, [parse_scalar(1.5, narrow), parse_scalar(0.0, narrow)])
    assert got == parse_scalar(float(np.exp(1.5)), narrow)


def parse_scalar(value: float, type_: str) -> Any:
    text = f"func.func @f() -> {type_} {{\n %c = arith.constant {value} : {type_}\n func.return %c : {type_}\n}}"
    return run_function(parse_module(text), [])[0]


def test_basic_functions_stay() -> None:
    kept = ["absf", "sqrt", "floor", "ceil", "trunc", "roundeven"]
    body = "\n".join(f"%{name} = math.{name} %x : f32" for name in kept)
    module = parse_module(f"func.func @f(%x: f32) {{\n{body}\nfunc.return\n}}")
    before = str(module)
    ExpandMath().run(module, PassContext())
    assert str(module) == before


def test_constants_are_shared_within_a_block() -> None:
    module = parse_module("""
        func.func @f(%x: f32) -> f32 {
          %a = math.exp %x : f32
          %b = math.exp %a : f32
          func.return %b : f32
        }""")
    ExpandMath().run(module, PassContext())
    values = [str(op.properties["value"]) for op in module.walk() if op.op_name == "arith.constant"]
    assert len(values) == len(set(values)) == 14


def test_every_region_is_reached() -> None:
    module = parse_module("""
        func.func @f(%m: memref<8xf32>) attributes {kernel} {
          %zero = arith.constant 0 : index
          %one = arith.constant 1 : index
          %n = arith.constant 8 : index
          loop.parallel %i = %zero to %n step %one {
            %x = buffer.load %m[%i] : memref<8xf32>
            %y = math.sin %x : f32
            buffer.store %y, %m[%i] : memref<8xf32>
            loop.yield
          }
          func.return
        }""")
    context = PassContext()
    ExpandMath().run(module, context)
    verify(module)
    assert context.statistics == {"functions expanded": 1}
    memory = np.linspace(-3, 3, 8, dtype=np.float32)
    wanted = np.sin(memory.astype(np.float64))
    run_function(module, [memory])
    np.testing.assert_allclose(memory, wanted, rtol=3e-7)


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_the_exponential_of_what_is_not_positive_has_the_same_bits(element: str) -> None:
    """And one comparison less: there is no limit above."""
    x = np.concatenate([-np.geomspace(1e-45, 800, 1000), [0.0, -0.0, -103.9, -104.5, -np.inf, np.nan]])
    x = x.astype(np.float32 if element == "f32" else np.float64)
    text = text_of("exp", f"vector<{x.size}x{element}>")
    plain, marked = parse_module(text), parse_module(text.replace("math.exp %x", "math.exp %x {sw.nonpositive}"))
    made = []
    for module in (plain, marked):
        ExpandMath().run(module, PassContext())
        made.append(run_function(module, [x, x])[0])
    np.testing.assert_array_equal(made[1], made[0])
    compared = [sum(op.op_name == "arith.select" for op in module.walk()) for module in (plain, marked)]
    assert compared == [2, 1]


@pytest.mark.parametrize(("target", "expected"), [(None, True), (True, True), (False, False)])
def test_the_target_says_whether_there_is_fma(target: bool | None, expected: bool) -> None:
    module = parse_module(text_of("exp", "f32"))
    ExpandMath().run(module, PassContext(target=None if target is None else SimpleNamespace(has_fma=target)))
    assert ("math.fma" in names(module)) == expected


def test_printing_survives() -> None:
    text = str(expanded("tan", "vector<4xf32>"))
    assert str(parse_module(text)) == text
