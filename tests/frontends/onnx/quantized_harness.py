"""Checks rules on quantised tensors against onnxruntime: with sizes as given, with symbols, with constants."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tests.frontends.onnx.rule_harness import (
    assert_matches,
    given,
    imported,
    node_model,
    onnxruntime_outputs,
    symbols_by_size,
)

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(3)


def whole(dtype: Any, *shape: int) -> Array:
    """Integers from all of a type's range."""
    info = np.iinfo(dtype)
    return RNG.integers(info.min, int(info.max) + 1, shape).astype(dtype)


def real(*shape: int) -> Array:
    """Floats around zero."""
    return RNG.standard_normal(shape).astype(np.float32)


def scale(*shape: int) -> Array:
    """Scales of 8-bit integers."""
    return RNG.uniform(0.01, 0.05, shape).astype(np.float32)


def check(
    op_type: str, inputs: Sequence[Array | None], outputs: int | Sequence[str] = 1, *, symbolic: bool = True,
    constants: Collection[int] | None = None, fixed: Collection[int] = (), domain: str = "com.microsoft",
    quanta: int = 0, rtol: float = 1e-5, atol: float = 1e-6, **fields: Any,
) -> None:  # fmt: skip
    """A node gives what onnxruntime gives, up to `quanta` of an integer result.

    It is imported as given, with symbols for sizes, and with the inputs at `constants` (default: all but the first)
    turned into constants; those at `fixed` are constants always."""
    some = [index for index, array in enumerate(inputs) if index and array is not None]
    known = some if constants is None else constants
    arrays = [None if array is None else np.asarray(array) for array in inputs]
    shapes = {index: dims for index, dims in symbols_by_size(arrays).items() if np.ndim(arrays[index])}
    model = node_model(op_type, arrays, outputs=outputs, domain=domain, constants=fixed, **fields)
    wanted = onnxruntime_outputs(model, given(arrays, fixed))
    modes: list[tuple[Collection[int], Any]] = [(fixed, None), ({*fixed, *known}, None)]
    for places, dims in modes + ([(fixed, shapes)] if symbolic else []):
        model = node_model(
            op_type, arrays, outputs=outputs, domain=domain, constants=places, shapes=dims, **fields
        )  # fmt: skip
        made = imported(model).run(given(arrays, places))
        for found, other in zip(made, wanted, strict=True):
            assert_close(found, other, quanta, rtol, atol)


def assert_close(made: Any, wanted: Any, quanta: int = 0, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Equal types and shapes; integers up to `quanta`, floats within a tolerance."""
    if np.asarray(wanted).dtype.kind in "iu" and quanta:
        assert (np.asarray(made).dtype, np.shape(made)) == (np.asarray(wanted).dtype, np.shape(wanted))
        assert np.max(np.abs(np.asarray(made).astype(np.int64) - np.asarray(wanted).astype(np.int64))) <= quanta
    else:
        assert_matches(made, wanted, rtol, atol)
