"""The graph dialect: what is computed, on tensors with value semantics. One canonical operator set for importers."""

from __future__ import annotations

import importlib
import pkgutil

from stepwell.ir.registry import Dialect

_MODULES = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]

_MEMBERS = [member for module in _MODULES for member in vars(module).values()]

DIALECT = Dialect.of_module("graph", _MEMBERS, __doc__, landing="graph")
