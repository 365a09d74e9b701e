"""Functions on strings: what they are told and given -> what they give; what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.host_functions import find, host_function
from stepwell.dialects.host_functions.strings import text_array
from stepwell.errors import IRError
from stepwell.ir.types import F32, I1, SI32, StringType


def texts(*rows: Any) -> Any:
    """An array of strings; of several lists, one per row."""
    if rows and isinstance(rows[0], list):
        return text_array([item for row in rows for item in row], (len(rows), len(rows[0])))
    return text_array(rows, (len(rows),))


def run(name: str, config: dict[str, Any], *arrays: Any) -> list[Any]:
    made = find(name).run(config, *arrays)
    return [array.tolist() for array in (made if isinstance(made, tuple) else (made,))]


@pytest.mark.parametrize(
    ("name", "config", "given", "expected"),
    [
        ("string_concat", {}, [texts("a", "é"), texts("-", "\0")], [["a-", "é\0"]]),
        ("string_concat", {}, [texts(["a"], ["b"]), texts("x", "y")], [[["ax", "ay"], ["bx", "by"]]]),
        ("string_concat", {}, [texts(), texts()], [[]]),
        ("string_split", {}, [texts(" a  b ", "", "c")], [[["a", "b"], ["", ""], ["c", ""]], [2, 0, 1]]),
        ("string_split", {"delimiter": ""}, [texts("a\tb")], [[["a", "b"]], [2]]),
        ("string_split", {"delimiter": ","}, [texts(",a,,", "b")], [[["", "a", "", ""], ["b", "", "", ""]], [4, 1]]),
        ("string_split", {"delimiter": ",", "maxsplit": 1}, [texts("a,b,c")], [[["a", "b,c"]], [2]]),
        ("string_split", {"delimiter": ","}, [texts()], [[], []]),
        ("string_normalizer", {"case": "UPPER"}, [texts("Straße", "é")], [["STRASSE", "É"]]),
        ("string_normalizer", {"case": "LOWER", "stopwords": ["THE"]}, [texts("The", "Cat")], [["cat"]]),
        ("string_normalizer", {"is_case_sensitive": True, "stopwords": ["THE"]}, [texts("The", "THE")], [["The"]]),
        ("string_normalizer", {"stopwords": ["a"]}, [texts("A", "a")], [[""]]),
        ("string_normalizer", {"stopwords": ["a"]}, [texts(["a", "b"])], [[["b"]]]),
        ("string_normalizer", {"stopwords": ["a"]}, [texts(["a", "a"])], [[[""]]]),
        ("string_normalizer", {}, [texts("", "a")], [["", "a"]]),
        ("regex_full_match", {"pattern": "a+"}, [texts(["aa", "b"], ["", "a"])], [[[True, False], [False, True]]]),
        ("string_rank", {}, [texts("b", "B", "", "b", "日")], [[2, 1, 0, 2, 3]]),
        ("string_cast", {"to": StringType()}, [np.float32([1.5, np.inf])], [["1.5", "INF"]]),
        ("string_cast", {"to": StringType()}, [np.array([-3, 7], np.int8)], [["-3", "7"]]),
        ("string_cast", {"to": F32}, [texts(" 1e3 ", "-inf", ".5", "+7.")], [[1000.0, -np.inf, 0.5, 7.0]]),
        ("string_cast", {"to": SI32}, [texts("-12", "007")], [[-12, 7]]),
        ("string_cast", {"to": I1}, [texts("0", "2")], [[False, True]]),
    ],
)
def test_gives_what_is_expected(name: str, config: dict[str, Any], given: list[Any], expected: list[Any]) -> None:
    assert run(name, config, *given) == expected


@pytest.mark.parametrize(
    ("name", "config", "given", "reason"),
    [
        ("string_concat", {}, [texts("a", "b"), texts("a", "b", "c")], r"\[2\] and \[3\] do not broadcast"),
        ("string_normalizer", {}, [texts(["a"], ["b"])], r"\[1, c\], not \[2, 1\]"),
        ("string_cast", {"to": F32}, [texts("1_0")], "'1_0' is no number"),
        ("string_cast", {"to": F32}, [texts("0x10")], "is no number"),
        ("string_cast", {"to": SI32}, [texts("٣")], "is no number"),
        ("string_cast", {"to": SI32}, [texts("")], "'' is no number"),
        ("string_reverse", {}, [texts("a")], "no function @string_reverse on the host; there are image_decoder"),
    ],
)
def test_refuses(name: str, config: dict[str, Any], given: list[Any], reason: str) -> None:
    with pytest.raises(IRError, match=reason):
        run(name, config, *given)


def test_one_long_string_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.dialects.host_functions.strings.MOST_PARTS", 10)
    assert run("string_split", {"delimiter": ","}, texts(",,,,", "a"))[1] == [5, 1]
    with pytest.raises(IRError, match="3 strings with up to 4 parts: at most 10 places"):
        run("string_split", {"delimiter": ","}, texts(",,,", "a", "b"))


def test_a_name_has_one_function() -> None:
    with pytest.raises(IRError, match="two functions on the host are called 'string_concat'"):

        @host_function(lambda op: [])
        def string_concat(config: Any) -> Any: ...
