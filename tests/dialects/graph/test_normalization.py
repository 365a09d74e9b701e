"""Types and errors of the normalisations."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.dialects.graph.normalization import BatchNormOp, GroupNormOp, LayerNormOp, LrnOp, RmsNormOp
from stepwell.errors import IRError
from stepwell.ir.dims import symbol
from stepwell.ir.types import F16, F32, F64, SI32, TensorType
from tests.dialects.graph.test_elementwise import value

N, C = symbol("n"), symbol("c")
EPSILON = 1e-5


@pytest.mark.parametrize("shape", [(N, 3, N), (2, C), (5, 3)])
def test_batch_and_group_norm_keep_the_type(shape: Any) -> None:
    vectors = [value(shape[1])] * 4
    x = value(*shape, element=F16)
    assert BatchNormOp(x, *vectors, epsilon=EPSILON).result.type is x.type
    assert GroupNormOp(x, *vectors[:2], epsilon=EPSILON).result.type is x.type
    assert LrnOp(x, size=3, alpha=1.0, beta=1.0, bias=1.0).result.type is x.type


def test_group_norm_takes_values_per_channel_or_per_group() -> None:
    x = value(N, 6, 4)
    for size in (6, 3, C):
        assert GroupNormOp(x, value(size), value(size), groups=3, epsilon=EPSILON).result.type is x.type


def test_layer_norm_gives_statistics_of_the_stash_type() -> None:
    op = LayerNormOp(value(N, 3, 4, element=F16), value(4, element=F16), axes=[1, 2], epsilon=EPSILON, stash=F64)
    assert [result.type for result in op.results] == [
        TensorType((N, 3, 4), F16), TensorType((N, 1, 1), F64), TensorType((N, 1, 1), F64)
    ]  # fmt: skip


def test_rms_norm_has_the_type_of_its_scale() -> None:
    op = RmsNormOp(value(N, C, element=F16), value(C), axes=[1], epsilon=EPSILON)
    assert [result.type for result in op.results] == [TensorType((N, C), F32), TensorType((N, 1), F32)]


def layer(scale: Any, **options: Any) -> LayerNormOp:
    fields: dict[str, Any] = {"axes": [2], "epsilon": EPSILON}
    return LayerNormOp(value(2, 3, 4), scale, **fields | options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: layer(value(3)), "scale of shape 3 does not broadcast to 2x3x4"),
        (lambda: layer(value(1, 2, 3, 4)), "scale of shape 1x2x3x4 does not broadcast to 2x3x4"),
        (lambda: layer(None, axes=[3]), "axis 3 is out of range"),
        (lambda: layer(None, stash=SI32), "a float type, not si32"),
        (lambda: BatchNormOp(value(), *[value(1)] * 4, epsilon=EPSILON), "a scalar has no channels"),
        (
            lambda: BatchNormOp(value(2, 3), *[value(3)] * 3, value(4), epsilon=EPSILON),
            "variance has 4 elements for 3 channels",
        ),
        (lambda: BatchNormOp(value(2, 3), *[value(3, 1)] * 4, epsilon=EPSILON), "scale must have rank 1, has rank 2"),
        (lambda: GroupNormOp(value(2, 6), value(6), value(6), groups=4, epsilon=EPSILON), "6 channels do not divide"),
        (lambda: GroupNormOp(value(2, 6), value(6), value(6), groups=0, epsilon=EPSILON), "into 0 groups"),
        (lambda: GroupNormOp(value(2, 6), value(4), value(6), groups=3, epsilon=EPSILON), "4 elements for 6 or 3"),
        (lambda: GroupNormOp(value(6), value(6), value(6), epsilon=EPSILON), "not rank 1"),
        (lambda: LrnOp(value(6), size=3, alpha=1.0, beta=1.0, bias=1.0), "not rank 1"),
        (lambda: LrnOp(value(2, 6), size=0, alpha=1.0, beta=1.0, bias=1.0), "size 0 must be at least 1"),
    ],
)
def test_misfits_are_named(build: Any, message: str) -> None:
    with pytest.raises(IRError, match=message):
        build()
