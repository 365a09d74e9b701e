"""Checks rules of com.microsoft against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

import stepwell
from tests.frontends.onnx.rule_harness import assert_matches, given, imported, node_model, onnxruntime_outputs

Array = np.ndarray[Any, Any]
Defined = Callable[[int, Array], Array]


def floats(*shape: int) -> Array:
    """Numbers that differ from shape to shape."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def check(
    op_type: str, inputs: Sequence[Array | None], outputs: list[str] | None = None, domain: str = "com.microsoft",
    constants: Collection[int] = (), shapes: Mapping[int, Sequence[int | str]] | None = None, native: bool = False,
    typed: Collection[str] = (), tolerance: float = 2e-5,
    defined: Defined = lambda index, array: array, expected: Sequence[Array] | None = None,
    **fields: Any,
) -> None:  # fmt: skip
    """The results of a node against those of onnxruntime, or `expected`: of given sizes and, where `shapes` has
    symbols, of those; with `native`, compiled too. `defined(i, array)` is what counts of result i;
    outputs that are `typed` are declared as f32, which onnxruntime needs of some."""
    named: dict[str, Any] = {"outputs": outputs or ["y"], "constants": constants, "domain": domain, **fields}
    arrays, wanted = given(inputs, constants), expected
    for sizes in (None, shapes) if shapes else (None,):
        model = node_model(op_type, inputs, shapes=sizes, **named)
        for port in model.graph.output:
            if port.name in typed:
                port.type.tensor_type.elem_type = TensorProto.FLOAT
        if wanted is None:
            wanted = onnxruntime_outputs(model, arrays)
        runs = [imported(model).run(arrays)]
        if native:
            made = stepwell.compile(model)(*arrays)
            runs.append(list(made) if isinstance(made, (tuple, list)) else [made])
        for made in runs:
            assert len(made) == len(wanted)
            for index, (one, other) in enumerate(zip(made, wanted, strict=True)):
                assert one.shape == other.shape
                assert_matches(defined(index, one), defined(index, other), rtol=max(1e-4, tolerance), atol=tolerance)
