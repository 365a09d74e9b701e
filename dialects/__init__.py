"""Importable as `stepwell.dialects` only."""

from __future__ import annotations

if __name__ != "stepwell.dialects":
    raise ImportError(f"import this package as stepwell.dialects, not as {__name__}")
