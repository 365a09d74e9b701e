"""Dialect conversion: every op replaced in one walk, types converted, and an explanation for what has no rule."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.dialects import arith
from stepwell.errors import PassError
from stepwell.ir.conversion import Conversion, NoMatch, Rule
from stepwell.ir.core import Operation, UnregisteredOp, Value
from stepwell.ir.parser import parse_module
from stepwell.ir.types import F32, F64, I32, Type
from stepwell.ir.verifier import verify


def widen(type_: Type) -> Type:
    return F64 if type_ is F32 else type_


def add_wide(op: arith.AddFOp, c: Conversion) -> Value:
    return c.insert(arith.AddFOp(c.new(op.lhs), c.new(op.rhs))).result


def only_small(op: arith.AddIOp, c: Conversion) -> Value:
    raise NoMatch("it is too large")


def only_even(op: arith.AddIOp, c: Conversion) -> Value:
    raise NoMatch("it is odd")


def two_for_one(op: arith.MulFOp, c: Conversion) -> list[Value]:
    return [c.new(op.lhs), c.new(op.rhs)]


def conversion(**options: Any) -> Conversion:
    rules: dict[type[Operation], list[Rule]] = {
        arith.AddFOp: [Rule(arith.AddFOp, add_wide)],
        arith.AddIOp: [Rule(arith.AddIOp, only_small), Rule(arith.AddIOp, only_even)],
        arith.MulFOp: [Rule(arith.MulFOp, two_for_one)],
    }
    legal = options.pop("is_legal", lambda op: isinstance(op, UnregisteredOp))
    return Conversion(rules, widen, legal, **options)


def test_ops_arguments_and_uses_are_converted() -> None:
    module = parse_module("""
        "region"() ({
        ^bb0(%x: f32, %y: i32):
          %s = arith.addf %x, %x : f32
          "use"(%s, %y) : (f32, i32) -> ()
        }) : () -> ()""")
    conversion().run(module)
    verify(module)
    assert [line.strip() for line in str(module).splitlines()[1:-1]] == [
        "^bb0(%x: f64, %y: i32):",
        "%s = arith.addf %x, %x : f64",
        '"use"(%s, %y) : (f64, i32) -> ()',
    ]


def test_regions_of_legal_ops_are_entered() -> None:
    module = parse_module("""
        "outer"() ({
        ^bb0(%x: f32):
          "inner"() ({
            %s = arith.addf %x, %x : f32
            "use"(%s) : (f32) -> ()
          }) : () -> ()
        }) : () -> ()""")
    conversion().run(module)
    verify(module)
    assert "arith.addf %x, %x : f64" in str(module)


def test_everything_without_a_rule_is_listed_with_the_reasons() -> None:
    module = parse_module("""
        "region"() ({
        ^bb0(%x: i32, %y: f32):
          %a = arith.addi %x, %x : i32 loc("node")
          %b = arith.subf %y, %y : f32 loc(unknown)
          "use"(%a, %b) : (i32, f32) -> ()
        }) : () -> ()""")
    with pytest.raises(PassError) as raised:
        conversion().run(module)
    assert str(raised.value).splitlines() == [
        "no conversion for:",
        "  arith.addi (from node): only_small: it is too large; only_even: it is odd",
        "  arith.subf: no rule is registered for it",
    ]


def test_a_rule_gives_one_value_per_result() -> None:
    module = parse_module('"region"() ({\n^bb0(%y: f32):\n  %b = arith.mulf %y, %y : f32\n}) : () -> ()')
    with pytest.raises(PassError, match=r"the conversion of arith.mulf gave 2 values for 1 results"):
        conversion().run(module)


def test_types_without_conversion_stay() -> None:
    assert widen(I32) is I32
