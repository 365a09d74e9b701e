"""Random numbers: their bits at every landing, and their distributions.

Statistical tests have fixed seeds: they fail always or never. The thresholds are those that a perfect generator exceeds
for one seed in a million."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.random import RandomOp
from stepwell.dialects.random_streams import mt_words, philox
from stepwell.errors import VerifyError
from stepwell.ir.dims import Dim
from stepwell.ir.types import BF16, F16, F32, F64, Type
from tests.lowering.to_tensor.descent import M, N, check, counted, graph_module, tensor

ONE_IN_A_MILLION = 4.9  # standard deviations of a normal variable


def random(*dims: Dim, element: Type = F32, distribution: str = "uniform", **fields: Any) -> Any:
    return RandomOp(distribution=distribution, result_types=[tensor(*dims, element=element)], **fields)


def drawn(count: int, threads: int = 1, **fields: Any) -> Any:
    """`count` numbers, as machine code draws them."""
    module = graph_module([tensor(N)], lambda x: random(N, **fields))
    return stepwell.compile(module, threads=threads)(np.zeros(count, np.float32))


def test_philox_gives_the_words_that_its_authors_publish() -> None:
    assert [f"{word:08x}" for word in philox(0, 1)[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@pytest.mark.parametrize("seed", [0, 1, 0xDEADBEEF, 0xFFFFFFFF])
def test_mt19937_gives_the_words_of_numpy(seed: int) -> None:
    expected = np.random.RandomState(seed).randint(0, 1 << 32, 2000, np.uint32)
    np.testing.assert_array_equal(mt_words(seed, 2000), expected)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("element", [F16, BF16, F32, F64])
@pytest.mark.parametrize("sizes", [(3, 5), (0, 5), (1, 1)])
def test_at_every_landing(sizes: Sequence[int], element: Type, distribution: str) -> None:
    rounding = {str(F64): 1e-14, str(F32): 4e-6, str(F16): 2e-3, str(BF16): 1e-2}[str(element)]
    check(
        [tensor(N, M)], lambda x: random(N, 2, M, element=element, distribution=distribution, seed=7), counted(*sizes),
        tolerance=rounding if distribution == "normal" else 0,
    )  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 311, 312, 313, 700])
def test_mt19937_at_every_landing(count: int) -> None:
    check([tensor(N)], lambda x: random(N, element=F64, generator="mt19937", seed=3), counted(count))


@pytest.mark.parametrize("count", [1, 312, 1000])
def test_mt19937_is_the_stream_of_numpy(count: int) -> None:
    made = drawn(count, element=F64, generator="mt19937", seed=12345)
    np.testing.assert_array_equal(made, np.random.RandomState(12345).random_sample(count))


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_the_same_bits_at_any_number_of_threads(distribution: str) -> None:
    one, two = (drawn(100_003, threads, distribution=distribution, seed=11) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_seeds_are_reproducible_and_differ() -> None:
    np.testing.assert_array_equal(drawn(1000, seed=1), drawn(1000, seed=1))
    for other in (2, 1 << 32 | 1):
        assert np.mean(drawn(1000, seed=1) == drawn(1000, seed=other)) < 0.01


def test_without_a_seed_runs_and_ops_differ() -> None:
    module = graph_module([tensor(N)], lambda x: [random(N).result, random(N).result])
    model = stepwell.compile(module)
    first, second = model(np.zeros(1000, np.float32))
    again, _ = model(np.zeros(1000, np.float32))
    assert not np.array_equal(first, second) and not np.array_equal(first, again)


def chi_square(counts: Any, expected: float) -> float:
    """How many standard deviations the statistic is from its mean, by the approximation of Wilson and Hilferty."""
    freedom = len(counts) - 1
    ratio = float(((counts - expected) ** 2).sum()) / expected / freedom
    return float(ratio ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize("element", [F32, F64])
def test_uniform_numbers_fill_their_bins_evenly(element: Type, seed: int) -> None:
    count, bins = 1 << 17, 256
    made = np.asarray(drawn(count, element=element, seed=seed), np.float64)
    assert made.min() >= 0 and made.max() < 1
    assert abs(chi_square(np.histogram(made, bins, (0, 1))[0], count / bins)) < ONE_IN_A_MILLION
    pairs = np.histogram2d(made[0::2], made[1::2], 16, [(0, 1), (0, 1)])[0].reshape(-1)
    assert abs(chi_square(pairs, count / 2 / len(pairs))) < ONE_IN_A_MILLION


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize("element", [F32, F64])
def test_normal_numbers_have_their_moments_and_tails(element: Type, seed: int) -> None:
    count = 1 << 17
    made = np.asarray(drawn(count, element=element, distribution="normal", seed=seed), np.float64)
    # The moments of order k have the variance (E x^2k - (E x^k)^2) / n.
    for order, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((made**order).mean() - mean) < ONE_IN_A_MILLION * math.sqrt(variance / count), order
    edges = np.array([-np.inf, *np.arange(-3, 3.1, 0.25), np.inf])
    below = np.array([0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges])
    expected = np.diff(below) * count
    counts = np.histogram(np.clip(made, -9, 9), np.clip(edges, -10, 10))[0]
    scaled = (counts - expected) / np.sqrt(expected)
    assert abs(chi_square(scaled + 1, 1.0)) < ONE_IN_A_MILLION
    assert abs(np.corrcoef(made[:-1], made[1:])[0, 1]) < ONE_IN_A_MILLION / math.sqrt(count)


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"element": F32, "generator": "mt19937", "seed": 1}, "needs a seed"),
        ({"element": F64, "generator": "mt19937", "distribution": "normal", "seed": 1}, "uniform numbers of f64"),
        ({"element": F64, "generator": "mt19937"}, "needs a seed"),
    ],
)
def test_what_a_generator_cannot_make(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(VerifyError, match=reason):
        graph_module([tensor(N)], lambda x: random(N, **fields))
