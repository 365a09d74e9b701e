"""`#tensor.schedule`: how a kernel's loops are cut, as data that can be read, edited and searched.

    #tensor.schedule<loops = [parallel n0: n by 256, parallel m0: m by 120, k0: k by 512],
                     register = {m: 6, n: 64}, vector = n by 16, unroll = 2, partial = 256,
                     stages = {s0: at m0 <loops = [], register = {c: 64}, vector = c by 16>}>

    loops = [parallel m0: m by 64, k0: k by 512], stages = {s1: at k0 peak of n <..>, s2: at k0 power of n <..>, ..}

The loops run from the outside in; a dim may be cut more than once. `register` is the block of outputs kept in
registers, `vector` the dim that runs along the lanes and how many there are, `unroll` the copies of the innermost
reduction step. `partial` is the length of a partial sum: a reduction of more steps adds up sums of so many, so that its
rounding errors grow with the length of a part and the number of parts; 0 is one sum. `stages` says, for stages other
than the root, the loop of the root at which they are computed, for the tile that the root needs there, and how that
tile is cut in turn.

    register = {h: 14, w: 16}, vector = w by 16, slide = k

`slide` is a reduction dim that runs innermost, all of its steps unrolled, because the register tile reads some of the
same elements in them: of x[h + k], k < 3, a tile of 14 rows h reads 16 rows, once each.

Where the root's loop cuts a sum, reductions along the same dim may be computed in it part by part (online softmax):
a `peak` is the largest element so far; a `power` is e**(x - peak); a `total`, like the root itself, is a sum that is
linear in powers, and what it has summed up is brought to the new peak before each part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from stepwell.errors import IRError
from stepwell.ir.attributes import Attribute
from stepwell.ir.interned import interned

if TYPE_CHECKING:
    from stepwell.ir.parser import Parser


T = TypeVar("T")
WHOLE_KERNEL = "kernel"  # the place of a stage that is computed before the root's loops
PEAK, POWER, TOTAL = ROLES = ("peak", "power", "total")


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
class StageSpec(Attribute):
    """`s0: at m0 <...>`: a stage of the kernel, the root's loop in which it is computed (`kernel`: before
    all of them), and its own tiles. `s1: at k0 peak of n <...>`: of a reduction, or its elements, the part along the
    stage's dim `n` that the loop has come to."""

    name: str
    at: str
    schedule: ScheduleAttr
    role: str = ""
    along: str = ""

    def __str__(self) -> str:
        part = f"{self.role} of {self.along} " if self.role else ""
        return f"{self.name}: at {self.at} {part}{self.schedule.print_parameters()}"


@interned
class ScheduleAttr(Attribute):
    """How the root's loops are cut, and where the other stages are computed."""

    mnemonic = "tensor.schedule"
    loops: tuple[LoopSpec, ...]
    register: tuple[tuple[str, int], ...]
    vector: str
    lanes: int = 1
    unroll: int = 1
    stages: tuple[StageSpec, ...] = ()
    partial: int = 0
    slide: str = ""

    def __attrs_post_init__(self) -> None:
        for name, size in (*self.register, *((loop.label, loop.tile) for loop in self.loops), ("vector", self.lanes),
                           ("unroll", self.unroll)):  # fmt: skip
            if size < 1:
                raise IRError(f"{name}: a tile holds at least one element, not {size}")
        if self.partial < 0:
            raise IRError(f"partial: the length of a sum cannot be {self.partial}")

    def with_loops(self, loops: Iterable[LoopSpec] = (), stages: Iterable[StageSpec] = ()) -> ScheduleAttr:
        """The same register tile inside other loops."""
        return ScheduleAttr(
            tuple(loops), self.register, self.vector, self.lanes, self.unroll, tuple(stages), self.partial, self.slide
        )  # fmt: skip

    def register_size(self, dim: str) -> int:
        """Elements of a dim in the register tile; 1 where it is not named."""
        return dict(self.register).get(dim, 1)

    @property
    def cuts_a_softmax(self) -> bool:
        """Whether stages are computed part by part along the root's sum."""
        return any(spec.role for spec in self.stages)

    def print_parameters(self) -> str:
        """The text between the angle brackets."""
        register = ", ".join(f"{dim}: {size}" for dim, size in self.register)
        parts = [f"loops = [{', '.join(map(str, self.loops))}]", f"register = {{{register}}}"]
        parts.append(f"vector = {self.vector} by {self.lanes}")
        if self.unroll != 1:
            parts.append(f"unroll = {self.unroll}")
        if self.slide:
            parts.append(f"slide = {self.slide}")
        if self.partial:
            parts.append(f"partial = {self.partial}")
        if self.stages:
            parts.append(f"stages = {{{', '.join(map(str, self.stages))}}}")
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
        stages: list[StageSpec] = []
        vector, lanes, unroll, partial, slide = "", 1, 1, 0, ""
        while parser.accept(","):
            key = parser.bare()
            parser.expect("=")
            if key == "register":
                parser.expect("{")
                register = parser.comma_list("}", lambda: _pair(parser, parser.integer))
            elif key == "stages":
                parser.expect("{")
                stages = parser.comma_list("}", lambda: _parse_stage(parser))
            elif key == "vector":
                vector = parser.bare()
                parser.expect("by")
                lanes = parser.integer()
            elif key == "unroll":
                unroll = parser.integer()
            elif key == "slide":
                slide = parser.bare()
            elif key == "partial":
                partial = parser.integer()
            else:
                raise parser.error(f"a schedule has no {key!r}")
        parser.expect(">")
        return ScheduleAttr(tuple(loops), tuple(register), vector, lanes, unroll, tuple(stages), partial, slide)


def _pair(parser: Parser, value: Callable[[], T]) -> tuple[str, T]:
    name = parser.bare()
    parser.expect(":")
    return name, value()


def _parse_stage(parser: Parser) -> StageSpec:
    name = parser.bare()
    parser.expect(":")
    parser.expect("at")
    at = parser.bare()
    role = next((word for word in ROLES if parser.accept(word)), "")
    if role:
        parser.expect("of")
    along = parser.bare() if role else ""
    return StageSpec(name, at, ScheduleAttr.parse_parameters(parser), role, along)


def _parse_loop(parser: Parser) -> LoopSpec:
    parallel = parser.accept("parallel")
    label = parser.bare()
    parser.expect(":")
    dim = parser.bare()
    parser.expect("by")
    return LoopSpec(label, dim, parser.integer(), parallel)
