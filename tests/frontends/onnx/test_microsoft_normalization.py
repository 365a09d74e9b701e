"""Normalisations of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from tests.frontends.onnx.microsoft_harness import check, floats


def test_skip_normalizations() -> None:
    x, skip, row = floats(2, 3, 8), floats(2, 3, 8) * 2, floats(8)
    check("SkipLayerNormalization", [x, skip, row, row, row], ["y", "", "", "sum"], epsilon=1e-5)
    check("SkipLayerNormalization", [x, skip, row], epsilon=1e-5)
    check("SkipSimplifiedLayerNormalization", [x, skip, row, row], ["y", "", "", "sum"], epsilon=1e-5)
    check("SimplifiedLayerNormalization", [x, row], domain="", epsilon=1e-5, axis=-1)
