"""Programs of one op, from scalars and from vectors, and the inputs on which each op is tried."""

from __future__ import annotations

import itertools
import re
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

LANES = 16
DTYPES = {
    "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "index": np.int64,
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64,
}  # fmt: skip


def typed(element: str, lanes: int | None) -> str:
    return element if lanes is None else f"vector<{lanes}x{element}>"


def program(line: str, inputs: list[str], output: str, count: int) -> str:
    """Applies `line` (operands %x0, %x1, ..., result %r, types {0}, {1}, ... and {r}) to arrays of `count` elements:
    the first output is made lane by lane, the second one from vectors."""
    arguments = ", ".join(f"%m{n}: memref<{count}x{element}>" for n, element in enumerate(inputs))
    kernels = [
        _kernel(name, lanes, line, inputs, output, count) for name, lanes in (("scalar", None), ("lanes", LANES))
    ]
    shape = f"memref<{count}x{output}>"
    types = ", ".join([*(f"memref<{count}x{element}>" for element in inputs), shape])
    given = ", ".join(f"%m{n}" for n in range(len(inputs)))
    return f"""
builtin.module {{
  {"".join(kernels)}
  func.func @main({arguments}, %s: {shape} {{sw.out}}, %v: {shape} {{sw.out}}) {{
    kernel.launch @scalar({given}, %s) : ({types}) -> ()
    kernel.launch @lanes({given}, %v) : ({types}) -> ()
    func.return
  }}
}}
"""


def _kernel(name: str, lanes: int | None, line: str, inputs: list[str], output: str, count: int) -> str:
    arguments = ", ".join(f"%m{n}: memref<{count}x{element}>" for n, element in enumerate(inputs))
    texts = {"r": typed(output, lanes)}
    filled = line.format(*(typed(element, lanes) for element in inputs), **texts)
    reads, write = [], f"buffer.store %r, %out[%i] : memref<{count}x{output}>"
    for n, element in enumerate(inputs):
        memory = f"memref<{count}x{element}>"
        reads.append(f"%x{n} = buffer.load %m{n}[%i] : {memory}" if lanes is None else
                     f"%x{n} = vector.load %m{n}[%i] : {memory}, {typed(element, lanes)}")  # fmt: skip
    if lanes is not None:
        write = f"vector.store %r, %out[%i] : memref<{count}x{output}>, {typed(output, lanes)}"
    return f"""
  func.func private @{name}({arguments}, %out: memref<{count}x{output}>) attributes {{kernel}} {{
    %zero = arith.constant 0 : index
    %step = arith.constant {lanes or 1} : index
    %count = arith.constant {count} : index
    loop.parallel %i = %zero to %count step %step {{
      {" ; ".join(reads).replace(" ; ", chr(10) + "      ")}
      {filled}
      {write}
      loop.yield
    }}
    func.return
  }}
"""


FLOATS = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.25, 100.7, -7.3, 1e-3, 6.1e-5, 3e-6, 65519.0, 65520.0, 1e5,
    -3e38, 1e-39, -1e-45, np.inf, -np.inf, np.nan,
]  # fmt: skip
INTEGERS = [0, 1, -1, 2, 3, -3, 5, 7, -8, 15, 16, 31, 63, 64, 100, -100, 127, -128]


def values(element: str) -> Array:
    """Interesting values of an element type."""
    dtype = np.dtype(DTYPES[element])
    if element == "i1":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([info.min, info.max, info.max - 1, info.min + 1, *INTEGERS]).astype(dtype)
    with np.errstate(all="ignore"):
        return np.array(FLOATS).astype(dtype)


def arguments(inputs: list[str], line: str = "") -> list[Array]:
    """Every combination of interesting values, in as many elements as fill vectors; conversions and divisions whose
    meaning the op leaves open are tried on what it defines."""
    columns = list(zip(*itertools.product(*(values(element) for element in inputs)), strict=True))
    arrays = [np.array(column, DTYPES[element]) for column, element in zip(columns, inputs, strict=True)]
    keep = np.ones(len(arrays[0]), bool)
    if re.search(r"arith\.(div|rem|floordiv|ceildiv)[su]?i", line):
        keep &= arrays[1] != 0
        keep &= (arrays[1] != -1) | (arrays[0] != np.iinfo(arrays[0].dtype).min)
    if "arith.sh" in line:
        keep &= (arrays[1] >= 0) & (arrays[1] < 8 * arrays[1].itemsize)
    arrays = [array[keep] for array in arrays]
    size = -(-len(arrays[0]) // LANES) * LANES
    return [np.resize(array, size) for array in arrays]
