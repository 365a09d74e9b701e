"""Relocatable ELF objects: their sections and symbols, what they define and what they need from elsewhere.

Read before linking, so that a damaged object or a missing symbol is an error with a name in it. For tools that look at
running code, it also says where its functions lie. Layout: System V ABI, chapters "Object Files" and "Symbol Table"
(ELF64, little endian).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATABLE, _SYMTAB, _LOCAL, _UNDEFINED, _WEAK = 1, 2, 0, 0, 2
_FUNCTION, _RESERVED_SECTIONS, _NOBITS = 2, 0xFF00, 8
_OTHER_AT = 5  # of a symbol's visibility in its entry
_VISIBLE = (0, 3)  # default and protected; 1 and 2 are internal and hidden
_MACHINES = {62: "x86_64", 183: "aarch64"}


class DamagedObject(ValueError):
    """The bytes are no relocatable ELF64 object."""


class Symbols(NamedTuple):
    """The non-local names. `arch` is as in a triple; `exported` are those of `defined` that are not hidden. A weak
    undefined symbol may stay undefined and is left out."""

    arch: str
    defined: frozenset[str]
    exported: frozenset[str]
    undefined: frozenset[str]


class Function(NamedTuple):
    """A function that an object defines: its section (an index), and where in it, in bytes."""

    name: str
    section: int
    offset: int
    size: int
    is_local: bool


class Section(NamedTuple):
    """An entry of the section header table. `kind`, `flags`, `link` and `info` are as the ABI has them; `offset` is in
    the object, sizes and `align` are in bytes."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class Symbol(NamedTuple):
    """An entry of the symbol table, and `at` which byte of the object it stands."""

    at: int
    name: str
    binding: int
    kind: int
    visibility: int
    section: int
    value: int
    size: int

    @property
    def is_local(self) -> bool:
        """Whether only its object sees it."""
        return self.binding == _LOCAL

    @property
    def is_weak(self) -> bool:
        """Whether another definition may take its place, or none."""
        return self.binding == _WEAK

    @property
    def is_defined(self) -> bool:
        """Whether its object says what it is."""
        return self.section != _UNDEFINED

    @property
    def is_exported(self) -> bool:
        """Whether it can be seen from outside of what its object is linked into."""
        return self.is_defined and not self.is_local and self.visibility in _VISIBLE


@contextmanager
def _reading() -> Iterator[None]:
    """What goes wrong in here is the object's fault."""
    try:
        yield
    except DamagedObject:
        raise
    except (ValueError, OverflowError, struct.error, IndexError) as error:
        raise DamagedObject(f"truncated or damaged object ({error})") from None


def symbols_of(image: bytes) -> Symbols:
    """Raises `DamagedObject`."""
    with _reading():
        return _read(image)


def sections_of(image: bytes) -> list[Section]:
    """The sections, with names. Raises `DamagedObject`."""
    with _reading():
        return _sections(image)


def table_of(image: bytes, sections: Sequence[Section]) -> list[Symbol]:
    """The symbols, in the order that relocations count them in. Raises `DamagedObject`."""
    with _reading():
        return list(_table(image, sections))


def section_bytes(image: bytes, section: Section) -> bytes:
    """What a section contains. Raises `DamagedObject`."""
    _check_inside(image, section.offset, section.size)
    return image[section.offset : section.offset + section.size]


def functions_of(image: bytes) -> list[Function]:
    """The functions of a sound object, those included that nobody else sees."""
    sections = _sections(image)
    return [
        Function(symbol.name, symbol.section, symbol.value, symbol.size, symbol.binding == _LOCAL)
        for symbol in _table(image, sections)
        if symbol.kind == _FUNCTION and 0 < symbol.section < _RESERVED_SECTIONS
    ]


def exposed(image: bytes) -> bytes:
    """A sound object whose hidden symbols are exported: their addresses can be asked for once it is loaded."""
    sections = _sections(image)
    changed = bytearray(image)
    for symbol in _table(image, sections):
        if symbol.section != _UNDEFINED and symbol.binding != _LOCAL:
            changed[symbol.at + _OTHER_AT] &= ~3
    return bytes(changed)


def _read(image: bytes) -> Symbols:
    machine = _HEADER.unpack_from(image)[2]
    sections = _sections(image)
    if machine not in _MACHINES:
        raise DamagedObject(f"an object for ELF machine {machine}")
    defined, exported, undefined = set[str](), set[str](), set[str]()
    for symbol in _table(image, sections):
        if symbol.binding == _LOCAL or (symbol.section == _UNDEFINED and symbol.binding == _WEAK):
            continue
        (undefined if symbol.section == _UNDEFINED else defined).add(symbol.name)
        if symbol.is_exported:
            exported.add(symbol.name)
    return Symbols(_MACHINES[machine], frozenset(defined), frozenset(exported), frozenset(undefined))


def _sections(image: bytes) -> list[Section]:
    ident, kind, _, _, _, _, start, _, _, _, _, entry_size, count, names_at = _HEADER.unpack_from(image)
    if ident[:6] != b"\x7fELF\x02\x01" or kind != _RELOCATABLE or entry_size != _SECTION.size:
        raise DamagedObject("not a relocatable ELF64 object")
    entries = [_SECTION.unpack_from(image, start + index * entry_size) for index in range(count)]
    _, _, _, _, offset, size, *_ = entries[names_at]
    _check_inside(image, offset, size)
    names = image[offset : offset + size]
    made = [
        Section(_text(names, name_at), kind, flags, offset, size, link, info, align)
        for name_at, kind, flags, _, offset, size, link, info, align, _ in entries
    ]
    for section in made:
        if section.kind != _NOBITS:
            _check_inside(image, section.offset, section.size)
    return made


def _table(image: bytes, sections: Sequence[Section]) -> Iterator[Symbol]:
    for section in sections:
        if section.kind != _SYMTAB:
            continue
        names = section_bytes(image, sections[section.link])
        for number, entry in enumerate(_SYMBOL.iter_unpack(section_bytes(image, section))):
            name_at, info, other, place, value, length = entry
            at = section.offset + number * _SYMBOL.size
            yield Symbol(at, _text(names, name_at), info >> 4, info & 15, other & 3, place, value, length)


def _text(names: bytes, at: int) -> str:
    return names[at : names.index(b"\0", at)].decode()


def _check_inside(image: bytes, offset: int, size: int) -> None:
    if offset + size > len(image):
        raise DamagedObject("truncated object")
