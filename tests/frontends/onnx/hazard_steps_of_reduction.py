"""Steps of reductions: which version takes the axes from where, and what it does without any, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.frontends.onnx.hazard_sides import Side, X, at, f32, ints

BOTH_SIGNS = f32([1, -2, 3], [-4, 5, -6])
POSITIVE = f32([1, 2, 4], [8, 16, 32])

# Operator -> what it is of, its meaning over axes, and over none: what is done before and behind the sum stays.
OTHERS: dict[str, tuple[Any, Callable[[Any, int | None], Any], Callable[[Any], Any]]] = {
    "ReduceL1": (BOTH_SIGNS, lambda x, axis: np.abs(x).sum(axis, keepdims=True), np.abs),
    "ReduceL2": (BOTH_SIGNS, lambda x, axis: np.sqrt((x * x).sum(axis, keepdims=True)), np.abs),
    "ReduceProd": (BOTH_SIGNS, lambda x, axis: x.prod(axis, keepdims=True), np.array),
    "ReduceSumSquare": (BOTH_SIGNS, lambda x, axis: (x * x).sum(axis, keepdims=True), np.square),
    "ReduceLogSum": (POSITIVE, lambda x, axis: np.log(x.sum(axis, keepdims=True)), np.log),
    "ReduceLogSumExp": (BOTH_SIGNS, lambda x, axis: np.log(np.exp(x).sum(axis, keepdims=True)), np.array),
}


def axes_move(x: Any, over: Callable[[Any, int | None], Any], over_none: Callable[[Any], Any]) -> tuple[Side, ...]:
    """The axes from an attribute to an input, of which an empty one may mean none."""
    return (
        at(13, over(x, 1), x, axes=[-1]),
        at(18, over(x, 1), x, ints(-1)),
        at(13, over(x, None), x),
        at(18, over(x, None), x, ints()),
        at(18, over_none(x), x, noop_with_empty_axes=1),
        at(18, "axes", x, axes=[1]),
        at(13, "noop_with_empty_axes", x, noop_with_empty_axes=1),
    )


STEPS: dict[str, tuple[Side, ...]] = {
    "ReduceSum 11 -> 13: the axes become an input, none may mean nothing": (
        at(11, X.sum(1, keepdims=True), X, axes=[1]),
        at(13, X.sum(1, keepdims=True), X, ints(1)),
        at(13, X.sum(keepdims=True), X, ints()),
        at(13, X, X, ints(), noop_with_empty_axes=1),
        at(13, "axes", X, axes=[1]),
    ),
    "ReduceMax 13 -> 18: the axes become an input, none may mean nothing": (
        at(13, X.max(1, keepdims=True), X, axes=[1]),
        at(18, X.max(1, keepdims=True), X, ints(1)),
        at(18, X.max(keepdims=True), X, ints()),
        at(18, X, X, ints(), noop_with_empty_axes=1),
    ),
    "ReduceMean 13 -> 18: the axes become an input, none may mean nothing": (
        at(13, X.mean(1), X, axes=[-1], keepdims=0),
        at(18, X.mean(1), X, ints(-1), keepdims=0),
        at(18, X, X, noop_with_empty_axes=1),
    ),
    "ReduceMin 13 -> 18: the axes become an input, none may mean nothing": (
        at(13, X.min(1, keepdims=True), X, axes=[1]),
        at(18, X.min(1, keepdims=True), X, ints(1)),
        at(18, X, X, noop_with_empty_axes=1),
    ),
    "ReduceMax 18 -> 20: bools": (
        at(18, f32([2], [5]), X, ints(1)),
        at(20, np.array([True, False]), np.array([[True, False], [False, False]]), ints(1), keepdims=0),
    ),
    "ReduceMin 18 -> 20: bools": (
        at(18, f32([0], [3]), X, ints(1)),
        at(20, np.array([False, True]), np.array([[True, False], [True, True]]), ints(1), keepdims=0),
    ),
    **{f"{operator} 13 -> 18: the axes become an input, none may mean nothing": axes_move(*meaning)
       for operator, meaning in OTHERS.items()},
}  # fmt: skip
