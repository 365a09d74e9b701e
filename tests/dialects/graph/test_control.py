"""Control flow: types of what leaves regions, and words for regions that do not fit."""

from __future__ import annotations

import pytest

from stepwell.errors import StepwellError
from stepwell.ir.parser import parse_module
from stepwell.ir.verifier import verify


def check(text: str) -> None:
    verify(parse_module(text, "test"))


BRANCHES = """
%c = "test.value"() : () -> tensor<i1>
%x = "test.value"() : () -> tensor<4xf32>
%y = "test.value"() : () -> tensor<4x1xf32>
%r = graph.if %c : (tensor<i1>) -> tensor<4xf32> {{
  graph.yield {first}
}} {{
  graph.yield {second}
}}
"""


def test_branches_must_yield_alike() -> None:
    check(BRANCHES.format(first="%x : tensor<4xf32>", second="%x : tensor<4xf32>"))
    with pytest.raises(StepwellError, match="tensor<4xf32> and tensor<4x1xf32> differ in more than sizes"):
        check(BRANCHES.format(first="%x : tensor<4xf32>", second="%y : tensor<4x1xf32>"))
    with pytest.raises(StepwellError, match="the branches yield 1 and 0 values"):
        check(BRANCHES.format(first="%x : tensor<4xf32>", second=""))


LOOP = """
%n = "test.value"() : () -> tensor<si64>
%x = "test.value"() : () -> tensor<4xf32>
%b = "test.value"() : () -> tensor<4xi1>
%r = graph.loop %n, %x {{operandSegmentSizes = array<i32: 1, 0, 1>}} : (tensor<si64>, tensor<4xf32>) -> tensor<4xf32> {{
^bb0({arguments}):
  graph.yield {ends}
}}
"""
GOOD = "%i: tensor<si64>, %go: tensor<i1>, %v: tensor<4xf32>"


@pytest.mark.parametrize(
    ("arguments", "ends", "message"),
    [
        (GOOD, "%go, %b : tensor<i1>, tensor<4xi1>", "carried value 0 after a round"),
        (GOOD, "%x, %v : tensor<4xf32>, tensor<4xf32>", "the next condition, an i1, first"),
        (GOOD, "%go : tensor<i1>", "takes 3 arguments and yields a condition"),
        ("%i: tensor<si64>, %go: tensor<i1>", "%go, %x : tensor<i1>, tensor<4xf32>", "takes 3 arguments"),
        ("%i: tensor<si32>, %go: tensor<i1>, %v: tensor<4xf32>", "%go, %v : tensor<i1>, tensor<4xf32>",
         "first arguments are the round"),
        ("%i: tensor<si64>, %go: tensor<i1>, %v: tensor<4x1xf32>", "%go, %v : tensor<i1>, tensor<4x1xf32>",
         "carried value 0 at first"),
    ],
)  # fmt: skip
def test_loop_bodies_that_do_not_fit(arguments: str, ends: str, message: str) -> None:
    check(LOOP.format(arguments=GOOD, ends="%go, %v : tensor<i1>, tensor<4xf32>"))
    with pytest.raises(StepwellError, match=message):
        check(LOOP.format(arguments=arguments, ends=ends))


SCAN = """
%x = "test.value"() : () -> tensor<3x5xf32>
%y = "test.value"() : () -> tensor<{rows}x5xf32>
%r = graph.scan %x, %y {{operandSegmentSizes = array<i32: 0, 2>, input_axes = array<i64: 0, {axis}>,
  input_reversed = array<i64: 0, 0>, output_axes = array<i64: 0>, output_reversed = array<i64: 0>}}
  : (tensor<3x5xf32>, tensor<{rows}x5xf32>) -> tensor<3x5xf32> {{
^bb0(%a: tensor<5xf32>, %b: tensor<5xf32>):
  graph.yield %a : tensor<5xf32>
}}
"""


@pytest.mark.parametrize(
    ("rows", "axis", "message"), [(4, 0, "inputs have 3 and 4 slices"), (3, 2, "axis 2 is out of range for rank 2")]
)
def test_scan_inputs_that_do_not_fit(rows: int, axis: int, message: str) -> None:
    check(SCAN.format(rows=3, axis=0))
    with pytest.raises(StepwellError, match=message):
        check(SCAN.format(rows=rows, axis=axis))
