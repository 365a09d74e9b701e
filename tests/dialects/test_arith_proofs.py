"""What is known of integers from the ops that make them."""

from __future__ import annotations

import pytest

from stepwell.dialects import arith
from stepwell.dialects.arith_proofs import is_never, may_run_early
from stepwell.dialects.func import FuncOp
from stepwell.ir.core import Value
from stepwell.ir.parser import parse_module


def last_value(lines: str) -> Value:
    """%r of a function of an index %x, a condition %c and a vector %v."""
    module = parse_module(f"""builtin.module {{
      func.func @f(%x: index, %c: i1, %v: vector<4xi32>) {{
        %zero = arith.constant 0 : index
        %one = arith.constant 1 : index
        {lines}
        func.return
      }}
    }}
    """)
    function = next(iter(module.walk_of(FuncOp)))
    return [op for op in function.entry if op.results][-1].results[0]


NEVER_ZERO = {
    "a constant": "%r = arith.constant 7 : index",
    "lanes": "%r = arith.constant dense<[1, -2, 3, 4]> : vector<4xi32>",
    "a broadcast": "%r = vector.broadcast %one : index to vector<4xindex>",
    "a maximum": "%r = arith.maxsi %x, %one : index",
    "a choice": "%p = arith.cmpi eq, %x, %zero : index\n%r = arith.select %p, %one, %x : index",
    "one of several reasons": """%p = arith.cmpi eq, %zero, %x : index
        %q = arith.ori %p, %c : i1
        %r = arith.select %q, %one, %x : index""",
}
MAYBE_ZERO = {
    "zero": "%r = arith.constant 0 : index",
    "a lane": "%r = arith.constant dense<[1, 0, 3, 4]> : vector<4xi32>",
    "anything": "%r = arith.addi %x, %one : index",
    "a maximum with 0": "%r = arith.maxsi %x, %zero : index",
    "a minimum": "%r = arith.minsi %x, %one : index",
    "a choice by another value": "%p = arith.cmpi eq, %x, %one : index\n%r = arith.select %p, %one, %x : index",
    "a choice the other way": "%p = arith.cmpi ne, %x, %zero : index\n%r = arith.select %p, %one, %x : index",
    "a choice of zero": "%p = arith.cmpi eq, %x, %zero : index\n%r = arith.select %p, %zero, %x : index",
}


@pytest.mark.parametrize("name", NEVER_ZERO)
def test_never_zero(name: str) -> None:
    assert is_never(last_value(NEVER_ZERO[name]), 0)


@pytest.mark.parametrize("name", MAYBE_ZERO)
def test_perhaps_zero(name: str) -> None:
    assert not is_never(last_value(MAYBE_ZERO[name]), 0)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("%r = arith.addi %x, %x : index", True),
        ("%r = arith.divsi %one, %x : index", False),
        ("%r = arith.remui %x, %one : index", True),
        ("%r = arith.divsi %v, %v : vector<4xi32>", False),
    ],
)
def test_a_division_may_not_run_where_it_might_not_have_run(lines: str, expected: bool) -> None:
    op = last_value(lines).defining_op
    assert op is not None
    assert may_run_early(op) == expected
    assert isinstance(op, arith.BinaryOp)
