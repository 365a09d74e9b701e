"""Shapes that are numbers in a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.generate import RangeOp
from stepwell.dialects.graph.indexing import OneHotOp
from stepwell.dialects.graph.movement import PadOp, SliceOp, SplitOp, TileOp
from stepwell.dialects.graph.sampling import AffineGridOp, ColToImOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp
from stepwell.ir.types import F32, SI64, Type
from tests.lowering.to_tensor.by_data import check_by_data, fails, serves
from tests.lowering.to_tensor.descent import M, N, counted, graph_module, tensor

LIST2, LIST3 = tensor(2, element=SI64), tensor(3, element=SI64)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


@pytest.mark.parametrize(("element", "triples"), [
    (SI64, [(2, 9, 3), (9, 2, -3), (0, 0, 1), (5, 1, 1), (-4, 40, 1)]),
    (F32, [(0, 1, 0.125), (1, 0, -0.25), (3, 3, 1)]),
])  # fmt: skip
def test_range(element: Type, triples: Any) -> None:
    dtype = np.int64 if element is SI64 else np.float32
    first, *others = [[np.array(number, dtype) for number in triple] for triple in triples]
    check_by_data([tensor(element=element)] * 3, lambda *xs: RangeOp(*xs), *first, others=others)


def test_reshape() -> None:
    x = counted(2, 3, 4)
    others = [[x, ints(-1, 8)], [x, ints(0, -1)], [x[:0], ints(0, 12)]]
    check_by_data([tensor(N, M, 4), LIST2], lambda x, s: ReshapeOp(x, s), x, ints(6, 4), others=others)


def test_expand() -> None:
    x = counted(2, 1, 4)
    others = [[x, ints(2, 1, 4)], [x, ints(1, 3, 1)], [x, ints(2, 0, 4)]]
    check_by_data([tensor(N, 1, 4), LIST3], lambda x, s: ExpandOp(x, s), x, ints(2, 5, 4), others=others)


def test_tile_and_pad() -> None:
    x = counted(2, 3)
    check_by_data([tensor(N, 3), LIST2], lambda x, n: TileOp(x, n), x, ints(2, 3), others=[[x, ints(0, 1)]])
    pads = [ints(0, 1, 2, 0), ints(-1, 1, 2, -1), ints(1, 0, -1, 0)]
    check_by_data(
        [tensor(N, 3), tensor(4, element=SI64), tensor()], lambda x, n, v: PadOp(x, n, v), x, pads[0],
        np.float32(7), others=[[x, item, np.float32(-1)] for item in pads],
    )  # fmt: skip


def test_slice() -> None:
    x = counted(4, 5, 2)
    bounds = [(ints(0, 1), ints(2, 3)), (ints(-2, 0), ints(100, -1)), (ints(5, 0), ints(1 << 62, -(1 << 62)))]
    steps = [ints(1, 1), ints(2, -1), ints(-1, 3)]
    check_by_data(
        [tensor(N, M, 2), LIST2, LIST2, LIST2], lambda *xs: SliceOp(*xs, axes=(0, 1)), x, *bounds[0], steps[0],
        others=[[x, *pair, step] for pair in bounds for step in steps],
    )  # fmt: skip


@pytest.mark.parametrize(("element", "dtype"), [(SI64, np.int64), (F32, np.float32)])
def test_one_hot(element: Any, dtype: Any) -> None:
    def build(indices: Any, depth: Any, values: Any) -> Any:
        return OneHotOp(indices, depth, values, axis=1)

    types = [tensor(N, element=SI64), tensor(element=element), tensor(2)]
    values = np.array([0, 5], np.float32)
    check_by_data(types, build, ints(1, -1, 0), dtype(4), values, others=[[ints(1), dtype(0), values]])


@pytest.mark.parametrize("target", [(5, 5), (-1, -1), (7, -1), (-3, -8), (1 << 32, 1 << 32), (0, 1 << 62)])
def test_a_shape_that_cannot_be_is_an_error(target: tuple[int, int]) -> None:
    model = stepwell.compile(graph_module([tensor(N, 3), LIST2], lambda x, s: ReshapeOp(x, s)))
    for x in (counted(4, 3), counted(0, 3)):
        if len(x) == 0 and target in [(7, -1)]:
            continue  # no elements in seven parts: each is empty
        with pytest.raises(stepwell.RuntimeError, match="decided by data"):
            model(x, ints(*target))
    assert model(counted(4, 3), ints(2, 6)).shape == (2, 6)


@pytest.mark.parametrize(("sizes", "words"), [
    ((1 << 40, 1 << 40), "not enough memory"), ((1 << 39, 1), "not enough memory"), ((-1, 2), "negative"),
    ((1 << 41, 0), "too large"),
])  # fmt: skip
def test_what_no_memory_holds_is_an_error(sizes: tuple[int, int], words: str) -> None:
    model = stepwell.compile(graph_module([tensor(1, 1), LIST2], lambda x, s: ExpandOp(x, s)))
    with pytest.raises(stepwell.RuntimeError, match=words):
        model(counted(1, 1), ints(*sizes))
    assert model(counted(1, 1), ints(3, 2)).shape == (3, 2)


def test_a_range_by_steps_of_zero_is_an_error() -> None:
    model = stepwell.compile(graph_module([tensor(element=SI64)] * 3, lambda *xs: RangeOp(*xs)))
    with pytest.raises(stepwell.RuntimeError, match="decided by data"):
        model(*(np.int64(number) for number in (1, 2, 0)))


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
def test_borders_made_of_elements(mode: str) -> None:
    x = counted(4, 3)
    pads = [(0, 1, 2, 0), (5, 1, 9, 7), (-1, 0, 6, 2), (2, -2, -3, 1), (0, -3, 0, 0), (-2, 1, -2, 0)]
    types = [tensor(N, 3), tensor(4, element=SI64)]
    serves(types, lambda x, n: PadOp(x, n, mode=mode), *([x, ints(*given)] for given in pads))


def test_borders_of_nothing_are_an_error() -> None:
    types = [tensor(N, 3), tensor(4, element=SI64)]
    model = stepwell.compile(graph_module(types, lambda x, n: PadOp(x, n, mode="edge")))
    assert model(counted(0, 3), ints(0, 1, 0, 2)).shape == (0, 6)
    for pads in ((1, 0, 0, 0), (0, -3, 0, 1), (0, -4, 0, 0)):
        with pytest.raises(stepwell.RuntimeError, match="decided by data"):
            model(counted(0, 3), ints(*pads))


def test_split() -> None:
    sets = [[x, ints(*sizes)] for x, sizes in (
        (counted(2, 9), (2, 3, 4)), (counted(2, 9), (0, 9, 0)), (counted(0, 4), (1, 2, 1)), (counted(1, 0), (0, 0, 0)),
    )]  # fmt: skip
    serves([tensor(N, M), LIST3], lambda x, s: SplitOp(x, s, axis=1), *sets)


@pytest.mark.parametrize(("sizes", "words"), [
    ((2, 3, 5), "do not add up"), ((2, 3, 3), "do not add up"), ((-1, 5, 5), "no part of axis 1 can have this size"),
    ((9, 1 << 62, 1 << 63 - 1), "no part of axis 1"),
])  # fmt: skip
def test_parts_that_cannot_be_are_errors(sizes: Any, words: str) -> None:
    fails([tensor(N, M), LIST3], lambda x, s: SplitOp(x, s, axis=1), counted(2, 9), ints(*sizes), match=words)


@pytest.mark.parametrize("align", [False, True])
def test_affine_grid(align: bool) -> None:
    theta = counted(2, 2, 3) / 8
    sets = [[theta, ints(2, 1, *sizes)] for sizes in ((3, 4), (1, 1), (5, 0), (1, 7))]
    types = [tensor(N, 2, 3), tensor(4, element=SI64)]
    serves(types, lambda t, s: AffineGridOp(t, s, align_corners=align), *sets, tolerance=1e-6)


COLUMNS = {"strides": (2, 1), "pads": (1, 0, 0, 1), "dilations": (1, 2)}


def columns(image: Any, block: Any) -> Any:
    """Columns for blocks of an image of three channels."""
    counts = [
        (image[a] + COLUMNS["pads"][a] + COLUMNS["pads"][2 + a] - COLUMNS["dilations"][a] * (block[a] - 1) - 1)
        // COLUMNS["strides"][a] + 1 for a in range(2)
    ]  # fmt: skip
    return counted(2, 3 * block[0] * block[1], counts[0] * counts[1])


def to_image(x: Any, image: Any, block: Any) -> Any:
    return ColToImOp(x, image, block, **COLUMNS)


def test_folding_of_columns() -> None:
    pairs = [((5, 6), (2, 3)), ((4, 4), (1, 1)), ((7, 5), (3, 2)), ((5, 3), (2, 3))]
    types = [tensor(2, N, M), LIST2, LIST2]
    serves(types, to_image, *([columns(*pair), *(ints(*sizes) for sizes in pair)] for pair in pairs))


@pytest.mark.parametrize(("image", "block", "words"), [
    ((5, 6), (2, 4), "not whole blocks"), ((5, 6), (0, 3), "not whole blocks"), ((5, 6), (-2, -3), "not whole blocks"),
    ((5, 6), (1 << 62, 4), "not whole blocks"), ((5, 7), (2, 3), "not as many columns"),
    ((-5, -7), (2, 3), "not as many columns"), ((1 << 60, 1 << 60), (2, 3), "not as many columns"),
])  # fmt: skip
def test_columns_that_do_not_fit_are_errors(image: Any, block: Any, words: str) -> None:
    x = columns((5, 6), (2, 3))
    fails([tensor(2, N, M), LIST2, LIST2], to_image, x, ints(*image), ints(*block), match=words)
