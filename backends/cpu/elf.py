"""The symbol table of a relocatable ELF object: what it defines and what it needs from elsewhere.

Read before linking, so that a damaged object or a missing symbol is an error with a name in it; the linker below
trusts its input. Layout: System V ABI, chapters "Object Files" and "Symbol Table" (ELF64, little endian).
"""

from __future__ import annotations

import struct

from attrs import frozen

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATABLE, _SYMTAB, _LOCAL, _UNDEFINED, _WEAK = 1, 2, 0, 0, 2
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


def symbols_of(image: bytes) -> Symbols:
    """Raises `DamagedObject`."""
    try:
        return _read(image)
    except DamagedObject:
        raise
    except (ValueError, struct.error, IndexError) as error:
        raise DamagedObject(f"truncated or damaged object ({error})") from None


def _read(image: bytes) -> Symbols:
    ident, kind, machine, _, _, _, sections_at, _, _, _, _, entry_size, count, _ = _HEADER.unpack_from(image)
    if ident[:6] != b"\x7fELF\x02\x01" or kind != _RELOCATABLE or entry_size != _SECTION.size:
        raise DamagedObject("not a relocatable ELF64 object")
    if machine not in _MACHINES:
        raise DamagedObject(f"an object for ELF machine {machine}")
    sections = [_SECTION.unpack_from(image, sections_at + index * entry_size) for index in range(count)]
    defined, exported, undefined = set[str](), set[str](), set[str]()
    for _, section_kind, _, _, offset, size, link, *_ in sections:
        if section_kind != _SYMTAB:
            continue
        _check_inside(image, offset, size)
        names = _section_bytes(image, sections[link])
        for name_at, info, other, section, _, _ in _SYMBOL.iter_unpack(image[offset : offset + size]):
            binding = info >> 4
            if binding == _LOCAL or (section == _UNDEFINED and binding == _WEAK):
                continue
            name = names[name_at : names.index(b"\0", name_at)].decode()
            (undefined if section == _UNDEFINED else defined).add(name)
            if section != _UNDEFINED and other & 3 in _VISIBLE:
                exported.add(name)
    return Symbols(_MACHINES[machine], frozenset(defined), frozenset(exported), frozenset(undefined))


def _section_bytes(image: bytes, section: tuple[int, ...]) -> bytes:
    offset, size = section[4], section[5]
    _check_inside(image, offset, size)
    return image[offset : offset + size]


def _check_inside(image: bytes, offset: int, size: int) -> None:
    if offset + size > len(image):
        raise DamagedObject("truncated object")
