"""The symbol table of a relocatable ELF object: what it defines and what it needs from elsewhere.

Read before linking, so that a damaged object or a missing symbol is an error with a name in it; the linker below
trusts its input. For tools that look at running code, it also says where its functions lie. Layout: System V ABI,
chapters "Object Files" and "Symbol Table" (ELF64, little endian).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from attrs import frozen

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATABLE, _SYMTAB, _LOCAL, _UNDEFINED, _WEAK = 1, 2, 0, 0, 2
_FUNCTION, _RESERVED_SECTIONS = 2, 0xFF00
_OTHER_AT = 5  # of a symbol's visibility in its entry
_VISIBLE = (0, 3)  # default and protected; 1 and 2 are internal and hidden
_MACHINES = {62: "x86_64", 183: "aarch64"}


class DamagedObject(ValueError):
    """The bytes are no relocatable ELF64 object."""


@frozen
class Symbols:
    """The non-local names. `arch` is as in a triple; `exported` are those of `defined` that are not hidden. A weak
    undefined symbol may stay undefined and is left out."""

    arch: str
    defined: frozenset[str]
    exported: frozenset[str]
    undefined: frozenset[str]


@frozen
class Function:
    """A function that an object defines: its section (an index), and where in it, in bytes."""

    name: str
    section: int
    offset: int
    size: int
    is_local: bool


def symbols_of(image: bytes) -> Symbols:
    """Raises `DamagedObject`."""
    try:
        return _read(image)
    except DamagedObject:
        raise
    except (ValueError, struct.error, IndexError) as error:
        raise DamagedObject(f"truncated or damaged object ({error})") from None


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


@frozen
class _Symbol:
    """An entry of the symbol table, and `at` which byte of the object it stands."""

    at: int
    name: str
    binding: int
    kind: int
    visibility: int
    section: int
    value: int
    size: int


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
        if symbol.section != _UNDEFINED and symbol.visibility in _VISIBLE:
            exported.add(symbol.name)
    return Symbols(_MACHINES[machine], frozenset(defined), frozenset(exported), frozenset(undefined))


def _sections(image: bytes) -> list[tuple[int, ...]]:
    ident, kind, _, _, _, _, start, _, _, _, _, entry_size, count, _ = _HEADER.unpack_from(image)
    if ident[:6] != b"\x7fELF\x02\x01" or kind != _RELOCATABLE or entry_size != _SECTION.size:
        raise DamagedObject("not a relocatable ELF64 object")
    return [_SECTION.unpack_from(image, start + index * entry_size) for index in range(count)]


def _table(image: bytes, sections: Sequence[tuple[int, ...]]) -> Iterator[_Symbol]:
    for _, section_kind, _, _, offset, size, link, *_ in sections:
        if section_kind != _SYMTAB:
            continue
        _check_inside(image, offset, size)
        names = _section_bytes(image, sections[link])
        entries = _SYMBOL.iter_unpack(image[offset : offset + size])
        for number, (name_at, info, other, section, value, length) in enumerate(entries):
            name = names[name_at : names.index(b"\0", name_at)].decode()
            yield _Symbol(offset + number * _SYMBOL.size, name, info >> 4, info & 15, other & 3, section, value, length)


def _section_bytes(image: bytes, section: tuple[int, ...]) -> bytes:
    offset, size = section[4], section[5]
    _check_inside(image, offset, size)
    return image[offset : offset + size]


def _check_inside(image: bytes, offset: int, size: int) -> None:
    if offset + size > len(image):
        raise DamagedObject("truncated object")
