"""Convolutions with fewer products: the same values, where they apply, where they pay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.backends.cpu.target import named
from stepwell.dialects import func
from stepwell.dialects.tensor import ConstantOp, GenericOp, KernelOp, PadOp, tensor_type
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.verifier import verify
from stepwell.lowering import pipeline
from stepwell.lowering.tensor import winograd
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.winograd import FILTER, Winograd, cycles, windows_of
from stepwell.sources import load_source

FRONT = "canonicalize,cse,dce,to-tensor,cse"
RNG = np.random.default_rng(0)


def conv(
    shape: list[Any], weights: tuple[int, ...], element: int = TensorProto.FLOAT, *, given: bool = False, **window: Any
) -> onnx.ModelProto:
    """One convolution, by constant weights, or by `given` ones."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    array = (RNG.integers(-8, 9, weights) / 4).astype(dtype)
    inputs = [helper.make_tensor_value_info("x", element, shape)]
    if given:
        inputs.append(helper.make_tensor_value_info("w", element, weights))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], **window)], "g", inputs,
        [helper.make_tensor_value_info("y", element, [None] * len(shape))],
        [] if given else [numpy_helper.from_array(array, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def at_tensor(proto: onnx.ModelProto) -> Operation:
    module, _ = load_source(proto)
    PassManager(pipeline.parse(FRONT)).run(module, PassContext())
    return module


def rewritten(proto: onnx.ModelProto) -> tuple[Operation, int]:
    """The module, and how many of its convolutions were rewritten."""
    module, context = at_tensor(proto), PassContext()
    Winograd(always=True).run(module, context)
    verify(module)
    return module, context.statistics.get("convolutions with fewer products", 0)


def interpreted(module: Operation, *arrays: Any) -> Any:
    (function,) = module.walk_of(func.FuncOp)
    return run_function(function, list(arrays))[0]


def test_the_weights_are_the_published_ones_with_two_signs_moved() -> None:
    g = np.array([3.0, 5.0, 7.0])
    d = np.array([2.0, -1.0, 4.0, 6.0])
    signs = [-1, -1, 1, -1]
    m = [(d[xi] + signs[xi] * d[2 - xi // 2]) * u for xi, u in enumerate(FILTER @ g)]
    expected = [d[k : k + 3] @ g for k in range(2)]
    assert [m[2] + m[1] + m[0], m[2] - m[1] - m[3]] == expected


@pytest.mark.parametrize(
    ("shape", "weights", "window", "dims"),
    [
        ([1, 3, 8, 6], (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}, 2),
        ([2, 3, 7, 9], (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}, 2),  # the last tiles reach over the end
        ([1, 3, 3, 5], (4, 3, 3, 3), {}, 2),
        ([1, 3, 9, 8], (4, 3, 3, 3), {"pads": [0, 2, 1, 0]}, 2),
        ([2, 3, 11], (4, 3, 3), {"pads": [1, 1]}, 1),
        ([1, 2, 5, 4, 6], (3, 2, 3, 3, 3), {"pads": [1] * 6}, 3),
        ([1, 4, 6, 7], (6, 2, 3, 3), {"group": 2}, 2),
        ([1, 3, 6, 8], (4, 3, 1, 3), {"pads": [0, 1, 0, 1]}, 1),
        ([1, 3, 6, 8], (4, 3, 3, 5), {"pads": [1, 1, 1, 1]}, 1),
        ([1, 3, 8, 8], (4, 3, 3, 3), {"strides": [1, 2]}, 1),
        ([1, 3, 8, 8], (4, 3, 3, 3), {"dilations": [2, 1]}, 1),
    ],
)
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_the_values_stay(
    shape: list[int], weights: tuple[int, ...], window: dict[str, Any], dims: int, element: int
) -> None:
    """Multiples of 1/4 and small sums of them have no rounding errors in either form."""
    proto = conv(shape, weights, element, **window)
    x = (RNG.integers(-8, 9, shape) / 4).astype(helper.tensor_dtype_to_np_dtype(element))
    module, count = rewritten(proto)
    assert count == 1
    product = next(op for op in module.walk_of(GenericOp) if op.has_reduction)
    assert list(product.sizes.dims[:dims]) == [4] * dims
    assert not windows_of(product)
    np.testing.assert_array_equal(interpreted(module, x), interpreted(at_tensor(proto), x))


@pytest.mark.parametrize("size", [3, 4, 8, 9, 17])
def test_one_module_serves_every_size(size: int) -> None:
    proto = conv([1, 2, "h", "w"], (3, 2, 3, 3), pads=[1, 1, 1, 1])
    module, count = rewritten(proto)
    assert count == 1
    x = (RNG.integers(-8, 9, (1, 2, size, size + 3)) / 4).astype(np.float32)
    np.testing.assert_array_equal(interpreted(module, x), interpreted(at_tensor(proto), x))


@pytest.mark.parametrize(
    "proto",
    [
        conv([1, 3, 8, 8], (4, 3, 3, 3), strides=[2, 2]),
        conv([1, 3, 8, 8], (4, 3, 3, 3), dilations=[2, 2]),
        conv([1, 3, 8, 8], (4, 3, 5, 1)),
        conv([1, 4, 8, 8], (4, 1, 3, 3), group=4),
        conv([1, 3, 8, 8], (4, 3, 3, 3), given=True),
        conv([1, 3, 8, 8], (4, 3, 3, 3), TensorProto.FLOAT16),
    ],
    ids=["strides", "dilations", "other taps", "depthwise", "weights that are not known", "half precision"],
)
def test_what_is_left_alone(proto: onnx.ModelProto) -> None:
    before, (after, count) = at_tensor(proto), rewritten(proto)
    assert count == 0
    assert str(after) == str(before)


def test_a_border_that_is_there_grows_instead_of_a_second_one() -> None:
    module, _ = rewritten(conv([1, 3, 7, 8], (4, 3, 3, 3), pads=[1, 1, 1, 1]))
    (pad,) = module.walk_of(PadOp)
    assert (list(pad.low), list(pad.high)) == ([0, 0, 1, 1], [0, 0, 2, 1])
    assert tensor_type(pad.result).shape == (1, 3, 10, 10)


def test_weights_are_transformed_once_at_compile_time() -> None:
    module, _ = rewritten(conv([1, 3, 8, 8], (4, 3, 3, 3)))
    assert [tensor_type(op.result).shape for op in module.walk_of(ConstantOp)] == [(4, 4, 4, 3)]


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "pays"),
    [(64, 64, 56, True), (256, 256, 14, True), (512, 512, 7, True), (32, 32, 256, True), (3, 64, 224, False)],
)
def test_where_it_pays(channels: int, outputs: int, size: int, pays: bool) -> None:
    """Not where three channels lie in planes, whose sums read every other element."""
    module = at_tensor(conv([1, channels, size, size], (outputs, channels, 3, 3), pads=[1, 1, 1, 1]))
    machine = Machine.of(named("x86-64-v4"))
    (op,) = (op for op in module.walk_of(GenericOp) if op.has_reduction)
    windows = windows_of(op)
    assert (cycles(op, windows, machine) < cycles(op, (), machine)) == pays
    context = PassContext(named("x86-64-v4"))
    Winograd().run(module, context)
    assert context.statistics.get("convolutions with fewer products", 0) == pays
    assert any("cycles with fewer products" in remark.message for remark in context.remarks)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_all_kernels_of_groups_have_vectors(groups: int) -> None:
    """What follows sees groups and channels as one dim, as it is in memory."""
    proto = conv([1, 128, 13, 13], (128, 128 // groups, 3, 3), group=groups, pads=[1, 1, 1, 1])
    proto.graph.node[0].output[0] = "c"
    proto.graph.node.append(helper.make_node("Relu", ["c"], ["r"]))
    proto.graph.node.append(helper.make_node("MaxPool", ["r"], ["y"], kernel_shape=[3, 3], strides=[2, 2]))
    module, _ = load_source(proto)
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext(named("x86-64-v4")))
    schedules = [kernel.schedule for kernel in module.walk_of(KernelOp)]
    assert any("winograd" in str(op.value) for op in module.walk_of(ConstantOp))
    every = [s for made in schedules if made for s in (made, *(spec.schedule for spec in made.stages))]
    assert {schedule.lanes for schedule in every} == {16}


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("size", [6, 7])
def test_compiled(target: str, size: int) -> None:
    """A chain in machine code: 24 channels leave a block of 16 half empty, odd sizes a tile."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "r"], ["y"]),
    ]
    shapes = {"w": (24, 8, 3, 3), "v": (24, 24, 3, 3), "b": (24,)}
    arrays = {name: (RNG.integers(-8, 9, shape) / 4).astype(np.float32) for name, shape in shapes.items()}
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, size, size])
        for name, count in (("x", 8), ("y", 24))
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    passes = [pass_ for phase in pipeline.phases("graph", "tensor") for pass_ in phase.flat()]
    passes = [Winograd(always=True) if isinstance(pass_, Winograd) else pass_ for pass_ in passes]
    module, _ = load_source(proto)
    PassManager(passes).run(module, PassContext(named(target)))
    assert sum("winograd" in str(op.value) for op in module.walk_of(ConstantOp)) == 2
    x = (RNG.integers(-8, 9, (1, 8, size, size)) / 4).astype(np.float32)
    expected = interpreted(at_tensor(proto), x)
    np.testing.assert_array_equal(stepwell.compile(module, target=target)(x), expected)


@pytest.mark.parametrize("axes", [[2, 3], [1], [3, 0]])
def test_weights_are_transformed_in_parts(axes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    shape = [3 if axis in axes else 5 + axis for axis in range(4)]
    weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = winograd.transformed(weights, axes, np.dtype(np.float32))
    expected = weights.astype(np.float64)
    for axis in axes:
        expected = np.moveaxis(np.tensordot(winograd.FILTER, expected, (1, axis)), 0, axis)
    np.testing.assert_array_equal(whole, np.moveaxis(expected, axes, range(len(axes))).astype(np.float32))
    monkeypatch.setattr(winograd, "PART", 40)
    np.testing.assert_array_equal(winograd.transformed(weights, axes, np.dtype(np.float32)), whole)
