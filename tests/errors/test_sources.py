"""Models and IR that cannot be compiled: an error of our own through the API, and no traceback from the command."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell import cli
from stepwell.errors import StepwellError

FLOAT = TensorProto.FLOAT


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), f"{op}_0", **attributes)


def model(nodes: Sequence[Any], inputs: dict[str, Any], constants: dict[str, Any] | None = None) -> onnx.ModelProto:
    """A model of inputs {name: shape, or (type, shape)} with the last node's outputs."""
    given = [v if isinstance(v, tuple) else (FLOAT, v) for v in inputs.values()]
    ports = [helper.make_tensor_value_info(name, *spec) for name, spec in zip(inputs, given, strict=True)]
    outputs = [helper.make_tensor_value_info(name, given[0][0], None) for name in nodes[-1].output]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", ports, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weighted(change: Callable[[TensorProto], None]) -> bytes:
    """A model with one initializer that a test spoils."""
    made = model([node("Add", "x w", "y")], {"x": [3]})
    weight = made.graph.initializer.add(name="w", data_type=FLOAT, dims=[3])
    change(weight)
    return made.SerializeToString()


def external(location: str) -> bytes:
    def change(weight: TensorProto) -> None:
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)

    return weighted(change)


def petabyte(weight: TensorProto) -> None:
    weight.dims[:] = [1 << 25, 1 << 25]
    weight.raw_data = b"1234"


GOOD = model([node("Relu", "x", "y")], {"x": ["n", 3]}).SerializeToString()
SOURCES: dict[str, tuple[bytes, str]] = {
    "truncated": (GOOD[:-7], "damaged or cut short"),
    "empty": (b"", "is empty"),
    "noise": (bytes(range(256)) * 3, "damaged or cut short"),
    "a cycle": (model([node("Add", "x b", "a"), node("Relu", "a", "b")], {"x": [3]}).SerializeToString(),
                "it needs its own result"),
    "a missing initializer": (model([node("Add", "x w", "y")], {"x": [3]}).SerializeToString(), "'w'"),
    "a missing external file": (external("nowhere.bin"), "'nowhere.bin' cannot be read"),
    "an external file outside": (external("../secret.bin"), "climbs out of the model's folder"),
    "an absolute external file": (external("/etc/passwd"), "relative to the model's folder"),
    "an unknown op": (model([node("Frobnicate", "x", "y")], {"x": [3]}).SerializeToString(), "no such operator"),
    "a wrong element type": (
        model([node("Add", "x z", "y")], {"x": [3], "z": (TensorProto.INT64, [3])}).SerializeToString(), "of one type"),
    "an unknown element type": (model([node("Relu", "x", "y")], {"x": (77, [3])}).SerializeToString(), "number 77"),
    "a petabyte in the header": (weighted(petabyte), "4503599627370496 bytes, and there are 4"),
    "an index that is never in range": (
        model([node("Gather", "x i", "y")], {"x": [10]}, {"i": np.array([3, 99])}).SerializeToString(),
        "index 99 is out of range"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_models(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, words = SOURCES[name]
    (tmp_path / "secret.bin").write_bytes(bytes(12))
    path = tmp_path / "models" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(StepwellError, match=words):
        stepwell.compile(path)
    assert cli.main([str(path), "--run"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("lower: ")
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "expected an operation"),
        (b"\xff\xfe\x00 builtin", "cannot be read"),
        (b"builtin.module {\n", "expected"),
        (b"builtin.module {\n  %y = graph.relu %z : (tensor<3xf32>) -> tensor<3xf32>\n}\n", "%z is not defined"),
        (b"builtin.module {\n}\n", "no landing"),
    ],
)
def test_ir_text(text: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.mlir"
    path.write_bytes(text)
    with pytest.raises(StepwellError, match=words):
        stepwell.compile(path)
    for option in ([], ["--from-ir"]):
        assert cli.main([*option, str(path), "--run"]) == 1
        assert capsys.readouterr().err.startswith("lower: ")


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["--pipeline", "graph(canonicalize,frob)"], 1, "unknown pass 'frob'"),
        (["--pipeline", "tile{unroll="], 1, "missing '}'"),
        (["--print-after", "frob"], 1, "there is no pass frob"),
        (["--target", "z80"], 1, "unknown CPU target"),
        (["--to", "frob"], 2, "invalid choice"),
        (["--run", "--threads", "0"], 1, "at least one"),
        (["--run", "--shapes", "q=4"], 1, "no input has this dimension"),
        (["--to", "loop", "-o", "/nowhere/out.mlir"], 1, "No such file"),
    ],
)
def test_command_lines(
    words: list[str], status: int, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GOOD)
    assert cli.main([*words, str(path)]) == status
    assert expected in capsys.readouterr().err


HUGE = 1 << 25
LARGE_MODELS = {
    "an input": (model([node("Exp", "x", "y")], {"x": [HUGE, HUGE]}), "does not fit into memory"),
    "an intermediate": (model([node("Add", "x z", "a"), node("ReduceSum", "a", "y")],
                              {"x": [HUGE, 1], "z": [1, HUGE]}), r"needs 4\.0 PiB of memory"),
    "an output": (model([node("Expand", "x s", "y")], {"x": [1]}, {"s": np.array([HUGE, HUGE])}), r"needs 4\.0 PiB"),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE_MODELS)
def test_models_too_large_for_memory(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, words = LARGE_MODELS[name]
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    assert cli.main([str(path), "--run"]) == 1
    assert re.search(words, capsys.readouterr().err)


def test_a_call_that_is_too_large_leaves_the_model_usable() -> None:
    outer = stepwell.compile(model([node("Add", "x z", "y")], {"x": ["a", 1], "z": [1, "b"]}))
    x = np.broadcast_to(np.float32(1), (1 << 21, 1)).copy()
    with pytest.raises(stepwell.RuntimeError, match=r"outputs 16\.0 TiB"):
        outer(x, x.reshape(1, -1))
    assert outer(x[:2], x[:3].reshape(1, -1)).tolist() == [[2.0] * 3] * 2
