"""What joining tensors means below the graph, where arrays of either sign stand for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from stepwell.dialects.tensor import ConcatOp


def test_arrays_of_either_sign_keep_their_size() -> None:
    op: Any = SimpleNamespace(axis=0)
    joined = ConcatOp.interpret(op, None, np.array([1, 255], np.uint8), np.array([-1], np.int8))
    assert joined.dtype == np.uint8 and joined.tolist() == [1, 255, 255]
