"""What symbolic sizes count as."""

from __future__ import annotations

import pytest

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.ir.dims import Dim, floordiv, symbol
from stepwell.ir.types import F32, TensorType
from stepwell.lowering.tensor.sizes import assumed, size_of, usual_of, usual_sizes

N, H = symbol("n"), symbol("h")


def module(*dims: Dim) -> ModuleOp:
    made = ModuleOp.empty()
    made.block.append(FuncOp.declare("main", [TensorType(dims, F32)]))
    return made


@pytest.mark.parametrize(("dims", "hints", "expected"), [
    ((N, 3), {}, {}),
    ((N, 8 * H), {}, {"h": 16}),
    ((8 * H, 2 * H), {}, {"h": 16}),
    ((500 * H,), {}, {"h": 1}),
    ((N + H,), {}, {}),
    ((N, 8 * H), {"h": (1, 40, 50), "n": (0, 2, 9)}, {"h": 40, "n": 2}),
])  # fmt: skip
def test_symbols_of_inputs(
    dims: tuple[Dim, ...], hints: dict[str, tuple[int, int, int]], expected: dict[str, int]
) -> None:
    assert usual_of(module(*dims), hints) == expected


@pytest.mark.parametrize(("size", "expected"), [
    (0, 1), (7, 7), (N, 128), (8 * H, 128), (4 * H * N, 4 * 16 * 128), (floordiv(8 * H - 1, 2) + 1, 64),
    (H - 20, 1), (floordiv(N, H - 16), 128),
])  # fmt: skip
def test_one_assumption_for_all_sizes(size: Dim, expected: int) -> None:
    with usual_sizes(module(8 * H), {}):
        assert size_of(size) == expected


def test_nothing_is_assumed_beyond_a_compilation() -> None:
    with usual_sizes(module(N), {"n": (1, 5, 9)}):
        assert size_of(N) == 5
        assert assumed() == (("n", 5),)
    assert size_of(N) == 128
    assert assumed() == ()
