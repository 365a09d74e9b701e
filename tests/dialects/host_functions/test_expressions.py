"""Regular expressions: pattern and text -> whether they match; what is no pattern; the same answers as `re` where both
mean the same; texts that make backtracking explode."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.dialects.host_functions.expression_syntax import parse
from stepwell.dialects.host_functions.expressions import MOST_STATES, Automaton, checked, matcher
from stepwell.errors import IRError


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc", "ABC"]),
        ("a|bc*", ["a", "b", "bccc"], ["ac", "bca"]),
        ("(a|b)+c?", ["a", "abba", "abc"], ["", "c"]),
        ("a{2}b{1,2}c{0,}d{,3}", ["aabd{,3}", "aabbccd{,3}"], ["aab"]),
        ("a+?b*?c??", ["aabb", "ac"], ["b"]),
        (".", ["é", "\t", "日"], ["\n", "", "ab"]),
        ("(?s).", ["\n"], [""]),
        ("[a-cx]", ["b", "x"], ["d"]),
        ("[^a-c]", ["d", "\n"], ["a"]),
        (r"[]a\]-]", ["]", "a", "-"], ["\\"]),
        (r"[\d-]+", ["1-2"], ["a"]),
        (r"\d\w\s\D\W\S", ["1a b-c", "0_\tx!?"], ["aa b-c", "٣a b-c", "1a\vb-c"]),
        (r"[[:alpha:]]+[[:^digit:]]", ["abc!"], ["abc1", "é!"]),
        (r"\pL+\p{Nd}\P{Lu}\p{^L}", ["日é١a."], ["日é١A.", "日é1ab"]),
        (r"\x41\x{65E5}\101\07", ["A日A\a"], ["A日A"]),
        (r"\Qa.b|\E+", ["a.b|", "a.b||"], ["aXb|", "a.b|a.b|"]),
        (r"\.\*\-\_\/", [".*-_/"], ["a*-_/"]),
        (r"^a$", ["a"], ["a\n", "\na"]),
        (r"(?m)a$\n^b", ["a\nb"], ["ab"]),
        (r"\Aa\z", ["a"], ["a\n"]),
        (r"a\b.\Bc", ["a-c", "a c"][:0], ["a-c", "abc"]),
        (r".*\bcat\b.*", ["a cat!", "cat"], ["concat", "cats", "cat_"]),
        ("(?i)straSSe|[a-c]K", ["STRASSE", "aK", "Ck", "b\u212a"], ["straße"]),
        ("a(?i)b|c", ["ab", "aB", "c", "C"], ["Ab"]),
        ("(?i:a)b", ["Ab"], ["aB"]),
        ("(?i)a(?-i)b", ["Ab"], ["aB"]),
        ("(?P<year>\\d{4})-(?<month>\\d\\d)(?:x)?", ["2026-11", "2026-11x"], ["2026-1"]),
        ("(?U)a*(?sim)b", ["aaB"], ["A"]),
        ("a{,1}", ["a{,1}"], ["a"]),
        ("a{x}", ["a{x}"], ["aa"]),
    ],
)
def test_matches_as_a_whole(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = matcher(pattern)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in others if matches(text)] == []


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", "a ( without a )"),
        ("a)", "a ) without a ("),
        ("[a", "ends too early"),
        ("a\\", "ends too early"),
        ("*a", "nothing that * repeats"),
        ("a|+", "nothing that + repeats"),
        ("{2}", "nothing that { repeats"),
        ("a**", "a repetition of a repetition"),
        ("a++", "a repetition of a repetition"),
        ("a{2}{3}", "a repetition of a repetition"),
        ("a{1001}", "at most 1000 times"),
        ("a{3,2}", "not from more to fewer"),
        ("(?=a)", "look-around does not exist"),
        ("(?<!a)b", "a group's name"),
        ("(?>a)", "look-around does not exist"),
        (r"(a)\1", "back-references do not exist"),
        (r"\Z", "means nothing here"),
        (r"\C", "means nothing here"),
        (r"\p{Greek}", "no general category"),
        (r"\x4", "two hexadecimal digits"),
        (r"\x{110000}", "two hexadecimal digits"),
        ("[z-a]", "a range from a later character"),
        ("[[:word]", "no class"),
        ("(?P<a-b>c)", "a group's name"),
        ("(" * 101 + "a" + ")" * 101, "nested more than 100 deep"),
        ("((a{1000}){1000}){1000}", f"more than {MOST_STATES} states"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(IRError, match=re.escape(reason)):
        checked(pattern)


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", "(?:ab)", "1"])
PIECES = st.tuples(ATOMS, st.sampled_from(["", "*", "+", "?", "{1,2}", "*?"])).map("".join)
PATTERNS = st.recursive(
    st.lists(PIECES, min_size=1, max_size=4).map("".join),
    lambda inner: st.lists(inner, min_size=1, max_size=2).map(lambda parts: f"(?:{'|'.join(parts)})"),
    max_leaves=4,
)


@given(PATTERNS, st.text("ab1 ", max_size=8))
@settings(max_examples=300, deadline=None)
def test_answers_as_re_does_where_both_mean_the_same(pattern: str, text: str) -> None:
    assert matcher(pattern)(text) == (re.fullmatch(pattern, text, re.ASCII) is not None)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*b", "(a|aa)+$b", "(.*)*x"])
def test_no_text_makes_a_match_explode(pattern: str) -> None:
    matches = matcher(pattern)
    assert not matches("a" * 5000)
    assert matches("a" * 5000 + ("x" if "x" in pattern else "b")) == ("$" not in pattern)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.dialects.host_functions.expressions.MOST_REMEMBERED", 20)
    automaton = Automaton(parse("(?:[a-m]|[b-z])*"))
    assert automaton.matches("abcdefghijklmnopqrstuvwxyz" * 3) and not automaton.matches("abc1")
    assert len(automaton._steps) <= 20
