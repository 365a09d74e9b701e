"""What the onnx package's node cases leave out: older versions, special values, mixed types, options."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stepwell.errors import ModelError, RuntimeError
from tests.frontends.onnx.rule_harness import Array, assert_matches, imported, node, node_model, refused

NAN, INF = np.nan, np.inf


def f32(*values: Any) -> Array:
    return np.array(values, np.float32)


def u8(*values: Any) -> Array:
    return np.array(values, np.uint8)


def same_bits(made: Array, expected: Array) -> None:
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    ("op_type", "reference"),
    [("Add", np.add), ("Pow", np.power), ("Less", np.less), ("Equal", np.equal), ("Div", np.divide)],
)
def test_broadcast_by_axis_before_opset_7(op_type: str, reference: Any, symbolic: bool) -> None:
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    forms: list[tuple[Any, dict[str, Any], Any]] = [
        ((3,), {"axis": 1}, (3, 1)),
        ((3,), {"axis": -2}, (3, 1)),
        ((2, 3), {"axis": 0}, (2, 3, 1)),
        ((4,), {}, (4,)),
        ((), {}, ()),
        ((1, 1), {}, (1, 1)),
    ]
    for shape, attributes, aligned in forms:
        b = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
        made = node(op_type, a, b, version=6, broadcast=1, symbolic=symbolic, **attributes)
        assert_matches(made, reference(a, b.reshape(aligned)))


def test_logic_broadcasts_by_axis_before_opset_7() -> None:
    a, b = np.ones((2, 3), np.bool_), np.array([True, False])
    same_bits(node("And", a, b, version=1, broadcast=1, axis=0), np.array([[True] * 3, [False] * 3]))


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [
        (f32(2, 9, -8), np.array([3, 0, 1], np.int64), f32(8, 1, -8)),
        (np.array([2, 9, 4], np.int32), f32(0.5, 0.5, -1), np.array([1, 3, 0], np.int32)),
        (np.array([2, -1, 1], np.int32), np.array([-1, -3, -5], np.int64), np.array([0, -1, 1], np.int32)),
        (np.array([3], np.int64), np.array([5], np.uint8), np.array([243], np.int64)),
        (np.array([2.0], np.float16), f32(0.5), np.array([1.4142], np.float16)),
        (np.array([10], np.int32), np.array([10], np.int32), np.array([1410065408], np.int32)),
        (f32(-8, 0, INF), f32(1 / 3, -1, 0), f32(NAN, INF, 1)),
    ],
)
def test_power_of_mixed_types(base: Array, exponent: Array, expected: Array) -> None:
    assert_matches(node("Pow", base, exponent, version=15), expected)


def test_zero_to_a_negative_integer_power_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="zero to a negative integer power"):
        node("Pow", np.array([0]), np.array([-1]), version=15)


@pytest.mark.parametrize(
    ("fmod", "a", "b", "expected"),
    [
        (0, f32(-4.3, 4.3, 5, -5, 0), f32(2.1, -2.1, INF, INF, -3), f32(2.0, -2.0, 5, INF, -0.0)),
        (0, f32(INF, 1, NAN), f32(2, 0, 2), f32(NAN, NAN, NAN)),
        (1, f32(-4.3, 4.3, 5, -5, INF, 1), f32(2.1, -2.1, INF, INF, 2, 0), f32(-0.1, 0.1, 5, -5, NAN, NAN)),
        (0, np.array([-7, 7, -8], np.int8), np.array([3, -3, 2], np.int8), np.array([2, -2, 0], np.int8)),
        (1, np.array([-7, 7, -8], np.int8), np.array([3, -3, 2], np.int8), np.array([-1, 1, 0], np.int8)),
    ],
)
def test_modulo(fmod: int, a: Array, b: Array, expected: Array) -> None:
    made = node("Mod", a, b, version=13, fmod=fmod)
    np.testing.assert_allclose(made, expected, 1e-5)
    assert made.dtype == expected.dtype


@pytest.mark.parametrize("op_type", ["Div", "Mod"])
def test_integer_division_by_zero_is_an_error(op_type: str) -> None:
    with pytest.raises(RuntimeError, match="integer by zero"):
        node(op_type, np.array([1, 2]), np.array([1, 0]), version=14)


def test_integer_division_cuts_towards_zero() -> None:
    made = node("Div", np.array([-7, 7, -7, 6], np.int32), np.array([2, -2, -2, 3], np.int32), version=14)
    same_bits(made, np.array([-3, -3, 3, 2], np.int32))


def test_smallest_integer_divided_by_minus_one_wraps() -> None:
    smallest, minus = np.array([-128], np.int8), np.array([-1], np.int8)
    same_bits(node("Div", smallest, minus, version=14), smallest)
    same_bits(node("Mod", smallest, minus, version=14), np.array([0], np.int8))


@pytest.mark.parametrize(
    ("direction", "x", "amount", "expected"),
    [
        ("RIGHT", [-128, -1, 100, -7], [8, 100, 8, 1], [-1, -1, 0, -4]),
        ("RIGHT", [-128, 100, -1], [-1, -1, 7], [-1, 0, -1]),
        ("LEFT", [1, 1, 3, 1], [7, 8, 7, -1], [-128, 0, -128, 0]),
    ],
)
def test_shift_of_signed_integers(direction: str, x: Any, amount: Any, expected: Any) -> None:
    made = node("BitShift", np.array(x, np.int8), np.array(amount, np.int8), version=28, direction=direction)
    same_bits(made, np.array(expected, np.int8))


def test_shift_of_unsigned_integers_by_their_width_and_more() -> None:
    x, amount = np.array([200, 200, 200], np.uint8), np.array([8, 255, 7], np.uint8)
    same_bits(node("BitShift", x, amount, version=11, direction="RIGHT"), np.array([0, 0, 1], np.uint8))
    same_bits(node("BitShift", x, amount, version=11, direction="LEFT"), np.array([0, 0, 0], np.uint8))


def test_a_shift_in_no_direction_is_refused() -> None:
    with refused("has LEFT, RIGHT", ModelError):
        node("BitShift", u8(1), u8(1), version=11, direction="UP")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_nan_goes_through_maximum_clip_and_relu(dtype: Any) -> None:
    x = np.array([NAN, -1, 3, INF, -INF], dtype)
    low, high = np.array(0, dtype), np.array(2, dtype)
    assert_matches(node("Max", x, low, version=13), np.array([NAN, 0, 3, INF, 0], dtype))
    assert_matches(node("Min", x, high, version=13), np.array([NAN, -1, 2, 2, -INF], dtype))
    assert_matches(node("Relu", x, version=14), np.array([NAN, 0, 3, INF, 0], dtype))
    assert_matches(node("Clip", x, low, high, version=13), np.array([NAN, 0, 2, 2, 0], dtype))
    assert_matches(node("Clip", x, None, high, version=13), np.array([NAN, -1, 2, 2, -INF], dtype))


def test_clip_takes_bounds_of_rank_1_and_prefers_the_upper_one() -> None:
    made = node("Clip", np.array(3.0, np.float32), f32(5), f32(2), version=11)
    assert_matches(made, np.float32(2))


@pytest.mark.parametrize("version", [1, 6])
def test_clip_by_attributes(version: int) -> None:
    x, most = f32(-2, 0.5, 7, NAN, INF), INF if version == 1 else np.finfo(np.float32).max
    same_bits(node("Clip", x, version=version, min=0.0, max=6.0), f32(0, 0.5, 6, NAN, 6))
    same_bits(node("Clip", x, version=version, min=0.0), f32(0, 0.5, 7, NAN, most))
    same_bits(node("Clip", x, version=version), f32(-2, 0.5, 7, NAN, most))
    half = np.array([-INF, 2], np.float16)
    same_bits(node("Clip", half, version=version), half)


def test_means_of_half_precision_do_not_overflow() -> None:
    big = np.array([60000.0], np.float16)
    same_bits(node("Mean", big, big, version=13), big)
    same_bits(node("ReduceMean", np.repeat(big, 4), version=18), big)
    assert_matches(node("ReduceL2", np.repeat(big, 1), version=18), big)


@pytest.mark.parametrize(
    ("op_type", "x", "expected", "attributes"),
    [
        ("Softplus", f32(1000, -1000, 0, NAN), f32(1000, 0, np.log(2), NAN), {}),
        ("Sigmoid", f32(1000, -1000, 0), f32(1, 0, 0.5), {}),
        ("Elu", f32(-1e-6, 2, NAN, -INF), f32(-1e-6, 2, NAN, -1), {}),
        ("Celu", f32(-1, 2), f32(2 * np.expm1(-0.5), 2), {"alpha": 2.0}),
        ("LeakyRelu", f32(-1, 2, NAN, -INF), f32(2, 2, NAN, INF), {"alpha": -2.0}),
        ("ThresholdedRelu", f32(1, 1.5, INF, -2), f32(0, 1.5, INF, 0), {}),
        ("HardSigmoid", f32(-INF, INF, NAN, 1), f32(0, 1, NAN, 0.7), {}),
        ("HardSwish", f32(-4, 0, 3, 6), f32(0, 0, 3, 6), {}),
        ("Shrink", f32(-2, 0.2, 2), f32(-1, 0, 1), {"bias": 1.0, "lambd": 0.5}),
        ("Shrink", np.array([200, 1], np.uint8), np.array([199, 0], np.uint8), {"bias": 1.0, "lambd": 1.0}),
        ("Swish", f32(2), f32(2 / (1 + np.exp(-4))), {"alpha": 2.0}),
        ("Gelu", f32(-6, 0, 6), f32(-5.9195e-9, 0, 6), {}),
        ("Mish", f32(-200, 200), f32(0, 200), {}),
        ("Sign", f32(-3, -0.0, NAN), f32(-1, 0, NAN), {}),
        ("Round", f32(0.5, 1.5, -2.5, INF), f32(0, 2, -2, INF), {}),
        ("Reciprocal", f32(0, -0.0, INF, 4), f32(INF, -INF, 0, 0.25), {}),
    ],
)
def test_function(op_type: str, x: Array, expected: Array, attributes: dict[str, Any]) -> None:
    assert_matches(node(op_type, x, version=28, **attributes), expected)
    assert_matches(node(op_type, x[:0], version=28, symbolic=True, **attributes), expected[:0])


def test_selu_has_rounded_defaults_in_opset_1() -> None:
    assert_matches(node("Selu", f32(1), version=1), f32(1.0507))
    assert node("Selu", f32(1), version=6)[0] == np.float32(1.05070102214813232421875)


@pytest.mark.parametrize("symbolic", [False, True])
def test_slope_of_prelu(symbolic: bool) -> None:
    x = -np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    slope = f32(1, 2, 3)
    for version, given in [(1, slope), (6, slope), (7, slope.reshape(3, 1)), (16, slope.reshape(3, 1))]:
        assert_matches(node("PRelu", x, given, version=version, symbolic=symbolic), x * slope.reshape(3, 1))
    assert_matches(node("PRelu", x, f32(2), version=6, symbolic=symbolic), x * 2)


@pytest.mark.parametrize(
    ("x", "flags", "expected"),
    [
        (f32(INF, -INF, NAN, 1), {}, [True, True, False, False]),
        (f32(INF, -INF, NAN, 1), {"detect_negative": 0}, [True, False, False, False]),
        (f32(INF, -INF, NAN, 1), {"detect_positive": 0}, [False, True, False, False]),
        (f32(INF, -INF, NAN, 1), {"detect_positive": 0, "detect_negative": 0}, [False] * 4),
        (np.array([INF, 1], ml_dtypes.float8_e5m2), {}, [True, False]),
    ],
)
def test_infinities(x: Array, flags: dict[str, Any], expected: list[bool]) -> None:
    same_bits(node("IsInf", x, version=20, **flags), np.array(expected))


def test_strings_compare_equal_and_are_selected() -> None:
    a, b = np.array(["x", "yy"], object), np.array(["x", "z"], object)
    same_bits(node("Equal", a, b, version=19), np.array([True, False]))
    same_bits(node("Where", np.array([True, False]), a, b, version=16), np.array(["x", "z"], object))


@pytest.mark.parametrize(("version", "mask"), [(1, np.float32), (7, np.float32), (10, np.bool_), (13, np.bool_)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_dropout_for_inference_keeps_everything(version: int, mask: Any, symbolic: bool) -> None:
    x = f32(1, NAN, 3)
    kept, ones = node("Dropout", x, version=version, outputs=2, symbolic=symbolic)
    same_bits(kept, x)
    same_bits(ones, np.ones(3, mask))


def dropped(x: Any, ratio: float, seed: int) -> Any:
    """What NumPy's legacy generator drops, in f32."""
    kept = np.random.RandomState(seed).uniform(0, 1, x.shape) >= np.float32(ratio)
    return x * (np.float32(1) / (np.float32(1) - np.float32(ratio))) * kept, kept


@pytest.mark.parametrize("constants", [(), (1, 2), (1,), (2,)])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5])
def test_dropout_in_training_mode(ratio: float, constants: tuple[int, ...]) -> None:
    x, on = np.arange(1, 700, dtype=np.float32).reshape(-1, 1), np.array(True)
    x[::9] = NAN  # stays, dropped or not
    arrays = [x, np.float32(ratio), on]
    made, kept = node("Dropout", *arrays, version=13, constants=constants, outputs=2, seed=5)
    expected = dropped(x, ratio, 5)
    same_bits(made, expected[0])
    same_bits(kept, expected[1])


def test_dropout_in_a_mode_that_is_told_at_run_time() -> None:
    x = f32(1, NAN, 3)
    kept, ones = node("Dropout", x, np.float32(0.5), np.array(False), version=13, outputs=2)
    same_bits(kept, x)
    same_bits(ones, np.ones(3, np.bool_))


def test_dropout_without_a_seed() -> None:
    made, kept = node("Dropout", np.ones(1000, np.float32), np.float32(0.5), np.array(True), version=13, outputs=2)
    same_bits(made, np.where(kept, np.float32(2), np.float32(0)))
    assert 400 < kept.sum() < 600


def test_a_missing_input_is_named() -> None:
    with refused("it has 1 inputs, and Add takes 2", ModelError):
        imported(node_model("Add", [f32(1)], version=14))


def test_defaults_are_numbers_of_f32() -> None:
    """A float attribute is an f32, whatever type it is used in."""
    assert node("LeakyRelu", np.array([-1.0]), version=16)[0] == -float(np.float32(0.01))
