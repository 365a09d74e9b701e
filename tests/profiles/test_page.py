"""Profiles as pages: well-formed HTML that needs nothing else, whatever the names in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from stepwell.backends.cpu.limits import Roofs
from stepwell.backends.cpu.profile import OUTSIDE, Profile, ProfileRow
from stepwell.profiles.markup import text
from stepwell.profiles.page import page, versions
from stepwell.profiles.roofline import HEIGHT, WIDTH, Axis, plot, plotted

ROOFS = Roofs(1, 2e11, {"L1": 4e11, "L2": 2e11, "L3": 5e10, "memory": 1e10}, {"L1": 1, "L2": 2, "L3": 3}, 1e-6)
HOSTILE = '</title><script>alert("1")</script><img src=x onerror=\'x\'>&amp;\0\x1b\ud800\u202e'
ROWS = (
    ProfileRow("k_conv", 3, ("conv", HOSTILE), 2e-3, 0.5, 10**8, 10**6, 2.0, "compute", 1e-3),
    ProfileRow("k_copy", 1, (), 1e-3, 0.25, 0, 10**6, 1.5, "memory", 9e-4),
    ProfileRow(OUTSIDE, 0, (), 5e-4, 0.125, None, None),
    ProfileRow("k_unknown<>", 1, ("nms",), 4e-4, 0.1, None, None),
    ProfileRow("k_tiny", 1, ("tiny",), 1e-7, 0.0001, 8, 32, 1.0, "overhead", None),
)
PROFILE = Profile(ROWS, 4e-3, 5 * 10**6, ROOFS)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Notes elements and texts; an element that ends must be the one that began last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> inside {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_alone() -> None:
    found = page(PROFILE, "model.onnx", {"target": "a machine", **versions()})
    assert found.startswith("<!DOCTYPE html>\n")
    found.encode("utf-8")
    reader = read(found)
    names = [name for name, _ in reader.elements]
    assert [names.count(name) for name in ("html", "head", "body", "title", "svg", "table")] == [1, 1, 1, 1 + 2, 1, 1]
    assert not {"script", "img", "link", "iframe", "object"} & set(names)
    assert not [key for _, given in reader.elements for key in given if key.startswith("on") or key in ("src", "href")]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", found)
    ids = [given["id"] for _, given in reader.elements if "id" in given]
    assert len(ids) == len(set(ids))


def test_rows_come_as_they_are_sorted() -> None:
    html = page(PROFILE, "m", {})
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    assert [len(row) for row in cells] == [11] * (1 + len(ROWS))
    assert [row[0] for row in cells[1:]] == ["k_conv", "k_copy", OUTSIDE, "k_unknown&lt;&gt;", "k_tiny"]
    assert cells[1][1:10] == ["3", "2.0000", "50.0%", "50.0", "0.5", "1.000", "2", "compute", "50%"]
    assert cells[3][1:10] == ["-", "0.5000", "12.5%", "-", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize("where", ["title", "fact", "node"])
def test_names_cannot_become_markup(where: str) -> None:
    html = page(PROFILE, HOSTILE if where == "title" else "m", {HOSTILE: HOSTILE} if where == "fact" else {})
    read(html)
    assert "<script" not in html and "<img" not in html and "\0" not in html and "\x1b" not in html
    assert "&lt;script&gt;alert(&quot;1&quot;)" in html


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain", "plain"),
        ("<&>\"'", "&lt;&amp;&gt;&quot;&#x27;"),
        ("a\tb\nc", "a\tb\nc"),
        ("\0\ud800\u202e", "\ufffd\ufffd\ufffd"),
        ("Größe 尺寸", "Größe 尺寸"),
        (12, "12"),
    ],
)
def test_text(given: object, expected: str) -> None:
    assert text(given) == expected


def test_the_plot_has_a_dot_for_each_kernel_with_arithmetic() -> None:
    reader = read(plot(ROWS, ROOFS))
    dots = [given for name, given in reader.elements if name == "circle"]
    assert [row.kernel for row in plotted(ROWS)] == ["k_conv", "k_tiny"]
    assert [given["class"] for given in dots] == ["dot compute", "dot overhead"]
    assert float(dots[0]["r"] or 0) > float(dots[1]["r"] or 0)
    told = "".join(reader.texts["title"])
    assert "k_conv\nconv, </title><script>" in told and "2.0000 ms, 50.0% of the call" in told and "50% of it" in told
    roofs = [given["class"] for name, given in reader.elements if name == "line" and given["class"] != "grid"]
    assert roofs == ["roof compute", "roof L1", "roof L2", "roof L3", "roof memory"]


def test_all_of_the_plot_is_inside() -> None:
    for rows in (ROWS, (), ROWS[1:2]):
        for name, given in read(plot(rows, ROOFS)).elements:
            if name in ("line", "circle"):
                xs = [float(given[key] or 0) for key in ("x1", "x2", "cx") if key in given]
                ys = [float(given[key] or 0) for key in ("y1", "y2", "cy") if key in given]
                assert all(0 <= x <= WIDTH for x in xs) and all(0 <= y <= HEIGHT for y in ys), (name, given)


def test_an_axis_has_whole_decades() -> None:
    axis = Axis.over([0.3, 25.0], 100, 400)
    assert axis.decades() == [0.1, 1.0, 10.0, 100.0]
    assert [axis.place(value) for value in axis.decades()] == pytest.approx([100, 200, 300, 400])
    assert Axis.over([1.0], 0, 1).decades() == [1.0, 10.0]
