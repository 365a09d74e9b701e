"""Text on its way into a page."""

from __future__ import annotations

from html import escape


def text(value: object) -> str:
    """Any value as text of a page: markup is escaped, and what a page may not contain becomes U+FFFD."""
    return escape("".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in str(value)))
