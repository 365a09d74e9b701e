"""Models to engine files and back: `save` and `load`.

Sections of a file: `meta`, JSON that says what the program is; `object`, each relocatable object; `constant`, each
array of the constants table; `runtime`, the object of the run time, which saves compiling it where the process has
none yet.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepwell import __version__
from stepwell.collector import paused_collector
from stepwell.errors import EngineError, InputError, StepwellError, TargetError

from .container import Container, Mapped, Section, damaged, write
from .records import BadRecord, Record, to_bytes

if TYPE_CHECKING:
    from stepwell.api import Model
    from stepwell.backends.cpu.executable import Executable
    from stepwell.backends.cpu.model import CpuModel

VERIFY = ("call", "load", "never")


def save(path: str | os.PathLike[str], executable: Executable) -> None:
    """Write an engine file, whole or not at all; equal programs give equal files.

    Raises EngineError where the file cannot be written."""
    write(path, sections_of(executable))


def sections_of(executable: Executable) -> list[Section]:
    """What an engine file consists of."""
    from stepwell.backends.cpu import native
    from stepwell.backends.cpu.executable import record_of

    key, image = native.shipped()
    meta = {"stepwell": __version__, "program": record_of(executable), "runtime": key}
    return [
        Section("meta", to_bytes(meta)),
        *(Section("object", code) for code in executable.objects),
        Section("runtime", image),
        *(Section("constant", array) for array in executable.constants),
    ]


def save_library(path: str | os.PathLike[str], executable: Executable) -> None:
    """Write a shared library, and its C header beside it. Raises EngineError."""
    from stepwell.backends.cpu.aot import write_library

    write_library(path, executable)


def load(path: str | os.PathLike[str], *, threads: int | None = None, verify: str = "call") -> Model:
    """A model from an engine file: ready in milliseconds, with its constants mapped from the file, not read.

    `threads` is as in `compile`. Metadata and code are always compared with their checksums. `verify` says when the
    constants are, which takes reading all of them: at the first "call", which has to read them anyhow, at the "load",
    or "never". The file must not be changed in place while a model uses it; saving over it is safe, since that makes a
    new file. Raises EngineError for a file that is missing, foreign, of a newer format, truncated or damaged, and
    TargetError where this machine cannot run its code."""
    if verify not in VERIFY:
        raise InputError(f"verify={verify!r}: it is one of {', '.join(map(repr, VERIFY))}")
    file = Container.open(path)
    constants = file.all("constant")
    if verify == "load":
        check(file.path, constants)
    with paused_collector(lasting=True):  # around the imports too, which make more objects than the model
        from .loaded import EngineModel

        program = started(file, threads)
        if verify == "call":
            program.before_first_call = lambda: check(file.path, constants)
        return EngineModel(program)


def check(path: str, constants: Sequence[Mapped]) -> None:
    """Compare constants with their checksums, on all cores. Raises EngineError for the first that differs."""
    from concurrent.futures import ThreadPoolExecutor

    from stepwell.backends.cpu import machine

    with ThreadPoolExecutor(min(machine.usable_cores(), len(constants)) or 1) as pool:
        for number, fits in enumerate(pool.map(Mapped.is_intact, constants)):
            if not fits:
                raise damaged(path, f"section 'constant' {number} is not what was written")


def started(file: Container, threads: int | None) -> CpuModel:
    """The program of a file, in this process; its constants are not compared with their checksums. Raises EngineError
    and TargetError as `load` does."""
    from stepwell.backends.cpu import model, native
    from stepwell.backends.cpu.executable import of_record

    meta, runtime = file.only("meta").data.tobytes(), file.only("runtime").data.tobytes()
    objects = tuple(section.data.tobytes() for section in file.intact("object"))
    constants = tuple(section.data for section in file.all("constant"))
    try:
        record = Record.parse(meta)
        executable = of_record(record.record("program"), objects, constants)
        native.offer(record.text("runtime"), runtime)
        return model.start(executable, threads=threads)
    except (TargetError, MemoryError):
        raise
    except EngineError as error:
        raise EngineError(f"{file.path}: {error}") from None
    except (StepwellError, BadRecord) as error:
        raise damaged(file.path, str(error)) from None
