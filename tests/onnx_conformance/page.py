"""A page about ONNX's operators: how each version is imported, what becomes of the suite's cases with it, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.onnx_conformance.cases import OK, RIGHT, SPECIALISED, Outcome
from tests.onnx_conformance.expected import EXEMPTIONS
from tests.onnx_conformance.operators import Taken, taken

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"
FEW = 2  # reasons told in a cell

HEAD = """# ONNX's operators, and its suite

Written by `python -m tests.onnx_conformance --page`, which runs every case of `onnx.backend.test` in three modes:
**given** as it is; **symbolic** with a symbol for every size of the inputs, so that one compilation has to serve all;
**constant** with all inputs but the first as constants. What becomes of them is kept in [onnx.json](onnx.json), from
which `python docs/build.py` writes the page anew.

*ok*: compiled through all landings, for any call. *host*: a part of it (text, encoded images) is a call of Python that
the IR shows. *specialised*: compiled at the call, for what only that tells, such as a rank. Everything else is refused
before anything is compiled, with the reason, unless a line below says otherwise.
"""
OPERATORS = """## Operators

Every version of every operator that is not deprecated; those that one rule imports are one row. *compiled*: all of it
is machine code. *from ONNX's definition*: by the operators of which ONNX's schema makes it. *on the host*: Python is
called, for the reason given.

A case counts for every operator of its graph, once: a number alone says that as many run, compiled for any call. What a
case is specialised for is a size (`i1_0` is the first one of the input 1) or the contents of an input.
"""


def page(found: Mapping[str, Sequence[Outcome]], opsets: Mapping[str, int] | None = None) -> str:
    """The page, in Markdown, of the outcomes by mode, with operators up to these opsets (default: all)."""
    specialised = [_specialised(mode, found[mode]) for mode in found]
    reasons = [_reasons(mode, found[mode]) for mode in found]
    return "\n".join([HEAD, _totals(found), _exempt(), _operators(found, taken(opsets)), *specialised, *reasons])


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |\n"


def _totals(found: Mapping[str, Sequence[Outcome]]) -> str:
    kinds = (*RIGHT, "refused", "wrong", "internal", "crash", "hang")
    lines = [_row(["mode", "cases", "run", *kinds]), _row(["---"] + ["---:"] * (len(kinds) + 2))]
    for mode, outcomes in found.items():
        counts = Counter(made.kind for made in outcomes)
        lines.append(_row([mode, len(outcomes), sum(counts[kind] for kind in RIGHT), *(counts[k] for k in kinds)]))
    return "".join(lines)


def _exempt() -> str:
    """The cases that are expected not to pass."""
    lines = []
    for name, listed in EXEMPTIONS.items():
        modes = "in every mode" if listed.is_unreachable else ", ".join(sorted(listed.modes))
        lines.append(f"- `{name}` ({modes}): {listed.reason}\n")
    return "".join(["## Cases that need not pass\n\nAny other one that does not run fails the tests.\n\n", *lines])


def _operators(found: Mapping[str, Sequence[Outcome]], entries: Sequence[Taken]) -> str:
    cases: dict[str, dict[str, list[Outcome]]] = {mode: defaultdict(list) for mode in found}
    for mode, outcomes in found.items():
        for made in outcomes:
            for operator in made.operators:
                cases[mode][operator].append(made)
    lines = [OPERATORS, "\n", _row(["operator", "versions", "how", *found]), _row(["---"] * (3 + len(found)))]
    for entry in entries:
        cells = [_cell(_of(entry, cases[mode])) for mode in found]
        lines.append(_row([entry.label, ", ".join(map(str, entry.versions)), entry.how, *cells]))
    return "".join(lines)


def _of(entry: Taken, cases: Mapping[str, Sequence[Outcome]]) -> list[Outcome]:
    """The cases with any version of an entry, each once."""
    return list({made.name: made for member in entry.members for made in cases.get(member, ())}.values())


def _cell(outcomes: Sequence[Outcome]) -> str:
    counts = Counter(made.kind for made in outcomes)
    if not outcomes:
        return "no case"
    if counts[OK] == len(outcomes):
        return f"{len(outcomes)}"
    right = sum(counts[kind] for kind in RIGHT)
    told = "; ".join(_told(kind, outcomes) for kind in sorted(counts) if kind != OK)
    return f"{right} of {len(outcomes)} ({told})"


def _told(kind: str, outcomes: Sequence[Outcome]) -> str:
    """`2 specialised for the size i1_0`"""
    reasons = [made.reason for made in outcomes if made.kind == kind]
    text = f"{len(reasons)} {kind}"
    if kind != SPECIALISED:
        return text
    distinct = sorted(set(reasons))
    listed = ", or for ".join(distinct[:FEW]) + (", and so on" if len(distinct) > FEW else "")
    return f"{text} for {_plain(listed)}"


def _specialised(mode: str, outcomes: Sequence[Outcome]) -> str:
    """What the specialised cases are compiled for, each once."""
    groups: dict[str, list[str]] = defaultdict(list)
    for made in outcomes:
        if made.kind == SPECIALISED:
            groups[_plain(made.reason)].append(f"`{made.name}`")
    lines = [f"- {reason}: {', '.join(sorted(names))}\n" for reason, names in sorted(groups.items())]
    return "".join([f"## Specialised for, {mode}\n\n", *(lines or ["Nothing.\n"])])


def _reasons(mode: str, outcomes: Sequence[Outcome]) -> str:
    lines = [f"- `{made.name}`, {made.kind}: {_plain(made.reason)}\n"
             for made in sorted(outcomes, key=lambda made: made.name) if made.kind not in RIGHT]  # fmt: skip
    return "".join([f"## Why not, {mode}\n\n", *(lines or ["All run.\n"])])


def _plain(text: str) -> str:
    """A reason as text of a cell or a line."""
    return " ".join(text.split()).replace("|", ",")
