"""The IR: operations in SSA form with attributes, regions and types, and the tools that read, write, check and change it."""

from __future__ import annotations
