"""Matrix products -> `tensor.generic` sums of products."""

from __future__ import annotations
