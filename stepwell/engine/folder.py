"""The cache folder: files that are private to their owner, bounded in size, and never missed.

    folder = usual()                                  # as the environment says, or None
    with folder.writing("models", name) as file: ...  # takes its name at the end, or never
    descriptor = folder.open("models", name)
    folder.shrink("models", limit)

What is in it is machine code, as trusted as a shared library. So the folder is private to its owner: made with mode
0700, and not used where it belongs to someone else or others may write to it. All files are reached through the
descriptor of the folder that was checked, so another folder cannot take its place. They lie on shelves (subfolders).

A file is written under another name and renamed, so any number of processes may read and write at once without a lock;
the worst is that two of them make the same. A shelf that gets too large loses what was not used for longest."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
import warnings
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import attrs

FOLDER_VARIABLE = "STEPWELL_CACHE"
"""`off` or `0`: no cache. Else the folder, which is `stepwell` in $XDG_CACHE_HOME or ~/.cache where this is not set."""

SIZE_VARIABLE = "STEPWELL_CACHE_MIB"
"""The most that the folder may hold, in MiB."""

DEFAULT_MIB = 2048
STALE_SECONDS = 3600
"""A file that is still being written after that long has lost its writer."""

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


@attrs.frozen
class PrivateFolder:
    """A folder of this process's user alone. `descriptor` is kept as long as the process lives."""

    descriptor: int

    @staticmethod
    def at(path: str | os.PathLike[str]) -> PrivateFolder:
        """The folder, which is made where it does not exist. Raises OSError where it cannot be used, also for one that
        belongs to someone else or that others may write to."""
        path = os.fspath(path).rstrip("/") or "/"
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_private(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return PrivateFolder(descriptor)

    def open(self, shelf: str, name: str) -> int:
        """A descriptor for reading a file, which counts as used from now on. Raises OSError."""
        descriptor = os.open(f"{shelf}/{name}", _READ | os.O_NONBLOCK, dir_fd=self.descriptor)
        with contextlib.suppress(OSError):
            os.utime(f"{shelf}/{name}", dir_fd=self.descriptor)
        return descriptor

    def has(self, shelf: str, name: str) -> bool:
        """Whether there is such a file."""
        return os.access(f"{shelf}/{name}", os.R_OK, dir_fd=self.descriptor)

    def remove(self, shelf: str, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(OSError):
            os.unlink(f"{shelf}/{name}", dir_fd=self.descriptor)

    @contextlib.contextmanager
    def writing(self, shelf: str, name: str) -> Iterator[BinaryIO]:
        """A new file that takes its name at the end; it is gone where the block fails. Raises OSError."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(shelf, 0o700, dir_fd=self.descriptor)
        temporary = f"{os.urandom(8).hex()}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        made = os.open(f"{shelf}/{temporary}", flags, 0o600, dir_fd=self.descriptor)
        try:
            with os.fdopen(made, "wb") as file:
                yield file
            places = {"src_dir_fd": self.descriptor, "dst_dir_fd": self.descriptor}
            os.replace(f"{shelf}/{temporary}", f"{shelf}/{name}", **places)
        except BaseException:
            self.remove(shelf, temporary)
            raise

    def free_bytes(self) -> int:
        """What the disk has left for this user. Raises OSError."""
        found = os.fstatvfs(self.descriptor)
        return found.f_bavail * found.f_frsize

    def shrink(self, shelf: str, limit: int) -> None:
        """Drop what was not used for longest, and what killed writers have left, until the shelf has at most `limit`
        bytes. Raises OSError."""
        found = sorted(self._files(shelf))
        total = sum(size for _, size, _ in found)
        stale = time.time() - STALE_SECONDS
        for used, size, name in found:
            is_being_written = name.endswith(".part") and used >= stale
            if is_being_written or (total <= limit and not name.endswith(".part")):
                continue
            total -= size
            self.remove(shelf, name)

    def _files(self, shelf: str) -> Iterator[tuple[float, int, str]]:
        """(time of last use, bytes, name) of a shelf's files."""
        descriptor = os.open(shelf, _READ | os.O_DIRECTORY, dir_fd=self.descriptor)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield status.st_mtime, status.st_size, entry.name
        finally:
            os.close(descriptor)


class Usual(NamedTuple):
    """The folder that the environment names, and the most bytes it may hold."""

    folder: PrivateFolder
    limit: int

    @property
    def for_kernels(self) -> int:
        """The part of it that compiled kernels may take: an eighth."""
        return self.limit // 8

    @property
    def for_models(self) -> int:
        """The part of it that whole models may take."""
        return self.limit - self.for_kernels


def usual() -> Usual | None:
    """The folder that the environment names; None where caching is turned off, or where the folder cannot be used,
    which a warning says."""
    return _opened(os.environ.get(FOLDER_VARIABLE, ""), os.environ.get(SIZE_VARIABLE, ""), os.geteuid())


@functools.cache
def _opened(named: str, size: str, user: int) -> Usual | None:
    if named.lower() in ("off", "0"):
        return None
    try:
        limit = int(size) if size else DEFAULT_MIB
        path = named or _usual_path()
        return Usual(PrivateFolder.at(path), limit << 20) if limit > 0 else None
    except (OSError, ValueError, RuntimeError) as error:
        warnings.warn(f"compiled code is not cached: {error}; {FOLDER_VARIABLE}=off says that this is meant",
                      stacklevel=2)  # fmt: skip
        return None


def _usual_path() -> str:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
        if not os.path.isabs(base):
            raise RuntimeError("the user has no home directory")
    return os.path.join(base, "stepwell")


def _check_private(folder: int) -> None:
    status = os.fstat(folder)
    if status.st_uid != os.geteuid():
        raise PermissionError("the folder belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others may write to the folder")
