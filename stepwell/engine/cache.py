"""Whole models on disk: the second compilation of a model is hashing its source and mapping an engine file.

    place = place_of(open_source("model.onnx"), Request())     # None where this model is not for the cache
    model = place.find(threads)                                # None: compile it, then
    place.keep(model)

A model is known by its bytes, the request, the processor, and what made its code (see `code`); by the contents of the
other files that it names as well, which only a compilation finds out: a small file says which they are. An entry is an
engine file with one more section, `cache`, that says what it is known by. What cannot be used is no error but a model
that is compiled.

The way down is not in an entry. Who asks a cached model for it (intermediates, a profile, remarks) has it made from the
source, which stays open for that."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from stepwell.api import Model, compile_module
from stepwell.compiler import Options, Request, entered
from stepwell.errors import EngineError, ModelError, StepwellError, TargetError
from stepwell.ir.core import Operation
from stepwell.ir.origins import others
from stepwell.memory import digest_of, is_mapped
from stepwell.sources import Held, Source
from stepwell.way import LaterWay

from . import code
from .container import Container, Section, digest, size_of, write_sections
from .folder import FOLDER_VARIABLE, SIZE_VARIABLE, PrivateFolder, usual
from .model import check, sections_of, started
from .records import to_bytes

if TYPE_CHECKING:
    from stepwell.backends.cpu.executable import Executable
    from stepwell.backends.cpu.model import CpuModel

SHELF = "models"
LARGEST_FILE = 256 << 20
LONGEST_LIST = 1 << 20
"""Bytes of the file that names a model's other files."""


def place_of(source: Source | Held, request: Request) -> Place | None:
    """Where a model belongs. None where the cache is off, for what has no bytes, and where code of others than Stepwell
    takes part, of which nobody knows what it does."""
    found = usual()
    if found is None or others() or (made_by := code.fingerprint()) is None:
        return None
    opened = source.as_bytes() if isinstance(source, Held) else source
    if opened is None:
        return None
    from concurrent.futures import ThreadPoolExecutor  # what loads an engine file alone has no use for it

    with ThreadPoolExecutor(1, thread_name_prefix="stepwell-hash") as pool:
        hashing = pool.submit(_digest_of, opened.data)
        try:  # what the key and its model need is imported meanwhile
            request = attrs.evolve(request, **{name: plain(value) for name, value in _fields(request).items()})
            machine = _machine(request)
        except (StepwellError, NotPlain):
            return None
    try:
        content = hashing.result()
        told = {**_fields(request), "tuned": request.tuned and _digest_of_file(request.tuned)}
    except (OSError, ValueError):
        return None
    parts = [made_by, machine, _environment(), told, opened.kind, opened.label, content]
    return Place(opened, request, found.folder, found.for_models, _hash(parts), made_by, content)


@attrs.define(eq=False)
class Place:
    """Where in the cache a model belongs. `key` is the hash of all that it is known by but its other files, `content`
    that of the source itself; models may take `limit` bytes."""

    source: Source
    request: Request
    folder: PrivateFolder
    limit: int
    key: str
    made_by: str
    content: str
    name: str = ""
    """The entry's name, once the other files are known."""

    def find(self, threads: int | None) -> Model | None:
        """The model, ready to run; None where there is none, or where it cannot run here: who compiles it is told why,
        if that matters."""
        try:
            self.name = self._name_for(self._listed())
            descriptor = self.folder.open(SHELF, self.name)
        except (StepwellError, OSError, ValueError):
            return None
        try:
            file = Container.of(descriptor, self.name)
            if file.only("cache").data.tobytes() != self._label():
                raise EngineError("it is another model's")
            Options(self.request.target, self.request.precision, threads)
            program = started(file, threads)
        except TargetError:
            return None
        except EngineError:
            self._drop()
            return None
        program.before_first_call = lambda: self._check(program, file, threads)
        return CachedModel(program, program.executable.head, LaterWay(lambda: self._enter(threads)))

    def settle(self) -> None:
        """The source was read: from here on its other files are known, which are to stay as they are."""
        with contextlib.suppress(StepwellError, OSError, ValueError):
            self.name = self._name_for(self.source.files.mapped)

    def is_kept(self) -> bool:
        """Whether there is an entry, as far as can be told without reading it; its use is left as it was."""
        try:
            return self.folder.has(SHELF, self._name_for(self._listed()))
        except (StepwellError, OSError, ValueError):
            return False

    def keep(self, executable: Executable | None) -> None:
        """Keep what was compiled. Where that cannot be done, nothing is kept."""
        if executable is None or others() or code.fingerprint() != self.made_by:
            return
        with contextlib.suppress(OSError, ValueError, StepwellError):
            self._keep([*sections_of(executable), Section("cache", self._label())])

    def _keep(self, sections: Sequence[Section]) -> None:
        # The disk belongs to others as well: half of what is free stays free.
        if size_of(sections) > min(self.limit, self.folder.free_bytes() // 2) or not self._is_unchanged():
            return
        names = sorted(self.source.files.mapped)
        if names:
            listed = json.dumps(names).encode()
            with self.folder.writing(SHELF, f"{self.key}.files") as file:
                file.write(digest(listed) + listed)
        with self.folder.writing(SHELF, self.name) as file:
            write_sections(file, sections)
        self.folder.shrink(SHELF, self.limit)

    def _drop(self) -> None:
        if self.name:
            self.folder.remove(SHELF, self.name)

    def _listed(self) -> list[str]:
        """What the model calls its other files, as far as a compilation has told."""
        try:
            with os.fdopen(self.folder.open(SHELF, f"{self.key}.files"), "rb") as file:
                data = file.read(LONGEST_LIST)
            listed = data[len(digest(b"")) :]
            found = json.loads(listed) if data == digest(listed) + listed else []
        except (OSError, ValueError, RecursionError):
            return []
        return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []

    def _name_for(self, files: Iterable[str]) -> str:
        """The name of the entry, which tells what is in all files. Raises StepwellError, OSError, ValueError."""
        contents = [[name, _digest_of(self.source.files.file(name))] for name in sorted(files)]
        return f"{_hash([self.key, contents])}.well"

    def _label(self) -> bytes:
        return to_bytes({"model": self.source.label, "name": self.name})

    def _is_unchanged(self) -> bool:
        """Whether what the files contain is still what it was."""
        try:
            is_same = not is_mapped(self.source.data) or _digest_of(self.source.data) == self.content
            return is_same and self.name == self._name_for(self.source.files.mapped)
        except (StepwellError, OSError, ValueError):
            return False

    def _enter(self, threads: int | None) -> tuple[Operation, Options]:
        """The module, made anew. Raises ModelError where a file was written to in between."""
        if not self._is_unchanged():
            raise ModelError(f"{self.source.label} was changed in place since it was compiled: compile it again")
        return entered(self.source, self.request, threads, True)

    def _check(self, program: CpuModel, file: Container, threads: int | None) -> None:
        """Compare the constants with their checksums; where they are damaged, go on with a program compiled anew."""
        try:
            check(file.path, file.all("constant"))
        except EngineError:
            self._drop()
            program.become(compile_module(*self._enter(threads))._program)


class CachedModel(Model):
    """A model from the cache: like any other, but that its IR has to be made where it is asked for."""

    is_from_cache = True


class NotPlain(TypeError):
    """A value of which nobody knows what it means to a compilation."""


def plain(value: Any) -> Any:
    """The value as JSON has it, if it is made of numbers, texts, lists and mappings. Raises NotPlain."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    raise NotPlain(type(value).__name__)


def _digest_of_file(path: str) -> str:
    """Of as much of a file of schedules as there may be. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(LARGEST_FILE), digest_size=16).hexdigest()


def _fields(request: Request) -> dict[str, Any]:
    return attrs.asdict(request, recurse=False)


def _machine(request: Request) -> list[str]:
    """The processor and the code generator. Raises TargetError."""
    # What starts an entry is imported here, while another thread hashes.
    from stepwell.backends.cpu import facts, model, target  # noqa: F401

    return [repr(target.named(request.target)), facts.facts().version]


def _environment() -> list[list[str]]:
    """Switches of Stepwell's own, apart from those of the cache."""
    found = {name: text for name, text in os.environ.items() if name.startswith("STEPWELL_")}
    return [[name, text] for name, text in sorted(found.items()) if name not in (FOLDER_VARIABLE, SIZE_VARIABLE)]


def _digest_of(data: Any) -> str:
    from stepwell.backends.cpu import machine

    return digest_of(data, "sha256" if machine.has_sha256() else "blake2b", machine.usable_cores())


def _hash(parts: list[Any]) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=32).hexdigest()
