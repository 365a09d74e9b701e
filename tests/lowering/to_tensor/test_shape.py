"""Shapes: views, broadcasts, and sizes as integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects import tensor as tensor_dialect
from stepwell.dialects.graph.elementwise import AddOp, MulOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.movement import ConcatOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp, ShapeOp, SizeOp
from stepwell.ir.core import Operation
from tests.lowering.to_tensor.stairs import K, M, N, check, counted, tensor


def kinds(module: Operation, cls: type[Operation]) -> int:
    return sum(isinstance(op, cls) for op in module.walk())


def test_reshape_is_a_view() -> None:
    module = check([tensor(2, N, 12)], lambda g, x: g(ReshapeOp.to(x, [N * 2, 3, 4])), counted(2, 5, 12))
    assert kinds(module, tensor_dialect.ReshapeOp) == 1


def test_a_reshape_between_two_ops() -> None:
    def build(g: Any, x: Any) -> Any:
        half = g(ReshapeOp.to(g(AddOp(x, x)), [2, 6]))
        return g(MulOp(half, half))

    check([tensor(3, 4)], build, counted(3, 4))


@pytest.mark.parametrize(("shape", "target"), [((3, 1), (2, 3, 4)), ((), (2, 3)), ((3,), (1, 1, 3)), ((1, 1), (3, 5))])
def test_expand(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    check([tensor(*shape)], lambda g, x: g(ExpandOp.to(x, target)), counted(*shape))


@pytest.mark.parametrize("n", [1, 4])
def test_expand_to_the_sizes_of_another_tensor(n: int) -> None:
    def build(g: Any, x: Any, y: Any) -> Any:
        return g(ExpandOp(x, g(ShapeOp(y, start=0, end=2))))

    check([tensor(N, 1), tensor(M, K)], build, counted(n, 1), counted(4, 5))


def test_shape_and_size() -> None:
    check([tensor(2, N, M)], lambda g, x: (g(ShapeOp(x, start=0, end=3)), g(SizeOp(x)), g(ShapeOp(x, start=1, end=2))),
          counted(2, 3, 4))  # fmt: skip


def test_a_chain_of_shape_arithmetic_becomes_one_op() -> None:
    def build(g: Any, x: Any) -> Any:
        shape = g(ShapeOp(x, start=0, end=3))
        twice = g(MulOp(g(GatherOp(shape, g.ints(1), axis=0)), g.ints(2)))
        return g(ConcatOp([twice, g.ints(-1), g(GatherOp(shape, g.ints(2), axis=0))], axis=0))

    module = check([tensor(2, N, M)], build, counted(2, 3, 4))
    assert kinds(module, tensor_dialect.GenericOp) == 1


def test_known_sizes_become_a_constant() -> None:
    module = check([tensor(2, 3)], lambda g, x: g(ShapeOp(x, start=0, end=2)), counted(2, 3))
    assert kinds(module, tensor_dialect.ConstantOp) == 1


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (4, 1), (4, 4)])
def test_operands_whose_sizes_are_only_known_at_run_time_broadcast(n: int, m: int) -> None:
    check([tensor(3, N), tensor(M)], lambda g, x, y: g(AddOp(x, y)), counted(3, n), counted(m), tolerance=1e-6)


def test_sizes_as_a_scalar() -> None:
    def build(g: Any, x: Any) -> Any:
        return g(GatherOp(g(ShapeOp(x, start=0, end=2)), g.array(np.int64(-1)), axis=0))

    check([tensor(2, N)], build, counted(2, 3))
