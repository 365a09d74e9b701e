"""Regular expressions: pattern and text -> whether they match; what is no pattern; texts that make backtracking
explode."""

from __future__ import annotations

import sys

import pytest

from stepwell.dialects.host_functions.expressions import checked, matcher
from stepwell.errors import IRError


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc", "ABC"]),
        ("a|bc*", ["a", "b", "bccc"], ["ac", "bca"]),
        (".", ["é", "\t", "日"], ["\n", "", "ab"]),
        (r"\d+", ["12"], ["٣", "a"]),
        (r"\pL+\p{Nd}", ["日é١"], ["1a"]),
        (r"^a$", ["a"], ["a\n", "\na"]),
        ("(?i)straSSe", ["STRASSE"], ["straße"]),
        ("a\x00b", ["a\x00b"], ["a", "ab"]),
    ],
)
def test_matches_as_a_whole(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = matcher(pattern)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in others if matches(text)] == []


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", r"missing \)"),
        ("[a", r"missing \]"),
        ("a\\", r"trailing \\"),
        ("*a", "no argument for repetition"),
        ("a**", "bad repetition"),
        ("a{1001}", "invalid repetition size"),
        ("(?=a)", r"invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        (r"\p{Klingon}", "invalid character class"),
        ("((a{1000}){1000}){1000}", "repetition size|too large"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(IRError, match=f"is no regular expression: .*({reason})"):
        checked(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*b", "(.*)*x"])
def test_no_text_makes_a_match_explode(pattern: str) -> None:
    matches = matcher(pattern)
    assert not matches("a" * 50_000)
    assert matches("a" * 50_000 + pattern[-1])


def test_without_re2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    matcher.cache_clear()
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(IRError, match=r"stepwell\[text\]"):
        checked("a")
