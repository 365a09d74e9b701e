"""The rounding error of sums: within what the schedule's longest chain of additions allows, on hard inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.backends.cpu import target as targets
from stepwell.dialects.schedule import LoopSpec, ScheduleAttr
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering.pipeline import phases
from stepwell.lowering.tensor.depth import additions

Array = np.ndarray[Any, Any]
UNIT = 2.0**-24
TARGETS = ("cpu", "x86-64-v3", "x86-64")


def sum_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> Operation:
    x = f"tensor<{'x'.join(map(str, shape))}xf32>"
    kept = [size for axis, size in enumerate(shape) if axis not in axes]
    y = f"tensor<{''.join(f'{size}x' for size in kept)}f32>"
    return parse_module(
        f"builtin.module {{ func.func @main(%x: {x}) -> {y} {{ "
        f'%y = graph.reduce %x {{axes = array<i64: {", ".join(map(str, axes))}>, kind = "sum", keepdims = false}} '
        f": ({x}) -> {y} func.return %y : {y} }} }}"
    )


def matmul(m: int, k: int, n: int) -> Operation:
    a, b, c = f"tensor<{m}x{k}xf32>", f"tensor<{k}x{n}xf32>", f"tensor<{m}x{n}xf32>"
    return parse_module(
        f"builtin.module {{ func.func @main(%a: {a}, %b: {b}) -> {c} {{ %c = graph.matmul %a, %b : ({a}, {b}) -> {c} "
        f"func.return %c : {c} }} }}"
    )


def chain_of(module: Operation, target: str) -> int:
    """The longest chain of additions of the module's one reduction."""
    PassManager(phases("graph", "tensor")).run(module, PassContext(targets.named(target)))
    for kernel in module.walk_of(KernelOp):
        for op in kernel.walk_of(GenericOp):
            if op.has_reduction:
                assert isinstance(kernel.schedule, ScheduleAttr)
                dims = [d for d, kind in enumerate(op.iterators) if kind == "reduction"]
                sizes = [op.sizes.dims[d] for d in dims]
                return additions([n for n in sizes if isinstance(n, int)], [op.names[d] for d in dims], kernel.schedule)
    raise AssertionError("no reduction")


def hard(kind: str, *shape: int) -> Array:
    """Numbers whose sum is hard: of one sign, that cancel, of very different magnitudes, that only just add up."""
    rng = np.random.default_rng(math.prod(shape))
    size = math.prod(shape)
    if kind == "one sign":
        x = rng.random(size) + 0.1
    elif kind == "cancelling":
        half = rng.standard_normal(size // 2 + 1) * 1e4
        x = rng.permutation(np.concatenate([half, -half])[:size])
    elif kind == "magnitudes":
        x = rng.standard_normal(size) * 2.0 ** rng.integers(-30, 31, size)
    else:
        x = np.where(np.arange(size) % 97 == 0, 2.0**24, 1.0)
    return x.astype(np.float32).reshape(shape)


KINDS = ("one sign", "cancelling", "magnitudes", "just adding up")
SUMS = [((3, 1_000_000), (1,)), ((5, 300), (1,)), ((1, 8191), (1,)), ((20_000, 40), (0,)), ((17, 30, 999), (0, 2)),
        ((64, 64, 64), (0, 1, 2))]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("shape", "axes"), SUMS)
def test_sums(shape: tuple[int, ...], axes: tuple[int, ...], target: str) -> None:
    model, chain = stepwell.compile(sum_of(shape, axes), target), chain_of(sum_of(shape, axes), target)
    for kind in KINDS:
        x = hard(kind, *shape)
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        rows = x.transpose(*kept, *axes).reshape(math.prod(shape[axis] for axis in kept), -1).astype(np.float64)
        got = np.asarray(model(x)).reshape(-1)
        for row, value in zip(rows, got, strict=True):
            allowed = chain * UNIT / (1 - chain * UNIT) * math.fsum(np.abs(row))
            assert abs(float(value) - math.fsum(row)) <= allowed, kind


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", [(4, 5000, 30), (1, 3000, 64), (40, 260, 1), (7, 100, 7)])
def test_sums_of_products(sizes: tuple[int, int, int], target: str) -> None:
    m, k, n = sizes
    model = stepwell.compile(matmul(*sizes), target)
    chain = chain_of(matmul(*sizes), target) + 1  # the product's rounding, without fused multiply-adds
    for kind in KINDS:
        a, b = hard(kind, m, k), hard("magnitudes", k, n)
        got = np.asarray(model(a, b), np.float64)
        for i in range(m):
            for j in range(n):
                products = a[i].astype(np.float64) * b[:, j].astype(np.float64)
                allowed = chain * UNIT / (1 - chain * UNIT) * math.fsum(np.abs(products))
                assert abs(got[i, j] - math.fsum(products)) <= allowed, kind


def test_a_million_terms_go_through_few_additions() -> None:
    assert chain_of(sum_of((3, 1_000_000), (1,)), "x86-64-v4") < 600
    assert chain_of(matmul(8, 65_536, 64), "x86-64-v4") < 600


SCHEDULES = [
    ([1000], ["k"], ScheduleAttr((), (), "n", 16), 1000),
    ([1000], ["k"], ScheduleAttr((), (), "n", 16, partial=256), 256 + 4),
    ([1000], ["k"], ScheduleAttr((), (), "k", 16), 63 + 4),
    ([1000], ["k"], ScheduleAttr((), (), "k", 16, unroll=2), 31 + 1 + 1 + 4),
    ([100, 3, 3], ["c", "h", "w"], ScheduleAttr((), (), "n", 16, partial=256), 28 * 9 + 4),
    ([2000], ["k"], ScheduleAttr((LoopSpec("k0", "k", 512),), (), "n", 16, partial=256), 256 + 8),
    ([2000], ["k"], ScheduleAttr((LoopSpec("k0", "k", 512),), (), "n", 16), 2048),
    ([0], ["k"], ScheduleAttr((), (), "n", 16), 0),
]


@pytest.mark.parametrize(("sizes", "names", "schedule", "expected"), SCHEDULES)
def test_additions(sizes: list[int], names: list[str], schedule: ScheduleAttr, expected: int) -> None:
    assert additions(sizes, names, schedule) == expected
