"""Model -> IR: names, types, order, constants, functions, subgraphs, outputs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from stepwell.dialects.func import FuncOp
from stepwell.errors import ModelError
from stepwell.frontends.onnx import names
from stepwell.frontends.onnx.importer import import_model, unsupported_report
from stepwell.frontends.onnx.registry import RULES
from stepwell.ir.parser import parse_module
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.symbols import SymbolTable
from stepwell.ir.verifier import verify
from tests.frontends.onnx.models import body_of, model, table, text_of
from tests.frontends.onnx.rule_harness import run_model, run_module


def main_of(module: Any) -> FuncOp:
    function = SymbolTable(module).lookup("main")
    assert isinstance(function, FuncOp)
    return function


def test_text() -> None:
    made = model("""g (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> {
        s = Add(x, w)
        y = Relu(s)
    }""")
    made.graph.node[0].name = "/layer.0/Add"
    t = 'tensor<?x4xf32, #graph.shape<["N"]>>'
    expected = f"""builtin.module @g {{
  func.func @main(%x: {t} {{onnx.name = "x"}}) -> ({t} {{onnx.name = "y"}}) {{
    %w = graph.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32> {{onnx.outputs = ["w"]}} loc("w")
    %s = graph.add %x, %w {{onnx.outputs = ["s"]}} : ({t}, tensor<4xf32>) -> {t} loc("/layer.0/Add")
    %y = graph.relu %s {{onnx.outputs = ["y"]}} : ({t}) -> {t} loc("Relu_1")
    func.return %y : {t} loc("g")
  }} loc("g")
}} loc(unknown)"""
    module = import_model(made)
    assert print_op(module, PrintOptions(locations=True)) == expected
    again = parse_module(expected, "text")
    verify(again)
    assert names.find_value(main_of(again), "s") is not None


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("float[2, 3]", "tensor<2x3xf32>"),
        ("float[N, 3]", 'tensor<?x3xf32, #graph.shape<["N"]>>'),
        ("int32[?, 3]", 'tensor<?x3xsi32, #graph.shape<["in_d0"]>>'),
        ("uint8", "tensor<ui8>"),
        ("bfloat16[0]", "tensor<0xbf16>"),
        ("bool[2]", "tensor<2xi1>"),
    ],
)
def test_input_types(declared: str, expected: str) -> None:
    made = model(f"g ({declared} in) => (y) {{ y = Identity(in) }}")
    assert str(main_of(import_model(made, rules=table())).arguments[0].type) == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (["8*h8", "h8"], ["8*h8", "h8"]),
        (["past + 1", "past"], ["past + 1", "past"]),
        (["h*w", "n"], ["`h*w`", "n"]),  # neither h nor w can be computed from the sizes
        (["h*w", "h*w"], ["`h*w`", "`h*w`"]),
        (["?", "None"], ["x_d0", "x_d1"]),
        (["-1", ""], ["x_d0", "x_d1"]),
        (["7", "some thing!"], ["7", "some thing!"]),
    ],
)
def test_dimension_texts(params: list[str], expected: list[str]) -> None:
    made = model("g (float[a, b] x) => (y) { y = Relu(x) }")
    for dim, text in zip(made.graph.input[0].type.tensor_type.shape.dim, params, strict=True):
        dim.dim_param = text
    type_ = main_of(import_model(made)).arguments[0].type
    assert [str(dim) for dim in type_.shape] == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"N": 2}, "tensor<2x16xf32>"),
        ({"x": (3, 16)}, "tensor<3x16xf32>"),
        ({"x": ["batch", 16]}, 'tensor<?x16xf32, #graph.shape<["batch"]>>'),
        ({"N": -1}, "shapes={'N': ...}: -1 is no size; the inputs are x"),
        ({"M": 1}, "shapes={'M': ...}: no input has this dimension; there are N"),
        ({"z": (1, 2)}, "shapes={'z': ...}: no input has this name; the inputs are x"),
        ({"x": (1,)}, "shapes={'x': ...} has 1 dims; the model has 2"),
        ({"x": (1, 4)}, "shapes={'x': ...}: dim 1 is 16 in the model, not 4"),
        ({"x": (-1, 16)}, "shapes={'x': ...}: -1 is no dimension; give a size or a name"),
    ],
)
def test_shapes(shapes: Any, expected: str) -> None:
    made = model("g (float[N, 16] x) => (y) { y = Relu(x) }")
    if expected.startswith("tensor"):
        assert str(main_of(import_model(made, shapes=shapes)).returned[0].type) == expected
    else:
        with pytest.raises(ModelError) as caught:
            import_model(made, shapes=shapes)
        assert str(caught.value) == expected


def test_unknown_rank_needs_a_shape() -> None:
    made = model("g (float x) => (y) { y = Relu(x) }")
    made.graph.input[0].type.tensor_type.ClearField("shape")
    [problem] = unsupported_report(made)
    assert (problem.kind, problem.name) == ("input", "x")
    assert "how many dimensions" in problem.reason
    assert "shapes={'x'" in problem.advice
    assert str(main_of(import_model(made, shapes={"x": (2, "n")})).arguments[0].type).startswith("tensor<2x?xf32")


def test_nodes_out_of_order_are_sorted() -> None:
    made = model("g (float[2] x) => (y) { a = Exp(x)  b = Neg(a)  y = Add(a, b) }")
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    assert body_of(made) == ["%a = graph.exp %x", "%b = graph.neg %a", "%y = graph.add %a, %b", "func.return %y"]


def test_initializers_that_are_inputs() -> None:
    made = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    made.graph.input.append(helper.make_tensor_value_info("w", 1, [2]))
    assert names.argument_names(main_of(import_model(made))) == ["x"]
    assert names.argument_names(main_of(import_model(made, as_inputs=["w"]))) == ["x", "w"]
    with pytest.raises(ModelError, match="as_inputs='v'"):
        import_model(made, as_inputs=["v"])
    made.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 3
    with pytest.raises(ModelError, match=r"declared as f32\[3\], and its initializer is f32\[2\]"):
        import_model(made)


def test_outputs_may_be_anything() -> None:
    made = model("g (float[2] x) => (x, w, y, y2) <float[2] w = {1, 2}> { y = Relu(x)  y2 = Identity(y) }")
    module = import_model(made, rules=table())
    function = main_of(module)
    assert names.result_names(function) == ["x", "w", "y", "y2"]
    assert names.find_value(function, "y2") is names.find_value(function, "y") is function.returned[3]
    x = np.array([-1, 1], np.float32)
    assert [r.tolist() for r in run_module(module, [x])] == [[-1, 1], [1, 2], [0, 1], [0, 1]]


def test_aliases_survive_the_text() -> None:
    made = model('g (float[2] x) => (y) { i = Identity(x)  "a b" = Relu(i)  y = Neg("a b") }'.replace('"a b"', "ab"))
    made.graph.node[1].output[0] = made.graph.node[2].input[0] = "a b/c"
    text = text_of(made, rules=table())
    function = main_of(parse_module(text, "text"))
    assert names.aliases(function) == {"i": "x"}
    assert names.find_value(function, "i") is function.arguments[0]
    found = names.find_value(function, "a b/c")
    assert found is not None and found.name == "a_b_c"


def test_unused_constants_go_and_unused_nodes_stay() -> None:
    made = model("g (float[2] x) => (y) <float[2] w = {1, 2}> { d = Exp(x)  y = Neg(x) }")
    assert body_of(made) == ["%d = graph.exp %x", "%y = graph.neg %x", "func.return %y"]


def test_model_functions_are_inlined() -> None:
    functions = """
    <domain: "local", opset_import: ["": 17, "local": 1]> Scaled (a, b) => (c) { t = local.Half(a)  c = Add(t, b) }
    <domain: "local", opset_import: ["": 17]> Half (a) => (c) { h = Constant<value_float = 0.5>()  c = Mul(a, h) }
    """
    made = model("g (float[2] x) => (y) { [call] y = local.Scaled(x, x) }", domains=', "local": 1', functions=functions)
    module = import_model(made, rules=table())
    function = main_of(module)
    assert [name for name, _ in names.named_values(function)] == ["x", "call/Half_0/h", "call/t", "y"]
    assert {op.loc.label for op in function.body.block} >= {"call/Half_0/Mul_1", "call/Add_1"}
    assert run_module(module, [np.array([2, 4], np.float32)])[0].tolist() == [3, 6]


def test_attributes_of_functions() -> None:
    functions = """
    <domain: "local", opset_import: ["": 17]> Plus <k: float = 3.0> (a) => (c) {
        k = Constant<value_float: float = @k>()
        c = Add(a, k)
    }"""
    text = "g (float[1] x) => (y, z) { y = local.Plus<k = 5.0>(x)  z = local.Plus(x) }"
    made = model(text, domains=', "local": 1', functions=functions)
    module = import_model(made, rules=table())
    assert [r.tolist() for r in run_module(module, [np.zeros(1, np.float32)])] == [[5.0], [3.0]]


def test_optional_inputs_of_functions() -> None:
    seen = []

    def clip(node: Any) -> Any:
        seen.append([node.has_input(index) for index in range(3)])
        return node.input(0)

    rules = table("Clip")
    rules.add("", "Clip", 1, clip)
    functions = """
    <domain: "local", opset_import: ["": 17]> F (a, low, high) => (c) { c = Clip(a, low, high) }"""
    text = "g (float[1] x, float l) => (y, z) { y = local.F(x)  z = local.F(x, l) }"
    import_model(model(text, domains=', "local": 1', functions=functions), rules=rules)
    assert seen == [[True, False, False], [True, True, False]]


def test_operators_with_a_definition_are_expanded() -> None:
    rules = table("HardSwish", "HardSigmoid")
    rules.add("", "HardSigmoid", 6, lambda node: node.input(0))
    made = model("g (float[2] x) => (y) { y = HardSwish(x) }")
    assert body_of(made, rules=rules) == ["%y = graph.mul %x, %x", "func.return %y"]


def test_subgraphs_see_the_outer_graph() -> None:
    made = model(
        """g (bool c, float[2] x) => (y) {
        a = Exp(x)
        y = If(c) <then_branch = t () => (float[2] p) { q = Neg(a)  p = Add(q, x) },
                   else_branch = e () => (float[2] a) {}>
    }""".replace("e () => (float[2] a) {}", "e () => (float[2] r) { r = Identity(a) }")
    )
    lines = body_of(made, rules=table())
    assert "%q = graph.neg %a" in lines and "%p = graph.add %q, %x" in lines
    assert '"test.yield"(%a)' in lines or any(line.startswith("%y = ") for line in lines)


def test_subgraphs_in_subgraphs_see_all_around_them() -> None:
    inner = """If(c) <then_branch = ti () => (float[2] p) { pp = Add(a, b)  p = Add(pp, x) },
                      else_branch = ei () => (float[2] q) { q = Neg(b) }>"""
    made = model(f"""g (bool c, float[2] x) => (y) {{
        a = Exp(x)
        y = If(c) <then_branch = t () => (float[2] r) {{ b = Neg(a)  r = {inner} }},
                   else_branch = e () => (float[2] s) {{ s = Neg(x) }}>
    }}""")
    assert "%pp = graph.add %a, %b" in body_of(made, rules=table())


def test_node_out_of_order_with_a_capture() -> None:
    made = model("""g (bool c, float[2] x) => (y) {
        a = Exp(x)
        y = If(c) <then_branch = t () => (float[2] p) { p = Neg(a) },
                   else_branch = e () => (float[2] r) { r = Neg(x) }>
    }""")
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    assert body_of(made, rules=table())[0] == "%a = graph.exp %x"


def test_constant_input_folds() -> None:
    seen = []

    def spy(node: Any) -> Any:
        seen.append(node.constant_input(1))
        return node.input(0)

    rules = table()
    rules.add("spy", "Spy", 1, spy)
    made = model(
        "g (float[2] x, float[2] z) => (y, u) <float[2] w = {1, 2}> "
        "{ a = Add(w, w)  b = Neg(a)  y = spy.Spy(x, b)  d = Add(b, z)  u = spy.Spy(x, d) }",
        domains=', "spy": 1',
    )
    import_model(made, rules=rules)
    assert seen[0].tolist() == [-2, -4]
    assert seen[1] is None


def test_operators_with_a_rule_have_one_from_their_first_version_on() -> None:
    for schema in onnx.defs.get_all_schemas_with_history():
        if RULES.since(schema.domain, schema.name):
            found = RULES.find(schema.domain, schema.name, schema.since_version)
            assert found, (schema.domain, schema.name, schema.since_version)


def test_long_chains_of_constants() -> None:
    seen = []
    rules = table()
    rules.add("spy", "Spy", 1, lambda node: (seen.append(node.constant_input(0)), node.input(0))[1])
    made = model("g (float[1] x) => (y) <float[1] w = {1}> { y = spy.Spy(w) }", domains=', "spy": 1')
    last = "w"
    nodes = []
    for index in range(3000):
        nodes.append(helper.make_node("Neg", [last], [f"n{index}"]))
        last = f"n{index}"
    made.graph.node[0].input[0] = last
    made.graph.node.extend(nodes)
    import_model(made, rules=rules)
    assert seen[0].tolist() == [1.0]


def test_metadata() -> None:
    made = model("g (float[2] x) => (y) { y = Relu(x) }")
    helper.set_model_props(made, {"labels": '{"0": "cat"}', "a key": "b"})
    made.producer_name, made.producer_version = "pytorch", "2.9"
    first = text_of(made).splitlines()[0]
    assert 'onnx.metadata = {"a key" = "b", labels = "{\\"0\\": \\"cat\\"}"}' in first
    assert 'onnx.producer = "pytorch 2.9"' in first
    parse_module(text_of(made), "text")


def test_sources(tmp_path: Path) -> None:
    made = model("g (float[2] x) => (y) { y = Relu(x) }")
    path = tmp_path / "m.onnx"
    onnx.save(made, path)
    expected = body_of(made)
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), io.BytesIO(path.read_bytes())):
        assert body_of(source) == expected
    with path.open("rb") as file:
        assert body_of(file) == expected


def test_all_element_types_of_initializers_reach_the_ir() -> None:
    for number, dtype in ((1, "f32"), (3, "si8"), (2, "ui8"), (16, "bf16"), (22, "si4"), (17, "f8E4M3FN"), (9, "i1")):
        values = np.array([0, 1, 1], helper.tensor_dtype_to_np_dtype(number))
        made = model("g (float[3] x) => (w) { y = Relu(x) }")
        made.graph.initializer.append(numpy_helper.from_array(values, "w"))
        assert str(main_of(import_model(made)).returned[0].type) == f"tensor<3x{dtype}>"
        assert np.array_equal(run_model(made, [np.zeros(3, np.float32)])[0].view(np.uint8), values.view(np.uint8))


def test_parser_is_not_needed_for_empty_names() -> None:
    made = parser.parse_model('<ir_version: 10, opset_import: ["": 17]> g (float[2] x) => (y) { y = Relu(x) }')
    made.graph.name = ""
    assert text_of(made).startswith("builtin.module {")
