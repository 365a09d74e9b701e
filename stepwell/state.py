"""State: inputs that a model keeps from call to call, the outputs of one call being the inputs of the next.

    model = stepwell.compile("gpt.onnx", state={"past_key": "present_key"}, capacity={"past": 2048})
    state = model.new_state()
    logits = model(token, state=state)

An output that is its input with rows behind it grows in place: the state owns memory for `capacity` rows, and a call
writes the new ones alone. Of any other pair the call's output array becomes the next call's input array; nothing is
copied there either."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from stepwell.dialects.kept import Kept
from stepwell.errors import InputError, IRError, StateError
from stepwell.ir.dims import DimExpr, evaluate, free_symbols
from stepwell.ir.symbol_values import bind_symbols
from stepwell.ports import AnyPort, Array, Port, first_rows, tensor_ports

ALIGNMENT = 64  # bytes; where a state's memory begins


class Cell(NamedTuple):
    """One pair: the program's input and the result that it becomes."""

    input: Port
    output: Port

    @property
    def kept(self) -> Kept:
        """What the program's function says of the pair."""
        assert self.input.kept is not None
        return self.input.kept

    @property
    def grows(self) -> bool:
        """Whether rows are appended in place."""
        return self.kept.is_placed

    @property
    def growing_symbols(self) -> set[str]:
        """The symbols that stand for sizes that a call changes."""
        sizes = zip(self.input.type.shape, self.output.type.shape, strict=True)
        return {name for old, new in sizes if old != new for name in free_symbols(old)}


class StateLayout(NamedTuple):
    """All pairs of a model. States are interchangeable between models whose layouts are equal."""

    cells: tuple[Cell, ...]

    @staticmethod
    def of(inputs: Sequence[AnyPort], outputs: Sequence[AnyPort]) -> StateLayout:
        """Read it off a program's ports, those of lists part by part."""
        pairs = [(port, outputs[port.kept.result]) for port in tensor_ports(inputs) if port.kept is not None]
        return StateLayout(tuple(Cell(port, becomes) for port, becomes in pairs if isinstance(becomes, Port)))

    def sizes(self, given: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, int]:
        """The values of the symbols of a new state: those of the arrays that it begins with, those that are told, and 0
        of what grows. Raises StateError and InputError."""
        names = {cell.input.name for cell in self.cells}
        if unknown := [name for name in given if name not in names]:
            raise StateError(f"the state has no {', '.join(unknown)}; it keeps {', '.join(sorted(names))}")
        begun = [cell.input for cell in self.cells if cell.input.name in given]
        try:
            found = bind_symbols([port.type for port in begun], [given[port.name].shape for port in begun],
                                 [f"the state's {port.name!r}" for port in begun])  # fmt: skip
        except IRError as error:
            raise InputError(str(error)) from None
        symbols = {name for cell in self.cells for dim in cell.input.type.shape for name in free_symbols(dim)}
        if unknown := [name for name in sizes if name not in symbols]:
            known = ", ".join(sorted(symbols)) or "none"
            raise StateError(f"nothing that the state keeps has the size {', '.join(unknown)}; there are {known}")
        for name, size in sizes.items():
            if found.setdefault(name, size) != size or size < 0:
                raise StateError(f"the size {name} is {size}, which does not fit what the state begins with")
        grown = {name for cell in self.cells for name in cell.growing_symbols}
        found |= {name: 0 for name in grown if name not in found}
        if missing := sorted(symbols - found.keys()):
            raise StateError(f"the state needs the size {', '.join(missing)}: new_state({missing[0]}=...)")
        return found


class State:
    """What a model keeps from call to call. Made by `Model.new_state`; one call uses it at a time."""

    def __init__(self, layout: StateLayout, given: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self.layout = layout
        self._lock = threading.Lock()
        arrays = {cell.input.name: cell.input.accept(given[cell.input.name])
                  for cell in layout.cells if cell.input.name in given}  # fmt: skip
        unknown = {name: np.empty(0) for name in given if name not in arrays}
        self._sizes = layout.sizes({**arrays, **unknown}, sizes)
        self._empty = {**self._sizes, **{name: 0 for cell in layout.cells for name in cell.growing_symbols}}
        self._memory = [self._room(cell) if cell.grows else _zeros(cell.input, self._sizes) for cell in layout.cells]
        self._rows = [0] * len(layout.cells)
        self._floor = 0  # rows that a trial needs
        for number, cell in enumerate(layout.cells):
            array = arrays.get(cell.input.name)
            if array is not None and cell.grows:
                self._fill(number, cell, array)
            elif array is not None:
                self._memory[number] = array.copy()

    @property
    def length(self) -> int:
        """How many rows everything that grows has. Raises StateError where nothing does, or where numbers differ."""
        found = {rows for rows, cell in zip(self._rows, self.layout.cells, strict=True) if cell.grows}
        if len(found) != 1:
            raise StateError("nothing in this state grows" if not found else f"parts have {sorted(found)} rows")
        return found.pop()

    @property
    def capacity(self) -> int:
        """For how many rows there is room, at least. Raises StateError where nothing grows."""
        found = [cell.kept.capacity for cell in self.layout.cells if cell.grows]
        if not found:
            raise StateError("nothing in this state grows")
        return min(found)

    def reset(self) -> None:
        """Begin anew: no rows, and zeros in all that does not grow."""
        with self.claimed():
            self._check_floor(0)
            self._rows = [0] * len(self._rows)
            for number, cell in enumerate(self.layout.cells):
                if not cell.grows:
                    self._memory[number] = _zeros(cell.input, self._empty)

    def truncate(self, length: int) -> None:
        """Keep the first rows alone. Raises StateError where there are fewer, or where something else is kept: what it
        was then is not known any more."""
        with self.claimed():
            others = [cell.input.name for cell in self.layout.cells if not cell.grows]
            if others:
                raise StateError(f"{', '.join(others)} cannot be taken back to what it was with {length} rows")
            if not 0 <= length <= min(self._rows):
                raise StateError(f"{length} rows cannot be kept of {min(self._rows)}")
            self._check_floor(length)
            self._rows = [length] * len(self._rows)

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What calls inside leave in the state is taken back at the end; it costs nothing. Inside, the rows that there
        are cannot be truncated."""
        rows, memory, floor = list(self._rows), list(self._memory), self._floor
        self._floor = max([floor, *rows])
        try:
            yield
        finally:
            with self.claimed():
                self._rows, self._memory, self._floor = rows, memory, floor

    def _check_floor(self, length: int) -> None:
        if length < self._floor:
            raise StateError(f"a trial goes on, at whose end {self._floor} rows are needed: {length} are too few")

    def copy(self) -> State:
        """Another state of the same contents."""
        with self.claimed():
            return State(self.layout, dict(self._named()), self._sizes_now())

    def arrays(self) -> dict[str, Array]:
        """Copies of the contents, by the inputs' names."""
        with self.claimed():
            return {name: array.copy() for name, array in self._named()}

    @contextmanager
    def claimed(self) -> Iterator[State]:
        """Nobody else uses the state meanwhile. Raises StateError where somebody does."""
        if not self._lock.acquire(blocking=False):
            raise StateError("the state is in use by another call: give each sequence of calls a state of its own")
        try:
            yield self
        finally:
            self._lock.release()

    def program_arrays(self) -> list[Array]:
        """What a call gives to the program, in the order of the cells. Only for who has claimed the state."""
        return [memory[first_rows(cell.kept.axis, rows)] if cell.grows else memory
                for memory, rows, cell in zip(self._memory, self._rows, self.layout.cells, strict=True)]  # fmt: skip

    def advance(self, rows: Sequence[int], results: Sequence[Array]) -> None:
        """Take over what a call has left: rows of what grows, and the results of the rest, each in order."""
        grown, replaced = iter(rows), iter(results)
        for number, cell in enumerate(self.layout.cells):
            if cell.grows:
                self._rows[number] = next(grown)
            else:
                self._memory[number] = next(replaced)

    def _named(self) -> list[tuple[str, Array]]:
        cells = zip(self.layout.cells, self.program_arrays(), strict=True)
        return [(cell.input.name, cell.input.restore(array)) for cell, array in cells]

    def _sizes_now(self) -> dict[str, int]:
        fixed = {name for cell in self.layout.cells for name in cell.growing_symbols}
        return {name: size for name, size in self._sizes.items() if name not in fixed}

    def _room(self, cell: Cell) -> Array:
        shape = [_size(dim, self._sizes) for dim in cell.input.type.shape]
        shape[cell.kept.axis] = cell.kept.capacity
        return _aligned(cell.input.name, shape, cell.input.storage)

    def _fill(self, number: int, cell: Cell, array: Array) -> None:
        rows = array.shape[cell.kept.axis]
        if rows > cell.kept.capacity:
            raise StateError(f"{cell.input.name!r} has {rows} rows, and there is room for {cell.kept.capacity}")
        self._memory[number][first_rows(cell.kept.axis, rows)] = array
        self._rows[number] = rows

    def __repr__(self) -> str:
        names = ", ".join(
            f"{cell.input.name}: {rows} of {cell.kept.capacity} rows" if cell.grows else cell.input.name
            for cell, rows in zip(self.layout.cells, self._rows, strict=True)
        )
        return f"<stepwell.State ({names})>"


def left_in(state: State) -> dict[str, Array]:
    """Copies of a state's contents, by the names of the outputs that they were."""
    names = {cell.input.name: cell.output.name for cell in state.layout.cells}
    return {names[name]: array for name, array in state.arrays().items()}


def _zeros(port: Port, sizes: Mapping[str, int]) -> Array:
    shape = [_size(dim, sizes) for dim in port.type.shape]
    with _room_for(port.name, shape):
        return np.zeros(shape, port.storage)


def _size(dim: Any, sizes: Mapping[str, int]) -> int:
    return evaluate(dim, sizes) if isinstance(dim, DimExpr) else int(dim)


@contextmanager
def _room_for(name: str, shape: Sequence[int]) -> Iterator[None]:
    """Sizes that no array can have are named like those for which there is no memory."""
    try:
        yield
    except (MemoryError, ValueError, OverflowError) as error:
        shown = " x ".join(map(str, shape))
        raise StateError(f"there is no memory for {name!r}, {shown} elements of the state: {error}") from None


def _aligned(name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Memory whose contents mean nothing yet; pages of it that are never written take no room."""
    size = math.prod(shape) * dtype.itemsize
    with _room_for(name, shape):
        memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
