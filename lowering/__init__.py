"""Importable as `stepwell.lowering` only."""

from __future__ import annotations

if __name__ != "stepwell.lowering":
    raise ImportError(f"import this package as stepwell.lowering, not as {__name__}")
