"""Normalisations and the softmax family: older versions, training, types, special values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.errors import IRError
from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.rule_harness import Array, assert_matches, f32, node, refused

NAN, INF = np.nan, np.inf
RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
SCALE, BIAS, MEAN, VARIANCE = (f32(v) for v in ([1, 2, 3], [0, 1, -1], [0.5, 0, -0.5], [1, 4, 0.25]))


def channels(vector: Array) -> Array:
    return vector.reshape(3, 1)


def softmax_rows(rows: Array) -> Array:
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("axis", "rows"), [(1, 2), (2, 6), (-1, 6), (0, 1), (None, 2)])
def test_softmax_family_sees_a_matrix_before_opset_13(axis: int | None, rows: int, symbolic: bool) -> None:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    soft = softmax_rows(X.reshape(rows, -1)).reshape(X.shape)
    hard = (X.reshape(rows, -1).argmax(1)[:, None] == np.arange(24 // rows)).reshape(X.shape).astype(np.float32)
    assert_matches(node("Softmax", X, version=11, symbolic=symbolic, **attributes), soft)
    assert_matches(node("LogSoftmax", X, version=1, symbolic=symbolic, **attributes), np.log(soft))
    assert_matches(node("Hardmax", X, version=11, symbolic=symbolic, **attributes), hard)


def test_softmax_takes_the_last_axis_from_opset_13_on() -> None:
    assert_matches(node("Softmax", X, version=13), softmax_rows(X.reshape(6, 4)).reshape(X.shape))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-INF, 0, 0], [0, 0.5, 0.5]), ([-INF, -INF], [NAN, NAN]), ([INF, 0], [NAN, NAN]), ([NAN, 0], [NAN, NAN]),
        ([1e4, 1e4], [0.5, 0.5]), ([], []),
    ],
)  # fmt: skip
def test_softmax_of_special_values(values: list[float], expected: list[float]) -> None:
    assert_matches(node("Softmax", f32([values]), version=13), f32([expected]))


def test_hardmax_takes_the_first_of_equals_and_nan() -> None:
    x = f32([[1, 3, 3], [5, NAN, 9]])
    assert_matches(node("Hardmax", x, version=13), f32([[0, 1, 0], [0, 1, 0]]))


@pytest.mark.parametrize("version", [1, 6, 7, 9, 14, 15])
@pytest.mark.parametrize("symbolic", [False, True])
def test_batch_norm_for_inference(version: int, symbolic: bool) -> None:
    attributes: dict[str, Any] = {"is_test": 1} if version < 7 else {}
    attributes |= {"consumed_inputs": [0] * 5} if version == 1 else {}
    made = node("BatchNormalization", X, SCALE, BIAS, MEAN, VARIANCE, version=version, symbolic=symbolic, **attributes)
    expected = (X - channels(MEAN)) / np.sqrt(channels(VARIANCE) + 1e-5) * channels(SCALE) + channels(BIAS)
    assert_matches(made, expected.astype(np.float32))


@pytest.mark.parametrize(("version", "outputs"), [(7, 5), (9, 5), (14, 3), (15, 3)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_batch_norm_in_training(version: int, outputs: int, symbolic: bool) -> None:
    attributes: dict[str, Any] = {"training_mode": 1} if version >= 14 else {}
    made = node("BatchNormalization", X, SCALE, BIAS, MEAN, VARIANCE, version=version, outputs=outputs, momentum=0.75,
                symbolic=symbolic, **attributes)  # fmt: skip
    mean, variance = X.mean((0, 2)), X.var((0, 2))
    y = (X - channels(mean)) / np.sqrt(channels(variance) + 1e-5) * channels(SCALE) + channels(BIAS)
    expected = [y, MEAN * 0.75 + mean * 0.25, VARIANCE * 0.75 + variance * 0.25, mean, variance]
    for one, other in zip(made, expected, strict=False):
        np.testing.assert_allclose(one, other, 1e-4, 1e-6)


def test_batch_norm_of_one_channel() -> None:
    x, one = f32([1, 2, 3]), f32([1])
    assert_matches(node("BatchNormalization", x, one, one, one, one, version=15, epsilon=0.0), x)
    y, mean, _ = node("BatchNormalization", x, one, one, one, one, version=15, outputs=3, training_mode=1, momentum=0.0)
    np.testing.assert_allclose(y, [1 - 1.5**0.5, 1, 1 + 1.5**0.5], 1e-4)
    assert_matches(mean, f32([2]))


def test_batch_norm_of_mixed_types() -> None:
    made = node("BatchNormalization", X.astype(np.float16), SCALE, BIAS, MEAN, VARIANCE, version=15)
    assert made.dtype == np.float16


def test_batch_norm_with_statistics_per_element() -> None:
    vectors = [RNG.random((3, 4)).astype(np.float32) + 0.5 for _ in range(4)]
    scale, bias, mean, variance = vectors
    expected = ((X - mean) / np.sqrt(variance + 1e-5) * scale + bias).astype(np.float32)
    assert_matches(node("BatchNormalization", X, *vectors, version=7, spatial=0), expected)
    flat = [vector.reshape(-1) for vector in vectors]
    assert_matches(node("BatchNormalization", X, *flat, version=6, spatial=0, is_test=1), expected)
    with refused("spatial = 0", Unsupported):
        node("BatchNormalization", X, *vectors, version=7, outputs=5, spatial=0)


def test_layer_norm_of_half_precision_keeps_statistics_in_f32() -> None:
    x = np.full((1, 8), 300, np.float16) + np.arange(8, dtype=np.float16)
    scale = np.ones(8, np.float16)
    y, mean, inverse = node("LayerNormalization", x, scale, version=17, outputs=3, epsilon=0.0)
    wide = x.astype(np.float32)
    assert_matches(y, ((wide - wide.mean()) / wide.std()).astype(np.float16))
    assert_matches(mean, wide.mean(keepdims=True))
    assert_matches(inverse, 1 / wide.std(keepdims=True))


@pytest.mark.parametrize("symbolic", [False, True])
def test_group_norm_takes_a_scale_per_group_then_per_channel(symbolic: bool) -> None:
    x = RNG.standard_normal((2, 6, 5)).astype(np.float32)
    rows = x.reshape(2, 3, 2, 5)
    y = (rows - rows.mean((2, 3), keepdims=True)) / np.sqrt(rows.var((2, 3), keepdims=True) + 1e-5)
    per_group, per_channel = f32([1, 2, 3]), f32([1, 1, 2, 2, 3, 3])
    expected = (y.reshape(x.shape) * per_channel.reshape(6, 1) + per_channel.reshape(6, 1)).astype(np.float32)
    made = node("GroupNormalization", x, per_group, per_group, version=18, num_groups=3, symbolic=symbolic)
    np.testing.assert_allclose(made, expected, 1e-3, 1e-5)
    made = node("GroupNormalization", x, per_channel, per_channel, version=21, num_groups=3, symbolic=symbolic)
    np.testing.assert_allclose(made, expected, 1e-3, 1e-5)


def test_group_norm_of_the_other_version_is_refused() -> None:
    x = np.zeros((2, 6, 5), np.float32)
    with refused("scale has 6 elements, in opset 18 it has 3", Unsupported):
        node("GroupNormalization", x, np.ones(6, np.float32), np.ones(6, np.float32), version=18, num_groups=3)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3), (0, 3, 4)])
def test_instance_norm(shape: tuple[int, ...]) -> None:
    x = np.resize(X, shape)
    axes = tuple(range(2, x.ndim))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) if axes else np.zeros_like(x)
    per_channel = (3, *[1] * len(axes))
    expected = (y * SCALE.reshape(per_channel) + BIAS.reshape(per_channel)).astype(np.float32)
    np.testing.assert_allclose(node("InstanceNormalization", x, SCALE, BIAS, version=6), expected, 1e-3, 1e-5)


def test_instance_normalization_of_f64_keeps_f64_statistics() -> None:
    x = X.astype(np.float64) + 1000
    centred = x - x.mean(2, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(2, keepdims=True) + float(np.float32(1e-5)))
    ones = np.ones(3)
    made = node("InstanceNormalization", x, ones, 0 * ones, version=6)
    np.testing.assert_allclose(made, expected, 1e-11)


@pytest.mark.parametrize(("order", "axis"), [(1, 0), (2, -1)])
def test_lp_norm_of_zeros_is_zero(order: int, axis: int) -> None:
    x = f32([[3, 0], [-4, 0], [0, 0]])
    norm = np.linalg.norm(x, order, axis, keepdims=True)
    expected = np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)
    assert_matches(node("LpNormalization", x, version=22, p=order, axis=axis), expected)


def test_lp_norm_of_another_order_is_refused() -> None:
    with refused("p = 3", Unsupported):
        node("LpNormalization", X, version=1, p=3)


def test_mean_variance_norm_of_a_constant_is_zero() -> None:
    made = node("MeanVarianceNormalization", np.zeros((1, 2, 3, 3), np.float32), version=13)
    assert_matches(made, np.zeros((1, 2, 3, 3), np.float32))


def test_local_response_norm_of_any_rank() -> None:
    x = f32([[1, 2, 3, 4]])
    total = f32([[5, 14, 29, 25]])
    expected = x / (1 + 0.5 / 3 * total) ** 0.75
    assert_matches(node("LRN", x, version=13, size=3, alpha=0.5), expected)
    even = f32([[1 + 4, 4 + 9, 9 + 16, 16]])
    assert_matches(node("LRN", x, version=13, size=2, alpha=2.0, beta=1.0), x / (1 + even))


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("Softmax", [X], {"axis": 3}, "axis 3 is out of range"),
        ("Softmax", [np.float32(1)], {}, "axis -1 is out of range for rank 0"),
        ("LayerNormalization", [X, np.ones(3, np.float32)], {}, "scale of shape 3 does not broadcast to 2x3x4"),
        ("InstanceNormalization", [X, BIAS[:2], BIAS], {}, "scale has 2 elements for 3 channels"),
        ("LRN", [X], {"size": 0}, "size 0 must be at least 1"),
    ],
)
def test_misfits(op_type: str, inputs: list[Array], attributes: dict[str, Any], message: str) -> None:
    with refused(message, IRError):
        node(op_type, *inputs, version=22, **attributes)
