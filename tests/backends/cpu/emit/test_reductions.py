"""Vectors merged into scalars: every kind, with and without an accumulator, against the interpreter."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

DTYPES = {"i1": np.bool_, "i8": np.int8, "i64": np.int64, "bf16": ml_dtypes.bfloat16, "f32": np.float32,
          "f64": np.float64}  # fmt: skip
CASES = [
    *((kind, "i1") for kind in ("and", "or", "xor")),
    *((kind, element) for kind in ("add", "mul", "and", "or", "xor", "minui", "minsi", "maxui", "maxsi")
      for element in ("i8", "i64")),
    *((kind, element) for kind in ("add", "mul", "maximumf", "minimumf", "maxnumf", "minnumf")
      for element in ("bf16", "f32", "f64")),
]  # fmt: skip

PROGRAM = """
builtin.module {{
  func.func private @k(%m: memref<{rows}x8x{e}>,
                       %s: memref<{rows}x{e}>, %t: memref<{rows}x{e}>) attributes {{kernel}} {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %n = arith.constant {rows} : index
    loop.parallel %i = %c0 to %n step %c1 {{
      %x = vector.load %m[%i, %c0] : memref<{rows}x8x{e}>, vector<8x{e}>
      %r = vector.reduction<{kind}>, %x : vector<8x{e}> into {e}
      buffer.store %r, %s[%i] : memref<{rows}x{e}>
      %a = buffer.load %m[%c0, %c1] : memref<{rows}x8x{e}>
      %q = vector.reduction<{kind}>, %x, %a : vector<8x{e}> into {e}
      buffer.store %q, %t[%i] : memref<{rows}x{e}>
      loop.yield
    }}
    func.return
  }}
  func.func @main(%m: memref<{rows}x8x{e}>, %s: memref<{rows}x{e}> {{sw.out}}, %t: memref<{rows}x{e}> {{sw.out}}) {{
    kernel.launch @k(%m, %s, %t) : (memref<{rows}x8x{e}>, memref<{rows}x{e}>, memref<{rows}x{e}>) -> ()
    func.return
  }}
}}
"""


def rows(element: str) -> np.ndarray[Any, Any]:
    """Rows where order, rounding, signs and NaN show."""
    dtype = np.dtype(DTYPES[element])
    if element == "i1":
        return np.array([[0] * 8, [0] * 7 + [1], [1] * 8, [1, 0] * 4], dtype)
    if dtype.kind == "i":
        return np.array([[1, 2, 3, 4, 5, 6, 7, 8], [-1, 1, 0, 5, -7, 100, -128, 127], [0] * 8]).astype(dtype)
    return np.array([[1, 256, 1, 1, -256, 0.3, 1e-3, 3], [0.5, np.nan, 1, 2, 3, 4, 5, 6], [np.inf, 1, -2, 3] * 2,
                     [1.1, 1.3, -0.7, 2.5, 1e8, -1e8, 3, 1]]).astype(dtype)  # fmt: skip


@pytest.mark.parametrize(("kind", "element"), CASES)
def test_like_the_interpreter(both: Any, kind: str, element: str) -> None:
    values = rows(element)
    both(PROGRAM.format(kind=kind, e=element, rows=len(values)), [values])
