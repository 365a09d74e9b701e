"""IR text that parses: what is printed for it, and that both forms read back to the same thing."""

from __future__ import annotations

import numpy as np
import pytest

from stepwell.errors import IRError, ParseError
from stepwell.ir.attributes import Attribute, DenseAttr, DenseResourceAttr, elements
from stepwell.ir.blobs import Blob
from stepwell.ir.core import Operation
from stepwell.ir.location import UNKNOWN, FileLoc, NameLoc, fused
from stepwell.ir.parser import Parser, parse_module
from stepwell.ir.printer import PrintOptions, blobs_of, print_op, resource_key, resources_text
from stepwell.ir.types import F32, TensorType
from stepwell.ir.verifier import verify
from tests.ir.samples import SAMPLES

GENERIC, LOCATED = PrintOptions(generic=True), PrintOptions(locations=True)


def attribute(text: str) -> Attribute:
    parser = Parser(text, "t")
    found = parser.attribute()
    assert parser.peek().text == ""
    return found


@pytest.mark.parametrize("options", [PrintOptions(g, loc) for g in (False, True) for loc in (False, True)])
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_survive(name: str, options: PrintOptions) -> None:
    module = parse_module(SAMPLES[name])
    verify(module)
    text = print_op(module, options)
    again = parse_module(text)
    verify(again)
    assert print_op(again, options) == text
    assert print_op(again, GENERIC) == print_op(module, GENERIC)


PRINTED = {
    "1": "1", "-1 : i64": "-1", "1 : i32": "1 : i32", "0x10 : i8": "16 : i8", "1 : i1": "true", "false": "false",
    "-1 : i1": "true", "7 : index": "7 : index", "255 : ui8": "255 : ui8", "-128 : si8": "-128 : si8",
    "1.0": "1.0", "1.0 : f64": "1.0", "1 : f32": "1.0 : f32", "0.1 : f32": "0.1 : f32", "0.1 : bf16": "0.100098 : bf16",
    "0.10000000149011612 : f32": "0.1 : f32", "-0.0 : f16": "-0.0 : f16", "1.0e-300": "1e-300".replace("1e", "1.0e"),
    "16777217.0 : f32": "16777216.0 : f32", "0x7FF0000000000000 : f64": "0x7FF0000000000000 : f64",
    "0x7F800000 : f32": "0x7F800000 : f32", "0xFFC00001 : f32": "0xFFC00001 : f32", "0x7E : f8E5M2": "0x7E : f8E5M2",
    "0x3F800000 : f32": "1.0 : f32", "0xFF : !tensor.f8E8M0FNU": "0xFF : !tensor.f8E8M0FNU",
    "f8E8M0FNU": "!tensor.f8E8M0FNU", '"a\\09\\"\\\\"': '"a\\09\\"\\\\"', '"\\t\\n"': '"\\09\\0A"', '"é"': '"\\C3\\A9"',
    '"\\FF"': '"\\FF"', "@f": "@f", '@"a b"': '@"a b"', '@"f"': "@f", "unit": "unit", "[]": "[]", "{}": "{}",
    "{b = 1, a}": "{a, b = 1}", '{"a b" = unit}': '{"a b"}', "array<i1: true, 0>": "array<i1: true, false>",
    "array<f32: 1, 0.5>": "array<f32: 1.0, 0.5>", "array<i8>": "array<i8>",
    "affine_map<(d0, d1)[s0] -> (d0 mod 2, s0)>": "affine_map<(d0, d1)[s0] -> (d0 mod 2, s0)>",
    "dense<1> : tensor<2xi8>": "dense<1> : tensor<2xi8>", "dense<[1, 1]> : tensor<2xi8>": "dense<1> : tensor<2xi8>",
    "dense<5> : tensor<i8>": "dense<5> : tensor<i8>", "dense<[5]> : tensor<1xi8>": "dense<[5]> : tensor<1xi8>",
    "dense<255> : tensor<2xi8>": "dense<-1> : tensor<2xi8>", "dense<> : tensor<0x4xf32>": "dense<> : tensor<0x4xf32>",
    "dense<[]> : tensor<0xf32>": "dense<> : tensor<0xf32>", "dense<1> : tensor<0xf32>": "dense<> : tensor<0xf32>",
    "dense<[true, false]> : tensor<2xi1>": "dense<[true, false]> : tensor<2xi1>",
    "dense<[0.0, -0.0]> : tensor<2xf32>": "dense<[0.0, -0.0]> : tensor<2xf32>",
    "dense<[0x7F800001, 0.1]> : tensor<2xf32>": "dense<[0x7F800001, 0.1]> : tensor<2xf32>",
    "dense<(1, -2.5)> : tensor<2xcomplex<f64>>": "dense<(1.0, -2.5)> : tensor<2xcomplex<f64>>",
    "dense<-8> : tensor<2xi4>": "dense<-8> : tensor<2xi4>",
    "dense<[15, 0]> : tensor<2xui4>": "dense<[15, 0]> : tensor<2xui4>",
    'dense<[["a"], ["\\00"]]> : tensor<2x1x!graph.string>': 'dense<[["a"], ["\\00"]]> : tensor<2x1x!graph.string>',
    "dense<[1.5, 2.0]> : vector<2xf16>": "dense<[1.5, 2.0]> : vector<2xf16>",
    'tensor<?x?xf32, #graph.shape<["a", "a + 1"]>>': 'tensor<?x?xf32, #graph.shape<["a", "a + 1"]>>',
    'tensor<?xf32, #graph.shape<["4"]>>': "tensor<4xf32>", "tensor<?xf32>": "tensor<?xf32>",
    "memref<?x4xf32, strided<[?, 1], offset: ?>, 1 : i32>": "memref<?x4xf32, strided<[?, 1], offset: ?>, 1 : i32>",
    "() -> (() -> ())": "() -> (() -> ())", "(i1) -> (f32, f32)": "(i1) -> (f32, f32)", "() -> f32": "() -> f32",
    "#x.y": "#x.y", "#x.y<a, [b]>": "#x.y<a, [b]>", "!x.y<{3}>": "!x.y<{3}>",
    "#arith.fastmath<nsz, nnan>": "#arith.fastmath<nnan,nsz>", "#arith.fastmath<none>": "#arith.fastmath<none>",
}  # fmt: skip


@pytest.mark.parametrize(("text", "printed"), PRINTED.items(), ids=PRINTED.keys())
def test_attributes_print_in_one_way(text: str, printed: str) -> None:
    found = attribute(text)
    assert str(found) == printed
    assert attribute(printed) is found


@pytest.mark.parametrize("text", ["0x7F800001", "0xFFC12345", "0x80000000", "0x00000001"])
def test_hexadecimal_elements_keep_their_bits(text: str) -> None:
    found = attribute(f"dense<[{text}, 1.0]> : tensor<2xf32>")
    assert isinstance(found, DenseAttr)
    assert found.numpy().view(np.uint32)[0] == int(text, 16)


def only(text: str) -> Operation:
    return next(iter(parse_module(f"builtin.module {{\n{text}\n}}").regions[0].block))


def test_custom_and_generic_forms_are_the_same_op() -> None:
    custom = parse_module('%a = "v"() : () -> f32\n%b = arith.addf %a, %a {x} : f32')
    generic = parse_module('%a = "v"() : () -> f32\n%b = "arith.addf"(%a, %a) {x} : (f32, f32) -> f32')
    assert str(custom) == str(generic)
    assert '%b = "arith.addf"(%a, %a) {x} : (f32, f32) -> f32' in print_op(custom, GENERIC)
    assert "%b = arith.addf %a, %a {x} : f32" in str(generic)


def test_inherent_attributes_may_stand_in_either_dictionary() -> None:
    in_properties = only('%c = "arith.constant"() <{value = 1 : i32}> : () -> i32')
    in_attributes = only('%c = "arith.constant"() {value = 1 : i32, x} : () -> i32')
    assert in_properties.properties == in_attributes.properties
    assert list(in_attributes.attributes) == ["x"]


def test_several_top_level_operations_become_a_module() -> None:
    assert parse_module('"a"() : () -> ()').op_name == "a"
    assert parse_module('"a"() : () -> ()\n"b"() : () -> ()').op_name == "builtin.module"


def test_names_are_hints_and_stay_unique() -> None:
    inner = '  %y = "v"() : () -> f32\n'
    text = str(parse_module(f'%x = "v"() : () -> f32\n"r"() ({{\n{inner}}}, {{\n{inner}}}) : () -> ()'))
    assert [line.split(" =")[0].strip() for line in text.splitlines() if '"v"' in line] == ["%x", "%y", "%y_1"]


def test_an_isolated_region_avoids_the_names_around_it() -> None:
    text = str(parse_module("""
        %x = "v"() : () -> tensor<4xf32>
        %k = tensor.kernel %x : (tensor<4xf32>) -> tensor<4xf32> {
        ^bb0(%x: tensor<4xf32>):
          tensor.yield %x : tensor<4xf32>
        }"""))
    assert "^bb0(%x_1: tensor<4xf32>):" in text
    assert str(parse_module(text)) == text


def test_forward_references_are_resolved_in_graph_order() -> None:
    module = parse_module('"use"(%b) : (f32) -> ()\n%b = "v"() : () -> f32')
    use, value = list(module.regions[0].block)
    assert use.operands[0] is value.results[0]


def test_locations() -> None:
    ops = list(parse_module(SAMPLES["locations"]).regions[0].block)
    node, place = NameLoc("node"), FileLoc("model.mlir", 3, 5)
    assert [op.loc for op in ops[:2]] == [node, place]
    assert str(ops[2].loc) == 'fused["node", "model.mlir":3:5, unknown]'
    assert ops[3].loc is UNKNOWN
    assert ops[4].loc is NameLoc('/layer/Mul "x"')
    assert fused(node, UNKNOWN, place, node) is fused(fused(node, place), place)
    assert fused() is UNKNOWN
    assert fused(node, node) is node


def test_operations_without_a_location_get_the_place_in_the_text() -> None:
    module = parse_module('\n  "a"() : () -> ()\n', "file.mlir")
    assert module.loc is FileLoc("file.mlir", 2, 3)


def test_aliases_stand_for_types_and_attributes() -> None:
    op = parse_module('!t = tensor<4xf32>\n#a = [1, !t]\n%x = "op"() {a = #a} : () -> !t')
    assert str(op) == '%x = "op"() {a = [1, tensor<4xf32>]} : () -> tensor<4xf32>'


# Resources


def test_places_of_resources_are_collected() -> None:
    parser = Parser(SAMPLES["resources"], "t")
    module = parser.module()
    assert parser.resource_places == {"w0": "weights.bin:0:16:00112233445566778899aabbccddeeff"}
    assert list(blobs_of(module)) == ["w0"]


def test_a_given_blob_is_used() -> None:
    blob = Blob("w0", np.arange(4, dtype=np.float32))
    module = parse_module(SAMPLES["resources"], resources={"w0": blob})
    assert blobs_of(module) == {"w0": blob}
    constant = next(op for op in module.walk() if op.op_name == "graph.constant")
    np.testing.assert_array_equal(constant.interpret(None), [[0, 1], [2, 3]])


def test_a_resource_without_contents_says_so() -> None:
    module = parse_module(SAMPLES["resources"])
    constant = next(op for op in module.walk() if op.op_name == "graph.constant")
    with pytest.raises(IRError, match="resource 'w0' has 0 elements, not those of tensor<2x2xf32>"):
        constant.interpret(None)


def test_two_resources_with_one_key_are_refused() -> None:
    type_ = TensorType((1,), F32)
    op = parse_module('"op"() : () -> ()')
    for key, name in (("a", "w.0"), ("b", "w_0")):
        op.attributes[key] = DenseResourceAttr(Blob(name, np.zeros(1, np.float32)), type_)
    with pytest.raises(IRError, match="two resources have the key 'w_0'"):
        blobs_of(op)


@pytest.mark.parametrize(("name", "key"), [("w0", "w0"), ("a/b.c", "a_b_c"), ("0", "_0"), ("", "_"), ("é", "_")])
def test_resource_keys_are_identifiers(name: str, key: str) -> None:
    assert resource_key(Blob(name, np.zeros(1))) == key


def test_the_section_reads_back_any_file_name() -> None:
    places = {"a": 'we"ird\\ é.bin:0:4:00', "b": "w.bin:64:8:11"}
    parser = Parser('"op"() : () -> ()\n' + resources_text(places), "t")
    parser.module()
    assert parser.resource_places == places


def test_unknown_operations_may_be_forbidden() -> None:
    with pytest.raises(ParseError, match=r"unknown operation 'no.op'"):
        Parser('"no.op"() : () -> ()', "t", allow_unregistered=False).module()


def test_large_arrays_leave_the_text() -> None:
    assert "dense_resource<big>" in str(elements(np.zeros(1000, np.float32), name="big"))
    assert str(elements(np.array(["a"], object))) == 'dense<["a"]> : tensor<1x!graph.string>'
