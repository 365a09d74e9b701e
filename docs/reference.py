"""Writes the reference pages from the code: docs/ops/*.md from the declarations of ops, docs/pipeline.md from phases,
docs/numerics.md from the bounds of functions and from schedules, docs/onnx.md from the import rules and from what a run
of ONNX's suite has kept in docs/onnx.json.

`pages()` gives every page's text; `python docs/build.py` writes them, and a test holds that they are current."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import attrs
import numerics

from stepwell.frontends.onnx.versions import newest_opsets
from stepwell.ir.opdef import Arity, Op, OpSpec, ValueGroup
from stepwell.ir.passes import Pass
from stepwell.ir.registry import BUILTIN_DIALECTS, REGISTRY, Dialect
from stepwell.lowering import pipeline
from tests.onnx_conformance.kept import KEPT, kept
from tests.onnx_conformance.page import page

GENERATED = "<!-- Written by docs/build.py from the code. -->\n"
_ARITIES = {Arity.ONE: "", Arity.OPTIONAL: ", may be absent", Arity.MANY: ", any number"}


def pages() -> dict[str, str]:
    """Path below docs/ -> text."""
    dialects = [dialect for name in BUILTIN_DIALECTS if (dialect := REGISTRY.load(name)) is not None]
    found = {f"ops/{dialect.name}.md": dialect_page(dialect) for dialect in dialects}
    return {**found, "ops/README.md": index_page(dialects), "pipeline.md": pipeline_page(),
            "numerics.md": GENERATED + numerics.page(), **onnx_page()}  # fmt: skip


def onnx_page() -> dict[str, str]:
    """The page about ONNX's suite; none where no run was kept, or the onnx package at hand is older than that run's."""
    if not KEPT.exists():
        return {}
    opsets, found = kept(KEPT)
    is_current = all(newest_opsets().get(domain, 0) >= version for domain, version in opsets.items())
    return {"onnx.md": page(found, opsets)} if is_current else {}


# Ops


def index_page(dialects: list[Dialect]) -> str:
    """The list of dialects."""
    rows = ["| dialect | landing | ops | |", "|---|---|---|---|"]
    for dialect in dialects:
        summary = dialect.doc.strip().partition("\n")[0]
        landing = dialect.landing or "any"
        rows.append(f"| [{dialect.name}]({dialect.name}.md) | {landing} | {len(dialect.ops)} | {escaped(summary)} |")
    return f"{GENERATED}# Operations\n\n" + "\n".join(rows) + "\n"


def dialect_page(dialect: Dialect) -> str:
    """All ops, types and attributes of one dialect."""
    parts = [f"{GENERATED}# The `{dialect.name}` dialect\n", text_of(dialect.doc)]
    for title, classes in (("types", dialect.types), ("attributes", dialect.attributes)):
        if classes:
            parts.append(f"## Its {title}\n")
            parts += [f"### `{cls.mnemonic}`\n\n{text_of(cls.__doc__)}" for cls in classes]
    if dialect.ops:
        parts.append("## Its operations\n")
        parts += [op_text(cls) for cls in sorted(dialect.ops, key=lambda cls: cls.name)]
    return "\n".join(parts)


def op_text(cls: type[Op]) -> str:
    """One op: its doc string, and a table of what its class declares."""
    spec = cls.spec
    rows = list(_rows(spec))
    table = "\n".join(["| | | |", "|---|---|---|", *rows]) + "\n" if rows else ""
    traits = ", ".join(f"{trait.name.lower()} ({trait.value})" for trait in sorted(spec.traits, key=lambda t: t.name))
    return f"### `{spec.name}`\n\n{text_of(spec.doc)}\n{table}" + (f"\nTraits: {traits}.\n" if traits else "")


def _rows(spec: OpSpec) -> Iterator[str]:
    for kind, groups in (("operand", spec.operands), ("result", spec.results)):
        for group in groups:
            yield f"| {kind} | `{group.name}` | {escaped(_described(group))} |"
    for name, field in spec.attrs.items():
        default = "" if field.default is attrs.NOTHING else f"; default: {_default(field.default)}"
        yield f"| attribute | `{name}` | {escaped(field.kind.description + default)} |"
    for region in spec.regions:
        yield f"| region | `{region.name}` | {'all further ones' if region.variadic else ''} |"
    for successor in spec.successors:
        yield f"| successor | `{successor.name}` | |"


def _described(group: ValueGroup) -> str:
    return group.constraint.description + _ARITIES[group.arity]


def _default(value: object) -> str:
    return "absent" if value is None or value == () else f"`{value}`"


def text_of(doc: str | None) -> str:
    """A doc string without its indentation."""
    return inspect.cleandoc(doc or "").strip() + "\n"


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


# Passes


def pipeline_page() -> str:
    """The phases in order, then each pass."""
    parts = [
        f"{GENERATED}# The way down, pass by pass\n",
        "The phases of `lowering/pipeline.py`, in order. `lower --passes` prints the same list, `--print-after PASS`\n"
        "shows the IR behind a pass, `--pipeline` runs passes of one's own choice.\n",
        "| phase | | leads to | passes |\n|---|---|---|---|",
    ]
    for spec in pipeline.PIPELINE:
        passes = ", ".join(f"[`{text}`](#{text.partition('{')[0]})" for text in spec.passes)
        parts[-1] += f"\n| {spec.name} | {spec.description} | {spec.landing} | {passes} |"
    for name, description in pipeline.BACKEND_STAGES:
        parts[-1] += f"\n| `--to {name}` | {description} | target | |"
    parts[-1] += "\n"
    parts.append("## The passes\n")
    parts += [pass_text(cls) for cls in pipeline.passes_by_name().values()]
    return "\n".join(parts)


def pass_text(cls: type[Pass]) -> str:
    """One pass: what it does, its module's before -> after, its options."""
    module = inspect.getmodule(cls)
    about = text_of(module.__doc__ if module is not None else "")
    options = [field for field in attrs.fields(cls) if field.init]
    listed = "".join(f"- option `{f.name}`, default `{f.default}`\n" for f in options)
    place = cls.__module__.removeprefix("stepwell.").replace(".", "/")
    text = f"### {cls.name}\n\n{text_of(cls.__doc__)}\nIn `{place}.py`:\n\n```text\n{about}```\n"
    return f"{text}\n{listed}" if listed else text
