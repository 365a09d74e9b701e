"""A page about ONNX's suite: how many cases run, and for each operator and version how, or why not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tests.onnx_conformance.cases import OK, RIGHT, Outcome
from tests.onnx_conformance.suite import UNREACHABLE

HEAD = """# ONNX's suite

Written by `python -m tests.onnx_conformance --page docs/onnx.md`, which runs every case of `onnx.backend.test` in three
modes: **given** as it is; **symbolic** with a symbol for every size of the inputs, so that one compilation has to serve
all; **constant** with all inputs but the first as constants.

*ok*: compiled through all landings, for any call. *host*: a part of it (text, encoded images) is a call of Python that
the IR shows. *specialised*: compiled at the call, since only that tells a rank. Everything else is refused before
anything is compiled, with the reason, unless a line below says otherwise.
"""


def page(found: Mapping[str, Sequence[Outcome]]) -> str:
    """The page, in Markdown, of the outcomes by mode."""
    parts = [HEAD, _totals(found), _unreachable(), _operators(found), *(_reasons(mode, found[mode]) for mode in found)]
    return "\n".join(parts)


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |\n"


def _totals(found: Mapping[str, Sequence[Outcome]]) -> str:
    kinds = (*RIGHT, "refused", "wrong", "internal", "crash", "hang")
    lines = [_row(["mode", "cases", "run", *kinds]), _row(["---"] + ["---:"] * (len(kinds) + 2))]
    for mode, outcomes in found.items():
        counts = Counter(made.kind for made in outcomes)
        lines.append(_row([mode, len(outcomes), sum(counts[kind] for kind in RIGHT), *(counts[k] for k in kinds)]))
    return "".join(lines)


def _unreachable() -> str:
    lines = [f"- `{name}`: {why}\n" for name, why in UNREACHABLE.items()]
    return "".join(["## Cases that nothing can pass as they are run\n\n", *lines])


def _operators(found: Mapping[str, Sequence[Outcome]]) -> str:
    groups: dict[tuple[str, int], dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for mode, outcomes in found.items():
        for made in outcomes:
            groups[made.operator, made.version][mode].append(made)
    head = "Cases that run, of all; those of several nodes are functions written out, and models."
    lines = [f"## Operators\n\n{head}\n\n"]
    lines += [_row(["operator", "since", *found]), _row(["---", "---:"] + ["---"] * len(found))]
    for (operator, version), by_mode in sorted(groups.items()):
        lines.append(_row([operator, version or "", *(_cell(by_mode[mode]) for mode in found)]))
    return "".join(lines)


def _cell(outcomes: Sequence[Outcome]) -> str:
    counts = Counter(made.kind for made in outcomes)
    if counts[OK] == len(outcomes):
        return f"{len(outcomes)}"
    right = sum(counts[kind] for kind in RIGHT)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in counts if kind != OK)
    return f"{right} of {len(outcomes)} ({told})"


def _reasons(mode: str, outcomes: Sequence[Outcome]) -> str:
    lines = [f"## Why not, {mode}\n\n"]
    lines += [f"- `{made.name}`, {made.kind}: {' '.join(made.reason.split()).replace('|', ',')}\n"
              for made in sorted(outcomes, key=lambda made: made.name) if made.kind not in RIGHT]  # fmt: skip
    return "".join(lines)
