"""Pairs of programs that are timed in turns: both forms are made, agree, and differ where a rewrite was chosen."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import rewrites
from stepwell.dialects.tensor import KernelOp

PAIRS: dict[str, Callable[[], Any]] = {
    "products": functools.partial(rewrites.sibling_products, 4, 32, (64, 64)),
    "fewer products": functools.partial(rewrites.convolution, 16, 16, 10),
    "attention": functools.partial(rewrites.attention_joined, 32, 32),
    "layers": functools.partial(rewrites.layers_joined, 32, (16, 24, 16)),
    "bottleneck": functools.partial(rewrites.inverted_bottleneck, 1, 8, 16, 8, 8, 1),
    "pool": functools.partial(rewrites.pooled, 3, 8, 16, 3),
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrites, "ROUNDS", 1)
    monkeypatch.setattr(rewrites, "SECONDS", 0.001)


@pytest.mark.parametrize("build", PAIRS.values(), ids=list(PAIRS))
def test_both_forms_agree_and_are_timed(build: Callable[[], Any]) -> None:
    first, second, x = build()
    assert str(first) != str(second)
    assert min(rewrites.measure(first, second, x)) > 0


@pytest.mark.parametrize("name", ["attention", "layers"])
def test_kernels_of_the_same_rows_are_one(name: str) -> None:
    apart, joined, _ = PAIRS[name]()
    assert len(list(apart.walk_of(KernelOp))) > len(list(joined.walk_of(KernelOp))) == 1


def test_forms_that_do_not_agree_are_an_error() -> None:
    first, _, x = PAIRS["layers"]()
    second, _, _ = PAIRS["layers"]()  # other weights
    with pytest.raises(ValueError, match="do not compute the same"):
        rewrites.measure(first, second, x)


def test_the_table_has_a_line_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    few_rows = functools.partial(rewrites.layers_joined, 1, (1024, 1024, 16))
    monkeypatch.setattr(rewrites, "CASES", {**PAIRS, "layers of one row": few_rows})
    timed, same = rewrites.table("layers")
    assert timed.startswith("layers ") and timed.split()[2] == timed.split()[4] == "us"
    assert same == f"{'layers of one row':<56} not chosen: the same program"


@pytest.mark.parametrize("words", ["fewer products", "attention joined", "MLP joined", "inverted", "rows of a pool"])
def test_words_choose_shapes(words: str) -> None:
    names = [name for name in rewrites.CASES if words in name]
    assert len(names) >= 3 and len(set(names)) == len(names)


def test_the_shape_of_a_pair_is_that_of_its_name() -> None:
    (shape,) = {x.shape for *_, x in [rewrites.layers_joined(3, (5, 7, 2))]}
    assert shape == (3, 5) and rewrites.normal(2, 3).dtype == np.float32
