"""What LLVM says of itself and of this machine, kept in the cache folder: asking it means to import it, which takes
longer than to load a model that was compiled before.

    facts().cpu, facts().version

A record is known by what it depends on: the processor as Linux describes it, and the file of LLVM's library. Where
either cannot be told, or there is no folder, LLVM is asked each time."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
from typing import NamedTuple

from stepwell.engine.folder import Usual, usual

from . import llvm

SHELF = "machine"
KEPT = 1 << 16  # bytes of records
_LONGEST = 1 << 14

# What a line of /proc/cpuinfo begins with that tells processors apart; others are of one core, or of the moment.
_TELLING = (
    "vendor_id", "cpu family", "model", "stepping", "flags",
    "Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
)  # fmt: skip


class Facts(NamedTuple):
    """This process's triple, the processor's name and LLVM's feature string of it (`+avx2,-sse4a`), and the version of
    what makes code: `llvmlite 0.48.0, LLVM 20.1.8`."""

    triple: str
    cpu: str
    features: str
    version: str


@functools.cache
def facts() -> Facts:
    """The facts, from the folder if it has them."""
    found, name = usual(), _name()
    kept = _read(found, name) if found and name else None
    if kept is None:
        kept = _asked()
        if found and name:
            _write(found, name, kept)
    return kept


def _asked() -> Facts:
    binding = llvm.binding()
    flags = binding.get_host_cpu_features()
    features = ",".join(f"{'+' if on else '-'}{flag}" for flag, on in sorted(flags.items()))
    return Facts(binding.get_process_triple(), binding.get_host_cpu_name(), features, llvm.version())


def _name() -> str | None:
    """The name of the record; None where what it depends on cannot be told."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = {line for line in file.read().splitlines() if line.startswith(_TELLING)}
        library = _library()
        status = os.stat(library)
    except (OSError, ValueError, LookupError):
        return None
    depends = [sorted(lines), library, status.st_size, status.st_mtime_ns]
    return f"{hashlib.blake2b(json.dumps(depends).encode(), digest_size=16).hexdigest()}.json"


def _library() -> str:
    """The file of LLVM's library, which is not imported for that. Raises LookupError, OSError."""
    package = importlib.util.find_spec("llvmlite")
    for folder in package.submodule_search_locations or () if package else ():
        inside = os.path.join(folder, "binding")
        for name in sorted(os.listdir(inside) if os.path.isdir(inside) else ()):
            if "llvmlite" in name and os.path.isfile(path := os.path.join(inside, name)):
                return path
    raise LookupError("llvmlite")


def _read(found: Usual, name: str) -> Facts | None:
    try:
        with os.fdopen(found.folder.open(SHELF, name), "rb") as file:
            fields = json.loads(file.read(_LONGEST))
        made = Facts(**fields)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return made if all(isinstance(value, str) and value for value in made) else None


def _write(found: Usual, name: str, kept: Facts) -> None:
    with contextlib.suppress(OSError):
        with found.folder.writing(SHELF, name) as file:
            file.write(json.dumps(kept._asdict()).encode())
        found.folder.shrink(SHELF, KEPT)
