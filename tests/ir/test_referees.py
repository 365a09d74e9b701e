"""Programs from outside judge our text: the generic form of every op's example and of whole modules is MLIR."""

from __future__ import annotations

from random import Random

import pytest

from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext
from stepwell.ir.printer import resources_text
from stepwell.ir.registry import REGISTRY
from stepwell.ir.verifier import verify
from stepwell.lowering.loop.expand_math import ExpandMath
from stepwell.lowering.pipeline import phases
from tests.ir.random_ir import random_op
from tests.ir.samples import SAMPLES, all_ops, example_of
from tests.referee import FULL, MINIMAL, available, complaints, generic_text, main, renamed

TENSOR = 'tensor<?x8xf32, #graph.shape<["batch"]>>'
MODEL = f"""
builtin.module {{
  func.func @main(%x: {TENSOR}) -> {TENSOR} {{
    %one = graph.constant dense<1.0> : tensor<8xf32>
    %a = graph.add %x, %one : ({TENSOR}, tensor<8xf32>) -> {TENSOR}
    %b = graph.tanh %a : ({TENSOR}) -> {TENSOR}
    %w = graph.constant dense<0.5> : tensor<8x8xf32>
    %c = graph.matmul %b, %w : ({TENSOR}, tensor<8x8xf32>) -> {TENSOR}
    %d = graph.softmax %c {{axes = array<i64: 1>}} : ({TENSOR}) -> {TENSOR}
    func.return %d : {TENSOR}
  }}
}}
"""
FUNCTIONS = ("exp", "log1p", "powf", "erf", "sin", "asinh", "rsqrt")


def needs(referee: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not available(referee), reason=f"{referee} is not installed (Debian: mlir-19-tools)")


BOTH = [pytest.param(referee, marks=needs(referee), id=referee) for referee in (MINIMAL, FULL)]


def checked(text: str, name: str) -> Operation:
    module = parse_module(text, name)
    verify(module)
    return module


@pytest.mark.parametrize("referee", BOTH)
def test_every_example_is_accepted(referee: str) -> None:
    assert complaints(referee, [generic_text(checked(example_of(name), name)) for name in all_ops()]) == ""


@pytest.mark.parametrize("referee", BOTH)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_accepted(name: str, referee: str) -> None:
    assert complaints(referee, [generic_text(checked(SAMPLES[name], name))]) == ""


@pytest.mark.parametrize("referee", BOTH)
def test_every_landing_is_accepted(referee: str) -> None:
    module, texts = checked(MODEL, "model"), []
    for phase in phases():
        for pass_ in phase.flat():
            pass_.run(module, PassContext())
            texts.append(generic_text(module))
    assert "tensor.kernel" in "".join(texts)
    assert "kernel.launch" in texts[-1]
    assert complaints(referee, texts) == ""


@pytest.mark.parametrize("referee", BOTH)
def test_the_resource_section_is_accepted(referee: str) -> None:
    section = resources_text({"w0": "a \"b\" \\ é.bin:0:16:00ff", "w1": "weights.bin:64:4:11aa"})
    assert complaints(referee, [generic_text(checked(SAMPLES["resources"], "resources")) + section]) == ""


@pytest.mark.parametrize("referee", BOTH)
@pytest.mark.parametrize("type_", ["f32", "f64", "f16", "vector<4xf32>", "vector<2x2xf64>"])
def test_expanded_functions_are_accepted(type_: str, referee: str) -> None:
    lines = [f"%{name} = math.{name} %x{', %x' if name == 'powf' else ''} : {type_}" for name in FUNCTIONS]
    module = checked("\n".join([f"func.func @f(%x: {type_}) {{", *lines, "func.return", "}"]), "functions")
    ExpandMath().run(module, PassContext())
    assert complaints(referee, [generic_text(module)]) == ""


@pytest.mark.parametrize("referee", BOTH)
@pytest.mark.parametrize("dialect", ["arith", "math", "vector"])
def test_what_we_verify_upstream_verifies(dialect: str, referee: str) -> None:
    """Random valid ops: a check that we lack shows as a complaint."""
    texts = []
    for name in all_ops():
        if name.startswith(f"{dialect}."):
            rng = Random(name)
            made = [op for op in (random_op(rng, REGISTRY.ops[name]) for _ in range(30)) if op is not None]
            texts += [generic_text(op) for op in made[:5]]
    assert len(texts) > 20
    assert complaints(referee, texts) == ""


@needs(FULL)
def test_quantised_types_and_conversions_are_upstream_s_own() -> None:
    texts = [generic_text(checked(example_of(name), name)) for name in all_ops() if name.startswith("quant.")]
    assert len(texts) == 3
    assert complaints(FULL, [*texts, generic_text(checked(SAMPLES["quantised"], "quantised"))], rename=False) == ""
    assert "quant.dcast" in complaints(FULL, [texts[0].replace("quant.uniform<", "quant.any<")], rename=False)


@needs(FULL)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('%a = "test.v"() : () -> f32\n%b = "arith.addi"(%a, %a) : (f32, f32) -> f32', "signless-integer-like"),
        ('"test.v"() : () -> (\n', "expected"),
        ('%a = "test.v"() : () -> vector<4xf32>\n%b = "vector.step"() : () -> f32', "vector"),
    ],
)  # fmt: skip
def test_a_referee_that_complains_is_heard(text: str, message: str) -> None:
    assert message in complaints(FULL, [text])


def test_only_our_names_are_renamed() -> None:
    text = '"tensor.op"(%a) {s = "tensor.op", a = #tensor.dims<[1]>} : (tensor<4x!tensor.f4E2M1FN>) -> ()'
    assert renamed(text) == '"sw_tensor.op"(%a) {s = "tensor.op", a = #sw_tensor.dims<[1]>} : ' + (
        "(tensor<4x!sw_tensor.f4E2M1FN>) -> ()"
    )


@needs(MINIMAL)
@needs(FULL)
def test_the_command_reports_files(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    import pathlib

    good, bad = pathlib.Path(str(tmp_path)) / "good.mlir", pathlib.Path(str(tmp_path)) / "bad.mlir"
    good.write_text(SAMPLES["loops"])
    bad.write_text("func.func @f() {")
    assert main([str(good)]) == 0
    assert f"{good}: {FULL} accepts" in capsys.readouterr().out
    assert main([str(bad)]) == 1
    assert "expected" in capsys.readouterr().err
