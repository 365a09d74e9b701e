"""The syntax of regular expressions as RE2 has it (github.com/google/re2/wiki/Syntax): patterns to trees.

Not supported: Unicode scripts (`\\p{Greek}`) and single bytes (`\\C`); back-references and look-around, which RE2 lacks
itself. What a group catches is of no interest here."""

from __future__ import annotations

import functools
import unicodedata

import attrs

from stepwell.errors import IRError

MOST_REPEATS = 1000
DEEPEST = 100
LAST = 0x10FFFF

Range = tuple[int, int]

_DIGIT: list[Range] = [(48, 57)]
_SPACE: list[Range] = [(9, 10), (12, 13), (32, 32)]
_WORD: list[Range] = [(48, 57), (65, 90), (95, 95), (97, 122)]
_CLASSES: dict[str, list[Range]] = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_NAMED: dict[str, list[Range]] = {
    "alnum": [(48, 57), (65, 90), (97, 122)], "alpha": [(65, 90), (97, 122)], "ascii": [(0, 127)],
    "blank": [(9, 9), (32, 32)], "cntrl": [(0, 31), (127, 127)], "digit": _DIGIT, "graph": [(33, 126)],
    "lower": [(97, 122)], "print": [(32, 126)], "punct": [(33, 47), (58, 64), (91, 96), (123, 126)],
    "space": [(9, 13), (32, 32)], "upper": [(65, 90)], "word": _WORD, "xdigit": [(48, 57), (65, 70), (97, 102)],
}  # fmt: skip
_ESCAPES = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_CATEGORIES = frozenset({
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P",
    "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
})  # fmt: skip


@attrs.frozen(eq=False)
class Characters:
    """One character out of a set: ranges of code points, general categories of Unicode and sets inside; `negated`: one
    that is not in it; `folded`: upper and lower case are the same."""

    ranges: tuple[Range, ...] = ()
    categories: tuple[str, ...] = ()
    parts: tuple[Characters, ...] = ()
    negated: bool = False
    folded: bool = False

    def has(self, character: str) -> bool:
        """Whether a character is in the set."""
        variants = _variants(character) if self.folded else (character,)
        return any(map(self._includes, variants)) != self.negated

    def _includes(self, character: str) -> bool:
        code = ord(character)
        if any(low <= code <= high for low, high in self.ranges):
            return True
        if self.categories and unicodedata.category(character).startswith(self.categories):
            return True
        return any(part.has(character) for part in self.parts)


@attrs.frozen(eq=False)
class Assertion:
    """A place without a character: `text start`, `text end`, `line start`, `line end`, `boundary`, `no boundary`."""

    kind: str


@attrs.frozen(eq=False)
class Sequenced:
    """Parts one after the other."""

    parts: tuple[Node, ...]


@attrs.frozen(eq=False)
class Alternatives:
    """One of some parts."""

    parts: tuple[Node, ...]


@attrs.frozen(eq=False)
class Repeat:
    """A part `least` to `most` times (None: as often as may be)."""

    part: Node
    least: int
    most: int | None


Node = Characters | Assertion | Sequenced | Alternatives | Repeat


@functools.lru_cache(4096)
def _variants(character: str) -> tuple[str, ...]:
    """A character in upper and lower case."""
    if character.isascii() and character not in "kKsS":
        return character, character.swapcase()
    key = _folded(character)
    return tuple({character, *_orbits().get(key, ())})


def _folded(character: str) -> str:
    low = character.upper().lower()
    return low if len(low) == 1 else character


@functools.cache
def _orbits() -> dict[str, list[str]]:
    """Characters that differ in case only, by one of them. Beyond this, Unicode has no letters of two cases."""
    found: dict[str, list[str]] = {}
    for code in range(0x1E944):
        character = chr(code)
        if character.lower() != character or character.upper() != character:
            found.setdefault(_folded(character), []).append(character)
    return found


def parse(pattern: str) -> Node:
    """The tree of a pattern. Raises IRError with the place of what is wrong."""
    return _Parser(pattern).whole()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.place = 0
        self.flags: frozenset[str] = frozenset()
        self.depth = 0

    def error(self, what: str) -> IRError:
        return IRError(f"the pattern {self.text!r} is not RE2's, at character {self.place}: {what}")

    def at(self, text: str) -> bool:
        """Whether a text comes next; it is taken then."""
        if self.text.startswith(text, self.place):
            self.place += len(text)
            return True
        return False

    def peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def take(self) -> str:
        if self.place >= len(self.text):
            raise self.error("it ends too early")
        self.place += 1
        return self.text[self.place - 1]

    def whole(self) -> Node:
        found = self.alternatives()
        if self.place < len(self.text):
            raise self.error("a ) without a (")
        return found

    def alternatives(self) -> Node:
        parts = [self.sequence()]
        while self.at("|"):
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Alternatives(tuple(parts))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            if self.at("\\Q"):
                quoted, _, _ = self.text[self.place :].partition("\\E")
                self.place += len(quoted)
                self.at("\\E")
                parts += map(self.literal, quoted)
                if not quoted:
                    continue
            else:
                found = self.atom()
                if found is None:
                    continue
                parts.append(found)
            parts[-1] = self.repeated(parts[-1])
        return Sequenced(tuple(parts))

    # Repetition

    def repeated(self, part: Node) -> Node:
        bounds = self.bounds()
        if bounds is None:
            return part
        self.at("?")  # which of several matches is found is of no interest
        if self.bounds() is not None:
            raise self.error("a repetition of a repetition")
        return Repeat(part, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        for mark, found in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.at(mark):
                return found
        start = self.place
        if not self.at("{"):
            return None
        least = self.number()
        most = least
        if least is not None and self.at(","):
            most = self.number()
        if least is None or not self.at("}"):
            self.place = start
            return None
        if least > MOST_REPEATS or (most is not None and (most > MOST_REPEATS or most < least)):
            raise self.error(f"a repetition is at most {MOST_REPEATS} times, and not from more to fewer")
        return least, most

    def number(self) -> int | None:
        start = self.place
        while self.peek() and self.peek() in "0123456789" and self.place - start < 5:
            self.place += 1
        return int(self.text[start : self.place]) if self.place > start else None

    # One place

    def literal(self, character: str) -> Characters:
        return self.characters([(ord(character), ord(character))])

    def characters(self, ranges: list[Range], negated: bool = False) -> Characters:
        return Characters(tuple(ranges), negated=negated, folded="i" in self.flags)

    def atom(self) -> Node | None:
        """What comes next; None for flags, which stand for nothing. `{` may be a character of its own."""
        if self.peek() in ("*", "+", "?"):
            raise self.error(f"nothing that {self.peek()} repeats")
        start = self.place
        if self.bounds() is not None:
            self.place = start
            raise self.error("nothing that { repeats")
        character = self.take()
        if character == "(":
            return self.group()
        if character == "[":
            return self.set()
        if character == ".":
            return Characters(() if "s" in self.flags else ((10, 10),), negated=True)
        if character == "^":
            return Assertion("line start" if "m" in self.flags else "text start")
        if character == "$":
            return Assertion("line end" if "m" in self.flags else "text end")
        return self.escape() if character == "\\" else self.literal(character)

    def group(self) -> Node | None:
        outer = self.flags
        if self.at("?"):
            if self.at("P<") or self.at("<"):
                self.name()
            elif not self.group_flags():
                return None  # they hold up to the end of the group around
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"groups are nested more than {DEEPEST} deep")
        found = self.alternatives()
        self.depth -= 1
        if not self.at(")"):
            raise self.error("a ( without a )")
        self.flags = outer
        return found

    def name(self) -> None:
        name, found, _ = self.text[self.place :].partition(">")
        if not found or not name or not name.isascii() or not name.replace("_", "a").isalnum():
            raise self.error("a group's name is letters, digits and _")
        self.place += len(name) + 1

    def group_flags(self) -> bool:
        """Read flags up to `:` (a group begins) or `)` (they hold from here on). Answers whether a group begins."""
        adds, found = True, set(self.flags)
        seen = False
        while True:
            character = self.take()
            if character in "imsU":
                (found.add if adds else found.discard)(character)
                seen = True
            elif character == "-" and adds:
                adds, seen = False, False
            elif character == ":" and (adds or seen):
                self.flags = frozenset(found)
                return True
            elif character == ")" and seen:
                self.flags = frozenset(found)
                return False
            else:
                self.place -= 1
                raise self.error("flags are i, m, s and U; look-around does not exist")

    # Escapes

    def escape(self) -> Node:
        character = self.take()
        kinds = {"A": "text start", "z": "text end", "b": "boundary", "B": "no boundary"}
        if character in kinds:
            return Assertion(kinds[character])
        self.place -= 1
        return self.escaped_class() or self.characters([(code := self.escaped_code(), code)])

    def escaped_class(self) -> Characters | None:
        """`\\d`, `\\W`, `\\pL`, `\\P{Lu}`, at the letter."""
        character = self.peek()
        if character and character in "dswDSW":
            self.place += 1
            return Characters(tuple(_CLASSES[character.lower()]), negated=character.isupper())
        if character and character in "pP":
            self.place += 1
            return self.category(character == "P")
        return None

    def category(self, negated: bool) -> Characters:
        name = self.take()
        if name == "{":
            name, closed, _ = self.text[self.place :].partition("}")
            if not closed:
                raise self.error("a { without a }")
            self.place += len(name) + 1
        if name.startswith("^"):
            name, negated = name[1:], not negated
        if name != "Any" and name not in _CATEGORIES:
            raise self.error(f"{name!r} is no general category of Unicode; scripts are not supported")
        return Characters(((0, LAST),) if name == "Any" else (), () if name == "Any" else (name,), negated=negated)

    def escaped_code(self) -> int:
        """The character that an escape stands for, at the character behind the backslash."""
        character = self.take()
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character == "x":
            return self.hexadecimal()
        if character == "0" or (character in "1234567" and self.peek() and self.peek() in "01234567"):
            digits = character
            while len(digits) < 3 and self.peek() and self.peek() in "01234567":
                digits += self.take()
            return int(digits, 8)
        if character.isascii() and not character.isalnum():
            return ord(character)
        self.place -= 1
        raise self.error(f"\\{character} means nothing here; back-references do not exist")

    def hexadecimal(self) -> int:
        if self.at("{"):
            digits, closed, _ = self.text[self.place :].partition("}")
            valid, length = bool(closed) and 1 <= len(digits) <= 8, len(digits) + 1
        else:
            digits, length = self.text[self.place : self.place + 2], 2
            valid = len(digits) == 2
        if not valid or set(digits) - set("0123456789abcdefABCDEF") or int(digits, 16) > LAST:
            raise self.error("\\x is followed by two hexadecimal digits, or by a code point in { }")
        self.place += length
        return int(digits, 16)

    # Sets

    def set(self) -> Characters:
        negated = self.at("^")
        ranges: list[Range] = []
        parts: list[Characters] = []
        first = True
        while first or not self.at("]"):
            part = self.set_class()
            if part is not None:
                parts.append(part)
            else:
                ranges.append(self.set_range(first))
            first = False
        return Characters(tuple(ranges), (), tuple(parts), negated, "i" in self.flags)

    def set_class(self) -> Characters | None:
        if self.at("[:"):
            negated = self.at("^")
            name, found, _ = self.text[self.place :].partition(":]")
            if not found or name not in _NAMED:
                raise self.error(f"there is no class [:{name[:20]}:]")
            self.place += len(name) + 2
            return Characters(tuple(_NAMED[name]), negated=negated)
        if self.peek() == "\\" and self.text[self.place + 1 : self.place + 2] in tuple("dswDSWpP"):
            self.place += 1
            return self.escaped_class()
        return None

    def set_range(self, first: bool) -> Range:
        start = self.place
        low = self.set_character()
        if low == ord("-") and self.text[start] == "-" and not first and self.peek() != "]":
            raise self.error("a - that is no range")
        if self.peek() != "-" or self.text[self.place + 1 : self.place + 2] in ("]", ""):
            return low, low
        self.place += 1
        high = self.set_character()
        if high < low:
            raise self.error("a range from a later character to an earlier one")
        return low, high

    def set_character(self) -> int:
        character = self.take()
        return self.escaped_code() if character == "\\" else ord(character)
