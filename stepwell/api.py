"""The public API: `compile` gives a `Model`; `InferenceSession` calls one in onnxruntime's way."""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepwell.collector import paused_collector
from stepwell.compiler import Options, backend, context_of, lower, machine_of, profiler
from stepwell.errors import InputError, RuntimeError
from stepwell.frontends.onnx import names as onnx_names
from stepwell.ir.attributes import ArrayAttr, DictAttr
from stepwell.ir.core import Operation
from stepwell.ir.passes import PassContext
from stepwell.list_ports import ListPort
from stepwell.lowering.pipeline import landing_of
from stepwell.ports import AnyPort, Array, Port, accepted, main_function, parts_of, ports_of, restored, tensor_ports
from stepwell.sources import Shapes, load_source

if TYPE_CHECKING:
    from stepwell.backends.cpu.profile import ProfileRow
    from stepwell.dialects.func import FuncOp


def compile(
    source: Any,
    target: str = "cpu",
    precision: str = "f32",
    shapes: Shapes | None = None,
    threads: int | None = None,
    sanitize: bool = False,
    cache: bool = True,
) -> Model:
    """Compile a model for a target, for any value of its symbolic sizes.

    `source` is the path of an ONNX or .mlir file, bytes or a ModelProto of ONNX, an IR module, or IR text, at any
    landing. `shapes` fixes sizes ({"batch": 1}), whole input shapes ({"x": [1, 3, 224, 224]}), or guides schedules with
    (least, usual, most) of a symbol. With `sanitize` machine code checks the bounds of every access to memory: slow,
    and meant for IR that was edited. With `cache`, kernels that were compiled before, by any process, are taken from a
    folder on disk (the environment's STEPWELL_CACHE; ~/.cache/stepwell).

    Raises ModelError for what cannot be imported, TargetError for a target or precision that is unknown or that this
    machine cannot run."""
    with paused_collector():
        module, hints = load_source(source, shapes)
        return compile_module(module, Options(target, precision, threads, hints, sanitize, cache))


def compile_module(module: Operation, options: Options) -> Model:
    """Compile a module, which is consumed."""
    origin = module.clone() if landing_of(module) == "graph" else None
    machine = machine_of(options)
    context = context_of(options, machine)
    lower(module, "loop", context)
    program = backend().build(
        module, machine, threads=options.threads, sanitize=options.sanitize, cached=options.cache
    )
    return Model(program, main_function(module), context, origin, options, module)


class Model:
    """A compiled model. It may be called from any number of threads."""

    def __init__(
        self, program: Any, function: FuncOp, context: PassContext, origin: Operation | None, options: Options,
        lowered: Operation | None = None,
    ) -> None:  # fmt: skip
        """`function` is the program at the end of the loop landing, or its head; `lowered` the module it is of."""
        inputs, outputs = ports_of(function)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._parts, results = parts_of(function)
        self._results = tensor_ports(results)
        self.context = context
        self._program = program
        self._origin = origin
        self._lowered = lowered
        self._profiler: Any = None
        self._options = options
        self._fetching: dict[tuple[str, ...], Model] = {}
        self._lock = threading.Lock()
        self._dtypes = [port.dtype for port in inputs]
        ports = (*self.inputs, *self.outputs)
        self._is_direct = all(isinstance(port, Port) and port.storage == port.dtype for port in ports)

    def __call__(self, *arrays: Any) -> Any:
        """Run on arrays in the order of `inputs`; gives the array of a single output, a tuple of them of several.
        Sequences are lists of arrays, a value that is absent is None.

        Raises InputError for arrays that do not fit, stepwell.RuntimeError for what only the run can find."""
        results = self._run(arrays)
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, feeds: Mapping[str, Any], fetch: Sequence[str] | None = None) -> dict[str, Any]:
        """Run on arrays by name; gives the outputs by name, and with `fetch` the values of those ONNX names as well.

        The first fetch of a set of names compiles the model once more."""
        arrays = self._ordered(feeds)
        known = {port.name for port in (*self.inputs, *self.outputs)}
        extra = tuple(dict.fromkeys(name for name in fetch or () if name not in known))
        model = self.fetching(extra) if extra else self
        found: dict[str, Any] = dict(zip((port.name for port in model.outputs), model._run(arrays), strict=True))
        for name, array in zip((port.name for port in self.inputs), arrays, strict=True):
            if fetch and name in fetch:
                found.setdefault(name, array if isinstance(array, list) or array is None else np.asarray(array))
        return found

    def fetching(self, names: tuple[str, ...]) -> Model:
        """The model with values of these ONNX names as further outputs. Raises InputError for an unknown name."""
        with self._lock:
            if names not in self._fetching:
                if self._origin is None:
                    raise InputError("intermediates can be fetched from models that enter at the graph landing only")
                module = self._origin.clone()
                add_outputs(module, names)
                self._fetching[names] = compile_module(module, self._options)
            return self._fetching[names]

    def profile(self, feeds: Mapping[str, Any], seconds: float = 1.0) -> list[ProfileRow]:
        """Where the time of a call goes: a row per kernel, the largest time first, medians over about so many seconds.

        The first profile of a model makes its code once more, with clocks. Raises InputError as `run` does."""
        arrays = accepted(self.inputs, self._parts, self._ordered(feeds))
        with self._lock:
            if self._profiler is None:
                if self._lowered is None:
                    raise InputError("a model without its IR at the loop landing cannot be profiled")
                self._profiler = profiler(self._lowered, self._options)
        rows: list[ProfileRow] = self._profiler.run(arrays, seconds)
        return rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled model to an engine file, for `stepwell.load`; whole or not at all.

        Under a name that ends with `.so` it becomes a shared library, with a C header beside it. Raises EngineError
        where the file cannot be written, or where the model has what a file cannot hold."""
        from stepwell.engine.model import save, save_library

        write = save_library if os.fspath(path).endswith(".so") else save
        write(path, getattr(self._program, "executable", None))

    def _ordered(self, feeds: Mapping[str, Any]) -> list[Any]:
        expected = [port.name for port in self.inputs]
        if not isinstance(feeds, Mapping):
            raise InputError(f"arrays are given by name ({_listed(expected)}), not in a {type(feeds).__name__}")
        if missing := [name for name in expected if name not in feeds]:
            raise InputError(f"no array for input {', '.join(map(repr, missing))}; there are {_listed(expected)}")
        if unknown := [name for name in feeds if name not in expected]:
            raise InputError(f"there is no input {', '.join(map(repr, unknown))}; there are {_listed(expected)}")
        return [feeds[name] for name in expected]

    def _run(self, values: Sequence[Any]) -> list[Array]:
        if len(values) != len(self.inputs):
            expected = _listed([port.name for port in self.inputs])
            raise InputError(f"{len(values)} arrays for {len(self.inputs)} inputs ({expected})")
        try:
            if self._is_direct and all(map(_fits, values, self._dtypes)):
                direct: list[Array] = self._program.run(values)
                return direct
            return restored(self.outputs, self._results, self._program.run(accepted(self.inputs, self._parts, values)))
        except MemoryError as error:
            raise RuntimeError(f"out of memory: {error}") from None

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, ports)) for ports in (self.inputs, self.outputs))
        return f"<stepwell.Model ({inputs}) -> ({outputs})>"


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether the program can be given a value as it is; it checks the shape and copies what is not contiguous."""
    return type(value) is np.ndarray and value.dtype == dtype


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def add_outputs(module: Operation, names: Sequence[str]) -> None:
    """Let @main return the values of these ONNX names as well.

    Raises InputError for an unknown name, and below the graph landing, where values are not what the names say."""
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
        if isinstance(port, ListPort):
            self.type = f"seq({self.type})" if port.sequence is not None else self.type
            self.type = f"optional({self.type})" if port.may_be_absent else self.type
        self.shape = list(port.shape)

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
