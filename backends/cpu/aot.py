"""A compiled program as a shared library with a C interface: `digits.so` and `digits.h`.

    write_library("digits.so", executable)

The library holds the model's objects, its constants, the team of threads, and a small piece of C (see `aot_c`) that
makes the call. It needs libc and libm, nothing of Python. Putting it together takes a C compiler, on the machine that
does it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stepwell.errors import EngineError
from stepwell.outputs import Outputs, refusal

from . import aot_c, cache, heap_ir, jit, target, team_ir
from .entry import ALIGNMENT
from .executable import Executable

PAGE = 4096
_COMPILERS = ("cc", "gcc", "clang")
_SECONDS = 600


def write_library(path: str | os.PathLike[str], executable: Executable) -> None:
    """Write the shared library, and its header beside it, under names that `path` gives.

    Raises EngineError for a model that needs Python, where there is no C compiler for the processor, where it fails, or
    where a file cannot be written; the library that was there before is then as it was."""
    if executable.host.is_used:
        calls = "; ".join(executable.host.names()) or "it holds strings"
        raise EngineError(f"a shared library has no Python, which the model needs: {calls}")
    library = Path(os.path.realpath(path))
    header = library.with_suffix(".h")
    if header == library:
        raise EngineError(f"{path} is the name of the library's header: end the library's with .so")
    compiler = compiler_for(executable.processor.arch)
    interface = aot_c.Interface.of(library.stem, executable)
    with _folder() as folder:
        made = _link(folder, compiler, interface, executable)
        with Outputs(EngineError, sync=True, in_place=False) as files:
            with made.open("rb") as source:
                shutil.copyfileobj(source, files.new(library, 0o777))
            files.new(header).write(aot_c.header(interface).encode())


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder to put the library together in. Raises EngineError that names it where it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="stepwell-") as folder:
            yield Path(folder)
    except OSError as error:
        place = tempfile.tempdir or "the folder of temporary files"
        raise EngineError(f"{refusal(place, error)}; TMPDIR says where it is") from None


def compiler_for(arch: str) -> list[str]:
    """The command that compiles and links C for an architecture: what CC says, else the first that is installed.

    Raises EngineError where there is none."""
    if named := os.environ.get("CC"):
        return shlex.split(named)
    names = _COMPILERS if arch == target.host().arch else (f"{arch}-linux-gnu-gcc",)
    for name in names:
        if found := shutil.which(name):
            return [found]
    raise EngineError(f"a shared library is put together by a C compiler, and there is none for {arch}: install "
                      f"{' or '.join(names)}, or name one in the environment's CC")  # fmt: skip


def _link(folder: Path, compiler: Sequence[str], interface: aot_c.Interface, executable: Executable) -> Path:
    offsets = _write_constants(folder / "constants.bin", executable)
    objects = [*executable.objects, _runtime(executable.processor.arch)]
    names = [f"{number}.o" for number in range(len(objects))]
    for name, image in zip(names, objects, strict=True):
        (folder / name).write_bytes(image)
    (folder / "interface.h").write_text(aot_c.header(interface))
    (folder / "interface.c").write_text(aot_c.source(interface, executable, offsets))
    (folder / "exports").write_text(f"{{ global: {interface.prefix}_*; local: *; }};\n")
    made = folder / "library.so"
    command = [*compiler, "-shared", "-fPIC", "-O2", "-o", made.name, "interface.c", *names,
               "-Wl,--version-script=exports", "-Wl,-z,defs", "-Wl,-z,noexecstack", "-lm", "-lpthread"]  # fmt: skip
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False,
                              timeout=_SECONDS)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the C compiler {compiler[0]!r} does not run: {error}") from None
    if done.returncode:
        raise EngineError(f"{shlex.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return made


def _write_constants(path: Path, executable: Executable) -> list[int]:
    """The constants one after the other, those of a page or more at a page; their offsets."""
    offsets = []
    with path.open("wb") as file:
        for array in executable.constants:
            file.write(bytes(-file.tell() % (PAGE if array.nbytes >= PAGE else ALIGNMENT)))
            offsets.append(file.tell())
            array.tofile(file)
        file.write(bytes(ALIGNMENT))  # so that the table's last entry points at something
    return offsets


def _runtime(arch: str) -> bytes:
    machine = target.named({"x86_64": "x86-64"}.get(arch, arch))
    text = team_ir.team_ir(arch) + heap_ir.heap_ir()
    return jit.compile_objects([text], machine, passes=("sroa", "simplifycfg"), cache=cache.default())[0]
