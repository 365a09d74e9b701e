"""Operators that draw random numbers: what they draw has its distribution, and a seed gives the same again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import stepwell
from tests.frontends.onnx.hazard_sides import N, f32
from tests.frontends.onnx.rule_harness import imported, node_model


@pytest.mark.parametrize(("operator", "mean", "deviation"), [
    ("RandomNormal", 3, 2), ("RandomNormalLike", 3, 2), ("RandomUniform", 3, 2 / 3**0.5),
    ("RandomUniformLike", 3, 2 / 3**0.5),
])  # fmt: skip
def test_random_numbers_without_a_seed(operator: str, mean: float, deviation: float) -> None:
    """Every call draws others, of the same distribution."""
    told = {"mean": 3.0, "scale": 2.0} if "Normal" in operator else {"low": 1.0, "high": 5.0}
    like = operator.endswith("Like")
    if not like:
        told |= {"shape": [4000]}
    made = node_model(operator, [np.zeros(4000, N)] if like else [], version=22, **told)
    compiled = stepwell.compile(made)
    first, second = (compiled(*([np.zeros(4000, N)] if like else [])) for _ in range(2))
    assert not np.array_equal(first, second)
    for drawn in (first, second):
        assert abs(drawn.mean() - mean) < 0.15
        assert abs(drawn.std() - deviation) < 0.15


def test_multinomial_draws_by_unnormalised_logarithms() -> None:
    x = np.log(np.array([[1, 3, 0.0001], [2, 2, 4]], N))
    drawn = stepwell.compile(node_model("Multinomial", [x], version=22, sample_size=4000))(x)
    assert (drawn.dtype, drawn.shape) == (np.int32, (2, 4000))
    for row, expected in zip(drawn, ([0.25, 0.75, 0], [0.25, 0.25, 0.5]), strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / 4000, expected, atol=0.04)


def bernoulli(p: Any, **told: Any) -> Any:
    return stepwell.compile(node_model("Bernoulli", [p], version=22, shapes={0: ["n"]}, **told))(p)


@pytest.mark.parametrize(
    ("told", "dtype"),
    [({}, N), ({"dtype": TensorProto.INT32}, np.int32), ({"dtype": TensorProto.BOOL}, bool),
     ({"dtype": TensorProto.DOUBLE}, np.float64)],
)  # fmt: skip
def test_bernoulli_draws_each_with_its_chance(told: dict[str, int], dtype: Any) -> None:
    """Never, always, and one in four: of 4000 that is 1000, give or take 27 (one standard deviation)."""
    p = np.repeat(f32(0, 1, 0.25), 4000)
    drawn = bernoulli(p, **told)
    assert (drawn.dtype, drawn.shape) == (dtype, p.shape)
    assert set(drawn.tolist()) == {0, 1}
    never, always, seldom = np.split(drawn.astype(N), 3)
    assert not never.any() and always.all()
    assert abs(seldom.mean() - 0.25) < 0.05


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_bernoulli_of_other_floats(dtype: Any) -> None:
    p = np.full(4000, 0.25, dtype)
    drawn = bernoulli(p)
    assert drawn.dtype == dtype
    assert abs(drawn.astype(N).mean() - 0.25) < 0.05


def test_bernoulli_with_a_seed_draws_the_same_again() -> None:
    p = np.full(1000, 0.5, N)
    first = bernoulli(p, seed=3.0)
    assert np.array_equal(first, bernoulli(p, seed=3.0))
    (interpreted,) = imported(node_model("Bernoulli", [p], version=22, seed=3.0)).run([p])
    assert np.array_equal(first, interpreted)
    assert not np.array_equal(first, bernoulli(p, seed=4.0))


def test_bernoulli_without_a_seed_draws_others() -> None:
    p = np.full(1000, 0.5, N)
    compiled = stepwell.compile(node_model("Bernoulli", [p], version=15))
    assert not np.array_equal(compiled(p), compiled(p))
