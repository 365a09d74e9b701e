"""Transposed convolutions: each phase has the taps that it meets, and no others."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from stepwell.dialects import tensor as tensor_dialect
from stepwell.dialects.graph.convolution import ConvTransposeOp
from stepwell.lowering.to_tensor.transposed import Phases, phases_of
from tests.lowering.to_tensor.descent import constant, descend

NORMAL = np.random.default_rng(0).standard_normal


def transposed(x: Any, w: Any, stride: int, dilation: int = 1, begin: int = 0, groups: int = 1) -> ConvTransposeOp:
    return ConvTransposeOp(
        x, w, strides=[stride, stride], dilations=[dilation, dilation], pads=[begin] * 4, output_padding=[0, 0],
        groups=groups,
    )  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "dilation", "begin", "expected"), [
    (4, 2, 1, 0, [(2, 2, 0, 0)]),
    (4, 2, 1, 1, [(2, 2, 1, 0)]),
    (3, 2, 1, 0, [(1, 2, 0, 0), (1, 1, 1, 0)]),
    (3, 2, 1, 1, [(1, 1, 1, 0), (1, 2, 0, 1)]),
    (5, 3, 1, 1, [(1, 2, 1, 0), (1, 1, 2, 0), (1, 2, 0, 1)]),
    (1, 2, 1, 0, [(1, 1, 0, 0), (1, 0, 1, 0)]),
    (3, 1, 2, 1, [(1, 3, 0, 1)]),
    (3, 2, 2, 0, [(1, 3, 0, 0), (1, 0, 0, 0)]),
    (3, 2, 3, 0, [(1, 2, 0, 0), (1, 1, 1, -1)]),
])  # fmt: skip
def test_phases(kernel: int, stride: int, dilation: int, begin: int, expected: list[tuple[int, ...]]) -> None:
    made = phases_of(kernel, stride, dilation, begin)
    assert [(phases.count, phases.taps, phases.tap, phases.place) for phases in made] == expected


def test_phases_are_what_scattering_gives() -> None:
    for kernel, stride, dilation, begin in itertools.product(range(1, 6), range(1, 5), range(1, 5), range(4)):
        made = phases_of(kernel, stride, dilation, begin)
        assert sum(phases.count for phases in made) == stride
        first = 0
        for phases in made:
            for r in range(phases.count):
                met = {
                    (place // stride, k) for k in range(kernel)
                    if (place := first + r + begin - dilation * k) % stride == 0
                }  # fmt: skip
                assert gathered(phases, r, stride) == met, (kernel, stride, dilation, begin)
            first += phases.count


def gathered(phases: Phases, r: int, stride: int) -> set[tuple[int, int]]:
    """(place, tap) of each product of a result of such a phase, with q = 0."""
    turn, tap = divmod(phases.tap + r, stride)
    return {
        (phases.place + turn - phases.place_step * t, tap + phases.tap_step * t) for t in range(phases.taps)
    }  # fmt: skip


@pytest.mark.parametrize(("channels", "groups"), [((4, 3), 1), ((4, 3), 2), ((4, 1), 4), ((4, 1), 2)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "begin"), [(3, 2, 1, 1), (2, 3, 1, 0), (3, 2, 2, 1), (3, 2, 3, 2)]
)
def test_on_its_way_down(
    channels: tuple[int, int], groups: int, kernel: int, stride: int, dilation: int, begin: int
) -> None:
    x = NORMAL((2, channels[0], 4, 3)).astype(np.float32)
    w = NORMAL((*channels, kernel, kernel)).astype(np.float32)
    descend(lambda x, w: transposed(x, w, stride, dilation, begin, groups), x, w, native=True)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (2, 3, 1), (3, 1, 2), (3, 2, 2)])
def test_what_is_not_finite_stays_where_it_is_met(kernel: int, stride: int, dilation: int, symbolic: bool) -> None:
    """No zero stands for a weight that is not there: 0 times infinity would be no number."""
    x = np.ones((1, 2, 3, 3), np.float32)
    x[0, 0, 1, 1] = np.inf
    w = np.ones((2, 1, kernel, kernel), np.float32)
    descend(lambda x, w: transposed(x, w, stride, dilation), x, w, symbolic=symbolic, native=True)


def test_a_stride_that_divides_the_kernel_is_one_generic() -> None:
    x, w = (NORMAL(shape).astype(np.float32) for shape in ((1, 2, 3, 3), (2, 1, 4, 4)))
    module = descend(lambda x, w: transposed(x, w, 2, begin=1), x, w).module
    assert sum(op.has_reduction for op in module.walk_of(tensor_dialect.GenericOp)) == 1


@pytest.mark.parametrize("kernel", [1, 2])
def test_phases_without_a_tap_are_zeros(kernel: int) -> None:
    """No weight is read for them, of those that are packed beforehand neither."""
    x, w = NORMAL((1, 2, 2, 3)).astype(np.float32), NORMAL((2, 9, kernel, kernel)).astype(np.float32)
    (result,) = descend(lambda x: transposed(x, constant(w), 4), x, native=True).results
    assert np.count_nonzero(result) == 2 * 3 * 9 * kernel**2
