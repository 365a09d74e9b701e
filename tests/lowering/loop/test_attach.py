"""Stages in the loops of a kernel's root: the memory they get, and places that do not exist."""

from __future__ import annotations

import re

import pytest

from stepwell.dialects import buffer
from stepwell.errors import PassError
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.tile import Tile

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
