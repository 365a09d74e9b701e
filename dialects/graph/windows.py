"""Sliding windows: the sizes, paddings and views that convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.graph.base import Array
from stepwell.errors import IRError
from stepwell.ir.attrkinds import enum
from stepwell.ir.dims import Dim, ceildiv, dim_max, dim_min, floordiv

# How pads come about: as listed, or computed from the run-time size so that the result has ceil(size / stride) places,
# the odd element behind ("same_upper") or in front ("same_lower").
PADDING = enum("explicit", "same_upper", "same_lower")


@attrs.frozen
class Window:
    """A window that slides over the spatial axes. `pads` lists the begins of all axes, then the ends.

    `ceil` also visits a last window that overhangs the padded end, unless it would start behind the data and the
    front padding."""

    kernel: tuple[Dim, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    padding: str = "explicit"
    ceil: bool = False

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    def check(self) -> None:
        """Raise IRError where the lists do not describe windows over the spatial axes."""
        rank = self.rank
        for what, values, count in (
            ("strides", self.strides, rank), ("dilations", self.dilations, rank), ("pads", self.pads, 2 * rank)
        ):  # fmt: skip
            if len(values) != count:
                raise IRError(f"{rank} spatial axes need {count} {what}, not {list(values)}")
        for what, positive in (("strides", self.strides), ("dilations", self.dilations), ("kernel", self.kernel)):
            if any(isinstance(value, int) and value < 1 for value in positive):
                raise IRError(f"{what} must be positive, not {list(positive)}")

    def extent(self, axis: int) -> Dim:
        """How many places of an axis a window spans, dilation included."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def pads_of(self, sizes: Sequence[Dim]) -> list[tuple[Dim, Dim]]:
        """(begin, end) of each axis for a tensor of these spatial sizes."""
        if self.padding == "explicit":
            return [(self.pads[axis], self.pads[axis + self.rank]) for axis in range(self.rank)]
        return [self._same_pads(axis, size) for axis, size in enumerate(sizes)]

    def _same_pads(self, axis: int, size: Dim) -> tuple[Dim, Dim]:
        stride = self.strides[axis]
        total = dim_max((ceildiv(size, stride) - 1) * stride + self.extent(axis) - size, 0)
        half = floordiv(total, 2)
        return (half, total - half) if self.padding == "same_upper" else (total - half, half)

    def places(self, sizes: Sequence[Dim]) -> tuple[Dim, ...]:
        """How many windows there are along each axis. Raises IRError where not even one fits."""
        if len(sizes) != self.rank:
            raise IRError(f"a window of {self.rank} axes cannot slide over {len(sizes)} spatial axes")
        return tuple(self._places(axis, size) for axis, size in enumerate(sizes))

    def _places(self, axis: int, size: Dim) -> Dim:
        stride = self.strides[axis]
        if self.padding != "explicit":
            return ceildiv(size, stride)
        begin, end = self.pads[axis], self.pads[axis + self.rank]
        room = size + begin + end - self.extent(axis)
        if isinstance(room, int) and room < 0:
            raise IRError(
                f"spatial axis {axis} of size {size} with pads {begin} and {end} is shorter than the window's "
                f"{self.extent(axis)}"
            )
        if not self.ceil:
            return floordiv(room, stride) + 1
        return dim_min(ceildiv(room, stride) + 1, ceildiv(size + begin, stride))

    def is_static_for(self, sizes: Sequence[Dim]) -> bool:
        """Whether the pads are plain integers for a tensor of these spatial sizes."""
        return all(isinstance(pad, int) for pair in self.pads_of(sizes) for pad in pair)

    def resolved(self, sizes: Sequence[Dim]) -> Window:
        """The same window with explicit pads where these do not depend on symbolic sizes."""
        if self.padding == "explicit" or not self.is_static_for(sizes):
            return self
        begins, ends = zip(*self.pads_of(sizes), strict=True)
        return attrs.evolve(self, pads=static_sizes((*begins, *ends)), padding="explicit", ceil=False)


def static_sizes(sizes: Sequence[Dim]) -> tuple[int, ...]:
    """Dims as integers. Raises IRError where one is symbolic."""
    found = tuple(size for size in sizes if isinstance(size, int))
    if len(found) != len(sizes):
        raise IRError(f"sizes {', '.join(map(str, sizes))} are symbolic")
    return found


def sliding_view(x: Array, window: Window, fill: Any) -> Array:
    """[n, c, places..., kernel...] of an array [n, c, spatial...]: every window's elements, `fill` outside the data."""
    sizes = x.shape[2:]
    kernel = static_sizes(window.kernel)
    places = static_sizes(window.places(sizes))
    widths = [(0, 0), (0, 0)]
    for axis, (begin, _) in enumerate(window.pads_of(sizes)):
        assert isinstance(begin, int)
        last = (places[axis] - 1) * window.strides[axis] + (kernel[axis] - 1) * window.dilations[axis] + 1
        widths.append((begin, max(last - sizes[axis] - begin, 0)))
    padded = np.pad(x, widths, constant_values=fill)
    rank = window.rank
    strides = padded.strides[2:]
    return np.lib.stride_tricks.as_strided(
        padded,
        (*x.shape[:2], *places, *kernel),
        (*padded.strides[:2], *(strides[a] * window.strides[a] for a in range(rank)),
         *(strides[a] * window.dilations[a] for a in range(rank))),
        writeable=False,
    )  # fmt: skip
