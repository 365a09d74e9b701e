"""Vectors run along a dim whose neighbours lie next to each other, axes of one element set aside."""

from __future__ import annotations

import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu import target
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.dialects.tensor import KernelOp
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.pipeline import phases


@pytest.mark.parametrize(
    ("channels", "size", "expected"), [(17, 1, "ic"), (17, 7, "oh"), (1000, 7, "oh"), (1000, 3, "oh"), (64, 1, "ic")]
)
def test_a_convolution_of_one_pixel_is_no_scalar_code(channels: int, size: int, expected: str) -> None:
    x, w = f"tensor<1x1024x{size}x{size}xf32>", f"tensor<{channels}x1024x1x1xf32>"
    y = f"tensor<1x{channels}x{size}x{size}xf32>"
    module = parse_module(
        f"builtin.module {{ func.func @main(%x: {x}, %w: {w}) -> {y} {{ %y = graph.conv %x, %w {{"
        "strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, groups = 1} : "
        f"({x}, {w}) -> {y} func.return %y : {y} }} }}"
    )
    PassManager(phases("graph", "tensor")).run(module, PassContext(target.named("x86-64-v4")))
    schedules = [kernel.schedule for kernel in module.walk_of(KernelOp)]
    (contraction,) = [s for s in schedules if isinstance(s, ScheduleAttr) and (s.partial or s.unroll > 1)]
    assert contraction.lanes == 16
    assert contraction.vector.startswith(expected)


def test_last_axes_of_one_element_and_symbolic_sizes_before_them() -> None:
    x = 'tensor<?x3x?x1xi64, #graph.shape<["batch", "n"]>>'
    y, x = x.replace("i64", "i1"), x.replace("i64", "si64")
    model = stepwell.compile(
        f"builtin.module {{\n func.func @main(%x: {x}) -> {y} {{ %y = graph.cast %x {{to = i1}} : ({x}) -> {y} "
        f"func.return %y : {y} }} }}"
    )
    for shape in ((1, 3, 1, 1), (2, 3, 37, 1), (0, 3, 5, 1)):
        values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 3
        np.testing.assert_array_equal(model(values), values != 0)
