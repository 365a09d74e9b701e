"""Stepwell: a compiler for ONNX models that lowers, step by readable step, to machine code."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

from stepwell import errors
from stepwell.errors import RuntimeError as RuntimeError
from stepwell.errors import StepwellError as StepwellError

if TYPE_CHECKING:
    from stepwell.api import InferenceSession as InferenceSession
    from stepwell.api import Model as Model
    from stepwell.api import compile as compile
    from stepwell.engine.model import load as load
    from stepwell.plugins import load_plugin as load_plugin
    from stepwell.state import State as State

__version__ = "0.1.0"

_LOADED = time.time_ns()
"""When this process began to load Stepwell: files that were changed later are not what it runs."""

_LAZY = {
    "compile": "stepwell.api",
    "Model": "stepwell.api",
    "InferenceSession": "stepwell.api",
    "State": "stepwell.state",
    "load": "stepwell.engine.model",
    "load_plugin": "stepwell.plugins",
}
__all__ = [
    "InferenceSession", "Model", "RuntimeError", "State", "StepwellError", "compile", "errors", "load", "load_plugin",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the compiler at its first use: `import stepwell` itself stays fast."""
    if name not in _LAZY:
        raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
    from stepwell.collector import paused_collector

    with paused_collector(lasting=True):
        return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
