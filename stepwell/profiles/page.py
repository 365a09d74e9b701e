"""A profile as one HTML page that needs nothing else: the machine, the roofline plot, a table of kernels.

Names come from models and may be anything; every text passes `text` on its way into the page.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from stepwell import __version__
from stepwell.profiles.markup import text
from stepwell.profiles.roofline import plot, plotted
from stepwell.show import busy, number, roofs

if TYPE_CHECKING:
    from stepwell.backends.cpu.profile import Profile, ProfileRow

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums; }
th.text, td.text { text-align: left; overflow-wrap: anywhere; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; overflow-wrap: anywhere; }
.grid { stroke: #8884; } .axis, .roof-label { fill: currentColor; font-size: 12px; }
.roof { stroke-width: 2; fill: none; }
.roof.compute { stroke: #c0392b; } .roof.L1 { stroke: #7f8c8d; } .roof.L2 { stroke: #2980b9; }
.roof.L3 { stroke: #16a085; } .roof.memory { stroke: #8e44ad; }
.dot { fill-opacity: .6; stroke: currentColor; stroke-width: .5; fill: #888; }
.dot.compute { fill: #c0392b; } .dot.L2 { fill: #2980b9; } .dot.L3 { fill: #16a085; } .dot.memory { fill: #8e44ad; }
.dot:hover { fill-opacity: 1; stroke-width: 2; }
"""

HEADS = ("kernel", "launches", "ms", "share", "GFLOP/s", "GB/s", "MB", "threads", "limit", "of it", "ONNX nodes")
TEXTS = ("kernel", "limit", "ONNX nodes")


def versions() -> dict[str, str]:
    """What made the numbers, for the page."""
    import llvmlite
    import llvmlite.binding as llvm

    return {
        "Stepwell": __version__,
        "LLVM": f"{'.'.join(map(str, llvm.llvm_version_info))} (llvmlite {llvmlite.__version__})",
        "NumPy": np.__version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
    }


def page(profile: Profile, title: str, facts: Mapping[str, str]) -> str:
    """The page. `facts` are shown as they are given: the machine, versions."""
    dots = plotted(profile.rows)
    absent = sum(row.launches > 0 for row in profile.rows) - len(dots)
    note = f"<p>{absent} kernels without arithmetic are in the table only.</p>" if absent else ""
    calls = f"{profile.seconds * 1e3:.4g} ms a call, which touches {profile.footprint * 1e-6:.3g} MB"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Profile of {text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Profile of {text(title)}</h1>
<p>{text(calls)}. {text(roofs(profile.roofs))}.</p>
{plot(profile.rows, profile.roofs)}
{note}
<h2>Kernels</h2>
<table>
<thead><tr>{"".join(_cell("th", head, head) for head in HEADS)}</tr></thead>
<tbody>
{"".join(_row(row) for row in profile.rows)}</tbody>
</table>
<h2>Machine</h2>
<dl>
{_list(facts.items())}
</dl>
</body>
</html>
"""


def _row(row: ProfileRow) -> str:
    cells = (row.kernel, row.launches or "-", f"{row.seconds * 1e3:.4f}", f"{row.share:.1%}",
             number(row.gflops_per_second, ".1f"), number(row.gigabytes_per_second, ".1f"),
             number(None if row.bytes is None else row.bytes * 1e-6, ".3f"), busy(row), row.limit,
             number(row.of_limit, ".0%"), ", ".join(row.nodes))  # fmt: skip
    return "<tr>" + "".join(_cell("td", head, cell) for head, cell in zip(HEADS, cells, strict=True)) + "</tr>\n"


def _cell(tag: str, head: str, value: object) -> str:
    kind = ' class="text"' if head in TEXTS else ""
    return f"<{tag}{kind}>{text(value)}</{tag}>"


def _list(facts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts)
