"""Activations of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from tests.frontends.onnx.microsoft_harness import check, floats


def test_gelus() -> None:
    check("BiasGelu", [floats(3, 8), floats(8)])
    check("Gelu", [floats(3, 8)])
    check("FastGelu", [floats(3, 8), floats(8)])
    check("FastGelu", [floats(3, 8)])
    check("QuickGelu", [floats(3, 8)], alpha=1.5)
