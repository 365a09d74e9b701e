"""What makes code of models: the files of this Stepwell, and the versions of what it builds on.

A process runs the files that it loaded, not those that lie on the disk now. So a digest of files stands for a process
only where none of them was changed after the process had begun to load them."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np

import stepwell

BUILT_ON = ("onnx", "ml_dtypes", "protobuf", "attrs")
"""Packages that take part in making code; LLVM's version is in the digest as well, and NumPy's, and Python's."""

SLACK_NS = 50_000_000
"""Times of files may be this much behind the clock."""

Listing = tuple[tuple[str, int, int], ...]


def fingerprint() -> str | None:
    """A digest of what makes code in this process; None where that is not known, or was changed while it runs."""
    listing = tuple(_files())
    if not listing or any(changed >= stepwell._LOADED - SLACK_NS for _, _, changed in listing):
        return None
    return _digest(listing)


def _files() -> Iterator[tuple[str, int, int]]:
    """(path, bytes, time of the last change in ns) of all files of the package, but for what Python derives of them."""
    folders = list(getattr(stepwell, "__path__", []))
    while folders:
        try:
            entries = sorted(os.scandir(folders.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    folders.append(entry.path)
            elif entry.is_file():
                status = entry.stat()
                yield entry.path, status.st_size, status.st_ctime_ns


@functools.lru_cache(maxsize=1)
def _digest(listing: Listing) -> str | None:
    made = hashlib.blake2b(digest_size=32)
    root = os.path.dirname(os.path.abspath(stepwell.__file__))
    try:
        for path, _, _ in listing:
            with open(path, "rb") as file:
                data = file.read()
            for part in (os.path.relpath(path, root).encode(), data):
                made.update(len(part).to_bytes(8, "little") + part)
    except OSError:
        return None
    if not any(path.endswith(".py") for path, _, _ in listing):
        return None
    for text in (sys.version, np.__version__, *map(_version, BUILT_ON)):
        made.update(text.encode() + b"\0")
    return made.hexdigest()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
