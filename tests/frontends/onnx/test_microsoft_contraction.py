"""Matrix products of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from typing import Any

import pytest

from tests.frontends.onnx.microsoft_harness import check, floats


@pytest.mark.parametrize(
    ("a", "b", "fields"),
    [
        ((2, 3), (3, 4), {"alpha": 0.5}),
        ((5, 3, 2), (5, 3, 4), {"transA": 1}),
        ((5, 2, 3), (5, 4, 3), {"transB": 1, "alpha": 2.0}),
        ((2, 5, 3), (5, 3, 4), {"transBatchA": 1}),
    ],
)
def test_fused_matmul(a: tuple[int, ...], b: tuple[int, ...], fields: dict[str, Any]) -> None:
    check("FusedMatMul", [floats(*a), floats(*b)], **fields)
