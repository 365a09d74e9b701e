"""Ops that move, index, select and resample data: input shapes to result types, misfits to messages, folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph import generate, indexing, movement, resize, sampling, scatter, selection, shape
from stepwell.dialects.graph.base import ConstantOp, content, shape_of
from stepwell.dialects.graph.slicing import slice_bounds
from stepwell.dialects.graph.symbols import fresh_dim_scope
from stepwell.errors import IRError
from stepwell.ir.attributes import ElementsAttr, elements
from stepwell.ir.core import Block, Operation, Value
from stepwell.ir.dims import Dim, DimExpr, evaluate, parse_dim, symbol
from stepwell.ir.interpreter import Frame
from stepwell.ir.types import F32, I1, SI64, TensorType, Type

N, M, H = symbol("n"), symbol("m"), symbol("h")


def tensor(*dims: Dim, element: Type = F32) -> Value:
    return Block([TensorType(dims, element)]).arguments[0]


def index(*dims: Dim) -> Value:
    return tensor(*dims, element=SI64)


def ints(*values: int) -> Value:
    return ConstantOp(value=elements(np.array(values, np.int64))).result


def scalar(value: int) -> Value:
    return ConstantOp(value=elements(np.array(value))).result


def floats(*values: float) -> Value:
    return ConstantOp(value=elements(np.array(values, np.float32))).result


def sizes_of(*dims: Dim) -> Value:
    """A list that holds these sizes."""
    return shape.ShapeOp(tensor(*dims), start=0, end=len(dims)).result


Make = Callable[[], Operation]

TYPES: dict[str, tuple[Make, str]] = {
    "reshape": (lambda: shape.ReshapeOp(tensor(N, 6), sizes_of(N, 2, 3)), "n 2 3"),
    "reshape by -1": (lambda: shape.ReshapeOp(tensor(N, M, 12), ints(0, -1, 4)), "n 3*m 4"),
    "reshape of a batch that may be 0": (lambda: shape.ReshapeOp(tensor(N, 0), ints(0, -1)), "n 0"),
    "reshape, sizes that do not divide": (lambda: shape.ReshapeOp(tensor(N, 3), ints(2, -1)), "2 n + n//2"),
    "reshape, zeros kept": (lambda: shape.ReshapeOp(tensor(0, 5), ints(5, 0), allow_zero=True), "5 0"),
    "reshape by data": (lambda: shape.ReshapeOp(tensor(N), index(2)), "reshape_0 reshape_1"),
    "expand": (lambda: shape.ExpandOp(tensor(N, 1), sizes_of(M, 1, 4)), "m n 4"),
    "expand by data": (lambda: shape.ExpandOp(tensor(3, 1), index(3)), "expand_0 3 expand_1"),
    "shape": (lambda: shape.ShapeOp(tensor(N, M, 3), start=1, end=3), "2"),
    "transpose": (lambda: movement.TransposeOp(tensor(N, M, 3), permutation=[2, 0, 1]), "3 n m"),
    "concat": (lambda: movement.ConcatOp([tensor(N, M), tensor(N, 2), tensor(N, N)], axis=1), "n m + n + 2"),
    "concat learns a size": (lambda: movement.ConcatOp([tensor(N, M), tensor(4, M)], axis=1), "4 2*m"),
    "split by data": (lambda: movement.SplitOp(tensor(N, 6), index(3), axis=0), "split_0 6"),
    "slice": (lambda: movement.SliceOp(tensor(N, M), ints(1), ints(-1), axes=[1]), "n max(2, m) - 2"),
    "slice by sizes": (lambda: movement.SliceOp(tensor(N + M), sizes_of(N), sizes_of(N + M), axes=[0]), "m"),
    "slice by data": (lambda: movement.SliceOp(tensor(N, M), index(1), index(1), axes=[1]), "n slice_0"),
    "pad": (lambda: movement.PadOp(tensor(N, M), ints(0, 1, 2, -1)), "n + 2 m"),
    "tile": (lambda: movement.TileOp(tensor(N, 3), sizes_of(2, M)), "2*n 3*m"),
    "gather": (lambda: indexing.GatherOp(tensor(N, 5, M), index(2, H), axis=1), "n 2 h m"),
    "gather one": (lambda: indexing.GatherOp(tensor(N, 5), scalar(4), axis=1), "n"),
    "gather elements": (lambda: indexing.GatherElementsOp(tensor(N, 5), index(M, 5), axis=0), "m 5"),
    "gather nd": (lambda: indexing.GatherNDOp(tensor(N, 3, 4, M), index(N, H, 2), batch_dims=1), "n h m"),
    "scatter nd": (lambda: scatter.ScatterNDOp(tensor(N, M), index(H, 1), tensor(H, M)), "n m"),
    "one-hot": (lambda: indexing.OneHotOp(index(N), scalar(7), tensor(2), axis=0), "7 n"),
    "range": (lambda: generate.RangeOp(scalar(1), shape.SizeOp(tensor(N)).result, scalar(2)), "n//2"),
    "range by data": (lambda: generate.RangeOp(*(tensor() for _ in range(3))), "range_0"),
    "non-zero": (lambda: selection.NonZeroOp(tensor(N, M)), "2 non_zero_0"),
    "non-zero of a constant": (lambda: selection.NonZeroOp(floats(0, 3, 4)), "1 2"),
    "unique": (lambda: selection.UniqueOp(tensor(N, M), axis=1), "n unique_0"),
    "top k": (lambda: selection.TopKOp(tensor(N, M), sizes_of(H), axis=1), "n h"),
    "suppression": (lambda: selection.NonMaxSuppressionOp(tensor(N, H, 4), tensor(N, 2, H)), "non_max_suppression_0 3"),
    "resize by scales": (
        lambda: resize.ResizeOp(tensor(N, H), None, floats(0.7, 2), None, axes=[1, 0], mode="linear",
                                coordinates="half_pixel"), "2*n (7*h)//10"),
    "resize to sizes": (
        lambda: resize.ResizeOp(tensor(N, H), sizes_of(M), axes=[1], mode="linear", coordinates="half_pixel"), "n m"),
    "resize, aspect kept": (
        lambda: resize.ResizeOp(tensor(4, 6), ints(8, 8), axes=[0, 1], mode="linear", coordinates="half_pixel",
                                aspect="not_larger"), "5 8"),
    "grid sample": (lambda: sampling.GridSampleOp(tensor(N, 3, 4, 5), tensor(N, H, 7, 2), mode="linear"), "n 3 h 7"),
    "affine grid": (lambda: sampling.AffineGridOp(tensor(N, 2, 3), sizes_of(N, 3, H, 5)), "n h 5 2"),
    "regions": (
        lambda: sampling.RoiAlignOp(tensor(N, 3, H, H), tensor(M, 4), index(M), height=2, width=5), "m 3 2 5"),
    "columns": (
        lambda: sampling.ColToImOp(tensor(N, 12, M), ints(6, 7), ints(2, 3), strides=[1, 1], pads=[0] * 4,
                                   dilations=[1, 1]), "n 2 6 7"),
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_type(name: str) -> None:
    make, expected = TYPES[name]
    with fresh_dim_scope():
        op = make()
    shown = " ".join(str(dim) for dim in shape_of(op.results[0]))
    assert shown == expected
    assert op.infer_types() == [result.type for result in op.results]


MISFITS: dict[str, tuple[Make, str]] = {
    "reshape": (lambda: shape.ReshapeOp(tensor(2, 3), ints(4)), "6 elements"),
    "reshape, symbolic": (lambda: shape.ReshapeOp.to(tensor(N + 1), [N + 2]), "elements"),
    "reshape to an unknown rank": (lambda: shape.ReshapeOp(tensor(6), index(N)), "ranks must be known"),
    "reshape by a scalar": (lambda: shape.ReshapeOp(tensor(6), index()), "must be a list"),
    "reshape by -2": (lambda: shape.ReshapeOp(tensor(6), ints(-2, -3)), "negative"),
    "reshape of nothing to -1": (lambda: shape.ReshapeOp(tensor(0), ints(0, 0, -1), allow_zero=True), "anything"),
    "concat of nothing": (lambda: movement.ConcatOp([], axis=0), "nothing"),
    "concat of ranks": (lambda: movement.ConcatOp([tensor(2), tensor(2, 2)], axis=0), "differ in rank"),
    "concat of sizes": (lambda: movement.ConcatOp([tensor(2, N), tensor(2, N + 1)], axis=0), "sizes n and n \\+ 1"),
    "concat of types": (lambda: movement.ConcatOp([tensor(2), index(2)], axis=0), "element types"),
    "split": (lambda: movement.SplitOp.into(tensor(N), [N, 1], 0), "cannot be split"),
    "slice twice": (lambda: movement.SliceOp(tensor(2, 2), ints(0, 0), ints(1, 1), axes=[1, 1]), "ascending"),
    "slice lists": (lambda: movement.SliceOp(tensor(2), ints(0), ints(1, 1), axes=[0]), "ends must have 1"),
    "pad": (lambda: movement.PadOp(tensor(2), ints(-2, -1)), "leaves axis 0 of size 2 with -1"),
    "pad value": (lambda: movement.PadOp(tensor(2), ints(0, 1), tensor(2)), "must be a scalar"),
    "pad type": (lambda: movement.PadOp(tensor(2), ints(0, 1), index()), "element types"),
    "tile": (lambda: movement.TileOp(tensor(2), ints(-1)), "must not be negative"),
    "gather": (lambda: indexing.GatherOp(tensor(2), ints(0, -3), axis=0), "index -3"),
    "gather a scalar": (lambda: indexing.GatherOp(tensor(), ints(0), axis=0), "axis 0"),
    "gather elements": (lambda: indexing.GatherElementsOp(tensor(2, 2), index(2, 3), axis=0), "reach beyond"),
    "gather nd": (lambda: indexing.GatherNDOp(tensor(2), index(1, 2)), "exceed rank 1"),
    "gather nd, tuples": (lambda: indexing.GatherNDOp(tensor(2), index(1, N)), "must be known"),
    "scatter": (lambda: scatter.ScatterElementsOp(tensor(2), index(2), tensor(3), axis=0), "sizes 2 and 3"),
    "scatter nd": (lambda: scatter.ScatterNDOp(tensor(2, 3), index(1, 1), tensor(1, 4)), "sizes 3 and 4"),
    "cache": (lambda: scatter.TensorScatterOp(tensor(2, 3), tensor(2, 3), axis=0), "batch"),
    "one-hot": (lambda: indexing.OneHotOp(index(2), scalar(3), tensor(3), axis=0), "values must have 2"),
    "range": (lambda: generate.RangeOp(scalar(0), scalar(2), tensor()), "element types"),
    "trilu": (lambda: generate.TriluOp(tensor(2), upper=True), "no matrix"),
    "top k": (lambda: selection.TopKOp(tensor(2), ints(-1), axis=0), "top -1"),
    "boxes": (lambda: selection.NonMaxSuppressionOp(tensor(1, 2, 5), tensor(1, 1, 2)), "boxes must be"),
    "resize by both": (
        lambda: resize.ResizeOp(tensor(2), ints(2), floats(1), axes=[0], mode="linear", coordinates="asymmetric"),
        "either sizes or scales"),
    "resize without region": (
        lambda: resize.ResizeOp(tensor(2), ints(2), axes=[0], mode="linear", coordinates="tf_crop_and_resize"),
        "needs a region"),
    "grid": (lambda: sampling.GridSampleOp(tensor(1, 1, 2, 2), tensor(1, 2, 2, 3), mode="linear"), "does not address"),
    "columns": (
        lambda: sampling.ColToImOp(tensor(1, 5, 2), ints(3), ints(2), strides=[1], pads=[0, 0], dilations=[1]),
        "whole blocks"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_misfit(name: str) -> None:
    make, words = MISFITS[name]
    with pytest.raises(IRError, match=words):
        make()


def test_sizes_a_reshape_cannot_have_fail_verification() -> None:
    op = shape.ReshapeOp(tensor(2, 3), result_types=[TensorType((5,), F32)])
    with pytest.raises(IRError, match="6 elements"):
        op.verify_op()


CONTENTS: dict[str, tuple[Make, str | None]] = {
    "shape": (lambda: shape.ShapeOp(tensor(N, 3), start=0, end=2), "n 3"),
    "size": (lambda: shape.SizeOp(tensor(N, 3)), "3*n"),
    "reshape": (lambda: shape.ReshapeOp.to(shape.SizeOp(tensor(N)).result, [1]), "n"),
    "gather": (lambda: indexing.GatherOp(sizes_of(N, M, 3), ints(-1, 0), axis=0), "3 n"),
    "slice": (lambda: movement.SliceOp(sizes_of(N, M, 3), ints(-2), ints(99), axes=[0]), "m 3"),
    "reversed": (lambda: movement.SliceOp(sizes_of(N, M, 3), ints(2), ints(-9), ints(-1), axes=[0]), "3 m n"),
    "concat": (lambda: movement.ConcatOp([sizes_of(N), ints(2)], axis=0), "n 2"),
    "tile": (lambda: movement.TileOp(sizes_of(N), ints(2)), "n n"),
    "expand": (lambda: shape.ExpandOp.to(shape.SizeOp(tensor(N)).result, [2]), "n n"),
    "range": (lambda: generate.RangeOp(shape.SizeOp(tensor(N)).result, shape.SizeOp(tensor(N + 2)).result, scalar(1)),
              "n n + 1"),
    "scatter": (lambda: scatter.ScatterNDOp(sizes_of(N, 3), index_constant([[1]]), sizes_of(M)), "n m"),
    "data": (lambda: movement.ConcatOp([sizes_of(N), index(1)], axis=0), None),
}  # fmt: skip


def index_constant(values: Any) -> Value:
    return ConstantOp(value=elements(np.array(values, np.int64))).result


@pytest.mark.parametrize("name", CONTENTS)
def test_content(name: str) -> None:
    make, expected = CONTENTS[name]
    found = content(make().results[0])
    want = None if expected is None else [parse_dim(part) for part in expected.replace(" + ", "+").split()]
    assert (None if found is None else list(found)) == want


def test_identities_fold_to_their_operand() -> None:
    x = tensor(N, 3)
    for op in (
        shape.ReshapeOp.to(x, [N, 3]),
        shape.ExpandOp.to(x, [1, 3]),
        movement.TransposeOp(x, permutation=[0, 1]),
        movement.ConcatOp([x], axis=0),
        movement.SplitOp.into(x, [3], 1),
        movement.SliceOp(x, ints(0), ints(1 << 40), axes=[0]),
        movement.PadOp(x, ints(0, 0, 0, 0)),
        movement.TileOp(x, ints(1, 1)),
    ):
        assert op.fold([None] * len(op.operands)) == [x]


def test_a_part_whose_size_is_asked_for_is_no_identity() -> None:
    op = movement.SplitOp.into(tensor(N, 3), [3], 0)
    assert op.fold([None]) is None


def test_known_sizes_fold_to_constants() -> None:
    (found,) = shape.ShapeOp(tensor(N, 3, 4), start=1, end=3).fold([None]) or [None]
    assert isinstance(found, ElementsAttr)
    assert found.numpy().tolist() == [3, 4]
    assert shape.ShapeOp(tensor(N, 3), start=0, end=2).fold([None]) is None


def test_broadcasts_do_not_fold_to_large_constants() -> None:
    one = elements(np.ones((), np.float32))
    assert shape.ExpandOp.to(ConstantOp(value=one).result, [1 << 10]).fold([one]) is None
    (small,) = shape.ExpandOp.to(ConstantOp(value=one).result, [4]).fold([one]) or [None]
    assert isinstance(small, ElementsAttr)


def test_positions_of_a_broadcast_are_all() -> None:
    ones = shape.ExpandOp.to(ConstantOp(value=elements(np.ones((), np.bool_))).result, [N, M]).result
    assert shape_of(selection.NonZeroOp(ones).result) == (2, N * M)


def test_symbols_born_at_run_time_are_bound_for_later_ops() -> None:
    block = Block([TensorType((4,), F32)])
    found = selection.NonZeroOp(block.arguments[0])
    (_, count) = shape_of(found.result)
    eye = generate.EyeOp(result_types=[TensorType((count, 2), I1)])
    for op in (found, eye):
        block.append(op)
    frame = Frame()
    frame.set(block.arguments[0], np.array([0, 1, 0, 2], np.float32))
    for op in block:
        frame.run_op(op)
    assert frame.get(eye.result).shape == (2, 2)


def test_sizes_come_from_the_arguments_of_the_block() -> None:
    block = Block([TensorType((N, 8 * H), F32), TensorType((6,), F32)])
    op = shape.ReshapeOp(block.arguments[1], result_types=[TensorType((N, H), F32)])
    block.append(op)
    frame = Frame()
    frame.set(block.arguments[0], np.zeros((3, 16), np.float32))
    frame.set(block.arguments[1], np.zeros(6, np.float32))
    frame.run_op(op)
    assert frame.get(op.result).shape == (3, 2)


def test_an_unknown_size_is_an_error() -> None:
    op = generate.EyeOp(result_types=[TensorType((N, 2), F32)])
    with pytest.raises(IRError):
        op.interpret(Frame())


@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_symbolic_slices_agree_with_known_ones(step: int) -> None:
    """Bounds as expressions, evaluated, are the bounds of the evaluated expressions."""
    for size in range(6):
        for first in range(-7, 8, 2):
            for end in (N, N - 1, N - 3, 2 * N - 5, M, -1, 4):
                values = {"n": size, "m": 3}
                known = slice_bounds(size, first, evaluate(end, values), step)
                found = [evaluate(dim, values) for dim in slice_bounds(N, first, end, step)]
                assert found[1] == known[1]
                assert found[0] == known[0] or known[1] == 0


def test_dims_stay_expressions() -> None:
    op = resize.ResizeOp(tensor(1, H), None, floats(1, 0.5), axes=[0, 1], mode="nearest", coordinates="asymmetric")
    dim = shape_of(op.result)[1]
    assert isinstance(dim, DimExpr)
    assert [evaluate(dim, {"h": h}) for h in (0, 1, 2, 7)] == [0, 0, 1, 3]
