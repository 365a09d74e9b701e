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
from stepwell.errors import InputError, TargetError

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
        """Run one node on arrays, in the order of its inputs without those that are absent, at a version of its domain
        (default: the newest)."""
        model = model_of_node(node, inputs, outputs_info, opset_version)
        return cls.prepare(model, device, **kwargs).run(inputs)

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
) -> Any:  # fmt: skip
    """A model of one node, whose inputs have the types of arrays. Raises InputError for another number of them."""
    names = dict.fromkeys(name for name in node.input if name)
    if len(names) != len(inputs):
        raise InputError(f"{node.op_type}: {len(names)} inputs, {len(inputs)} arrays")
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, map(np.asarray, inputs), strict=True)
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    for info, (dtype, shape) in zip(outputs, outputs_info or (), strict=False):
        info.type.CopyFrom(helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
    newest = onnx.defs.onnx_opset_version() if node.domain in ("", "ai.onnx") else 1
    opset = helper.make_opsetid(node.domain, opset_version or newest)
    return helper.make_model(helper.make_graph([node], node.op_type, infos, outputs), opset_imports=[opset])


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
