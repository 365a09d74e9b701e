"""Symbols measured on arrays, and arrays that contradict."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.dialects.func import FuncOp
from stepwell.errors import IRError
from stepwell.ir.dims import parse_dim
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.symbol_values import bind_symbols
from stepwell.ir.types import F32, TensorType


def types(*shapes: str) -> list[TensorType]:
    return [TensorType(tuple(parse_dim(dim) for dim in shape.split()), F32) for shape in shapes]


@pytest.mark.parametrize(
    ("shapes", "sizes", "expected"),
    [
        (["n 4"], [(3, 4)], {"n": 3}),
        (["8*h 4"], [(24, 4)], {"h": 3}),
        (["n+m", "n"], [(7,), (3,)], {"n": 3, "m": 4}),
        (["n+m"], [(7,)], {}),
        (["n n"], [(5, 5)], {"n": 5}),
        (["n"], [(0,)], {"n": 0}),
    ],
)
def test_measured(shapes: list[str], sizes: list[tuple[int, ...]], expected: dict[str, int]) -> None:
    assert bind_symbols(types(*shapes), sizes) == expected


@pytest.mark.parametrize(
    ("shapes", "sizes", "message"),
    [
        (["n 4"], [(3,)], "argument 0 has 1 dimensions"),
        (["n 4"], [(3, 5)], "dimension 1 of argument 0 is 5, expected 4"),
        (["n n"], [(3, 5)], "dimension 1 of argument 0 is 5, but n is 3 with n = 3"),
        (["8*h"], [(12,)], r"dimension 0 of argument 0 is 12, which 8\*h is for no h"),
        (["n+4"], [(3,)], r"dimension 0 of argument 0 is 3, which n \+ 4 is for no n"),
        (["n", "n//2"], [(6,), (4,)], r"is 4, but n//2 is 3 with n = 6"),
        (["n", "n"], [(3,), (4,)], "dimension 0 of argument 1 is 4"),
    ],
)
def test_contradictions(shapes: list[str], sizes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(IRError, match=message):
        bind_symbols(types(*shapes), sizes)


def test_the_interpreter_knows_the_symbols_of_each_function() -> None:
    shape = 'tensor<?x2xf32, #graph.shape<["n"]>>'
    flat = 'tensor<?xf32, #graph.shape<["2*n"]>>'
    module = parse_module(f"""builtin.module {{
      func.func private @flat(%x: {shape}) -> {flat} {{
        %r = tensor.reshape %x : ({shape}) -> {flat}
        func.return %r : {flat}
      }}
      func.func @main(%x: tensor<2x2xf32>) -> {flat} {{
        %r = "func.call"(%x) <{{callee = @flat}}> : (tensor<2x2xf32>) -> {flat}
        func.return %r : {flat}
      }} }}""")
    main = next(f for f in module.walk_of(FuncOp) if f.sym_name == "main")
    assert run_function(main, [np.zeros((2, 2), np.float32)])[0].shape == (4,)
