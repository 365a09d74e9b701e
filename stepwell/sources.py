"""What can be compiled: an ONNX model in a file, in bytes or as a ModelProto; IR as a module, a text or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepwell.dialects.builtin import ModuleOp
from stepwell.errors import ModelError
from stepwell.ir.core import Block, Operation, Region
from stepwell.ir.resources import module_of_text, read_module
from stepwell.ir.verifier import verify
from stepwell.plugins import load_installed

# Symbol -> its size, or a hint (least, usual, most) for schedules; input's name -> its shape.
Shapes = Mapping[str, "int | Sequence[int | str]"]
Hints = dict[str, tuple[int, int, int]]


def load_source(source: Any, shapes: Shapes | None = None) -> tuple[Operation, Hints]:
    """(the module, hints for the sizes of symbols). Raises ModelError, ParseError or VerifyError.

    A module that is given is copied. Text is IR if it has a line break, a path if it has none."""
    load_installed()
    if isinstance(source, Operation):
        return _checked(source.clone()), _only_hints(shapes)
    if isinstance(source, str) and "\n" in source:
        return _checked(module_of_text(source)), _only_hints(shapes)
    if isinstance(source, (str, os.PathLike)) and Path(os.fspath(source)).suffix == ".mlir":
        try:
            return _checked(read_module(os.fspath(source))), _only_hints(shapes)
        except OSError as error:
            raise ModelError(f"{os.fspath(source)} cannot be read: {error}") from None
    return _import(source, shapes)


def _checked(module: Operation) -> Operation:
    """The module, verified; a function alone is put into one, as MLIR's own tools do."""
    verify(module)
    if isinstance(module, ModuleOp):
        return module
    return ModuleOp.make(regions=[Region([Block((), [module])])])


def _import(source: Any, shapes: Shapes | None) -> tuple[Operation, Hints]:
    from stepwell.frontends.onnx.importer import import_model
    from stepwell.frontends.onnx.model import load_model

    model = load_model(source)
    inputs = {port.name for port in model.proto.graph.input}
    hints = {name: _hint(value) for name, value in (shapes or {}).items() if name not in inputs and is_hint(value)}
    fixed = {name: value for name, value in (shapes or {}).items() if name not in hints}
    return import_model(model, shapes=fixed), hints


def is_hint(value: Any) -> bool:
    """Whether a value of `shapes` is (least, usual, most)."""
    return isinstance(value, Sequence) and len(value) == 3 and all(isinstance(item, int) for item in value)


def _hint(value: Any) -> tuple[int, int, int]:
    least, usual, most = value
    if not 0 <= least <= usual <= most:
        raise ModelError(f"shapes: {value} is not (least, usual, most)")
    return least, usual, most


def _only_hints(shapes: Shapes | None) -> Hints:
    fixed = [name for name, value in (shapes or {}).items() if not is_hint(value)]
    if fixed:
        raise ModelError(f"the shapes of IR are written in it; {', '.join(fixed)} cannot be set from outside")
    return {name: _hint(value) for name, value in (shapes or {}).items()}
