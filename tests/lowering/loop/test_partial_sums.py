"""Long sums of products are made of short ones: the rounding error grows with the length of a part."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu import target
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.errors import IRError
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.pipeline import phases
from stepwell.lowering.tensor.tiles import PARTIAL

ROUNDING = 2.0**-24
ENDS = [1, 2, PARTIAL - 1, PARTIAL, PARTIAL + 1, 3 * PARTIAL - 2, 3 * PARTIAL, 3 * PARTIAL + 7]


def matmul(depth: int | str, element: str = "f32") -> Operation:
    size, names = (depth, "") if isinstance(depth, int) else ("?", f', #graph.shape<["{depth}"]>')
    a, b, c = f"tensor<5x{size}x{element}{names}>", f"tensor<{size}x20x{element}{names}>", f"tensor<5x20x{element}>"
    return parse_module(
        f"builtin.module {{ func.func @main(%a: {a}, %b: {b}) -> {c} {{ %c = graph.matmul %a, %b : ({a}, {b}) -> {c} "
        f"func.return %c : {c} }} }}"
    )


def scheduled(module: Operation, partial: int) -> Operation:
    """The module at the end of the tensor landing, all its contractions with partial sums of such a length."""
    PassManager(phases("graph", "tensor")).run(module, PassContext(target.host()))
    for kernel in module.walk_of(KernelOp):
        if isinstance(kernel.schedule, ScheduleAttr) and kernel.schedule.partial:
            kernel.schedule = attrs.evolve(kernel.schedule, partial=partial)
    return module


def arrays(depth: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(depth)
    return [rng.random((5, depth), np.float32), rng.random((depth, 20), np.float32)]


def error(model: stepwell.Model, depth: int) -> float:
    """The largest, relative."""
    a, b = arrays(depth)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return float(np.max(np.abs(model(a, b) - exact) / exact))


def test_the_error_of_a_long_sum_is_that_of_its_parts() -> None:
    whole, parts = (stepwell.compile(scheduled(matmul(40_000), partial)) for partial in (0, PARTIAL))
    assert error(parts, 40_000) < 40 * ROUNDING
    assert error(whole, 40_000) > 80 * ROUNDING


@pytest.mark.parametrize("depth", ENDS)
def test_ends_of_parts(depth: int) -> None:
    assert error(stepwell.compile(matmul(depth)), depth) < 40 * ROUNDING


def test_ends_of_parts_that_are_known_at_run_time() -> None:
    model = stepwell.compile(matmul("k"))
    for depth in ENDS:
        assert error(model, depth) < 40 * ROUNDING
    assert not model(*arrays(0)).any()


@pytest.mark.parametrize(("kernel", "channels"), [(3, 28), (3, 29), (3, 64), (17, 1), (17, 3)])
def test_parts_of_several_dims(kernel: int, channels: int) -> None:
    """Channels, rows and columns of a window are summed up; a part ends within whichever is long enough."""
    x, w = f"tensor<1x{channels}x20x20xf32>", f"tensor<16x{channels}x{kernel}x{kernel}xf32>"
    size = 21 - kernel
    y = f"tensor<1x16x{size}x{size}xf32>"
    model = stepwell.compile(
        f"builtin.module {{\n func.func @main(%x: {x}, %w: {w}) -> {y} {{\n"
        f"  %y = graph.conv %x, %w {{strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, "
        f"pads = array<i64: 0, 0, 0, 0>, groups = 1}} : ({x}, {w}) -> {y}\n"
        f"  func.return %y : {y}\n}} }}"
    )
    rng = np.random.default_rng(channels)
    image = rng.random((1, channels, 20, 20), np.float32)
    weight = rng.random((16, channels, kernel, kernel), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(image[0].astype(np.float64), (kernel, kernel), (1, 2))
    exact = np.einsum("cyxkl,ockl->oyx", windows, weight.astype(np.float64))
    assert np.max(np.abs(model(image, weight)[0] - exact) / exact) < 40 * ROUNDING


def test_integers_are_summed_at_once() -> None:
    module = scheduled(matmul(1000, "si32"), PARTIAL)
    schedules = [kernel.schedule for kernel in module.walk_of(KernelOp)]
    assert all(isinstance(s, ScheduleAttr) and s.partial == 0 for s in schedules)


def test_a_length_below_zero_is_refused() -> None:
    with pytest.raises(IRError, match="partial"):
        ScheduleAttr((), (), "none", partial=-1)


def test_sums_of_nothing() -> None:
    """A dim of 0 inside: there is nothing to cut into parts."""
    module = parse_module(
        "builtin.module { func.func @main(%x: tensor<17x0x2xf32>) -> tensor<f32> { %y = graph.reduce %x {axes = "
        'array<i64: 0, 1, 2>, keepdims = false, kind = "sum", none_if_empty = false} : (tensor<17x0x2xf32>) -> '
        "tensor<f32> func.return %y : tensor<f32> } }"
    )
    assert stepwell.compile(module)(np.zeros((17, 0, 2), np.float32)) == 0


def test_no_sums_at_all() -> None:
    """A batch of 0: there is no sum whose parts could be added."""
    a, b, c = 'tensor<0x5x?xf32, #graph.shape<["k"]>>', 'tensor<0x?x3xf32, #graph.shape<["k"]>>', "tensor<0x5x3xf32>"
    module = parse_module(
        f"builtin.module {{ func.func @main(%a: {a}, %b: {b}) -> {c} {{ %c = graph.matmul %a, %b : ({a}, {b}) -> {c} "
        f"func.return %c : {c} }} }}"
    )
    found = stepwell.compile(module)(np.zeros((0, 5, 4), np.float32), np.zeros((0, 4, 3), np.float32))
    assert found.shape == (0, 5, 3)
