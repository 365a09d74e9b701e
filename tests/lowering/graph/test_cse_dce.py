"""Equal things computed once, unused things not at all: at every landing, inside regions, and only where it is safe."""

from __future__ import annotations

import pytest

from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import Pass, PassContext
from stepwell.ir.verifier import verify
from stepwell.lowering.graph.cse import CommonSubexpressions
from stepwell.lowering.graph.dce import DeadCode


def after(pass_: Pass, text: str) -> Operation:
    parsed = parse_module(text)
    verify(parsed)
    pass_.run(parsed, PassContext())
    verify(parsed)
    return parsed


def count(parsed: Operation, name: str) -> int:
    return sum(op.op_name == name for op in parsed.walk())


def test_a_body_takes_nothing_from_outside() -> None:
    """A generic becomes a kernel of its own, which sees no constant of the program around it."""
    type_, one = "tensor<4xf32>", "%one = arith.constant 1.0 : f32"
    parsed = after(CommonSubexpressions(), f"""builtin.module {{
      func.func @main(%x: {type_}) -> {type_} {{
        {one}
        "test.use"(%one) : (f32) -> ()
        %r = tensor.generic %x {{identities = [], iterators = ["parallel"], names = ["d0"],
          maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>], operandSegmentSizes = array<i32: 1, 0>,
          sizes = #tensor.dims<[4]>}} : ({type_}) -> {type_} {{
        ^bb0(%e: f32):
          {one.replace("%one", "%inner")}
          %s = arith.addf %e, %inner : f32
          tensor.yield %s : f32
        }}
        func.return %r : {type_}
      }}
    }}""")
    assert count(parsed, "arith.constant") == 2


def function(body: str, arguments: str = "%a: f32, %b: f32, %c: i1, %n: index, %m: memref<4xf32>") -> str:
    return f"builtin.module {{ func.func @main({arguments}) {{ {body} func.return }} }}"


@pytest.mark.parametrize(
    ("body", "name", "left"),
    [
        ("%x = arith.addf %a, %b : f32 %y = arith.addf %a, %b : f32 %z = arith.mulf %x, %y : f32", "arith.addf", 1),
        ("%x = arith.addf %a, %b : f32 %y = arith.addf %b, %a : f32", "arith.addf", 1),
        ("%x = arith.subf %a, %b : f32 %y = arith.subf %b, %a : f32", "arith.subf", 2),
        ("%x = arith.constant 1.0 : f32 %y = arith.constant 1.0 : f64", "arith.constant", 2),
        ("%x = arith.constant 0.0 : f32 %y = arith.constant -0.0 : f32", "arith.constant", 2),
        ("%x = buffer.load %m[%n] : memref<4xf32> %y = buffer.load %m[%n] : memref<4xf32>", "buffer.load", 2),
        ("%x = buffer.alloc() : memref<4xf32> %y = buffer.alloc() : memref<4xf32>", "buffer.alloc", 2),
        # Seen from an inner region, but not out of it or across its siblings.
        ("%x = arith.addf %a, %b : f32 loop.if %c : (i1) -> () { %y = arith.addf %a, %b : f32 loop.yield } { }",
         "arith.addf", 1),
        ("loop.if %c : (i1) -> () { %y = arith.addf %a, %b : f32 loop.yield } { } %x = arith.addf %a, %b : f32",
         "arith.addf", 2),
        ("""loop.if %c : (i1) -> () { %y = arith.addf %a, %b : f32 loop.yield }
            { %x = arith.addf %a, %b : f32 loop.yield }""", "arith.addf", 2),
    ],
)  # fmt: skip
def test_common_subexpressions(body: str, name: str, left: int) -> None:
    assert count(after(CommonSubexpressions(), function(body)), name) == left


GENERIC = """%{r} = tensor.generic %x {{iterators = ["parallel"], maps = [affine_map<(d0) -> (d0)>,
    affine_map<(d0) -> (d0)>], names = ["i"],
    operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[4]>}} : (tensor<4xf32>) -> tensor<4xf32> {{
    ^bb0(%{v}: f32):
      %{p} = arith.{op} %{v}, %{v} : f32
      tensor.yield %{p} : f32
    }}"""


@pytest.mark.parametrize(("second", "left"), [("addf", 1), ("mulf", 2)])
def test_ops_with_regions_merge_where_the_regions_are_equal(second: str, left: int) -> None:
    body = GENERIC.format(r="a", v="u", p="p", op="addf") + GENERIC.format(r="b", v="w", p="q", op=second)
    text = f"""builtin.module {{ func.func @main(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {{
        {body} func.return %a, %b : tensor<4xf32>, tensor<4xf32> }} }}"""
    assert count(after(CommonSubexpressions(), text), "tensor.generic") == left


def test_a_merged_op_keeps_both_locations_and_names() -> None:
    parsed = after(CommonSubexpressions(), """builtin.module { func.func @main(%x: tensor<f32>) -> tensor<f32> {
        %a = graph.exp %x : (tensor<f32>) -> tensor<f32> loc("one")
        %b = graph.exp %x {onnx.outputs = ["b"]} : (tensor<f32>) -> tensor<f32> loc("two")
        %c = graph.add %a, %b : (tensor<f32>, tensor<f32>) -> tensor<f32>
        func.return %c : tensor<f32> } }""")
    left = next(op for op in parsed.walk() if op.op_name == "graph.exp")
    assert left.loc.label == "one + two"
    assert "onnx.outputs" in left.attributes


@pytest.mark.parametrize(
    ("body", "name", "left"),
    [
        ("%x = arith.addf %a, %b : f32 %y = arith.mulf %x, %x : f32", "arith.addf", 0),
        ("%x = arith.addf %a, %b : f32 buffer.store %x, %m[%n] : memref<4xf32>", "arith.addf", 1),
        ("loop.if %c : (i1) -> () { %x = arith.addf %a, %b : f32 loop.yield } { }", "arith.addf", 0),
        ("""%x = arith.addf %a, %b : f32
            loop.if %c : (i1) -> () { buffer.store %x, %m[%n] : memref<4xf32> loop.yield } { }""", "arith.addf", 1),
    ],
)  # fmt: skip
def test_dead_code(body: str, name: str, left: int) -> None:
    assert count(after(DeadCode(), function(body)), name) == left


def test_private_functions_go_with_their_last_caller() -> None:
    parsed = after(DeadCode(), """builtin.module {
        func.func private @a() { func.call @b() : () -> () func.return }
        func.func private @b() { func.return }
        func.func private @used() { func.return }
        func.func @main() { func.call @used() : () -> () func.return } }""")
    assert [op.properties["sym_name"].value for op in parsed.walk() if op.op_name == "func.func"] == ["used", "main"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("user", "left"), [("func.return %e : {type}", 1), ("func.return", 0)])
def test_what_brings_a_size_stays_while_types_have_it(user: str, left: int) -> None:
    type_ = 'tensor<?xf32, #graph.shape<["k"]>>'
    text = f"""builtin.module {{ func.func @main(%x: tensor<9xsi64>, %n: tensor<1xsi64>, %z: tensor<f32>) {{
        %s = graph.constant dense<[0]> : tensor<1xsi64>
        %k = graph.slice %x, %s, %n {{axes = array<i64: 0>, new_dims = ["k"]}}
          : (tensor<9xsi64>, tensor<1xsi64>, tensor<1xsi64>) -> tensor<?xsi64, #graph.shape<["k"]>>
        %e = graph.expand %z : (tensor<f32>) -> {type_}
        {user.format(type=type_)} }} }}"""
    if left:
        text = text.replace("%z: tensor<f32>)", f"%z: tensor<f32>) -> {type_}")
    assert count(after(DeadCode(), text), "graph.slice") == left
