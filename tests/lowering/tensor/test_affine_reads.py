"""Guarded reads of reductions, before and after."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.check import interpret
from stepwell.dialects.tensor import GenericOp, PadOp, ReadOp, tensor_type
from stepwell.ir.affine_expr import AffineExpr, dim
from stepwell.ir.core import Operation
from stepwell.ir.dims import Dim, symbol
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.tensor.affine_reads import AffineReads, border, place_of

MODULE = """
func.func @main(%x: tensor<{c}x{h}x{w}xf32>, %t: tensor<{c}x{h}x{w}xf32>) -> tensor<{d}x{h}x{w}xf32> {{
  %y = tensor.generic %x, %t {{identities = [0.0 : f32], iterators = ["parallel", "parallel", "parallel", "reduction"], maps = [affine_map<(d, h, w, c) -> (c, h, w)>, affine_map<(d, h, w, c) -> (d, h, w)>], names = ["d", "h", "w", "c"], operandSegmentSizes = array<i32: 1, 1>, sizes = #tensor.dims<[{d}, {h}, {w}, {c}]>}} : (tensor<{c}x{h}x{w}xf32>, tensor<{c}x{h}x{w}xf32>) -> tensor<{d}x{h}x{w}xf32> {{
  ^bb0(%v: f32, %s: tensor<{c}x{h}x{w}xf32>):
    %d = tensor.index {{dim = 0}}
    %h = tensor.index {{dim = 1}}
    %w = tensor.index {{dim = 2}}
    %c = tensor.index {{dim = 3}}
    %place = {place} : index
    %pad = arith.constant 2.0 : f32
    %e = tensor.read %s[%c, %h, %place] else %pad : tensor<{c}x{h}x{w}xf32>
    %p = arith.mulf %v, %e : f32
    tensor.yield %p : f32
  }} {{
  ^bb1(%a: f32, %b: f32):
    %sum = arith.addf %a, %b : f32
    tensor.yield %sum : f32
  }}
  func.return %y : tensor<{d}x{h}x{w}xf32>
}}
"""  # noqa: E501 - one op to a line


def module_of(place: str = "arith.subi %w, %d", d: int = 12, h: int = 3, w: int = 9, c: int = 4) -> Operation:
    return parse_module(MODULE.format(place=place, d=d, h=h, w=w, c=c))


def run_pass(module: Operation) -> PassContext:
    context = PassContext()
    AffineReads().run(module, context)
    verify(module)
    return context


@pytest.mark.parametrize("place", ["arith.subi %w, %d", "arith.addi %w, %d", "arith.subi %d, %w"])
def test_the_reduction_reads_rows_of_a_padded_copy(place: str) -> None:
    before, after = module_of(place), module_of(place)
    context = run_pass(after)
    assert context.statistics["guarded reads padded"] == 1
    reduction = next(op for op in after.walk_of(GenericOp) if op.has_reduction)
    assert not reduction.sources and not list(reduction.walk_of(ReadOp))
    assert [tensor_type(value).shape[:2] for value in reduction.inputs] == [(3, 4), (3, 4)]  # rows, then what is summed
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((4, 3, 9), np.float32) for _ in range(2)]
    wanted, found = (interpret(module, arrays).results[0] for module in (before, after))
    assert np.allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("place", "d", "why"),
    [
        ("arith.muli %w, %d", 12, "no sum of multiples of dims"),
        ("arith.subi %w, %d", 3, "elements are read too few times to be copied"),
        ("arith.maxsi %w, %d", 12, "no affine function"),
    ],
)
def test_other_reads_keep_their_guard(place: str, d: int, why: str) -> None:
    module = module_of(place, d)
    run_pass(module)
    (op,) = module.walk_of(GenericOp)
    assert len(op.sources) == 1 and len(list(op.walk_of(ReadOp))) == 1, why
    assert not list(module.walk_of(PadOp))


W = symbol("w")


@pytest.mark.parametrize(
    ("place", "size", "dims", "expected"),
    [
        (dim(0), 8, (8,), (0, 0)),
        (dim(0) - dim(1), 8, (8, 4), (3, 0)),
        (dim(0) + dim(1) - 2, 8, (8, 5), (2, 2)),
        (2 * dim(0), 8, (8,), (0, 7)),
        (dim(0) - dim(1), W, (W, 4), (3, 0)),
        (dim(0) + 1, W, (W,), (0, 1)),
        (dim(0) - dim(1), W, (W, W), None),  # a border as wide as a symbol
        (dim(0) // 2, 8, (8,), None),
        (None, 8, (8,), None),
    ],
)
def test_borders(place: AffineExpr | None, size: Dim, dims: tuple[Dim, ...], expected: tuple[int, int] | None) -> None:
    assert border(place, size, dims) == expected


def test_places_are_followed_through_index_arithmetic() -> None:
    (read,) = module_of("arith.subi %w, %d").walk_of(ReadOp)
    assert [place_of(index) for index in read.indices] == [dim(3), dim(1), dim(2) - dim(0)]
