"""Passes, nested pipelines of them, and the hooks around each."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import attrs

from stepwell.errors import PassError
from stepwell.ir.core import Operation


@attrs.frozen
class Pass:
    """A transformation. Subclasses are small frozen attrs classes whose fields are the pass's options.

    `name` is its name in pipelines; the first line of the doc string is its description."""

    name: ClassVar[str] = ""

    def run(self, module: Operation, context: PassContext) -> None:
        """Change the module in place. Raises PassError."""
        raise NotImplementedError

    @property
    def description(self) -> str:
        """One line."""
        return (type(self).__doc__ or "").strip().partition("\n")[0]

    def __str__(self) -> str:
        shown = []
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if value != field.default:
                shown.append(f"{field.name.replace('_', '-')}={_option_text(value)}")
        return self.name + (f"{{{' '.join(shown)}}}" if shown else "")


@attrs.define
class PassContext:
    """What passes share: the target's description, options of the compilation, and a place to say what they decided."""

    target: Any = None
    options: Mapping[str, Any] = attrs.Factory(dict)
    remarks: list[Remark] = attrs.Factory(list)
    statistics: dict[str, int] = attrs.Factory(dict)

    def remark(self, op: Operation, message: str) -> None:
        """Record a decision taken or not taken, and why."""
        self.remarks.append(Remark(op.op_name, op.loc.label, message))

    def count(self, what: str, by: int = 1) -> None:
        """Add to a statistic."""
        self.statistics[what] = self.statistics.get(what, 0) + by


@attrs.frozen
class Remark:
    """A decision of the compiler about one op."""

    op: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where or self.op}: {self.message}"


class Instrument(Protocol):
    """Hooks around every pass: printing, timing, verifying and the like are instruments, not code in passes."""

    def before(self, pass_: Pass, module: Operation) -> None:
        """Called before a pass."""

    def after(self, pass_: Pass, module: Operation) -> None:
        """Called after a pass that worked."""

    def failed(self, pass_: Pass, module: Operation, error: Exception) -> None:
        """Called when a pass raised."""


def _as_tuple(passes: Iterable[Pass | Phase]) -> tuple[Pass | Phase, ...]:
    return tuple(passes)


@attrs.frozen
class Phase:
    """A named stretch of the pipeline. `anchor` runs the passes on every op of that name instead of on the module."""

    name: str
    passes: tuple[Pass | Phase, ...] = attrs.field(converter=_as_tuple)
    description: str = ""
    anchor: str | None = None

    def flat(self) -> Iterator[Pass]:
        """The passes in order."""
        for item in self.passes:
            yield from item.flat() if isinstance(item, Phase) else (item,)

    def __str__(self) -> str:
        return f"{self.anchor or self.name}({','.join(map(str, self.passes))})"


class PassManager:
    """Runs passes with instruments around them; stops after the pass or phase named by `stop_after`."""

    def __init__(self, items: Sequence[Pass | Phase], instruments: Iterable[Instrument] = ()) -> None:
        self.items = tuple(items)
        self.instruments = list(instruments)

    def run(self, module: Operation, context: PassContext) -> None:
        """Run everything in order."""
        self._run(self.items, module, context)

    def _run(self, items: Sequence[Pass | Phase], root: Operation, context: PassContext) -> None:
        for item in items:
            if isinstance(item, Pass):
                self._run_pass(item, root, context)
            elif item.anchor is None:
                self._run(item.passes, root, context)
            else:
                for op in [op for op in root.walk() if op.op_name == item.anchor]:
                    self._run(item.passes, op, context)

    def _run_pass(self, pass_: Pass, root: Operation, context: PassContext) -> None:
        for instrument in self.instruments:
            instrument.before(pass_, root)
        try:
            pass_.run(root, context)
        except Exception as error:
            for instrument in reversed(self.instruments):
                instrument.failed(pass_, root, error)
            raise
        for instrument in reversed(self.instruments):
            instrument.after(pass_, root)


# Textual pipelines: `graph(canonicalize,cse),to-tensor{fuse=false}`


_WORD = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*")
MAX_PIPELINE_DEPTH = 20


def parse_pipeline(
    text: str, find_pass: Callable[[str], type[Pass] | None], phases: Iterable[str] = ()
) -> list[Pass | Phase]:
    """The passes that a text names. A group is a phase's name, or an op's name on whose ops its passes run.

    Raises PassError pointing at the place."""
    items, position = _parse_items(text, 0, find_pass, frozenset(phases), 0)
    if position != len(text):
        raise _pipeline_error(text, position, "unexpected text")
    return items


def _pipeline_error(text: str, position: int, message: str) -> PassError:
    return PassError(f"{message} in the pipeline:\n  {text}\n  {' ' * position}^")


def _parse_items(
    text: str, position: int, find_pass: Callable[[str], type[Pass] | None], phases: frozenset[str], depth: int
) -> tuple[list[Pass | Phase], int]:
    if depth > MAX_PIPELINE_DEPTH:
        raise _pipeline_error(text, position, "nested too deeply")
    items: list[Pass | Phase] = []
    while position < len(text) and text[position] != ")":
        match = _WORD.match(text, position)
        if match is None:
            raise _pipeline_error(text, position, "expected a pass name")
        name, start, position = match[1], match.start(1), match.end()
        if text[position : position + 1] == "(":
            inner, position = _parse_items(text, position + 1, find_pass, phases, depth + 1)
            if text[position : position + 1] != ")":
                raise _pipeline_error(text, position, "missing ')'")
            position += 1
            if "." not in name and name not in phases:
                raise _pipeline_error(text, start, f"{name!r} is neither a phase nor an operation")
            items.append(Phase(name, inner, anchor=name if "." in name else None))
        else:
            options, position = _parse_options(text, position)
            items.append(_make_pass(text, start, name, options, find_pass))
        if text[position : position + 1] == ",":
            position += 1
            if position == len(text):
                raise _pipeline_error(text, position, "expected a pass name")
        elif position < len(text) and text[position] != ")":
            raise _pipeline_error(text, position, "expected ','")
    return items, position


def _parse_options(text: str, position: int) -> tuple[dict[str, str], int]:
    if text[position : position + 1] != "{":
        return {}, position
    close = text.find("}", position)
    if close < 0:
        raise _pipeline_error(text, position, "missing '}'")
    options = {}
    for item in text[position + 1 : close].split():
        key, equals, value = item.partition("=")
        options[key.replace("-", "_")] = value if equals else "true"
    return options, close + 1


def _make_pass(
    text: str, start: int, name: str, options: dict[str, str], find_pass: Callable[[str], type[Pass] | None]
) -> Pass:
    cls = find_pass(name)
    if cls is None:
        raise _pipeline_error(text, start, f"unknown pass {name!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in attrs.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise _pipeline_error(text, start, f"{name!r} has no option {key!r} (it has: {known})")
        try:
            values[key] = _option_value(value, fields[key])
        except ValueError:
            raise _pipeline_error(text, start, f"bad value {value!r} for option {key!r} of {name!r}") from None
    return cls(**values)


def _option_text(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _option_value(text: str, type_: Any) -> Any:
    """An option's text as a value of its field's type: bool, int, float, str, or one of these and None."""
    choices = typing.get_args(type_) or (type_,)
    if type(None) in choices and text == "none":
        return None
    if bool in choices:
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    return int(text) if int in choices else float(text) if float in choices else text
