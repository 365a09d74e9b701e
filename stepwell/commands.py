"""What the `lower` command does, given its parsed command line."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from stepwell import show
from stepwell.compiler import Request, backend, context_of, entered, lower, machine_of
from stepwell.errors import InputError, StepwellError
from stepwell.ir.core import Operation
from stepwell.ir.instruments import CrashReproducer, DumpFolder, PrintIR, Progress, Quiet, Timing, VerifyEach
from stepwell.ir.passes import PassContext, Remark
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.resources import WeightsFile, module_text
from stepwell.list_ports import ListPort, as_arrays, from_arrays
from stepwell.lowering import pipeline
from stepwell.outputs import Outputs, write
from stepwell.plugins import load_installed, load_plugin
from stepwell.ports import AnyPort, main_function, ports_of, sample_inputs, tensor_ports
from stepwell.sources import is_hint, open_source
from stepwell.state import State, left_in
from stepwell.way import Way

if TYPE_CHECKING:
    from stepwell.api import Model
    from stepwell.backends.cpu.executable import Executable
    from stepwell.dialects.func import FuncOp

CALLS = ("run", "probe", "bench", "profile")
ACTIONS = ("check_each", "report", *CALLS)
"""What may be asked for besides the result, or in place of it where no file for it is named."""
FILES = ("obj", "so", "engine", "onnx")
"""Results that cannot be printed."""


def execute(args: argparse.Namespace) -> int:
    """Do what the command line asks for. Raises StepwellError and OSError."""
    load_installed()
    args.profile = bool(args.profile or args.html or args.trace)
    for path in args.load:
        load_plugin(path)
    if args.host:
        from stepwell.backends.cpu import target

        sys.stdout.write(target.describe(target.host()) + "\n")
    if args.passes:
        sys.stdout.write("\n".join(pipeline.story()) + "\n")
    return _Job(args).run() if args.source or args.source_ir else 0


def parse_shapes(texts: Sequence[str]) -> dict[str, Any]:
    """`batch=1`, `seq=1,128,512`, `x=1x3x224x224` as the API's `shapes`. Raises InputError."""
    shapes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            parts = [int(part) for part in value.replace("x", ",").split(",")]
        except ValueError:
            parts = []
        if not equals or not name or not parts:
            raise InputError(f"--shapes {text}: expected NAME=SIZE, NAME=LEAST,USUAL,MOST or INPUT=1x3x224x224")
        shapes[name] = parts[0] if len(parts) == 1 and "x" not in value else tuple(parts)
    return shapes


def parse_states(texts: Sequence[str]) -> dict[str, str]:
    """`past=present` as the API's `state`. Raises InputError."""
    pairs = {name: becomes for name, _, becomes in (text.partition("=") for text in texts)}
    if len(pairs) != len(texts) or not all(pairs) or not all(pairs.values()):
        raise InputError(f"--state {' '.join(texts)}: expected INPUT=OUTPUT, once for each input")
    return pairs


def parse_capacities(texts: Sequence[str]) -> dict[str, int]:
    """`past=2048` as the API's `capacity`. Raises InputError."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, rows = text.rpartition("=")
        if not name or not rows.isdecimal():
            raise InputError(f"--capacity {text}: expected NAME=ROWS")
        found[name] = int(rows)
    return found


def _code(module: Operation, machine: Any, stop: str) -> str | bytes:
    if stop == "obj":
        return archive(backend().objects(module, machine))
    text: str = backend().llvm_ir(module, machine) if stop == "llvm" else backend().assembly(module, machine)
    return text


def archive(members: Sequence[bytes]) -> bytes:
    """A static library of object files, in the common format of ar(5)."""
    parts = [b"!<arch>\n"]
    for number, data in enumerate(members):
        header = f"{f'{number}.o/':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n"
        parts += [header.encode(), data, b"\n" * (len(data) % 2)]
    return b"".join(parts)


def _taken_back(state: State | None) -> AbstractContextManager[object]:
    """What is done inside starts from the same state each time."""
    return nullcontext() if state is None else state.trial()


class _Job:
    """One compilation and what is done with it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.timing = Timing()
        self.progress = Progress(sys.stderr) if sys.stderr.isatty() else None
        self.print_options = PrintOptions(generic=args.generic, locations=args.locations)
        self.shapes = parse_shapes(args.shapes)
        self._watching: list[Quiet] | None = None
        self._executable: Executable | None = None

    def run(self) -> int:
        """Load, lower, act."""
        args = self.args
        self._refuse()
        start = time.perf_counter()
        request = Request(args.target, args.precision, self.shapes, self._sanitizes(), parse_states(args.state),
                          parse_capacities(args.capacity) or None,
                          None if args.tuned is None or args.tune is not None else str(args.tuned),
                          not args.no_host and args.to != "so")  # fmt: skip
        from stepwell.api import place_of

        source = open_source(self._source())
        self.place = place_of(source, request) if args.cache and self._needs_code() else None
        if self.place is not None and self._needs_code_alone() and (model := self.place.find(args.threads)):
            self.timing.add("(model from the cache)", time.perf_counter() - start)
            return self._finish(self._act_on(model), [])
        module, self.options = entered(self.place.source if self.place else source, request, args.threads, args.cache)
        if self.place is not None:
            self.place.settle()
        self.timing.add("(load)", time.perf_counter() - start)
        if args.tune is not None:
            return self._tune(module, start + args.tune)
        machine = machine_of(self.options) if self._needs_target() else None
        context = context_of(self.options, machine)
        return self._finish(self._act(module, context, machine), context.remarks)

    def _asks(self, actions: Sequence[str]) -> list[str]:
        """Which of these actions are asked for, as options."""
        return [f"--{action.replace('_', '-')}" for action in actions if getattr(self.args, action)]

    def _refuse(self) -> None:
        """Raises InputError where something that is asked for would be left out."""
        args, actions = self.args, self._asks(ACTIONS)
        others = [*actions, *self._asks(("pipeline", "to", "output"))]
        if args.tune is not None and others:
            raise InputError(f"--tune makes a file of schedules and nothing else: leave out {', '.join(others)}")
        if args.pipeline and args.to:
            raise InputError(f"--pipeline says where the way ends: leave out --to {args.to}")
        if args.output and actions and not args.to and not args.pipeline:
            raise InputError(f"-o {args.output}: say with --to what is written there, besides {', '.join(actions)}")
        if args.output and args.probe:
            raise InputError(f"-o {args.output}: --probe adds outputs to the model; write it by a command without that")
        if args.outputs and not args.run and not args.probe:
            raise InputError(f"--outputs {args.outputs}: say --run, which gives them")

    def _finish(self, status: int, remarks: Sequence[Remark]) -> int:
        if self.args.remarks:
            sys.stderr.writelines(f"{remark}\n" for remark in remarks)
        if self.args.timing:
            sys.stderr.write(self.timing.table() + "\n")
        return status

    def _needs_code(self) -> bool:
        """Whether the compiled model is what is asked for."""
        args = self.args
        makes_other = args.source_ir or args.pipeline or args.probe or args.check_each
        runs = args.to is None and any(getattr(args, action) for action in ACTIONS)
        return not makes_other and (runs or args.to == "engine")

    def _needs_code_alone(self) -> bool:
        """Whether nobody asks to see the way down."""
        args = self.args
        looks = args.print_after_all or args.print_after or args.print_before or args.print_changed or args.dump_dir
        checks = args.verify_each or args.crash_reproducer
        return not (looks or checks or args.remarks or args.report or args.bench or args.profile)

    def _act_on(self, model: Model) -> int:
        """What is done with a model from the cache, in the order of `_act`."""
        if self.args.to == "engine":
            self._write_compiled("engine", model.executable)
        if self._asks(CALLS):
            head = model.executable().head
            self._use(model, head, self._arrays(ports_of(head)[0]))
        return 0

    def _sanitizes(self) -> bool:
        """Whether bounds are checked: as told, else where IR of any origin is run."""
        args = self.args
        return bool(args.source_ir and args.run) if args.sanitize is None else bool(args.sanitize)

    def _source(self) -> Any:
        if self.args.source_ir is None:
            return self.args.source
        path = Path(self.args.source_ir)
        from stepwell.ir.resources import read_module

        return read_module(path)

    def _needs_target(self) -> bool:
        return self.args.to not in ("graph", "onnx") or bool(self._asks(CALLS))

    def _act(self, module: Operation, context: PassContext, machine: Any) -> int:
        """The check; the way down to what `--to` names; the report; the result; calls of the model."""
        args, calls = self.args, self._asks(CALLS)
        if args.check_each:
            goes_on = args.report or args.output or calls
            status = self._check(module.clone() if goes_on else module, context, [] if goes_on else self.instruments())
            if status or not goes_on:
                return status
        if args.probe:
            self._add_probes(module)
        stop = args.to or ("loop" if self._asks(ACTIONS) else "llvm")
        landing = "graph" if stop == "onnx" else stop if stop in pipeline.LANDINGS else "loop"
        entered = pipeline.landing_of(module)
        self._lower(module, context, landing, pipeline.parse(args.pipeline) if args.pipeline else None)
        if args.report:
            sys.stdout.write(show.report(module, context, self.timing))
            if self.place is not None:
                sys.stdout.write(f"cache: the compiled model is {'' if self.place.is_kept() else 'not '}there\n")
        if self._writes():
            self._write(module, machine, stop)
        if calls:
            if args.pipeline:
                self._lower(module, context, "loop")
            elif landing != "loop":
                self._lower(module, context, "loop", pipeline.between(entered, landing, "loop"))
            self._call(module, machine)
        return 0

    def _writes(self) -> bool:
        """Whether the result is shown or written: not where actions stand in its place."""
        args = self.args
        if args.output or args.to in FILES:
            return True
        if args.check_each or self._asks(CALLS):
            return False
        return bool(args.to or args.pipeline or not args.report)

    def _write(self, module: Operation, machine: Any, stop: str) -> None:
        if self.args.pipeline or stop in pipeline.LANDINGS:
            self._write_ir(module)
        elif stop == "onnx":
            self._export(module)
        elif stop in ("engine", "so"):
            self._save(module, machine, stop)
        else:
            self._write_code(module, machine, stop)

    def _lower(self, module: Operation, context: PassContext, stop: str, items: Any = None) -> None:
        try:
            lower(module, stop, context, self.instruments(), items)
        finally:
            if self.progress:
                self.progress.clear()

    def instruments(self) -> list[Quiet]:
        """What watches the passes, the same all the way down."""
        if self._watching is None:
            self._watching = self._instruments()
        return self._watching

    def _instruments(self) -> list[Quiet]:
        args = self.args
        found: list[Quiet] = []
        if args.print_after_all or args.print_after or args.print_before or args.print_changed:
            unknown = [name for name in (*args.print_after, *args.print_before) if pipeline.find_pass(name) is None]
            if unknown:
                raise InputError(f"there is no pass {', '.join(unknown)}; --passes lists them")
            after = None if args.print_after_all else args.print_after
            found.append(PrintIR(sys.stderr, self.print_options, args.print_before, after, args.print_changed))
        if args.dump_dir:
            found.append(DumpFolder(args.dump_dir, pipeline.landing_of))
        if args.verify_each:
            found.append(VerifyEach())
        if args.crash_reproducer:
            found.append(CrashReproducer(args.crash_reproducer))
        if self.progress:
            found.append(self.progress)
        return [*found, self.timing]  # the timer comes last, so that it starts last and stops first

    # Results

    def _write_ir(self, module: Operation) -> None:
        output = self.args.output
        if output is None:
            sys.stdout.write(print_op(module, self.print_options) + "\n")
            return
        options = attrs.evolve(self.print_options, locations=True)
        with Outputs() as files:
            weights = WeightsFile(output.with_name(output.name + ".weights.bin"), files)
            text = module_text(module, weights, options)
            files.new(output).write(text.encode())

    def _export(self, module: Operation) -> None:
        if self.args.output is None:
            raise InputError("--to onnx makes a file: say where it goes with -o")
        from stepwell.frontends.onnx.exporter import save_model

        save_model(module, self.args.output)

    def _save(self, module: Operation, machine: Any, stop: str) -> None:
        def make() -> Executable:
            start = time.perf_counter()
            if self.progress:
                self.progress.show("making machine code")
            executable: Executable = backend().executable_of(
                module, machine, sanitize=self.options.sanitize, cached=self.options.cache
            )
            self._executable = executable
            if self.progress:
                self.progress.clear()
            self.timing.add(f"(backend: {stop})", time.perf_counter() - start)
            if self.place is not None:
                self.place.keep(executable)
            return executable

        self._write_compiled(stop, make)

    def _write_compiled(self, stop: str, make: Callable[[], Executable]) -> None:
        if self.args.output is None:
            raise InputError(f"--to {stop} makes a file: say where it goes with -o")
        from stepwell.engine.model import save, save_library

        (save if stop == "engine" else save_library)(self.args.output, make())

    def _write_code(self, module: Operation, machine: Any, stop: str) -> None:
        if self.progress:
            self.progress.show(f"making {stop}")
        start = time.perf_counter()
        result = _code(module, machine, stop)
        self.timing.add(f"(backend: {stop})", time.perf_counter() - start)
        if self.progress:
            self.progress.clear()
        output = self.args.output
        if output is not None:
            write(output, result)
        elif isinstance(result, bytes):
            raise InputError(f"--to {stop} makes bytes: say where they go with -o")
        else:
            sys.stdout.write(result)

    # Running

    def _tune(self, module: Operation, end: float) -> int:
        """Search schedules up to a time of the performance counter and write them to a file; a line for each kernel."""
        if self.args.tuned is None:
            raise InputError("--tune makes a file of schedules: say where it goes with --tune-file")
        if not 0 < self.args.tune < float("inf"):
            raise InputError(f"--tune {self.args.tune}: there is no search of so many seconds")
        from stepwell.backends.cpu.target import check_runs_here
        from stepwell.tune.files import TuneFile
        from stepwell.tune.kernels import lone_kernels
        from stepwell.tune.tuner import Tuner

        check_runs_here(machine_of(self.options))
        file = TuneFile.read(self.args.tuned, must_exist=False)
        tuner = Tuner(lone_kernels(module, self.options), self.options, file)
        left = end - time.perf_counter()
        if left <= 0:
            took = f"loading and lowering the model took {self.args.tune - left:.1f} seconds"
            raise InputError(f"--tune {self.args.tune:g}: {took}, and nothing is left for the search")
        for found in tuner.run(left):
            sys.stdout.write(f"{found}\n")
            sys.stdout.flush()
        sys.stdout.write(f"{tuner.missing()} of {len(tuner.kernels)} kernels are left\n")
        return 0

    def _call(self, module: Operation, machine: Any) -> None:
        function = main_function(module)
        arrays = self._arrays(ports_of(function)[0])
        if self.progress:
            self.progress.show("making machine code")
        start = time.perf_counter()
        program = backend().build(
            module, machine, threads=self.options.threads, sanitize=self.options.sanitize, cached=self.options.cache,
            executable=self._executable,
        )  # fmt: skip
        self.timing.add("(backend)", time.perf_counter() - start)
        if self.progress:
            self.progress.clear()
        if self.place is not None and self._executable is None:
            self.place.keep(getattr(program, "executable", None))
        from stepwell.api import Model

        self._use(Model(program, function, Way(self.options, PassContext(), None, module)), function, arrays)

    def _use(self, model: Model, function: FuncOp, arrays: Sequence[Any]) -> None:
        """Run, time and profile a model on arrays for all inputs of its function."""
        pairs = list(zip(ports_of(function)[0], arrays, strict=True))
        feeds = {port.name: array for port, array in pairs if port.kept is None}
        kept = {port.name: array for port, array in pairs if port.kept is not None}
        state = model.new_state(kept) if kept else None
        if self.args.run:
            with _taken_back(state):
                self._show(model.run(feeds, state=state) | (left_in(state) if state is not None else {}))
        if self.args.probe:
            with _taken_back(state):
                found = model.run(feeds, fetch=self.args.probe, state=state)
            self._show({name: found[name] for name in self.args.probe})
        if self.args.bench:

            def call(*given: Any) -> None:
                with _taken_back(state):
                    model(*given, state=state)

            sys.stdout.write(show.bench(call, list(feeds.values()), show.BENCH_SECONDS) + "\n")
        if self.args.bench or self.args.profile:
            self._profile(model, feeds, state)

    def _profile(self, model: Any, feeds: dict[str, Any], state: State | None) -> None:
        args = self.args
        found = model.profile(feeds, show.BENCH_SECONDS, state, trace=args.trace is not None)
        sys.stdout.write(show.profile(found))
        title = Path(str(args.source or args.source_ir)).name
        if args.html:
            from stepwell.backends.cpu import target
            from stepwell.profiles.page import page, versions

            machine = dict(line.split(": ", 1) for line in target.describe(target.host()).splitlines())
            write(args.html, page(found, title, {**machine, **versions()}))
        if args.trace:
            from stepwell.profiles.chrome import trace_text
            from stepwell.profiles.page import versions

            write(args.trace, trace_text(found.trace, title, versions()))

    def _add_probes(self, module: Operation) -> None:
        """Let the program give what is probed as further outputs."""
        from stepwell.api import add_outputs

        known = {port.name for ports in ports_of(main_function(module)) for port in ports}
        add_outputs(module, [name for name in dict.fromkeys(self.args.probe) if name not in known])

    def _show(self, values: dict[str, Any]) -> None:
        arrays = {key: array for name, value in values.items() for key, array in as_arrays(name, value).items()}
        for name, array in arrays.items():
            sys.stdout.write(show.array(name, array) + "\n")
        if self.args.outputs:
            plain = {name: x.astype(np.str_) if x.dtype.kind == "O" else x for name, x in arrays.items()}
            path = str(self.args.outputs)
            with Outputs() as files:  # named as np.savez names files
                np.savez(files.new(path if path.endswith(".npz") else f"{path}.npz"), **plain)  # type: ignore[arg-type]

    def _arrays(self, inputs: Sequence[AnyPort]) -> list[Any]:
        if self.args.inputs is None:
            sizes = {name: value[1] for name, value in self.shapes.items() if is_hint(value)}
            from stepwell.backends.cpu.machine import available_bytes

            return sample_inputs(inputs, sizes, self.args.seed, available_bytes())
        try:
            with np.load(self.args.inputs, allow_pickle=False) as given:
                found = {name: given[name] for name in given.files}
        except (ValueError, EOFError) as error:
            raise InputError(f"{self.args.inputs} is no .npz file of arrays: {error}") from None
        missing = [port.name for port in tensor_ports(inputs) if port.name not in found]
        if missing:
            raise InputError(f"{self.args.inputs} has no array for {', '.join(missing)}; it has {', '.join(found)}")
        return [from_arrays(port, found) if isinstance(port, ListPort) else found[port.name] for port in inputs]

    def _check(self, module: Operation, context: PassContext, instruments: Sequence[Quiet]) -> int:
        from stepwell.check import CheckEach

        inputs, _ = ports_of(main_function(module))
        check = CheckEach(self._arrays(inputs), context=context)
        items = pipeline.parse(self.args.pipeline) if self.args.pipeline else pipeline.phases(
            pipeline.landing_of(module), self.args.to if self.args.to in pipeline.LANDINGS else "loop")  # fmt: skip
        try:
            lower(module, "loop", context, [check, *instruments], pipeline=items)
        except StepwellError as error:
            if check.failure is None:
                raise
            error.add_note("the check stopped the pipeline there")
            sys.stdout.write(check.report())
            return 1
        sys.stdout.write(check.report())
        return 0
