"""What can be compiled: an ONNX model in a file, in bytes or as a ModelProto; IR as a module, a text or a file.

    opened = open_source("model.onnx")     # its bytes are at hand, nothing is parsed
    module, hints = opened.load(shapes)    # as often as needed: always what was opened
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np

from stepwell.dialects.builtin import ModuleOp
from stepwell.errors import ModelError
from stepwell.frontends.onnx.files import ExternalFiles, map_model, read_object
from stepwell.ir.core import Block, Operation, Region
from stepwell.ir.resources import WeightsFolder, module_of_bytes
from stepwell.ir.verifier import verify
from stepwell.memory import Bytes, as_bytes
from stepwell.plugins import load_installed

# Symbol -> its size, or a hint (least, usual, most) for schedules; input's name -> its shape.
Shapes = Mapping[str, "int | Sequence[int | str]"]
Values = Mapping[str, "np.ndarray[Any, Any]"]
Hints = dict[str, tuple[int, int, int]]


class OtherFiles(Protocol):
    """The files that a source names, besides its own: `mapped` has those that were used, by what it calls them."""

    mapped: dict[str, Bytes]

    def file(self, name: str) -> Bytes:
        """A file's bytes. Raises StepwellError, OSError or ValueError where there is none."""
        ...


@attrs.frozen(eq=False)
class Source:
    """A source whose bytes are at hand; it stays what it is, whatever becomes of its file."""

    kind: str
    """`onnx`, or `ir` for text."""
    label: str
    """What it is called in messages and locations."""
    data: Bytes
    files: OtherFiles

    def load(self, shapes: Shapes | None = None, values: Values | None = None) -> tuple[Operation, Hints]:
        """(the module, hints for the sizes of symbols). Inputs of an ONNX model that are in `values` are constants.
        Raises ModelError, ParseError or VerifyError."""
        if self.kind == "ir":
            assert isinstance(self.files, WeightsFolder)
            return _checked(module_of_bytes(self.data.tobytes(), self.label, self.files)), _only_hints(shapes)
        from stepwell.frontends.onnx.model import parse_model

        assert isinstance(self.files, ExternalFiles)
        return _import(parse_model(self.data, self.label, self.files), shapes, values)

    def again(self) -> Source:
        """The same source before any of its other files was used."""
        return attrs.evolve(self, files=attrs.evolve(self.files, mapped={}))  # type: ignore[misc]


@attrs.frozen(eq=False)
class Held:
    """A source that is a Python object: a module, which is copied, or a ModelProto or loaded model."""

    object: Any

    def load(self, shapes: Shapes | None = None, values: Values | None = None) -> tuple[Operation, Hints]:
        """As that of `Source`."""
        if isinstance(self.object, Operation):
            return _checked(self.object.clone()), _only_hints(shapes)
        from stepwell.frontends.onnx.model import load_model

        return _import(load_model(self.object), shapes, values)

    def as_bytes(self) -> Source | None:
        """The same as bytes, for a ModelProto that has them: not for one of 2 GiB or more."""
        onnx = sys.modules.get("onnx")
        if onnx is None or not isinstance(self.object, onnx.ModelProto):
            return None
        from stepwell.frontends.onnx.element_types import text

        try:
            label = text(self.object.graph.name) or "the model"
            return Source("onnx", label, as_bytes(self.object.SerializeToString()), ExternalFiles())
        except Exception:  # protobuf has no common class of errors for this
            return None


def open_source(source: Any) -> Source | Held:
    """Open what people give to be compiled. Raises ModelError where it cannot be read.

    Text is IR if it has a line break, a path if it has none."""
    if isinstance(source, str) and "\n" in source:
        return Source("ir", "<text>", as_bytes(source.encode("utf-8", "surrogatepass")), WeightsFolder())
    if isinstance(source, (str, os.PathLike)):
        return _open_path(Path(os.fspath(source)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Source("onnx", "the model", as_bytes(bytes(source)), ExternalFiles())
    if hasattr(source, "read") and not isinstance(source, Operation):
        data, named = read_object(source)
        folder = named.parent if named is not None and named.is_file() else None
        return Source("onnx", named.name if named else "the model", as_bytes(data), ExternalFiles(folder))
    return Held(source)


def _open_path(path: Path) -> Source:
    if path.suffix != ".mlir":
        return Source("onnx", path.name, map_model(path), ExternalFiles(path.parent))
    try:
        return Source("ir", str(path), as_bytes(path.read_bytes()), WeightsFolder(path.parent))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None


def load_source(source: Any, shapes: Shapes | None = None) -> tuple[Operation, Hints]:
    """(the module, hints for the sizes of symbols). Raises ModelError, ParseError or VerifyError."""
    load_installed()
    return open_source(source).load(shapes)


def _checked(module: Operation) -> Operation:
    """The module, verified; a function alone is put into one, as MLIR's own tools do."""
    verify(module)
    if isinstance(module, ModuleOp):
        return module
    return ModuleOp.make(regions=[Region([Block((), [module])])])


def _import(model: Any, shapes: Shapes | None, values: Values | None) -> tuple[Operation, Hints]:
    from stepwell.frontends.onnx.importer import import_model

    inputs = {port.name for port in model.proto.graph.input}
    hints = {name: _hint(value) for name, value in (shapes or {}).items() if name not in inputs and is_hint(value)}
    fixed = {name: value for name, value in (shapes or {}).items() if name not in hints}
    return import_model(model, shapes=fixed, values=values), hints


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
