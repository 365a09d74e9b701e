"""Locations: where an operation came from, kept down to the emitted code."""

from __future__ import annotations

from stepwell.ir.interned import Interned, interned


class Location(Interned):
    """Where an operation came from."""

    __slots__ = ()

    def __str__(self) -> str:
        from stepwell.ir.printer import location_text

        return location_text(self)

    __repr__ = __str__

    @property
    def label(self) -> str:
        """A short name for messages and symbol names: the ONNX node's name where there is one."""
        return str(self)


@interned
class UnknownLoc(Location):
    """`loc(unknown)`."""

    @property
    def label(self) -> str:
        return ""


@interned
class NameLoc(Location):
    """`loc("/encoder/layer.0/MatMul")`: a name in the source model."""

    name: str

    @property
    def label(self) -> str:
        return self.name


@interned
class FileLoc(Location):
    """`loc("model.mlir":3:5)`."""

    file: str
    line: int
    column: int

    @property
    def label(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@interned
class FusedLoc(Location):
    """`loc(fused["a", "b"])`: an operation made of several."""

    locations: tuple[Location, ...]

    @property
    def label(self) -> str:
        return " + ".join(loc.label for loc in self.locations)


UNKNOWN = UnknownLoc()


def fused(*locations: Location) -> Location:
    """The location of something made of several: flat, without repeats or unknown parts."""
    parts: dict[Location, None] = {}
    for loc in locations:
        for part in loc.locations if isinstance(loc, FusedLoc) else (loc,):
            if part is not UNKNOWN:
                parts[part] = None
    if not parts:
        return UNKNOWN
    return next(iter(parts)) if len(parts) == 1 else FusedLoc(tuple(parts))
