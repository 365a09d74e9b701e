"""Normalisations: statistics of their own type, scales of every shape, symbolic sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.normalization import BatchNormOp, GroupNormOp, LayerNormOp, LrnOp, RmsNormOp
from stepwell.dialects.tensor import GenericOp
from stepwell.ir.passes import PassContext
from stepwell.ir.types import F16, F32, F64
from stepwell.lowering.to_tensor.convert import ToTensor
from tests.lowering.to_tensor.descent import Build, constant, descend, graph_module, types_of

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((2, 6, 5)).astype(np.float32) * 3 + 10
ROW = (RANDOM.random(5) + 0.5).astype(np.float32)
PLANE = (RANDOM.random((6, 1)) + 0.5).astype(np.float32)
CHANNELS = [(RANDOM.random(6) + 0.5).astype(np.float32) for _ in range(4)]
GROUPS = [(RANDOM.random(3) + 0.5).astype(np.float32) for _ in range(2)]
EPSILON = 1e-5

CASES: list[tuple[Build, list[Any]]] = [
    (lambda x: LayerNormOp(x, axes=[2], epsilon=EPSILON), [X]),
    (lambda x, w: LayerNormOp(x, w, axes=[2], epsilon=EPSILON), [X, ROW]),
    (lambda x, b: LayerNormOp(x, None, b, axes=[2], epsilon=EPSILON), [X, ROW]),
    (lambda x, w, b: LayerNormOp(x, w, b, axes=[1, 2], epsilon=EPSILON), [X, PLANE, ROW]),
    (lambda x, w, b: [LayerNormOp(x, w, b, axes=[2], epsilon=EPSILON).y], [X, ROW, ROW]),
    (lambda x, w: RmsNormOp(x, w, axes=[2], epsilon=EPSILON), [X, ROW]),
    (lambda x, w: [RmsNormOp(x, w, axes=[1, 2], epsilon=EPSILON).y], [X, ROW]),
    (lambda x, *c: BatchNormOp(x, *c, epsilon=EPSILON), [X, *CHANNELS]),
    (lambda x, *c: BatchNormOp(x, *(constant(v) for v in CHANNELS), epsilon=EPSILON), [X]),
    (lambda x, *c: BatchNormOp(x, *c, epsilon=EPSILON), [ROW, *(v[:1] for v in CHANNELS)]),
    (lambda x, *c: GroupNormOp(x, *c, epsilon=EPSILON), [X, *CHANNELS[:2]]),
    (lambda x, *c: GroupNormOp(x, *c, groups=3, epsilon=EPSILON), [X, *CHANNELS[:2]]),
    (lambda x, *c: GroupNormOp(x, *c, groups=1, epsilon=EPSILON), [X[..., 0], *CHANNELS[:2]]),
    (lambda x: LrnOp(x, size=3, alpha=0.1, beta=0.75, bias=1.0), [X]),
    (lambda x: LrnOp(x, size=4, alpha=0.1, beta=0.5, bias=2.0), [X[..., 0]]),
]


@pytest.mark.parametrize(("build", "inputs"), CASES)
@pytest.mark.parametrize("symbolic", [False, True])
def test_every_landing(build: Build, inputs: list[Any], symbolic: bool) -> None:
    descend(build, *inputs, symbolic=symbolic, loops=True, native=True, rtol=1e-5, atol=1e-5)


def test_scales_per_group() -> None:
    descend(lambda x, *c: GroupNormOp(x, *c, groups=3, epsilon=EPSILON), X, *GROUPS, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stash", [F32, F16, F64], ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_statistics_have_a_type_of_their_own(stash: Any, dtype: Any) -> None:
    x, row = X.astype(dtype), ROW.astype(dtype)
    options: dict[str, Any] = {"axes": [2], "epsilon": EPSILON, "stash": stash}
    descend(lambda x, w: LayerNormOp(x, w, **options), x, row, rtol=2e-3, atol=2e-3)
    descend(lambda x, w: RmsNormOp(x, w, **options), x, row, rtol=2e-3, atol=2e-3)
    descend(lambda x, w: RmsNormOp(x, w, **options), x, ROW, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dtypes", [(np.float16, np.float32), (np.float32, np.float64), (np.float64, np.float16)])
def test_vectors_of_other_types(dtypes: tuple[Any, Any]) -> None:
    x, vectors = X.astype(dtypes[0]), [v.astype(dtypes[1]) for v in CHANNELS]
    descend(lambda x, *c: BatchNormOp(x, *c, epsilon=EPSILON), x, *vectors, rtol=2e-3, atol=2e-3)


def test_a_large_mean_does_not_cancel() -> None:
    descend(lambda x: LayerNormOp(x, axes=[1], epsilon=EPSILON), X[0] + np.float32(1e4), rtol=1e-3, native=True)


def test_statistics_that_nobody_reads_are_not_stored() -> None:
    module = graph_module(types_of([X]), lambda x: [LayerNormOp(x, axes=[2], epsilon=EPSILON).y])
    ToTensor().run(module, PassContext())
    assert not [op for op in module.walk() if op.op_name == "tensor.reshape"]
    assert len(list(module.walk_of(GenericOp))) == 5  # two reductions, the end of each, one map
