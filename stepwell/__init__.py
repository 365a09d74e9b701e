"""Stepwell: a compiler for ONNX models that lowers, step by readable step, to machine code."""

from __future__ import annotations

__version__ = "0.1.0"
