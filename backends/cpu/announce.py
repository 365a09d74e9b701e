"""Tells profilers and debuggers which code is where.

    STEPWELL_PERF_MAP=1 perf record python model.py         # perf report then shows kernels and their ONNX nodes
    STEPWELL_GDB=1 gdb --args python model.py               # break, disassemble, info symbol by kernel

perf reads /tmp/perf-PID.map, a line `START SIZE NAME` for each function (Linux, jit-interface.txt in tools/perf); the
map is for the whole process, other compilers write to it as well, and no line is ever taken back.

GDB reads objects from a list that it finds by the symbols `__jit_debug_register_code` and `__jit_debug_descriptor` (GDB
manual, "JIT Compilation Interface"). LLVM keeps such a list, which its library does not export, and of its two linkers
the older one, MCJIT, enters there what it loads. So code is loaded by that one where GDB shall see it (see `jit`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import elf

if TYPE_CHECKING:
    from .jit import Code

PERF_VARIABLE = "STEPWELL_PERF_MAP"
GDB_VARIABLE = "STEPWELL_GDB"
"""Either is on where it is set to anything but nothing or `0`."""

TASK_PREFIX = "stepwell.task."
MOST_NAME = 240
"""Characters of a name in perf's map; perf cuts what is longer than its own bound anywhere."""

_lock = threading.Lock()
_lines: list[str] = []
_written_by = 0  # the process whose file has all lines


def wants_map() -> bool:
    """Whether perf's map shall be written."""
    return _is_on(PERF_VARIABLE)


def wants_gdb() -> bool:
    """Whether GDB shall see code that is loaded from now on."""
    return _is_on(GDB_VARIABLE)


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def write_map(code: Code, images: Sequence[bytes], nodes: Mapping[str, Sequence[str]]) -> None:
    """Tell perf of code that was loaded from objects whose symbols are exposed (`elf.exposed`). `nodes` has the ONNX
    nodes of kernels. It never fails: a warning says that the map cannot be written."""
    write_lines([line for image in images for line in map_lines(image, section_addresses(image, code), nodes)])


def section_addresses(image: bytes, code: Code) -> dict[int, int]:
    """Where the object's sections with functions were loaded; those are left out that were not loaded as one piece."""
    found: dict[int, set[int]] = {}
    for function in elf.functions_of(image):
        if not function.is_local:
            found.setdefault(function.section, set()).add(code.address(function.name) - function.offset)
    return {section: next(iter(starts)) for section, starts in found.items() if len(starts) == 1}


def map_lines(image: bytes, addresses: Mapping[int, int], nodes: Mapping[str, Sequence[str]]) -> list[str]:
    """The lines of perf's map for an object's functions."""
    return [
        f"{addresses[function.section] + function.offset:x} {function.size:x} {shown(function.name, nodes)}\n"
        for function in elf.functions_of(image)
        if function.section in addresses and function.size
    ]


def shown(symbol: str, nodes: Mapping[str, Sequence[str]]) -> str:
    """`k_conv [conv + relu]`: a symbol with the ONNX nodes of its kernel, on one line whatever they are called."""
    given = nodes.get(symbol.removeprefix(TASK_PREFIX), ())
    text = f"{symbol} [{' + '.join(given)}]" if given else symbol
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= MOST_NAME else clean[: MOST_NAME - 4] + "...]"


def map_path(pid: int) -> str:
    """Where perf looks for the map of a process."""
    return f"/tmp/perf-{pid}.map"


def write_lines(lines: Sequence[str]) -> None:
    """Append lines to this process's map; in a child after fork, also those of what its parent had loaded."""
    global _written_by
    with _lock:
        _lines.extend(lines)
        if not _written_by:
            os.register_at_fork(after_in_child=_after_fork)
        pid = os.getpid()
        added = _lines if _written_by != pid else lines
        path = map_path(pid)
        try:
            if _written_by != pid:
                drop_stale(path, process_start())
            append(path, "".join(added))
        except OSError as error:
            warnings.warn(f"{path} cannot be written: {error}", stacklevel=2)
        _written_by = pid


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    write_lines([])


def process_start() -> float:
    """When this process began, in seconds as files count them; 0 where the system does not tell."""
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def drop_stale(path: str | os.PathLike[str], start: float) -> None:
    """Remove a map that a process of the same number left, which ended before this one began at `start`. Raises
    OSError where it cannot be removed; what others have written during this process stays."""
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_mtime < start - 1:
            os.unlink(path)


def append(path: str | os.PathLike[str], text: str) -> None:
    """Add text to a file of our own by one write; a link, and a file that is someone else's, is refused with OSError:
    the folder is everybody's."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{path} is not a file of this user's")
        data = text.encode()
        if data and os.write(descriptor, data) != len(data):
            raise OSError(f"{path}: only a part was written")
    finally:
        os.close(descriptor)
