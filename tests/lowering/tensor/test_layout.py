"""Which channels are blocked, and that blocks that are not full mean the same."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.backends.cpu.target import named
from stepwell.dialects import func
from stepwell.dialects.tensor import GenericOp, KernelOp, tensor_type
from stepwell.errors import VerifyError
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.verifier import verify
from stepwell.lowering import pipeline
from stepwell.lowering.tensor.stages import stages_of
from stepwell.sources import load_source


def chain(channels: int, groups: int = 1) -> onnx.ModelProto:
    """Two convolutions over so many channels, the second one in groups."""
    random = np.random.default_rng(0)
    shapes = {"w": (channels, 4, 3, 3), "v": (channels, channels // groups, 1, 1)}
    constants = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / 4, name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["y"], group=groups),
    ]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, size, size])
        for name, count, size in (("x", 4, 8), ("y", channels, 6))
    ]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def lowered(proto: onnx.ModelProto) -> Operation:
    """The module at the end of the tensor landing, for vectors of 16 lanes."""
    module, _ = load_source(proto)
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext(named("x86-64-v4")))
    return module



def row_of(*kernels: int) -> onnx.ModelProto:
    """Convolutions of 32 channels by windows of these sizes, with activations between; depthwise where negative."""
    nodes, constants, name = [], [], "x"
    for n, kernel in enumerate(kernels):
        size, groups = abs(kernel), 32 if kernel < 0 else 1
        weights = np.ones((32, 32 // groups, size, size), np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{n}"))
        nodes.append(helper.make_node("Conv", [name, f"w{n}"], [f"c{n}"], pads=[size // 2] * 4, group=groups))
        name = "y" if n == len(kernels) - 1 else f"r{n}"
        nodes.append(helper.make_node("Relu", [f"c{n}"], [name]))
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 32, 9, 9]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("kernels", "blocked"),
    [((1,), 0), ((1, 1), 2), ((5,), 1), ((1, 5), 2), ((5, 1), 2), ((1, 1, 1, 5), 4), ((1, -5, 1), 3)],
)
def test_convolutions_without_a_window_follow_their_neighbours(kernels: tuple[int, ...], blocked: int) -> None:
    """In planes, neighbouring pixels fill vectors but for the last one, and nothing has to change its layout; blocks
    begin where the first result is written, and the last one is turned where it is stored."""
    module = lowered(row_of(*kernels))
    ranks = [tensor_type(op.results[0]).shape[-1:] for op in module.walk_of(GenericOp) if op.has_reduction]
    assert len(ranks) == len(kernels)
    assert ranks.count((16,)) == blocked


@pytest.mark.parametrize(
    ("channels", "pixels", "given", "blocked"),
    [(256, 7, True, True), (64, 7, True, True), (256, 16, True, False), (256, 7, False, False)],
)
def test_many_channels_of_few_pixels_are_blocked_where_that_pays(
    channels: int, pixels: int, given: bool, blocked: bool
) -> None:
    """49 pixels leave 15 of 64 lanes idle, 256 none; weights of a call would have to be turned as well."""
    shape = [channels, channels, 1, 1]
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), "w")] if given else []
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, channels, pixels, pixels]) for n in ("x", "y")]
    inputs = infos[:1] + ([] if given else [helper.make_tensor_value_info("w", TensorProto.FLOAT, shape)])
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", inputs, infos[1:], weights)
    module = lowered(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    (op,) = (op for op in module.walk_of(GenericOp) if op.has_reduction)
    assert (tensor_type(op.results[0]).shape[-1] == 16) == blocked


@pytest.mark.parametrize(
    ("channels", "blocked"),
    [(16, True), (24, True), (40, True), (11, True), (6, False), (4, False), (17, True), (20, True), (33, True)],
)
def test_channels_are_blocked_where_that_costs_less(channels: int, blocked: bool) -> None:
    module = lowered(chain(channels))
    types = {tensor_type(op.results[0]).shape[-1] for op in module.walk_of(GenericOp) if op.has_reduction}
    assert (16 in types) == blocked
    check(chain(channels), module)


@pytest.mark.parametrize("channels", [24, 48])
def test_groups_that_begin_inside_a_block_are_unpacked_once(channels: int) -> None:
    proto = chain(channels, groups=3 if channels == 24 else 2)
    check(proto, lowered(proto))


def check(proto: onnx.ModelProto, module: Operation) -> None:
    """The graph's meaning, the tensor landing and machine code agree."""
    graph, _ = load_source(proto)
    x = np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype(np.float32)
    (expected,) = run_function(next(graph.walk_of(func.FuncOp)), [x])
    (there,) = run_function(next(module.walk_of(func.FuncOp)), [x])
    np.testing.assert_allclose(there, expected, rtol=1e-4, atol=1e-5)
    for target in ("cpu", "x86-64-v3", "x86-64"):
        got = stepwell.compile(proto, target=target, threads=1)(x)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_remarks_say_what_was_chosen_and_what_the_others_cost() -> None:
    module, _ = load_source(row_of(5, 1))
    context = PassContext(named("x86-64-v4"))
    PassManager(pipeline.phases("graph", "tensor")).run(module, context)
    said = [remark.message for remark in context.remarks if remark.message.startswith("channels")]
    assert len(said) == 2
    assert all(re.fullmatch(r"channels in blocks: [\d.e+]+ cycles; .*in planes.*", text) for text in said)


BLOCKS = """
func.func @main(%x: tensor<2x5x3xf32>) -> (tensor<2x2x3x4xf32>, tensor<2x5x3xf32>) {
  %p = tensor.pack %x {axis = 1, block = 4} : (tensor<2x5x3xf32>) -> tensor<2x2x3x4xf32>
  %u = tensor.unpack %p {axis = 1, size = 5} : (tensor<2x2x3x4xf32>) -> tensor<2x5x3xf32>
  func.return %p, %u : tensor<2x2x3x4xf32>, tensor<2x5x3xf32>
}
"""


def test_unpack_drops_what_fills_the_last_block() -> None:
    module = parse_module(BLOCKS)
    verify(module)
    x = np.arange(30, dtype=np.float32).reshape(2, 5, 3)
    packed, plain = run_function(next(module.walk_of(func.FuncOp)), [x])
    np.testing.assert_array_equal(packed[:, 1, :, 0], x[:, 4])
    np.testing.assert_array_equal(plain, x)


@pytest.mark.parametrize("size", [4, 9])
def test_blocks_that_do_not_hold_the_size(size: int) -> None:
    with pytest.raises(VerifyError, match="do not hold"):
        verify(parse_module(BLOCKS.replace("size = 5", f"size = {size}")))


def test_a_turned_result_is_not_computed_channel_by_channel() -> None:
    """Rows of one channel would compute a block of 16 for each: the copy to planes is a kernel of its own."""
    weights = numpy_helper.from_array(np.ones((256, 256, 3, 3), np.float32), "w")
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 256, 14, 14]) for n in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], [weights])
    module = lowered(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    *_, last = module.walk_of(KernelOp)
    assert tensor_type(last.results[0]).shape == (1, 256, 14, 14)
    assert len(stages_of(last)) == 1


def test_a_convolution_joins_a_pool_where_that_is_faster() -> None:
    """256 channels of 13 x 13 pixels in 16 grains: their border and their turn would be computed with them."""
    weights = numpy_helper.from_array(np.ones((256, 1, 3, 3), np.float32), "w")
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 256, 13, 13]), ("y", None))]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], group=256),
        helper.make_node("GlobalAveragePool", ["a"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [weights])
    module = lowered(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    assert max(len(stages_of(kernel)) for kernel in module.walk_of(KernelOp)) == 1
