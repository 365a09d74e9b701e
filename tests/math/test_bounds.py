"""The stated bounds, held by compiled kernels over the whole range: every exponent, both sides of every branch,
denormals and special values. `python -m tests.math.exhaustive` takes all arguments of f32."""

from __future__ import annotations

import functools
import math
import zlib
from typing import Any

import numpy as np
import pytest

import stepwell
from stepwell.errors import TargetError
from stepwell.lowering.loop.math.recipes import FUNCTIONS
from tests.math import exhaustive
from tests.math.kernels import DTYPES, TARGETS, compiled
from tests.math.references import IN_F64, ulp_error_of, ulp_errors

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

FORMATS = {"f16": (10, -14, 15), "bf16": (7, -126, 127), "f32": (23, -126, 127)}
UNARY = [name for name, function in FUNCTIONS.items() if function.operands == 1]
PER_EXPONENT = 160  # arguments of each sign in f32
ROOT = math.sqrt(2)

# Where an algorithm changes branch, saturates or cancels, in f32 or f64.
TINY = [2.0**-25, 2.0**-54]
THRESHOLDS: dict[str, list[float]] = {
    "exp": [-104, -103.97, -87.34, 88.72, 89, -745.5, -745.13, -708.4, 709.78, 710],
    "exp2": [-151, -150, -149, -126, 127, 128, 129, -1076, -1075, -1074, -1022, 1023, 1024, 1025],
    "expm1": [*TINY, -18, 88.72, 89, -38, 709.78, 710, 0.3466, -0.3466],
    "log": [1, ROOT, 1 / ROOT, 2.0**-126, 2.0**-1022], "log2": [1, ROOT, 1 / ROOT, 2.0**-126, 2.0**-1022],
    "log10": [1, ROOT, 1 / ROOT, 10, 1000], "log1p": [*TINY, -1, 1, ROOT - 1, 1 / ROOT - 1, -0.5],
    "sin": [2.0**9, 2.0**17, 2.0**20, 2.0**30], "cos": [2.0**9, 2.0**17, 2.0**20, 2.0**30],
    "tan": [2.0**9, 2.0**17, 2.0**20, 2.0**30],
    "asin": [0.5, 1], "acos": [0.5, 1, -0.5], "atan": [ROOT - 1, ROOT + 1, 1],
    "sinh": [1, 89.4, 90, 710.4, 712], "cosh": [89.4, 90, 710.4, 712], "tanh": [9.0109, 10, 20, 0.1733, 19.06],
    "asinh": [2.0**14, 2.0**28, *TINY], "acosh": [1, 2.0**14, 2.0**28, 2], "atanh": [1, 0.5, *TINY],
    "erf": [1 / 3, 1, 3.9, 3.95, 4.125, 5.86, 6], "cbrt": [ROOT, 1 / ROOT, 8, 0.125, 2.0**-126],
    "rsqrt": [1, 2.0**-126],
}  # fmt: skip
HARD_ANGLES = [16367173.0 * 2.0**72, 6381956970095103.0 * 2.0**797, 6411027962775774.0 * 2.0**-48]


@functools.cache
def kernel(name: str, element: str, means: str) -> stepwell.Model:
    try:
        return compiled(name, element, means)
    except TargetError as error:
        pytest.skip(str(error))


def each_of(*names: str) -> Any:
    """Every function by all means that make a difference to it."""
    by_tables = "exp", "exp2", "sinh", "cosh", "erf", "powf"
    cases = [(name, means) for name in names for means in TARGETS if means != "tables" or name in by_tables]
    return pytest.mark.parametrize(("name", "means"), cases)


def neighbours(values: list[float], dtype: Any, count: int = 12) -> Any:
    """Values of both signs and as many floats on both sides of each."""
    integers = np.dtype(f"i{np.dtype(dtype).itemsize}")
    near = np.concatenate([np.abs(np.array(values)).astype(dtype)])
    places = near[np.isfinite(near)].view(integers)[:, None] + np.arange(-count, count + 1, dtype=integers)
    found = np.maximum(places, 0).reshape(-1).astype(integers).view(dtype)
    return np.concatenate([found, -found])


def stratified(name: str, dtype: Any, per_exponent: int, step: int = 1) -> Any:
    """Every `step`-th exponent with both signs, both sides of every branch, denormals and special values."""
    info = np.finfo(dtype)
    bits = np.dtype(f"u{np.dtype(dtype).itemsize}")
    exponents = np.arange(0, (1 << info.nexp) - 1, step, dtype=bits)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    low = rng.integers(0, 1 << info.nmant, (exponents.size, per_exponent), dtype=bits)
    ends = [0, 1, (1 << info.nmant) - 1]  # powers of two, their neighbours, the largest of an exponent
    low[:, : min(len(ends), per_exponent)] = ends[:per_exponent]
    magnitudes = ((exponents[:, None] << bits.type(info.nmant)) | low).reshape(-1).view(dtype)
    special = np.array([0.0, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, 1.0], dtype)
    angles = [n * math.pi / 2 for n in range(1, 60)] + HARD_ANGLES if name in ("sin", "cos", "tan") else []
    near = neighbours(THRESHOLDS[name] + angles, dtype)
    return np.concatenate([magnitudes, -magnitudes, special, -special, near])


@each_of(*UNARY)
def test_f32(name: str, means: str) -> None:
    x = stratified(name, np.float32, PER_EXPONENT)
    got = kernel(name, "f32", means)(x)
    wanted = IN_F64[name](x.astype(np.float64))
    errors = ulp_errors(got.astype(np.float64), wanted, *FORMATS["f32"])
    worst = int(np.argmax(errors))
    assert errors[worst] <= FUNCTIONS[name].bound(32, means != "plain"), f"{name}({x[worst]!r}) gives {got[worst]!r}"
    zeros = (got == 0) & (wanted == 0)
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(wanted[zeros]))


@each_of(*UNARY)
def test_f64(name: str, means: str) -> None:
    x = stratified(name, np.float64, 2, step=13)
    x = x[x != 0] if name == "rsqrt" else x  # mpmath's zero has no sign
    got = kernel(name, "f64", means)(x)
    errors = [ulp_error_of(name, float(y), float(value)) for value, y in zip(x, got, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= FUNCTIONS[name].bound(64, means != "plain"), f"{name}({x[worst]!r}) gives {got[worst]!r}"


@pytest.mark.parametrize("element", ["f16", "bf16"])
@pytest.mark.parametrize("name", UNARY)
def test_every_narrow_float(name: str, element: str) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[element])
    got = kernel(name, element, "fma")(x)
    wanted = IN_F64[name](x.astype(np.float64))
    errors = ulp_errors(got.astype(np.float64), wanted, *FORMATS[element])
    worst = int(np.argmax(errors))
    assert errors[worst] <= FUNCTIONS[name].bound(16), f"{name}({x[worst]!r}) gives {got[worst]!r}"


def pairs(name: str, dtype: Any, count: int) -> tuple[Any, Any]:
    """Arguments of both, all exponents; for powers such that most results are finite."""
    rng = np.random.default_rng(count)
    x = rng.permutation(stratified("rsqrt", dtype, 1))
    x = np.resize(x, count)
    if name == "atan2":
        return x, np.resize(rng.permutation(stratified("rsqrt", dtype, 1)), count)
    x = np.where(rng.random(count) < 0.9, np.abs(x), x)
    near_one = rng.random(count) < 0.3
    x = np.where(near_one, rng.uniform(0.9, 1.1, count), x).astype(dtype)
    top = float(np.finfo(dtype).maxexp)
    y = rng.uniform(-1.2 * top, 1.1 * top, count) / np.log2(np.abs(x.astype(np.longdouble)))
    return x, np.where(rng.random(count) < 0.2, np.rint(rng.uniform(-9, 9, count)), y).astype(dtype)


@each_of("powf", "atan2")
def test_functions_of_two_arguments(name: str, means: str) -> None:
    x, y = pairs(name, np.float32, 300_000)
    errors = ulp_errors(kernel(name, "f32", means)(x, y).astype(np.float64),
                        IN_F64[name](x.astype(np.float64), y.astype(np.float64)), *FORMATS["f32"])  # fmt: skip
    worst = int(np.argmax(errors))
    assert errors[worst] <= FUNCTIONS[name].bound(32, means != "plain"), f"{name}({x[worst]!r}, {y[worst]!r})"
    x, y = pairs(name, np.float64, 3000)
    keep = np.isfinite(x) & np.isfinite(y) & (x != 0) & (y != 0)
    x, y = x[keep], y[keep]
    got = kernel(name, "f64", means)(x, y)
    errors = np.array([ulp_error_of(name, *map(float, row)) for row in zip(got, x, y, strict=True)])
    worst = int(np.argmax(errors))
    assert errors[worst] <= FUNCTIONS[name].bound(64, means != "plain"), f"{name}({x[worst]!r}, {y[worst]!r})"


def test_every_function_has_thresholds_and_references() -> None:
    assert set(THRESHOLDS) == set(UNARY) == set(exhaustive.UNARY)
    assert set(IN_F64) == set(FUNCTIONS)


def test_ulp_errors() -> None:
    """1 + 2**-23 is one ulp from 1; half of the least denormal is half an ulp of 0; NaN is far from a number."""
    found = np.array([1 + 2.0**-23, 2.0**-150, np.inf, np.nan, 1.0, np.inf])
    exact = np.array([1.0, 0.0, 2.0**128, np.nan, np.nan, 2.0**128 - 2.0**103])
    np.testing.assert_array_equal(ulp_errors(found, exact, 23, -126, 127), [1, 0.5, 0, 0, np.inf, 0.5])
    assert ulp_error_of("exp", 1 + 2.0**-52, 0.0) == 1
    assert ulp_error_of("log", math.nan, -1.0) == 0
    assert ulp_error_of("log", 0.0, -1.0) == math.inf


def test_the_exhaustive_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a part of the range: a function within its bound, and one that is not."""
    whole = exhaustive.worst_of
    few = {"start": 1 << 29, "stop": (1 << 29) + 1000}
    monkeypatch.setattr(exhaustive, "worst_of", lambda name, means: whole(name, means, **few))
    assert exhaustive.main(["exp", "log"]) == 0
    assert ", within 0.9" in capsys.readouterr().out
    monkeypatch.setitem(IN_F64, "exp", np.cos)
    assert exhaustive.main(["exp"]) == 0  # both are 1 there
    monkeypatch.setitem(IN_F64, "log", np.log1p)
    assert exhaustive.main(["log"]) == 1
    assert "BEYOND" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        exhaustive.main(["logarithm"])
