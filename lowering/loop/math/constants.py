"""The shape of a format's table of constants; `coefficients` holds one for f32 and one for f64."""

from __future__ import annotations

import attrs

Coefficients = tuple[float, ...]


@attrs.frozen(kw_only=True)
class Constants:
    """Constants of one float format. Polynomials are low order first; splits are high part first.

    With z the square of the reduced argument, `q` the named polynomial:
    exp, expm1: e**r = 1 + r + r**2 q(r), |r| <= ln 2 and ln 2 / 2;  exp2: 2**r = 1 + r q(r), |r| <= 1;
    exp_part: e**r = 1 + r q(r), |r| <= ln 2 / (2 n);  exp2_part: 2**r = 1 + r q(r), |r| <= 1 / (2 n), where n is the
    length of `roots_of_two`, 2**(j / n) for j from 0: as many as a register of 64 bytes holds;
    log: log((1 + s) / (1 - s)) = 2 s + s z q(z);  pow: atanh(s) = s + s z / 3 + s z**2 q(z);
    sin, asin, atan, sinh: f(t) = t + t z q(z);  cos: 1 - z / 2 + z**2 q(z);
    erf (f64 only): f(t) = t + t q(z);  erfcx (f64 only): e**(x**2) erfc(x) = q((x - 3) / (x + 3)) / (1 + 2 x);
    cbrt: a first guess, within 2**-9, of a root between sqrt(1/2) and sqrt(2);
    erf_numerator p, erf_denominator q (f32 only): erf(t) = (t + t z p(z)) / q(z).
    """

    width: int
    ln2: Coefficients
    log2_e: Coefficients
    log10_e: Coefficients
    log10_2: Coefficients
    two_over_ln2: Coefficients
    third: Coefficients
    pi_2: Coefficients
    pi_2_short: Coefficients
    two_over_pi: Coefficients
    exp: Coefficients
    exp2: Coefficients
    roots_of_two: Coefficients
    exp_part: Coefficients
    exp2_part: Coefficients
    expm1: Coefficients
    log: Coefficients
    pow: Coefficients
    sin: Coefficients
    cos: Coefficients
    asin: Coefficients
    atan: Coefficients
    sinh: Coefficients
    cbrt: Coefficients
    erf: Coefficients = ()
    erfcx: Coefficients = ()
    erf_numerator: Coefficients = ()
    erf_denominator: Coefficients = ()

    @property
    def fraction_bits(self) -> int:
        """Stored bits of the significand: 23 or 52."""
        return 23 if self.width == 32 else 52

    @property
    def bias(self) -> int:
        """The exponent bias: 127 or 1023."""
        return 127 if self.width == 32 else 1023

    @property
    def min_normal(self) -> float:
        """The smallest positive normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def magic(self) -> float:
        """1.5 * 2**fraction_bits: adding it rounds |x| < 2**(fraction_bits - 1) to an integer, kept in the low bits."""
        return 1.5 * 2.0**self.fraction_bits

    @property
    def magic_bits(self) -> int:
        """The bit pattern of `magic`."""
        return ((self.bias + self.fraction_bits) << self.fraction_bits) | (1 << (self.fraction_bits - 1))
