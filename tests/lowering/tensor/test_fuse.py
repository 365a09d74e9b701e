"""What becomes one kernel, and why something does not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell.backends.cpu.target import named
from stepwell.dialects.tensor import GenericOp, KernelOp
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.lowering.tensor.fuse import Fuse
from stepwell.sources import load_source


def kernels(model: onnx.ModelProto) -> list[int]:
    """The number of generics in each kernel."""
    module, _ = load_source(model)
    PassManager(pipeline.phases("graph", "tensor")).run(module, PassContext())
    return [sum(1 for _ in kernel.walk_of(GenericOp)) for kernel in module.walk_of(KernelOp)]


def remarks(model: onnx.ModelProto) -> list[str]:
    """What is said of kernels, without what was counted."""
    module, _ = load_source(model)
    context = PassContext()
    PassManager(pipeline.phases("graph", "tensor")).run(module, context)
    assert len(set(map(str, context.remarks))) == len(context.remarks)
    said = [str(remark).partition(" cycles")[0] for remark in context.remarks]
    return [words for words in said if "fused with" in words or "in its rows" in words]


def layers(rows: int, *widths: int) -> onnx.ModelProto:
    """Products of `rows` rows with weights, each followed by a bias and, but for the last, a ReLU."""
    nodes, weights = [], []
    for n, (depth, width) in enumerate(pairwise(widths)):
        weights += [numpy_helper.from_array(np.ones((depth, width), np.float32), f"w{n}"),
                    numpy_helper.from_array(np.ones(width, np.float32), f"b{n}")]  # fmt: skip
        nodes += [helper.make_node("Gemm", [f"x{n}", f"w{n}", f"b{n}"], [f"g{n}"], name=f"linear{n}"),
                  helper.make_node("Relu", [f"g{n}"], [f"x{n + 1}"], name=f"relu{n}")]  # fmt: skip
    nodes[-1:] = [helper.make_node("Identity", [nodes[-1].input[0]], ["y"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, width])
             for name, width in (("x0", widths[0]), ("y", widths[-1]))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_the_layers_of_an_mlp_become_stages_over_the_same_rows() -> None:
    """Tile and fuse: three products one after the other, and then one kernel whose block of rows goes through all."""
    module, _ = load_source(layers(64, 96, 128, 128, 10))
    passes = [each for phase in pipeline.phases("graph", "tensor") for each in phase.flat()]
    at = next(n for n, each in enumerate(passes) if isinstance(each, Fuse))
    PassManager(passes[:at]).run(module, PassContext(named("x86-64-v3")))
    products = [op for op in module.walk_of(GenericOp) if op.has_reduction]
    assert len(products) == 3 and not any(op.stage for op in products) and not list(module.walk_of(KernelOp))
    PassManager(passes[at:]).run(module, PassContext(named("x86-64-v3")))
    (kernel,) = module.walk_of(KernelOp)
    ops = list(kernel.walk_of(GenericOp))
    assert [op.stage for op in ops if op.has_reduction] == ["s0", "s1", "s2"]
    assert [op.stage for op in ops] == ["s0", "s0", "s0", "s1", "s1", "s1", "s2", "s2"]
    assert kernel.schedule is not None
    assert [loop.dim for loop in kernel.schedule.loops] == ["m"]
    assert [(stage.name, stage.at) for stage in kernel.schedule.stages] == [("s0", "m0"), ("s1", "m0")]


def test_remarks_say_what_is_final() -> None:
    assert remarks(layers(64, 96, 128, 128, 10)) == [
        "linear2: linear1 is computed in its rows", "linear2: linear0 is computed in its rows",
    ]  # fmt: skip
    assert remarks(layers(1, 512, 1024, 512)) == [
        "linear1: linear0 is not computed in its rows: 1 rows are too few for a team of threads"
    ]


def test_what_has_other_readers_is_said_once() -> None:
    model = layers(64, 96, 128, 128)
    model.graph.node.append(helper.make_node("Add", ["x1", "x1"], ["z"], name="twice"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [64, 128]))
    assert remarks(model) == [
        "linear1: not fused with relu0: it reduces", "twice: not fused with relu0: the value has other readers",
    ]  # fmt: skip


def convolution(batch: int | str, channels: int) -> onnx.ModelProto:
    """relu(conv(x) + residual)"""
    weights = numpy_helper.from_array(np.ones((channels, channels, 3, 3), np.float32), "w")
    shape: list[Any] = [batch, channels, 6, 6]
    inner = [batch, channels, 4, 4]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Add", ["c", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("r", inner), ("y", inner))
    ]
    graph = helper.make_graph(nodes, "g", infos[:2], infos[2:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_a_convolution_takes_what_follows_along(batch: int | str) -> None:
    assert kernels(convolution(batch, 3)) == [3]
