"""Modules in files: IR text whose constants lie in a weights file beside it.

A text ends with `{-# external_resources: { stepwell: { w0: "weights.bin:offset:size:hash" } } #-}`; offset and size are
bytes, the hash is the blob's BLAKE2b digest. Reading maps the file and refuses bytes that do not have that hash."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import attrs
import numpy as np

from stepwell.errors import IRError, ParseError
from stepwell.ir.attributes import DenseResourceAttr
from stepwell.ir.blobs import Array, Blob
from stepwell.ir.core import Operation
from stepwell.ir.parser import Parser
from stepwell.ir.printer import PrintOptions, blobs_of, print_op, resource_key, resources_text
from stepwell.ir.types import TensorType, numpy_dtype
from stepwell.memory import Bytes, map_file
from stepwell.outputs import Outputs, naming

WITH_LOCATIONS = PrintOptions(locations=True)
ALIGNMENT = 64  # bytes; the start of every blob in the file


class WeightsFile:
    """Appends blobs to a file, each content once: to one of `files`, else in place."""

    def __init__(self, path: str | os.PathLike[str], files: Outputs | None = None) -> None:
        self.path = Path(path)
        self._files = files
        self._new: IO[bytes] | None = None
        self._places: dict[tuple[str, int], int] = {}  # (digest, size) -> offset
        self._end = 0

    def place(self, blob: Blob) -> str:
        """Where the blob's bytes lie, writing them at the first mention. Raises OutputError."""
        data = np.ascontiguousarray(blob.array).reshape(-1)
        key = (blob.digest, data.nbytes)
        if key not in self._places:
            if self._files is not None:
                self._new = self._new or self._files.new(self.path)
                self._append(self._new, data, key)
            else:
                with naming(self.path), self.path.open("r+b" if self._end else "wb") as file:
                    self._append(file, data, key)
        return f"{self.path.name}:{self._places[key]}:{data.nbytes}:{blob.digest}"

    def _append(self, file: IO[bytes], data: Array, key: tuple[str, int]) -> None:
        start = -(-self._end // ALIGNMENT) * ALIGNMENT
        file.seek(start)
        file.write(data.view(np.uint8).data)
        self._places[key] = start
        self._end = start + data.nbytes


def unique_blob_names(module: Operation) -> None:
    """Rename blobs, so that each of a module's has a resource key of its own."""
    taken: dict[str, Blob] = {}
    for attribute in _resources(module):
        blob, base, count = attribute.blob, attribute.blob.name, 0
        while taken.setdefault(resource_key(blob), blob) is not blob:
            count += 1
            blob.name = f"{base}_{count}"


def module_text(module: Operation, weights: WeightsFile, options: PrintOptions = WITH_LOCATIONS) -> str:
    """A module's text with the section that says where its constants lie; writes them to the weights file."""
    unique_blob_names(module)
    places = {key: weights.place(blob) for key, blob in blobs_of(module).items()}
    return print_op(module, options) + "\n" + (resources_text(places) if places else "")


@attrs.define(eq=False)
class WeightsFolder:
    """The weights files of a text, which lie in its folder, each mapped at its first use; `folder` None: there are
    none. `mapped` has them by name."""

    folder: Path | None = None
    mapped: dict[str, Bytes] = attrs.Factory(dict)

    def file(self, name: str) -> Bytes:
        """A file's bytes. Raises IRError for a name that leads elsewhere, and OSError."""
        if self.folder is None:
            raise IRError("a text without a file has no folder in which it could lie")
        if name in ("", "..") or Path(name).name != name:
            raise IRError("a weights file lies in the folder of its text")
        if name not in self.mapped:
            with open(self.folder / name, "rb") as file:
                self.mapped[name] = map_file(file.fileno(), os.fstat(file.fileno()).st_size)
        return self.mapped[name]


def read_module(path: str | os.PathLike[str]) -> Operation:
    """The module in a file, its constants mapped into memory. Raises ParseError, and OSError for the file itself."""
    path = Path(path)
    return module_of_bytes(path.read_bytes(), str(path), WeightsFolder(path.parent))


def module_of_bytes(data: bytes, filename: str, weights: WeightsFolder) -> Operation:
    """The module that a file's bytes, a text in UTF-8, describe. Raises ParseError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"{filename} cannot be read: it is no text ({error})") from None
    return module_of_text(text.replace("\r\n", "\n").replace("\r", "\n"), filename, weights)


def module_of_text(text: str, filename: str = "<text>", weights: WeightsFolder | None = None) -> Operation:
    """The module that a text describes; `weights` has its weights files. Raises ParseError."""
    weights = weights or WeightsFolder()
    parser = Parser(text, filename)
    try:
        module = parser.module()
    except RecursionError:
        raise ParseError(f"{filename}: nested too deeply") from None
    places = parser.resource_places
    for blob, types in _types_of_blobs(module).items():
        key = resource_key(blob)
        if key not in places:
            raise ParseError(f"{filename}: the text does not say where the resource {key!r} lies")
        try:
            _fill(blob, types, *_bytes_at(places[key], weights))
        except (IRError, OSError, ValueError) as error:
            raise ParseError(f"{filename}: resource {key!r} at {places[key]!r}: {error}") from None
    return module


def _bytes_at(place: str, weights: WeightsFolder) -> tuple[Bytes, str]:
    """(the bytes, their promised hash)."""
    name, offset, size, digest = place.rsplit(":", 3)
    content = weights.file(name)
    start, length = int(offset), int(size)
    if start < 0 or length < 0 or start + length > content.size:
        raise IRError(f"the file has {content.size} bytes")
    return content[start : start + length], digest


def _types_of_blobs(module: Operation) -> dict[Blob, list[TensorType]]:
    found: dict[Blob, list[TensorType]] = {}
    for attribute in _resources(module):
        found.setdefault(attribute.blob, []).append(attribute.type)
    return found


def _resources(module: Operation) -> Iterator[DenseResourceAttr]:
    for op in module.walk():
        for attribute in (*op.properties.values(), *op.attributes.values()):
            if isinstance(attribute, DenseResourceAttr):
                yield attribute


def _fill(blob: Blob, types: Sequence[TensorType], data: Array, digest: str) -> None:
    for type_ in types:
        expected = int(np.prod(type_.static_shape)) * numpy_dtype(type_).itemsize
        if expected != data.size:
            raise IRError(f"{data.size} bytes for {type_}, which has {expected}")
    blob.fill(data.view(numpy_dtype(types[0])).reshape(types[0].static_shape))
    if blob.digest != digest:
        raise IRError(f"the bytes have the hash {blob.digest}: the file was changed or is another model's")
