"""Derives every constant of `stepwell.lowering.loop.math.coefficients` and prints that module.

    python tools/fit_math_coefficients.py > lowering/loop/math/coefficients.py

Polynomials are minimax fits of the relative error of the whole function (Remez exchange in 50-digit arithmetic).
Coefficients are rounded to the target's format one by one, low order first, and the others are fitted again after
each rounding, so that they absorb its error. Needs mpmath, which nothing at run time does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mpmath import mp, mpf

mp.dps = 60

Function = Callable[[mpf], mpf]
PRECISION = {32: 24, 64: 53}


def rounded(value: mpf, bits: int) -> mpf:
    """`value` rounded to nearest even at `bits` significant bits."""
    if value == 0:
        return mpf(0)
    with mp.workprec(bits):
        return +value


def split(value: mpf, sizes: Sequence[int]) -> list[mpf]:
    """Parts of `value` with the given numbers of significant bits, each one the rounding of what is left."""
    parts = []
    for bits in sizes:
        parts.append(rounded(value, bits))
        value = value - parts[-1]
    return parts


def _extrema(errors: Sequence[mpf], count: int) -> list[int] | None:
    """Indices of `count` alternating extrema of the sampled errors, the largest run; None if there are too few."""
    peaks: list[int] = []
    for i, error in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return peaks if len(peaks) == count else None


def _value(coefficients: Sequence[mpf], x: mpf) -> mpf:
    return sum(c * x**k for k, c in enumerate(coefficients))


def _grid(low: mpf, high: mpf, size: int) -> list[mpf]:
    centre, radius = (high + low) / 2, (high - low) / 2
    return [centre - radius * mp.cos(mp.pi * i / (size - 1)) for i in range(size)]


def levelled(
    target: Function, relative_to: Function, powers: Sequence[int], low: mpf, high: mpf, rounds: int
) -> list[mpf]:
    """The coefficients c of sum c_k x**powers[k] with a nearly least max |(sum - target) / relative_to|.

    Least squares on Chebyshev points, with Lawson's reweighting (each point's weight times its error) to level the
    error; unlike the Remez exchange it needs no Haar space, so that some low orders may be fixed already.
    """
    grid = _grid(low, high, 4 * len(powers) + 9)
    scales, wanted = [relative_to(x) for x in grid], [target(x) for x in grid]
    rows = [[x**k / s for k in powers] for x, s in zip(grid, scales, strict=True)]
    right = [y / s for y, s in zip(wanted, scales, strict=True)]
    weights = [mpf(1)] * len(grid)
    best: tuple[mpf, list[mpf]] = (mp.inf, [])
    for _ in range(rounds):
        roots = [mp.sqrt(w) for w in weights]
        solution = mp.lu_solve(
            mp.matrix([[a * w for a in row] for row, w in zip(rows, roots, strict=True)]),
            mp.matrix([y * w for y, w in zip(right, roots, strict=True)]),
        )
        coefficients = list(solution)
        errors = [abs(mp.fdot(row, coefficients) - y) for row, y in zip(rows, right, strict=True)]
        best = min(best, (max(errors), coefficients), key=lambda pair: pair[0])
        weights = [w * e for w, e in zip(weights, errors, strict=True)]
        total = sum(weights)
        weights = [w / total + mpf("1e-9") for w in weights]
    return best[1]


def polynomial(
    target: Function, relative_to: Function, degree: int, low: mpf, high: mpf, bits: int, name: str
) -> list[mpf]:
    """Coefficients (low order first, rounded to `bits`) of the fit to `target`; the error is relative to a function."""
    done: list[mpf] = []

    def rest(x: mpf) -> mpf:
        return target(x) - _value(done, x)

    while len(done) <= degree:
        rounds = 12 if len(done) < 3 else 1
        free = levelled(rest, relative_to, range(len(done), degree + 1), low, high, rounds)
        done.append(rounded(free[0], bits))
    points = [x for x in _grid(low, high, 301) if x != 0]
    error = max(abs(rest(x) / relative_to(x)) for x in points)
    NOTES.append(f"# {name}: degree {degree}, relative error of the function 2**{float(mp.log(error, 2)):.1f}")
    return done


def rational(
    target: Function, degrees: tuple[int, int], limit: mpf, bits: int, name: str
) -> tuple[list[mpf], list[mpf]]:
    """P1 and Q with (1 + z P1(z)) / Q(z) ~ target(z), z = x**2, |x| <= limit, in the sense of the relative error.

    The rational Remez system is nonlinear in the levelled error; it is made linear with Q of the round before. Q is
    rounded first and P fitted to what the rounded Q asks for.
    """
    top, bottom = degrees
    size = top + bottom + 2
    grid = [x * x for x in _grid(mpf(0), limit, 30 * size + 1)[1:]]
    wanted = [target(z) for z in grid]
    nodes = [round((i + 0.5) * (len(grid) - 1) / size) for i in range(size)]
    q, best = [mpf(1)], (mpf("inf"), [mpf(1)])
    for _ in range(25):
        rows = [
            [grid[n] ** k for k in range(1, top + 1)]
            + [-wanted[n] * grid[n] ** k for k in range(bottom + 1)]
            + [(-1) ** i * wanted[n] * _value(q, grid[n])]
            for i, n in enumerate(nodes)
        ]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([mpf(-1)] * size))
        p = [mpf(1), *(solution[i] for i in range(top))]
        q = [solution[top + i] for i in range(bottom + 1)]
        errors = [_value(p, z) / _value(q, z) / y - 1 for z, y in zip(grid, wanted, strict=True)]
        worst = max(map(abs, errors))
        best = min(best, (worst, q), key=lambda pair: pair[0])
        peaks = _extrema(errors, size)
        if peaks is not None:
            nodes = peaks
    rounded_q = [rounded(c, bits) for c in best[1]]

    def scaled(z: mpf) -> mpf:
        return target(z) * _value(rounded_q, z)

    p1 = polynomial(
        lambda z: (scaled(z) - 1) / z, lambda z: scaled(z) / z, top - 1, mpf("1e-9"), limit * limit, bits, name
    )
    return p1, rounded_q


NOTES: list[str] = []
DEGREES: dict[int, dict[str, int]] = {
    32: {"exp": 5, "exp2": 6, "exp_part": 2, "exp2_part": 2, "expm1": 5, "log": 2, "pow": 2, "sin": 2, "cos": 2,
         "asin": 4, "atan": 4, "sinh": 3, "cbrt": 4},
    64: {"exp": 11, "exp2": 12, "exp_part": 6, "exp2_part": 6, "expm1": 10, "log": 6, "pow": 8, "sin": 5, "cos": 5,
         "asin": 12, "atan": 10, "sinh": 7, "erf": 12, "erfcx": 15, "cbrt": 4},
}  # fmt: skip
ROOTS = {32: 16, 64: 8}  # of two, in the table of the exponential
ERF_RATIONAL_DEGREES = (5, 5)
ERFCX_CENTRE = 3
ERFCX_RANGE = (mpf(1), mpf(6))  # from where 1 - erfc is taken to where erf is 1


def _log_tail(z: mpf) -> mpf:
    """(log((1 + s) / (1 - s)) / s - 2) / z with z = s**2: 2/3 + 2 z/5 + 2 z**2/7 ..."""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) / s - 2) / z


def _pow_tail(z: mpf) -> mpf:
    """(atanh(s) / s - 1 - z/3) / z**2 with z = s**2: 1/5 + z/7 + ..."""
    s = mp.sqrt(z)
    return (mp.atanh(s) / s - 1 - z / 3) / z**2


def _odd_tail(function: Function) -> Function:
    """(function(t) / t - 1) / z with z = t**2: what multiplies t**3 in an odd function of slope one."""
    return lambda z: (function(mp.sqrt(z)) / mp.sqrt(z) - 1) / z


def _odd_scale(function: Function) -> Function:
    return lambda z: function(mp.sqrt(z)) / (mp.sqrt(z) * z)


def _erf_quotient(z: mpf) -> mpf:
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z)


def _polynomials(width: int) -> dict[str, list[mpf]]:
    bits, degree = PRECISION[width], DEGREES[width]
    ln2, near, quarter = mp.log(2), mpf("1e-4"), (mp.pi / 4 * mpf("1.01")) ** 2
    widest = ln2 * mpf("1.01")
    part = 1 / (2 * mpf(ROOTS[width])) * mpf("1.01")
    root = mp.sqrt(2)
    log_limit = ((root - 1) / (root + 1)) ** 2 * mpf("1.001")

    def fit(name: str, target: Function, scale: Function, low: mpf, high: mpf) -> list[mpf]:
        return polynomial(target, scale, degree[name], low, high, bits, f"{name}.f{width}")

    def expm1_tail(r: mpf) -> mpf:
        return (mp.expm1(r) - r) / r**2 if abs(r) > mpf("1e-15") else mpf("0.5") + r / 6

    def exp2_tail(r: mpf) -> mpf:
        return mp.expm1(r * ln2) / r if abs(r) > mpf("1e-15") else ln2 + r * ln2**2 / 2

    def exp_part(r: mpf) -> mpf:
        return mp.expm1(r) / r if abs(r) > mpf("1e-15") else 1 + r / 2

    return {
        "roots_of_two": [rounded(mpf(2) ** (mpf(j) / ROOTS[width]), bits) for j in range(ROOTS[width])],
        "exp_part": fit("exp_part", exp_part, lambda r: mp.exp(r) / max(abs(r), near), -part * ln2, part * ln2),
        "exp2_part": fit("exp2_part", exp2_tail, lambda r: mpf(2) ** r / max(abs(r), near), -part, part),
        "exp": fit("exp", expm1_tail, lambda r: mp.exp(r) / max(r * r, near), -widest, widest),
        "exp2": fit("exp2", exp2_tail, lambda r: mpf(2) ** r / max(abs(r), near), -mpf(1), mpf(1)),
        "expm1": fit(
            "expm1", expm1_tail, lambda r: (mp.expm1(r) / r if r else 1) / max(abs(r), near), -widest / 2, widest / 2
        ),
        "log": fit("log", _log_tail, lambda z: (2 + z) / z, near, log_limit),
        "pow": fit("pow", _pow_tail, lambda z: 1 / z**2, near, log_limit),
        "sin": fit("sin", _odd_tail(mp.sin), _odd_scale(mp.sin), near, quarter),
        "cos": fit(
            "cos", lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, lambda z: mp.cos(mp.sqrt(z)) / z**2, near, quarter
        ),
        "asin": fit("asin", _odd_tail(mp.asin), _odd_scale(mp.asin), near, mpf("0.25")),
        "atan": fit("atan", _odd_tail(mp.atan), _odd_scale(mp.atan), near, (root - 1) ** 2 * mpf("1.001")),
        "sinh": fit("sinh", _odd_tail(mp.sinh), _odd_scale(mp.sinh), near, mpf(1)),
        "cbrt": fit("cbrt", mp.cbrt, mp.cbrt, 1 / mp.sqrt(8), mp.sqrt(8)),
        **(_erf_rational() if width == 32 else _erf_parts()),
    }


def _erf_rational() -> dict[str, list[mpf]]:
    p, q = rational(_erf_quotient, ERF_RATIONAL_DEGREES, mpf("3.9"), PRECISION[32], "erf rational.f32")
    return {"erf_numerator": p, "erf_denominator": q}


def _erf_parts() -> dict[str, list[mpf]]:
    """In f64 a polynomial below 1, and what 1 - erfc(x) is made of above it."""

    def erfcx(t: mpf) -> mpf:
        x = ERFCX_CENTRE * (1 + t) / (1 - t)
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)

    low, high = ((x - ERFCX_CENTRE) / (x + ERFCX_CENTRE) for x in ERFCX_RANGE)
    bits, degree = PRECISION[64], DEGREES[64]
    near = polynomial(
        lambda z: _erf_quotient(z) - 1, _erf_quotient, degree["erf"], mpf("1e-4"), mpf(1), bits, "erf.f64"
    )
    return {"erf": near, "erfcx": polynomial(erfcx, erfcx, degree["erfcx"], low, high, bits, "erfcx.f64")}


def _chunks(value: mpf, size: int, count: int) -> list[mpf]:
    """The first `count` chunks of `size` bits of a value below 1, each as a fraction: value = sum c_k 2**(-size k)."""
    parts = []
    for _ in range(count):
        parts.append(mp.floor(mp.ldexp(value, size)) / mpf(2) ** size)
        value = mp.ldexp(value - parts[-1], size)
    return parts


def _splits(width: int) -> dict[str, list[mpf]]:
    bits = PRECISION[width]
    short, half = (16, 12) if width == 32 else (42, 26)
    ln2, pi_2 = mp.log(2), mp.pi / 2
    mp.dps = 400
    chunks = _chunks(2 / mp.pi, bits, 9 if width == 32 else 23)
    mp.dps = 60
    return {
        "ln2": split(ln2, (short, bits)),
        "log2_e": split(1 / ln2, (half, bits)),
        "log10_e": split(1 / mp.log(10), (half, bits)),
        "log10_2": split(mp.log(2) / mp.log(10), (short, bits)),
        "two_over_ln2": split(2 / ln2, (bits, bits)),
        "third": split(mpf(1) / 3, (bits, bits)),
        "pi_2": split(pi_2, (bits, bits, bits)),
        "pi_2_short": split(pi_2, (15, 15, 15, bits) if width == 32 else (33, 33, 33, bits)),
        "two_over_pi": chunks,
    }


def _text(value: mpf) -> str:
    """The literal of a value that a float64 holds exactly."""
    if mpf(float(value)) != value:
        raise ValueError(f"{value} is not a float64")
    return repr(float(value))


def _emit(width: int) -> str:
    NOTES.clear()
    table = {**_splits(width), **_polynomials(width)}
    lines = []
    for name, values in table.items():
        one = f"    {name}=({', '.join(map(_text, values))}),"
        lines += [one] if len(one) <= 120 else [f"    {name}=(", *(f"        {_text(v)}," for v in values), "    ),"]
    return "\n".join([*NOTES, f"F{width} = Constants(", f"    width={width},", *lines, ")"])


HEADER = '''"""The constants of the recipes, written by tools/fit_math_coefficients.py: edit that, not this."""

from __future__ import annotations

from stepwell.lowering.loop.math.constants import Constants
'''

if __name__ == "__main__":
    sys.stdout.write("\n".join([HEADER, _emit(32), "", _emit(64), ""]))
