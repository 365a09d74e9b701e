"""The run time that all compiled models share (team and native entry), compiled for this machine once per process."""

from __future__ import annotations

import ctypes
import threading

import numpy as np

from . import abi, cache, entry_ir, heap_ir, jit, target, team_block, team_ir

PASSES = ("sroa", "simplifycfg")

_lock = threading.Lock()
_code: jit.Code | None = None
_offered: dict[str, bytes] = {}


def code() -> jit.Code:
    """The run time's code; it stays loaded until the process ends."""
    global _code
    with _lock:
        if _code is None:
            _code = _load()
        return _code


def externals() -> dict[str, int]:
    """What compiled models are linked with: the functions of `abi.RUNTIME_DECLARATIONS`."""
    runtime = code()
    return {name: runtime.address(name) for name in abi.RUNTIME_FUNCTIONS}


def runtime_ir(arch: str) -> str:
    """The whole run time as one LLVM module."""
    return "\n".join([team_ir.team_ir(arch), heap_ir.heap_ir(), entry_ir.entry_ir(team_block.MAIN_THREAD)])


def shipped() -> tuple[str, bytes]:
    """The run time's object, for engine files, and the key that it is known by."""
    text, machine = _source()
    return cache.object_key(text, machine, 2, PASSES), _image()


def offer(key: str, image: bytes) -> None:
    """Where the run time is not loaded yet and has this key, `image` spares compiling it."""
    if _code is None:
        _offered[key] = image


def _load() -> jit.Code:
    image = _image()
    _offered.clear()
    return jit.load([image], _python_symbols())


def _image() -> bytes:
    text, machine = _source()
    offered = _offered.get(cache.object_key(text, machine, 2, PASSES)) if _offered else None
    return offered or jit.compile_objects([text], machine, passes=PASSES, cache=cache.default())[0]


def _source() -> tuple[str, target.CpuTarget]:
    """The IR and the plainest processor of this architecture, which needs no more: every machine has the same key."""
    arch = target.host().arch
    return runtime_ir(arch), target.named({"x86_64": "x86-64"}.get(arch, arch))


def _python_symbols() -> dict[str, int]:
    symbols = {name: _address(getattr(ctypes.pythonapi, name)) for name in entry_ir.PYTHON_FUNCTIONS}
    type_error = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyExc_TypeError")
    return symbols | {
        "sw_array_type": id(np.ndarray),
        "sw_none": id(None),
        "sw_type_error": ctypes.addressof(type_error),
    }


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
