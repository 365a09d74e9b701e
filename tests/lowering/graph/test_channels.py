"""Scales and shifts per channel: the ops before, those that canonicalisation leaves, and the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.contraction import MatmulOp
from stepwell.dialects.graph.convolution import ConvOp, ConvTransposeOp
from stepwell.dialects.graph.elementwise import AddOp, MulOp, ReluOp
from stepwell.dialects.graph.normalization import BatchNormOp
from stepwell.ir.core import Operation, Value
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.graph.canonicalize import Canonicalize
from tests.lowering.to_tensor.descent import Build, constant, f32, graph_module, main, types_of

RANDOM = np.random.default_rng(7)
IMAGE = RANDOM.standard_normal((2, 4, 6, 6)).astype(np.float32)
ROWS = RANDOM.standard_normal((5, 4)).astype(np.float32)


def numbers(*shape: int, dtype: Any = np.float32) -> Value:
    """A constant between 0.5 and 1.5."""
    return constant((RANDOM.random(shape) + 0.5).astype(dtype))


def conv(x: Value, channels: int, groups: int = 1, bias: bool = False, weights: Value | None = None) -> Value:
    w = weights or numbers(channels, 4 // groups, 3, 3)
    b = numbers(channels) if bias else None
    return ConvOp(x, w, b, strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1], groups=groups).result


def transposed(x: Value, channels: int, groups: int) -> Value:
    return ConvTransposeOp(
        x, numbers(4, channels // groups, 3, 3), strides=[2, 2], dilations=[1, 1], pads=[0, 0, 0, 0],
        output_padding=[0, 0], groups=groups,
    ).result  # fmt: skip


def norm(x: Value, channels: int) -> Operation:
    return BatchNormOp(x, *(numbers(channels) for _ in range(4)), epsilon=1e-5)


def plus(x: Value, *shape: int) -> Operation:
    return AddOp(x, numbers(*shape))


def times(x: Value, *shape: int) -> Operation:
    return MulOp(numbers(*shape), x)


def simplified(build: Build, *inputs: Any) -> list[str]:
    """The kinds of ops left, constants aside, after a check that the results stayed."""
    module = graph_module(types_of(inputs), build)
    expected = run_function(main(module), inputs)
    Canonicalize().run(module, PassContext())
    verify(module)
    for one, other in zip(run_function(main(module), inputs), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    return [op.op_name for op in module.walk() if op.dialect == "graph" and op.op_name != "graph.constant"]


@pytest.mark.parametrize(
    ("build", "x", "left"),
    [
        (lambda x: norm(conv(x, 3), 3), IMAGE, ["graph.conv"]),
        (lambda x: norm(conv(x, 3, bias=True), 3), IMAGE, ["graph.conv"]),
        (lambda x: norm(conv(x, 8, groups=4, bias=True), 8), IMAGE, ["graph.conv"]),
        (lambda x: norm(transposed(x, 3, 1), 3), IMAGE, ["graph.conv_transpose"]),
        (lambda x: norm(transposed(x, 6, 2), 6), IMAGE, ["graph.conv_transpose"]),
        (lambda x: norm(MatmulOp(x, numbers(4, 3)).result, 3), ROWS, ["graph.matmul", "graph.add"]),
        (lambda x: norm(plus(MatmulOp(x, numbers(4, 3)).result, 3).results[0], 3), ROWS, ["graph.matmul", "graph.add"]),
        (lambda x: times(plus(conv(x, 3), 3, 1, 1).results[0], 1, 3, 1, 1), IMAGE, ["graph.conv"]),
        (lambda x: times(conv(x, 3), 1), IMAGE, ["graph.conv"]),
        (lambda x: times(MatmulOp(x, numbers(4, 3)).result, 3), ROWS, ["graph.matmul"]),
    ],
)
def test_what_is_done_to_channels_goes_into_the_weights(build: Build, x: Any, left: list[str]) -> None:
    assert simplified(build, x) == left


def shared_weights(x: Value) -> list[Value]:
    w = numbers(3, 4, 3, 3)
    return [norm(conv(x, 3, weights=w), 3).results[0], conv(x, 3, weights=w)]


def second_reader(x: Value) -> list[Value]:
    made = conv(x, 3)
    return [made, norm(made, 3).results[0]]


@pytest.mark.parametrize(
    ("build", "inputs", "left"),
    [
        (shared_weights, [IMAGE], ["graph.conv", "graph.batch_norm", "graph.conv"]),
        (second_reader, [IMAGE], ["graph.conv", "graph.batch_norm"]),
        (lambda x: norm(ReluOp(conv(x, 3)).result, 3), [IMAGE], ["graph.conv", "graph.relu", "graph.batch_norm"]),
        (lambda x, w: norm(conv(x, 3, weights=w), 3), [IMAGE, np.ones((3, 4, 3, 3), np.float32)],
         ["graph.conv", "graph.batch_norm"]),
        (lambda x: times(conv(x, 3), 1, 1, 6, 6), [IMAGE], ["graph.conv", "graph.mul"]),
        (lambda x: times(conv(x, 1), 2, 3, 1, 1), [IMAGE], ["graph.conv", "graph.mul"]),
        (lambda x: times(MatmulOp(x, numbers(4, 3)).result, 5, 1), [ROWS], ["graph.matmul", "graph.mul"]),
    ],
)  # fmt: skip
def test_what_others_read_or_differs_within_a_channel_stays(build: Build, inputs: Any, left: list[str]) -> None:
    assert simplified(build, *inputs) == left


def test_infinite_scales_stay_outside() -> None:
    x = np.zeros((2, 4), np.float32)
    module = graph_module(types_of([x]), lambda x: MulOp(MatmulOp(x, numbers(4, 1)).result, constant(f32([np.inf]))))
    Canonicalize().run(module, PassContext())
    assert np.isnan(run_function(main(module), [x])[0]).all()
