"""Files that are written whole or not at all.

    write("page.html", text)

    with Outputs() as files:                      # all of them, or none
        files.new("digits.so").write(code)
        files.new("digits.h").write(text)

Each is written beside its place under another name, and takes its own at the end: whoever reads finds the old file or
the new one. Devices and pipes are written as they are."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

from attrs import define, frozen

from stepwell.errors import OutputError, StepwellError

Path = str | os.PathLike[str]

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there, or write to another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "write to a folder that may be written to"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), "make the folder first"),
    errno.EISDIR: "name a file in it",
}


def refusal(path: Path, error: OSError) -> str:
    """What to say of a file that cannot be written: its name, why, and what to do."""
    why = f"{os.fspath(path)} cannot be written: {error.strerror or error}"
    advice = _ADVICE.get(error.errno or 0)
    return f"{why}; {advice}" if advice else why


@contextlib.contextmanager
def naming(path: Path, failure: type[StepwellError] = OutputError) -> Iterator[None]:
    """Errors of the system inside are about this file. A reader that has gone away is no error of the file's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise failure(refusal(path, error)) from None


def write(path: Path, content: str | bytes) -> None:
    """Write one file, text in UTF-8. Raises OutputError; what was there before is then as it was."""
    with Outputs() as files:
        files.new(path).write(content.encode() if isinstance(content, str) else content)


@frozen
class _Part:
    """A file that is being written. `temporary` is empty where it is written in place; `mode` is that of the system's
    for new files."""

    path: Path
    target: str
    temporary: str
    file: IO[bytes]
    mode: int

    def finish(self, sync: bool) -> None:
        self.file.flush()
        if self.temporary:
            os.fchmod(self.file.fileno(), self.mode & ~_umask())
            if sync:
                os.fsync(self.file.fileno())
        self.file.close()

    def take_place(self) -> None:
        if self.temporary:
            os.replace(self.temporary, self.target)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        if self.temporary:
            with contextlib.suppress(OSError):
                os.unlink(self.temporary)


@define(init=False)
class Outputs:
    """Files that appear together when the block ends, or not at all where it fails.

    `failure` is what is raised where the system refuses; its text names the file. With `sync` the disk has the bytes
    before a file takes its name. With `in_place` false, only ordinary files are written."""

    failure: type[StepwellError]
    sync: bool
    in_place: bool
    _parts: list[_Part]

    def __init__(
        self, failure: type[StepwellError] = OutputError, *, sync: bool = False, in_place: bool = True
    ) -> None:
        self.failure, self.sync, self.in_place = failure, sync, in_place
        self._parts = []

    def new(self, path: Path, mode: int = 0o666) -> IO[bytes]:
        """An empty file that will have this name, with as much of `mode` as the process gives new files."""
        with naming(path, self.failure):
            self._parts.append(self._opened(path, mode))
        return self._parts[-1].file

    def _opened(self, path: Path, mode: int) -> _Part:
        import tempfile

        target = os.path.realpath(path)
        if os.path.lexists(target) and not os.path.isfile(target):
            if not self.in_place:
                raise self.failure(f"{os.fspath(path)} cannot be written: it is no ordinary file")
            return _Part(path, target, "", open(target, "wb"), mode)
        folder, name = os.path.split(target)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name[:40]}.", suffix=".part", dir=folder)
        return _Part(path, target, temporary, os.fdopen(descriptor, "wb"), mode)

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
            elif isinstance(error, OSError) and error.filename is None and self._parts:
                with naming(self._parts[-1].path, self.failure):  # what is written is written to the last one
                    raise error
        finally:
            for part in self._parts:
                part.remove()

    def _finish(self) -> None:
        for part in self._parts:
            with naming(part.path, self.failure):
                part.finish(self.sync)
        for part in self._parts:
            with naming(part.path, self.failure):
                part.take_place()


def _umask() -> int:
    """The process's mask; read from /proc, since os.umask would change it for a moment, in all threads."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))
    except (OSError, StopIteration, ValueError):
        return 0o077
