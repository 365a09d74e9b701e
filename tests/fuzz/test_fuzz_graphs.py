"""A short, seeded run of the graph fuzzer; longer ones by its command."""

from __future__ import annotations
