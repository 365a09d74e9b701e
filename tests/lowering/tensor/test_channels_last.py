"""Channels that are innermost as a whole: how ops take that layout, where it is offered, and that it means the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.backends.cpu.target import named
from stepwell.dialects import func
from stepwell.dialects.tensor import GenericOp, KernelOp, PackOp, UnpackOp, tensor_type
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.rewrite import apply_greedily
from stepwell.ir.verifier import verify
from stepwell.lowering import pipeline
from stepwell.lowering.tensor.layout import PATTERNS, Cut, Layout, Variant, is_copy, take
from stepwell.lowering.tensor.layout_cost import is_free
from stepwell.lowering.tensor.layout_variants import reachable_cuts
from stepwell.lowering.tensor.stages import stages_of
from stepwell.sources import load_source

Shape = Sequence[int | str]
IMAGE = "tensor<2x6x4x5xf32>"
TO_LAST = "[affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, h, w, c)>]"


def function_of(body: str, result: str) -> Operation:
    """A module that makes one value of an image and a second one of its kind."""
    return parse_module(f"""
func.func @main(%x: {IMAGE}, %y: {IMAGE}) -> {result} {{
  {body}
  func.return %r : {result}
}}
""")


# An op, the layouts it takes, and the form that it has then: what it reads and makes in memory.
MOVED = {
    "border of pixels": (
        "%r = tensor.pad %x {high = array<i64: 0, 0, 1, 2>, low = array<i64: 0, 0, 3, 0>, value = 7.0 : f32}"
        f" : ({IMAGE}) -> tensor<2x6x8x7xf32>",
        "tensor<2x6x8x7xf32>", [Cut(1, 6)], Cut(1, 6), ["tensor<2x1x4x5x6xf32>"], "tensor<2x1x8x7x6xf32>",
    ),
    "border of channels": (
        "%r = tensor.pad %x {high = array<i64: 0, 1, 0, 0>, low = array<i64: 0, 2, 0, 0>, value = 7.0 : f32}"
        f" : ({IMAGE}) -> tensor<2x9x4x5xf32>",
        "tensor<2x9x4x5xf32>", [Cut(1, 6)], Cut(1, 9), ["tensor<2x1x4x5x6xf32>"], "tensor<2x1x4x5x9xf32>",
    ),
    "parts along the channels": (
        f"%r = tensor.concat %x, %y {{axis = 1}} : ({IMAGE}, {IMAGE}) -> tensor<2x12x4x5xf32>",
        "tensor<2x12x4x5xf32>", [Cut(1, 6)] * 2, Cut(1, 12), ["tensor<2x1x4x5x6xf32>"] * 2, "tensor<2x1x4x5x12xf32>",
    ),
    "parts along a row": (
        f"%r = tensor.concat %x, %y {{axis = 3}} : ({IMAGE}, {IMAGE}) -> tensor<2x6x4x10xf32>",
        "tensor<2x6x4x10xf32>", [Cut(1, 6)] * 2, Cut(1, 6), ["tensor<2x1x4x5x6xf32>"] * 2, "tensor<2x1x4x10x6xf32>",
    ),
    "rows merged": (
        f"%r = tensor.reshape %x : ({IMAGE}) -> tensor<2x6x20xf32>",
        "tensor<2x6x20xf32>", [Cut(1, 6)], Cut(1, 6), ["tensor<2x1x4x5x6xf32>"], "tensor<2x1x20x6xf32>",
    ),
    "rows merged, in blocks": (
        f"%r = tensor.reshape %x : ({IMAGE}) -> tensor<2x6x20xf32>",
        "tensor<2x6x20xf32>", [Cut(1, 4)], Cut(1, 4), ["tensor<2x2x4x5x4xf32>"], "tensor<2x2x20x4xf32>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVED)
def test_what_moves_elements_moves_whole_channels(case: str) -> None:
    body, result, operands, cut, reads, makes = MOVED[case]
    before, after = (function_of(body, result) for _ in range(2))
    moved = next(op for op in after.walk() if op.op_name.startswith("tensor."))
    name = moved.op_name
    take(moved, Variant(tuple(operands), cut))
    verify(after)
    made = next(op for op in after.walk() if op.op_name == name)
    assert [str(value.type) for value in made.operands] == reads
    assert str(made.results[0].type) == makes
    same_results(before, after)


def same_results(before: Operation, after: Operation) -> None:
    """Both give the same for random images."""
    random = np.random.default_rng(0)
    given = [random.standard_normal((2, 6, 4, 5)).astype(np.float32) for _ in range(2)]
    expected, got = (run_function(next(module.walk_of(func.FuncOp)), given) for module in (before, after))
    np.testing.assert_array_equal(got[0], expected[0])


TURN = f"""%r = tensor.generic %x {{iterators = ["parallel", "parallel", "parallel", "parallel"], maps = {TO_LAST},
    names = ["n", "c", "h", "w"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[2, 6, 4, 5]>}}
    : ({IMAGE}) -> tensor<2x4x5x6xf32> {{
  ^bb0(%e: f32):
    tensor.yield %e : f32
  }}"""


@pytest.mark.parametrize(
    ("read", "written", "free"),
    [(Cut(1, 6), None, True), (None, None, False), (Cut(1, 4), None, False), (None, Cut(3, 4), False)],
)
def test_a_transposition_of_channels_that_are_last_costs_nothing(read: Layout, written: Layout, free: bool) -> None:
    module = function_of(TURN, "tensor<2x4x5x6xf32>")
    (turn,) = module.walk_of(GenericOp)
    assert is_free(turn, Variant((read,), written)) == free


def test_who_reads_a_transposition_of_channels_that_are_last_reads_what_it_reads() -> None:
    """map(turn(unpack(z))) -> map'(z): the copy is left without readers"""
    more = """%s = tensor.generic %r {iterators = ["parallel", "parallel", "parallel", "parallel"],
    maps = [affine_map<(n, h, w, c) -> (n, h, w, c)>, affine_map<(n, h, w, c) -> (n, h, w, c)>],
    names = ["n", "h", "w", "c"], operandSegmentSizes = array<i32: 1, 0>, sizes = #tensor.dims<[2, 4, 5, 6]>}
    : (tensor<2x4x5x6xf32>) -> tensor<2x4x5x6xf32> {
  ^bb0(%e: f32):
    %d = arith.addf %e, %e : f32
    tensor.yield %d : f32
  }"""
    text = (TURN + "\n" + more, "tensor<2x4x5x6xf32>")
    before, after = (parse_module(str(function_of(*text)).replace("return %r", "return %s")) for _ in range(2))
    turn, double = after.walk_of(GenericOp)
    take(turn, Variant((Cut(1, 6),), None))
    apply_greedily(after, PATTERNS)
    (pack,) = after.walk_of(PackOp)
    assert list(double.inputs) == [pack.result]
    assert str(double.input_maps[0]) == "(d0, d1, d2, d3) -> (d0, 0, d1, d2, d3)"
    same_results(before, after)


class Graph:
    """An ONNX graph, built node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def convolution(self, x: str, channels: int, out: int, size: int = 3, groups: int = 1, stride: int = 1) -> str:
        weights = self.random.standard_normal((out, channels // groups, size, size)) / (size * np.sqrt(channels))
        pads = [size // 2] * 4 if stride == 1 else [0] * 4
        given = self.constant(weights.astype(np.float32))
        return self.add("Conv", x, given, pads=pads, group=groups, strides=[stride] * 2)

    def last(self, x: str, *args: int, **options: int) -> str:
        """A convolution as exporters of channels-last models write it."""
        first = self.add("Transpose", x, perm=[0, 3, 1, 2])
        return self.add("Transpose", self.convolution(first, *args, **options), perm=[0, 2, 3, 1])

    def model(self, result: str, shape: Shape, made: Shape | None) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), (result, made))]
        graph = helper.make_graph(self.nodes, "g", infos[:1], infos[1:], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def exported(shape: Shape = (1, 9, 11, 20)) -> onnx.ModelProto:
    """Convolutions, a depthwise one and a sum, between transposes."""
    g = Graph()
    a = g.add("Relu", g.last("x", 20, 24))
    b = g.add("Sigmoid", g.last(a, 24, 24, groups=24))
    c = g.add("Add", a, g.last(b, 24, 24, size=1))
    return g.model(g.last(g.add("Concat", c, b, axis=3), 48, 7), shape, None)


def patches() -> onnx.ModelProto:
    """How a vision transformer makes tokens of an image."""
    g = Graph()
    x = g.convolution("x", 3, 40, size=4, stride=4)
    tokens = g.add("Transpose", g.add("Reshape", x, g.constant([0, 40, -1])), perm=[0, 2, 1])
    weights = g.constant(np.linspace(-1, 1, 40 * 24, dtype=np.float32).reshape(40, 24))
    return g.model(g.add("MatMul", tokens, weights), ("batch", 3, 16, 24), None)


def grouped() -> onnx.ModelProto:
    """Groups that begin inside of a block, between transposes."""
    g = Graph()
    return g.model(g.last(g.add("Relu", g.last("x", 12, 24, groups=3)), 24, 24, groups=2), (1, 6, 7, 12), None)


def symbolic() -> onnx.ModelProto:
    return exported(("n", "h", "w", 20))


MODELS = [(exported, (1, 9, 11, 20)), (symbolic, (2, 5, 13, 20)), (symbolic, (0, 5, 13, 20)), (patches, (2, 3, 16, 24)),
          (grouped, (1, 6, 7, 12))]  # fmt: skip


@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_results_are_the_same(make: Any, shape: tuple[int, ...]) -> None:
    proto = make()
    graph, _ = load_source(proto)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (expected,) = run_function(next(graph.walk_of(func.FuncOp)), [x])
    (there,) = run_function(next(lowered(proto)[0].walk_of(func.FuncOp)), [x])
    np.testing.assert_allclose(there, expected, rtol=1e-4, atol=1e-5)
    for target in ("cpu", "x86-64-v3", "x86-64"):
        got = stepwell.compile(proto, target=target, threads=1)(x)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def lowered(proto: onnx.ModelProto) -> tuple[Operation, PassContext]:
    """The module at the end of the tensor landing, for vectors of 16 lanes, and what was said."""
    module, _ = load_source(proto)
    context = PassContext(named("x86-64-v4"))
    PassManager(pipeline.phases("graph", "tensor")).run(module, context)
    return module, context


def turned(op: GenericOp) -> bool:
    """Whether a copy reads neighbours that it does not write beside each other."""
    if not is_copy(op):
        return False
    return not op.input_maps[0].results[-1].dims & op.output_maps[0].results[-1].dims


def only_copies(kernel: KernelOp) -> bool:
    """Whether nothing is computed in a kernel."""
    return not any(op.has_reduction for stage in stages_of(kernel) for op in stage.ops)


def test_the_transposes_of_an_exporter_are_free() -> None:
    """Nothing is turned, neither by a kernel of its own nor where it is made."""
    module, context = lowered(exported())
    assert not any(turned(op) for kernel in module.walk_of(KernelOp) for op in kernel.walk_of(GenericOp))
    *_, last = module.walk_of(KernelOp)
    assert tensor_type(last.results[0]).shape == (1, 9, 11, 7)
    assert not only_copies(last)
    said = [remark.message for remark in context.remarks if remark.message.startswith("channels")]
    assert len(said) == 4
    assert all(" last" in text for text in said)


def test_tokens_are_read_where_the_patches_are_written() -> None:
    module, _ = lowered(patches())
    first, second = module.walk_of(KernelOp)
    assert tensor_type(first.results[0]).shape[1:] == (1, 4, 6, 40)
    assert not only_copies(second)
    assert [op.names for op in second.walk_of(GenericOp)] == [("b0m", "n", "k")]


@pytest.mark.parametrize("channels", [24, 32])
def test_channels_are_not_last_where_nothing_else_has_them_so(channels: int) -> None:
    """It was never faster between convolutions alone, and counting it takes time."""
    g = Graph()
    y = g.convolution(g.add("Relu", g.convolution("x", channels, channels)), channels, channels)
    module, _ = load_source(g.model(y, (1, channels, 9, 9), None))
    PassManager(pipeline.phases("graph", "tensor")[:3]).run(module, PassContext(named("x86-64-v4")))
    found = {cut for cuts in reachable_cuts(module, 16).values() for cut in cuts}
    assert found == {Cut(1, 16)}


def test_nothing_is_packed_at_the_end() -> None:
    module, _ = lowered(exported())
    assert not [op for op in module.walk() if isinstance(op, (PackOp, UnpackOp))]
