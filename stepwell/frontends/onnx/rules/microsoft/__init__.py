"""Operators of the domain com.microsoft, which onnxruntime's optimiser and exporters put into models."""

from __future__ import annotations

import importlib
import pkgutil

for _info in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_info.name}")
