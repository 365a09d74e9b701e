"""Compiled objects on disk, by what they are made from: the second compilation of a kernel is reading a file.

    cache = default()
    image = cache.get(key) if cache else None

The key is a hash of the LLVM IR text, the processor, LLVM's version and level; the text says all else. A file is
written under another name and renamed, so any number of processes may read and write at once without a lock; the worst
is that two of them compile the same kernel.
Each file carries a checksum of key and object: what is damaged is compiled anew.

An object is as trusted as a shared library, so the folder is private to its owner: made with mode 0700, and not used
where it belongs to someone else or others may write to it. All files are reached through the descriptor of the folder
that was checked, so another folder cannot take its place.

Its size is bounded: a shard (a subfolder, by the key's first digits) that gets too large loses what was not
used for longest.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import stat
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import llvm

if TYPE_CHECKING:
    from .target import CpuTarget

FOLDER_VARIABLE = "STEPWELL_CACHE"
"""`off` or `0`: no cache. Else the folder, which is `stepwell` in $XDG_CACHE_HOME or ~/.cache where this is not set."""

SIZE_VARIABLE = "STEPWELL_CACHE_MIB"
"""The most that the folder may hold, in MiB."""

DEFAULT_MIB = 256
SHARDS = 64
STALE_SECONDS = 3600
"""A file that is still being written after that long has lost its writer."""

_MAGIC = b"WELLOBJ1"
_DIGEST_BYTES = 32


class ObjectCache:
    """Objects in a folder; safe for any number of threads and processes. It never fails: at worst it has nothing."""

    def __init__(self, folder: int, limit: int) -> None:
        """`folder` is a descriptor, kept as long as the process lives; `limit` the most bytes there."""
        self._folder = folder
        self._shard_limit = limit // SHARDS

    @staticmethod
    def at(path: Path, limit: int) -> ObjectCache:
        """The cache in a folder, which is made where it does not exist. Raises OSError where it cannot be used, also
        for one that belongs to someone else or that others may write to."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_private(folder)
        except OSError:
            os.close(folder)
            raise
        return ObjectCache(folder, limit)

    def get(self, key: str) -> bytes | None:
        """The object, or None."""
        try:
            descriptor = os.open(_name(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read()
            os.utime(_name(key), dir_fd=self._folder)
        except OSError:
            return None
        image = data[len(_MAGIC) + _DIGEST_BYTES :]
        if data[: -len(image)] == _head(key, image) and image:
            return image
        with contextlib.suppress(OSError):
            os.unlink(_name(key), dir_fd=self._folder)
        return None

    def put(self, key: str, image: bytes) -> None:
        """Keep an object. A full disk, or an object that takes more than a shard may, keeps nothing."""
        if len(image) > self._shard_limit:
            return
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkdir(_shard(key), 0o700, dir_fd=self._folder)
            self._write(key, _head(key, image) + image)
            self._shrink(_shard(key))

    def _write(self, key: str, data: bytes) -> None:
        temporary = f"{_shard(key)}/{secrets.token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, 0o600, dir_fd=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, _name(key), src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._folder)
            raise

    def _shrink(self, shard: str) -> None:
        """Drop what was not used for longest, and what killed writers have left, until the shard is small enough."""
        found = sorted(self._files(shard))
        total = sum(size for _, size, _ in found)
        stale = time.time() - STALE_SECONDS
        for used, size, name in found:
            is_being_written = name.endswith(".part") and used >= stale
            if is_being_written or (total <= self._shard_limit and not name.endswith(".part")):
                continue
            total -= size
            with contextlib.suppress(OSError):
                os.unlink(f"{shard}/{name}", dir_fd=self._folder)

    def _files(self, shard: str) -> Iterator[tuple[float, int, str]]:
        """(time of last use, bytes, name) of a shard's files."""
        descriptor = os.open(shard, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield status.st_mtime, status.st_size, entry.name
        finally:
            os.close(descriptor)


def default() -> ObjectCache | None:
    """The cache that the environment names; None where it is turned off or cannot be used, which a warning says."""
    return _opened(os.environ.get(FOLDER_VARIABLE, ""), os.environ.get(SIZE_VARIABLE, ""), os.geteuid())


@functools.cache
def _opened(named: str, size: str, user: int) -> ObjectCache | None:
    if named.lower() in ("off", "0"):
        return None
    try:
        limit = int(size) if size else DEFAULT_MIB
        path = Path(named) if named else _usual_folder()
        return ObjectCache.at(path, limit << 20) if limit > 0 else None
    except (OSError, ValueError, RuntimeError) as error:
        warnings.warn(f"kernels are not cached: {error}; {FOLDER_VARIABLE}=off says that this is meant", stacklevel=2)
        return None


def _usual_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "stepwell"


def object_key(text: str, target: CpuTarget, opt: int, passes: Sequence[str]) -> str:
    """The name of what LLVM makes of a text: hexadecimal, the same in every process and on every machine."""
    made = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (llvm.version(), target.triple, target.cpu, target.features, str(opt), ",".join(passes), text):
        data = part.encode()
        made.update(len(data).to_bytes(8, "little") + data)
    return made.hexdigest()


def _check_private(folder: int) -> None:
    status = os.fstat(folder)
    if status.st_uid != os.geteuid():
        raise PermissionError("the folder belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others may write to the folder")


def _shard(key: str) -> str:
    return f"{int(key[:2], 16) % SHARDS:02x}"


def _name(key: str) -> str:
    return f"{_shard(key)}/{key}"


def _head(key: str, image: bytes) -> bytes:
    return _MAGIC + hashlib.blake2b(key.encode() + image, digest_size=_DIGEST_BYTES).digest()
