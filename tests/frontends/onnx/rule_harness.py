"""Import models of a node or a few and run them in NumPy: how an import rule is tested against what ONNX says.

    y = node("Softmax", x, version=13, axis=1)

Whatever the importer inferred on the way (element types, sizes, contents of shapes) is held against what every op
gives."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from onnx import helper, numpy_helper

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.dialects.graph.base import content
from stepwell.errors import StepwellError
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS
from stepwell.frontends.onnx.importer import import_model
from stepwell.frontends.onnx.report import ImportFailed
from stepwell.ir.core import Operation
from stepwell.ir.dims import evaluate
from stepwell.ir.interpreter import Frame, run_function
from stepwell.ir.symbol_values import bind_symbols
from stepwell.ir.symbols import SymbolTable
from stepwell.ir.types import TensorType, Type, type_of_dtype
from stepwell.ir.verifier import verify

Array = Any


def f32(values: Any) -> Array:
    """An array of f32."""
    return np.array(values, np.float32)


def i32(values: Any) -> Array:
    """An array of si32."""
    return np.array(values, np.int32)


@attrs.frozen
class Imported:
    """What a model was imported as."""

    main: FuncOp

    @property
    def types(self) -> list[Type]:
        """The types of the results."""
        return [value.type for value in self.main.returned]

    @property
    def ops(self) -> list[Operation]:
        """The ops of the graph, without those in regions."""
        return list(self.main.entry)[:-1]

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """The results; checks on the way that what was inferred of every op's results is what the op gives."""
        frame, arguments = Frame(), self.main.arguments
        sizes = bind_symbols([argument.type for argument in arguments], [np.shape(array) for array in arrays])
        frame.state["symbols"] = dict(sizes)
        for argument, array in zip(arguments, arrays, strict=True):
            frame.set(argument, array)
        for op in self.ops:
            frame.run_op(op)
            sizes.update(frame.state.get("dims", {}))
            for result in op.results:
                _check(result, frame.get(result), sizes)
        return [frame.get(value) for value in self.main.returned]


def _check(result: Any, array: Any, sizes: Mapping[str, int]) -> None:
    if not isinstance(result.type, TensorType):
        return
    assert type_of_dtype(np.asarray(array).dtype) is result.type.element, str(result.owner)
    assert np.shape(array) == tuple(evaluate(dim, sizes) for dim in result.type.shape), str(result.owner)
    known = content(result)
    if known is not None:
        assert [evaluate(dim, sizes) for dim in known] == np.reshape(array, -1).tolist(), str(result.owner)


def imported(source: Any, **options: Any) -> Imported:
    """A model, imported and verified, where nothing outside of it uses its values; options as of `import_model`."""
    module = import_model(source, **options)
    verify(module)
    inside = set(module.walk())
    for op in inside:
        for result in op.results:
            assert inside.issuperset(result.users), f"{op.op_name} is used by what was given up: {result.users}"
    return Imported(main_of(module))


@contextmanager
def refused(words: str, cause: type[StepwellError] = StepwellError) -> Iterator[None]:
    """What is imported inside is refused for one node, which the report names, by an error of that class."""
    with pytest.raises(ImportFailed, match=words) as raised:
        yield
    (problem,) = raised.value.problems
    assert problem.kind == "node" and problem.op and f"at {problem.name}" in str(raised.value)
    assert isinstance(problem.cause, cause), problem


def node_model(
    op_type: str,
    inputs: Sequence[Array | None],
    *,
    outputs: int | Sequence[str] = 1,
    version: int = 17,
    domain: str = "",
    constants: Collection[int] = (),
    shapes: Mapping[int, Sequence[int | str]] | None = None,
    **attributes: Any,
) -> Any:
    """A ModelProto of one node with inputs x0, x1, ... and outputs y0, y1, ... or those named.

    Inputs at the places in `constants` become initializers; None is an absent input; `shapes` declares other dims than
    an array's; `version` is the opset of ai.onnx."""
    names = [f"x{index}" if array is not None else "" for index, array in enumerate(inputs)]
    made = [f"y{index}" for index in range(outputs)] if isinstance(outputs, int) else list(outputs)
    ports, initializers = [], []
    for index, array in enumerate(inputs):
        if array is None:
            continue
        if index in constants:
            initializers.append(numpy_helper.from_array(np.asarray(array), names[index]))
        else:
            number = ELEMENT_NUMBERS[type_of_dtype(np.asarray(array).dtype)]
            shape = (shapes or {}).get(index, np.shape(array))
            ports.append(helper.make_tensor_value_info(names[index], number, shape))
    nodes = [helper.make_node(op_type, names, made, domain=domain, **attributes)]
    return model_of(nodes, ports, [name for name in made if name], version, initializers, [domain] if domain else [])


def given(inputs: Sequence[Array | None], constants: Collection[int] = ()) -> list[Array]:
    """Those of the arrays that are inputs of the `node_model`."""
    arrays = [np.asarray(array) for index, array in enumerate(inputs) if array is not None and index not in constants]
    return [array.astype(object) if array.dtype.kind == "U" else array for array in arrays]


def model_of(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[str], version: int,
    initializers: Sequence[Any] = (), domains: Sequence[str] = (),
) -> Any:  # fmt: skip
    """A ModelProto of nodes between inputs (ValueInfoProtos) and outputs of which no type is declared."""
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(list(nodes), "model", list(inputs), results, list(initializers))
    opsets = [helper.make_opsetid("", version), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def symbols_by_size(arrays: Sequence[Array | None]) -> dict[int, list[int | str]]:
    """Shapes for `node_model` in which sizes other than 1 are symbols, equal ones the same."""
    return {
        index: [f"d{size}" if size != 1 else 1 for size in np.shape(array)]
        for index, array in enumerate(arrays)
        if array is not None
    }


def node(
    op_type: str, *inputs: Array | None, version: int, outputs: int = 1, symbolic: bool = False,
    constants: Collection[int] = (), **attributes: Any,
) -> Any:  # fmt: skip
    """The results of one node on arrays: the one, or a list. With `symbolic`, as `symbols_by_size` says."""
    shapes = symbols_by_size(inputs) if symbolic else None
    model = node_model(
        op_type, inputs, version=version, outputs=outputs, constants=constants, shapes=shapes, **attributes
    )
    made = imported(model).run(given(inputs, constants))
    return made[0] if outputs == 1 else made


def main_of(module: ModuleOp) -> FuncOp:
    """The function @main."""
    main = SymbolTable(module).lookup("main")
    assert isinstance(main, FuncOp)
    return main


def run_model(source: Any, inputs: Sequence[Any]) -> list[Array]:
    """The outputs of a model, imported, verified and interpreted."""
    module = import_model(source)
    verify(module)
    return run_module(module, inputs)


def run_module(module: ModuleOp, inputs: Sequence[Any]) -> list[Array]:
    """The results of @main on arrays."""
    results = run_function(main_of(module), inputs)
    return [result if isinstance(result, list) or result is None else np.asarray(result) for result in results]


def assert_matches(made: Any, expected: Any, rtol: float = 1e-3, atol: float = 1e-7) -> None:
    """Equal element types and shapes, floats within a tolerance (bf16: four units in the last place, if that is more),
    all others equal; lists item by item."""
    if isinstance(expected, (list, tuple)):
        for one, other in zip(made, expected, strict=True):
            assert_matches(one, other, rtol, atol)
        return
    made, expected = np.asarray(made), np.asarray(expected)
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "fV" and "int" not in expected.dtype.name:
        rtol = max(rtol, 2.0**-6) if expected.dtype.name == "bfloat16" else rtol
        np.testing.assert_allclose(made.astype(np.float64), expected.astype(np.float64), rtol, atol)
    else:
        np.testing.assert_array_equal(made, expected)


def onnxruntime_outputs(model: Any, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of the reference runtime."""
    names = [port.name for port in model.graph.input]
    found: list[Any] = onnxruntime_session(model).run(None, dict(zip(names, arrays, strict=True)))
    return found


def onnxruntime_session(source: Any) -> Any:
    """A session of the reference runtime, on one thread and without its optimiser."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    given = os.fspath(source) if isinstance(source, (str, Path)) else source.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
