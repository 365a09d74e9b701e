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
from tests.lowering.to_tensor.descent import K, M, N, check, constant, counted, ints, tensor


def kinds(module: Operation, cls: type[Operation]) -> int:
    return sum(isinstance(op, cls) for op in module.walk())


def test_reshape_is_a_view() -> None:
    module = check([tensor(2, N, 12)], lambda x: ReshapeOp.to(x, [N * 2, 3, 4]), counted(2, 5, 12))
    assert kinds(module, tensor_dialect.ReshapeOp) == 1


def test_a_reshape_between_two_ops() -> None:
    def build(x: Any) -> Any:
        half = ReshapeOp.to(AddOp(x, x).result, [2, 6]).result
        return MulOp(half, half)

    check([tensor(3, 4)], build, counted(3, 4))


@pytest.mark.parametrize(("shape", "target"), [((3, 1), (2, 3, 4)), ((), (2, 3)), ((3,), (1, 1, 3)), ((1, 1), (3, 5))])
def test_expand(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    check([tensor(*shape)], lambda x: ExpandOp.to(x, target), counted(*shape))


@pytest.mark.parametrize("n", [1, 4])
def test_expand_to_the_sizes_of_another_tensor(n: int) -> None:
    def build(x: Any, y: Any) -> Any:
        return ExpandOp(x, ShapeOp(y, start=0, end=2).result)

    check([tensor(N, 1), tensor(M, K)], build, counted(n, 1), counted(4, 5))


def test_shape_and_size() -> None:
    def build(x: Any) -> Any:
        return ShapeOp(x, start=0, end=3).result, SizeOp(x).result, ShapeOp(x, start=1, end=2).result

    check([tensor(2, N, M)], build, counted(2, 3, 4))


def test_a_chain_of_shape_arithmetic_becomes_one_op() -> None:
    def build(x: Any) -> Any:
        shape = ShapeOp(x, start=0, end=3).result
        twice = MulOp(GatherOp(shape, ints(1), axis=0).result, ints(2)).result
        return ConcatOp([twice, ints(-1), GatherOp(shape, ints(2), axis=0).result], axis=0)

    module = check([tensor(2, N, M)], build, counted(2, 3, 4))
    assert kinds(module, tensor_dialect.GenericOp) == 1


def test_known_sizes_become_a_constant() -> None:
    module = check([tensor(2, 3)], lambda x: ShapeOp(x, start=0, end=2), counted(2, 3))
    assert kinds(module, tensor_dialect.ConstantOp) == 1


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (4, 1), (4, 4)])
def test_operands_whose_sizes_are_only_known_at_run_time_broadcast(n: int, m: int) -> None:
    check([tensor(3, N), tensor(M)], lambda x, y: AddOp(x, y), counted(3, n), counted(m), tolerance=1e-6)


def test_sizes_as_a_scalar() -> None:
    def build(x: Any) -> Any:
        return GatherOp(ShapeOp(x, start=0, end=2).result, constant(np.int64(-1)), axis=0)

    check([tensor(2, N)], build, counted(2, 3))
