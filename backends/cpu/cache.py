"""Compiled objects on disk, by what they are made from: the second compilation of a kernel is reading a file.

    cache = default()
    image = cache.get(key) if cache else None

The key is a hash of the LLVM IR text, the processor, LLVM's version and level; the text says all else. Each file has
a checksum of key and object: what is damaged is compiled anew. The folder is that of `stepwell.engine.folder`, private
to its owner; an object lies on one of many shelves, by the key's first digits, and each shelf is bounded."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepwell.engine.folder import PrivateFolder, usual

from .facts import facts

if TYPE_CHECKING:
    from .target import CpuTarget

SHARDS = 64

_MAGIC = b"WELLOBJ1"
_DIGEST_BYTES = 32


class ObjectCache:
    """Objects in a folder; safe for any number of threads and processes. It never fails: at worst it has nothing."""

    def __init__(self, folder: PrivateFolder, limit: int) -> None:
        """`limit` is the most bytes that objects may take."""
        self._folder = folder
        self._shard_limit = limit // SHARDS

    @staticmethod
    def at(path: str | os.PathLike[str], limit: int) -> ObjectCache:
        """The cache in a folder. Raises OSError where it cannot be used."""
        return ObjectCache(PrivateFolder.at(path), limit)

    def get(self, key: str) -> bytes | None:
        """The object, or None."""
        try:
            with os.fdopen(self._folder.open(_shard(key), key), "rb") as file:
                data = file.read()
        except OSError:
            return None
        image = data[len(_MAGIC) + _DIGEST_BYTES :]
        if data[: -len(image)] == _head(key, image) and image:
            return image
        self._folder.remove(_shard(key), key)
        return None

    def put(self, key: str, image: bytes) -> None:
        """Keep an object. A full disk, or an object that takes more than a shard may, keeps nothing."""
        if len(image) > self._shard_limit:
            return
        with contextlib.suppress(OSError):
            with self._folder.writing(_shard(key), key) as file:
                file.write(_head(key, image) + image)
            self._folder.shrink(_shard(key), self._shard_limit)


def default() -> ObjectCache | None:
    """The cache in the folder that the environment names; None where there is none."""
    found = usual()
    return ObjectCache(found.folder, found.for_kernels) if found else None


def object_key(text: str, target: CpuTarget, opt: int, passes: Sequence[str]) -> str:
    """The name of what LLVM makes of a text: hexadecimal, the same in every process and on every machine."""
    made = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (facts().version, target.triple, target.cpu, target.features, str(opt), ",".join(passes), text):
        data = part.encode()
        made.update(len(data).to_bytes(8, "little") + data)
    return made.hexdigest()


def _shard(key: str) -> str:
    return f"{int(key[:2], 16) % SHARDS:02x}"


def _head(key: str, image: bytes) -> bytes:
    return _MAGIC + hashlib.blake2b(key.encode() + image, digest_size=_DIGEST_BYTES).digest()
