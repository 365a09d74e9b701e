"""Regular expressions, matched by RE2 (github.com/google/re2/wiki/Syntax): the syntax that ONNX names, in time linear
in the text, which no text makes explode, as one may with `re`."""

from __future__ import annotations

import functools
from collections.abc import Callable

from stepwell.errors import IRError


def checked(pattern: str) -> None:
    """Raise IRError for what is no pattern."""
    matcher(pattern)


@functools.lru_cache(64)
def matcher(pattern: str) -> Callable[[str], bool]:
    """What says whether a whole text matches a pattern. Raises IRError for what is no pattern, or too large a one, and
    where RE2 is not installed."""
    try:
        import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise IRError("regular expressions need RE2: pip install 'stepwell[text]'") from None
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise IRError(f"{pattern!r} is no regular expression: {reason}") from None
    return lambda text: compiled.fullmatch(text) is not None
