"""A function per graph op, made of the example in its doc string, with arrays to call it with."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np

from stepwell.dialects.builtin import ModuleOp
from stepwell.dialects.func import FuncOp
from stepwell.ir.core import Operation
from stepwell.ir.dims import evaluate, free_symbols
from stepwell.ir.parser import parse_module
from stepwell.ir.symbols import SymbolTable
from stepwell.ir.types import TensorType, numpy_dtype
from tests.ir.samples import all_ops, example_of

Array = np.ndarray[Any, Any]

SIZE = 4  # of every symbol
_INPUT = re.compile(r'^ *(%\w+) = "test\.value"\(\) : \(\) -> (.*)$', re.MULTILINE)
_FROM_ONE = {"graph.div", "graph.mod", "graph.rem"}  # integer operands of 0 are errors


def sampled_ops() -> list[str]:
    """The ops of the graph dialect that compute something."""
    return [name for name in all_ops() if name.startswith("graph.") and name != "graph.yield"]


def sample(name: str) -> ModuleOp:
    """The example of an op as a module: its inputs are arguments of @main, the results of its last op are returned."""
    return function_of(example_of(name))


def function_of(text: str) -> ModuleOp:
    """A module whose @main has the test.value ops of a text as arguments and returns the results of its last op."""
    arguments = ", ".join(f"{name}: {type_}" for name, type_ in _INPUT.findall(text))
    body = _INPUT.sub("", text)
    draft = parse_module(f"builtin.module {{\nfunc.func @main({arguments}) {{\n{body}\nfunc.return\n}}\n}}", "sample")
    results = list(main_of(draft).entry)[-2].results
    types = ", ".join(str(result.type) for result in results)
    returned = ", ".join(f"%{result.name}" for result in results) + f" : {types}"
    whole = f"func.func @main({arguments}) -> ({types}) {{\n{body}\nfunc.return {returned}\n}}"
    return parse_module(f"builtin.module {{\n{whole}\n}}", "sample")


def main_of(module: Operation) -> FuncOp:
    """@main."""
    main = SymbolTable(module).lookup("main")
    assert isinstance(main, FuncOp)
    return main


def arrays_for(module: Operation, name: str) -> list[Array]:
    """Arguments for @main, the same ones for the same name. Integers are 0 and 1, or 1 and 2: indices in range."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return [_array(argument.type, random, int(name in _FROM_ONE)) for argument in main_of(module).arguments]


def _array(type_: Any, random: np.random.Generator, low: int) -> Array:
    assert isinstance(type_, TensorType)
    shape = [evaluate(dim, dict.fromkeys(free_symbols(dim), SIZE)) for dim in type_.shape]
    dtype = numpy_dtype(type_)
    if dtype.kind == "f":
        return np.asarray(random.standard_normal(shape)).astype(dtype)
    numbers = np.asarray(random.integers(low, low + 2, shape))
    return numbers.astype(str).astype(object) if dtype.kind == "O" else numbers.astype(dtype)
