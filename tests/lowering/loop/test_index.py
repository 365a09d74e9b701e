"""`loop.index` through fusion: a body's places follow it into the space of the stage that takes it in."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.check import interpret
from stepwell.dialects.buffer import StoreOp
from stepwell.dialects.loop import IndexOp
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.verifier import verify
from stepwell.lowering import pipeline
from stepwell.lowering.loop.stage import kernel_functions

# rows[i, j] = 10 * i + j, transposed by the reader, then taken in blocks of 8 or as it is
SOURCE = """
builtin.module {
  func.func @main(%x: tensor<16x6xf32>) -> tensor<WRITTENxf32> {
    %t = tensor.generic %x {identities = [], iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], names = ["d0", "d1"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[16, 6]>} : (tensor<16x6xf32>) -> tensor<16x6xf32> {
    ^bb0(%a: f32):
      %i = tensor.index {dim = 0}
      %j = tensor.index {dim = 1}
      %ten = arith.constant 10 : index
      %s = arith.muli %i, %ten : index
      %p = arith.addi %s, %j : index
      %q = arith.index_cast %p : index to i64
      %f = arith.sitofp %q : i64 to f32
      %r = arith.addf %a, %f : f32
      tensor.yield %r : f32
    }
    %u = tensor.generic %t {identities = [], iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d1, d0)>, affine_map<(d0, d1) -> (WRITES)>], names = ["d0", "d1"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[6, 16]>} : (tensor<16x6xf32>) -> tensor<WRITTENxf32> {
    ^bb0(%a: f32):
      %i = tensor.index {dim = 0}
      %q = arith.index_cast %i : index to i64
      %f = arith.sitofp %q : i64 to f32
      %r = arith.mulf %a, %f : f32
      tensor.yield %r : f32
    }
    func.return %u : tensor<WRITTENxf32>
  }
}
"""  # noqa: E501


def lowered(text: str, *names: str) -> Operation:
    module = parse_module(text)
    PassManager(pipeline.parse(",".join(names))).run(module, PassContext())
    verify(module)
    return module


@pytest.mark.parametrize(
    ("written", "writes"), [("6x16", "d0, d1"), ("6x2x8", "d0, d1 floordiv 8, d1 mod 8")], ids=["plain", "blocks"]
)
def test_places_follow_a_body_into_its_reader(written: str, writes: str) -> None:
    text = SOURCE.replace("WRITTEN", written).replace("WRITES", writes)
    x = np.random.default_rng(0).random((16, 6), np.float32)
    rows = 10 * np.arange(16)[:, None] + np.arange(6)
    expected = ((x + rows.astype(np.float32)).T * np.arange(6, dtype=np.float32)[:, None]).reshape(
        [int(n) for n in written.split("x")]
    )
    module = lowered(text, "fuse", "schedule", "outline", "inline-stages")
    places = {str(op.of) for op in module.walk_of(IndexOp)}
    assert places == {"(d0, d1) -> (d0)", "(d0, d1) -> (d1)"}
    assert np.array_equal(interpret(module, [x]).results[0], expected)
    code = lowered(text, "fuse", "schedule", "outline", "inline-stages", "tile", "vectorize", "plan-memory")
    assert not list(code.walk_of(IndexOp))
    assert np.array_equal(interpret(code, [x]).results[0], expected)


def test_a_place_that_jumps_between_lanes_is_computed_for_each_of_them() -> None:
    stage = """
    builtin.module {
      func.func private @k(%y: memref<2x16xf32>) attributes {kernel, schedule = #tensor.schedule<loops = [], register = {d1: 16}, vector = d1 by 16>} {
        %z = arith.constant 0 : index
        %m = arith.constant 2 : index
        %n = arith.constant 16 : index
        loop.stage %z, %z, %m, %n, %y {identities = [], iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>], names = ["d0", "d1"], operandSegmentSizes = array<i32: 2, 2, 0, 0, 1, 0, 0>} : (index, index, index, index, memref<2x16xf32>) -> () {
          %i = loop.index {of = affine_map<(d0, d1) -> (d1 floordiv 3 + d0)>}
          %q = arith.index_cast %i : index to i64
          %f = arith.sitofp %q : i64 to f32
          loop.yield %f : f32
        }
        func.return
      }
    }
    """  # noqa: E501
    module = lowered(stage, "tile", "vectorize")
    found = np.zeros((2, 16), np.float32)
    (kernel,) = kernel_functions(module)
    run_function(kernel, [found])
    assert np.array_equal(found, np.arange(2)[:, None] + np.arange(16)[None] // 3)


@pytest.mark.parametrize(
    ("size", "panel", "tile", "in_vectors"),
    [
        pytest.param(192, 96, 96, True, id="a panel at a time"),
        pytest.param(256, 96, 64, True, id="a tile may end in the next panel, a vector does not"),
        pytest.param(250, 96, 64, True, id="and a tail"),
        pytest.param(160, 24, 32, False, id="a vector may end in the next panel"),
        pytest.param(160, 80, 32, True, id="panels of five vectors"),
    ],
)
def test_lanes_that_stay_in_one_panel_are_stored_together(size: int, panel: int, tile: int, in_vectors: bool) -> None:
    panels = -(-size // panel)
    stage = f"""
    builtin.module {{
      func.func private @k(%x: memref<3x{size}xf32>, %y: memref<{panels}x3x{panel}xf32>) attributes {{kernel, schedule = #tensor.schedule<loops = [], register = {{d1: {tile}}}, vector = d1 by 16>}} {{
        %z = arith.constant 0 : index
        %m = arith.constant 3 : index
        %n = arith.constant {size} : index
        loop.stage %z, %z, %m, %n, %x, %y {{identities = [], iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1 floordiv {panel}, d0, d1 mod {panel})>], names = ["d0", "d1"], operandSegmentSizes = array<i32: 2, 2, 1, 0, 1, 0, 0>}} : (index, index, index, index, memref<3x{size}xf32>, memref<{panels}x3x{panel}xf32>) -> () {{
        ^bb0(%a: f32):
          loop.yield %a : f32
        }}
        func.return
      }}
    }}
    """  # noqa: E501
    module = lowered(stage, "tile", "vectorize")
    x = np.random.default_rng(0).random((3, size), np.float32)
    found = np.zeros((panels, 3, panel), np.float32)
    (kernel,) = kernel_functions(module)
    run_function(kernel, [x, found])
    expected = np.zeros((3, panels * panel), np.float32)
    expected[:, :size] = x
    assert np.array_equal(found, expected.reshape(3, panels, panel).transpose(1, 0, 2))
    assert in_vectors != bool(list(module.walk_of(StoreOp)))
