"""Reads MLIR's text of affine maps: `affine_map<(d0, d1)[s0] -> (d0 + 1, d1 floordiv 16)>`.

map     := 'affine_map' '<' body '>' | body
body    := '(' names ')' ('[' names ']')? '->' '(' (sum (',' sum)*)? ')'
sum     := product (('+' | '-') product)*
product := unary (('*' | 'floordiv' | 'ceildiv' | 'mod') unary)*
unary   := '-' unary | INTEGER | NAME | '(' sum ')'
"""

from __future__ import annotations

import re
from collections.abc import Callable

from stepwell.errors import IRError, ParseError
from stepwell.ir.affine_expr import AffineExpr, const, dim, floordiv, mod, sym

_MAX_NESTING = 64
_MAX_DIGITS = 40
_TOKEN = re.compile(r"\s*(?:(?P<int>\d+)|(?P<name>[A-Za-z_][\w$.]*)|(?P<op>->|[-+*()\[\]<>,]))")
_SPACE = re.compile(r"\s*")
_PRODUCT = ("*", "floordiv", "ceildiv", "mod")


class AffineParseError(ParseError):
    """Affine text that does not parse; `position` is the offset of the offending character in `text`."""

    def __init__(self, message: str, text: str, position: int) -> None:
        line_start = text.rfind("\n", 0, position) + 1
        line = text[line_start:].split("\n", 1)[0]
        first = max(0, position - line_start - 60)
        super().__init__(
            f"affine map: {message} at character {position}\n  {line[first : first + 120]}\n"
            f"  {' ' * (position - line_start - first)}^"
        )
        self.message = message
        self.text = text
        self.position = position


class AffineReader:
    """Recursive descent over one text, from `position` on; an IR parser may use it in the middle of its own text."""

    def __init__(self, text: str, position: int = 0) -> None:
        self.text = text
        self.position = position
        self.names: dict[str, AffineExpr] = {}
        self.nesting = 0
        self.kind = ""
        self.token = ""
        self.start = position
        self.advance()

    def advance(self) -> None:
        match = _TOKEN.match(self.text, self.position)
        if match is None or match.lastgroup is None:
            space = _SPACE.match(self.text, self.position)
            self.kind, self.token = "", ""
            self.start = space.end() if space else self.position
            return
        self.kind, self.token = match.lastgroup, match[match.lastgroup]
        self.start = match.start(match.lastgroup)
        self.position = match.end()

    def error(self, message: str, position: int | None = None) -> AffineParseError:
        return AffineParseError(message, self.text, self.start if position is None else position)

    def take(self, token: str) -> bool:
        if self.token != token:
            return False
        self.advance()
        return True

    def expect(self, token: str) -> None:
        if not self.take(token):
            found = f"'{self.token}'" if self.token else "the end" if self.start >= len(self.text) else "this"
            raise self.error(f"expected '{token}', found {found}")

    def read_map(self) -> tuple[int, int, list[AffineExpr]]:
        """(number of dims, number of symbols, results) of a map with or without its `affine_map<...>`.

        Leaves `start` at the first character after the map that is no space.
        """
        wrapped = self.take("affine_map")
        if wrapped:
            self.expect("<")
        num_dims = self.declare("(", ")", dim)
        num_symbols = self.declare("[", "]", sym) if self.token == "[" else 0
        self.expect("->")
        self.expect("(")
        results: list[AffineExpr] = []
        if not self.take(")"):
            results.append(self.sum())
            while self.take(","):
                results.append(self.sum())
            self.expect(")")
        if wrapped:
            self.expect(">")
        return num_dims, num_symbols, results

    def declare(self, opening: str, closing: str, make: Callable[[int], AffineExpr]) -> int:
        self.expect(opening)
        count = 0
        if self.take(closing):
            return count
        while True:
            if self.kind != "name" or self.token in _PRODUCT:
                raise self.error("expected the name of a dim or symbol")
            if self.token in self.names:
                raise self.error(f"'{self.token}' is declared twice")
            self.names[self.token] = make(count)
            count += 1
            self.advance()
            if self.take(closing):
                return count
            self.expect(",")

    def sum(self) -> AffineExpr:
        result = self.product()
        while self.token in ("+", "-"):
            negative = self.token == "-"
            self.advance()
            term = self.product()
            result = result - term if negative else result + term
        return result

    def product(self) -> AffineExpr:
        result = self.unary()
        while self.token in _PRODUCT:
            token, start = self.token, self.start
            self.advance()
            factor = self.unary()
            try:
                result = _combine(token, result, factor)
            except IRError as error:
                raise self.error(str(error), start) from None
        return result

    def unary(self) -> AffineExpr:
        negative = False
        while self.take("-"):
            negative = not negative
        value = self.primary()
        return -value if negative else value

    def primary(self) -> AffineExpr:
        kind, token, start = self.kind, self.token, self.start
        if kind == "int":
            if len(token) > _MAX_DIGITS:
                raise self.error("an integer of too many digits")
            self.advance()
            return const(int(token))
        if kind == "name" and token not in _PRODUCT:
            if token not in self.names:
                raise self.error(f"'{token}' is no dim or symbol of this map", start)
            self.advance()
            return self.names[token]
        if token != "(":
            raise self.error("expected an expression")
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            raise self.error(f"nested deeper than {_MAX_NESTING} parentheses")
        self.advance()
        value = self.sum()
        self.expect(")")
        self.nesting -= 1
        return value


def _combine(token: str, a: AffineExpr, b: AffineExpr) -> AffineExpr:
    if token == "*":
        return a * b
    if token == "floordiv":
        return floordiv(a, b)
    return mod(a, b) if token == "mod" else a.ceildiv(b)
