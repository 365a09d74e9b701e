"""Stages in the loops of a kernel's root: the memory they get, and places that do not exist."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from stepwell.dialects import buffer, func, vector
from stepwell.errors import PassError
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.tile import Tile
from stepwell.lowering.loop.vectorize import Vectorize

SUM_AND_SCALE = """
func.func private @k(%x: memref<12x40xf32>, %y: memref<12x40xf32>) attributes {{kernel, schedule = #tensor.schedule<loops = [parallel r0: r by {tile}], register = {{c: 8}}, vector = c by 8, stages = {{{stages}}}>}} {{
  %z = arith.constant 0 : index
  %r = arith.constant 12 : index
  %c = arith.constant 40 : index
  %t = buffer.local() : memref<12xf32>
  loop.stage %z, %z, %r, %c, %x, %t {{identities = [0.0 : f32], iterators = ["parallel", "reduction"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>], names = ["r", "c"], stage = "s0", operandSegmentSizes = array<i32: 2, 2, 1, 0, 1, 0, 0>}} : (index, index, index, index, memref<12x40xf32>, memref<12xf32>) -> () {{
  ^bb0(%v: f32):
    loop.yield %v : f32
  }} {{
  ^bb1(%a: f32, %b: f32):
    %s = arith.addf %a, %b : f32
    loop.yield %s : f32
  }}
  loop.stage %z, %z, %r, %c, %x, %t, %y {{identities = [], iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0, d1)>], names = ["r", "c"], stage = "s1", operandSegmentSizes = array<i32: 2, 2, 2, 0, 1, 0, 0>}} : (index, index, index, index, memref<12x40xf32>, memref<12xf32>, memref<12x40xf32>) -> () {{
  ^bb0(%v: f32, %w: f32):
    %p = arith.mulf %v, %w : f32
    loop.yield %p : f32
  }}
  func.return
}}
"""  # noqa: E501 - one op to a line

STORES = (buffer.StoreOp, vector.StoreOp, vector.MaskedStoreOp)
INNER = "<loops = [], register = {}, vector = c by 8>"


@pytest.mark.parametrize(
    ("tile", "at", "memory"),
    [
        (1, "r0", "memref<1xf32>"),  # one row at a time: one sum
        (4, "r0", "memref<4xf32>"),
        (5, "r0", "memref<5xf32>"),  # the last tile has 2 rows
        (4, "kernel", "memref<12xf32>"),  # before all loops: the sums of all rows
    ],
)
def test_the_memory_of_what_is_needed_there(tile: int, at: str, memory: str) -> None:
    module = parse_module(SUM_AND_SCALE.format(tile=tile, stages=f"s0: at {at} {INNER}"))
    Tile().run(module, PassContext())
    verify(module)
    assert [str(local.result.type) for local in module.walk_of(buffer.LocalOp)] == [memory]


IN_BLOCKS = SUM_AND_SCALE.replace("memref<12xf32>", "memref<3x4xf32>").replace(
    "affine_map<(d0, d1) -> (d0)>", "affine_map<(d0, d1) -> (d0 floordiv 4, d0 mod 4)>"
)


@pytest.mark.parametrize(("tile", "memory"), [(4, "memref<1x4xf32>"), (8, "memref<2x4xf32>")])
def test_what_is_kept_in_blocks_is_needed_like_anything_else(tile: int, memory: str) -> None:
    """A stage that writes (d0 floordiv 4, d0 mod 4) is computed for the rows that are read there, not for all."""
    module = parse_module(IN_BLOCKS.format(tile=tile, stages=f"s0: at r0 {INNER}"))
    x = np.arange(480, dtype=np.float32).reshape(12, 40)
    expected = x * x.sum(1, keepdims=True)
    Tile().run(module, PassContext())
    verify(module)
    assert [str(local.result.type) for local in module.walk_of(buffer.LocalOp)] == [memory]
    made = np.zeros_like(x)
    run_function(next(module.walk_of(func.FuncOp)), [x, made])
    np.testing.assert_allclose(made, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("", "the schedule has no place for the stage"),
        (f"s0: at c0 {INNER}", "stage s0 is placed at 'c0'; the kernel's loops are kernel, r0"),
    ],
)
def test_places_that_do_not_exist(stages: str, message: str) -> None:
    module = parse_module(SUM_AND_SCALE.format(tile=4, stages=stages))
    with pytest.raises(PassError, match=re.escape(message)):
        Tile().run(module, PassContext())


WINDOW_SUMS = """
func.func private @k(%x: memref<{h}x{w}xf32>, %y: memref<{o}x{p}xf32>{symbols}) attributes {{kernel, schedule = #tensor.schedule<loops = [parallel h0: h by {tile}], register = {{w: 4}}, vector = w by 4, stages = {{s0: at h0 <loops = [], register = {{w: 4}}, vector = w by 4>}}>}} {{
  %z = arith.constant 0 : index
  {sizes}
  %one = arith.constant 1 : index
  %k = arith.constant 3 : index
  %t = buffer.local{local} : memref<{th}x{tw}xf32>
  loop.stage %z, %z, %h, %w, %x, %t {{border = -1.0 : f32, identities = [], iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0 + {low}, d1 + 1)>], names = ["h", "w"], stage = "s0", operandSegmentSizes = array<i32: 2, 2, 1, 0, 1, 0, 0>}} : (index, index, index, index, memref<{h}x{w}xf32>, memref<{th}x{tw}xf32>) -> () {{
  ^bb0(%v: f32):
    %s = arith.addf %v, %v : f32
    loop.yield %s : f32
  }}
  loop.stage %z, %z, %z, %z, %o, %p, %k, %k, %t, %y {{identities = [0.0 : f32], iterators = ["parallel", "parallel", "reduction", "reduction"], maps = [affine_map<(d0, d1, d2, d3) -> (d0 * {step} + d2, d1 * {step} + d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1)>], names = ["h", "w", "kh", "kw"], stage = "s1", operandSegmentSizes = array<i32: 4, 4, 1, 0, 1, 0, 0>}} : (index, index, index, index, index, index, index, index, memref<{th}x{tw}xf32>, memref<{o}x{p}xf32>) -> () {{
  ^bb0(%v: f32):
    loop.yield %v : f32
  }} {{
  ^bb1(%a: f32, %b: f32):
    %s = arith.addf %a, %b : f32
    loop.yield %s : f32
  }}
  func.return
}}
"""  # noqa: E501 - one op to a line


def window_sums(
    h: int, w: int, tile: int, step: int, low: int, *, symbolic: bool = False
) -> tuple[Operation, Any, Any]:
    """A module whose kernel sums 3 x 3 elements of a doubled and bordered x, with `low` rows of border before and
    behind; x, and what it gives."""
    th, tw = h + 2 * low, w + 2
    o, p = (th - 3) // step + 1, (tw - 3) // step + 1
    static = {"h": h, "w": w, "th": th, "tw": tw, "o": o, "p": p}
    if symbolic:
        given = "".join(f", %{name}: index" for name in static)
        text = WINDOW_SUMS.format(**dict.fromkeys(static, "?"), symbols=given, sizes="", local="(%th, %tw)", tile=tile,
                                  step=step, low=low)  # fmt: skip
    else:
        sizes = "\n  ".join(f"%{name} = arith.constant {static[name]} : index" for name in ("h", "w", "o", "p"))
        text = WINDOW_SUMS.format(**static, symbols="", sizes=sizes, local="()", tile=tile, step=step, low=low)
    x = np.random.default_rng(0).integers(-8, 9, (h, w)).astype(np.float32)
    padded = np.pad(2 * x, ((low, low), (1, 1)), constant_values=-1)
    rows, columns = (step * np.arange(count) for count in (o, p))
    taps = [padded[np.ix_(rows + a, columns + b)] for a in range(3) for b in range(3)]
    y = np.zeros((o, p), np.float32)
    return parse_module(text), [x, y, *(static.values() if symbolic else ())], np.sum(taps, 0)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("low", [0, 1, 2, 4])  # 4: windows that see nothing but the border
@pytest.mark.parametrize(("tile", "step"), [(1, 1), (3, 1), (4, 1), (1, 2), (2, 2), (3, 2), (9, 1), (2, 3)])
def test_windows_and_borders(tile: int, step: int, low: int, symbolic: bool) -> None:
    module, arguments, expected = window_sums(9, 6, tile, step, low, symbolic=symbolic)
    (function,) = module.walk_of(func.FuncOp)
    run_function(function, arguments)
    np.testing.assert_array_equal(arguments[1], expected)
    Tile().run(module, PassContext())
    verify(module)
    arguments[1][...] = 0
    run_function(function, arguments)
    np.testing.assert_array_equal(arguments[1], expected)


@pytest.mark.parametrize(("width", "step"), [(0, 1), (0, 2), (0, 3)])
def test_nothing_is_needed_for_no_windows(width: int, step: int) -> None:
    """The two columns of border hold no window of 3; what their first one would read is not there."""
    module, arguments, expected = window_sums(9, width, 3, step, 1, symbolic=True)
    assert expected.size == 0
    (function,) = module.walk_of(func.FuncOp)
    for pass_ in (Tile(), Vectorize()):
        pass_.run(module, PassContext())
    written: list[Operation] = []
    run_function(function, arguments, observer=lambda op, _: written.append(op) if isinstance(op, STORES) else None)
    assert written == []


@pytest.mark.parametrize(
    ("tile", "step", "memory"), [(1, 1, "3x8"), (4, 1, "6x8"), (2, 2, "5x7"), (3, 2, "7x7"), (2, 3, "6x6")]
)
def test_the_memory_of_rows_that_overlap(tile: int, step: int, memory: str) -> None:
    module, _, _ = window_sums(9, 6, tile, step, 1)
    Tile().run(module, PassContext())
    assert [str(local.result.type) for local in module.walk_of(buffer.LocalOp)] == [f"memref<{memory}xf32>"]


def test_a_kernels_result_has_no_border_of_its_own() -> None:
    text = SUM_AND_SCALE.format(tile=4, stages=f"s0: at r0 {INNER}").replace(
        'names = ["r", "c"], stage = "s1"', 'border = 0.0 : f32, names = ["r", "c"], stage = "s1"'
    )
    with pytest.raises(PassError, match=re.escape("a kernel's result has no border of its own")):
        Tile().run(parse_module(text), PassContext())
