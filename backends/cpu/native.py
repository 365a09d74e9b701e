"""The run time that all compiled models share (team and native entry), compiled for this machine once per process."""

from __future__ import annotations

import ctypes
import threading

import numpy as np

from . import abi, entry_ir, heap_ir, jit, target, team_block, team_ir

_lock = threading.Lock()
_code: jit.Code | None = None


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


def _load() -> jit.Code:
    this = target.host()
    image = jit.compile_object(runtime_ir(this.arch), this, passes=("sroa", "simplifycfg"))
    return jit.load([image], _python_symbols())


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
