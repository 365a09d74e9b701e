"""Large memory: files that are mapped, what memory hashes to, and memory that begins at a cache line."""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ALIGNMENT = 64
CHUNK = 8 << 20
"""Bytes that one thread hashes at a time."""
LARGE = 1 << 20
"""Bytes from which on a copy has pages of its own,"""
HUGE = 4 << 20
"""and from which on these may be huge ones, which spare the reader of long rows most misses of the page table."""
PART = 16 << 20
"""Bytes of a mapped file that are copied before their pages are given back."""


class FileMap(mmap.mmap):
    """A mapped file: others may write to it, and its pages can be read again."""


def map_file(descriptor: int, size: int) -> Bytes:
    """The first `size` bytes of an open file, mapped; the descriptor may be closed afterwards. Raises OSError and
    ValueError."""
    if size == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer(FileMap(descriptor, size, access=mmap.ACCESS_READ), np.uint8)


def as_bytes(data: Any) -> Bytes:
    """The memory behind C-contiguous `data` as a flat array of bytes."""
    if isinstance(data, np.ndarray):
        return data.reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


def digest_of(data: Any, algorithm: str, threads: int) -> str:
    """What bytes hash to: `sha256:...`, the hash of their length and of the hashes of their chunks, which several
    threads make. Pages of a mapped file are given back as soon as they are read. Raises OSError where a mapped file was
    cut short meanwhile: to touch what is gone would end the process."""
    memory = as_bytes(data)
    owner = _owner(memory)
    if isinstance(owner, FileMap) and owner.size() < len(owner):
        raise OSError("the file was cut short since it was opened")
    made = hashlib.new(algorithm, len(memory).to_bytes(8, "little"))

    def one(chunk: Bytes) -> bytes:
        found = hashlib.new(algorithm, chunk.data).digest()
        forget(chunk)
        return found

    chunks = list(_chunks(memory))
    if min(threads, len(chunks)) > 1:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(threads, len(chunks)), thread_name_prefix="stepwell-hash") as pool:
            digests = list(pool.map(one, chunks))
    else:
        digests = [one(chunk) for chunk in chunks]
    made.update(b"".join(digests))
    return f"{algorithm}:{made.hexdigest()}"


def _chunks(memory: Bytes) -> Iterator[Bytes]:
    return (memory[start : start + CHUNK] for start in range(0, len(memory), CHUNK))


def is_mapped(memory: np.ndarray[Any, Any]) -> bool:
    """Whether it is part of a mapped file, which others may write to."""
    return isinstance(_owner(memory), FileMap)


def _owner(memory: Any) -> Any:
    while isinstance(memory, (np.ndarray, memoryview)):
        memory = memory.base if isinstance(memory, np.ndarray) else memory.obj
    return memory


def aligned_copy(array: Array) -> Array:
    """The same elements in C order, in new memory that begins at a multiple of ALIGNMENT bytes."""
    made = aligned_empty(array.shape, array.dtype)
    copy(made, array)
    return made


def copy(target: Array, source: Array) -> None:
    """Copy the elements of an array into another one of its shape. Pages of a mapped file are given back as they have
    been read, so that what is large is not in memory twice."""
    count = source.nbytes // PART + 1 if is_mapped(source) else 1
    if count == 1:
        target[...] = source
        forget(source)
        return
    axis = max(range(source.ndim), key=lambda n: abs(source.strides[n]))
    to, of = np.moveaxis(target, axis, 0), np.moveaxis(source, axis, 0)
    step = -(-len(of) // count)
    for start in range(0, len(of), step):
        to[start : start + step] = of[start : start + step]
        forget(of[start : start + step])


def aligned_empty(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An array in new memory that begins at a multiple of ALIGNMENT bytes."""
    size = math.prod(shape) * dtype.itemsize
    memory = _new(size + ALIGNMENT)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _new(size: int) -> Bytes:
    """Memory of so many bytes. What is large has pages of its own, that the system gets back when it is not used any
    more: the allocator's heap keeps those that lie between others."""
    if size < LARGE:
        return np.empty(size, np.uint8)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def forget(memory: Array) -> None:
    """Let go of the pages that lie wholly in a part of a mapped file, gaps between its elements included; they are read
    again when they are used again. What is in no mapped file stays."""
    owner = _owner(memory)
    if not isinstance(owner, FileMap) or not memory.nbytes:
        return
    low, high = np.lib.array_utils.byte_bounds(memory)
    base = np.frombuffer(owner, np.uint8).ctypes.data
    begin, end = -(-(low - base) // mmap.PAGESIZE) * mmap.PAGESIZE, (high - base) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED, begin, end - begin)
