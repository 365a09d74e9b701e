"""What is wrong with a model, all of it at once."""

from __future__ import annotations

import functools
import operator as operator_module
from collections.abc import Iterable, Sequence

import attrs

from stepwell.errors import ModelError
from stepwell.frontends.onnx.element_types import Unranked
from stepwell.frontends.onnx.needs import Needs
from stepwell.ir.types import Type

SHOWN = 12  # places named per reason in the text; `ImportFailed.problems` has all


@attrs.frozen
class Problem:
    """One thing that keeps a model from being imported.

    `kind` is node, input, output, initializer, function or model; `name` says which one. For a node, `op`, `domain`
    ("" is ai.onnx), `version` (of the domain's opset) and `types` (of its inputs) say more. `cause` is the error behind
    it. `needs` is set where it would be imported if more were known of the model's inputs."""

    kind: str
    name: str
    reason: str
    advice: str = ""
    op: str = ""
    domain: str = ""
    version: int = 0
    types: tuple[str, ...] = ()
    cause: BaseException | None = attrs.field(default=None, eq=False, repr=False)
    needs: Needs | None = None

    @property
    def place(self) -> str:
        """The name with the types of the inputs."""
        return f"{self.name} ({', '.join(self.types)})" if self.types else self.name

    def __str__(self) -> str:
        op = f" {operator(self)}" if self.op else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.kind}{op} {self.place}: {self.reason}{advice}"


class ImportFailed(ModelError):
    """A model that cannot be imported; `problems` lists every reason.

    `needs` is set where the only reason is that too little is known of the model's inputs, whose names and types
    `inputs` lists: with that, the model would get further."""

    def __init__(
        self, label: str, problems: Sequence[Problem], inputs: Sequence[tuple[str, Type | Unranked]] = ()
    ) -> None:
        super().__init__(report_text(label, problems))
        self.problems = tuple(problems)
        self.inputs = tuple(inputs)
        found = [problem.needs for problem in problems]
        self.needs = functools.reduce(operator_module.or_, filter(None, found), Needs()) if all(found) else None


class Report:
    """Collects the problems of one model; the same problem of the same place is kept once."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.inputs: list[tuple[str, Type | Unranked]] = []
        self._problems: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._problems)

    @property
    def problems(self) -> list[Problem]:
        """All problems in the order in which they were found."""
        return list(self._problems)

    def add(self, problem: Problem) -> None:
        """Keep a problem."""
        self._problems.setdefault(problem)

    def check(self) -> None:
        """Raise ImportFailed if there is any problem."""
        if self._problems:
            raise ImportFailed(self.label, self.problems, self.inputs) from self.problems[0].cause


def operator(problem: Problem) -> str:
    """`Gelu (com.microsoft, opset 1)`; the name alone of an op of the IR."""
    return f"{problem.op} ({problem.domain or 'ai.onnx'}, opset {problem.version})" if problem.version else problem.op


def report_text(label: str, problems: Sequence[Problem], what: str = "imported") -> str:
    """The problems grouped: by operator, most frequent first, then by what is not a node; inside by reason."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(operator(problem) if problem.op else problem.kind, []).append(problem)
    ordered = sorted(groups.items(), key=lambda item: (not item[1][0].op, -len(item[1])))
    noun = "problem" if len(problems) == 1 else "problems"
    lines = [f"{label} cannot be {what}: {len(problems)} {noun}"]
    for title, members in ordered:
        count = f": {len(members)} node{'s' if len(members) > 1 else ''}" if members[0].op else ""
        lines += ["", f"{title}{count}", *_reasons(members)]
    return "\n".join(lines)


def _reasons(problems: Iterable[Problem]) -> list[str]:
    by_reason: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        by_reason.setdefault((problem.reason, problem.advice), []).append(problem)
    lines = []
    for (reason, advice), members in by_reason.items():
        lines.append(f"  {reason}")
        lines += [f"    at {member.place}" for member in members[:SHOWN]]
        if len(members) > SHOWN:
            lines.append(f"    and at {len(members) - SHOWN} more")
        if advice:
            lines.append(f"  -> {advice}")
    return lines
