"""What a program asks of what is outside of it: functions on the host, the clock that seeds random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

import stepwell
from stepwell.compiler import Options
from stepwell.dialects.func import FuncOp
from stepwell.sources import load_source
from stepwell.way import walked


def model(op: str, element: int, inputs: int, **attributes: Any) -> Any:
    ports = [helper.make_tensor_value_info(f"x{n}", element, ["n"]) for n in range(inputs)]
    node = helper.make_node(op, [port.name for port in ports], ["y"], **attributes)
    graph = helper.make_graph([node], "g", ports, [helper.make_tensor_value_info("y", element, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def ops_of(source: Any) -> list[str]:
    """The names of the ops of the program at the end of the loop landing."""
    module = walked(load_source(source)[0], Options()).lowered
    assert module is not None
    return [op.op_name for function in module.walk_of(FuncOp) for op in function.walk()]


def test_a_call_of_the_host_and_its_result() -> None:
    source = model("StringConcat", TensorProto.STRING, 2)
    assert [name for name in ops_of(source) if name.startswith("host.")] == ["host.call", "host.result"]
    texts = [np.array(words, object) for words in (["a", "", "é"], ["b", "c", "\0"])]
    assert stepwell.compile(source)(*texts).tolist() == ["ab", "c", "é\0"]


def test_without_a_seed_the_clock_is_read_in_every_call() -> None:
    source = model("RandomUniformLike", TensorProto.FLOAT, 1)
    assert ops_of(source).count("kernel.entropy") == 1
    compiled, x = stepwell.compile(source), np.zeros(64, np.float32)
    first, second = compiled(x), compiled(x)
    assert not np.array_equal(first, second)
    assert "kernel.entropy" not in ops_of(model("RandomUniformLike", TensorProto.FLOAT, 1, seed=1.0))
