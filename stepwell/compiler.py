"""From a source to a program: one compilation, its options, and where it stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from stepwell.binding import bind_states
from stepwell.dialects.host_calls import REFUSED, refuse_host_calls
from stepwell.errors import TargetError
from stepwell.ir.core import Operation
from stepwell.ir.passes import Instrument, Pass, PassContext, PassManager, Phase
from stepwell.lowering.pipeline import landing_of, phases
from stepwell.lowering.precision import PRECISIONS, demand_precision
from stepwell.lowering.tensor.sizes import usual_sizes
from stepwell.sources import Held, Hints, Shapes, Source, Values


@attrs.frozen
class Request:
    """What decides, with the source, what a model is compiled to; as `stepwell.compile` is told. All of it is part of
    what a cached model is known by."""

    target: str = "cpu"
    precision: str = "f32"
    shapes: Shapes | None = None
    sanitize: bool = False
    state: Mapping[str, str] | None = None
    capacity: Mapping[str, int] | int | None = None
    tuned: str | None = None
    host: bool = True
    values: Values | None = None
    """Inputs that are constants of these arrays."""


@attrs.frozen
class Options:
    """What a compilation is told. `precision`: one of PRECISIONS. `threads` None: all cores that the process may use.
    `sanitize`: machine code checks the bounds of every access to memory. `cache`: compiled kernels are kept on disk and
    looked up there. `tuned`: a file of schedules that were found by measuring. `host`: what looks into strings and
    images may be called in Python."""

    target: str = "cpu"
    precision: str = "f32"
    threads: int | None = None
    hints: Hints = attrs.Factory(dict)
    sanitize: bool = False
    cache: bool = True
    tuned: str | None = None
    host: bool = True

    def __attrs_post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise TargetError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.threads is not None and self.threads < 1:
            raise TargetError(f"{self.threads} threads; there is at least one")


def entered(source: Source | Held, request: Request, threads: int | None, cache: bool) -> tuple[Operation, Options]:
    """(the module where it enters, what its compilation is told). Raises what a source or an option may be wrong in."""
    module, hints = source.load(request.shapes, request.values)
    bind_states(module, request.state, request.capacity)
    options = Options(request.target, request.precision, threads, hints, request.sanitize, cache, request.tuned,
                      request.host)  # fmt: skip
    return module, options


def machine_of(options: Options) -> Any:
    """The target's description. Raises TargetError."""
    from stepwell.backends.cpu import target

    return target.named(options.target)


def context_of(options: Options, machine: Any) -> PassContext:
    """What the passes of a compilation share. Raises TuningError for a file of schedules that cannot be used."""
    told: dict[str, Any] = {"precision": options.precision, "shapes": options.hints}
    if not options.host:
        told[REFUSED] = "host=False, --no-host and --to so allow no calls of the host"
    if options.tuned is not None and machine is not None:
        from stepwell.lowering.tensor.tuned import TUNED
        from stepwell.tune.files import TuneFile

        told[TUNED] = TuneFile.read(options.tuned).schedules(machine)
    return PassContext(machine, told)


def lower(
    module: Operation,
    stop: str,
    context: PassContext,
    instruments: Iterable[Instrument] = (),
    pipeline: Sequence[Pass | Phase] | None = None,
) -> None:
    """Bring a module from where it stands to the end of the landing `stop`, in place; or run a pipeline of one's own.

    Raises PassError, TargetError where a precision comes too late, and whatever a pass raises."""
    demand_precision(module, context.options.get("precision", "f32"))
    if landing_of(module) != "graph":  # there they are refused when what is known has been folded away
        refuse_host_calls(module, context.options)
    items = phases(landing_of(module), stop) if pipeline is None else pipeline
    with usual_sizes(module, context.options.get("shapes") or {}):
        PassManager(items, instruments).run(module, context)


def backend() -> Any:
    """The CPU backend's model builder, imported on first use: it brings LLVM."""
    from stepwell.backends.cpu import model

    return model


def profiler(module: Operation, options: Options) -> Any:
    """What profiles a module at the end of the loop landing."""
    from stepwell.backends.cpu.profile import Profiler

    return Profiler(module, machine_of(options), threads=options.threads, cached=options.cache)
