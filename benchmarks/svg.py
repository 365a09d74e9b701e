"""A scatter plot as SVG text, with both axes logarithmic and of one scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float, str]]
"""(x, y, what it is)"""

SIZE, LEFT, BELOW, ABOVE = 480, 70, 50, 40
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#e0902f", "#6a4c93", "#555555")


def scatter(title: str, across: str, up: str, series: Mapping[str, Points]) -> str:
    """The picture: a diagonal where both are equal, dashed lines at twice and half, a legend."""
    values = [value for points in series.values() for x, y, _ in points for value in (x, y) if value > 0]
    low = math.floor(math.log10(min(values, default=1)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=10))))
    scale = SIZE / (high - low)

    def at(x: float, y: float) -> tuple[float, float]:
        across = min(max(math.log10(x) - low, 0), high - low) * scale
        upwards = min(max(math.log10(y) - low, 0), high - low) * scale
        return LEFT + across, ABOVE + SIZE - upwards

    parts = [*_frame(title, across, up, low, high, scale)]
    for factor, dashes in ((1, ""), (2, "4 4"), (0.5, "4 4")):
        (a, b), (c, d) = _clipped(10.0**low, 10.0**high, factor)
        (x1, y1), (x2, y2) = at(a, b), at(c, d)
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#888" '
                     f'stroke-dasharray="{dashes}"/>')  # fmt: skip
    for number, (name, points) in enumerate(sorted(series.items())):
        colour = COLOURS[number % len(COLOURS)]
        for x, y, label in points:
            cx, cy = at(x, y)
            parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="3.5" fill="{colour}" fill-opacity="0.6">'
                         f"<title>{escape(label)}</title></circle>")  # fmt: skip
        top = ABOVE + 14 + 18 * number
        parts.append(f'<circle cx="{LEFT + 14}" cy="{top}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 24}" y="{top + 4}">{escape(name)} ({len(points)})</text>')
    width, height = LEFT + SIZE + 20, ABOVE + SIZE + BELOW
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
            '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")  # fmt: skip


def _clipped(low: float, high: float, factor: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ends of y = factor * x within the square."""
    first, last = max(low, low / factor), min(high, high / factor)
    return (first, first * factor), (last, last * factor)


def _frame(title: str, across: str, up: str, low: int, high: int, scale: float) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="{ABOVE - 16}" font-size="14">{escape(title)}</text>'
    yield f'<rect x="{LEFT}" y="{ABOVE}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#333"/>'
    for power in range(low, high + 1):
        step = (power - low) * scale
        text = f"{10.0**power:g}"
        yield f'<text x="{LEFT + step:.1f}" y="{ABOVE + SIZE + 18}" text-anchor="middle">{text}</text>'
        yield f'<text x="{LEFT - 8}" y="{ABOVE + SIZE - step + 4:.1f}" text-anchor="end">{text}</text>'
        if low < power < high:
            x, y = LEFT + step, ABOVE + SIZE - step
            yield f'<line x1="{x:.1f}" y1="{ABOVE}" x2="{x:.1f}" y2="{ABOVE + SIZE}" stroke="#ddd"/>'
            yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + SIZE}" y2="{y:.1f}" stroke="#ddd"/>'
    yield f'<text x="{LEFT + SIZE / 2}" y="{ABOVE + SIZE + 38}" text-anchor="middle">{escape(across)}</text>'
    middle = ABOVE + SIZE / 2
    yield f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{escape(up)}</text>'
