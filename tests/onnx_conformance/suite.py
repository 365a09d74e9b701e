"""ONNX's own suite, run by its own runner on `stepwell.onnx_backend`: every case as it is, and in three harder modes.

    as given     the model as the suite has it
    symbolic     a symbol in place of every dim of every input: one compilation for all sizes
    constant     every tensor but the first is an initializer
    misfits      symbolic, every access to memory checked; arrays that do not fit each other come before the case's own
"""

from __future__ import annotations

import functools
import traceback
import warnings
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx.backend.test import BackendTest

from stepwell.api import Model
from stepwell.errors import ModelError, StepwellError, TargetError
from stepwell.onnx_backend import Backend, Prepared
from stepwell.specialised import SpecialisedModel
from tests.misfits import leaves_memory, misfit
from tests.onnx_conformance.cases import (
    HOST,
    INTERNAL,
    OK,
    REFUSED,
    SPECIALISED,
    WRONG,
    Outcome,
    operator_of,
    operators_of,
    with_initializers,
)

MISFITS = 6  # sets of arrays for each case

REFUSALS = (ModelError, TargetError)
"""What says that a model is not taken; every other error of a case that is valid is a bug."""


class Given(Backend):
    """Remembers the last model."""

    last: Model

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """`prepare` says why not; where this does, the runner skips."""
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        made = super().prepare(model, device, **kwargs)
        Given.last = made.model
        return made


class Symbolic(Given):
    """Compiles for any sizes."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        return super().prepare(with_symbols(model), device, **kwargs)


class Constant(Given):
    """Compiles once the inputs are known, all but the first tensor as initializers."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
        return _Deferred(functools.partial(super().prepare, device=device, **kwargs), model)


class _Deferred:
    def __init__(self, prepare: Callable[[Any], Prepared], model: Any) -> None:
        self._prepare, self._model = prepare, model

    def run(self, inputs: Any, **kwargs: Any) -> Any:
        model, left = with_first_input(self._model, inputs)
        return self._prepare(model).run(left)


class Misfits(Symbolic):
    """Compiles for any sizes, with accesses checked, and tries them."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Any:
        return _Tried(super().prepare(model, device, sanitize=True, **kwargs))


class OutsideMemoryError(Exception):
    """An access outside of memory that nothing but its own check saw."""


class _Tried:
    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    def run(self, inputs: Any, **kwargs: Any) -> Any:
        random = Random(0)
        for _ in range(MISFITS):
            given = [misfit(value, random) for value in inputs]
            try:
                self._prepared.run(given)
            except StepwellError as error:
                if leaves_memory(error):
                    raise OutsideMemoryError(f"{error}, with {[np.shape(value) for value in given]}") from None
        return self._prepared.run(inputs)


MODES: Mapping[str, type[Backend]] = {"given": Given, "symbolic": Symbolic, "constant": Constant}
WAYS = {**MODES, "misfits": Misfits}


def with_symbols(model: Any) -> Any:
    """The model with a symbol of its own for every dim of every input, and nothing said of other sizes."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {tensor.name for tensor in made.graph.initializer}
    for number, port in enumerate(made.graph.input):
        if port.name not in constants:
            _free(port.type, f"i{number}")
    for number, port in enumerate(made.graph.output):
        _free(port.type, f"o{number}")
    del made.graph.value_info[:]
    return made


def _free(type_: Any, prefix: str) -> None:
    kind = type_.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        _free(getattr(type_, kind).elem_type, prefix)
    elif kind == "tensor_type" and type_.tensor_type.HasField("shape"):
        for axis, dim in enumerate(type_.tensor_type.shape.dim):
            dim.Clear()
            dim.dim_param = f"{prefix}_{axis}"


def with_first_input(model: Any, inputs: Any) -> tuple[Any, list[Any]]:
    """The model with its inputs from the second on as initializers where they are tensors, and the inputs left."""
    constants = {tensor.name for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in constants]
    given = dict(zip((port.name for port in ports), inputs, strict=False))
    fixed = {port.name: given[port.name] for port in ports[1:]
             if port.type.WhichOneof("value") == "tensor_type" and given.get(port.name) is not None}  # fmt: skip
    return with_initializers(model, fixed), [value for name, value in given.items() if name not in fixed]


@functools.cache
def _runner() -> BackendTest:
    """The suite's runner, which takes seconds to make; a case is run with the backend that it has then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BackendTest(Backend, __name__)


@functools.cache
def items() -> Mapping[str, Any]:
    """All cases for the CPU by name, as functions of a test and a device."""
    groups = _runner()._test_items.values()
    return {name.removesuffix("_cpu"): item for group in groups for name, item in group.items()
            if name.endswith("_cpu")}  # fmt: skip


@functools.cache
def networks() -> set[str]:
    """The cases that are whole networks, which take seconds to compile."""
    return {name.removesuffix("_cpu") for name in _runner()._test_items["RealModel"]}


def outcome(name: str, mode: str = "given", **options: Any) -> Outcome:
    """What became of a case, compiled with `options`; a crash ends the process."""
    item = items()[name]
    _runner().backend = WAYS[mode]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            item.func(None, **options)
        kind, reason = way(Given.last)
    except StepwellError as error:
        kind, reason = REFUSED if isinstance(error, REFUSALS) else INTERNAL, _first_words(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, AssertionError) and any(frame.name == "assert_similar_outputs" for frame in frames):
            kind, reason = WRONG, " ".join(str(error).split())[:300]
        else:
            place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}"
            kind, reason = INTERNAL, f"{type(error).__name__} at {place}: {str(error)[:160]}"
    proto = item.proto[0]  # read by the run
    return Outcome(name, operator_of(proto), kind, reason, operators_of(proto))


def way(model: Model) -> tuple[str, str]:
    """How a model runs, and why not as machine code for any call. For one that is specialised only a call tells all."""
    if isinstance(model, SpecialisedModel):
        return SPECIALISED, str(model.needs)
    called = sorted({call.partition(" ")[0] for call in model.host_calls})
    return HOST if called else OK, ", ".join(called)


def _first_words(error: StepwellError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines[1:] if line and not line.startswith(("at ", "and "))]
    return f"{type(error).__name__}: {lines[0]} {' | '.join(reasons[:2])}".strip()[:400]
