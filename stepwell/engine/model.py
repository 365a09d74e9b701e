"""Models to engine files and back: `save` and `load`.

Sections of a file: `meta`, JSON that says what the program is and how callers see it; `object`, each relocatable
object; `constant`, each array of the constants table; `runtime`, the object of the run time, which saves compiling it
where the process has none yet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from stepwell import __version__
from stepwell.api import Model
from stepwell.compiler import Options
from stepwell.errors import EngineError, InputError, StepwellError
from stepwell.ir.parser import Parser
from stepwell.ir.passes import PassContext
from stepwell.ir.types import TensorType
from stepwell.ports import Port

from .container import Container, Mapped, Section, damaged, write
from .records import BadRecord, Record, to_bytes

if TYPE_CHECKING:
    from stepwell.backends.cpu.executable import Executable

VERIFY = ("call", "load", "never")


class EngineModel(Model):
    """A model from an engine file: it runs, and that is all. There is no IR behind it."""

    def fetching(self, names: tuple[str, ...]) -> Model:
        """Raises InputError."""
        raise InputError(f"{', '.join(names)}: an engine file holds machine code, which has no intermediates to fetch: "
                         "compile the model from its source")  # fmt: skip

    def profile(self, feeds: Mapping[str, Any], seconds: float = 1.0) -> Any:
        """Raises InputError."""
        raise InputError("an engine file holds machine code without clocks, which cannot be profiled: "
                         "compile the model from its source")  # fmt: skip


def save(
    path: str | os.PathLike[str], executable: Executable | None, inputs: Sequence[Port], outputs: Sequence[Port]
) -> None:
    """Write an engine file, whole or not at all; equal programs give equal files.

    `inputs` and `outputs` are those that callers see. Raises EngineError where the file cannot be written, or where the
    model has what a file cannot hold."""
    from stepwell.backends.cpu import native
    from stepwell.backends.cpu.executable import record_of

    if executable is None:
        raise EngineError("the model has no machine code to save")
    key, image = native.shipped()
    meta = {
        "stepwell": __version__,
        "inputs": [_port_record(port) for port in inputs],
        "outputs": [_port_record(port) for port in outputs],
        "program": record_of(executable),
        "runtime": key,
    }
    write(path, [
        Section("meta", to_bytes(meta)),
        *(Section("object", code) for code in executable.objects),
        Section("runtime", image),
        *(Section("constant", array) for array in executable.constants),
    ])  # fmt: skip


def save_library(
    path: str | os.PathLike[str], executable: Executable | None, inputs: Sequence[Port], outputs: Sequence[Port]
) -> None:
    """Write a shared library, and its C header beside it. Raises EngineError."""
    from stepwell.backends.cpu.aot import write_library

    if executable is None:
        raise EngineError("the model has no machine code to save")
    write_library(path, executable, inputs, outputs)


def load(path: str | os.PathLike[str], *, threads: int | None = None, verify: str = "call") -> Model:
    """A model from an engine file: ready in milliseconds, with its constants mapped from the file, not read.

    `threads` is as in `compile`. Metadata and code are always compared with their checksums. `verify` says when the
    constants are, which takes reading all of them: at the first "call", which has to read them anyhow, at the "load",
    or "never". The file must not be changed in place while a model uses it; saving over it is safe, since that makes a
    new file. Raises EngineError for a file that is missing, foreign, of a newer format, truncated or damaged, and
    TargetError where this machine cannot run its code."""
    if verify not in VERIFY:
        raise InputError(f"verify={verify!r}: it is one of {', '.join(map(repr, VERIFY))}")
    options = Options("cpu", threads=threads)
    file = Container.open(path)
    record, executable = _read(file)
    constants = file.all("constant")
    if verify == "load":
        check(file.path, constants)
    inputs, outputs = _ports(file.path, record, executable)
    program = _started(file, executable, record, options)
    if verify == "call":
        program.before_first_call = lambda: check(file.path, constants)
    return EngineModel(program, inputs, outputs, PassContext(), None, options)


def check(path: str, constants: Sequence[Mapped]) -> None:
    """Compare constants with their checksums, on all cores. Raises EngineError for the first that differs."""
    from stepwell.backends.cpu import machine

    with ThreadPoolExecutor(min(machine.usable_cores(), len(constants)) or 1) as pool:
        for number, fits in enumerate(pool.map(Mapped.is_intact, constants)):
            if not fits:
                raise damaged(path, f"section 'constant' {number} is not what was written")


def _read(file: Container) -> tuple[Record, Executable]:
    from stepwell.backends.cpu.executable import of_record

    try:
        record = Record.parse(file.only("meta").data.tobytes())
        objects = tuple(section.data.tobytes() for section in file.intact("object"))
        constants = tuple(section.data for section in file.all("constant"))
        return record, of_record(record.record("program"), objects, constants)
    except BadRecord as error:
        raise damaged(file.path, str(error)) from None
    except EngineError as error:
        raise error if file.path in str(error) else EngineError(f"{file.path}: {error}") from None


def _started(file: Container, executable: Executable, record: Record, options: Options) -> Any:
    from stepwell.backends.cpu import model, native
    from stepwell.backends.cpu.jit import CodegenError

    try:
        native.offer(record.text("runtime"), file.only("runtime").data.tobytes())
        return model.start(executable, threads=options.threads)
    except (CodegenError, BadRecord) as error:
        raise damaged(file.path, str(error)) from None


def _port_record(port: Port) -> dict[str, Any]:
    from stepwell.backends.cpu.executable import dtype_name

    text = str(port.type)
    if _tensor_type(text) != port.type:
        raise EngineError(f"the model cannot be saved: the type {text[:200]} of {port.name!r} cannot be written down")
    return {"name": port.name, "type": text, "storage": dtype_name(port.storage), "published": port.published}


def _ports(path: str, record: Record, executable: Executable) -> tuple[list[Port], list[Port]]:
    try:
        found = [_port(entry) for entry in record.records("inputs")], [_port(e) for e in record.records("outputs")]
    except BadRecord as error:
        raise damaged(path, str(error)) from None
    for seen, held in zip(found, (executable.signature.inputs, executable.signature.outputs), strict=True):
        if [(port.type.rank, port.storage) for port in seen] != [(len(port.dims), port.dtype) for port in held]:
            raise damaged(path, "the ports do not fit the program's")
    return found


def _port(record: Record) -> Port:
    from stepwell.backends.cpu.executable import dtype_named

    storage = record.read("storage", dtype_named)
    port = Port(record.text("name"), record.read("type", _tensor_type), storage, record.flag("published"))
    try:
        fits = port.dtype.itemsize == storage.itemsize
    except StepwellError:
        fits = False
    if not fits:
        raise BadRecord(f"{record.where}: elements of {port.type} do not fit into {storage}")
    return port


def _tensor_type(text: str) -> TensorType:
    type_ = Parser(text, "<type>").type()
    if not isinstance(type_, TensorType):
        raise ValueError("it is no tensor type")
    return type_
