"""Register tiles of reductions in windows: loads are counted where they fall."""

from __future__ import annotations

import pytest

from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.affine import AffineMap
from stepwell.ir.affine_expr import AffineExpr, const, dim
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.lowering.tensor.maps import dims_through, stride_of_lanes, window_dims
from stepwell.lowering.tensor.schedule import Schedule
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.split import SplitDims, displacements
from stepwell.lowering.tensor.tile_cost import Tile, crosses_lines

KERNEL = """
func.func @main(%x: tensor<{c}x{w}xf32>, %t: tensor<{c}x{reach}xf32>) -> tensor<{d}x{w}xf32> {{
  %y = tensor.kernel %x, %t : (tensor<{c}x{w}xf32>, tensor<{c}x{reach}xf32>) -> tensor<{d}x{w}xf32> {{
  ^bb0(%a: tensor<{c}x{w}xf32>, %b: tensor<{c}x{reach}xf32>):
    %s = tensor.generic %a, %b {{identities = [0.0 : f32], iterators = ["parallel", "parallel", "reduction"], maps = [affine_map<(d, w, c) -> (c, w)>, affine_map<(d, w, c) -> (c, w + d)>, affine_map<(d, w, c) -> (d, w)>], names = ["d", "w", "c"], operandSegmentSizes = array<i32: 2, 0>, sizes = #tensor.dims<[{d}, {w}, {c}]>}} : (tensor<{c}x{w}xf32>, tensor<{c}x{reach}xf32>) -> tensor<{d}x{w}xf32> {{
    ^bb1(%v: f32, %e: f32):
      %p = arith.mulf %v, %e : f32
      tensor.yield %p : f32
    }} {{
    ^bb2(%p: f32, %q: f32):
      %r = arith.addf %p, %q : f32
      tensor.yield %r : f32
    }}
    tensor.yield %s : tensor<{d}x{w}xf32>
  }}
  func.return %y : tensor<{d}x{w}xf32>
}}
"""  # noqa: E501 - one op to a line


def module_of(d: int, w: int, c: int) -> Operation:
    return parse_module(KERNEL.format(d=d, w=w, c=c, reach=d + w - 1))


def generic_of(d: int, w: int, c: int) -> GenericOp:
    return next(iter(module_of(d, w, c).walk_of(GenericOp)))


def test_dims_of_a_window() -> None:
    assert window_dims(generic_of(4, 16, 8)) == {0, 1}


@pytest.mark.parametrize(
    ("d", "expected"),
    [(64, [(0, 8)]), (16, [(0, 8)]), (8, []), (12, [(0, 4)]), (9, []), (7, [])],
)
def test_displacements_are_split_by_the_vector(d: int, expected: list[tuple[int, int]]) -> None:
    assert displacements(generic_of(d, 64, 8), 8) == expected


def test_a_split_dim_in_the_maps() -> None:
    module = module_of(32, 64, 8)
    SplitDims().run(module, PassContext())
    (op,) = module.walk_of(GenericOp)
    assert list(op.names) == ["do", "di", "w", "c"]
    assert op.sizes.dims == (4, 8, 64, 8)
    assert op.maps[1] == AffineMap(4, 0, [dim(3), dim(2) + 8 * dim(0) + dim(1)])
    assert op.maps[2] == AffineMap(4, 0, [8 * dim(0) + dim(1), dim(2)])


@pytest.mark.parametrize(
    ("sizes", "expected", "crosses"),
    [
        ({1: 8}, 1, True),
        ({0: 4, 1: 8}, 4, True),  # neighbouring displacements: a load for each
        ({0: 2, 1: 32}, 8, True),
    ],
)
def test_loads_of_a_tile(sizes: dict[int, int], expected: int, crosses: bool) -> None:
    op = generic_of(32, 64, 8)
    tile = Tile(sizes, 1, 8)
    assert tile.places(op.maps[1]) == expected
    assert crosses_lines(op.maps[1], tile) == crosses
    assert tile.places(op.maps[0]) == sizes[1] // 8
    assert not crosses_lines(op.maps[0], tile)


def test_whole_vectors_of_displacement_share_loads() -> None:
    map_ = AffineMap(3, 0, [dim(2), dim(1) + 8 * dim(0)])
    assert Tile({0: 3, 1: 24}, 1, 8).places(map_) == 5  # not 9


def test_the_schedule_tiles_what_shares_loads() -> None:
    module = module_of(32, 64, 512)
    for pass_ in (SplitDims(), Schedule()):
        pass_.run(module, PassContext())
    (kernel,) = module.walk_of(KernelOp)
    schedule = kernel.schedule
    assert schedule is not None
    assert schedule.vector == "w"
    assert schedule.register_size("do") > 1 and schedule.register_size("di") == 1
    reduced = [spec for spec in schedule.loops if spec.dim == "c"]
    assert [spec.tile < 512 for spec in reduced] == [True]  # a part of the sum at a time
    assert schedule.loops.index(reduced[0]) < [spec.dim for spec in schedule.loops].index("di")


def test_maps_of_split_dims_are_followed() -> None:
    written = AffineMap(3, 0, [8 * dim(0) + dim(1), dim(2)])
    read = AffineMap(3, 0, [8 * dim(1) + dim(2), dim(0)])
    assert dims_through(written, read, (4, 8, 5), (5, 4, 8)) == AffineMap(3, 0, [dim(1), dim(2), dim(0)])


def test_blocks_of_groups_are_dims_of_the_whole() -> None:
    """Where the size of a group is a multiple of the block, its quotient is a sum of two."""
    blocks = AffineMap(2, 0, [dim(0), dim(1) // 16, dim(1) % 16])
    grouped = AffineMap(3, 0, [dim(0), 8 * dim(2) + dim(1) // 16, dim(1) % 16])
    assert dims_through(blocks, grouped) == AffineMap(3, 0, [dim(0), dim(1) + 128 * dim(2)])
    assert dims_through(blocks, AffineMap(3, 0, [dim(0), 8 * dim(2) + dim(1) // 16, dim(1) % 8])) is None


def test_dims_of_one_element_may_be_left_out_on_either_side() -> None:
    written, read = AffineMap(2, 0, [dim(0), const(0), dim(1)]), AffineMap.identity(3)
    assert dims_through(written, read, (4, 16), (4, 1, 16)) == AffineMap(3, 0, [dim(0), dim(2)])
    assert dims_through(read, written, (4, 1, 16), (4, 16)) == AffineMap(2, 0, [dim(0), const(0), dim(1)])
    assert dims_through(written, read, (4, 16), (4, 2, 16)) is None
    assert dims_through(written, read, (4, 16), (4, None, 16)) is None


@pytest.mark.parametrize(
    ("read", "sizes"),
    [
        (AffineMap(3, 0, [8 * dim(1) + dim(2), dim(0)]), (5, 4, 16)),  # reaches elements in two ways
        (AffineMap(3, 0, [8 * dim(1) + dim(2), dim(0)]), (5, 4, None)),
        (AffineMap(3, 0, [4 * dim(1) + dim(2), dim(0)]), (5, 4, 8)),
        (AffineMap(2, 0, [dim(0), dim(1)]), (32, 5)),
    ],
)
def test_maps_that_only_look_alike_are_not(read: AffineMap, sizes: tuple[int | None, ...]) -> None:
    assert dims_through(AffineMap(3, 0, [8 * dim(0) + dim(1), dim(2)]), read, (4, 8, 5), sizes) is None


def test_a_space_has_the_vector_along_the_window() -> None:
    assert Space.of(generic_of(32, 64, 8)).vector_dim(8) == 1


@pytest.mark.parametrize(
    ("places", "stride"),
    [
        ([dim(0), 2 * dim(1) + dim(2)], 2),
        ([dim(0), -3 * dim(1) + 60], 3),
        ([dim(0), dim(1) // 2], 1),
        ([dim(0), 3 * dim(1) // 2], 2),
        ([dim(0), dim(1) // 4096], 1),
        ([dim(1), dim(0)], None),
        ([dim(1), 2 * dim(1)], None),
        ([dim(0), dim(2)], None),
        ([dim(1) // 24, dim(1) % 24], None),
        ([dim(0), dim(1) % 24], None),
        ([], None),
    ],
)
def test_strides_of_lanes(places: list[AffineExpr], stride: int | None) -> None:
    assert stride_of_lanes(AffineMap(3, 0, places), 1) == stride
