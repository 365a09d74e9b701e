"""The IR: operations in SSA form with attributes, regions and types; what reads, writes, checks and changes it."""

from __future__ import annotations
