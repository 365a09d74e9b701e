"""Tokens of IR text, and errors that show the place."""

from __future__ import annotations

import bisect
import re
from enum import Enum
from typing import NamedTuple

from stepwell.errors import ParseError


class Kind(Enum):
    """What a token is."""

    BARE = "identifier"
    VALUE = "value name"
    BLOCK = "block name"
    SYMBOL = "symbol"
    HASH = "attribute name"
    BANG = "type name"
    INTEGER = "integer literal"
    HEX = "hexadecimal number"
    FLOAT = "number"
    STRING = "string"
    PUNCTUATION = "punctuation"
    END = "end of text"

    @property
    def with_article(self) -> str:
        """`a value name`."""
        return f"{'an' if self.value[0] in 'aeiou' else 'a'} {self.value}"


class Token(NamedTuple):
    """A piece of the text and where it starts."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Position behind it."""
        return self.start + len(self.text)


_SPACE = re.compile(r"(?:\s+|//[^\n]*)*")
_NAME = r"[A-Za-z_][A-Za-z0-9_$.]*"
_SUFFIX = r"(?:[0-9]+|[A-Za-z_$.-][A-Za-z0-9_$.-]*)"
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"(?P<FLOAT>-?[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?)"
    rf"|(?P<HEX>0x[0-9A-Fa-f]+)"
    rf"|(?P<INTEGER>-?[0-9]+)"
    rf"|(?P<BARE>{_NAME})"
    rf"|(?P<VALUE>%{_SUFFIX}(?:#[0-9]+)?)"
    rf"|(?P<BLOCK>\^{_SUFFIX})"
    rf"|(?P<SYMBOL>@(?:{_STRING}|[A-Za-z_][A-Za-z0-9_$.-]*))"
    rf"|(?P<HASH>#{_NAME})"
    rf"|(?P<BANG>!{_NAME})"
    rf"|(?P<STRING>{_STRING})"
    rf"|(?P<PUNCTUATION>->|::|\{{-#|#-\}}|[(){{}}\[\]<>,:=?*+|/-])"
)


_HEX_BYTE = re.compile(r"[0-9A-Fa-f]{2}\Z")


class Lexer:
    """Reads tokens on demand from any position, since shapes such as `4x?xf32` have their own lexical rules."""

    def __init__(self, text: str, filename: str) -> None:
        self.text = text
        self.filename = filename
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def token_at(self, position: int) -> Token:
        """The token that starts behind the white space and comments at `position`."""
        space = _SPACE.match(self.text, position)
        start = space.end() if space else position
        if start >= len(self.text):
            return Token(Kind.END, "", len(self.text))
        match = _TOKEN.match(self.text, start)
        if match is None:
            what = "unterminated string" if self.text[start] == '"' else f"unexpected character {self.text[start]!r}"
            raise self.error(what, start)
        assert match.lastgroup is not None
        return Token(Kind[match.lastgroup], match.group(), start)

    def line_column(self, position: int) -> tuple[int, int]:
        """1-based line and column."""
        line = bisect.bisect_right(self._line_starts, position)
        return line, position - self._line_starts[line - 1] + 1

    def error(self, message: str, position: int) -> ParseError:
        """An error that shows the line with a caret under the position."""
        line, column = self.line_column(position)
        start = position - column + 1
        end = self.text.find("\n", position)
        source = self.text[start : end if end >= 0 else len(self.text)]
        shift = 0
        if len(source) > 160:
            shift = max(0, min(column - 80, len(source) - 160))
            source = source[shift : shift + 160]
        caret = " " * (column - 1 - shift) + "^"
        return ParseError(f"{self.filename}:{line}:{column}: {message}\n  {source.replace(chr(9), ' ')}\n  {caret}")


def unquote(token_text: str) -> str:
    """The text of a string literal. Escapes: `\\\\`, `\\"`, `\\n`, `\\t` and two hexadecimal digits.

    Bytes that are not UTF-8 become surrogates, as in Python's file names. Raises ValueError for another escape."""
    out = bytearray()
    body = token_text[1:-1]
    i = 0
    while i < len(body):
        char = body[i]
        if char != "\\":
            out += char.encode(errors="surrogateescape")
            i += 1
        elif body[i + 1] in '"\\':
            out += body[i + 1].encode()
            i += 2
        elif body[i + 1] in "nt":
            out += b"\n" if body[i + 1] == "n" else b"\t"
            i += 2
        else:
            digits = body[i + 1 : i + 3]
            if not _HEX_BYTE.match(digits):
                raise ValueError(f"bad escape \\{digits} in a string")
            out.append(int(digits, 16))
            i += 3
    return out.decode(errors="surrogateescape")
