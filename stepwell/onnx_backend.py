"""ONNX's own interface of a backend, `onnx.backend.base.Backend`:

    prepared = stepwell.onnx_backend.prepare(model)
    outputs = prepared.run([x])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.backend.base import Backend as OnnxBackend
from onnx.backend.base import BackendRep

import stepwell
from stepwell.compiler import Request
from stepwell.errors import InputError, IRError, ModelError, TargetError
from stepwell.frontends.onnx.element_types import ELEMENT_NUMBERS
from stepwell.frontends.onnx.versions import newest_opsets
from stepwell.ir.types import type_of_dtype
from stepwell.plugins import load_installed
from stepwell.sources import open_source
from stepwell.specialised import of_unknown

TARGETS = {"CPU": "cpu"}


class Prepared(BackendRep):  # type: ignore[misc]  # onnx is not looked into
    """A compiled model. `model` is the stepwell.Model that runs it."""

    def __init__(self, model: stepwell.Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The model's outputs, in order. `inputs` are arrays in the order of the graph's inputs without those that are
        initializers, a mapping from their names, or the array of the only one. Sequences are lists of arrays, an
        absent optional is None.

        Raises InputError for what does not fit, stepwell.RuntimeError for what only the run can find."""
        ports = self.model.inputs
        if isinstance(inputs, Mapping):
            missing = [port.name for port in ports if port.name not in inputs]
            if missing:
                raise InputError(f"no value for {', '.join(missing)}")
            inputs = [inputs[port.name] for port in ports]
        elif isinstance(inputs, np.ndarray):
            inputs = [inputs]
        found = self.model(*inputs)
        return found if isinstance(found, tuple) else (found,)


class Backend(OnnxBackend):  # type: ignore[misc]
    """Stepwell for programs that take any backend of ONNX."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether a model can be imported and the device has code; nothing is compiled. Further arguments are those of
        `stepwell.compile`, of which `shapes` and `state` count."""
        if not cls.supports_device(device):
            return False
        request = Request(_target(device), shapes=kwargs.get("shapes"), state=kwargs.get("state"))
        load_installed()
        source = None
        try:
            source = open_source(model)
            source.load(request.shapes)
        except ModelError as error:
            return source is not None and of_unknown(error, source, request, None, False) is not None
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Compile a model. Further arguments are those of `stepwell.compile`.

        Raises TargetError for a device that Stepwell has no code for, ModelError for what cannot be imported."""
        return Prepared(stepwell.compile(model, **{"target": _target(device), **kwargs}))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Compile a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: Any,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        opset_version: int | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node at an opset of its domain (default: the newest one that there are schemas of; 1 for a domain
        that is not ONNX's). `inputs` are in the order of the node's inputs, one for each or one for each that has a
        name: arrays, lists of arrays for sequences, None for what is absent.

        Raises InputError for values that do not fit the node, besides what `prepare` and `run` raise."""
        model, given = model_of_node(node, inputs, outputs_info, opset_version)
        return cls.prepare(model, device, **kwargs).run(given)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models can be compiled for a device, `CPU` or `CPU:0`."""
        return device.partition(":")[0] in TARGETS


def _target(device: str) -> str:
    kind = device.partition(":")[0]
    if kind not in TARGETS:
        raise TargetError(f"no code for the device {device!r}; there is {', '.join(TARGETS)}")
    return TARGETS[kind]


def model_of_node(
    node: Any, inputs: Sequence[Any], outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
    opset_version: int | None = None,
) -> tuple[Any, list[Any]]:  # fmt: skip
    """(a model of one node, whose inputs have the types of these values, the values that it is given). Parameters are
    those of `Backend.run_node`; raises InputError."""
    given = _given(node, inputs)
    infos = [helper.make_value_info(name, _type_proto(f"{node.op_type}: input {name!r}", value))
             for name, value in given.items()]  # fmt: skip
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    for info, (dtype, shape) in zip(outputs, outputs_info or (), strict=False):
        info.type.CopyFrom(helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[:] = [name if name in given else "" for name in node.input]
    newest, domain = newest_opsets(), _domain(node)
    opsets = {"": newest[""], domain: opset_version or newest.get(domain, 1)}
    imports = [helper.make_opsetid(name, version) for name, version in opsets.items()]
    graph = helper.make_graph([made], node.op_type, infos, outputs)
    return helper.make_model(graph, opset_imports=imports), list(given.values())


def _domain(node: Any) -> str:
    return "" if node.domain == "ai.onnx" else str(node.domain)


def _given(node: Any, inputs: Sequence[Any]) -> dict[str, Any]:
    """The values of the inputs that are present, by name. There is one for each input that has a name, or for each."""
    names = list(dict.fromkeys(name for name in node.input if name))
    if len(names) != len(inputs):
        names = list(node.input)
    if len(names) != len(inputs):
        raise InputError(f"{node.op_type}: {len(names)} inputs, {len(inputs)} arrays")
    given: dict[str, Any] = {}
    for name, value in zip(names, inputs, strict=True):
        if value is None:
            continue
        if not name:
            raise InputError(f"{node.op_type}: a value for an input that the node does not have")
        if name in given and given[name] is not value and not np.array_equal(given[name], value):
            raise InputError(f"{node.op_type}: two values for the input {name!r}, which the node reads twice")
        given[name] = value
    return given


def _type_proto(what: str, value: Any) -> Any:
    """The TypeProto of an array, or of a list of arrays. Raises InputError for what is neither."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, np.ndarray) for item in value):
        return _tensor_type(what, [_array(what, value)])
    if not value:
        raise InputError(f"{what} is an empty list, which does not tell the type of its elements: run a model instead")
    return helper.make_sequence_type_proto(_tensor_type(what, value))


def _array(what: str, value: Any) -> Any:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InputError(f"{what} is neither an array nor a list of arrays: {error}") from None


def _tensor_type(what: str, arrays: Sequence[Any]) -> Any:
    """The type that arrays share; sizes in which they differ are open."""
    elements = {_element(what, array) for array in arrays}
    if len(elements) > 1:
        raise InputError(f"{what} is a list of arrays of several element types")
    shapes = [array.shape for array in arrays]
    if len({len(shape) for shape in shapes}) > 1:
        return helper.make_tensor_type_proto(elements.pop(), None)
    dims = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]
    return helper.make_tensor_type_proto(elements.pop(), dims)


def _element(what: str, array: Any) -> int:
    try:
        return ELEMENT_NUMBERS[type_of_dtype(array.dtype)]
    except (IRError, KeyError):
        raise InputError(f"{what} has the element type {array.dtype}, which ONNX does not have") from None


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
