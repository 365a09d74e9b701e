"""IR that breaks a rule, and what the verifier says about it; the same with the rule kept passes."""

from __future__ import annotations

import pytest

from stepwell.errors import VerifyError
from stepwell.ir.core import Operation, UnregisteredOp
from stepwell.ir.parser import parse_module
from stepwell.ir.types import F32, I32
from stepwell.ir.verifier import verify

BROKEN = {
    "a use before its definition": (
        """
        func.func @f() {
          "use"(%x) : (f32) -> ()
          %x = "v"() : () -> f32
          func.return
        }""",
        "use (from <text>:3:11): %x does not dominate its use",
    ),
    "an op that uses itself": (
        """
        func.func @f() {
          %x = "loop"(%x) : (f32) -> f32
          func.return
        }""",
        "loop (from <text>:3:11): %x does not dominate its use",
    ),
    "a value of a sibling block": (
        """
        func.func @f(%c: i1) {
          "branch"(%c)[^left, ^right] : (i1) -> ()
        ^left:
          %x = "v"() : () -> f32
          "jump"()[^end] : () -> ()
        ^right:
          "jump"()[^end] : () -> ()
        ^end:
          "use"(%x) : (f32) -> ()
          func.return
        }""",
        "use (from <text>:10:11): %x does not dominate its use",
    ),
    "a value of a region that is left": (
        """
        func.func @f() {
          "outer"() ({
            "inner"(%y) : (f32) -> ()
            %y = "v"() : () -> f32
          }) : () -> ()
          func.return
        }""",
        "inner (from <text>:4:13): %y does not dominate its use",
    ),
    "no terminator": (
        """
        func.func @f(%x: i32) {
          %y = arith.addi %x, %x : i32
        }""",
        "func.func (from <text>:2:9): has a block that does not end with a terminator",
    ),
    "a terminator in the middle": (
        """
        func.func @f() {
          func.return
          func.return
        }""",
        "func.return (from <text>:3:11): ends a block, but is not the last operation of its block",
    ),
    "a branch in the middle": (
        """
        func.func @f() {
          "jump"()[^next] : () -> ()
          "other"() : () -> ()
        ^next:
          func.return
        }""",
        "jump (from <text>:3:11): ends a block, but is not the last operation of its block",
    ),
    "a branch to the entry": (
        """
        "region"() ({
        ^entry:
          "jump"()[^entry] : () -> ()
        }) : () -> ()""",
        "region (from <text>:2:9): a branch leads to the entry block of its region",
    ),
    "too few operands": (
        '%x = "v"() : () -> f32\n%y = "arith.addf"(%x) : (f32) -> f32',
        "arith.addf (from <text>:2:1): has 1 operands, expected 2",
    ),
    "too many results": (
        '%x = "v"() : () -> f32\n%y:2 = "arith.addf"(%x, %x) : (f32, f32) -> (f32, f32)',
        "arith.addf (from <text>:2:1): has 2 results, expected 1",
    ),
    "an operand type": (
        '%x = "v"() : () -> i32\n%y = "arith.addf"(%x, %x) : (i32, i32) -> f32',
        "arith.addf (from <text>:2:1): operand 'lhs' must be a float or a vector of floats, is i32",
    ),
    "a result type": (
        '%x = "v"() : () -> f32\n%y = arith.addf %x, %x : f64',
        "arith.addf (from <text>:2:1): result types f64 do not fit, f32 follow from the operands",
    ),
    "a missing attribute": (
        '%x = "arith.constant"() : () -> i32',
        "arith.constant (from <text>:1:1): lacks its attribute 'value'",
    ),
    "an attribute of the wrong kind": (
        '%x = "tensor.index"() {dim = "a"} : () -> index',
        "tensor.index (from <text>:1:1): attribute 'dim' must be an i64, is \"a\"",
    ),
    "an unknown property": (
        '%x = "tensor.index"() <{dim = 0, dom = 0}> : () -> index',
        "tensor.index (from <text>:1:1): has no attribute 'dom'",
    ),
    "missing segment sizes": (
        '%v = "v"() : () -> vector<4xi1>\n%r = "vector.reduction"(%v) ({}) {kind = #vector.kind<or>} '
        ": (vector<4xi1>) -> i1",
        "has 1 regions, expected 0",
    ),
    "segments that do not add up": (
        """
        %a = "v"() : () -> memref<8xf32>
        "loop.stage"(%a) ({}) {identities = [], iterators = [], maps = [],
          operandSegmentSizes = array<i32: 0, 0, 2, 0, 0, 0, 0>} : (memref<8xf32>) -> ()""",
        "operandSegmentSizes does not add up to its 1 operands",
    ),
    "an optional operand twice": (
        """
        %v = "v"() : () -> i1
        "loop.stage"(%v, %v) ({}) {identities = [], iterators = [], maps = [],
          operandSegmentSizes = array<i32: 0, 0, 0, 0, 0, 2, 0>} : (i1, i1) -> ()""",
        "has 2 values for 'first'",
    ),
    "regions": ('"builtin.module"() : () -> ()', "builtin.module (from <text>:1:1): has 0 regions, expected 1"),
    "a symbol defined twice": ("func.func private @f()\nfunc.func private @f()", "@f is defined twice"),
    "a call of nothing": ("func.call @f() : () -> ()", "func.call is in no symbol table"),
    "a call of what is not there": ("builtin.module {\n  func.call @f() : () -> ()\n}", "there is no @f"),
    "a call with other types": (
        "func.func private @f(i32)\nfunc.call @f() : () -> ()",
        "calls @f of type (i32) -> () as () -> ()",
    ),
    "other return types": (
        "func.func @f(%x: i32) -> f32 {\n  func.return %x : i32\n}",
        "returns (i32) where @f promises (f32)",
    ),
    "an attribute without prefix": (
        "builtin.module attributes {version = 1} {\n}",
        "attribute 'version' needs a dialect's prefix, as in sw.version",
    ),
    "an argument's attribute without prefix": (
        "func.func private @f(i32 {name})",
        "attribute 'name' needs a dialect's",
    ),
    "entry arguments": (
        '"func.func"() ({\n^bb0(%x: i32):\n  func.return\n}) {sym_name = "f", function_type = (f32) -> ()} : () -> ()',
        "do not have the function's input types",
    ),
    "a visibility that does not exist": (
        '"func.func"() ({\n}) {sym_name = "f", function_type = () -> (), sym_visibility = "all of it"} : () -> ()',
        "attribute 'sym_visibility' must be one of private, public, nested",
    ),
    "a narrowing extension": ('%x = "v"() : () -> f64\n%y = arith.extf %x : f64 to f32', "does not convert f64 to f32"),
    "lanes that do not match": (
        '%x = "v"() : () -> vector<4xf32>\n%y = arith.fptosi %x : vector<4xf32> to vector<2xi32>',
        "does not convert vector<4xf32> to vector<2xi32>",
    ),
    "an operand of another type": (
        '%x = "v"() : () -> f32\n%y = "v"() : () -> f64\n%z = "math.fma"(%x, %y, %x) : (f32, f64, f32) -> f32',
        "operands of types f32, f64 and f32",
    ),
    "too few indices": (
        '%m = "v"() : () -> memref<4x4xf32>\n%i = "v"() : () -> index\n'
        "%x = vector.load %m[%i] : memref<4x4xf32>, vector<4xf32>",
        "1 indices for memref<4x4xf32>",
    ),
    "a lane out of range": (
        '%x = "v"() : () -> vector<4xf32>\n%y = vector.extract %x {static_position = array<i64: 4>} '
        ": f32 from vector<4xf32>",
        "position [4] in vector<4xf32>",
    ),
    "a reduction of the wrong kind": (
        '%x = "v"() : () -> vector<4xf32>\n%y = vector.reduction<or>, %x : vector<4xf32> into f32',
        "kind 'or' does not merge elements of type f32",
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_rules(text: str, message: str) -> None:
    with pytest.raises(VerifyError) as raised:
        verify(parse_module(text))
    assert message in str(raised.value)


VALID = {
    "a value dominates through blocks": """
        func.func @f(%c: i1) {
          %x = "v"() : () -> f32
          "branch"(%c)[^left, ^end] : (i1) -> ()
        ^left:
          "use"(%x) : (f32) -> ()
          "jump"()[^end] : () -> ()
        ^end:
          "use"(%x) : (f32) -> ()
          func.return
        }""",
    "a value dominates a loop's body in whatever order the blocks stand": """
        func.func @f(%c: i1) {
          "jump"()[^head] : () -> ()
        ^body:
          "use"(%x) : (f32) -> ()
          "jump"()[^head] : () -> ()
        ^head:
          %x = "v"() : () -> f32
          "branch"(%c)[^body, ^end] : (i1) -> ()
        ^end:
          func.return
        }""",
    "an unreachable block may use what is defined in any block": """
        func.func @f() {
          "jump"()[^end] : () -> ()
        ^dead:
          "use"(%x) : (f32) -> ()
          "jump"()[^end] : () -> ()
        ^end:
          %x = "v"() : () -> f32
          func.return
        }""",
    "a region sees what is around it": """
        func.func @f(%x: f32) {
          "outer"() ({
            "inner"(%x) : (f32) -> ()
          }) : () -> ()
          func.return
        }""",
    "two functions with one name in two modules": """
        builtin.module { func.func private @f() }
        builtin.module { func.func private @f() }""",
}


@pytest.mark.parametrize("text", VALID.values(), ids=VALID.keys())
def test_kept_rules(text: str) -> None:
    verify(parse_module(text))


def test_an_isolated_op_cannot_see_out() -> None:
    module = parse_module("""
        func.func @f(%x: tensor<4xf32>) {
          %k = tensor.kernel %x : (tensor<4xf32>) -> tensor<4xf32> {
          ^bb0(%a: tensor<4xf32>):
            tensor.yield %a : tensor<4xf32>
          }
          func.return
        }""")
    kernel = next(op for op in module.walk() if op.op_name == "tensor.kernel")
    kernel.regions[0].block.terminator.set_operand(0, module.regions[0].block.arguments[0])
    with pytest.raises(VerifyError, match=r"tensor.yield .*: %x does not dominate its use"):
        verify(module)


def test_a_value_that_lost_its_definition() -> None:
    module = parse_module('func.func @f() {\n  %x = "v"() : () -> f32\n  "use"(%x) : (f32) -> ()\n  func.return\n}')
    next(iter(module.regions[0].block)).detach()
    with pytest.raises(VerifyError, match=r"use .*: %x is from outside"):
        verify(module)


def test_a_use_that_was_not_recorded() -> None:
    value = UnregisteredOp.named("v", result_types=[F32])
    user = UnregisteredOp.named("use", operands=value.results)
    user._operands[0] = UnregisteredOp.named("v", result_types=[I32]).results[0]
    with pytest.raises(VerifyError, match="operand 0 does not know its use"):
        verify(user)


def test_a_hook_that_stumbles_is_an_error_of_the_ir() -> None:
    class Stumbling(Operation):
        __slots__ = ()
        name = "test.stumbling"

        def verify_op(self) -> None:
            raise IndexError("no element")

    with pytest.raises(VerifyError, match=r"test.stumbling: its operands, .* do not fit together"):
        verify(Stumbling.make())
