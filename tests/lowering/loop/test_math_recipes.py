"""The elementary functions against long double references: every exponent, both signs, and dense critical ranges."""

from __future__ import annotations

import importlib.util
import pathlib
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from stepwell.errors import IRError
from stepwell.lowering.loop.math import coefficients
from stepwell.lowering.loop.math.builder import two_product, two_sum
from stepwell.lowering.loop.math.coefficients import F64
from stepwell.lowering.loop.math.numpy_builder import NumpyMath
from stepwell.lowering.loop.math.recipes import FUNCTIONS, count_operations

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

LD = np.longdouble
INF, NAN = np.inf, np.nan
needs_extended = pytest.mark.skipif(np.finfo(LD).nmant < 63, reason="long double is no wider than double here")


def erf_reference(x: Any) -> Any:
    """erf by the series of positive terms 2/sqrt(pi) e**-x**2 sum (2 x**2)**n x / (2 n + 1)!!, in long double."""
    a = np.minimum(np.abs(x), LD(7))
    term = total = np.ones_like(a)
    for n in range(1, 180):
        term = term * (2 * a * a) / (2 * n + 1)
        total = total + term
    return np.copysign(_TWO_OVER_ROOT_PI * a * np.exp(-a * a) * total, x)


_TWO_OVER_ROOT_PI = 2 / np.sqrt(4 * np.arctan(LD(1)))


REFERENCES: dict[str, Any] = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atan2": np.arctan2, "atanh": np.arctanh, "cos": np.cos, "cosh": np.cosh, "erf": erf_reference,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log10": np.log10,
    "log1p": np.log1p, "log2": np.log2, "powf": np.power, "sin": np.sin, "sinh": np.sinh,
    "tan": np.tan, "tanh": np.tanh, "cbrt": np.cbrt, "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip

DENSE: dict[str, list[tuple[float, float]]] = {
    "acos": [(-1, 1), (0.49, 0.51), (0.999, 1)], "acosh": [(1, 1.1), (1, 4)], "asin": [(-1, 1), (0.49, 0.51)],
    "asinh": [(-4, 4)], "atan": [(-4, 4), (0.4, 0.5), (2.3, 2.5)], "atanh": [(-1, 1), (0.99, 1)], "cos": [(-60, 60)],
    "cosh": [(-5, 5), (-90, 90), (700, 711)], "erf": [(-4, 4), (0.8, 1.1), (3, 6)],
    "exp": [(-104, 89), (-1, 1), (-746, 710)], "exp2": [(-151, 129), (-2, 2), (-1076, 1025)],
    "expm1": [(-1, 1), (-20, 20)], "log": [(0.5, 2)], "log10": [(0.5, 2)], "log1p": [(-0.5, 1), (-1, 4)],
    "log2": [(0.5, 2)], "sin": [(-60, 60)], "sinh": [(-4, 4), (-90, 90), (700, 711)],
    "tan": [(-60, 60)], "tanh": [(-2, 2), (0, 20)], "cbrt": [(-1, 9), (0.3, 0.4), (2.8, 2.9)], "rsqrt": [(0, 4)],
}  # fmt: skip

# What a target has: nothing, fused multiply-add, and that with tables in registers.
MEANS = ["plain", "fma", "tables"]
MODES = [(width, means) for width in (32, 64) for means in MEANS]
UNARY = sorted(DENSE)


def builder(width: int, means: str) -> NumpyMath:
    return NumpyMath(width, has_fma=means != "plain", has_tables=means == "tables")


def float_type(width: int) -> Any:
    return np.float32 if width == 32 else np.float64


def every_exponent(width: int, per_exponent: int, rng: np.random.Generator) -> Any:
    """Random finite values of both signs, `per_exponent` of each (denormals included), and the ends of the range."""
    fraction_bits, exponents = (23, 255) if width == 32 else (52, 2047)
    size = exponents * per_exponent
    exponent = np.repeat(np.arange(exponents, dtype=np.uint64), per_exponent)
    bits = (exponent << np.uint64(fraction_bits)) | rng.integers(0, 1 << fraction_bits, size, dtype=np.uint64)
    bits |= rng.integers(0, 2, size, dtype=np.uint64) << np.uint64(width - 1)
    info = np.finfo(float_type(width))
    ends = [info.max, info.min, info.tiny, info.smallest_subnormal, 0.0, 1.0, -1.0]
    return np.concatenate([bits.astype(f"u{width // 8}").view(float_type(width)), np.array(ends, float_type(width))])


def samples(name: str, width: int) -> Any:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    parts = [every_exponent(width, 96 if width == 32 else 5, rng)]
    parts += [rng.uniform(low, high, 10000).astype(float_type(width)) for low, high in DENSE[name]]
    return np.concatenate(parts)


def ulp_errors(result: Any, exact: Any, width: int) -> Any:
    """|result - exact| in ulp of the exact value; infinity counts as the power of two past the largest number."""
    fraction_bits, top = (23, 128) if width == 32 else (52, 1024)
    limit = LD(2) ** top
    result = np.clip(result.astype(LD), -limit, limit)
    exact = np.clip(exact.astype(LD), -limit, limit)
    exponent = np.clip(np.frexp(exact)[1] - 1, 2 - top, top - 1)
    errors = np.abs(result - exact) / np.ldexp(LD(1), exponent - fraction_bits)
    errors = np.where(np.isnan(result) & np.isnan(exact), 0, errors)
    return np.where(np.isnan(errors), INF, errors)


def bound(name: str, width: int, means: str) -> float:
    return FUNCTIONS[name].bound(width, means != "plain")


def assert_within(name: str, width: int, means: str, *operands: Any) -> None:
    result = FUNCTIONS[name].recipe(builder(width, means), *operands)
    assert result.dtype == float_type(width)
    wide = LD if width == 64 or name.startswith("erf") else np.float64
    errors = ulp_errors(result, REFERENCES[name](*(x.astype(wide) for x in operands)), width)
    worst = int(np.argmax(errors))
    at = [x[worst] for x in operands]
    assert errors[worst] <= bound(name, width, means), f"{name}{at!r} gives {result[worst]!r}: {errors[worst]} ulp"


@needs_extended
@pytest.mark.parametrize(("width", "means"), MODES)
@pytest.mark.parametrize("name", UNARY)
def test_error_stays_in_its_bound(name: str, width: int, means: str) -> None:
    assert_within(name, width, means, samples(name, width))


@needs_extended
@pytest.mark.parametrize(("width", "means"), MODES)
def test_pow_stays_in_its_bound(width: int, means: str) -> None:
    rng = np.random.default_rng(3)
    near_one = rng.uniform(0.99, 1.01, 4000).astype(float_type(width))
    x = np.concatenate([np.abs(every_exponent(width, 24 if width == 32 else 4, rng)), near_one])
    # Exponents that spread the results over the whole range, and small ones.
    logarithm = np.where((x == 0) | (x == 1), 1, np.log2(x.astype(LD)))
    wanted = rng.uniform(-150, 128, x.size) * (1 if width == 32 else 7.9)
    y = np.where(np.arange(x.size) % 4 == 0, rng.uniform(-4, 4, x.size), wanted / logarithm).astype(float_type(width))
    assert_within("powf", width, means, x, y)


@needs_extended
@pytest.mark.parametrize(("width", "means"), MODES)
def test_atan2_stays_in_its_bound(width: int, means: str) -> None:
    rng = np.random.default_rng(4)
    wide = [rng.permutation(every_exponent(width, 12 if width == 32 else 2, rng)) for _ in range(2)]
    near = [rng.uniform(-2, 2, 8000).astype(float_type(width)) for _ in range(2)]
    assert_within("atan2", width, means, *(np.concatenate(pair) for pair in zip(wide, near, strict=True)))


@needs_extended
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.parametrize("width", [32, 64])
def test_angles_next_to_multiples_of_half_pi(width: int, name: str, means: str) -> None:
    """The float32 and float64 closest to a multiple of pi/2, small multiples rounded, and both sides of the limits."""
    hardest = {32: [16367173.0 * 2.0**72], 64: [6381956970095103.0 * 2.0**797, 6411027962775774.0 * 2.0**-48]}[width]
    multiples = [n * np.pi / 2 for n in (*range(1, 400), *range(1000, 2**30, 2**20 + 1))]
    limits = [s * 2.0**e for e in (9, 17, 20, 24, 30, 49, 73, 97, 107, 121) for s in (1 - 2.0**-24, 1, 1 + 2.0**-23)]
    assert_within(name, width, means, np.array(hardest + multiples + limits, float_type(width)))


def results(name: str, width: int, means: str, *operands: Sequence[float]) -> Any:
    return FUNCTIONS[name].recipe(builder(width, means), *(np.array(x, float_type(width)) for x in operands))


SPECIAL: dict[str, list[tuple[float, float]]] = {
    "acos": [(1, 0.0), (1.5, NAN), (-INF, NAN)],
    "acosh": [(1, 0.0), (INF, INF), (0.5, NAN), (-5, NAN), (-1e30, NAN), (-INF, NAN)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.5, NAN), (INF, NAN)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "atan": [(0.0, 0.0), (-0.0, -0.0)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1, INF), (-1, -INF), (2, NAN), (-INF, NAN)],
    "cos": [(0.0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN)],
    "cosh": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, INF)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (50, 1)],
    "cbrt": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (27, 3), (-8, -2), (2.0**-126, 2.0**-42)],
    "exp": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0.0), (1e6, INF), (-1e6, 0.0)],
    "exp2": [(0.0, 1), (-0.0, 1), (10, 1024), (-126, 2.0**-126), (-149, 2.0**-149), (INF, INF), (-INF, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1), (-1000, -1), (1e6, INF)],
    "log": [(1, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN), (-1e-40, NAN)],
    "log10": [(1, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -INF), (INF, INF), (-2, NAN), (-INF, NAN)],
    "log2": [(1, 0.0), (8, 3), (2.0**-149, -149), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1, NAN), (-INF, NAN)],
    "rsqrt": [(0.0, INF), (-0.0, -INF), (INF, 0.0), (4, 0.5), (-1, NAN), (-INF, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1), (-INF, -1), (50, 1)],
}


@pytest.mark.parametrize(("width", "means"), MODES)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, width: int, means: str) -> None:
    arguments, expected = zip(*SPECIAL[name], (NAN, NAN), strict=True)
    got = results(name, width, means, list(arguments))
    wanted = np.array(expected, float_type(width))
    np.testing.assert_array_equal(got, wanted)
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(wanted[numbers]))


PAIRS = [0.0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1.5, -2.5, INF, -INF, NAN, 1e-40, -1e-40, 1e30, -1e30]
PAIRS += [16777217.0, 2.0**60, -(2.0**60), 1 + 2.0**-20, 1 - 2.0**-20]


@pytest.mark.parametrize(("width", "means"), MODES)
@pytest.mark.parametrize("name", ["powf", "atan2"])
def test_special_pairs(name: str, width: int, means: str) -> None:
    """Every pair of special values: zeros, infinities, NaN, odd, even and broken exponents, and their signs."""
    x, y = (grid.ravel().tolist() for grid in np.meshgrid(PAIRS, PAIRS))
    got = results(name, width, means, x, y)
    wanted = REFERENCES[name](np.array(x, float_type(width)), np.array(y, float_type(width)))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_allclose(got, wanted, rtol=2.0 ** (-21 if width == 32 else -50))
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(wanted[numbers]))


@pytest.mark.parametrize(("width", "means"), MODES)
@pytest.mark.parametrize(("name", "low", "high"), [("tanh", -1, 1), ("erf", -1, 1)])
def test_results_never_leave_their_range(name: str, low: float, high: float, width: int, means: str) -> None:
    got = FUNCTIONS[name].recipe(builder(width, means), np.linspace(-12, 22, 40001).astype(float_type(width)))
    assert got.min() >= low
    assert got.max() <= high


@pytest.mark.parametrize(("width", "means"), MODES)
def test_powers_of_two_are_exact(width: int, means: str) -> None:
    n = np.arange(-149, 128) if width == 32 else np.arange(-1074, 1024)
    powers = np.ldexp(np.ones(n.size, float_type(width)), n)
    np.testing.assert_array_equal(results("exp2", width, means, n.tolist()), powers)
    np.testing.assert_array_equal(results("log2", width, means, powers.tolist()), n)
    np.testing.assert_array_equal(results("powf", width, means, [2.0] * n.size, n.tolist()), powers)


@pytest.mark.parametrize(("width", "means"), MODES)
def test_products_and_sums_are_exact(width: int, means: str) -> None:
    b, rng = builder(width, means), np.random.default_rng(6)
    x, y = (rng.integers(1, 2**20, 200) + rng.random(200) for _ in range(2))
    x, y = x.astype(float_type(width)), y.astype(float_type(width))
    for operation, exact in ((two_sum, Fraction.__add__), (two_product, Fraction.__mul__)):
        rows = zip(x, y, *operation(b, x, y), strict=True)
        for left, right, high, low in ([Fraction(float(v)) for v in row] for row in rows):
            assert high + low == exact(left, right)
            assert abs(low) <= abs(high) * Fraction(2) ** (-24 if width == 32 else -53)


def test_every_recipe_has_bounds_and_references() -> None:
    assert set(FUNCTIONS) == set(REFERENCES) == set(UNARY) | {"powf", "atan2"}
    for function in FUNCTIONS.values():
        assert all(function.bound(width, False) >= function.bound(width) > 0.5 for width in (32, 64))
        assert function.bound(16) < 0.52
    with pytest.raises(IRError, match="f128"):
        FUNCTIONS["exp"].bound(128)


@pytest.mark.parametrize(("name", "expected"), [("exp", 18), ("exp2", 17), ("tanh", 21), ("erf", 19)])
def test_hot_functions_stay_short_in_f32(name: str, expected: int) -> None:
    assert count_operations(name, 32).total() == expected


@pytest.mark.parametrize(("name", "expected"), [("exp", 14), ("exp2", 13)])
def test_tables_shorten_exponentials(name: str, expected: int) -> None:
    counts = count_operations(name, 32, has_tables=True)
    assert (counts["lookup"], counts["scale"]) == (1, 1)
    assert counts.total() == expected


@pytest.mark.parametrize("name", [name for name in UNARY if name != "rsqrt"])  # which needs no constants
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(IRError, match="not f16: compute them in f32"):
        FUNCTIONS[name].recipe(NumpyMath(16), np.array([0.5], np.float16))


def test_constants_are_what_the_fit_derives() -> None:
    pytest.importorskip("mpmath")
    path = pathlib.Path(__file__).parents[3] / "tools" / "fit_math_coefficients.py"
    spec = importlib.util.spec_from_file_location("fit_math_coefficients", path)
    assert spec and spec.loader
    fit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fit)
    for name, parts in fit._splits(64).items():
        assert getattr(F64, name) == tuple(map(float, parts)), name
    assert coefficients.__file__
    assert fit._emit(32) in pathlib.Path(coefficients.__file__).read_text()
