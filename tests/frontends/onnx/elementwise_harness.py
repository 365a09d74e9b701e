"""One-operator models through import rules and interpretation: a stand-in for the importer.

Every input that a rule asks for as a constant is one, unless a test says that inputs are known at run time only."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import stepwell.frontends.onnx.rules  # noqa: F401
from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.graph.base import ConstantOp
from stepwell.errors import ModelError
from stepwell.frontends.onnx.registry import RULES, Unsupported
from stepwell.ir.attributes import elements
from stepwell.ir.core import Block, Value
from stepwell.ir.dims import evaluate, symbol
from stepwell.ir.interpreter import run_function
from stepwell.ir.types import TensorType, Type, type_of_dtype
from stepwell.ir.verifier import verify

Array = Any


def f32(values: Any) -> Array:
    """An array of f32."""
    return np.array(values, np.float32)


def i32(values: Any) -> Array:
    """An array of si32."""
    return np.array(values, np.int32)


class HarnessNode:
    """The Node protocol over a NodeProto whose inputs are given as arrays."""

    def __init__(
        self, proto: onnx.NodeProto, version: int, block: Block, arrays: dict[str, Array], known: bool
    ) -> None:
        self.proto, self.version, self.block, self.arrays = proto, version, block, arrays
        self.known = known
        self.op_type, self.domain = proto.op_type, proto.domain
        self.num_inputs, self.num_outputs = len(proto.input), len(proto.output)
        self.values: dict[str, Value] = dict(zip(arrays, block.arguments, strict=True))
        self.attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

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

    def constant_input(self, index: int) -> Array | None:
        return self.arrays[self.proto.input[index]] if self.known and self.has_input(index) else None

    def has(self, name: str) -> bool:
        return name in self.attributes

    def _get(self, name: str, default: Any = None) -> Any:
        found = self.attributes.get(name, default)
        if found is None:
            raise ModelError(f"lacks its attribute {name!r}")
        return found.decode() if isinstance(found, bytes) else found

    int = float = string = _get

    def ints(self, name: str, default: Any = None) -> Any:
        return list(self._get(name, default))

    def element_type(self, name: str, default: Type | None = None) -> Type:
        if name not in self.attributes and default is not None:
            return default
        return type_of_dtype(np.dtype(helper.tensor_dtype_to_np_dtype(self._get(name))))

    def insert(self, op: Any) -> Any:
        self.block.append(op)
        return op

    def constant(self, array: Any, name: str = "") -> Value:
        result: Value = self.insert(ConstantOp(value=elements(np.asarray(array)))).result
        return result

    def unsupported(self, reason: str, advice: str = "") -> Unsupported:
        return Unsupported(reason, advice)


def run_node(
    proto: onnx.NodeProto, version: int, inputs: Sequence[Array], symbolic: bool = False, known: bool = True
) -> tuple[Array, ...]:
    """Import one node, verify it, interpret it, and hold the results against the inferred types. With `symbolic`, sizes
    of inputs other than 1 are symbols, equal ones the same."""
    names = [name for name in proto.input if name]
    arrays = dict(zip(names, [np.asarray(array) for array in inputs], strict=True))
    function = FuncOp.declare("main", [_type_of(array, symbolic) for array in arrays.values()], [])
    node = HarnessNode(proto, version, function.entry, arrays, known)
    found = RULES.find(proto.domain, proto.op_type, version)
    assert found is not None, f"{proto.op_type} has no rule at opset {version}"
    made = found(node)
    results = [value for value in ([made] if isinstance(made, Value) else made) if value is not None]
    function.entry.append(ReturnOp(results))
    function.update_type()
    verify(function)
    outputs = run_function(function, list(arrays.values()))
    for value, output in zip(results, outputs, strict=True):
        _check_type(value.type, np.asarray(output), {f"d{n}": n for array in arrays.values() for n in array.shape})
    return outputs


def _type_of(array: Array, symbolic: bool) -> TensorType:
    dims = [symbol(f"d{size}") if symbolic and size != 1 else size for size in array.shape]
    return TensorType(tuple(dims), type_of_dtype(array.dtype))


def _check_type(type_: Type, array: Array, sizes: dict[str, int]) -> None:
    assert isinstance(type_, TensorType)
    assert type_of_dtype(array.dtype) is type_.element, (type_, array.dtype)
    assert tuple(evaluate(dim, sizes) for dim in type_.shape) == array.shape, (type_, array.shape)


def node(
    op_type: str, *inputs: Array, version: int, outputs: int = 1, symbolic: bool = False, known: bool = True,
    **attributes: Any,
) -> Any:  # fmt: skip
    """The results of an operator on arrays at an opset version; None stands for an absent input."""
    names = ["" if array is None else f"x{index}" for index, array in enumerate(inputs)]
    proto = helper.make_node(op_type, names, [f"y{index}" for index in range(outputs)], **attributes)
    made = run_node(proto, version, [array for array in inputs if array is not None], symbolic, known)
    return made[0] if outputs == 1 else made


@functools.cache
def _all_cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        return list(collect_testcases(None))


def cases_of(op_types: Sequence[str]) -> dict[str, Any]:
    """The onnx package's cases of single nodes of some operators, by name."""
    return {
        case.name: case for case in _all_cases()
        if case.model.graph.node[0].op_type in op_types and "_expanded" not in case.name
    }  # fmt: skip


def check_case(case: Any, symbolic: bool) -> None:
    """Run a case and compare with its expected outputs at the suite's tolerance."""
    (proto,) = case.model.graph.node
    version = next(item.version for item in case.model.opset_import if item.domain == proto.domain)
    for inputs, expected in case.data_sets:
        made = run_node(proto, version, [_array(x) for x in inputs], symbolic)
        assert len(made) == len(expected)
        for one, other in zip(made, expected, strict=True):
            assert_matches(one, _array(other))


def _array(value: Any) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def assert_matches(made: Any, expected: Any) -> None:
    """Equal shapes and element types, and values within the suite's tolerance."""
    made, expected = np.asarray(made), np.asarray(expected)
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "fV":
        rtol = 2.0**-6 if expected.dtype.name == "bfloat16" else 1e-3
        np.testing.assert_allclose(made.astype(np.float64), expected.astype(np.float64), rtol, 1e-7)
    else:
        np.testing.assert_array_equal(made, expected)
