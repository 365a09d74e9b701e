"""What makes loops and machine code knows no operator: no op of the landings above is named or imported there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from stepwell.ir.registry import REGISTRY

ROOT = Path(__file__).parents[2]
ABOVE = ("graph", "tensor")
FILES = sorted([*ROOT.glob("lowering/loop/*.py"), *ROOT.glob("backends/cpu/emit/*.py")])


def op_names() -> set[str]:
    """All op names of the landings above, with and without the dialect."""
    dialects = [REGISTRY.load(name) for name in ABOVE]
    return {op.name for dialect in dialects if dialect is not None for op in dialect.ops}


def knowledge(source: str) -> list[str]:
    """What a module knows of the landings above: imports of their dialects, and their ops' names in strings."""
    found = []
    names = op_names()
    modules = tuple(f"stepwell.dialects.{name}" for name in ABOVE)
    for node in ast.walk(ast.parse(source)):
        imported: list[str] = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names:
            found.append(node.value)
        found += [name for name in imported if any(name == m or name.startswith(f"{m}.") for m in modules)]
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from stepwell.dialects import arith, tensor", ["stepwell.dialects.tensor"]),
        ("def f():\n    from stepwell.dialects.graph.pooling import X", ["stepwell.dialects.graph.pooling.X"]),
        ("if op.op_name == 'graph.conv': pass", ["graph.conv"]),
        ("import stepwell.dialects.tensor as t", ["stepwell.dialects.tensor"]),
        ("from stepwell.dialects.tensorial import x", []),
        ("x = 'graph.convoy'", []),
    ],
)  # fmt: skip
def test_knowledge_is_found(source: str, expected: list[str]) -> None:
    assert knowledge(source) == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_loops_and_code_know_no_operator(path: Path) -> None:
    assert knowledge(path.read_text()) == []
