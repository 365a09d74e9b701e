"""Every declared op's example parses, verifies and survives printing in both forms."""

from __future__ import annotations

import re

import pytest

from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.registry import BUILTIN_DIALECTS, REGISTRY
from stepwell.ir.verifier import verify

EXAMPLE = re.compile(r"```mlir\n(.*?)```", re.DOTALL)


def all_ops() -> list[str]:
    for name in BUILTIN_DIALECTS:
        REGISTRY.load(name)
    return sorted(REGISTRY.ops)


def example_of(name: str) -> str:
    match = EXAMPLE.search(REGISTRY.ops[name].spec.doc)
    assert match is not None, f"{name} has no example in its doc string"
    return match[1]


@pytest.mark.parametrize("name", all_ops())
def test_example_survives_both_forms(name: str) -> None:
    module: Operation = parse_module(example_of(name), name)
    verify(module)
    assert any(op.op_name == name for op in module.walk())
    for generic in (False, True):
        options = PrintOptions(generic=generic, locations=True)
        text = print_op(module, options)
        again = parse_module(text, name)
        verify(again)
        assert print_op(again, options) == text
        assert print_op(again, PrintOptions(generic=True)) == print_op(module, PrintOptions(generic=True))
