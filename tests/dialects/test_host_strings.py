"""Handles of strings: equal strings have one, and what is no text is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.func import FuncOp
from stepwell.dialects.host_strings import STRINGS, StringPool, StringTable, as_texts
from stepwell.errors import IRError
from stepwell.ir.attributes import ArrayAttr, Attribute, StringAttr
from stepwell.ir.parser import parse_module
from stepwell.ir.printer import print_op


def objects(*items: Any) -> Any:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_equal_strings_have_one_handle_and_come_back() -> None:
    table = StringTable(StringPool.of_texts(["b", "", "a", "b"]))
    handles = table.handles(objects("a", "x", "", "b", "y", "x").reshape(2, 3))
    assert handles.tolist() == [[2, 3, 0], [1, 4, 3]] and handles.dtype == np.int64
    assert table.texts(handles).tolist() == [["a", "x", ""], ["b", "y", "x"]]


def test_calls_do_not_share_what_they_make() -> None:
    pool = StringPool.of_texts(["a"])
    first, second = StringTable(pool), StringTable(pool)
    assert first.handle("x") == second.handle("y") == 2
    assert first.texts(np.array([2])).tolist() == ["x"]


@pytest.mark.parametrize("number", [-1, 3, 2**62])
def test_a_number_that_is_no_handle_is_an_error(number: int) -> None:
    with pytest.raises(IRError, match="no string"):
        StringTable(StringPool.of_texts(["a", "b"])).texts(np.array([0, number]))


@pytest.mark.parametrize("text", ["", "a", "\0", 'q"\\\n\t', "日本\U0001f600", "\x7f\x80"])
def test_a_pool_survives_the_text_of_the_ir(text: str) -> None:
    module = parse_module("builtin.module { func.func @main() { func.return } }")
    next(module.walk_of(FuncOp)).attributes[STRINGS] = StringPool.of_texts(["first", text]).attribute()
    again = next(parse_module(print_op(module)).walk_of(FuncOp))
    assert StringPool.of(again).texts == StringPool.of_texts(["first", text]).texts


@pytest.mark.parametrize(
    "kept",
    [StringAttr("a"), ArrayAttr((StringAttr("a"),)), ArrayAttr((StringAttr(""), StringAttr("a"), StringAttr("a"))),
     ArrayAttr((StringAttr(""), ArrayAttr(())))],
)  # fmt: skip
def test_a_damaged_pool_is_refused(kept: Attribute) -> None:
    function = FuncOp.declare("main", [])
    function.attributes[STRINGS] = kept
    with pytest.raises(IRError, match="is no list of different strings"):
        StringPool.of(function)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (np.array(["ab", "c"]), ["ab", "c"]),
        (np.array([b"ab", "é".encode()]), ["ab", "é"]),
        (objects("a", b"b", np.str_("c")), ["a", "b", "c"]),
        (objects("nul\0inside", ""), ["nul\0inside", ""]),
        (np.array(["x"], np.dtypes.StringDType()), ["x"]),
        (np.empty((0, 2), object), []),
        ("alone", "alone"),
    ],
)
def test_what_is_text_becomes_str(given: Any, expected: Any) -> None:
    made = as_texts(given, "input 'x'")
    assert made.dtype == object and made.tolist() == expected
    assert all(type(item) is str for item in made.reshape(-1))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.array([1, 2]), "input 'x' holds int as element 0"),
        (objects("a", None), "input 'x' holds NoneType as element 1"),
        (objects("a", float("nan")), "input 'x' holds float as element 1"),
        (objects("a", "\ud800"), "input 'x': string 1 is not UTF-8"),
        (objects(b"\xff\xfe"), "input 'x': string 0 is not UTF-8"),
        ([["a"], ["b", "c"]], "input 'x' cannot be made an array of strings"),
    ],
)
def test_what_is_no_text_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(IRError, match=reason):
        as_texts(given, "input 'x'")
