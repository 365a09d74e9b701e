"""Elementary functions as compiled kernels of one operation."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

import stepwell
from stepwell.lowering.loop.math.recipes import FUNCTIONS

DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def text_of(name: str, element: str) -> str:
    """A module of the tensor landing that maps vectors of any length."""
    count = FUNCTIONS[name].operands
    type_ = f'tensor<?x{element}, #graph.shape<["n"]>>'
    arguments = ", ".join(f"%x{n}: {type_}" for n in range(count))
    places = ", ".join(["affine_map<(d0) -> (d0)>"] * (count + 1))
    given, scalars = ", ".join(f"%x{n}" for n in range(count)), ", ".join(f"%s{n}: {element}" for n in range(count))
    return f"""builtin.module {{
  func.func @main({arguments}) -> {type_} {{
    %y = tensor.generic {given} {{identities = [], iterators = ["parallel"], maps = [{places}], names = ["n"],
      operandSegmentSizes = array<i32: {count}, 0>, sizes = #tensor.dims<["n"]>}}
      : ({", ".join([type_] * count)}) -> {type_} {{
    ^bb0({scalars}):
      %r = math.{name} {", ".join(f"%s{n}" for n in range(count))} : {element}
      tensor.yield %r : {element}
    }}
    func.return %y : {type_}
  }}
}}
"""


TARGETS = {"tables": "x86-64-v4", "fma": "x86-64-v3", "plain": "x86-64"}
"""By what they have: nothing, fused multiply-add, and that with tables in registers."""


def compiled(name: str, element: str, means: str, threads: int | None = None) -> stepwell.Model:
    """The function for the target with those means. Raises TargetError where this machine lacks them."""
    return stepwell.compile(text_of(name, element), target=TARGETS[means], threads=threads)
