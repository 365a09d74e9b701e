"""Metadata that is not trusted."""

from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.records import BadRecord, Record, to_bytes
from stepwell.ir.dims import parse_dim

FIELDS: dict[str, Any] = {
    "name": "größe", "flag": True, "count": 3, "names": ["a", "b"], "inner": {"x": 1}, "list": [{"x": 1}, {"x": 2}],
    "dims": ["n", "4*n", "7"],
}  # fmt: skip


def test_values_come_back() -> None:
    record = Record.parse(to_bytes(FIELDS))
    assert (record.text("name"), record.flag("flag"), record.integer("count", 0, 3)) == ("größe", True, 3)
    assert record.texts("names") == ("a", "b")
    assert record.record("inner").integer("x", 1, 1) == 1
    assert [entry.integer("x", 0, 9) for entry in record.records("list")] == [1, 2]
    assert record.reads("dims", parse_dim) == (parse_dim("n"), parse_dim("4*n"), 7)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda r: r.text("missing"), "metadata.missing is NoneType, not str"),
        (lambda r: r.text("count"), "metadata.count is int, not str"),
        (lambda r: r.flag("count"), "metadata.count is int, not bool"),
        (lambda r: r.integer("flag", 0, 9), "metadata.flag is True, not a number from 0 to 9"),
        (lambda r: r.integer("count", 4, 9), "metadata.count is 3, not a number from 4 to 9"),
        (lambda r: r.texts("list"), "metadata.list is no list of texts"),
        (lambda r: r.records("names"), r"metadata.names\[0\] is no object"),
        (lambda r: r.record("names"), "metadata.names is no object"),
        (lambda r: r.record("inner").text("x"), "metadata.inner.x is int, not str"),
        (lambda r: r.read("name", int), "metadata.name: 'größe': invalid literal"),
    ],
)
def test_other_values_are_named(read: Any, message: str) -> None:
    with pytest.raises(BadRecord, match=message):
        read(Record(FIELDS))


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_texts_that_are_no_object_are_refused(text: bytes) -> None:
    with pytest.raises(BadRecord, match="metadata"):
        Record.parse(text)
