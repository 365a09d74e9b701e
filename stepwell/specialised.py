"""Models with a part of a type that only a call tells, such as a rank that is the length of a list among the inputs.

    model = stepwell.compile(reshape_by_an_input)      # nothing is compiled yet: model.is_specialised
    model(x, [2, -1])                                  # compiled for a list of two
    model(x, [3, -1])                                  # another model: the contents of a list of two are no part of it

What a call tells is put in for sizes, and for the contents of short inputs, as far as the import asks for it; the rest
stays open. The models that were made are kept, the last MOST of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.api import Model, compiled
from stepwell.collector import paused_collector
from stepwell.compiler import Request
from stepwell.errors import EngineError, InputError, IRError, ModelError
from stepwell.frontends.onnx.element_types import Unranked
from stepwell.frontends.onnx.input_shapes import unnamed_dim
from stepwell.frontends.onnx.needs import Needs
from stepwell.frontends.onnx.report import ImportFailed
from stepwell.ir.dims import free_symbols, symbol
from stepwell.ir.passes import PassContext, Remark
from stepwell.ir.symbol_values import bind_symbols
from stepwell.ir.types import TensorType, Type, numpy_dtype
from stepwell.list_ports import ListPort, whole_port
from stepwell.ports import AnyPort, Port, tensor_ports
from stepwell.sources import Held, Source

MOST = 16
"""Models that are kept of one source."""

LONGEST = 1 << 12
"""Elements of an input whose contents a model is made for."""

Array = np.ndarray[Any, Any]


def of_unknown(
    error: ModelError, source: Source | Held, request: Request, threads: int | None, cache: bool
) -> SpecialisedModel | None:
    """The model that is compiled when it is called; None where an import failed for another reason than that a call
    tells more, and where states are to be kept, which all calls have to share."""
    if not isinstance(error, ImportFailed) or not error.needs or request.state:
        return None
    ports = [_port(name, type_) for name, type_ in error.inputs]
    return SpecialisedModel(source, request, threads, cache, ports, error.needs)


def _port(name: str, type_: Type | Unranked) -> AnyPort:
    if isinstance(type_, Unranked):
        return UnrankedPort(name, TensorType((), type_.element), numpy_dtype(type_.element))
    return Port(name, type_, numpy_dtype(type_)) if isinstance(type_, TensorType) else whole_port(name, type_)


@attrs.frozen
class UnrankedPort(Port):
    """An input of unknown rank. Its `shape` is empty."""

    def of_rank(self, rank: int) -> Port:
        """The input as a call with an array of this rank has it."""
        shape = [symbol(unnamed_dim(self.name, axis)) for axis in range(rank)]
        return Port(self.name, self.type.with_shape(shape), self.storage)

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[...]"


@attrs.frozen
class Told:
    """What a call tells of its inputs: sizes by symbol, arrays by name, the shapes of inputs of unknown rank."""

    sizes: Mapping[str, int]
    values: Mapping[str, Array]
    shapes: Mapping[str, tuple[int | str, ...]]

    @property
    def key(self) -> tuple[Any, ...]:
        """What a model that was made for it is known by."""
        arrays = sorted((name, v.dtype.str, v.shape, v.tobytes()) for name, v in self.values.items())
        return (tuple(sorted(self.sizes.items())), tuple(sorted(self.shapes.items())), *arrays)

    def request(self, request: Request, ports: Sequence[AnyPort]) -> Request:
        """The request with what is told put in, as far as the other inputs have it."""
        rest = [port for port in tensor_ports(ports) if port.name not in self.values]
        open_sizes = {name for port in rest for dim in port.type.shape for name in free_symbols(dim)}
        shapes: dict[str, Any] = {**(request.shapes or {}), **self.shapes}
        for name in self.values:
            shapes.pop(name, None)
        shapes.update({name: size for name, size in self.sizes.items() if name in open_sizes})
        return attrs.evolve(request, shapes=shapes, values=dict(self.values))


class SpecialisedModel(Model):
    """A model that calls decide. `inputs` are as the source declares them (an `UnrankedPort` where it does not say how
    many dims there are), `outputs` those of the last call: none before the first."""

    is_specialised = True

    def __init__(
        self, source: Source | Held, request: Request, threads: int | None, cache: bool, ports: Sequence[AnyPort],
        needs: Needs,
    ) -> None:  # fmt: skip
        self.inputs = tuple(ports)
        self.outputs = ()
        self.needs = needs
        """What of the inputs is put in, as far as it is known by now."""
        self._ports = tuple(ports)
        self._source, self._request, self._threads, self._cache = source, request, threads, cache
        self._made: OrderedDict[tuple[Any, ...], Model] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def context(self) -> PassContext:
        """Says what the model waits for."""
        context = PassContext()
        context.remarks.append(Remark("model", "", f"specialised at each call for {self.needs}"))
        return context

    @property
    def host_calls(self) -> list[str]:
        """Those of the models that were made, which may differ."""
        with self._lock:
            return sorted({call for model in self._made.values() for call in model.host_calls})

    def specialised(self, arrays: Sequence[Any]) -> tuple[Model, list[Any]]:
        """The model for a call with arrays in the order of the inputs, and those of them that it takes.

        Raises InputError for arrays that do not fit, ModelError where the model cannot be imported with all that they
        tell."""
        if len(arrays) != len(self._ports):
            names = ", ".join(port.name for port in self._ports)
            raise InputError(f"{len(arrays)} arrays for {len(self._ports)} inputs ({names})")
        given = [port.accept(array) for port, array in zip(self._ports, arrays, strict=True)]
        ports = [port.of_rank(array.ndim) if isinstance(port, UnrankedPort) else port
                 for port, array in zip(self._ports, given, strict=True)]  # fmt: skip
        sizes = _sizes(ports, given)
        with self._lock, paused_collector():
            while True:
                told = self._told(ports, given, sizes)
                try:
                    model = self._model(told, ports)
                    break
                except ModelError as error:
                    needs = getattr(error, "needs", None)
                    if needs is None or needs <= self.needs:
                        raise
                    self.needs = self.needs | needs
            self.outputs = model.outputs
        return model, [array for port, array in zip(ports, given, strict=True) if port.name not in told.values]

    def _told(self, ports: Sequence[AnyPort], given: Sequence[Any], sizes: Mapping[str, int]) -> Told:
        values = {port.name: port.restore(array) for port, array in zip(ports, given, strict=True)
                  if isinstance(port, Port) and port.name in self.needs.values}  # fmt: skip
        for name, array in values.items():
            if array.size > LONGEST:
                reason = f"the model is made for the contents of input {name!r}"
                raise InputError(f"{reason}, which has {array.size} elements, more than {LONGEST}")
        fixed = {name for port in tensor_ports(ports) if port.name in values for dim in port.type.shape
                 for name in free_symbols(dim)}  # fmt: skip
        shapes = {port.name: port.shape if isinstance(port, Port) else _shape_in(port, value)
                  for port, value in zip(ports, given, strict=True)
                  if port.name in self.needs.ranks - values.keys()}  # fmt: skip
        return Told({name: sizes[name] for name in sorted(fixed | self.needs.sizes) if name in sizes}, values, shapes)

    def _model(self, told: Told, ports: Sequence[AnyPort]) -> Model:
        key = told.key
        model = self._made.pop(key, None)
        if model is None:
            model = compiled(self._source, told.request(self._request, ports), self._threads, self._cache)
        self._made[key] = model
        if len(self._made) > MOST:
            self._made.popitem(last=False)
        return model

    def __call__(self, *arrays: Any, state: Any = None) -> Any:
        """As that of any model; may compile."""
        model, rest = self.specialised(arrays)
        return model(*rest, state=state)

    def run(self, feeds: Mapping[str, Any], fetch: Sequence[str] | None = None, state: Any = None) -> dict[str, Any]:
        """As that of any model; may compile."""
        arrays = self._ordered(feeds)
        model, _ = self.specialised(arrays)
        taken = {port.name for port in model.inputs}
        asked = None if fetch is None else [name for name in fetch if name in taken or name not in feeds]
        found = model.run({name: feeds[name] for name in taken}, asked, state)
        return {**{name: np.asarray(feeds[name]) for name in fetch or () if name in feeds}, **found}

    def profile(self, feeds: Mapping[str, Any], seconds: float = 1.0, state: Any = None, *, trace: bool = False) -> Any:
        """That of the model for such a call."""
        model, _ = self.specialised(self._ordered(feeds))
        return model.profile({port.name: feeds[port.name] for port in model.inputs}, seconds, state, trace=trace)

    def fetching(self, names: tuple[str, ...]) -> Model:
        """There is no model by itself that could be fetched from: `run` does."""
        raise InputError(f"the model is made for each call: {self.needs} decides it; fetch with run()")

    def new_state(self, arrays: Any = None, **sizes: int) -> Any:
        """There is none: all calls would have to share it."""
        raise InputError(f"the model is made for each call, and keeps no state: {self.needs} decides it")

    def executable(self) -> Any:
        """There is none. Raises EngineError."""
        raise EngineError(
            f"there is no one model to save: it is made for each call, for {self.needs}; fix sizes with shapes=, and "
            "make inputs whose contents decide initializers"
        )

    def __repr__(self) -> str:
        return f"<stepwell.SpecialisedModel ({', '.join(map(str, self._ports))}), made at each call for {self.needs}>"


def _shape_in(port: ListPort, arrays: Sequence[Array]) -> tuple[str, ...]:
    """The shape that the arrays of a list have, but for their sizes."""
    ranks = {array.ndim for array in arrays}
    if len(ranks) != 1:
        found = f"arrays of {sorted(ranks)} dims" if ranks else "no array"
        raise InputError(f"the model is made for the rank of the arrays in input {port.name!r}, which has {found}")
    return tuple(unnamed_dim(port.name, axis) for axis in range(ranks.pop()))


def _sizes(ports: Sequence[AnyPort], given: Sequence[Any]) -> dict[str, int]:
    pairs = [(port, array.shape) for port, array in zip(ports, given, strict=True) if isinstance(port, Port)]
    types: list[Type] = [port.type for port, _ in pairs]
    try:
        return bind_symbols(types, [shape for _, shape in pairs], [port.name for port, _ in pairs])
    except IRError as error:
        raise InputError(str(error)) from None
