"""The public API: `compile` gives a `Model`; `InferenceSession` calls one in onnxruntime's way."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepwell.collector import paused_collector
from stepwell.dialects.host_calls import HostProgram
from stepwell.errors import EngineError, InputError, ModelError, RuntimeError, StateError
from stepwell.ir.attributes import ArrayAttr, DictAttr
from stepwell.ir.core import Operation
from stepwell.ir.types import numpy_dtype
from stepwell.list_ports import ListPort, MapPort
from stepwell.ports import AnyPort, Array, Port, accepted, main_function, parts_of, restored, tensor_ports, wholes
from stepwell.state import State, StateLayout

if TYPE_CHECKING:
    from stepwell.backends.cpu.executable import Executable
    from stepwell.backends.cpu.profile import Profile
    from stepwell.compiler import Options, Request
    from stepwell.dialects.func import FuncOp
    from stepwell.engine.cache import Place
    from stepwell.ir.passes import PassContext
    from stepwell.sources import Held, Shapes, Source
    from stepwell.way import LaterWay, Way


def compile(
    source: Any,
    target: str = "cpu",
    precision: str = "f32",
    shapes: Shapes | None = None,
    threads: int | None = None,
    sanitize: bool = False,
    cache: bool = True,
    state: Mapping[str, str] | None = None,
    capacity: Mapping[str, int] | int | None = None,
    tuned: str | os.PathLike[str] | None = None,
    host: bool = True,
) -> Model:
    """Compile a model for a target, for any value of its symbolic sizes.

    `source` is the path of an ONNX or .mlir file, bytes or a ModelProto of ONNX, an IR module, or IR text, at any
    landing. `shapes` fixes sizes ({"batch": 1}), whole input shapes ({"x": [1, 3, 224, 224]}), or guides schedules with
    (least, usual, most) of a symbol. `precision="strict"` keeps the order and the roundings of the operations as they
    are written: sums one element after the other, no fused multiply-adds, the same bits on every target
    (docs/numerics.md). With `sanitize` machine code checks the bounds of every access to memory: slow, and meant for IR
    that was edited. With `cache`, a model or kernels that were compiled before, by any process, are taken from a folder
    on disk (the environment's STEPWELL_CACHE; ~/.cache/stepwell). `tuned` is a file of schedules that `lower --tune`
    has found; kernels that it does not have are scheduled as usual.

    What looks into strings, and the decoding of images, is called in Python (`graph.host_call` in the IR, `host_calls`
    of the model); with host=False a model that needs such calls is refused.

    `state` names inputs that are kept from call to call and the outputs that they become ({"past_k": "present_k"}); the
    model then has neither, and is called with `state=model.new_state()`. `capacity` says up to how many rows those grow
    that get rows behind them ({"past": 2048}, by the name of the size, or a number for all): these grow in place.

    A model with a rank, or another part of a type, that only a call tells is compiled at the first call, for what that
    tells of it, and again for each call that tells something else (`stepwell.specialised`).

    Raises ModelError for what cannot be imported, PassError for calls of the host that are refused, StateError for
    pairs that the model does not have, TargetError for a target or precision that is unknown or that this machine
    cannot run, TuningError for a file of schedules that is damaged or that holds one which does not suit its kernel."""
    from stepwell.compiler import Request
    from stepwell.plugins import load_installed
    from stepwell.sources import open_source

    schedules = None if tuned is None else os.fspath(tuned)
    request = Request(target, precision, shapes, sanitize, state, capacity, schedules, host)
    with paused_collector():
        load_installed()
        opened = open_source(source)
        try:
            return compiled(opened, request, threads, cache)
        except ModelError as error:
            from stepwell.specialised import of_unknown

            later = of_unknown(error, opened, request, threads, cache)
            if later is None:
                raise
            return later


def compiled(opened: Source | Held, request: Request, threads: int | None, cache: bool) -> Model:
    """Compile what was opened, or find it in the cache."""
    from stepwell.compiler import entered

    place = place_of(opened, request) if cache else None
    if place is None:
        return compile_module(*entered(opened, request, threads, cache))
    model = place.find(threads)
    if model is None:
        module, options = entered(place.source, request, threads, cache)
        place.settle()
        model = compile_module(module, options)
        place.keep(getattr(model._program, "executable", None))
    return model


def place_of(source: Source | Held, request: Request) -> Place | None:
    """Where in the cache the model belongs that is made of a source; None where it belongs nowhere."""
    from stepwell.engine import cache

    return cache.place_of(source, request)


def compile_module(module: Operation, options: Options) -> Model:
    """Compile a module, which is consumed."""
    from stepwell.compiler import backend, machine_of
    from stepwell.way import walked

    way = walked(module, options)
    program = backend().build(
        module, machine_of(options), threads=options.threads, sanitize=options.sanitize, cached=options.cache
    )
    return Model(program, main_function(module), way)


class Model:
    """A compiled model. It may be called from any number of threads."""

    is_specialised = False
    """Whether calls decide what is compiled."""
    is_from_cache = False
    """Whether an earlier compilation had made it."""

    def __init__(self, program: Any, function: FuncOp, way: Way | LaterWay) -> None:
        """`function` is the program at the end of the loop landing, or its head."""
        parts, results = parts_of(function)
        stateful = Stateful.of(parts, results)
        self._layout = StateLayout.of(parts, results)
        self._stateful = stateful if self._layout.cells else None
        self._parts = [parts[number] for number in stateful.given]
        self._results = tensor_ports([port for number, port in enumerate(results) if number not in stateful.becoming])
        self.inputs = tuple(wholes(self._parts))
        self.outputs = tuple(wholes(self._results))
        self._program = program
        self._way = way
        self._profiler: Any = None
        self._fetching: dict[tuple[str, ...], Model] = {}
        self._lock = threading.Lock()
        self._dtypes = [port.dtype for port in self.inputs]
        self._host = HostProgram.of(function)
        ports = (*self.inputs, *self.outputs)
        plain = all(isinstance(port, Port) and port.storage == port.dtype and port.keys is None for port in ports)
        self._is_direct = plain and self._stateful is None and not self._host.is_used

    @property
    def context(self) -> PassContext:
        """What the passes decided: remarks and statistics."""
        return self._way.context

    @property
    def host_calls(self) -> list[str]:
        """The functions that it calls in Python, and the nodes that ask for them; everything else is machine code."""
        return self._host.names()

    def __call__(self, *arrays: Any, state: State | None = None) -> Any:
        """Run on arrays in the order of `inputs`; gives the array of a single output, a tuple of them of several.
        Sequences are lists of arrays, a value that is absent is None.

        A model that keeps state takes `state`, reads it and leaves there what the next call reads; where the call fails
        the state is as before. Raises InputError for arrays that do not fit, StateError for a state that does not fit,
        is full or is in use, stepwell.RuntimeError for what only the run can find."""
        results = self._run(arrays, state)
        return results[0] if len(results) == 1 else tuple(results)

    def new_state(self, arrays: Mapping[str, Any] | None = None, **sizes: int) -> State:
        """A state for a sequence of calls: without rows, and with zeros in what does not grow.

        `arrays` has what it begins with instead, by the names of the inputs; `sizes` gives symbolic sizes that neither
        grow nor follow from the arrays. Raises StateError and InputError for what does not fit."""
        if self._stateful is None:
            raise StateError("the model keeps no state: compile it with state=")
        return State(self._layout, arrays or {}, sizes)

    def run(
        self, feeds: Mapping[str, Any], fetch: Sequence[str] | None = None, state: State | None = None
    ) -> dict[str, Any]:
        """Run on arrays by name; gives the outputs by name, and with `fetch` the values of those ONNX names as well.

        The first fetch of a set of names compiles the model once more. `state` is as in a call."""
        arrays = self._ordered(feeds)
        known = {port.name for port in (*self.inputs, *self.outputs)}
        extra = tuple(dict.fromkeys(name for name in fetch or () if name not in known))
        model = self.fetching(extra) if extra else self
        results = model._run(arrays, state)
        found: dict[str, Any] = dict(zip((port.name for port in model.outputs), results, strict=True))
        for name, array in zip((port.name for port in self.inputs), arrays, strict=True):
            if fetch and name in fetch:
                found.setdefault(name, array if isinstance(array, list) or array is None else np.asarray(array))
        return found

    def fetching(self, names: tuple[str, ...]) -> Model:
        """The model with values of these ONNX names as further outputs. Raises InputError for an unknown name."""
        with self._lock:
            if names not in self._fetching:
                if self._way.origin is None:
                    raise InputError("intermediates can be fetched from models that enter at the graph landing only")
                module = self._way.origin.clone()
                add_outputs(module, names)
                self._fetching[names] = compile_module(module, self._way.options)
            return self._fetching[names]

    def profile(
        self, feeds: Mapping[str, Any], seconds: float = 1.0, state: State | None = None, *, trace: bool = False
    ) -> Profile:
        """Where the time of a call goes: a row per kernel, the largest time first, medians over about so many seconds,
        each with what limits it on this machine; with `trace`, what each thread did in one call as well.

        All calls begin with what `state` has, which stays so. The first profile of a model makes its code once more,
        with clocks. Raises InputError as `run` does."""
        with self._scope():
            return self._profiled(feeds, seconds, state, trace)

    def _scope(self) -> AbstractContextManager[object]:
        """What is done inside is a call of the program, with strings of its own."""
        return self._host.scope() if self._host.is_used else nullcontext()

    def _profiled(self, feeds: Mapping[str, Any], seconds: float, state: State | None, trace: bool) -> Profile:
        arrays = accepted(self.inputs, self._parts, self._ordered(feeds))
        with self._lock:
            if self._profiler is None:
                if self._way.lowered is None:
                    raise InputError("a model without its IR at the loop landing cannot be profiled")
                from stepwell.compiler import profiler

                self._profiler = profiler(self._way.lowered, self._way.options)
        found: Profile
        if self._stateful is not None:
            with self._claimed(state) as held:
                arrays = self._stateful.merged(arrays, held.program_arrays())
                found = self._profiler.run(arrays, seconds, trace=trace)
                return found
        found = self._profiler.run(arrays, seconds, trace=trace)
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled model to an engine file, for `stepwell.load`; whole or not at all.

        Under a name that ends with `.so` it becomes a shared library, with a C header beside it. Raises EngineError
        where the file cannot be written, or where the model has what a file cannot hold."""
        from stepwell.engine.model import save, save_library

        write = save_library if os.fspath(path).endswith(".so") else save
        write(path, self.executable())

    def executable(self) -> Executable:
        """What the program was made from. Raises EngineError where it has no machine code, or is damaged: that must not
        get a right checksum elsewhere."""
        if getattr(self._program, "executable", None) is None:
            raise EngineError("the model has no machine code to save")
        self._program.settle()
        found: Executable = self._program.executable
        return found

    def _ordered(self, feeds: Mapping[str, Any]) -> list[Any]:
        expected = [port.name for port in self.inputs]
        if not isinstance(feeds, Mapping):
            raise InputError(f"arrays are given by name ({_listed(expected)}), not in a {type(feeds).__name__}")
        if missing := [name for name in expected if name not in feeds]:
            raise InputError(f"no array for input {', '.join(map(repr, missing))}; there are {_listed(expected)}")
        if unknown := [name for name in feeds if name not in expected]:
            raise InputError(f"there is no input {', '.join(map(repr, unknown))}; there are {_listed(expected)}")
        return [feeds[name] for name in expected]

    def _claimed(self, state: State | None) -> AbstractContextManager[State]:
        """The state, which nobody else uses meanwhile. Raises StateError where it is none for this model."""
        if not isinstance(state, State):
            raise StateError("the model keeps state: call it with state=, which new_state() makes")
        if state.layout != self._layout:
            raise StateError("the state is one of another model")
        return state.claimed()

    def _run(self, values: Sequence[Any], state: State | None = None) -> list[Any]:
        if len(values) != len(self.inputs):
            expected = _listed([port.name for port in self.inputs])
            raise InputError(f"{len(values)} arrays for {len(self.inputs)} inputs ({expected})")
        if self._stateful is None and state is not None:
            raise StateError("the model keeps no state: compile it with state=")
        try:
            if self._is_direct and all(map(_fits, values, self._dtypes)):
                direct: list[Array] = self._program.run(values)
                return direct
            with self._scope():
                return self._run_parts(values, state)
        except MemoryError as error:
            raise RuntimeError(f"out of memory: {error}") from None

    def _run_parts(self, values: Sequence[Any], state: State | None) -> list[Any]:
        if self._stateful is not None:
            with self._claimed(state) as held:
                given = accepted(self.inputs, self._parts, values)
                results = self._stateful.run(self._program, given, held)
        else:
            results = self._program.run(accepted(self.inputs, self._parts, values))
        found = restored(self.outputs, self._results, results)
        return [port.shown(value) if isinstance(port, Port) else value
                for port, value in zip(self.outputs, found, strict=True)]  # fmt: skip

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, ports)) for ports in (self.inputs, self.outputs))
        kept = f", keeps {', '.join(cell.input.name for cell in self._layout.cells)}" if self._stateful else ""
        return f"<stepwell.Model ({inputs}) -> ({outputs}){kept}>"


class Stateful(NamedTuple):
    """How a program's inputs and outputs are divided between the caller and a state: numbers in the program's order.

    What callers see as a list is divided by its parts, all of which are the caller's."""

    given: tuple[int, ...]  # inputs of the caller's
    kept: tuple[int, ...]  # inputs of the state's
    becoming: tuple[int, ...]  # outputs that become what is kept
    shown: tuple[int, ...]  # written outputs for the caller
    replaced: tuple[int, ...]  # written outputs that the state takes

    @staticmethod
    def of(inputs: Sequence[AnyPort], outputs: Sequence[AnyPort]) -> Stateful:
        """Read it off a program's ports."""
        results = [port.kept.result for port in inputs if port.kept is not None]
        written = [number for number, port in enumerate(outputs) if port.kept is None]
        carried = [port.kept.result for port in inputs if port.kept is not None and not port.kept.is_placed]
        return Stateful(
            tuple(n for n, port in enumerate(inputs) if port.kept is None),
            tuple(n for n, port in enumerate(inputs) if port.kept is not None),
            tuple(results),
            tuple(place for place, number in enumerate(written) if number not in results),
            tuple(written.index(number) for number in carried),
        )

    def merged(self, given: Sequence[Any], kept: Sequence[Any]) -> list[Any]:
        """All inputs of the program."""
        found: list[Any] = [None] * (len(given) + len(kept))
        for number, value in zip((*self.given, *self.kept), (*given, *kept), strict=True):
            found[number] = value
        return found

    def run(self, program: Any, given: Sequence[Any], state: State) -> list[Array]:
        """The outputs for the caller; the state, which is claimed, is left as the next call needs it."""
        arrays = self.merged(given, state.program_arrays())
        results = program.run(arrays)
        rows = program.rows_after(tuple([array.shape for array in arrays]))
        state.advance(rows, [results[place] for place in self.replaced])
        return [results[place] for place in self.shown]


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether the program can be given a value as it is; it checks the shape and copies what is not contiguous."""
    return type(value) is np.ndarray and value.dtype == dtype


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def add_outputs(module: Operation, names: Sequence[str]) -> None:
    """Let @main return the values of these ONNX names as well.

    Raises InputError for an unknown name, and below the graph landing, where values are not what the names say."""
    import difflib

    from stepwell.frontends.onnx import names as onnx_names
    from stepwell.lowering.pipeline import landing_of

    if names and landing_of(module) != "graph":
        raise InputError(f"{_listed(names)}: intermediates can be had of models that enter at the graph landing only")
    function = main_function(module)
    known = {name: value for name, value in onnx_names.named_values(function)
             if value.owner_block is function.entry}  # fmt: skip
    ret = function.body.block.terminator
    described = [DictAttr.of(function.result_attributes(index)) for index in range(len(ret.operands))]
    values = list(ret.operands)
    for name in names:
        value = known.get(onnx_names.aliases(function).get(name, name))
        if value is None:
            close = difflib.get_close_matches(name, [*known, *onnx_names.aliases(function)], 3)
            advice = f"; close to it: {', '.join(close)}" if close else ""
            raise InputError(f"the model has no value named {name!r}{advice}")
        values.append(value)
        described.append(onnx_names.named(name))
    ret.set_operands(values)
    function.properties["res_attrs"] = ArrayAttr(tuple(described))
    function.update_type()


class NodeArg:
    """An input or output as onnxruntime describes it: `name`, `type` as "tensor(float)", `shape` of ints and names."""

    def __init__(self, port: AnyPort) -> None:
        self.name = port.name
        self.type = f"tensor({_ONNX_NAMES.get(port.dtype.name, port.dtype.name)})"
        if isinstance(port, MapPort):
            key = numpy_dtype(port.map.key).name
            self.type = f"map({_ONNX_NAMES.get(key, key)},{self.type})"
        elif isinstance(port, Port) and port.keys is not None:
            self.type = f"seq(map({'string' if isinstance(port.keys[0], str) else 'int64'},{self.type}))"
        elif isinstance(port, ListPort):
            self.type = f"seq({self.type})" if port.sequence is not None else self.type
            self.type = f"optional({self.type})" if port.may_be_absent else self.type
        self.shape = [] if isinstance(port, Port) and port.keys is not None else list(port.shape)

    def __repr__(self) -> str:
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape!r})"


_ONNX_NAMES = {"float32": "float", "float64": "double", "object": "string"}


class InferenceSession:
    """A compiled model with onnxruntime's calling convention.

    `sess_options` and `providers` are taken and not looked at: there is one provider, the CPU."""

    def __init__(self, path_or_bytes: Any, sess_options: Any = None, providers: Any = None, **options: Any) -> None:
        self.model = compile(path_or_bytes, **options)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[Array]:
        """The outputs of these names (None: all), in this order."""
        found = self.model.run(input_feed, fetch=output_names)
        return [found[name] for name in (output_names or [port.name for port in self.model.outputs])]

    def get_inputs(self) -> list[NodeArg]:
        """The inputs."""
        return [NodeArg(port) for port in self.model.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs."""
        return [NodeArg(port) for port in self.model.outputs]

    def get_providers(self) -> list[str]:
        """What runs the model."""
        return ["CPUExecutionProvider"]
