"""Movement, casts, powers and choices that cancel or merge: the ops before, those that are left, the same results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph import elementwise as graph
from stepwell.dialects.graph.conversion import CastOp
from stepwell.dialects.graph.convolution import ConvOp
from stepwell.dialects.graph.indexing import GatherOp
from stepwell.dialects.graph.logic import WhereOp
from stepwell.dialects.graph.movement import ConcatOp, PadOp, SliceOp, SplitOp, TransposeOp
from stepwell.dialects.graph.shape import ExpandOp, ReshapeOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.types import BF16, F16, F32, F64, SI8, SI32, SI64, UI8, Type
from stepwell.lowering.graph.simplify.movement import grouped_dims
from tests.lowering.graph.recognition import kinds, normal, recognised
from tests.lowering.to_tensor.descent import constant

X = normal(2, 3, 4, 5)
SPECIAL = np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 1e-40]], np.float32)


def turned(x: Value, *permutation: int) -> Value:
    return TransposeOp(x, permutation=permutation).result


def shaped(x: Value, *shape: int) -> Value:
    return ReshapeOp.to(x, shape).result


def expanded(x: Value, *shape: int) -> Value:
    return ExpandOp.to(x, shape).result


def indices(*places: int) -> Value:
    return constant(np.array(places))


def cut(x: Value, axis: int, start: int, end: int) -> Value:
    return SliceOp(x, indices(start), indices(end), None, axes=[axis]).result


def power(x: Value, exponent: Any) -> Value:
    return graph.PowOp(x, constant(exponent)).result


PAIRS: list[tuple[Any, Any, list[str]]] = [
    (lambda x: turned(turned(x, 1, 0, 2, 3), 0, 2, 3, 1), X, ["transpose"]),
    (lambda x: turned(turned(x, 0, 2, 1, 3), 0, 2, 1, 3), X, []),
    (lambda x: shaped(shaped(x, 6, 20), 3, 40), X, ["reshape"]),
    (lambda x: shaped(shaped(x, 6, 20), 2, 3, 4, 5), X, []),
    (lambda x: turned(shaped(x, 2, 1, 3, 1, 20), 0, 3, 2, 1, 4), X, ["reshape"]),
    # what lies between two convolutions of a model with its channels last
    (lambda x: turned(graph.ReluOp(turned(x, 0, 2, 3, 1)).result, 0, 3, 1, 2), X, ["relu"]),
    (lambda x: turned(graph.AddOp(turned(x, 0, 2, 3, 1), constant(normal(3))).result, 0, 3, 1, 2), X, ["add"]),
    (lambda x: turned(graph.AddOp(turned(x, 0, 2, 3, 1), turned(x, 0, 2, 3, 1)).result, 0, 3, 1, 2), X, ["add"]),
    (lambda x: turned(graph.AddOp(turned(x, 0, 2, 3, 1), x).result, 0, 3, 1, 2), normal(2, 3, 3, 3),
     ["transpose", "add", "transpose"]),
    (lambda x: turned(graph.ReluOp(turned(x, 0, 2, 3, 1)).result, 0, 2, 3, 1), X, ["transpose", "relu", "transpose"]),
    # heads and batch merged, turned, taken apart again
    (lambda x: shaped(turned(shaped(turned(x, 0, 2, 1, 3), 8, 3, 5), 0, 2, 1), 2, 4, 5, 3), X, ["transpose"]),
    (lambda x: turned(shaped(turned(x, 0, 2, 1, 3), 2, 4, 15), 0, 2, 1), X, ["transpose", "reshape"]),
    # a dim that is split does not stay together
    (lambda x: turned(shaped(turned(x, 0, 2, 1, 3), 2, 2, 2, 3, 5), 0, 1, 3, 2, 4), X,
     ["transpose", "reshape", "transpose"]),
    (lambda x: turned(expanded(shaped(x, 2, 3, 1, 4, 5), 2, 3, 7, 4, 5), 0, 1, 2, 4, 3), X,
     ["reshape", "transpose", "expand"]),
    (lambda x: GatherOp(x, indices(1, 2, 3), axis=2).result, X, ["slice"]),
    (lambda x: GatherOp(x, constant(np.int64(-1)), axis=1).result, X, ["slice", "reshape"]),
    (lambda x: GatherOp(x, indices(0, 1, 2, 3), axis=2).result, X, []),
    (lambda x: GatherOp(x, indices(1, 3), axis=2).result, X, ["gather"]),
    (lambda x: GatherOp(x, indices(2, 1), axis=2).result, X, ["gather"]),
    (lambda x: GatherOp(x, constant(np.array([[1, 2]])), axis=2).result, X, ["gather"]),
    (lambda x: ConcatOp(SplitOp.into(x, [1, 2, 1], 2).parts, axis=2).result, X, []),
    (lambda x: ConcatOp([cut(x, 2, 0, 1), cut(x, 2, 1, 4)], axis=2).result, X, []),
    (lambda x: ConcatOp([cut(x, 2, 0, 1), cut(x, 2, 2, 4)], axis=2).result, X, ["slice", "slice", "concat"]),
    (lambda x: ConcatOp([cut(x, 2, 1, 4), cut(x, 2, 0, 1)], axis=2).result, X, ["slice", "slice", "concat"]),
    (lambda x: ConcatOp([cut(x, 2, 0, 2), cut(x, 2, 2, 4)], axis=1).result, X, ["slice", "slice", "concat"]),
    (lambda x: WhereOp(constant(np.array([True])), x, constant(normal(5))).result, X, []),
    (lambda x: WhereOp(constant(np.array([[False]])), constant(normal(5)), x).result, X, []),
    (lambda x: WhereOp(constant(np.ones((7, 1, 1, 1, 1), np.bool_)), x, x).result, X, ["expand"]),
    (lambda x: WhereOp(constant(np.array([True, False, True, True, True])), x, constant(normal(5))).result, X,
     ["where"]),
    (lambda x: power(x, np.float32(1)), SPECIAL, []),
    (lambda x: power(x, np.float32(2)), SPECIAL, ["mul"]),
    (lambda x: power(x, np.float32(0.5)), SPECIAL, ["pow"]),
    (lambda x: power(x, np.float32(3)), SPECIAL, ["pow"]),
    (lambda x: power(x, np.array([[2, 2, 2]] * 2, np.float32)), SPECIAL[:1], ["pow"]),
    (lambda x: power(x, np.int32(2)), np.array([-3, 2**31 - 1], np.int32), ["mul"]),
    (lambda x: graph.AddOp(expanded(shaped(x, 2, 3, 1), 2, 3, 4), constant(normal(2, 1, 4))).result, SPECIAL,
     ["reshape", "add"]),
    (lambda x: graph.AddOp(expanded(shaped(x, 2, 3, 1), 2, 3, 4), constant(normal(2, 3, 1))).result, SPECIAL,
     ["reshape", "expand", "add"]),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(PAIRS)))
def test_what_is_left(index: int) -> None:
    build, x, left = PAIRS[index]
    assert kinds(recognised(lambda x: [build(x)], x, tolerance=0)) == left


def casts(x: Value, *types: Type) -> Value:
    for type_ in types:
        x = CastOp(x, to=type_).result
    return x


INTEGERS = np.array([-128, -1, 0, 1, 127], np.int8)
FLOATS = np.array([0.5, -1.75, np.inf, np.nan, 65504.0, -0.0], np.float16)


@pytest.mark.parametrize(
    ("x", "types", "left"),
    [
        (INTEGERS, [F32, SI8], 0),
        (INTEGERS, [F32, SI32], 1),
        (INTEGERS, [SI64, SI32], 1),
        (INTEGERS, [SI32, F16], 1),
        (INTEGERS, [UI8, SI32], 2),
        (INTEGERS.astype(np.int64), [SI8, SI64], 2),
        (np.array([3_000_000_000], np.uint32), [F64, SI8], 2),
        (np.array([2**31 - 1], np.int32), [F32, SI32], 2),
        (np.array([2**31 - 1], np.int32), [F64, SI8], 1),
        (FLOATS, [F32, F16], 0),
        (FLOATS, [F32, F64, SI32], 1),
        (FLOATS, [BF16, F32], 2),
        (FLOATS.astype(np.float32), [F16, F32], 2),
        (np.array([True, False]), [F32, SI64], 1),
    ],
)
def test_casts(x: Any, types: Sequence[Type], left: int) -> None:
    assert kinds(recognised(lambda x: [casts(x, *types)], x)) == ["cast"] * left


def conv(x: Value, pads: Sequence[int], padding: str = "explicit") -> Operation:
    return ConvOp(
        x, constant(normal(2, 3, 3, 3)), None, strides=[1, 1], dilations=[1, 1], pads=pads, padding=padding, groups=1
    )


def padded(x: Value, pads: Sequence[int], value: float | None = None, mode: str = "constant") -> Value:
    border = None if value is None else constant(np.float32(value))
    return PadOp(x, indices(*pads), border, mode=mode).result


@pytest.mark.parametrize(
    ("pads", "options", "left"),
    [
        ([0, 0, 1, 2, 0, 0, 3, 0], {}, ["conv"]),
        ([0, 0, 1, 2, 0, 0, 3, 0], {"value": 0.0}, ["conv"]),
        ([0, 0, 1, 2, 0, 0, 3, 0], {"value": 1.0}, ["pad", "conv"]),
        ([0, 0, 1, 2, 0, 0, 3, 0], {"mode": "edge"}, ["pad", "conv"]),
        ([0, 0, -1, 2, 0, 0, 3, 0], {}, ["pad", "conv"]),
        ([0, 1, 1, 2, 0, -1, 3, 0], {}, ["pad", "conv"]),
    ],
)
def test_padding_goes_into_the_convolution(pads: list[int], options: dict[str, Any], left: list[str]) -> None:
    assert kinds(recognised(lambda x: conv(padded(x, pads, **options), [1, 0, 0, 1]), X)) == left


@pytest.mark.parametrize(
    ("before", "after", "groups"),
    [
        ([2, 3, 4], [6, 2, 2], [([0, 1], [0]), ([2], [1, 2])]),
        ([2, 3, 4, 1], [6, 2, 2], [([0, 1], [0]), ([2], [1, 2]), ([3], [])]),
        ([1, 6], [1, 1, 6], [([0], [0]), ([], [1]), ([1], [2])]),
        ([2, 3], [3, 2], [([0, 1], [0, 1])]),
        ([0, 3], [0, 5], None),
    ],
)
def test_grouped_dims(before: list[int], after: list[int], groups: Any) -> None:
    assert grouped_dims(before, after) == groups
