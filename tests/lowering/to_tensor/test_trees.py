"""Trees, tables and pairwise coupling: the same at every landing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.dialects.graph.coupling import PairwiseCouplingOp
from stepwell.dialects.graph.logic import CompareOp
from stepwell.dialects.graph.trees import LookupOp, TreeEnsembleOp
from stepwell.errors import IRError, PassError
from stepwell.ir.types import F16, F32, F64, SI32, SI64, UI8, StringType, Type, numpy_dtype
from tests.lowering.to_tensor.descent import N, check, constant, f32, graph_module, tensor


def table(modes: list[int], values: list[float], dtype: Any = np.float32) -> Any:
    """A chain of nodes over two features: each leads to its own leaf, else on to the next one."""
    count = len(modes)
    leaves = count + 1
    children = [(k, k) for k in range(leaves)] + [(leaves + k + 1 if k < count - 1 else count, k) for k in range(count)]
    arrays = [
        np.array([0] * leaves + [k % 2 for k in range(count)], np.int32), np.array([0] * leaves + modes, np.uint8),
        np.array([0.0] * leaves + values).astype(dtype), np.array(children, np.int32),
        np.array([False] * leaves + [k % 2 == 1 for k in range(count)]),
        np.arange(2.0 * leaves).reshape(leaves, 2).astype(dtype), np.array([leaves, leaves + count - 1, 0], np.int32),
    ]  # fmt: skip
    return [constant(array) for array in arrays]


X = f32([[0.5, 1], [1, 0.5], [2, 2], [np.nan, 3], [0, np.nan], [-1, 7]])


@pytest.mark.parametrize("aggregate", ["sum", "mean", "min", "max"])
@pytest.mark.parametrize("rows", [0, 1, 6])
@pytest.mark.parametrize("modes", [[0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_trees(modes: list[int], rows: int, aggregate: str) -> None:
    def build(x: Any) -> Any:
        arrays = table(modes, [0.5, 1, 2, 0, 1, 2][: len(modes)])
        return TreeEnsembleOp(x, *arrays, depth=len(modes), aggregate=aggregate)

    check([tensor(N, 2)], build, X[:rows], tolerance=1e-6)


@pytest.mark.parametrize("element", [F16, F64])
def test_types_of_trees(element: Type) -> None:
    dtype = numpy_dtype(element)

    def build(x: Any) -> Any:
        return TreeEnsembleOp(x, *table([0, 1], [0.5, 1], dtype), depth=2, aggregate="mean")

    check([tensor(N, 2, element=element)], build, X.astype(dtype), tolerance=1e-3 if element is F16 else 1e-14)


@pytest.mark.parametrize("keys", [[], [3], [1, 3], [-2, 1, 3, 9, 100]])
@pytest.mark.parametrize("element", [SI64, SI32, UI8, F32])
def test_tables(element: Type, keys: list[int]) -> None:
    dtype = numpy_dtype(element)
    known = [key for key in keys if key >= 0 or element is not UI8]
    asked = np.array([0, 1, 2, 3, 4, 9, 100, 101, 200], dtype)

    def build(x: Any) -> Any:
        values = np.arange(len(known), dtype=np.float32) + 0.5
        return LookupOp(x, constant(np.array(known, dtype)), constant(values), constant(np.float32(-1)))

    check([tensor(N, element=element)], build, asked)


def test_nan_is_a_key() -> None:
    def build(x: Any) -> Any:
        keys, values = constant(f32([-np.inf, 2, np.nan])), constant(np.array([7, 8, 9]))
        return LookupOp(x, keys, values, constant(np.array(0)))

    check([tensor(N)], build, f32([np.nan, 2, -np.inf, np.inf, 0]))


@pytest.mark.parametrize("keys", [[], ["b"], ["", "a", "c", "zz"]])
def test_tables_of_strings(keys: list[str]) -> None:
    """Strings of other constants, of none, and the keys themselves."""

    def build(x: Any) -> Any:
        texts = np.array(keys, object)
        values = np.arange(len(keys), dtype=np.float32) + 0.5
        found = LookupOp(x, constant(texts), constant(values), constant(np.float32(-1))).result
        other = CompareOp(x, constant(np.array(["q", "b"], object)), predicate="eq")
        return [found, other.result]

    asked = np.array([["q", "a"], ["c", "?"], ["", "zz"], ["b", "zzz"]], object)
    model = stepwell.compile(graph_module([tensor(N, 2, element=StringType())], build))
    numbers = [keys.index(text) + 0.5 if text in keys else -1 for text in asked.reshape(-1)]
    found, _ = model(asked)
    assert found.reshape(-1).tolist() == numbers
    assert model.host_calls == []


def test_keys_that_are_strings_must_be_known() -> None:
    def build(x: Any, keys: Any) -> Any:
        return LookupOp(x, keys, constant(f32([1])), constant(np.float32(-1)))

    with pytest.raises(PassError, match="keys that are strings must be constants"):
        stepwell.compile(graph_module([tensor(N, element=StringType()), tensor(1, element=StringType())], build))


@pytest.mark.parametrize("classes", [2, 4])
def test_coupling(classes: int) -> None:
    pairs = classes * (classes - 1) // 2
    chances = np.random.default_rng(classes).uniform(0.02, 0.98, (7 if classes == 2 else 2, pairs)).astype(np.float32)
    check([tensor(N, pairs)], lambda r: PairwiseCouplingOp(r, classes=classes), chances, tolerance=1e-6)


def test_probabilities_of_pairs_that_fit_are_found() -> None:
    p = np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]])
    i, j = np.triu_indices(3, 1)
    model = stepwell.compile(
        graph_module([tensor(N, 3, element=F64)], lambda r: PairwiseCouplingOp(r, classes=3))
    )
    np.testing.assert_allclose(model(p[:, i] / (p[:, i] + p[:, j])), p, atol=0.005)


def test_what_does_not_fit() -> None:
    with pytest.raises(IRError, match="pairs of 3 classes"):
        graph_module([tensor(N, 4)], lambda r: PairwiseCouplingOp(r, classes=3))
    with pytest.raises(IRError, match="numbers of keys and values"):
        graph_module([tensor(N)], lambda x: LookupOp(x, constant(f32([1])), constant(f32([1, 2])), constant(f32(0))))
