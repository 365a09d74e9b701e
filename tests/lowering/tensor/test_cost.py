"""The cost model as a pure function: what makes a schedule dearer, and what does not."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from stepwell.dialects.schedule import LoopSpec, ScheduleAttr
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.errors import PassError
from stepwell.ir.attributes import StringAttr
from stepwell.ir.parser import parse_module
from stepwell.lowering.precision import ATTRIBUTE, STRICT
from stepwell.lowering.tensor.candidates import candidates, grains, neighbours
from stepwell.lowering.tensor.check_schedule import check_schedule
from stepwell.lowering.tensor.choose import Ranked, why_lost
from stepwell.lowering.tensor.cost import Terms, estimate
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.sizes import usual_sizes
from stepwell.lowering.tensor.space import Space
from stepwell.lowering.tensor.stage_work import StageWork
from stepwell.lowering.tensor.stages import stages_of
from stepwell.lowering.tensor.streams import nest_of, traffic
from stepwell.lowering.tensor.tile_cost import Tile, finish_cycles, flush_cycles, leaf_sizes, spills, step_cycles

MACHINE = Machine(vector_bytes=64, vector_registers=32, l1_bytes=32 << 10, l2_bytes=1 << 20, l3_bytes=16 << 20)
PRODUCT = """
func.func @main(%x: tensor<{m}x{k}xf32>, %w: tensor<{k}x{n}xf32>) -> tensor<{m}x{n}xf32> {{
  %y = tensor.kernel %x, %w : (tensor<{m}x{k}xf32>, tensor<{k}x{n}xf32>) -> tensor<{m}x{n}xf32> {{
  ^bb0(%a: tensor<{m}x{k}xf32>, %b: tensor<{k}x{n}xf32>):
    %s = tensor.generic %a, %b {{identities = [0.0 : f32], iterators = ["parallel", "parallel", "reduction"], maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>], names = ["m", "n", "k"], operandSegmentSizes = array<i32: 2, 0>, sizes = #tensor.dims<[{m}, {n}, {k}]>}} : (tensor<{m}x{k}xf32>, tensor<{k}x{n}xf32>) -> tensor<{m}x{n}xf32> {{
    ^bb1(%v: f32, %e: f32):
      %p = arith.mulf %v, %e : f32
      tensor.yield %p : f32
    }} {{
    ^bb2(%p: f32, %q: f32):
      %r = arith.addf %p, %q : f32
      tensor.yield %r : f32
    }}
    tensor.yield %s : tensor<{m}x{n}xf32>
  }}
  func.return %y : tensor<{m}x{n}xf32>
}}
"""  # noqa: E501 - one op to a line


def product(m: int = 128, n: int = 256, k: int = 512) -> KernelOp:
    """A kernel [m, k] x [k, n]."""
    return next(iter(parse_module(PRODUCT.format(m=m, n=n, k=k)).walk_of(KernelOp)))


def schedule(m: int, n: int, *loops: tuple[str, int], **parts: Any) -> ScheduleAttr:
    """A register tile of m x n in parallel loops."""
    specs = [LoopSpec(f"{dim}{place}", dim, tile, dim != "k") for place, (dim, tile) in enumerate(loops)]
    return ScheduleAttr(tuple(specs), (("m", m), ("n", n)), "n", 16, **{"unroll": 2, **parts})


def work(m: int = 128, n: int = 256, k: int = 512) -> StageWork:
    return StageWork.of_op(next(iter(product(m, n, k).walk_of(GenericOp))))


TILED = schedule(8, 48, ("n", 240), ("m", 24))


@pytest.mark.parametrize("larger", [{"m": 256}, {"n": 512}, {"k": 1024}])
def test_more_work_costs_more(larger: dict[str, int]) -> None:
    assert estimate(product(**larger), TILED, MACHINE).cycles > estimate(product(), TILED, MACHINE).cycles


@pytest.mark.parametrize(
    "better",
    [{"l1_bytes": 1 << 20}, {"l2_bytes": 8 << 20}, {"l2_bandwidth": 1000.0}, {"fma_per_cycle": 4}, {"fma_latency": 1}],
)
def test_a_better_machine_is_never_slower(better: dict[str, float]) -> None:
    best = attrs.evolve(MACHINE, **better)
    assert estimate(product(), TILED, best).cycles <= estimate(product(), TILED, MACHINE).cycles


def test_the_peak_is_a_lower_bound() -> None:
    least = 128 * 256 * 512 / 16 / MACHINE.fma_per_cycle
    for each in candidates(product(), MACHINE, 20):
        assert each.terms.cycles > least


@pytest.mark.parametrize(("rows", "vectors", "fits"), [(6, 4, True), (9, 3, True), (14, 2, True), (8, 4, False)])
def test_accumulators_have_to_fit_the_registers(rows: int, vectors: int, fits: bool) -> None:
    assert spills(work(), Tile({0: rows, 1: 16 * vectors}, 1, 16), MACHINE) != fits
    cycles = estimate(product(), schedule(rows, 16 * vectors), MACHINE).cycles
    assert math.isfinite(cycles) == fits


@pytest.mark.parametrize(("scalars", "rows", "vectors", "fits"), [(2, 8, 3, True), (3, 8, 3, False), (300, 1, 1, True)])
def test_computed_places_are_few_in_a_tile(scalars: int, rows: int, vectors: int, fits: bool) -> None:
    """Each lane of each accumulator computes its own, 1024 of them at most; a tile of one vector is the smallest."""
    computed = attrs.evolve(work(), scalars=scalars)
    assert spills(computed, Tile({0: rows, 1: 16 * vectors}, 1, 16), MACHINE) != fits


@pytest.mark.parametrize(("columns", "squares"), [(4, 1), (16, 1), (17, 2), (32, 2)])
def test_stores_across_the_vectors_turn_squares(columns: int, squares: int) -> None:
    """Vectors of rows are stored along the columns: squares of 16 x 16, which a part of one costs as much as; a store
    per lane costs more from 4 columns on."""

    def finish(columns: int) -> float:
        return finish_cycles(work(), Tile({0: 16, 1: columns}, 0, 16), MACHINE)

    beside = 6.0  # what a tile costs besides
    assert finish(columns) - beside == squares * (finish(16) - beside)
    assert columns * (finish(1) - beside) >= finish(columns) - beside


@pytest.mark.parametrize(
    ("rows", "vectors", "least", "most"),
    [
        (1, 1, 4, 4.1),  # the latency of one accumulator
        (8, 3, 12, 12.2),  # 24 multiply-adds, two in a cycle
        (1, 8, 4.5, 5.5),  # 8 vectors and a broadcast
        (4, 2, 4.5, 5),  # busy units that wait for results
        (24, 1, 12.5, 18),  # many places at once
    ],
)
def test_cycles_of_a_step(rows: int, vectors: int, least: float, most: float) -> None:
    assert least <= step_cycles(work(), Tile({0: rows, 1: 16 * vectors}, 1, 16), MACHINE) <= most


@pytest.mark.parametrize(("rows", "vectors", "cycles"), [(5, 3, 15), (4, 4, 16 + 3 * 2), (8, 3, 24 + 3 * 18)])
def test_partial_sums_are_dear_where_the_sums_are_in_memory(rows: int, vectors: int, cycles: float) -> None:
    """Both, and two operands, have 32 registers."""
    assert flush_cycles(work(), Tile({0: rows, 1: 16 * vectors}, 1, 16), MACHINE) == cycles


def test_each_part_of_a_sum_costs_its_flush() -> None:
    """512 steps in parts of 128: three are added to others, in each of 32 x 8 tiles of 4 x 2 vectors."""
    whole, parts = (estimate(product(), schedule(4, 32, partial=length), MACHINE).compute for length in (0, 128))
    assert parts - whole == 32 * 8 * 3 * 8


@pytest.mark.parametrize(
    ("size", "tiles", "expected"),
    [
        (128, [6], {6: 21, 2: 1}),
        (128, [60, 6], {6: 21, 2: 1}),
        (128, [50, 6], {6: 20, 2: 2, 4: 1}),
        (5, [8], {5: 1}),
        (96, [48, 16], {16: 6}),
    ],
)
def test_tails_are_counted(size: int, tiles: list[int], expected: dict[int, int]) -> None:
    assert leaf_sizes(size, tuple(tiles)) == expected
    assert sum(piece * count for piece, count in expected.items()) == size


def test_tails_are_dear() -> None:
    whole = estimate(product(m=120), schedule(12, 32), MACHINE).cycles
    assert estimate(product(m=121), schedule(12, 32), MACHINE).cycles > whole * 1.02


def streams(cut: ScheduleAttr, cache: int, m: int = 128, n: int = 256, k: int = 512) -> float:
    made = work(m, n, k)
    accesses = [(access, 1.0) for access in made.reads]
    (moved,) = traffic(nest_of(made.space, cut), accesses, made.space.sizes, [cache])
    return moved


def test_what_fits_is_not_moved() -> None:
    assert streams(TILED, 1 << 30) == 0


def test_a_smaller_cache_moves_more() -> None:
    sizes = [1 << 12, 1 << 15, 1 << 17, 1 << 19]
    moved = [streams(TILED, size) for size in sizes]
    assert moved == sorted(moved, reverse=True) and moved[0] > moved[-1]


def test_a_wider_tile_reads_rows_less_often() -> None:
    assert streams(schedule(8, 48), 1 << 14) < streams(schedule(2, 16), 1 << 14)


def test_a_panel_that_stays_is_read_once() -> None:
    """The loop over m is inside that over n: a panel of w stays while the rows of x pass."""
    cut, small = schedule(8, 48, ("n", 48), ("m", 24)), 1 << 18
    moved = streams(cut, small, n=480)
    assert moved <= 4 * (480 * 512 + 128 * 512 * 480 / 48) * 1.05


def test_terms_add_up_and_name_their_limit() -> None:
    both = Terms(compute=10, l2=30, bound=30) + Terms(compute=100, overhead=5, bound=100)
    assert both == Terms(compute=110, l2=30, overhead=5, bound=130)
    assert (both.cycles, both.limit) == (135, "compute")
    assert str(both) == "135 cycles (compute 110, L2 30, overhead 5)"
    assert str(Terms(compute=math.inf, bound=math.inf)).startswith("too many registers")


def test_why_a_schedule_lost() -> None:
    best, loser = (Ranked(TILED, Terms(compute=100, l2=l2, bound=100 + l2)) for l2 in (0, 20))
    assert why_lost(loser, best) == "+20.0%, for L2"
    assert why_lost(best, best) == "no better"


def test_candidates_come_best_first_and_once() -> None:
    found = candidates(product(), MACHINE, 12)
    assert len({each.schedule for each in found}) == len(found) >= 12
    cycles = [each.terms.cycles for each in found]
    assert cycles == sorted(cycles)
    assert candidates(product(), MACHINE)[0] == found[0]


SUM_OF_ROWS = """
func.func @main(%x: tensor<?x4096xf32, #graph.shape<["n"]>>) -> tensor<?xf32, #graph.shape<["n"]>> {
  %y = tensor.kernel %x : (tensor<?x4096xf32, #graph.shape<["n"]>>) -> tensor<?xf32, #graph.shape<["n"]>> {
  ^bb0(%a: tensor<?x4096xf32, #graph.shape<["n"]>>):
    %s = tensor.generic %a {identities = [0.0 : f32], iterators = ["parallel", "reduction"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>], names = ["m", "k"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<["n", 4096]>} : (tensor<?x4096xf32, #graph.shape<["n"]>>) -> tensor<?xf32, #graph.shape<["n"]>> {
    ^bb1(%v: f32):
      tensor.yield %v : f32
    } {
    ^bb2(%p: f32, %q: f32):
      %r = arith.addf %p, %q : f32
      tensor.yield %r : f32
    }
    tensor.yield %s : tensor<?xf32, #graph.shape<["n"]>>
  }
  func.return %y : tensor<?xf32, #graph.shape<["n"]>>
}
"""  # noqa: E501 - one op to a line


def test_what_is_remembered_is_for_one_precision_and_one_assumption_of_sizes() -> None:
    def found(precision: str = "f32", **hints: tuple[int, int, int]) -> Ranked:
        module = parse_module(SUM_OF_ROWS)
        module.attributes[ATTRIBUTE] = StringAttr(precision)
        with usual_sizes(module, hints):
            return candidates(next(iter(module.walk_of(KernelOp))), MACHINE)[0]

    usual, strict = found(), found(STRICT)
    assert usual.schedule != strict.schedule
    assert found(n=(1, 3, 9)).terms.cycles < usual.terms.cycles
    assert (found(), found(STRICT)) == (usual, strict)


def test_neighbours_differ_and_suit_the_kernel() -> None:
    kernel = product(m=512, n=512, k=2048)
    start = candidates(kernel, MACHINE, 1)[0].schedule
    near = neighbours(kernel, start)
    assert start not in near and len(set(near)) == len(near) > 8
    root = stages_of(kernel)[-1]
    for each in near:
        check_schedule(kernel, each)
        assert each.partial == start.partial
        assert grains(root, each) >= min(16, grains(root, start))
    assert any(spec.dim == "k" for each in near for spec in each.loops)
    assert {each.unroll for each in near} >= {1, 2, 4}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (schedule(8, 48, ("q", 4)), "there is no dim 'q'; the dims are 'm', 'n', 'k'"),
        (schedule(8, 40), "cuts a vector of 16 lanes"),
        (schedule(600, 160), "that is too much"),
        (schedule(8, 48, unroll=64), "that is too much"),
        (attrs.evolve(TILED, vector="z"), "vectors along 'z'"),  # type: ignore[misc]
        (attrs.evolve(TILED, lanes=12), "12 lanes"),  # type: ignore[misc]
        (attrs.evolve(TILED, register=(("k", 4), ("n", 48))), "'k' is reduced"),  # type: ignore[misc]
        (attrs.evolve(TILED, loops=(LoopSpec("a", "k", 4, True),)), "cannot be parallel"),  # type: ignore[misc]
        (attrs.evolve(TILED, loops=(LoopSpec("a", "m", 8),) * 2), "there twice"),  # type: ignore[misc]
    ],
)
def test_schedules_of_other_kernels_are_refused(wrong: ScheduleAttr, message: str) -> None:
    with pytest.raises(PassError, match=message):
        check_schedule(product(), wrong)


NARROW = """
func.func @main(%x: tensor<64x20000xf16>, %w: tensor<20000x64xf16>) -> tensor<64x64xf16> {
  %y = tensor.kernel %x, %w : (tensor<64x20000xf16>, tensor<20000x64xf16>) -> tensor<64x64xf16> {
  ^bb0(%a: tensor<64x20000xf16>, %b: tensor<20000x64xf16>):
    %s = tensor.generic %a, %b {identities = [0.0 : f32], iterators = ["parallel", "parallel", "reduction"], maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>], names = ["m", "n", "k"], operandSegmentSizes = array<i32: 2, 0>, sizes = #tensor.dims<[64, 64, 20000]>} : (tensor<64x20000xf16>, tensor<20000x64xf16>) -> tensor<64x64xf32> {
    ^bb1(%v: f16, %e: f16):
      %f = arith.extf %v : f16 to f32
      %g = arith.extf %e : f16 to f32
      %p = arith.mulf %f, %g : f32
      tensor.yield %p : f32
    } {
    ^bb2(%p: f32, %q: f32):
      %r = arith.addf %p, %q : f32
      tensor.yield %r : f32
    }
    %t = tensor.generic %s {iterators = ["parallel", "parallel"], maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], names = ["m", "n"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[64, 64]>} : (tensor<64x64xf32>) -> tensor<64x64xf16> {
    ^bb3(%v: f32):
      %h = arith.truncf %v : f32 to f16
      tensor.yield %h : f16
    }
    tensor.yield %t : tensor<64x64xf16>
  }
  func.return %y : tensor<64x64xf16>
}
"""  # noqa: E501 - one op to a line


def test_sums_are_cut_where_the_results_hold_them() -> None:
    """A long sum of f32 goes in parts, through its results. One of f16 does not, whose accumulators are wider."""
    kernel = next(iter(parse_module(NARROW).walk_of(KernelOp)))
    for each in candidates(kernel, MACHINE, 20):
        check_schedule(kernel, each.schedule)
        assert all(spec.dim != "k" for spec in each.schedule.loops)
    assert any(spec.dim == "k" for spec in candidates(product(64, 64, 20000), MACHINE, 1)[0].schedule.loops)
    cut = schedule(8, 48, ("m", 24), ("k", 512))
    check_schedule(product(), cut)
    with pytest.raises(PassError, match="loop k1 cuts a sum whose parts the results cannot hold"):
        check_schedule(kernel, cut)


def test_stages_have_to_be_those_of_the_kernel() -> None:
    from stepwell.dialects.schedule import StageSpec

    with pytest.raises(PassError, match="it places the stages 's0'; the kernel has none"):
        check_schedule(product(), TILED.with_loops(TILED.loops, [StageSpec("s0", "m1", TILED)]))


def test_a_space_without_vectors_has_a_cost() -> None:
    plain = ScheduleAttr((), (), "none", 1)
    assert estimate(product(4, 4, 4), plain, MACHINE).cycles > 0
    assert Space.of(next(iter(product().walk_of(GenericOp)))).sizes == [128, 256, 512]


SCATTERED = """
func.func @main(%x: tensor<64x256xf32>, %w: tensor<64x32xf32>) -> tensor<32x{n}xf32> {{
  %y = tensor.kernel %x, %w : (tensor<64x256xf32>, tensor<64x32xf32>) -> tensor<32x{n}xf32> {{
  ^bb0(%a: tensor<64x256xf32>, %b: tensor<64x32xf32>):
    %s = tensor.generic %a, %b {{identities = [0.0 : f32], iterators = ["parallel", "parallel", "reduction"], maps = [affine_map<(d0, d1, d2) -> (d2, d0)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d1, d0)>], names = ["m", "n", "k"], operandSegmentSizes = array<i32: 2, 0>, sizes = #tensor.dims<[256, 32, 64]>}} : (tensor<64x256xf32>, tensor<64x32xf32>) -> tensor<32x{n}xf32> {{
    ^bb1(%v: f32, %e: f32):
      %p = arith.mulf %v, %e : f32
      tensor.yield %p : f32
    }} {{
    ^bb2(%p: f32, %q: f32):
      %r = arith.addf %p, %q : f32
      tensor.yield %r : f32
    }}
    tensor.yield %s : tensor<32x{n}xf32>
  }}
  func.return %y : tensor<32x{n}xf32>
}}
"""  # noqa: E501 - one op to a line


def test_scattered_stores_to_one_set_wait() -> None:
    """Planes a page apart, and planes a page and a line apart."""
    one, other = (next(iter(parse_module(SCATTERED.format(n=n)).walk_of(KernelOp))) for n in (1024, 1040))
    two, single = schedule(8, 32), schedule(8, 16)
    assert estimate(one, two, MACHINE).cycles > 1.5 * estimate(other, two, MACHINE).cycles
    assert estimate(one, single, MACHINE).cycles < estimate(one, two, MACHINE).cycles
