"""Tables and scaling as AVX-512 code, in every number of lanes; other targets refuse them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.backends.cpu import model, target
from stepwell.errors import TargetError
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify

LANES = [None, 1, 4, 8, 16, 24, 32]


@pytest.fixture
def avx512() -> target.CpuTarget:
    chosen = target.named("x86-64-v4")
    try:
        target.check_runs_here(chosen)
    except TargetError as error:
        pytest.skip(str(error))
    return chosen


def program(bits: int, lanes: int | None, table: int) -> str:
    """%out[0:] = table[i] and %out[count:] = x * 2^floor(n), in `count` lanes or one."""
    count, float_, integer = lanes or 1, f"f{bits}", f"i{bits}"
    roots = ", ".join(str(float(n + 1)) for n in range(table))

    def type_(element: str) -> str:
        return element if lanes is None else f"vector<{lanes}x{element}>"

    def read(name: str, element: str) -> str:
        memory = f"memref<{count}x{element}>"
        if lanes is None:
            return f"buffer.load %{name}m[%zero] : {memory}"
        return f"vector.load %{name}m[%zero] : {memory}, {type_(element)}"

    def write(name: str) -> str:
        memory = f"memref<{count}x{float_}>"
        if lanes is None:
            return f"buffer.store %{name}, %{name}m[%zero] : {memory}"
        return f"vector.store %{name}, %{name}m[%zero] : {memory}, {type_(float_)}"

    types = [integer, float_, float_, float_, float_]
    memories = [f"memref<{count}x{element}>" for element in types]
    names = ["im", "xm", "nm", "am", "bm"]
    arguments = ", ".join(f"%{name}: {memory}" for name, memory in zip(names, memories, strict=True))
    outs = arguments.replace(f"%am: {memories[3]}", f"%am: {memories[3]} {{sw.out}}")
    outs = outs.replace(f"%bm: {memories[4]}", f"%bm: {memories[4]} {{sw.out}}")
    return f"""builtin.module {{
      func.func private @k({arguments}) attributes {{kernel}} {{
        %zero = arith.constant 0 : index
        %t = arith.constant dense<[{roots}]> : vector<{table}x{float_}>
        %i = {read("i", integer)}
        %x = {read("x", float_)}
        %n = {read("n", float_)}
        %a = isa.lookup %t, %i : vector<{table}x{float_}>, {type_(integer)} -> {type_(float_)}
        %b = isa.scale %x, %n : {type_(float_)}
        {write("a")}
        {write("b")}
        func.return
      }}
      func.func @main({outs}) {{
        kernel.launch @k({", ".join(f"%{name}" for name in names)}) : ({", ".join(memories)}) -> ()
        func.return
      }}
    }}"""


def arguments(bits: int, count: int) -> list[Any]:
    rng = np.random.default_rng(bits + count)
    dtype = f"f{bits // 8}"
    x = np.resize(np.array([1.0, -1.5, 3.0, np.inf, np.nan, 0.0, 1e-38, 1.25], dtype), count)
    n = np.resize(np.array([3.5, -130.0, 130.0, 2.0, 1.0, 5.0, -10.75, -1074.5, np.nan, -149.0, 127.0], dtype), count)
    return [rng.integers(-(2**30), 2**30, count).astype(f"i{bits // 8}"), x, n]


@pytest.mark.parametrize("table", [4, 8])
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("bits", [32, 64])
def test_like_the_interpreter(avx512: target.CpuTarget, bits: int, lanes: int | None, table: int) -> None:
    module = parse_module(program(bits, lanes, table))
    verify(module)
    given = arguments(bits, lanes or 1)
    got = model.build(module, avx512).run(given)
    expected = [np.zeros_like(array) for array in got]
    run_function(model.program_of(module), [*given, *expected])
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_instruction_each() -> None:
    code = model.assembly(parse_module(program(32, 16, 16)), target.named("x86-64-v4"))
    assert code.count("vpermps") == code.count("vscalefps") == 1


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64", "aarch64"])
def test_targets_without_them(name: str) -> None:
    with pytest.raises(TargetError, match=f"isa.lookup needs AVX-512, which {name} has not"):
        model.assembly(parse_module(program(32, 16, 16)), target.named(name))


def test_a_table_of_two_registers() -> None:
    with pytest.raises(TargetError, match="more than one register"):
        model.assembly(parse_module(program(32, 16, 32)), target.named("x86-64-v4"))
