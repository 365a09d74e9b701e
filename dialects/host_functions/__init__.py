"""The functions that programs may call on the host, by name.

    @host_function(infer)
    def regex_full_match(config, texts): ...

`infer(op)` gives the result types of a `graph.host_call`: it reads `op.types` and `op.told()`, and a size that only the
run tells is `fresh_dim(op, hint, number)`. The function takes what it is told and NumPy arrays (of `str` objects where
they hold strings), and gives an array, or a tuple of them, from any thread. It raises IRError or RuntimeError for input
that it does not take."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from stepwell.errors import IRError
from stepwell.ir.origins import note
from stepwell.ir.types import TensorType

Infer = Callable[[Any], Sequence[TensorType]]
Run = Callable[..., Any]


@attrs.frozen(eq=False)
class HostFunction:
    """A function by its name, and how the types of its results follow from those of its operands."""

    name: str
    infer: Infer
    run: Run

    @property
    def summary(self) -> str:
        """The first line of its doc string."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


_FUNCTIONS: dict[str, HostFunction] = {}


def host_function(infer: Infer) -> Callable[[Run], Run]:
    """Register the decorated function under its own name. Raises IRError where another one has it."""

    def register(run: Run) -> Run:
        note(run)
        made = HostFunction(run.__name__, infer, run)
        if _FUNCTIONS.setdefault(made.name, made) is not made:
            raise IRError(f"two functions on the host are called {made.name!r}")
        return run

    return register


def find(name: str) -> HostFunction:
    """A function by its name. Raises IRError where there is none."""
    if name not in _FUNCTIONS:
        for info in pkgutil.iter_modules(__path__):
            importlib.import_module(f"{__name__}.{info.name}")
    if name not in _FUNCTIONS:
        raise IRError(f"there is no function @{name} on the host; there are {', '.join(sorted(_FUNCTIONS))}")
    return _FUNCTIONS[name]
