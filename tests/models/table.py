"""Findings as a table in markdown, a row for each model, with what failed below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Findings = Mapping[str, Any]  # of one model: {check: {"status", "detail", "values"}}
MEBI = 2**20


def _status(check: str) -> Callable[[Findings], str]:
    return lambda found: {"pass": "yes", "fail": "NO", "skip": "-"}.get(found.get(check, {}).get("status", ""), "")


def _value(check: str, name: str, form: Callable[[Any], str]) -> Callable[[Findings], str]:
    def cell(found: Findings) -> str:
        value = found.get(check, {}).get("values", {}).get(name)
        return "" if value is None else form(value)

    return cell


def _arena(found: Findings) -> str:
    values = found.get("memory", {}).get("values", {})
    if not values:
        return ""
    arena, bound = values["arena"], values["bound"]
    return f"{arena / MEBI:.2f} ({arena / bound:.3f})" if bound else f"{arena / MEBI:.2f}"


def _targets(ratios: Mapping[str, float | None]) -> str:
    return " ".join("?" if ratio is None else f"{ratio:.2f}" for ratio in ratios.values())


COLUMNS: dict[str, Callable[[Findings], str]] = {
    "right": _status("right"),
    "f64 ratio": _value("precise", "ratio", "{:.2f}".format),
    "targets": _status("targets"),
    "f64 ratio v4 v3 v1": _value("targets", "ratios", _targets),
    "threads": _status("threads"),
    "runs": _status("runs"),
    "sizes": _status("sizes"),
    "onnx's outputs": _status("expected"),
    "lower": _status("commands"),
    "inside": _status("intermediates"),
    "compile s": _value("cost", "seconds", "{:.1f}".format),
    "arena MiB (by bound)": _arena,
    "memory": _status("memory"),
    "peak RSS MiB": _value("cost", "rss", lambda size: f"{size / MEBI:.0f}"),
    "kernels": _value("cost", "kernels", str),
    "launches": _value("cost", "launches", str),
    "barriers": _value("cost", "barriers", str),
}


def table(found: Mapping[str, Findings]) -> str:
    """The table of {model: findings}."""
    head = ["model", *COLUMNS]
    rows = [[name, *(cell(findings) for cell in COLUMNS.values())] for name, findings in found.items()]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    failures = [
        f"- {name}, {check}: {one['detail']}"
        for name, findings in found.items()
        for check, one in findings.items()
        if one["status"] == "fail"
    ]
    return "\n".join([*lines, "", *failures] if failures else lines)
