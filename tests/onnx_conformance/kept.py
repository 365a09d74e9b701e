"""What became of ONNX's cases in a whole run, kept in a file, so that the page about it can be written without one.

    {"opsets": {"": 28, ..}, "modes": ["given", ..], "cases": {"test_abs": {"operator": .., "made": ["ok", ..]}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepwell.frontends.onnx.versions import newest_opsets
from tests.onnx_conformance.cases import Outcome

KEPT = Path(__file__).parents[2] / "docs" / "onnx.json"

Found = Mapping[str, Sequence[Outcome]]  # mode -> outcomes of all cases


def keep(found: Found, path: Path) -> None:
    """Write the outcomes of all cases, which every mode has to have, with the opsets of the onnx package."""
    by_mode = [{made.name: made for made in outcomes} for outcomes in found.values()]
    cases = {name: _entry([made[name] for made in by_mode]) for name in sorted(by_mode[0])}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in cases.items())
    opsets, modes = json.dumps(newest_opsets()), json.dumps(list(found))
    path.write_text(f'{{"opsets": {opsets},\n "modes": {modes},\n "cases": {{\n{lines}\n }}}}\n')


def _entry(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    operators = max((made.operators for made in outcomes), key=len)  # a case that died has told none
    made = [[one.kind, one.reason] if one.reason else one.kind for one in outcomes]
    return {"operator": outcomes[0].operator, "operators": operators, "made": made}


def kept(path: Path) -> tuple[dict[str, int], dict[str, list[Outcome]]]:
    """(the newest opset of each domain at that time, the outcomes by mode) of a file that `keep` wrote."""
    read = json.loads(path.read_text())
    found: dict[str, list[Outcome]] = {mode: [] for mode in read["modes"]}
    for name, entry in read["cases"].items():
        for mode, made in zip(read["modes"], entry["made"], strict=True):
            kind, reason = made if isinstance(made, list) else (made, "")
            found[mode].append(Outcome(name, entry["operator"], kind, reason, entry["operators"]))
    return read["opsets"], found
