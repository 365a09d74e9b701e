"""Metadata that is not trusted: JSON text whose every value is checked for its type and range as it is read.

    record = Record.parse(data)
    record.text("name"), record.integer("segments", 0, 100), record.records("inputs")
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from stepwell.errors import StepwellError

T = TypeVar("T")


class BadRecord(ValueError):
    """Metadata without the values that it must have: where, and what is wrong."""


class Record(NamedTuple):
    """A JSON object; `where` leads to it. All methods raise BadRecord for a value that is missing or another one."""

    fields: dict[str, Any]
    where: str = "metadata"

    @staticmethod
    def parse(data: bytes) -> Record:
        """The object of a text in UTF-8."""
        try:
            found = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"metadata: {error}") from None
        return Record._of(found, "metadata")

    @staticmethod
    def _of(value: Any, where: str) -> Record:
        if not isinstance(value, dict):
            raise BadRecord(f"{where} is no object")
        return Record(value, where)

    def text(self, name: str) -> str:
        """A string."""
        return self._get(name, str)

    def flag(self, name: str) -> bool:
        """True or false."""
        return self._get(name, bool)

    def integer(self, name: str, least: int, most: int) -> int:
        """A number in the range, its ends included."""
        value = self._get(name, int)
        if isinstance(value, bool) or not least <= value <= most:
            raise BadRecord(f"{self.where}.{name} is {value!r}, not a number from {least} to {most}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self._get(name, list)
        if not all(isinstance(value, str) for value in values):
            raise BadRecord(f"{self.where}.{name} is no list of texts")
        return tuple(values)

    def record(self, name: str) -> Record:
        """An object."""
        return Record._of(self.fields.get(name), f"{self.where}.{name}")

    def records(self, name: str) -> tuple[Record, ...]:
        """A list of objects."""
        values = self._get(name, list)
        return tuple(Record._of(value, f"{self.where}.{name}[{index}]") for index, value in enumerate(values))

    def read(self, name: str, reader: Callable[[str], T]) -> T:
        """A string's meaning, as `reader` tells it."""
        return self._meaning(name, self.text(name), reader)

    def reads(self, name: str, reader: Callable[[str], T]) -> tuple[T, ...]:
        """The meanings of a list of strings."""
        return tuple(self._meaning(name, text, reader) for text in self.texts(name))

    def _meaning(self, name: str, text: str, reader: Callable[[str], T]) -> T:
        try:
            return reader(text)
        except (StepwellError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise BadRecord(f"{self.where}.{name}: {text!r}: {error}") from None

    def _get(self, name: str, type_: type[T]) -> T:
        value = self.fields.get(name)
        if not isinstance(value, type_):
            raise BadRecord(f"{self.where}.{name} is {type(value).__name__}, not {type_.__name__}")
        return value


def to_bytes(record: dict[str, Any]) -> bytes:
    """The text of an object; equal objects give equal bytes."""
    return json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
