"""Bad model -> the text of the report. Each names what, where, why and what to do."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import helper

from stepwell.errors import ModelError
from stepwell.frontends.onnx.importer import import_model, unsupported_report
from stepwell.frontends.onnx.registry import Node
from stepwell.frontends.onnx.report import ImportFailed
from stepwell.ir.core import Value
from tests.frontends.onnx.models import model, table


def error_of(source: Any, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        import_model(source, **options)
    return str(caught.value)


def test_everything_in_one_report() -> None:
    made = model(
        """g (float[N] x, string[2] s, seq(seq(float[2])) q) => (float[N] y, float[N] z) {
        [one] a = com.acme.Turbo(x)
        [two] b = com.acme.Turbo(x, x)
        [three] c = MaxRoiPool(x, x)
        d = Nothing(x)
        e = Relu(d)
        f = Add(e, e)
        [four] g = StringConcat(s, s)
        y = Exp(x)
        z = Neg(x)
    }""",
        opset=21,
        domains=', "com.acme": 3',
    )
    assert (
        error_of(made, rules=table("MaxRoiPool", "StringConcat"))
        == """g cannot be imported: 6 problems

Turbo (com.acme, opset 3): 2 nodes
  this opset has no such operator
    at one (f32[N])
    at two (f32[N], f32[N])
  -> write an import rule for it, or export it otherwise

MaxRoiPool (ai.onnx, opset 21): 1 node
  it has no import rule
    at three (f32[N], f32[N])
  -> write one, or express the node by other operators

Nothing (ai.onnx, opset 21): 1 node
  this opset has no such operator
    at Nothing_3 (f32[N])
  -> write an import rule for it, or export it otherwise

StringConcat (ai.onnx, opset 21): 1 node
  it has no import rule
    at four (string[2], string[2])
  -> write one, or express the node by other operators

input
  a sequence of what is no tensor is not supported
    at q
  -> pass its parts as sequences of tensors"""
    )


def test_no_noise_behind_a_failure() -> None:
    rules = table()
    seen: list[str] = []

    def picky(node: Node) -> Value:
        seen.append(str(node.input(0).type))
        if node.constant_input(0) is None:
            raise node.unsupported("its input must be constant")
        return node.input(0)

    def strict(node: Node) -> Value:
        raise node.unsupported("mode=weird is not supported")

    rules.add("t", "Picky", 1, picky)
    rules.add("t", "Strict", 1, strict)
    made = model(
        """g (float[3] x, float[4] w) => (y) {
            a = t.Missing(x)  b = t.Picky(a)  c = t.Strict(b)  d = Add(c, w)  y = Relu(d)
        }""",
        domains=', "t": 1',
    )
    made.graph.value_info.append(helper.make_tensor_value_info("a", 1, [3]))
    made.graph.value_info.append(helper.make_tensor_value_info("b", 1, [3]))
    made.graph.value_info.append(helper.make_tensor_value_info("c", 1, [3]))
    assert [problem.op for problem in unsupported_report(made, rules=rules)] == ["Missing", "Strict"]
    assert seen == ["tensor<3xf32>"]


def test_the_types_of_what_failed_come_from_the_schema() -> None:
    rules = table("Transpose")
    seen: list[str] = []

    def look(node: Node) -> Value:
        seen.append(str(node.input(0).type))
        return node.input(0)

    rules.add("t", "Look", 1, look)
    made = model("g (float[2, N] x) => (y) { a = Transpose(x)  y = t.Look(a) }", domains=', "t": 1')
    assert [p.op for p in unsupported_report(made, rules=rules)] == ["Transpose"]
    assert seen == ['tensor<?x2xf32, #graph.shape<["N"]>>']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (float[2] x) => (y) { y = Relu(x, x) }", "it has 2 inputs, and Relu takes 1"),
        ("g (float[2] x) => (y) { y = Add(x) }", "it has 1 inputs, and Add takes 2"),
        ("g (float[2] x) => (y) { y, z = Relu(x) }", "it has 2 outputs, and Relu takes 1"),
        (
            "g (float[2] x) => (y) { y = Relu <alpha = 1> (x) }",
            "Relu has no attribute 'alpha' in opset 17 (it has: none)",
        ),
        ("g (float[2] x) => (y) { y = LeakyRelu <alpha = 1> (x) }", "its attribute 'alpha' is of type int, not float"),
        ("g (float[2] x) => (y) { y = Cast (x) }", "it lacks its attribute 'to'"),
        ("g (float[2] x, float[3] w) => (y) { y = Add(x, w) }", "shapes 2 and 3 do not broadcast"),
        ("g (float[2] x, int32[2] w) => (y) { y = Add(x, w) }", "wants input 0 and input 1 (B) of one type"),
        ("g (bool[2] x) => (y) { y = Add(x, x) }", "Add does not allow bool as input 0 (A)"),
        ("g (float[2] x) => (int32[2] y) { y = Relu(x) }", "it is declared as si32[2], and its nodes compute f32[2]"),
        (
            "g (float[2] x) => (float[2, 2] y) { y = Relu(x) }",
            "it is declared as f32[2, 2], and its nodes compute f32[2]",
        ),
        ("g (float[2] x) => () { y = Relu(x) }", "its graph has no output"),
        ("g (float[2] x) => (y) { y = Relu(z) }", "node Relu_0 reads it, and no input, initializer or node defines it"),
        ("g (float[2] x) => (y) { z = Relu(x) }", "an output names it, and no input, initializer or node defines it"),
        ("g (float[2] x) => (y) { y = Relu(x)  y = Neg(x) }", "its output 'y' is defined a second time"),
        ("g (float[2] x) => (x) { x = Relu(x) }", "its output 'x' is defined a second time"),
        ("g (float[2] x, float[2] x) => (y) { y = Relu(x) }", "the graph has 2 inputs of this name"),
        (
            "g (float[2] x) => (a) { a = Neg(c)  b = Exp(a)  c = Abs(b) }",
            "it needs its own result: Neg_0 -> Exp_1 -> Abs_2 -> Neg_0",
        ),
        ("g (float[2] x) => (a) { a = Neg(a) }", "it needs its own result: Neg_0 -> Neg_0"),
        (
            "g (bool c, float[2] x) => (y) { y = If(c) <then_branch = t () => (p) { p = Neg(y) }, "
            "else_branch = e () => (q) { q = Neg(x) }> }",
            "it needs its own result: If_0 -> If_0",
        ),
        (
            "g (bool c, float[2] x) => (y) { y = If(c) <then_branch = t () => (p) { p = Neg(nowhere) }, "
            "else_branch = e () => (q) { q = Neg(x) }> }",
            "value 'nowhere'\n  -> the model",
        ),
        ("g (float[2] x) => (y) { y = Relu <ref: float = @k> (x) }", "refers to 'k' of a function, and it is in none"),
    ],
)
def test_bad_graphs(text: str, expected: str) -> None:
    assert expected in error_of(model(text), rules=table())


def test_faults_of_rules_are_reported_not_raised() -> None:
    rules = table()
    rules.add("t", "Bad", 1, lambda node: node.ints("pads", [1])[3])
    text = error_of(model("g (float[2] x) => (y) { y = t.Bad(x) }", domains=', "t": 1'), rules=rules)
    assert "its import rule failed: IndexError: list index out of range" in text
    assert "please report it" in text


def test_too_few_results() -> None:
    rules = table()
    rules.add("t", "One", 1, lambda node: node.input(0))
    made = model("g (float[2] x) => (y, z) { y, z = t.One(x) }", domains=', "t": 1')
    assert "its output 1 ('z') is not supported" in error_of(made, rules=rules)


def test_an_old_opset_says_how_to_convert() -> None:
    rules = table()
    rules._rules[("", "Add")] = [(13, rules.find("", "Add", 17))]  # type: ignore[list-item]
    made = model("g (float[2] x) => (y) { y = Add(x, x) }", opset=9)
    text = error_of(made, rules=rules)
    assert "opset 9 is too old: Add is known from opset 13 on" in text
    assert "convert the model to opset 13 or newer with onnx.version_converter" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.ClearField("ir_version"), "has no IR version"),
        (lambda m: setattr(m, "ir_version", 9999), "has IR version 9999"),
        (lambda m: m.ClearField("opset_import"), "imports no operator set"),
        (lambda m: m.opset_import.add(domain="ai.onnx", version=11), "imports ai.onnx in two versions: 17 and 11"),
        (lambda m: setattr(m.opset_import[0], "version", 9999), "uses opset 9999 of ai.onnx"),
        (lambda m: setattr(m.opset_import[0], "version", -1), "imports ai.onnx in version -1"),
        (lambda m: setattr(m.opset_import[0], "domain", "other"), "does not import the domain 'ai.onnx'"),
        (lambda m: m.ClearField("graph"), "has no graph"),
    ],
)
def test_bad_headers(change: Any, expected: str) -> None:
    made = model("g (float[2] x) => (y) { y = Relu(x) }")
    change(made)
    assert expected in error_of(made)


def test_bad_sources() -> None:
    assert error_of(b"") == "the model is empty"
    assert "protobuf cannot parse" in error_of(b"\x00\x01\x02 certainly not a model")
    assert "Git LFS" in error_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "does not exist" in error_of("/nowhere/at/all.onnx")
    assert "is not a file" in error_of("/")
    assert "not dict" in error_of({})


def test_functions_that_call_themselves() -> None:
    functions = """
    <domain: "l", opset_import: ["": 17, "l": 1]> A (a) => (b) { b = l.B(a) }
    <domain: "l", opset_import: ["": 17, "l": 1]> B (a) => (b) { b = l.A(a) }"""
    made = model("g (float[2] x) => (y) { y = l.A(x) }", domains=', "l": 1', functions=functions)
    assert "it calls itself: A -> B -> A" in error_of(made)


def test_functions_that_multiply() -> None:
    bodies = [
        f'<domain: "l", opset_import: ["": 17, "l": 1]> F{i} (a) => (c) {{ b = l.F{i + 1}(a)  c = l.F{i + 1}(b) }}'
        for i in range(30)
    ] + ['<domain: "l", opset_import: ["": 17]> F30 (a) => (c) { c = Neg(a) }']
    made = model("g (float[2] x) => (y) { y = l.F0(x) }", domains=', "l": 1', functions="\n".join(bodies))
    import stepwell.frontends.onnx.importer as importer

    limit, importer.MAX_NODES = importer.MAX_NODES, 1000
    try:
        assert "with its functions inlined it has more than 1000 nodes" in error_of(made)
    finally:
        importer.MAX_NODES = limit


def test_deep_nesting() -> None:
    made = model("g (bool c, float[2] x) => (p0) { p0 = If(c) }")
    graph = made.graph
    for depth in range(1, 61):
        branch = graph.node[0].attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        graph = branch.g
        graph.output.add(name=f"p{depth}")
        graph.node.add(op_type="If", input=["c"], output=[f"p{depth}"])
    assert "graphs are nested more than 32 deep" in error_of(made, rules=table())


def test_problems_can_be_read_one_by_one() -> None:
    made = model("g (float[2] x) => (y) { [here] y = t.Nothing(x) }", domains=', "t": 7')
    [problem] = unsupported_report(made)
    assert (problem.kind, problem.name, problem.op, problem.domain, problem.version, problem.types) == (
        "node", "here", "Nothing", "t", 7, ("f32[2]",),
    )  # fmt: skip
    with pytest.raises(ImportFailed) as caught:
        import_model(made)
    assert caught.value.problems == (problem,)
    assert unsupported_report(model("g (float[2] x) => (y) { y = Relu(x) }")) == []


def test_names_that_are_not_utf8() -> None:
    made = model("g (float[2] x) => (y) { y = Relu(x) }")
    made.graph.node[0].name = "mark"
    data = made.SerializeToString().replace(b"mark", b"\xff\xfe\x00k")
    assert isinstance(onnx.ModelProto.FromString(data), onnx.ModelProto)
    import_model(data)
