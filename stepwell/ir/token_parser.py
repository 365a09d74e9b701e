"""The part of the parser that takes tokens one by one and says what was expected instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from stepwell.errors import ParseError
from stepwell.ir.lexer import Kind, Lexer, Token, unquote

T = TypeVar("T")
MAX_NESTING = 120
MAX_DIGITS = 40


class TokenParser:
    """A position in a text, one token of lookahead, and the nesting depth."""

    def __init__(self, text: str, filename: str) -> None:
        self.lexer = Lexer(text, filename)
        self._token: Token | None = None
        self._position = 0
        self._depth = 0

    def peek(self) -> Token:
        """The next token."""
        if self._token is None:
            self._token = self.lexer.token_at(self._position)
        return self._token

    def peek_after(self) -> Token:
        """The token behind the next one."""
        return self.lexer.token_at(self.peek().end)

    def advance(self) -> Token:
        """Take the next token."""
        token = self.peek()
        self.seek(token.end)
        return token

    def seek(self, position: int) -> None:
        """Go on at a position of the text."""
        self._position, self._token = position, None

    def at(self, text: str) -> bool:
        """Whether the next token is this one."""
        token = self.peek()
        return token.text == text and token.kind is not Kind.STRING

    def at_punctuation(self) -> bool:
        """Whether the next token is punctuation or the end."""
        return self.peek().kind in (Kind.PUNCTUATION, Kind.END)

    def accept(self, text: str) -> bool:
        """Take the next token if it is this one."""
        if self.at(text):
            self.advance()
            return True
        return False

    def expect(self, text: str) -> Token:
        """Take this token or raise."""
        if not self.at(text):
            raise self.unexpected(repr(text))
        return self.advance()

    def expect_kind(self, kind: Kind) -> Token:
        """Take a token of this kind or raise."""
        if self.peek().kind is not kind:
            raise self.unexpected(kind.with_article)
        return self.advance()

    def unexpected(self, wanted: str) -> ParseError:
        """An error at the next token, which is not what was wanted."""
        token = self.peek()
        found = "the end of the text" if token.kind is Kind.END else repr(token.text)
        return self.error(f"expected {wanted}, found {found}", token)

    def error(self, message: str, token: Token | None = None) -> ParseError:
        """An error at a token (default: the next one)."""
        return self.lexer.error(message, (token or self.peek()).start)

    @contextmanager
    def nesting(self, token: Token) -> Iterator[None]:
        """Count nesting, so that hostile text cannot exhaust the stack."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self.error(f"nested more than {MAX_NESTING} deep", token)
        try:
            yield
        finally:
            self._depth -= 1

    def bare(self) -> str:
        """An identifier."""
        return self.expect_kind(Kind.BARE).text

    def integer(self) -> int:
        """An integer literal, decimal or hexadecimal."""
        token = self.peek()
        if token.kind not in (Kind.INTEGER, Kind.HEX):
            raise self.unexpected("an integer")
        self.advance()
        return self.integer_value(token)

    def integer_value(self, token: Token) -> int:
        """The number of an integer or hexadecimal token."""
        if len(token.text) > MAX_DIGITS:
            raise self.error("integer too large", token)
        return int(token.text, 16 if token.kind is Kind.HEX else 10)

    def string(self) -> str:
        """A string literal."""
        return self.unquoted(self.expect_kind(Kind.STRING))

    def unquoted(self, token: Token) -> str:
        """The text of a string token."""
        return self._unescape(token.text, token)

    def _unescape(self, literal: str, token: Token) -> str:
        try:
            return unquote(literal)
        except ValueError as error:
            raise self.error(str(error), token) from None

    def symbol(self) -> str:
        """`@name`."""
        token = self.expect_kind(Kind.SYMBOL)
        text = token.text[1:]
        return self._unescape(text, token) if text.startswith('"') else text

    def key(self) -> str:
        """A dictionary key: an identifier or a string."""
        return self.string() if self.peek().kind is Kind.STRING else self.bare()

    def comma_list(self, close: str, item: Callable[[], T]) -> list[T]:
        """`item, item` up to and including `close`."""
        items: list[T] = []
        if self.accept(close):
            return items
        while True:
            items.append(item())
            if self.accept(close):
                return items
            if not self.accept(","):
                raise self.unexpected(f"',' or {close!r}")
