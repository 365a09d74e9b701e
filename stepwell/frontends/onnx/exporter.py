"""From the graph landing back to ONNX, so that other runtimes can run what the compiler has made of a model.

Names that came from a model are kept; symbolic dims become `dim_param` texts; constants become initializers; what an op
becomes is in `exports`, one module per family."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from onnx import TensorProto, helper

from stepwell import __version__
from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.errors import ModelError
from stepwell.frontends.onnx import names
from stepwell.frontends.onnx.registry import Array
from stepwell.frontends.onnx.report import Problem, report_text
from stepwell.frontends.onnx.writer import Writer
from stepwell.ir.attributes import DictAttr, StringAttr
from stepwell.ir.core import Operation
from stepwell.ir.symbols import SymbolTable
from stepwell.outputs import Outputs

IR_VERSION = 11
EMBEDDED_LIMIT = 1 << 30  # bytes of weights up to which a model is one file
ALIGNMENT = 4096  # of tensors in an external file

class ExportFailed(ModelError):
    """A module that cannot be written as ONNX; `problems` lists every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(report_text("the graph", problems, "written as ONNX"))
        self.problems = tuple(problems)

DOMAIN_VERSIONS = {"ai.onnx.ml": 5}
"""Under which versions the operators of other domains are written; elsewhere 1."""


def export_model(module: Operation) -> Any:
    """The ModelProto of a module at the graph landing: its function @main as a graph, all weights inside.

    Raises ExportFailed that lists every op that ONNX cannot express, and ModelError for weights of 2 GiB and more."""
    proto, arrays = _export(module)
    weights = list(_placed(proto.graph, arrays))
    if sum(array.nbytes for _, array in weights) >= (1 << 31) - (1 << 20):
        raise ModelError("the weights have 2 GiB or more; use save_model, which puts them into a file of their own")
    for tensor, array in weights:
        tensor.raw_data = array.tobytes()
    return proto


def save_model(module: Operation, path: str | os.PathLike[str]) -> None:
    """Write a module at the graph landing as an ONNX file, its weights in `NAME.data` beside it where they are large.

    Raises ModelError like `export_model`, and where the files cannot be written."""
    path = Path(path)
    proto, arrays = _export(module)
    weights = list(_placed(proto.graph, arrays))
    with Outputs(ModelError) as files:
        if sum(array.nbytes for _, array in weights) > EMBEDDED_LIMIT:
            data = path.with_name(path.name + ".data")
            _write_external(files.new(data), data.name, weights)
        else:
            for tensor, array in weights:
                tensor.raw_data = array.tobytes()
        files.new(path).write(proto.SerializeToString())


def _write_external(file: IO[bytes], name: str, weights: Sequence[tuple[Any, Array]]) -> None:
    for tensor, array in weights:
        offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
        file.seek(offset)
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))


def _placed(graph: Any, arrays: Mapping[str, Array]) -> Iterator[tuple[Any, Array]]:
    """(TensorProto, array) of every initializer in a graph and the graphs inside it."""
    yield from ((tensor, arrays[tensor.name]) for tensor in graph.initializer if tensor.name in arrays)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _placed(attribute.g, arrays)


def _export(module: Operation) -> tuple[Any, dict[str, Array]]:
    from stepwell.frontends.onnx import exports as _registered

    assert _registered
    main = SymbolTable(module).lookup("main")
    if not isinstance(main, FuncOp) or len(main.body.blocks) != 1:
        raise ModelError("the module has no function @main of one block, so there is no graph to export")
    title = module.sym_name if isinstance(module, ModuleOp) else None
    writer = Writer(main)
    graph = writer.main_graph(title or "main")
    if writer.problems:
        raise ExportFailed(writer.problems) from writer.problems[0].cause
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", writer.opset)], ir_version=IR_VERSION)
    proto.producer_name, proto.producer_version = "stepwell", __version__
    metadata = module.attributes.get(names.METADATA)
    if isinstance(metadata, DictAttr):
        helper.set_model_props(proto, {k: v.value for k, v in metadata.items if isinstance(v, StringAttr)})
    for domain in sorted(writer.domains - {""}):
        proto.opset_import.append(helper.make_opsetid(domain, DOMAIN_VERSIONS.get(domain, 1)))
    return proto, writer.weights
