"""`#tensor.schedule`: how a kernel's loops are cut, as data that can be read, edited and searched.

    #tensor.schedule<loops = [parallel n0: n by 256, parallel m0: m by 120, k0: k by 512],
                     register = {m: 6, n: 64}, vector = n by 16, unroll = 2, partial = 256, stages = {softmax: m0}>

The loops run from the outside in; a dim may be cut more than once. `register` is the block of outputs kept in
registers, `vector` the dim that runs along the lanes and how many there are, `unroll` the copies of the innermost
reduction step. `partial` is the length of a partial sum: a reduction of more steps adds up sums of so many, whose
rounding errors grow with the length of each and their number instead of the length of the whole; 0 is one sum. `stages`
says, for stages other than the root, the loop at which they are computed, `register` or
`inline`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.interned import interned

if TYPE_CHECKING:
    from stepwell.ir.parser import Parser


T = TypeVar("T")


@interned
class LoopSpec(Attribute):
    """`parallel m0: m by 120`: a loop over one dim in steps of a tile."""

    label: str
    dim: str
    tile: int
    parallel: bool = False

    def __str__(self) -> str:
        return f"{'parallel ' if self.parallel else ''}{self.label}: {self.dim} by {self.tile}"


@interned
class ScheduleAttr(Attribute):
    """How the root's loops are cut, and where the other stages are computed."""

    mnemonic = "tensor.schedule"
    loops: tuple[LoopSpec, ...]
    register: tuple[tuple[str, int], ...]
    vector: str
    lanes: int = 1
    unroll: int = 1
    stages: tuple[tuple[str, str], ...] = ()
    partial: int = 0

    def __attrs_post_init__(self) -> None:
        for name, size in (*self.register, *((loop.label, loop.tile) for loop in self.loops), ("vector", self.lanes),
                           ("unroll", self.unroll)):  # fmt: skip
            if size < 1:
                raise IRError(f"{name}: a tile holds at least one element, not {size}")
        if self.partial < 0:
            raise IRError(f"partial: the length of a sum cannot be {self.partial}")

    def register_size(self, dim: str) -> int:
        """Elements of a dim in the register tile; 1 where it is not named."""
        return dict(self.register).get(dim, 1)

    def print_parameters(self) -> str:
        """The text between the angle brackets."""
        register = ", ".join(f"{dim}: {size}" for dim, size in self.register)
        parts = [f"loops = [{', '.join(map(str, self.loops))}]", f"register = {{{register}}}"]
        parts.append(f"vector = {self.vector} by {self.lanes}")
        if self.unroll != 1:
            parts.append(f"unroll = {self.unroll}")
        if self.partial:
            parts.append(f"partial = {self.partial}")
        if self.stages:
            parts.append(f"stages = {{{', '.join(f'{name}: {place}' for name, place in self.stages)}}}")
        return f"<{', '.join(parts)}>"

    @staticmethod
    def parse_parameters(parser: Parser) -> ScheduleAttr:
        """The inverse of `print_parameters`."""
        parser.expect("<")
        parser.expect("loops")
        parser.expect("=")
        parser.expect("[")
        loops = parser.comma_list("]", lambda: _parse_loop(parser))
        register: list[tuple[str, int]] = []
        stages: list[tuple[str, str]] = []
        vector, lanes, unroll, partial = "", 1, 1, 0
        while parser.accept(","):
            key = parser.bare()
            parser.expect("=")
            if key == "register":
                parser.expect("{")
                register = parser.comma_list("}", lambda: _pair(parser, parser.integer))
            elif key == "stages":
                parser.expect("{")
                stages = parser.comma_list("}", lambda: _pair(parser, parser.bare))
            elif key == "vector":
                vector = parser.bare()
                parser.expect("by")
                lanes = parser.integer()
            elif key == "unroll":
                unroll = parser.integer()
            elif key == "partial":
                partial = parser.integer()
            else:
                raise parser.error(f"a schedule has no {key!r}")
        parser.expect(">")
        return ScheduleAttr(tuple(loops), tuple(register), vector, lanes, unroll, tuple(stages), partial)


def _pair(parser: Parser, value: Callable[[], T]) -> tuple[str, T]:
    name = parser.bare()
    parser.expect(":")
    return name, value()


def _parse_loop(parser: Parser) -> LoopSpec:
    parallel = parser.accept("parallel")
    label = parser.bare()
    parser.expect(":")
    dim = parser.bare()
    parser.expect("by")
    return LoopSpec(label, dim, parser.integer(), parallel)
