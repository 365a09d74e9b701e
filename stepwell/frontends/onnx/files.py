"""The files of a model: the model itself, and those beside it that hold its external data. They are mapped, not read.

Nothing here needs the onnx package."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import attrs

from stepwell.errors import ModelError
from stepwell.memory import Bytes, map_file


def map_model(path: Path) -> Bytes:
    """The bytes of a model's file. Raises ModelError."""
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise ModelError(f"{path} {what}")
        with path.open("rb") as file:
            return map_file(file.fileno(), os.fstat(file.fileno()).st_size)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_object(file: Any) -> tuple[bytes, Path | None]:
    """(the bytes of a binary file object, its path where it has one). Raises ModelError."""
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ModelError(f"the model's file object cannot be read: {error}") from None
    if not isinstance(data, bytes):
        raise ModelError("the model's file object gives text; open it in binary mode")
    name = getattr(file, "name", None)
    return data, Path(name) if isinstance(name, str) else None


@attrs.define(eq=False)
class ExternalFiles:
    """The files of a folder that a model's tensors lie in, each mapped at its first use; `folder` None: there are
    none. `mapped` has them by what the model calls them."""

    folder: Path | None = None
    mapped: dict[str, Bytes] = attrs.Factory(dict)

    def file(self, location: str) -> Bytes:
        """A file's bytes. Raises ModelError."""
        if self.folder is None:
            raise ModelError(
                f"its data is in the file {location!r}, and a model given as bytes has no folder: "
                "pass the model's path, or folder="
            )
        if location not in self.mapped:
            self.mapped[location] = _map(_resolve(self.folder, location), location)
        return self.mapped[location]


def _resolve(folder: Path, location: str) -> Path:
    """The real path of an external file. Raises ModelError for one that is not inside the model's folder."""
    parts = PurePosixPath(location).parts
    windows = PureWindowsPath(location)
    if not parts or "\0" in location or windows.is_absolute() or windows.drive or os.path.isabs(location):
        raise ModelError(f"its external file {location!r} must be named by a path relative to the model's folder")
    if ".." in parts or ".." in windows.parts:
        raise ModelError(f"its external file {location!r} climbs out of the model's folder; put it beside the model")
    root = Path(os.path.realpath(folder))
    path = Path(os.path.realpath(root.joinpath(*parts)))
    if not path.is_relative_to(root):
        raise ModelError(
            f"its external file {location!r} is a link out of the model's folder; put the file itself beside the model"
        )
    return path


def _map(path: Path, location: str) -> Bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"its external file {location!r} is not a regular file")
            return map_file(file.fileno(), status.st_size)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"its external file {location!r} cannot be read: {reason} ({path})") from None
