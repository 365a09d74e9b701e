"""Simplifications as pairs: a function body before, and what canonicalisation leaves of it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from stepwell.dialects.func import FuncOp
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.graph.canonicalize import Canonicalize
from stepwell.lowering.graph.fold import Fold

T = "tensor<2x3xf32>"
I = "tensor<2x3xsi32>"  # noqa: E741


def module(body: str, type_: str) -> Operation:
    """`%r = neg %x` and so on, one per line; `%c = 1.0` is a splat constant."""
    lines = []
    for line in filter(None, (part.strip() for part in body.split(";"))):
        name, text = line.split(" = ")
        kind, _, operands = text.partition(" ")
        if operands:
            count = operands.count("%")
            lines.append(f"{name} = graph.{kind} {operands} : ({', '.join([type_] * count)}) -> {type_}")
        else:
            lines.append(f"{name} = graph.constant dense<{kind}> : {type_}")
    text = f"func.func @main(%x: {type_}, %y: {type_}) -> {type_} {{ {' '.join(lines)} func.return %r : {type_} }}"
    parsed = parse_module(f"builtin.module {{ {text} }}")
    verify(parsed)
    return parsed


def kinds(parsed: Operation) -> list[str]:
    return [op.op_name.removeprefix("graph.") for op in parsed.walk() if op.dialect == "graph"]


def canonical(parsed: Operation) -> Operation:
    Canonicalize().run(parsed, PassContext())
    verify(parsed)
    return parsed


@pytest.mark.parametrize(
    ("body", "type_", "left"),
    [
        ("%c = -0.0; %r = add %x, %c", T, []),
        ("%c = -0.0; %r = add %c, %x", T, []),
        ("%c = 0.0; %r = add %x, %c", T, ["constant", "add"]),
        ("%c = 0; %r = add %x, %c", I, []),
        ("%c = 0.0; %r = sub %x, %c", T, []),
        ("%c = -0.0; %r = sub %x, %c", T, ["constant", "sub"]),
        ("%c = 1.0; %r = mul %c, %x", T, []),
        ("%c = 0.0; %r = mul %x, %c", T, ["constant", "mul"]),
        ("%c = 1.0; %r = div %x, %c", T, []),
        ("%c = 4.0; %r = div %x, %c", T, ["constant", "mul"]),
        ("%c = 3.0; %r = div %x, %c", T, ["constant", "div"]),
        ("%c = 2; %r = div %x, %c", I, ["constant", "div"]),
        ("%a = neg %x; %r = neg %a", T, []),
        ("%a = relu %x; %r = relu %a", T, ["relu"]),
        ("%a = abs %x; %r = abs %a", T, ["abs"]),
        ("%a = neg %x; %r = abs %a", T, ["abs"]),
        ("%a = sigmoid %x; %r = relu %a", T, ["sigmoid"]),
        ("%r = max %x, %x", T, []),
        ("%a = neg %y; %r = add %x, %a", T, ["sub"]),
        ("%a = neg %x; %r = add %a, %y", T, ["sub"]),
        ("%a = neg %y; %r = sub %x, %a", T, ["add"]),
        ("%a = exp %x; %r = neg %y", T, ["neg"]),
        ("%a = 2.0; %b = 3.0; %r = mul %a, %b", T, ["constant"]),
    ],
)
def test_what_is_left(body: str, type_: str, left: list[str]) -> None:
    before, after = module(body, type_), canonical(module(body, type_))
    assert kinds(after) == left
    if type_ == T:
        special = np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 1e-40]], np.float32)
        arrays = [special, np.roll(special, 1)]
    else:
        arrays = [np.array([[0, -7, 7], [2**31 - 1, -(2**31), 1]], np.int32)] * 2
    old, new = (np.asarray(run(m, arrays)) for m in (before, after))
    np.testing.assert_array_equal(old, new)
    numbers = ~np.isnan(old) if old.dtype.kind == "f" else slice(None)
    assert np.array_equal(np.signbit(old[numbers]), np.signbit(new[numbers]))


def run(parsed: Operation, arrays: list[np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
    return run_function(next(parsed.walk_of(FuncOp)), arrays)[0]


def test_a_broadcasting_identity_stays() -> None:
    parsed = parse_module("""builtin.module { func.func @main(%x: tensor<3xf32>) -> tensor<2x3xf32> {
        %c = graph.constant dense<1.0> : tensor<2x3xf32>
        %r = graph.mul %x, %c : (tensor<3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
        func.return %r : tensor<2x3xf32> } }""")
    assert kinds(canonical(parsed)) == ["constant", "mul"]


def test_known_shape_arithmetic_becomes_constant() -> None:
    shaped = 'tensor<2x?xf32, #graph.shape<["n"]>>'
    parsed = parse_module(f"""builtin.module {{ func.func @main(%x: {shaped}) -> (tensor<1xsi64>, tensor<1xsi64>) {{
        %s = graph.shape %x {{start = 0, end = 1}} : ({shaped}) -> tensor<1xsi64>
        %t = graph.shape %x {{start = 1, end = 2}} : ({shaped}) -> tensor<1xsi64>
        %r = graph.add %s, %s : (tensor<1xsi64>, tensor<1xsi64>) -> tensor<1xsi64>
        func.return %r, %t : tensor<1xsi64>, tensor<1xsi64> }} }}""")
    assert kinds(canonical(parsed)) == ["shape", "constant"]
    assert "dense<[4]> : tensor<1xsi64>" in str(parsed)


def test_folding_alone_simplifies_nothing() -> None:
    parsed = module("%a = neg %x; %b = neg %a; %c = 2.0; %d = 3.0; %e = mul %c, %d; %r = add %b, %e", T)
    Fold().run(parsed, PassContext())
    assert sorted(kinds(parsed)) == ["add", "constant", "neg", "neg"]
    assert re.search(r"dense<6\.0>", str(parsed))


def test_a_replaced_op_hands_its_location_on() -> None:
    parsed = parse_module(f"""builtin.module {{ func.func @main(%x: {T}, %y: {T}) -> {T} {{
        %a = graph.neg %y : ({T}) -> {T} loc("Neg_1")
        %r = graph.add %x, %a : ({T}, {T}) -> {T} loc("Add_2")
        func.return %r : {T} }} }}""")
    assert [op.loc.label for op in canonical(parsed).walk() if op.dialect == "graph"] == ["Add_2"]
