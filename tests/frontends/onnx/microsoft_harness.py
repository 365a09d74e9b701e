"""Checks rules of com.microsoft against onnxruntime."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tests.frontends.onnx.rule_harness import assert_matches, given, imported, node_model, onnxruntime_outputs

Array = np.ndarray[Any, Any]


def floats(*shape: int) -> Array:
    """Numbers that differ from shape to shape."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def check(
    op_type: str, inputs: list[Array | None], outputs: list[str] | None = None, domain: str = "com.microsoft",
    constants: Collection[int] = (), **fields: Any,
) -> None:  # fmt: skip
    model = node_model(op_type, inputs, outputs=outputs or ["y"], constants=constants, domain=domain, **fields)
    arrays = given(inputs, constants)
    assert_matches(imported(model).run(arrays), onnxruntime_outputs(model, arrays), rtol=1e-4, atol=2e-5)
