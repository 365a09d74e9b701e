"""Regular expressions in RE2's syntax (github.com/google/re2/wiki/Syntax), matched in time linear in the text.

A pattern becomes the states of a nondeterministic automaton (Thompson, "Regular Expression Search Algorithm", 1968); a
text is run through all of them at once, and steps that were taken before are remembered. So no text makes a match
explode, as it may with `re`, whose syntax means something else in places, too."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import attrs

from stepwell.dialects.host_functions.expression_syntax import (
    Alternatives,
    Assertion,
    Characters,
    Node,
    Repeat,
    Sequenced,
    parse,
)
from stepwell.errors import IRError

MOST_STATES = 50_000
"""Of one pattern: repetitions inside repetitions make many."""

MOST_REMEMBERED = 1_000_000
"""States in the steps that are remembered of one pattern, counted once per step."""


@attrs.define(eq=False)
class State:
    """Where a match may stand: it goes on to `next` behind a character of `characters`, or at once (to any of `next`)
    where it has none, if the assertion holds."""

    next: tuple[int, ...] = ()
    characters: Characters | None = None
    assertion: str = ""


class Automaton:
    """The states of a pattern; `matches` says whether a whole text leads from the first to the last."""

    def __init__(self, tree: Node) -> None:
        self.states: list[State] = []
        self.last = self._add(State())
        self.first = self._build(tree, self.last)
        self.looks = any(state.assertion for state in self.states)
        self._steps: dict[tuple[frozenset[int], frozenset[str], str], frozenset[int]] = {}
        self._remembered = 0

    def _add(self, state: State) -> int:
        if len(self.states) >= MOST_STATES:
            raise IRError(f"the pattern is too large: more than {MOST_STATES} states")
        self.states.append(state)
        return len(self.states) - 1

    def _build(self, node: Node, then: int) -> int:
        """The state from which a node leads to `then`."""
        if isinstance(node, Characters):
            return self._add(State((then,), node))
        if isinstance(node, Assertion):
            return self._add(State((then,), None, node.kind))
        if isinstance(node, Sequenced):
            for part in reversed(node.parts):
                then = self._build(part, then)
            return then
        if isinstance(node, Alternatives):
            return self._add(State(tuple(self._build(part, then) for part in node.parts)))
        return self._repeated(node, then)

    def _repeated(self, node: Repeat, then: int) -> int:
        if node.most is None:
            loop = self._add(State())
            self.states[loop].next = (self._build(node.part, loop), then)
            then = loop
        for _ in range((node.most or node.least) - node.least):
            then = self._add(State((self._build(node.part, then), then)))
        for _ in range(node.least):
            then = self._build(node.part, then)
        return then

    def matches(self, text: str) -> bool:
        """Whether the pattern matches a whole text."""
        here = frozenset([self.first])
        for place, character in enumerate(text):
            holds = self._holds(text, place)
            known = self._steps.get((here, holds, character))  # other threads may forget it at any time
            here = self._step(here, holds, character) if known is None else known
            if not here:
                return False
        return self.last in self._reached(here, self._holds(text, len(text)))

    def _step(self, here: frozenset[int], holds: frozenset[str], character: str) -> frozenset[int]:
        found = (self.states[number] for number in self._reached(here, holds))
        made = frozenset(s.next[0] for s in found if s.characters is not None and s.characters.has(character))
        if self._remembered > MOST_REMEMBERED:
            self._steps.clear()
            self._remembered = 0
        self._steps[here, holds, character] = made
        self._remembered += 1 + len(here)
        return made

    def _reached(self, here: frozenset[int], holds: frozenset[str]) -> set[int]:
        """The states where a match may stand before the next character."""
        found, pending = set(here), list(here)
        while pending:
            state = self.states[pending.pop()]
            if state.characters is None and (not state.assertion or state.assertion in holds):
                new = [number for number in state.next if number not in found]
                found.update(new)
                pending += new
        return found

    def _holds(self, text: str, place: int) -> frozenset[str]:
        """The assertions that hold between two characters."""
        if not self.looks:
            return _NOTHING
        before, after = text[place - 1 : place] if place else "", text[place : place + 1]
        return frozenset(_holding(before, after))


_NOTHING: frozenset[str] = frozenset()


def _holding(before: str, after: str) -> Iterator[str]:
    if not before:
        yield "text start"
    if not after:
        yield "text end"
    if before in ("", "\n"):
        yield "line start"
    if after in ("", "\n"):
        yield "line end"
    yield "boundary" if _is_word(before) != _is_word(after) else "no boundary"


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def checked(pattern: str) -> None:
    """Raise IRError, with the place, where a pattern is not RE2's or uses what is not supported."""
    matcher(pattern)


@functools.lru_cache(64)
def matcher(pattern: str) -> Callable[[str], bool]:
    """What says whether a whole text matches a pattern. Raises IRError for what is no pattern."""
    return Automaton(parse(pattern)).matches
