"""Importable as `stepwell.backends` only."""

from __future__ import annotations

if __name__ != "stepwell.backends":
    raise ImportError(f"import this package as stepwell.backends, not as {__name__}")
