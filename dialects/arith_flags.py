"""What an arithmetic op may assume: upstream's `#arith.fastmath<...>` and `#arith.overflow<...>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.attrkinds import attr_of
from stepwell.ir.interned import interned

if TYPE_CHECKING:
    from stepwell.ir.parser import Parser


class _FlagsAttr(Attribute):
    """A set of words; `none` is the empty one."""

    __slots__ = ()
    words: ClassVar[tuple[str, ...]] = ()
    flags: tuple[str, ...]

    def __attrs_post_init__(self) -> None:
        for flag in self.flags:
            if flag not in self.words:
                raise IRError(f"{flag!r} is not one of none, {', '.join(self.words)}")
        ordered = tuple(word for word in self.words if word in self.flags)
        object.__setattr__(self, "flags", ordered)

    def print_parameters(self) -> str:
        """`<nnan,nsz>`"""
        return f"<{','.join(self.flags) or 'none'}>"

    @classmethod
    def parse_parameters(cls, parser: Parser) -> Attribute:
        """The inverse of `print_parameters`."""
        parser.expect("<")
        flags = parser.comma_list(">", parser.bare)
        return cls(() if flags == ["none"] else tuple(flags))  # type: ignore[call-arg]


@interned
class FastMathAttr(_FlagsAttr):
    """`#arith.fastmath<nnan,nsz>`: freedoms with floats."""

    mnemonic: ClassVar[str] = "arith.fastmath"
    words: ClassVar[tuple[str, ...]] = ("reassoc", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "fast")
    flags: tuple[str, ...] = ()


@interned
class OverflowAttr(_FlagsAttr):
    """`#arith.overflow<nsw>`: integers known not to overflow."""

    mnemonic: ClassVar[str] = "arith.overflow"
    words: ClassVar[tuple[str, ...]] = ("nsw", "nuw")
    flags: tuple[str, ...] = ()


FASTMATH = attr_of(FastMathAttr)
OVERFLOW = attr_of(OverflowAttr)
