"""How many copies of a model are in memory while it is compiled: those that came in are mapped from the file, and what
is folded into them is computed where they are packed."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stepwell.backends.cpu import target
from stepwell.dialects.tensor import ConstantOp
from stepwell.ir.attributes import DenseResourceAttr
from stepwell.ir.blobs import LazyBlob
from stepwell.ir.core import Operation
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.sources import load_source

LAYERS = 12
FORMS = {"batch norms": 1, "transposes": 1, "windows": 3}


def model(form: str, channels: int) -> onnx.ModelProto:
    """Convolutions with batch norms behind them, or products with transposed weights."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for n in range(LAYERS):
        if form == "transposes":
            shape, made = (channels, channels), f"p{n}"
            nodes += [helper.make_node("Transpose", [f"w{n}"], [f"t{n}"]),
                      helper.make_node("MatMul", [value, f"t{n}"], [made])]  # fmt: skip
        else:
            size = FORMS[form]
            shape, made = (channels, channels, size, size), f"b{n}"
            vectors = [f"{part}{n}" for part in ("scale", "bias", "mean", "variance")]
            weights += [numpy_helper.from_array(random.random(channels, np.float32) + 1, name) for name in vectors]
            nodes += [helper.make_node("Conv", [value, f"w{n}"], [f"c{n}"], pads=[size // 2] * 4),
                      helper.make_node("BatchNormalization", [f"c{n}", *vectors], [made])]  # fmt: skip
        weights.append(numpy_helper.from_array(random.random(shape, np.float32), f"w{n}"))
        nodes.append(helper.make_node("Relu", [made], [f"r{n}"]))
        value = f"r{n}"
    shape = [4, channels] if form == "transposes" else [1, channels, 8, 8]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", value)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def walked_to(name: str, path: Path) -> Operation:
    """The module after the pass of that name."""
    module, _ = load_source(path)
    passes = [pass_ for phase in pipeline.phases("graph", "tensor") for pass_ in phase.flat()]
    names = [pass_.name for pass_ in passes]
    PassManager(passes[: names.index(name) + 1]).run(module, PassContext(target.named("x86-64-v3")))
    return module


@pytest.mark.parametrize("form", FORMS)
def test_weights_wait_in_their_file(form: str, tmp_path: Path) -> None:
    onnx.save(model(form, 8), tmp_path / "small.onnx")
    onnx.save(model(form, 256), tmp_path / "large.onnx")
    walked_to("schedule", tmp_path / "small.onnx")  # imports what it needs
    tracemalloc.start()
    try:
        module = walked_to("schedule", tmp_path / "large.onnx")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    blobs = [op.value.blob for op in module.walk_of(ConstantOp) if isinstance(op.value, DenseResourceAttr)]
    large = [blob for blob in blobs if blob.size >= 1 << 16]
    assert len(large) == LAYERS
    assert all(isinstance(blob, LazyBlob) for blob in large)
    assert most < (tmp_path / "large.onnx").stat().st_size + (2 << 20)


@pytest.mark.parametrize("form", FORMS)
def test_none_is_computed_twice(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(model(form, 64), tmp_path / "model.onnx")
    read: list[LazyBlob] = []
    view = LazyBlob.view.fget
    assert view is not None
    monkeypatch.setattr(LazyBlob, "view", property(lambda blob: [read.append(blob), view(blob)][1]))
    module = walked_to("pack-constants", tmp_path / "model.onnx")
    blobs = [op.value.blob for op in module.walk_of(ConstantOp) if isinstance(op.value, DenseResourceAttr)]
    waiting = {blob for blob in blobs if isinstance(blob, LazyBlob)}  # are not packed, and read where code is made
    assert len(read) == len(set(read)) and waiting.isdisjoint(read)
    assert len(read) + len(waiting) >= LAYERS
