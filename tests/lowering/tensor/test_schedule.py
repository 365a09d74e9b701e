"""The dim along which a kernel's vectors run."""

from __future__ import annotations

import pytest

from stepwell.dialects.tensor import KernelOp
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.lowering.tensor.schedule import Schedule

KERNEL = """
func.func @main(%x: tensor<{shape}xf32>) -> tensor<{rows}xf32> {{
  %r = tensor.kernel %x : (tensor<{shape}xf32>) -> tensor<{rows}xf32> {{
  ^bb0(%a: tensor<{shape}xf32>):
    %s = tensor.generic %a {{identities = [0.0 : f32], iterators = ["parallel", "reduction"], maps = [affine_map<(d0, d1) -> ({read})>, affine_map<(d0, d1) -> (d0)>], names = ["r", "c"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[{rows}, {columns}]>}} : (tensor<{shape}xf32>) -> tensor<{rows}xf32> {{
    ^bb1(%v: f32):
      tensor.yield %v : f32
    }} {{
    ^bb2(%p: f32, %q: f32):
      %t = arith.addf %p, %q : f32
      tensor.yield %t : f32
    }}
    tensor.yield %s : tensor<{rows}xf32>
  }}
  func.return %r : tensor<{rows}xf32>
}}
"""  # noqa: E501 - one op to a line


@pytest.mark.parametrize(
    ("shape", "read", "rows", "columns", "vector"),
    [
        ("64x256", "d0, d1", 64, 256, "c"),  # sums of rows: neighbours within a row
        ("256x64", "d1, d0", 64, 256, "r"),  # sums of columns: neighbouring columns
        ("64x7", "d0, d1", 64, 7, "r"),  # rows too short for vectors: several rows at once
        ("300", "d0 + d1", 64, 200, "r"),  # overlapping windows are contiguous along both dims
        ("700", "3 * d0 + d1", 64, 200, "c"),
    ],
)
def test_vectors_run_where_neighbours_are(shape: str, read: str, rows: int, columns: int, vector: str) -> None:
    text = KERNEL.format(shape=shape, read=read, rows=rows, columns=columns)
    module = parse_module(text)
    Schedule().run(module, PassContext())
    (kernel,) = module.walk_of(KernelOp)
    assert kernel.schedule is not None
    assert kernel.schedule.vector == vector
