"""Import one node and run it in NumPy: how an import rule is tested against what ONNX says.

[y] = run_node("Softmax", [x], axis=1, opset=13)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS
from stepwell.frontends.onnx.importer import import_model
from stepwell.ir.interpreter import run_function
from stepwell.ir.symbols import SymbolTable
from stepwell.ir.types import type_of_dtype
from stepwell.ir.verifier import verify

Array = np.ndarray[Any, Any]


def node_model(
    op_type: str,
    inputs: Sequence[Array | None],
    *,
    outputs: int | Sequence[str] = 1,
    opset: int = 17,
    domain: str = "",
    constants: Sequence[int] = (),
    dynamic: bool = False,
    **attributes: Any,
) -> Any:
    """A ModelProto of one node. Inputs at the places in `constants` become initializers; `dynamic` gives every dim of
    the others a symbol; None is an absent input."""
    names = [f"x{index}" if array is not None else "" for index, array in enumerate(inputs)]
    made = [f"y{index}" for index in range(outputs)] if isinstance(outputs, int) else list(outputs)
    ports, initializers = [], []
    for index, array in enumerate(inputs):
        if array is None:
            continue
        number = ELEMENT_NUMBERS[type_of_dtype(array.dtype)]
        if index in constants:
            initializers.append(helper.make_tensor(names[index], number, array.shape, array.tobytes(), raw=True))
        else:
            shape = [f"n{index}_{axis}" for axis in range(array.ndim)] if dynamic else array.shape
            ports.append(helper.make_tensor_value_info(names[index], number, shape))
    node = helper.make_node(op_type, names, made, domain=domain, **attributes)
    results = [helper.make_empty_tensor_value_info(name) for name in made if name]
    graph = helper.make_graph([node], op_type, ports, results, initializers)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run_node(
    op_type: str, inputs: Sequence[Array | None], *, constants: Sequence[int] = (), **options: Any
) -> list[Array]:
    """The outputs of one node, imported and interpreted; options as in `node_model`."""
    made = node_model(op_type, inputs, constants=constants, **options)
    return run_model(made, [a for i, a in enumerate(inputs) if a is not None and i not in constants])


def run_model(source: Any, inputs: Sequence[Any]) -> list[Array]:
    """The outputs of a model, imported, verified and interpreted."""
    module = import_model(source)
    verify(module)
    return run_module(module, inputs)


def run_module(module: ModuleOp, inputs: Sequence[Any]) -> list[Array]:
    """The results of @main on arrays."""
    main = SymbolTable(module).lookup("main")
    assert isinstance(main, FuncOp)
    return [np.asarray(result) for result in run_function(main, inputs)]


def onnxruntime_session(source: Any) -> Any:
    """A session of the reference runtime, on one thread and without its optimiser."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    given = os.fspath(source) if isinstance(source, (str, Path)) else source.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
