"""Strings below the graph landing: a tensor of strings is a tensor of i64 *handles* into a table.

The strings of a program's constants have the handles from 0 on, in the order of its *pool*; handle 0 is the empty
string, so that memory of zeros holds empty strings. Each call has a table of its own behind them, for the strings that
it is given or makes. Equal strings have one handle: they are equal where their handles are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.errors import IRError
from stepwell.ir.attributes import ArrayAttr, StringAttr

Array = np.ndarray[Any, Any]

STRINGS = "sw.strings"
"""A program's attribute: the strings of its constants, in the order of their handles."""


@attrs.frozen(eq=False)
class StringPool:
    """The strings of a program's constants: handle -> string and back."""

    texts: tuple[str, ...]
    handles: Mapping[str, int]

    @staticmethod
    def of_texts(texts: Iterable[str]) -> StringPool:
        """The empty string, then the others in their order."""
        handles: dict[str, int] = {"": 0}
        for text in texts:
            handles.setdefault(text, len(handles))
        return StringPool(tuple(handles), handles)

    @staticmethod
    def of(function: FuncOp) -> StringPool:
        """That of a program. Raises IRError where its attribute is no list of different strings."""
        kept = function.attributes.get(STRINGS)
        values = kept.values if isinstance(kept, ArrayAttr) else () if kept is None else (kept,)
        texts = [value.value for value in values if isinstance(value, StringAttr)]
        pool = StringPool.of_texts(texts)
        if len(texts) != len(values) or (texts and pool.texts != tuple(texts)):
            raise IRError(f"{STRINGS} of @{function.sym_name} is no list of different strings, the empty one first")
        return pool

    def attribute(self) -> ArrayAttr:
        """As it stands at the program."""
        return ArrayAttr(tuple(StringAttr(text) for text in self.texts))


class StringTable:
    """The strings of one call."""

    def __init__(self, pool: StringPool) -> None:
        self._pool = pool
        self._first = len(pool.texts)
        self._texts: list[str] = []
        self._handles: dict[str, int] = {}

    def handle(self, text: str) -> int:
        """The handle of a string, a new one where it has none."""
        found = self._pool.handles.get(text)
        if found is not None:
            return found
        found = self._handles.setdefault(text, self._first + len(self._texts))
        if found == self._first + len(self._texts):
            self._texts.append(text)
        return found

    def handles(self, texts: Array) -> Array:
        """The handles of an array of strings, as int64 in the same shape."""
        found = np.fromiter(map(self.handle, texts.reshape(-1).tolist()), np.int64, texts.size)
        return found.reshape(texts.shape)

    def texts(self, handles: Array) -> Array:
        """The strings of an array of handles. Raises IRError for a number that is no handle."""
        flat = handles.reshape(-1)
        if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= self._first + len(self._texts)):
            raise IRError("a number that is no string stands where one is wanted")
        texts = np.empty(flat.size, object)
        texts[:] = [self._pool.texts[n] if n < self._first else self._texts[n - self._first] for n in flat.tolist()]
        return texts.reshape(handles.shape)


def as_texts(value: Any, where: str) -> Array:
    """An array of `str`, of the shape of what is given: an array of objects, of `str`, `bytes` or NumPy's strings, or
    anything that makes one. Bytes are UTF-8. Raises IRError, saying `where`, for what is no text."""
    try:
        given = value if isinstance(value, np.ndarray) else np.asarray(value)
        if given.dtype.kind not in "OSUT":  # numbers, or what NumPy would have made one type of
            given = np.asarray(value, object)
    except (TypeError, ValueError) as error:
        raise IRError(f"{where} cannot be made an array of strings: {error}") from None
    texts = np.empty(given.size, object)
    for place, item in enumerate(given.reshape(-1).tolist()):
        texts[place] = _text(item, place, where)
    return texts.reshape(given.shape)


def _text(item: Any, place: int, where: str) -> str:
    try:
        if isinstance(item, bytes):
            return item.decode()
        if isinstance(item, str):
            if not item.isascii():
                item.encode()
            return str(item)
    except UnicodeError as error:
        raise IRError(f"{where}: string {place} is not UTF-8: {error}") from None
    raise IRError(f"{where} holds {type(item).__name__} as element {place}, expected strings")
