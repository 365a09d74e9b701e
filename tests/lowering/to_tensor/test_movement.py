"""Movement along axes: the graph op and what it is lowered to give the same elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects import tensor as tensor_dialect
from stepwell.dialects.graph.base import ConstantOp
from stepwell.dialects.graph.elementwise import AddOp
from stepwell.dialects.graph.movement import (
    ConcatOp,
    PadOp,
    ReverseSequenceOp,
    SliceOp,
    SplitOp,
    TileOp,
    TransposeOp,
)
from stepwell.dialects.graph.shape import ShapeOp
from stepwell.ir.attributes import elements
from stepwell.ir.dims import Dim
from stepwell.ir.types import F16, SI64, IntegerType, Signedness
from tests.lowering.to_tensor.descent import M, N, check, constant, counted, ints, tensor

UI8 = IntegerType(8, Signedness.UNSIGNED)


@pytest.mark.parametrize("permutation", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (0, 2, 1)])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_transpose(permutation: tuple[int, ...], size: int) -> None:
    check([tensor(2, N, 3)], lambda x: TransposeOp(x, permutation=permutation), counted(2, size, 3))
    check([tensor(2, 7, 3)], lambda x: TransposeOp(x, permutation=permutation), counted(2, 7, 3))


def test_a_transpose_of_dims_of_size_1_is_a_view() -> None:
    def build(x: Any) -> Any:
        return TransposeOp(AddOp(x, x).result, permutation=(1, 0, 3, 2))

    module = check([tensor(1, 4, 1, 3)], build, counted(1, 4, 1, 3))
    assert sum(isinstance(op, tensor_dialect.GenericOp) for op in module.walk()) == 1


def test_transpose_keeps_the_bits_of_narrow_floats() -> None:
    bits = np.array([[0x7E01, 0x7C01, 0x8000], [1, 2, 3]], np.uint16).view(np.float16)
    check([tensor(2, 3, element=F16)], lambda x: TransposeOp(x, permutation=(1, 0)), bits, deep=False)


@pytest.mark.parametrize(("axis", "n", "m"), [(0, 3, 4), (1, 3, 4), (1, 0, 4), (1, 9, 1), (0, 1, 0)])
def test_concat_of_symbolic_sizes(axis: int, n: int, m: int) -> None:
    shapes = [[5, 5], [5, 5], [5, 5]]
    for shape, size in zip(shapes, (n, 2, m), strict=True):
        shape[axis] = size
    symbolic: tuple[Dim, ...] = (N, 2, M)
    types = [tensor(*(5 if a != axis else size for a in range(2))) for size in symbolic]
    arrays = [counted(*shape) + 100 * k for k, shape in enumerate(shapes)]
    check(types, lambda *xs: ConcatOp(xs, axis=axis), *arrays)


def test_concat_of_static_parts() -> None:
    types = [tensor(2, 3, element=UI8), tensor(2, 0, element=UI8), tensor(2, 9, element=UI8)]
    check(types, lambda *xs: ConcatOp(xs, axis=1), counted(2, 3, dtype=np.uint8), counted(2, 0, dtype=np.uint8),
          counted(2, 9, dtype=np.uint8) + 130)  # fmt: skip


def test_concat_with_nothing_is_the_other_part() -> None:
    check([tensor(2, 0), tensor(2, 3)], lambda *xs: ConcatOp(xs, axis=1), counted(2, 0), counted(2, 3))
    check([tensor(2, 0), tensor(2, 0)], lambda *xs: ConcatOp(xs, axis=1), counted(2, 0), counted(2, 0))


@pytest.mark.parametrize("axis", [0, 1])
def test_split(axis: int) -> None:
    check([tensor(6, 6)], lambda x: SplitOp.into(x, [1, 3, 2], axis), counted(6, 6))


@pytest.mark.parametrize("n", [1, 4])
def test_split_into_symbolic_parts(n: int) -> None:
    check([tensor(3, N * 3)], lambda x: SplitOp.into(x, [N, N * 2], 1), counted(3, 3 * n))


SLICES = [
    (0, 5, 1), (2, 9, 1), (1, -1, 1), (-3, 2**40, 1), (-3, -1, 1), (0, 9, 2), (1, 100, 3), (-1, -100, -1), (4, 0, -2),
    (-2, -(2**40), -1), (5, 2, 1), (100, 200, 1), (0, 0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("start", "end", "step"), SLICES)
def test_slice(start: int, end: int, step: int) -> None:
    def build(x: Any) -> Any:
        return SliceOp(x, ints(start), ints(end), ints(step), axes=(1,))

    check([tensor(2, 7)], build, counted(2, 7))
    for size in (1, 2, 5, 7):
        check([tensor(2, N)], build, counted(2, size), deep=size in (2, 7))


def test_slice_of_leading_axes_takes_vectors() -> None:
    def build(x: Any) -> Any:
        return SliceOp(x, ints(1, 2), ints(3, 9), None, axes=(0, 1))

    check([tensor(4, N, 8)], build, counted(4, 5, 8))


def test_slice_up_to_a_size_of_another_tensor() -> None:
    def build(x: Any, y: Any) -> Any:
        return SliceOp(x, ints(0), ShapeOp(y, start=0, end=1).result, None, axes=(0,))

    check([tensor(8, 3), tensor(N)], build, counted(8, 3), counted(5))



@pytest.mark.parametrize("pads", [(1, 2, 0, 3), (0, 0, 0, 0), (-1, 2, 1, -2), (0, -2, 0, -3)])
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(mode: str, pads: tuple[int, ...]) -> None:
    def build(x: Any) -> Any:
        return PadOp(x, ints(*pads), None, mode=mode)

    check([tensor(4, 6)], build, counted(4, 6))
    check([tensor(N, M)], build, counted(3, 7))


def test_pad_wider_than_the_tensor() -> None:
    for mode in ("edge", "reflect", "wrap"):
        check([tensor(N)], lambda x, mode=mode: PadOp(x, ints(7, 5), None, mode=mode), counted(2))
        check([tensor(N)], lambda x, mode=mode: PadOp(x, ints(3, 5), None, mode=mode), counted(1))


def test_pad_with_a_constant_is_a_layout_op() -> None:
    def build(x: Any) -> Any:
        return PadOp(x, ints(0, 1, 2, 0), constant(np.float32(-3.5)), mode="constant")

    module = check([tensor(2, 3)], build, counted(2, 3))
    assert any(isinstance(op, tensor_dialect.PadOp) for op in module.walk())


def test_pad_with_a_value_known_at_run_time() -> None:
    check([tensor(2, N), tensor()], lambda x, v: PadOp(x, ints(0, 1, 1, 2), v, mode="constant"),
          counted(2, 5), np.float32(9))  # fmt: skip


@pytest.mark.parametrize("repeats", [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_tile(repeats: tuple[int, ...]) -> None:
    for shape, size in (((2, 5), (2, 5)), ((2, N), (2, 3)), ((N, 1), (3, 1))):
        check([tensor(*shape)], lambda x: TileOp(x, ints(*repeats)), counted(*size))


def test_tile_by_a_size() -> None:
    def build(x: Any, y: Any) -> Any:
        return TileOp(x, ShapeOp(y, start=0, end=1).result)

    check([tensor(M), tensor(N)], build, counted(3), counted(4))


def test_reverse_sequence() -> None:
    def build(x: Any, lengths: Any) -> Any:
        return ReverseSequenceOp(x, lengths, batch_axis=1, time_axis=0)

    lengths = np.array([4, 1, 0], np.int64)
    check([tensor(4, N, 2), tensor(N, element=SI64)], build, counted(4, 3, 2), lengths)


def test_constants_pass_through_movement() -> None:
    def build(x: Any) -> Any:
        weight = ConstantOp(value=elements(counted(2, 3))).result
        return ConcatOp([TransposeOp(weight, permutation=(1, 0)).result, x], axis=1)

    check([tensor(3, 2)], build, counted(3, 2))
