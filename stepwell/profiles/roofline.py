"""The roofline plot of a profile, as SVG: speed over operations per byte, both on logarithmic axes.

A slanted roof for each level of the memory hierarchy, a flat one for arithmetic; each kernel is a dot, as large as its
part of the call. Under the slanted part of a roof a kernel waits for that level, under the flat one for the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from stepwell.profiles.markup import text

if TYPE_CHECKING:
    from stepwell.backends.cpu.limits import Roofs
    from stepwell.backends.cpu.profile import ProfileRow

WIDTH, HEIGHT = 960, 520
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 20, 56
LEAST_RADIUS, MOST_RADIUS = 3.0, 26.0


@attrs.frozen
class Axis:
    """A logarithmic axis: values from 10**low to 10**high lie from pixel `start` to `stop`."""

    low: int
    high: int
    start: float
    stop: float

    @staticmethod
    def over(values: Sequence[float], start: float, stop: float) -> Axis:
        """With whole decades around positive values."""
        low = math.floor(math.log10(min(values)))
        return Axis(low, max(low + 1, math.ceil(math.log10(max(values)))), start, stop)

    def place(self, value: float) -> float:
        """The pixel of a positive value."""
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + part * (self.stop - self.start)

    def decades(self) -> list[float]:
        """The values with a line through the plot."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def plotted(rows: Sequence[ProfileRow]) -> list[ProfileRow]:
    """The rows that have a place in the plot: those with arithmetic, traffic and time."""
    return [row for row in rows if row.flops and row.bytes and row.seconds > 0]


def plot(rows: Sequence[ProfileRow], roofs: Roofs) -> str:
    """The `svg` element. Rows without arithmetic are left out."""
    dots = plotted(rows)
    ridges = [roofs.flops / rate for rate in roofs.bandwidth.values()]
    x = Axis.over([*ridges, *(_intensity(row) for row in dots)], LEFT, WIDTH - RIGHT)
    speeds = [row.gflops_per_second or 1.0 for row in dots]
    floor = roofs.bandwidth["memory"] * 10.0**x.low * 1e-9
    y = Axis.over([floor, roofs.flops * 1e-9, *speeds], HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y), *_roofs(roofs, x, y), *(_dot(row, x, y) for row in dots)]
    label = "Roofline: speed of each kernel over its operations per byte"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _intensity(row: ProfileRow) -> float:
    return (row.flops or 0) / (row.bytes or 1)


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    for value in x.decades():
        at = f"{x.place(value):.1f}"
        yield f'<line class="grid" x1="{at}" y1="{TOP}" x2="{at}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text class="axis" x="{at}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
    for value in y.decades():
        at = f"{y.place(value):.1f}"
        yield f'<line class="grid" x1="{LEFT}" y1="{at}" x2="{WIDTH - RIGHT}" y2="{at}"/>'
        yield f'<text class="axis" x="{LEFT - 8}" y="{at}" dy="4" text-anchor="end">{value:g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text class="axis" x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">operations per byte</text>'
    yield f'<text class="axis" transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">GFLOP/s</text>'


def _roofs(roofs: Roofs, x: Axis, y: Axis) -> Iterator[str]:
    """Each level's roof up to its ridge, where the arithmetic takes over."""
    peak = roofs.flops * 1e-9
    right = 10.0**x.high
    nearest = min(roofs.flops / rate for rate in roofs.bandwidth.values())
    flat = f'y1="{y.place(peak):.1f}" x2="{x.place(right):.1f}" y2="{y.place(peak):.1f}"'
    yield f'<line class="roof compute" x1="{x.place(nearest):.1f}" {flat}/>'
    at = f'x="{x.place(right):.1f}" y="{y.place(peak) - 6:.1f}"'
    yield f'<text class="roof-label" {at} text-anchor="end">compute {peak:.0f} GFLOP/s</text>'
    for level, rate in roofs.bandwidth.items():
        low = max(10.0**x.low, 10.0**y.low / (rate * 1e-9))
        ridge = roofs.flops / rate
        ends = [(x.place(value), y.place(value * rate * 1e-9)) for value in (low, ridge)]
        (x1, y1), (x2, y2) = ends
        yield f'<line class="roof {level}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
        place = f'transform="translate({x1 + 12:.1f} {y1 - 12:.1f}) rotate({angle:.1f})"'
        yield f'<text class="roof-label" {place}>{level} {rate * 1e-9:.0f} GB/s</text>'


def _dot(row: ProfileRow, x: Axis, y: Axis) -> str:
    radius = LEAST_RADIUS + (MOST_RADIUS - LEAST_RADIUS) * math.sqrt(min(1.0, row.share))
    speed = row.gflops_per_second or 1.0
    place = f'cx="{x.place(_intensity(row)):.1f}" cy="{y.place(speed):.1f}" r="{radius:.1f}"'
    limit = f"limit: {row.limit}" + ("" if row.of_limit is None else f", {row.of_limit:.0%} of it")
    told = "\n".join([row.kernel, ", ".join(row.nodes), f"{row.seconds * 1e3:.4f} ms, {row.share:.1%} of the call",
                      f"{speed:.1f} GFLOP/s, {_intensity(row):.2f} operations per byte", limit])  # fmt: skip
    kind = row.limit if row.limit != "-" else "unknown"
    return f'<circle class="dot {kind}" {place}><title>{text(told)}</title></circle>'
