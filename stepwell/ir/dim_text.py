"""Reads dimension texts as exporters write them (`8*h8`, `past + 1`, `floor((h - 3)/2) + 1`, `Max(1, n)`).

    sum     := product (('+' | '-') product)*
    product := unary (('*' | '//' | '/' | '%') unary)*
    unary   := ('+' | '-') unary | power
    power   := primary ('**' INTEGER)?
    primary := INTEGER | NAME | '`' any name '`' | FUNCTION '(' sum (',' sum)* ')' | '(' sum ')'

Functions, in any letter case: floor, ceil, ceiling, max, min, mod, floordiv, ceildiv and the names that SymPy and
PyTorch print for them. A true division `/` is kept as a fraction and must come out whole, by floor or ceiling or by
itself. Whatever does not parse becomes one opaque symbol named by the whole text: a model may call a dimension what it
likes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from stepwell.errors import IRError, ParseError
from stepwell.ir.dim_nodes import ceildiv, divide_exact, extreme, floordiv, mod
from stepwell.ir.dim_poly import MAX_COEFFICIENT_BITS, Dim, make_symbol_expr

# Longer texts are symbols; `str` of an expression of the largest size may be longer and then does not parse back.
MAX_TEXT = 8192
_MAX_NESTING = 40
_MAX_POWER = 64

_TOKEN = re.compile(
    r"\s*(?:(?P<int>\d+)|(?P<name>[^\W\d]\w*)|(?P<quoted>`(?:[^`]|``)+`)|(?P<op>\*\*|//|[-+*/%(),])|(?P<end>\Z))"
)
_QUOTED = re.compile(r"`(?:[^`]|``)+`")


class Fraction(NamedTuple):
    """`num / den` inside a text, before floor or ceiling make it whole."""

    num: Dim
    den: Dim

    def whole(self) -> Dim:
        if self.den == 1:
            return self.num
        result = divide_exact(self.num, self.den)
        if result is None:
            raise _Opaque
        return result


class _Opaque(Exception):
    """The text is no expression of the grammar."""


def _limited(x: Fraction) -> Fraction:
    """`x`, unless plain integers outgrow what expressions allow their coefficients."""
    for part in x:
        if isinstance(part, int) and part.bit_length() > MAX_COEFFICIENT_BITS:
            raise _Opaque
    return x


def _floor(x: Fraction) -> Fraction:
    return Fraction(floordiv(x.num, x.den), 1)


def _ceil(x: Fraction) -> Fraction:
    return Fraction(ceildiv(x.num, x.den), 1)


def _add(x: Fraction, y: Fraction) -> Fraction:
    if x.den == y.den:
        return Fraction(x.num + y.num, x.den)
    return Fraction(x.num * y.den + y.num * x.den, x.den * y.den)


def _multiply(x: Fraction, y: Fraction) -> Fraction:
    return _limited(Fraction(x.num * y.num, x.den * y.den))


def _divide(x: Fraction, y: Fraction) -> Fraction:
    if y.num == 0:
        raise _Opaque
    return _limited(Fraction(x.num * y.den, x.den * y.num))


def _whole(operation: Callable[[Dim, Dim], Dim]) -> Callable[[Fraction, Fraction], Fraction]:
    return lambda x, y: Fraction(operation(x.whole(), y.whole()), 1)


def _floor_divide(x: Fraction, y: Fraction) -> Fraction:
    return _floor(_divide(x, y))


def _ceil_divide(x: Fraction, y: Fraction) -> Fraction:
    return _ceil(_divide(x, y))


_UNARY = dict.fromkeys(("floor", "floortoint"), _floor) | dict.fromkeys(("ceil", "ceiling", "ceiltoint"), _ceil)
_BINARY = {
    "mod": _whole(mod),
    "pythonmod": _whole(mod),
    "floordiv": _floor_divide,
    "cleandiv": _floor_divide,
    "ceildiv": _ceil_divide,
    "inttruediv": _divide,
}
_VARIADIC = frozenset(("max", "min"))
_PRODUCT = {"*": _multiply, "/": _divide, "//": _floor_divide, "%": _whole(mod)}


@lru_cache(maxsize=1 << 12)
def parse_dim(text: str) -> Dim:
    """The dimension that `text` writes; a text outside the grammar is one symbol of that name.

    Raises ParseError only for an empty text. Texts beyond `MAX_TEXT` characters, nesting beyond any sensible depth and
    expressions that grow too large are symbols as well.
    """
    text = text.strip()
    if not text:
        raise ParseError("an empty text is no dimension; write a number, a name or an expression")
    if _QUOTED.fullmatch(text):
        return make_symbol_expr(_unquote(text))
    if len(text) <= MAX_TEXT:
        try:
            return _Reader(text).read()
        except (_Opaque, IRError):
            pass
    return make_symbol_expr(text)


def _unquote(text: str) -> str:
    return text[1:-1].replace("``", "`")


class _Reader:
    """Recursive descent over the tokens of one text; raises `_Opaque` at the first thing outside the grammar."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while True:
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise _Opaque
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
            if match.lastgroup == "end":
                break
        self.next = 0
        self.nesting = 0

    def read(self) -> Dim:
        result = self.sum().whole()
        if self.tokens[self.next][0] != "end" or (
            isinstance(result, int) and result.bit_length() > MAX_COEFFICIENT_BITS
        ):
            raise _Opaque
        return result

    def take(self, *operators: str) -> str | None:
        kind, text = self.tokens[self.next]
        if kind != "op" or text not in operators:
            return None
        self.next += 1
        return text

    def expect(self, operator: str) -> None:
        if self.take(operator) is None:
            raise _Opaque

    def sum(self) -> Fraction:
        result = self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            result = _add(result, term if sign == "+" else Fraction(-term.num, term.den))
        return result

    def product(self) -> Fraction:
        result = self.unary()
        while operator := self.take(*_PRODUCT):
            result = _PRODUCT[operator](result, self.unary())
        return result

    def unary(self) -> Fraction:
        negative = False
        while sign := self.take("+", "-"):
            negative ^= sign == "-"
        value = self.power()
        return Fraction(-value.num, value.den) if negative else value

    def power(self) -> Fraction:
        base = self.primary()
        if self.take("**") is None:
            return base
        kind, text = self.tokens[self.next]
        if kind != "int" or len(text) > 2 or int(text) > _MAX_POWER:
            raise _Opaque
        self.next += 1
        result = Fraction(1, 1)
        for _ in range(int(text)):
            result = _multiply(result, base)
        return result

    def primary(self) -> Fraction:
        kind, text = self.tokens[self.next]
        self.next += 1
        if kind == "int":
            if len(text) > MAX_COEFFICIENT_BITS // 3:
                raise _Opaque
            return Fraction(int(text), 1)
        if kind == "quoted":
            return Fraction(make_symbol_expr(_unquote(text)), 1)
        if kind == "name":
            is_call = self.tokens[self.next] == ("op", "(")
            return self.call(text.lower()) if is_call else Fraction(make_symbol_expr(text), 1)
        if text != "(":
            raise _Opaque
        return self.nested(")")

    def nested(self, *closers: str) -> Fraction:
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            raise _Opaque
        value = self.sum()
        self.nesting -= 1
        if self.take(*closers) is None:
            raise _Opaque
        return value

    def call(self, name: str) -> Fraction:
        self.expect("(")
        args = [self.nested(",", ")")]
        while self.tokens[self.next - 1][1] == ",":
            args.append(self.nested(",", ")"))
        if name in _UNARY and len(args) == 1:
            return _UNARY[name](args[0])
        if name in _BINARY and len(args) == 2:
            return _BINARY[name](args[0], args[1])
        if name in _VARIADIC:
            return Fraction(extreme(name, [arg.whole() for arg in args]), 1)
        raise _Opaque
