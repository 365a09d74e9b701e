"""What has to become of ONNX's cases: every one runs, in every mode, but those that are listed here with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tests.onnx_conformance.cases import INTERNAL, REFUSED, RIGHT, WRONG, Outcome
from tests.onnx_conformance.operators import calls_host


@attrs.frozen
class Exempt:
    """What becomes of a case that does not pass, why, and in which modes; `by_chance`: or it passes, as dice fall."""

    kind: str
    reason: str
    modes: frozenset[str]
    by_chance: bool = False

    @property
    def is_unreachable(self) -> bool:
        """Whether no implementation passes, as the suite runs it."""
        return self.modes == ALL


ALL = frozenset(("given", "symbolic", "constant", "misfits"))
SIZES = frozenset(("symbolic", "misfits"))  # in which sizes are symbols
DRAWS = "compares random draws of another generator"
ZEROS = "its zeros are sums that the suite has rounded, and here they are exact"
NO_PYTHON = "there is no Python in an emulated program"  # says the error where an emulated program has calls of it
STEPS = "the suite rounds f16 after every step; here keys are folded, or the scale is a symbol"

EXEMPTIONS: Mapping[str, Exempt] = {
    **{f"test_bernoulli{part}": Exempt(WRONG, DRAWS, ALL, by_chance="seed" not in part)
       for part in ("", "_double", "_double_expanded", "_expanded", "_seed", "_seed_expanded")},
    "test_loop16_seq_none": Exempt(INTERNAL, "the runner builds the empty optional input wrongly", ALL),
    "test_dft_inverse": Exempt(WRONG, ZEROS, SIZES),
    "test_dft_inverse_opset19": Exempt(WRONG, ZEROS, SIZES),
    "test_attention_4d_causal_fp16_expanded": Exempt(WRONG, STEPS, ALL - {"given"}),
}  # fmt: skip
UNREACHABLE = {name: listed.reason for name, listed in EXEMPTIONS.items() if listed.is_unreachable}
"""Cases that no implementation passes as the suite runs them, and why."""


def exemption(name: str, mode: str) -> Exempt | None:
    """The entry of a case that does not have to pass in a mode."""
    listed = EXEMPTIONS.get(name)
    return listed if listed is not None and mode in listed.modes else None


def surprise(made: Outcome, mode: str, emulated: bool = False) -> str:
    """What an outcome has that is not expected of the case in a mode; empty where it is as expected. Emulated, what
    calls the host has to be refused for that."""
    if emulated and made.kind == REFUSED and NO_PYTHON in made.reason and calls_host(made.operators):
        return ""
    listed = exemption(made.name, mode)
    if made.kind in RIGHT:
        if listed is None or listed.by_chance:
            return ""
        return f"{made.name} runs ({mode}): take it off the list of those that do not, since {listed.reason!r}"
    if listed is not None and made.kind == listed.kind:
        return ""
    return f"{made.name} is {made.kind} ({mode}): {made.reason}"


def surprises(names: Sequence[str], outcomes: Sequence[Outcome], mode: str, emulated: bool = False) -> list[str]:
    """Everything about a run of these cases that is not expected, a case without an outcome included."""
    missing = sorted(set(names) - {made.name for made in outcomes})
    found = [surprise(made, mode, emulated) for made in sorted(outcomes, key=lambda made: made.name)]
    return [text for text in found if text] + [f"{name} has no outcome ({mode})" for name in missing]
