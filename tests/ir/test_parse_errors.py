"""Texts that do not parse, each with its message and the place that the caret shows.

A line `^ message` stands under the line that it is about and is no part of the text."""

# ruff: noqa: E501, W291
from __future__ import annotations

import re

import pytest

from stepwell.errors import ParseError
from stepwell.ir.parser import parse_module

_EXPECTED = re.compile(r"^( *)\^ (.*)$", re.MULTILINE)

CASES = r'''
%a = "op"(
          ^ expected ')', found the end of the text
-----
"op"() : ()
           ^ expected '->', found the end of the text
-----
"op"() : () -> 
               ^ expected a type, found the end of the text
-----
"op"( : () -> ()
      ^ expected ')', found ':'
-----
"op"() {a = } : () -> ()
            ^ expected an attribute, found '}'
-----
"op"() {a = 1, a = 2} : () -> ()
               ^ attribute 'a' is given twice
-----
"op"() {a = [1, } : () -> ()
                ^ expected an attribute, found '}'
-----
"op"() {a 1} : () -> ()
          ^ expected ',' or '}', found '1'
-----
"op"() {a = 1 : f33} : () -> ()
                ^ expected a type, found 'f33'
-----
"op"() {a = 300 : i8} : () -> ()
            ^ 300 does not fit in i8
-----
"op"() {a = -1 : ui8} : () -> ()
            ^ -1 does not fit in ui8
-----
"op"() {a = 128 : si8} : () -> ()
            ^ 128 does not fit in si8
-----
"op"() {a = 1.5 : i32} : () -> ()
            ^ 1.5 is a float, which i32 is not
-----
"op"() {a = 3 : tensor<4xf32>} : () -> ()
            ^ 3 is an integer, which tensor<4xf32> is not
-----
"op"() {a = 1.0e39 : f32} : () -> ()
            ^ 1.0e39 does not fit in f32
-----
"op"() {a = 0x100000000 : f32} : () -> ()
            ^ 0x100000000 has more bits than f32
-----
"op"() {a = 9223372036854775808 : index} : () -> ()
            ^ 9223372036854775808 does not fit in index
-----
"op"() {a = 11111111111111111111111111111111111111111} : () -> ()
            ^ integer too large
-----
"op"() {a = "\q"} : () -> ()
            ^ bad escape \q in a string
-----
"op"() {a = "open} : () -> ()
            ^ unterminated string
-----
"op"() {a = @"\x1"} : () -> ()
            ^ bad escape \x1 in a string
-----
"op"() {a = ;} : () -> ()
            ^ unexpected character ';'
-----
"op"() {a = #missing} : () -> ()
            ^ unknown attribute alias #missing
-----
"op"() {a = !missing} : () -> ()
            ^ unknown type alias !missing
-----
"op"() {a = dense<[1, 2]> : tensor<3xi32>} : () -> ()
                  ^ elements in shape 2 for tensor<3xi32>
-----
"op"() {a = dense<[1, 2, 3, 4]> : tensor<2x2xi32>} : () -> ()
                  ^ elements in shape 4 for tensor<2x2xi32>
-----
"op"() {a = dense<[[1, 2], [3]]> : tensor<2x2xi32>} : () -> ()
                  ^ the rows of a constant differ in length
-----
"op"() {a = dense<1> : tensor<?xi32>} : () -> ()
                       ^ a dense constant has a vector type or a static tensor type
-----
"op"() {a = dense<1> : i32} : () -> ()
                       ^ a dense constant has a vector type or a static tensor type
-----
"op"() {a = dense<> : tensor<2xi32>} : () -> ()
                  ^ 0 elements for tensor<2xi32>
-----
"op"() {a = dense<[1, 300]> : tensor<2xui8>} : () -> ()
                      ^ 300 does not fit in ui8
-----
"op"() {a = dense<1.5> : tensor<2xi8>} : () -> ()
                  ^ expected an integer, found '1.5'
-----
"op"() {a = dense<"a"> : tensor<2xi8>} : () -> ()
                  ^ expected an integer, found '"a"'
-----
"op"() {a = dense<0> : tensor<2000000xi8>} : () -> ()
                  ^ too many elements in the text: use a resource
-----
"op"() {a = dense<1> : tensor<2xnone>} : () -> ()
                       ^ a tensor does not hold elements of type none
-----
"op"() {a = dense 1 : tensor<2xi8>} : () -> ()
                  ^ expected '<', found '1'
-----
"op"() {a = dense<[1, 2 : tensor<2xi8>} : () -> ()
                 ^ unbalanced brackets
-----
"op"() {a = dense<1> : tensor<2xi7>} : () -> ()
            ^ i7 has no NumPy element type
-----
"op"() {a = array<index: 1>} : () -> ()
                       ^ an array holds integers or floats, not index
-----
"op"() {a = array<i8: 1, 2.5>} : () -> ()
                         ^ expected an integer, found '2.5'
-----
"op"() {a = array<i8: 1, 2} : () -> ()
                          ^ expected ',' or '>', found '}'
-----
"op"() {a = affine_map<(d0) -> (d1)>} : () -> ()
                                ^ affine map: 'd1' is no dim or symbol of this map
-----
"op"() {a = affine_map<(d0) -> (d0)} : () -> ()
                       ^ unterminated affine map
-----
"op"() {a = #tensor.dims<[1, 2>} : () -> ()
                              ^ expected ',' or ']', found '>'
-----
"op"() {a = #vector.kind<sum>} : () -> ()
            ^ #vector.kind: 'sum' is not one of add, mul, minui, minsi, minnumf, maxui, maxsi, maxnumf, and, or, xor, maximumf, minimumf
-----
"op"() {a = #arith.fastmath<quick>} : () -> ()
            ^ #arith.fastmath: 'quick' is not one of none, reassoc, nnan, ninf, nsz, arcp, contract, afn, fast
-----
"op"() {a = #foreign.x<[1, 2} : () -> ()
                      ^ unbalanced brackets
-----
"op"() : () -> i65
               ^ integer types have 1 to 64 bits, not 65
-----
"op"() : () -> i0
               ^ expected a type, found 'i0'
-----
"op"() : () -> foo
               ^ expected a type, found 'foo'
-----
"op"() : () -> tensor<4xf32
                           ^ expected '>', found the end of the text
-----
"op"() : () -> tensor<4 x f32>
                      ^ expected a type, found '4'
-----
"op"() : () -> tensor<4xtensor<2xf32>>
               ^ a tensor does not hold elements of type tensor<2xf32>
-----
"op"() : () -> tensor<1234567890123456789012xf32>
                      ^ dimension too large
-----
"op"() : () -> tensor<?xf32, #graph.shape<["a", "b"]>>
                             ^ 2 dim expressions for 1 unknown dims
-----
"op"() : () -> tensor<?xf32, #graph.shape<[""]>>
                                           ^ an empty text is no dimension; write a number, a name or an expression
-----
"op"() : () -> vector<0xf32>
               ^ vector dims are positive integers
-----
"op"() : () -> vector<?xf32>
               ^ vector dims are positive integers
-----
"op"() : () -> vector<4xtensor<2xf32>>
               ^ a vector holds integers or floats, not tensor<2xf32>
-----
"op"() : () -> memref<4xf32, strided<[1, 1]>>
               ^ 2 strides for 1 dims
-----
"op"() : () -> memref<4xf32, 1, 2>
                                ^ expected '>', found '2'
-----
"op"() : () -> complex<i32>
               ^ complex numbers have parts of type f32 or f64, not i32
-----
"op"(%a) : (f32) -> ()
     ^ %a is not defined
-----
%a = "op"() : () -> f32
"use"(%a) : (i32) -> ()
            ^ %a has type f32, but i32 is written here
-----
%a = "op"() : () -> f32
"use"(%a, %a) : (f32) -> ()
                ^ 2 operands but 1 operand types
-----
%a = "op"() : () -> f32
%a = "op"() : () -> f32
^ %a is defined twice
-----
%a = "op"() : () -> ()
^ 1 names for the 0 results of op
-----
%a, %b = "op"() : () -> f32
^ 2 names for the 1 results of op
-----
%a:2 = "op"() : () -> f32
^ 2 names for the 1 results of op
-----
%a:0 = "op"() : () -> ()
   ^ a name stands for at least one result
-----
%a#1 = "op"() : () -> f32
^ a value is named without a number
-----
%a:2 = "op"() : () -> (f32, f32)
"use"(%a#2) : (f32) -> ()
      ^ %a#2 is not defined
-----
"use"(%a) : (f32) -> ()
%a = "op"() : () -> i32
^ %a is used as f32 and defined as i32
-----
"op"() ({
  "use"(%a) : (f32) -> ()
}, {
  "use"(%a) : (i32) -> ()
        ^ %a is used as f32 and as i32
}) : () -> ()
-----
"op"() ({
  %a = "op"() : () -> f32
}) : () -> ()
"use"(%a) : (f32) -> ()
      ^ %a is not defined
-----
func.func @f() {
  func.func @g() {
    "use"(%a) : (f32) -> ()
          ^ %a is not defined
  }
  %a = "op"() : () -> f32
}
-----
"op"() ({
  "jump"()[^nowhere] : () -> ()
           ^ block ^nowhere is not defined
}) : () -> ()
-----
"op"() ({
^a:
  "jump"()[^a] : () -> ()
^a:
^ block ^a is defined twice
}) : () -> ()
-----
"op"() ({
^a(%x f32):
      ^ expected ':', found 'f32'
}) : () -> ()
-----
"op"() ({
^a(%x: f32)
}) : () -> ()
^ expected ':', found '}'
-----
"op"() ({
  "op"() : () -> ()
                   ^ expected an operation, found the end of the text
-----
"op"() ({ } : () -> ()
            ^ expected ')', found ':'
-----
op() : () -> ()
^ unknown operation 'op'; an unknown one needs the generic form
-----
foo.bar %a : f32
^ unknown operation 'foo.bar'; an unknown one needs the generic form
-----
= 1
^ expected an operation, found '='
-----
#alias = 1
#alias = 2
^ alias #alias is defined twice
-----
#dialect.alias = 1
^ expected an operation, found '#dialect.alias'
"op"() : () -> ()
-----
"op"() : () -> () loc(3)
                      ^ expected a location, found '3'
-----
"op"() : () -> () loc("file":1)
                              ^ expected ':', found ')'
-----
"op"() : () -> () loc("a"
                         ^ expected ')', found the end of the text
-----
"op"() : () -> ()
{-# external_resources: { stepwell: { w0: 3 } } #-}
                                          ^ expected a string, found '3'
-----
"op"() : () -> ()
{-# external_resources: { stepwell: { w0: "a:0:0:0" }
                                                     ^ expected ',' or '}', found the end of the text
-----
{-# #-}
"op"() : () -> ()
^ expected the end of the text, found '"op"'
-----

^ expected an operation, found the end of the text
-----
%c = arith.constant "text"
                    ^ expected an integer, float or elements attribute, found "text"
-----
%c = arith.constant dense<1> : tensor<2xi32>
     ^ a constant of scalar or vector type is wanted, not dense<1> : tensor<2xi32>
-----
%c = arith.constant 1 : i32 {value = 2 : i32}
                            ^ attribute 'value' is given twice
-----
%c = arith.addf %a, %b
                      ^ expected ':', found the end of the text
-----
%a = "v"() : () -> f32
%c = arith.addf %a %a : f32
                   ^ expected ',', found '%a'
-----
%a = "v"() : () -> f32
%c = arith.cmpf lower, %a, %a : f32
                ^ expected one of false, oeq, ogt, oge, olt, ole, one, ord, ueq, ugt, uge, ult, ule, une, uno, true, found 'lower'
-----
%a = "v"() : () -> f32
%c = arith.cmpf 3, %a, %a : f32
                ^ expected an identifier, found '3'
-----
%m = "v"() : () -> f32
%c = buffer.load %m[%m] : f32
     ^ buffer.load: operand 'memory' must be a memref, is f32
-----
%x = "v"() : () -> tensor<4xf32>
%c = tensor.reshape %x : (tensor<4xi32>) -> tensor<2x2xf32>
                         ^ %x has type tensor<4xf32>, but tensor<4xi32> is written here
-----
%x = "v"() : () -> tensor<4xf32>
%c, %d = tensor.reshape %x : (tensor<4xf32>) -> tensor<2x2xf32>
^ 2 names for the 1 results of tensor.reshape
-----
"arith.constant"() <{value = 1 : i32}> {value = 2 : i32} : () -> i32
^ attribute 'value' is given twice
-----
func.func @f(%x: f32, f32) {
                           ^ 1 of 2 arguments have a name
  func.return
}
-----
func.func @f(%x) {
               ^ expected ':', found ')'
  func.return
}
-----
func.func @f() {
               ^ a function's body has at least one block
}
-----
func.func f() {
          ^ expected a symbol, found 'f'
}
-----
func.func @f(%x: f32, %x: f32) {
                      ^ %x is defined twice
  func.return
}
-----
func.func @f(%x#0: f32) {
             ^ a value is named without a number
  func.return
}
-----
%n = arith.constant 8 : index
loop.for 3 = %n to %n step %n {
         ^ expected a value name, found '3'
  loop.yield
}
-----
%n = arith.constant 8 : index
loop.for %i = %n to %n step %n iter(%a = %n) -> (f32) {
                                                 ^ %n has type index, but f32 is written here
  loop.yield
}
-----
%n = arith.constant 8 : index
loop.for %i = %n to %n step %n iter(%a = %n) -> (index, index) {
                                                 ^ 1 operands but 2 operand types
  loop.yield
}
-----
%c = tensor.index {dim = 0, dim = 1}
                            ^ attribute 'dim' is given twice
-----
"a
^ unterminated string
b"() : () -> ()
-----
"op"() {a = tensor<4xf32, #tensor.schedule<loops = [], speed = 3>>} : () -> ()
                                                               ^ a schedule has no 'speed'
-----
"op"() {a = #tensor.schedule<loops = [n0: n by 0], register = {}, vector = n by 4>} : () -> ()
            ^ #tensor.schedule: n0: a tile holds at least one element, not 0
-----
"op"() {a = affine_map<(d0) -> (d0 +)>} : () -> ()
                                    ^ affine map: expected an expression
-----
"op"() {"a b" = 1, c = {d = 1, d}} : () -> ()
                               ^ attribute 'd' is given twice
-----
"op"() : () -> tensor<-4xf32>
                      ^ expected a type, found '-4'
-----
"op"() : () -> memref<4xf32, affine_map<(d0, d1) -> (d0)>>
               ^ the layout (d0, d1) -> (d0) does not take 1 dims
-----
%a = "v"() : () -> f32
%c = vector.reduction<sum>, %a : vector<4xf32> into f32
                      ^ expected one of add, mul, minui, minsi, minnumf, maxui, maxsi, maxnumf, and, or, xor, maximumf, minimumf, found 'sum'
-----
func.func @f() -> f32 attributes {a = 1, a = 2} {
                                         ^ attribute 'a' is given twice
}
-----
%c = "v"() : () -> i1
loop.if %c : (i1) -> () { loop.yield } { loop.yield } {a = 1}
                                                       ^ unknown operation 'a'; an unknown one needs the generic form
'''[1:-1].split("\n-----\n")  # fmt: skip


def split(case: str) -> tuple[str, str]:
    """(the text, the whole error message)."""
    lines = case.split("\n")
    at, match = next((n, m) for n, line in enumerate(lines) if (m := _EXPECTED.match(line)))
    source = lines[at - 1]
    del lines[at]
    caret = f"{match[1]}^"
    return "\n".join(lines), f"x.mlir:{at}:{len(match[1]) + 1}: {match[2]}\n  {source}\n  {caret}"


@pytest.mark.parametrize("case", CASES, ids=[split(case)[1].partition(": ")[2].partition("\n")[0] for case in CASES])
def test_message_and_caret(case: str) -> None:
    text, message = split(case)
    with pytest.raises(ParseError) as raised:
        parse_module(text, "x.mlir")
    assert str(raised.value) == message


def nested(depth: int, opening: str, inner: str, closing: str) -> str:
    return '"op"() {a = ' + opening * depth + inner + closing * depth + "} : () -> ()"


DEEP = {
    "arrays": nested(500, "[", "1", "]"),
    "dictionaries": nested(500, "{a = ", "1", "}"),
    "dense": '"op"() {a = dense<' + "[" * 500 + "1" + "]" * 500 + "> : tensor<1xi32>} : () -> ()",
    "types": nested(500, "tensor<4x", "f32", ">"),
    "functions": nested(500, "(", "", ") -> ()"),
    "parameters": nested(1, "#tensor.dims<" + "[" * 500, "1", "]" * 500 + ">"),
    "regions": '"op"() ({' * 500 + "}) : () -> ()" * 500,
    "custom regions": "builtin.module {" * 500 + "}" * 500,
    "locations": '"op"() : () -> () loc(' + "fused[" * 500 + "unknown" + "]" * 500 + ")",
    "affine maps": '"op"() {a = affine_map<(d0) -> (' + "(" * 5000 + "d0" + ")" * 5000 + ")>} : () -> ()",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_deep_nesting_is_an_error_and_no_crash(text: str) -> None:
    with pytest.raises(ParseError, match="deep"):
        parse_module(text)


def test_a_long_line_is_cut_around_the_caret() -> None:
    with pytest.raises(ParseError) as raised:
        parse_module('"op"() {a = "' + "x" * 1000 + '", b = ?} : () -> ()')
    head, source, caret = str(raised.value).split("\n")
    assert head == "<text>:1:1021: expected an attribute, found '?'"
    assert len(source) <= 162
    assert source[caret.index("^")] == "?"


def test_tabs_do_not_shift_the_caret() -> None:
    with pytest.raises(ParseError, match="<text>:1:3: expected an operation, found '='\n    =\n    \\^"):
        parse_module("\t\t=")
