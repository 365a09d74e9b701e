"""Plug-ins: Python files and installed packages that bring dialects, import rules, lowering rules or passes.

A plug-in registers its rules and passes by decorators as it is imported; its dialect is the module's `DIALECT`. An
installed package names its module in the entry-point group `stepwell.dialects`."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stepwell.errors import ModelError, StepwellError
from stepwell.ir.origins import note_plugin
from stepwell.ir.registry import REGISTRY, Dialect

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "stepwell.dialects"


def load_plugin(path: str | os.PathLike[str]) -> ModuleType:
    """Run the Python file of a plug-in; once, however often it is asked for. Returns its module.

    Raises ModelError for a file that does not exist or fails, IRError for a name that another dialect has."""
    file = Path(path).resolve()
    if file.suffix != ".py" or not file.is_file():
        raise ModelError(f"plug-in {path}: no such Python file")
    return _run_file(file)


@functools.cache
def _run_file(file: Path) -> ModuleType:
    name = f"stepwell_plugin_{file.stem}"
    loaded = next((m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(file)), None)
    if loaded is not None:  # imported already, under a name of its own: its rules are registered
        _register(loaded)
        return loaded
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    note_plugin(name)  # also where it fails half way
    try:
        spec.loader.exec_module(module)
    except StepwellError:
        raise
    except Exception as error:
        raise ModelError(f"plug-in {file}: {type(error).__name__}: {error}") from error
    _register(module)
    return module


@functools.cache
def load_installed() -> None:
    """Import every installed plug-in; once per process. Raises ModelError naming one that fails."""
    from importlib.metadata import entry_points  # as long as loading an engine file takes

    for entry in entry_points(group=GROUP):
        _register(_imported(entry))


def _imported(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except StepwellError:
        raise
    except Exception as error:
        who = entry.dist.name if entry.dist is not None else "an installed package"
        raise ModelError(f"plug-in {entry.name!r} of {who} ({entry.value}): {type(error).__name__}: {error}") from error


def _register(plugin: Any) -> None:
    note_plugin(str(getattr(plugin, "__name__", None) or getattr(plugin, "name", plugin)))
    dialect = plugin if isinstance(plugin, Dialect) else getattr(plugin, "DIALECT", None)
    if dialect is not None:
        REGISTRY.register(dialect)
