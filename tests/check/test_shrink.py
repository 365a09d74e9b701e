"""Kernels shrink to about one register tile, buffers along with the dims that index them."""

from __future__ import annotations

import pytest

from stepwell.check.shrink import shrunk_kernels
from stepwell.dialects.func import FuncOp
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify


def kernel(buffers: str, stage: str) -> FuncOp:
    module = parse_module(f"""builtin.module {{
      func.func @k({buffers}) attributes {{kernel, schedule = #tensor.schedule<loops = [], register = {{m: 6, n: 8}},
        vector = n by 8>}} {{
        %c0 = arith.constant 0 : index
        %c3 = arith.constant 3 : index
        %c50 = arith.constant 50 : index
        %c64 = arith.constant 64 : index
        {stage}
        func.return
      }}
    }}""")
    verify(module)
    (function,) = module.walk_of(FuncOp)
    return function


def shapes(function: FuncOp) -> list[list[tuple[int, ...]]]:
    return [[argument.type.shape for argument in copy.arguments]  # type: ignore[attr-defined]
            for copy in shrunk_kernels(function)]  # fmt: skip


SUM = """identities = [0.0 : f32],
  operandSegmentSizes = array<i32: 3, 3, {inputs}, {sources}, 1, 0, 0>}} : (index, index, index,
  index, index, index, {types}) -> () {{
^bb0(%e: f32{arguments}):
  loop.yield %e : f32
}} {{
^bb0(%s: f32, %e: f32):
  %t = arith.addf %s, %e : f32
  loop.yield %t : f32
}}"""


def product(a: str, c: str = "(d0, d1)", read: str = "(d0, d2)") -> FuncOp:
    """c[m, n] = sum over k of a[...]; m is 50, n 64, k 50."""
    types = f"{a}, memref<50x64xf32>"
    return kernel(f"%a: {a}, %c: memref<50x64xf32>", f"""loop.stage %c0, %c0, %c0, %c50, %c64, %c50, %a, %c {{
      iterators = ["parallel", "parallel", "reduction"], names = ["m", "n", "k"],
      maps = [affine_map<(d0, d1, d2) -> {read}>, affine_map<(d0, d1, d2) -> {c}>],
      {SUM.format(inputs=1, sources=0, types=types, arguments="")}""")


def test_dims_shrink_to_just_past_and_just_short_of_a_tile() -> None:
    assert shapes(product("memref<50x50xf32>")) == [[(7, 3), (7, 9)], [(5, 3), (5, 7)]]


def test_an_input_indexed_by_a_sum_is_as_large_as_the_sum_reaches() -> None:
    assert shapes(product("memref<99x1xf32>", read="(d0 + d2, 0)"))[0] == [(9, 1), (7, 9)]


def test_an_output_indexed_by_a_remainder_keeps_its_dims() -> None:
    """What the smaller dim leaves of the remainder does not follow from the axis."""
    found = shapes(product("memref<50x50xf32>", c="(d0, d1 mod 64)"))
    assert all(c[1] == 64 for _, c in found)


def test_a_computed_place_keeps_its_size() -> None:
    types = "memref<50x50xf32>, memref<1000xf32>, memref<50x64xf32>"
    function = kernel(
        "%a: memref<50x50xf32>, %table: memref<1000xf32>, %c: memref<50x64xf32>",
        f"""loop.stage %c0, %c0, %c0, %c50, %c64, %c50, %a, %table, %c {{
      iterators = ["parallel", "parallel", "reduction"], names = ["m", "n", "k"],
      maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
      {SUM.format(inputs=1, sources=1, types=types, arguments=", %t0: memref<1000xf32>")}""",
    )
    assert [found[1] for found in shapes(function)] == [(1000,), (1000,)]


@pytest.mark.parametrize("body", ["%d = buffer.dim %a {axis = 0} : memref<?xf32>"])
def test_symbolic_sizes_are_for_other_checks(body: str) -> None:
    assert shapes(kernel("%a: memref<?xf32>", body)) == []
