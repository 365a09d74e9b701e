"""The file itself: a header, a table of sections, and the sections' bytes, each with its place, length and checksum.

    write(path, [Section("meta", text), Section("constant", array)])
    file = Container.open(path); file.only("meta"); file.all("constant")

All numbers are little endian. The header has 64 bytes:

    0  8 bytes   MAGIC
    8  uint32    version of the format
    12 uint32    number of sections
    16 uint64    length of the file in bytes
    24 uint64    0
    32 32 bytes  BLAKE2b-256 of the 32 bytes before, and of the table of sections behind the header

and each entry of the table 64 bytes:

    0  8 bytes   kind, an ASCII name filled up with zeros
    8  uint64    offset of the section's bytes in the file
    16 uint64    their number
    24 uint64    0
    32 32 bytes  BLAKE2b-256 (RFC 7693) of the section's bytes

Sections follow each other in the table's order. Each begins at a multiple of 64 bytes, one of a page or more at a
multiple of PAGE; what lies between is never read. Reading maps the file: nothing is copied, and nothing is allocated
that a number in the file could make large.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from attrs import field, frozen

from stepwell.errors import EngineError
from stepwell.memory import Bytes, as_bytes, map_file

MAGIC = b"\x89WELL\r\n\x1a"
"""No text file begins so, and a transfer as text damages it visibly."""

VERSION = 1
PAGE = 4096
ALIGNMENT = 64
_HEAD = struct.Struct("<8sIIQQ")
_ENTRY = struct.Struct("<8sQQQ")
_DIGEST_BYTES = 32
_HEAD_BYTES = _HEAD.size + _DIGEST_BYTES
_ENTRY_BYTES = _ENTRY.size + _DIGEST_BYTES


def digest(data: Any) -> bytes:
    """BLAKE2b-256 of anything with the buffer protocol."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


@frozen
class Section:
    """A section to write. `kind` is an ASCII name of at most 8 characters."""

    kind: str
    data: Bytes = field(converter=as_bytes, eq=False)


def write(path: str | os.PathLike[str], sections: Sequence[Section]) -> None:
    """Write the file whole or not at all: under another name first, which then replaces what was there.

    Raises EngineError where the system refuses; the file that was there before is as it was."""
    from stepwell.outputs import Outputs  # not needed to load

    with Outputs(EngineError, sync=True, in_place=False) as files:
        write_sections(files.new(path), sections)


def write_sections(file: IO[bytes], sections: Sequence[Section]) -> None:
    """Write all of it into a new, empty file. Raises OSError."""
    *places, end = _places(sections)
    table = b"".join(
        _ENTRY.pack(section.kind.encode("ascii"), place, section.data.nbytes, 0) + checksum
        for section, place, checksum in zip(sections, places, _digests(sections), strict=True)
    )
    head = _HEAD.pack(MAGIC, VERSION, len(sections), end, 0)
    file.write(head + digest(head + table) + table)
    for section, place in zip(sections, places, strict=True):
        file.write(b"\0" * (place - file.tell()))
        file.write(section.data.data)


def size_of(sections: Sequence[Section]) -> int:
    """The bytes of a file with these sections."""
    return _places(sections)[-1]


def _places(sections: Sequence[Section]) -> list[int]:
    """Where each section begins, and where the last one ends."""
    at = _HEAD_BYTES + len(sections) * _ENTRY_BYTES
    places = []
    for section in sections:
        at = _round_up(at, PAGE if section.data.nbytes >= PAGE else ALIGNMENT)
        places.append(at)
        at += section.data.nbytes
    return [*places, at]


def _digests(sections: Sequence[Section]) -> list[bytes]:
    from concurrent.futures import ThreadPoolExecutor

    from stepwell.backends.cpu import machine

    with ThreadPoolExecutor(machine.usable_cores(), thread_name_prefix="stepwell-hash") as pool:
        return list(pool.map(lambda section: digest(section.data), sections))


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


class Mapped(NamedTuple):
    """A section of a mapped file: its bytes (read-only), and what they should hash to."""

    kind: str
    data: Bytes
    digest: bytes

    def is_intact(self) -> bool:
        """Whether the bytes are those that were written; reads them all."""
        return digest(self.data) == self.digest


class Container(NamedTuple):
    """A mapped file whose header and table are in order; sections are checked by who uses them."""

    path: str
    sections: tuple[Mapped, ...]

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Container:
        """Map a file. Raises EngineError for one that is missing, foreign, of a newer format, truncated or damaged."""
        name = os.fspath(path)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer blocks
        except (OSError, ValueError) as error:
            raise EngineError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        return Container.of(descriptor, name)

    @staticmethod
    def of(descriptor: int, name: str) -> Container:
        """Map an open file, which is closed. Raises EngineError as `open` does."""
        return Container(name, tuple(_sections(_map(descriptor, name), name)))

    def all(self, kind: str) -> tuple[Mapped, ...]:
        """The sections of a kind, in their order."""
        return tuple(section for section in self.sections if section.kind == kind)

    def intact(self, kind: str) -> tuple[Mapped, ...]:
        """Likewise, after their checksums were compared. Raises EngineError."""
        found = self.all(kind)
        if bad := [number for number, section in enumerate(found) if not section.is_intact()]:
            raise damaged(self.path, f"section {kind!r} {bad[0]} is not what was written")
        return found

    def only(self, kind: str) -> Mapped:
        """The intact section of a kind that a file has once. Raises EngineError."""
        found = self.intact(kind)
        if len(found) != 1:
            raise damaged(self.path, f"it has {len(found)} sections {kind!r}, not 1")
        return found[0]


def damaged(path: str, how: str) -> EngineError:
    """The error for a file that is not as it was written."""
    return EngineError(f"{path} is damaged ({how}): save the model again")


def _map(descriptor: int, path: str) -> Bytes:
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise EngineError(f"{path} cannot be read: it is no ordinary file")
        begin = os.pread(descriptor, len(MAGIC), 0)
        if begin != MAGIC[: len(begin)] or not begin:
            raise EngineError(f"{path} is no engine file: Model.save and `lower --to engine` make those")
        if status.st_size < _HEAD_BYTES:
            raise damaged(path, f"{status.st_size} bytes are less than a header")
        return map_file(descriptor, status.st_size)
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}") from None
    finally:
        os.close(descriptor)


def _sections(data: Bytes, path: str) -> Iterator[Mapped]:
    head = bytes(data[: _HEAD.size])
    _, version, count, length, zero = _HEAD.unpack(head)
    if version > VERSION:
        raise EngineError(f"{path} has version {version} of the format, and this Stepwell reads up to {VERSION}: "
                          "load it with the one that made it, or save the model again")  # fmt: skip
    if length != data.nbytes:
        raise damaged(path, f"it has {data.nbytes} bytes of {length}")
    end = _HEAD_BYTES + count * _ENTRY_BYTES
    if end > data.nbytes:
        raise damaged(path, f"a table of {count} sections does not fit into {data.nbytes} bytes")
    table = bytes(data[_HEAD_BYTES:end])
    if digest(head + table) != bytes(data[_HEAD.size : _HEAD_BYTES]) or version < 1 or zero:
        raise damaged(path, "the checksum of its header is wrong")
    for place in range(0, len(table), _ENTRY_BYTES):
        kind, offset, size, zero = _ENTRY.unpack_from(table, place)
        if offset % ALIGNMENT or not end <= offset <= data.nbytes - size or zero or not kind.isascii():
            raise damaged(path, f"section {place // _ENTRY_BYTES} lies at {offset} and has {size} bytes")
        end = offset + size
        name = kind.rstrip(b"\0").decode("ascii")
        yield Mapped(name, data[offset:end], table[place + _ENTRY.size : place + _ENTRY_BYTES])
