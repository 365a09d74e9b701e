"""Links relocatable ELF objects into this process's memory, without LLVM, which takes longer to import than models take
to load, and more memory than most of them do.

    linked = link([kernels, program], {"sw_join": address})
    linked.addresses["program"]

The memory is one mapping: code and what jumps out of it; constants and the addresses of symbols (the global offset
table); data. It is written, then the first part is made executable and the second read-only: nothing is ever writable
and executable. What is outside lies farther away than the 2 GiB that an instruction reaches, so calls there go through
a jump of ours, as in a procedure linkage table. Unwinding tables are left out, since nothing unwinds through the code.

Relocations: System V ABI, AMD64 Architecture Processor Supplement, chapter "Object Files"."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np

from .elf import DamagedObject, Section, Symbol, section_bytes, sections_of, table_of

ARCHITECTURES = ("x86_64",)

_NOBITS, _RELA = 8, 4
_WRITE, _ALLOC, _EXECUTE = 1, 2, 4
_ABSOLUTE, _RESERVED = 0xFFF1, 0xFF00
_UNWINDING = (".eh_frame", ".rela.eh_frame")
_ENTRY = np.dtype([("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])

# Kinds of relocations: R_X86_64_64, PC32, PLT32, GOTPCREL, PC64, GOTPCRELX, REX_GOTPCRELX.
_WORD, _PC, _CALL, _PC_WIDE = 1, 2, 4, 24
_TABLE = (9, 41, 42)
_NARROW = (_PC, _CALL, *_TABLE)

_PAGE = mmap.PAGESIZE
_LARGEST = 1 << 31
_FAILED = (1 << 64) - 1
_SLOT = 8
_JUMP = bytes.fromhex("ff25")  # jmp *offset(%rip)
_JUMP_BYTES = 16

Words = np.ndarray[Any, np.dtype[Any]]


class NotLinked(ValueError):
    """Objects that do not link: the text says why."""


class Linked(NamedTuple):
    """Code in memory, and the addresses of what the objects export."""

    addresses: Mapping[str, int]
    memory: Pages


@attrs.frozen(eq=False)
class Pages:
    """Memory that is unmapped with this object; but not when the process ends, as threads may still be in its code."""

    address: int
    size: int

    @staticmethod
    def of(size: int) -> Pages:
        """So many bytes that may be read and written. Raises MemoryError."""
        made = _libc().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if made is None or made == _FAILED:
            raise MemoryError(f"{size} bytes of memory for code: {os.strerror(ctypes.get_errno())}")
        pages = Pages(made, size)
        weakref.finalize(pages, _libc().munmap, made, size).atexit = False
        return pages

    def view(self) -> Words:
        """The bytes, for as long as these pages are kept."""
        return np.frombuffer(memoryview((ctypes.c_uint8 * self.size).from_address(self.address)), np.uint8)

    def protect(self, start: int, size: int, access: int) -> None:
        """Say what may be done with a part from now on. Raises NotLinked."""
        if size and _libc().mprotect(self.address + start, size, access):
            raise NotLinked(f"memory cannot be made executable: {os.strerror(ctypes.get_errno())}")


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes, libc.mmap.restype = [address, size, number, number, number, ctypes.c_int64], address
    libc.munmap.argtypes, libc.mprotect.argtypes = [address, size], [address, size, number]
    return libc


@attrs.define(eq=False)
class _Piece:
    """An object with the places of its sections in the image; those that are not loaded have none."""

    image: bytes
    sections: Sequence[Section]
    symbols: Sequence[Symbol]
    places: dict[int, int]

    def relocations(self) -> Iterator[tuple[int, Words]]:
        """(the section that they change, relocations) of all sections that are loaded. Raises DamagedObject."""
        for section in self.sections:
            if section.kind != _RELA or section.info not in self.places:
                continue
            data = section_bytes(self.image, section)
            found = np.frombuffer(data, _ENTRY, len(data) // _ENTRY.itemsize)
            widths = np.where(_among(found["kind"], (_WORD, _PC_WIDE)), 8, 4).astype(np.uint64)
            offsets, size = found["offset"], self.sections[section.info].size
            if ((offsets > size) | (offsets + widths > size) | (found["symbol"] >= len(self.symbols))).any():
                raise DamagedObject("a relocation outside of its section")
            yield section.info, found


def link(objects: Sequence[bytes], externals: Mapping[str, int]) -> Linked:
    """Objects of this machine, linked with each other, with `externals` (symbol -> address) and with the process.

    Raises DamagedObject for bytes that are no object, NotLinked where a symbol is defined twice or nowhere, or where
    a kind of relocation is not known."""
    pieces = [_Piece(image, sections := sections_of(image), table_of(image, sections), {}) for image in objects]
    ends, outside, slots = _laid_out(pieces), _outside(pieces), _slots(pieces)
    jumps = _up(ends[0], _JUMP_BYTES)
    constants = _up(jumps + _JUMP_BYTES * len(outside), _PAGE)
    table = _up(constants + ends[1], _SLOT)
    data = _up(table + _SLOT * (len(outside) + slots), _PAGE)
    if data + ends[2] > _LARGEST:
        raise NotLinked("the objects are too large for distances of 32 bits")
    memory = Pages.of(max(_up(data + ends[2], _PAGE), _PAGE))
    view, base = memory.view(), memory.address
    _place(pieces, (0, constants, data), view)
    image = _Image(view, base, jumps, table, outside)
    addresses = image.resolve(pieces, externals)
    for piece in pieces:
        image.relocate(piece, addresses)
    memory.protect(0, constants, mmap.PROT_READ | mmap.PROT_EXEC)
    memory.protect(constants, data - constants, mmap.PROT_READ)
    exported = {s.name for piece in pieces for s in piece.symbols if s.is_exported}
    return Linked({name: addresses[name] for name in exported}, memory)


def _laid_out(pieces: Sequence[_Piece]) -> list[int]:
    """Give each section a place within its part: code, constants, data; returns the parts' sizes. Raises NotLinked."""
    ends = [0, 0, 0]
    for piece in pieces:
        for number, section in enumerate(piece.sections):
            if section.flags & _ALLOC and section.name not in _UNWINDING:
                align = max(section.align, 1)
                if align > _PAGE or align & (align - 1):
                    raise NotLinked(f"a section is aligned to {align} bytes")
                part = _part(section)
                piece.places[number] = _up(ends[part], align)
                ends[part] = piece.places[number] + section.size
    return ends


def _part(section: Section) -> int:
    return 0 if section.flags & _EXECUTE else 2 if section.flags & _WRITE else 1


def _place(pieces: Sequence[_Piece], starts: Sequence[int], view: Words) -> None:
    """Move the parts to where they start in the image, and copy the sections there."""
    for piece in pieces:
        for number in piece.places:
            section = piece.sections[number]
            piece.places[number] += starts[_part(section)]
            if section.kind != _NOBITS and section.size:
                at = piece.places[number]
                view[at : at + section.size] = np.frombuffer(section_bytes(piece.image, section), np.uint8)


def _outside(pieces: Sequence[_Piece]) -> dict[str, int]:
    """A number for each name that is used and that no object defines."""
    defined = {s.name for piece in pieces for s in piece.symbols if s.is_defined and not s.is_local}
    used = {s.name for piece in pieces for s in piece.symbols if not s.is_defined and not s.is_local}
    return {name: number for number, name in enumerate(sorted(used - defined))}


def _slots(pieces: Sequence[_Piece]) -> int:
    """How many different symbols are reached through the table of addresses, at most."""
    return sum(
        len(set(found["symbol"][_among(found["kind"], _TABLE)].tolist()))
        for piece in pieces for _, found in piece.relocations()
    )  # fmt: skip


@attrs.define(eq=False)
class _Image:
    """The memory while it is written. The table of addresses begins with those outside, each of which has a jump."""

    view: Words
    base: int
    jumps: int
    table: int
    outside: Mapping[str, int]
    slots: dict[int, int] = attrs.field(factory=dict)
    """Address of a symbol -> place of its entry in the table."""

    def resolve(self, pieces: Sequence[_Piece], externals: Mapping[str, int]) -> dict[str, int]:
        """The address of every name, with entry and jump for those outside. Raises NotLinked."""
        found: dict[str, Symbol] = {}
        addresses: dict[str, int] = {}
        for piece in pieces:
            for symbol in piece.symbols:
                if not symbol.is_defined or symbol.is_local:
                    continue
                known = found.get(symbol.name)
                if known is not None and not known.is_weak and not symbol.is_weak:
                    raise NotLinked(f"defined more than once: {symbol.name}")
                if known is None or known.is_weak:
                    found[symbol.name], addresses[symbol.name] = symbol, self.address(piece, symbol)
        weak = {s.name for piece in pieces for s in piece.symbols if s.is_weak}
        for name, number in self.outside.items():
            addresses[name] = _address_of(name, externals, name in weak)
            slot = self.table + _SLOT * number
            self.view[slot : slot + _SLOT].view("<u8")[0] = addresses[name]
            self.slots[addresses[name]] = slot
            jump = self.jumps + _JUMP_BYTES * number
            distance = slot - (jump + len(_JUMP) + 4)
            code = _JUMP + distance.to_bytes(4, "little", signed=True)
            self.view[jump : jump + len(code)] = np.frombuffer(code, np.uint8)
        return addresses

    def address(self, piece: _Piece, symbol: Symbol) -> int:
        """Where a symbol lies that an object defines. Raises NotLinked."""
        if symbol.section == _ABSOLUTE:
            return symbol.value
        if symbol.section >= _RESERVED or symbol.section not in piece.places:
            raise NotLinked(f"{symbol.name or 'a symbol'} lies in no section that is loaded")
        if symbol.value > piece.sections[symbol.section].size:
            raise NotLinked(f"{symbol.name or 'a symbol'} lies outside of its section")
        return self.base + piece.places[symbol.section] + symbol.value

    def relocate(self, piece: _Piece, addresses: Mapping[str, int]) -> None:
        """Write addresses, and distances to them, where an object wants them. Raises NotLinked."""
        for section, found in piece.relocations():
            targets = np.zeros(len(piece.symbols), np.int64)
            near = np.zeros(len(piece.symbols), np.int64)  # the jump, where that is what a call reaches
            for number in set(found["symbol"].tolist()):
                symbol = piece.symbols[number]
                if symbol.is_local:  # without a name where it is a section
                    targets[number] = near[number] = self.address(piece, symbol)
                    continue
                targets[number] = near[number] = addresses[symbol.name]
                if symbol.name in self.outside:
                    near[number] = self.base + self.jumps + _JUMP_BYTES * self.outside[symbol.name]
            self._apply(piece.places[section], found, targets, near)

    def _apply(self, start: int, found: Words, targets: Words, near: Words) -> None:
        at = start + found["offset"].astype(np.int64)
        here = self.base + at
        for kind in set(found["kind"].tolist()):
            chosen = found["kind"] == kind
            symbols = found["symbol"][chosen]
            addends, places = found["addend"][chosen], at[chosen]
            if kind == _WORD:
                values = targets[symbols] + addends
            elif kind in (_PC, _CALL, _PC_WIDE):
                values = (near if kind == _CALL else targets)[symbols] + addends - here[chosen]
            elif kind in _TABLE:
                slots = np.array([self._slot(int(address)) for address in targets[symbols]], np.int64)
                values = self.base + slots + addends - here[chosen]
            else:
                raise NotLinked(f"a relocation of kind {kind} is not known")
            if kind in _NARROW and (values != values.astype(np.int32)).any():
                raise NotLinked("the objects are too large for distances of 32 bits")
            bytes_ = values.astype("<i4" if kind in _NARROW else "<i8").view(np.uint8).reshape(len(values), -1)
            self.view[places[:, None] + np.arange(bytes_.shape[1])] = bytes_

    def _slot(self, address: int) -> int:
        """The place in the table that has an address."""
        if address not in self.slots:
            slot = self.table + _SLOT * len(self.slots)
            self.view[slot : slot + _SLOT].view("<i8")[0] = address
            self.slots[address] = slot
        return self.slots[address]


def _among(kinds: Words, some: Sequence[int]) -> Words:
    """Which kinds are some of these."""
    chosen = np.zeros(len(kinds), bool)
    for kind in some:
        chosen |= kinds == kind
    return chosen


def _address_of(name: str, externals: Mapping[str, int], is_weak: bool) -> int:
    if name in externals:
        return externals[name]
    try:
        function = getattr(ctypes.CDLL(None), name)
    except AttributeError:
        if is_weak:
            return 0
        raise NotLinked(f"defined nowhere: {name}") from None
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
