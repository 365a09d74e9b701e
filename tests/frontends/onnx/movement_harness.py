"""Imports a model of a few nodes through the rules alone, and runs it in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper, numpy_helper

from stepwell.dialects.graph.base import ConstantOp, constant_array, content
from stepwell.errors import ModelError
from stepwell.frontends.onnx import rules  # noqa: F401
from stepwell.frontends.onnx.registry import RULES, Unsupported
from stepwell.ir.attributes import elements
from stepwell.ir.core import Block, Operation, OpT, Value
from stepwell.ir.dims import Dim, evaluate, symbol
from stepwell.ir.interpreter import Frame
from stepwell.ir.types import StringType, TensorType, Type, type_of_dtype


def element_type(number: int) -> Type:
    return StringType() if number == onnx.TensorProto.STRING else type_of_dtype(
        np.dtype(helper.tensor_dtype_to_np_dtype(number)))


@attrs.define
class FakeNode:
    proto: onnx.NodeProto
    version: int
    values: dict[str, Value]
    block: Block
    domain: str = ""

    @property
    def op_type(self) -> str:
        return self.proto.op_type

    @property
    def num_inputs(self) -> int:
        return len(self.proto.input)

    @property
    def num_outputs(self) -> int:
        return len(self.proto.output)

    def has_input(self, index: int) -> bool:
        return index < len(self.proto.input) and bool(self.proto.input[index])

    def has_output(self, index: int) -> bool:
        return index < len(self.proto.output) and bool(self.proto.output[index])

    def input(self, index: int) -> Value:
        if not self.has_input(index):
            raise ModelError(f"input {index} is absent")
        return self.values[self.proto.input[index]]

    def optional(self, index: int) -> Value | None:
        return self.input(index) if self.has_input(index) else None

    def inputs(self) -> list[Value]:
        return [self.input(index) for index in range(self.num_inputs)]

    def constant_input(self, index: int) -> Any:
        return constant_array(self.optional(index))

    def has(self, name: str) -> bool:
        return any(a.name == name for a in self.proto.attribute)

    def _get(self, name: str, default: Any = None) -> Any:
        for a in self.proto.attribute:
            if a.name == name:
                return helper.get_attribute_value(a)
        if default is None:
            raise ModelError(f"attribute {name} is missing")
        return default

    int = float = _get

    def string(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def ints(self, name: str, default: Any = None) -> list[Any]:
        return list(self._get(name, default))

    floats = ints

    def strings(self, name: str, default: Any = None) -> list[str]:
        return [v.decode() for v in self._get(name, default)]

    def tensor(self, name: str) -> Any:
        value = self._get(name, None)
        if isinstance(value, onnx.SparseTensorProto):
            dense = np.zeros(tuple(value.dims), numpy_helper.to_array(value.values).dtype)
            places = numpy_helper.to_array(value.indices)
            dense[tuple(places.T) if places.ndim == 2 else np.unravel_index(places, dense.shape)] = (
                numpy_helper.to_array(value.values))
            return dense
        return numpy_helper.to_array(value)

    def element_type(self, name: str, default: Type | None = None) -> Type:
        return element_type(self._get(name, None)) if self.has(name) else default  # type: ignore[return-value]

    def insert(self, op: OpT) -> OpT:
        self.block.append(op)
        return op

    def constant(self, array: Any, name: str = "") -> Value:
        return self.insert(ConstantOp(value=elements(np.asarray(array)))).result

    def unsupported(self, reason: str, advice: str = "") -> Unsupported:
        return Unsupported(reason, advice)


@attrs.define
class Imported:
    """A block that stands for a model, and its outputs."""

    block: Block
    outputs: list[Value]

    def run(self, arrays: Sequence[Any], symbols: dict[str, int] | None = None) -> list[Any]:
        """The outputs; checks on the way that every inferred size and content is what the op really gave."""
        frame, sizes = Frame(), dict(symbols or {})
        for argument, array in zip(self.block.arguments, arrays, strict=True):
            frame.set(argument, np.asarray(array))
            for dim, size in zip(argument.type.shape, np.shape(array), strict=True):  # type: ignore[attr-defined]
                sizes[str(dim)] = size
        for op in self.block:
            frame.run_op(op)
            sizes.update(frame.state.get("dims", {}))
            for result in op.results:
                array = frame.get(result)
                inferred = tuple(evaluate(dim, sizes) for dim in result.type.shape)  # type: ignore[attr-defined]
                assert np.shape(array) == inferred, f"{op} gave {np.shape(array)}"
                known = content(result)
                if known is not None:
                    assert [evaluate(dim, sizes) for dim in known] == np.reshape(array, -1).tolist(), str(op)
        return [frame.get(value) for value in self.outputs]

    def ops(self) -> list[Operation]:
        return list(self.block)


def import_nodes(
    nodes: Sequence[onnx.NodeProto], inputs: dict[str, TensorType], outputs: Sequence[str], version: int,
    constants: dict[str, Any] | None = None,
) -> Imported:
    """Import nodes on typed inputs; `constants` are further values known at import time."""
    block = Block(inputs.values())
    values: dict[str, Value] = dict(zip(inputs, block.arguments, strict=True))
    for name, array in (constants or {}).items():
        op = ConstantOp(value=elements(np.asarray(array)))
        block.append(op)
        values[name] = op.result
    for proto in nodes:
        node = FakeNode(proto, version, values, block)
        found = RULES.find("", proto.op_type, version)
        assert found is not None, f"no rule for {proto.op_type} {version}"
        made = found(node)
        made = [made] if isinstance(made, Value) else made
        values.update((name, value) for name, value in zip(proto.output, made, strict=True) if name)
    return Imported(block, [values[name] for name in outputs])


def type_of(array: Any, names: Sequence[str] | None = None) -> TensorType:
    """The type of an array, with symbols for its sizes where names are given."""
    array = np.asarray(array)
    shape: Sequence[Dim] = array.shape if names is None else [symbol(name) for name in names]
    return TensorType(tuple(shape), StringType() if array.dtype.kind in "OSU" else type_of_dtype(array.dtype))
