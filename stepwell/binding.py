"""Which inputs of a model are kept from call to call, as `compile` is told, written down in the IR."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from stepwell.dialects.kept import Kept, set_capacities, set_kept
from stepwell.errors import StateError
from stepwell.ir.core import Operation
from stepwell.ir.dims import free_symbols
from stepwell.lowering.pipeline import landing_of
from stepwell.ports import AnyPort, Port, main_function, parts_of

Pairs = Mapping[str, str]
"""Input -> the output that it becomes."""


def bind_states(module: Operation, pairs: Pairs | None, capacity: Mapping[str, int] | int | None) -> None:
    """Mark the inputs that are kept, and how far they may grow. Raises StateError for what does not fit the model."""
    if not pairs:
        if capacity is not None:
            raise StateError("capacity= says how far state may grow: say with state= which inputs are kept")
        return
    if landing_of(module) != "graph":
        raise StateError("what a model keeps is said where it enters, at the graph landing")
    function = main_function(module)
    inputs, outputs = parts_of(function)
    taken: dict[int, str] = {}
    kept: list[tuple[Port, Port]] = []
    for name, becomes in pairs.items():
        _check_direction(name, becomes, inputs, outputs)
        place, result = _named(name, inputs, "input"), _named(becomes, outputs, "output")
        if result in taken:
            raise StateError(f"output {becomes!r} cannot become both {taken[result]!r} and {name!r}")
        taken[result] = name
        old, new = _tensor(inputs[place]), _tensor(outputs[result])
        _check_pair(old, new)
        kept.append((old, new))
        set_kept(function, Kept(place, result))
    if capacity is not None:
        set_capacities(function, _capacities(capacity, kept))


def _check_direction(name: str, becomes: str, inputs: Sequence[AnyPort], outputs: Sequence[AnyPort]) -> None:
    known, results = {port.name for port in inputs}, {port.name for port in outputs}
    if name not in known and name in results and becomes in known:
        raise StateError(f"state= leads from inputs to outputs: {{{becomes!r}: {name!r}}}")


def _named(name: str, ports: Sequence[AnyPort], kind: str) -> int:
    names = [port.name for port in ports]
    if name in names:
        return names.index(name)
    names = list(dict.fromkeys(names))
    close = difflib.get_close_matches(name, names, 3)
    raise StateError(f"the model has no {kind} named {name!r}; {'close to it' if close else 'there are'}: "
                     f"{', '.join(close or names) or 'none'}")  # fmt: skip


def _tensor(port: AnyPort) -> Port:
    """The port, where it is a tensor and no list or part of one."""
    if not isinstance(port, Port) or port.whole is not None:
        raise StateError(f"{port.name!r} is a list or an optional value, which a state does not keep: it keeps tensors")
    return port


def _check_pair(old: Port, new: Port) -> None:
    if old.dtype.kind == "O":
        raise StateError(f"{old.name!r} holds strings, which a state does not keep: it keeps numbers")
    if old.dtype != new.dtype or old.type.rank != new.type.rank:
        raise StateError(f"output {new} cannot become input {old}: they differ in element type or rank")
    for axis, (a, b) in enumerate(zip(old.type.shape, new.type.shape, strict=True)):
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise StateError(f"output {new} cannot become input {old}: dimension {axis} is {a} in every call; export "
                             "the model with a symbolic size there")  # fmt: skip


def _capacities(capacity: Mapping[str, int] | int, kept: Sequence[tuple[Port, Port]]) -> dict[str, int]:
    """Symbol -> rows; one number goes for all symbols of sizes that a call changes."""
    sizes = [pair for old, new in kept for pair in zip(old.type.shape, new.type.shape, strict=True)]
    growing = sorted({name for a, b in sizes if a != b for name in free_symbols(a)})
    found = dict.fromkeys(growing, capacity) if isinstance(capacity, int) else dict(capacity)
    for name, rows in found.items():
        if name not in growing:
            raise StateError(f"capacity: no kept input grows by a size named {name!r}; there are "
                             f"{', '.join(growing) or 'none'}")  # fmt: skip
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise StateError(f"capacity: {name} has room for {rows!r} rows; there is room for at least one")
    if not found:
        raise StateError("capacity: no kept input changes its size")
    return found
