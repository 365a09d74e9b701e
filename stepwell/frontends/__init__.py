"""Importers: from model files to the graph dialect."""

from __future__ import annotations
