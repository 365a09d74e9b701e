"""From a Python call to native code: a compiled program as one callable that reads NumPy arrays in place."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from attrs import field, frozen

from . import entry_ir, native
from .abi import ArgsLayout
from .jit import Code
from .team import Team

ALIGNMENT = 64
"""Bytes to which the arena and each thread's scratch memory are aligned."""


def _dtype(spec: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(spec)
    return dtype


def _shape(dims: Iterable[int | str | None]) -> tuple[int | str | None, ...]:
    return tuple(dims)


@frozen
class Argument:
    """What an input or output array must be: its element type and its shape.

    A dimension is a size, a name (equal for all arguments that use it) or None (anything, checked elsewhere). What is
    not `dense` has strides that the program knows, and is written to.
    """

    dtype: np.dtype[Any] = field(converter=_dtype)
    shape: tuple[int | str | None, ...] = field(converter=_shape)
    dense: bool = True

    def mismatch(self, value: object) -> str | None:
        """Why `value` does not fit, or None: the reason behind an index from `NativeEntry.call`, for messages.

        Names of dimensions are not compared here, nor whether an output is writeable.
        """
        if type(value) is not np.ndarray:
            return f"it is a {type(value).__name__}, not a numpy.ndarray"
        if value.dtype.num != self.dtype.num:
            return f"its element type is {value.dtype}, not {self.dtype}"
        if not value.dtype.isnative:
            return f"its bytes are swapped ({value.dtype.str})"
        if value.ndim != len(self.shape):
            return f"it has {value.ndim} dimensions, not {len(self.shape)}"
        for axis, (size, wanted) in enumerate(zip(value.shape, self.shape, strict=True)):
            if isinstance(wanted, int) and size != wanted:
                return f"its dimension {axis} is {size}, not {wanted}"
        if self.dense and not value.flags.c_contiguous:
            return "it is not C-contiguous"
        if value.ctypes.data % self.dtype.alignment:
            return f"its data is not aligned to {self.dtype.alignment} bytes"
        return None


class NativeEntry:
    """A compiled program, callable from any number of Python threads at once.

    `call(*inputs, *outputs, arena, scratch)` takes exact, C-contiguous, aligned `numpy.ndarray`s in native byte order.
    `arena` is a 1-D uint8 array, `scratch` a 2-D one with a row for each thread of the team; both are aligned to 64
    bytes (`aligned_bytes`, `new_scratch`). All arrays but the inputs must be writeable. Sizes of the arena and of
    outputs with None dimensions, and that no output overlaps an input, are the caller's to ensure.

    It runs with the GIL released and answers

    * None: the outputs are written;
    * an int i: argument i (counted from 0 over all of them) does not fit what the program needs, nothing was run. For
      the last one, `scratch`, that also says that it has fewer rows than the team has threads;
    * a tuple (code, op, value): the first run-time error that a kernel reported. The outputs are undefined.

    A Python signal handler that raises (Ctrl-C, in the main thread) ends the call behind what is running with its
    exception. A wrong number of arguments raises TypeError. Everything that a running call needs stays alive through
    `call` itself, so this object may be dropped at any time.
    """

    call: Callable[..., int | tuple[int, int, int] | None]

    def __init__(
        self,
        code: Code,
        program: str,
        inputs: Sequence[Argument],
        outputs: Sequence[Argument],
        constants: Sequence[np.ndarray[Any, Any]] = (),
        *,
        parallel: bool = True,
    ) -> None:
        """`program` names the program function in `code`. `constants` are the arrays behind the constants table, in its
        order. With `parallel=False` calls run on the calling thread alone: for models too small to share out."""
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.layout = ArgsLayout(tuple(len(argument.shape) for argument in self.inputs), len(self.outputs))
        Team.get()
        table = np.array([array.ctypes.data for array in constants], dtype=np.uint64)
        words = self._words(code.address(program), table.ctypes.data, parallel)
        descriptor = _Descriptor(struct.pack(f"<{len(words)}q", *words))
        descriptor.needs = (code, table, tuple(constants))
        self.call = _bind(descriptor)

    def _words(self, program: int, table: int, parallel: bool) -> list[int]:
        symbols: dict[str, int] = {}
        uint8 = np.dtype(np.uint8)
        arguments: list[int] = []
        for argument in self.inputs:
            flags = entry_ir.C_CONTIGUOUS if argument.dense else entry_ir.WRITEABLE
            arguments += _argument_words(argument, flags, argument.dtype.alignment, symbols)
        for argument in self.outputs:
            flags = entry_ir.C_CONTIGUOUS | entry_ir.WRITEABLE
            arguments += _argument_words(argument, flags, argument.dtype.alignment, symbols)
        for memory in (Argument(uint8, (None,)), Argument(uint8, (None, None))):
            flags = entry_ir.C_CONTIGUOUS | entry_ir.WRITEABLE
            arguments += _argument_words(memory, flags, ALIGNMENT, symbols)
        header = {
            entry_ir.PROGRAM: program,
            entry_ir.INPUTS: len(self.inputs),
            entry_ir.OUTPUTS: len(self.outputs),
            entry_ir.CONSTANTS: table,
            entry_ir.PARALLEL: int(parallel),
            entry_ir.SYMBOLS: len(symbols),
            entry_ir.SLOTS: self.layout.slots,
        }
        return [header[index] for index in range(entry_ir.HEADER_WORDS)] + arguments


def aligned_bytes(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An uninitialised 1-D uint8 array of at least `size` bytes, and never 0, at a 64-byte boundary."""
    size = _round_up(size)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def new_scratch(stride: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Scratch memory for the present team: at least `stride` bytes for each thread, each row at a 64-byte boundary."""
    rows, columns = Team.get().size, _round_up(stride)
    return aligned_bytes(rows * columns).reshape(rows, columns)


def _round_up(size: int) -> int:
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


class _Descriptor(bytes):
    """The words that the native function reads, and what must live as long as someone can call it."""

    needs: tuple[object, ...]


def _bind(descriptor: _Descriptor) -> Callable[..., int | tuple[int, int, int] | None]:
    """The built-in function whose `self` is the descriptor. It owns it, and with it all that a call needs."""
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    make = prototype(("PyCFunction_NewEx", ctypes.pythonapi))
    bound: Callable[..., int | tuple[int, int, int] | None] = make(
        native.code().address("sw_entry_method"), descriptor, None
    )
    return bound


def _argument_words(argument: Argument, flags: int, alignment: int, symbols: dict[str, int]) -> list[int]:
    def word(size: int | str | None) -> int:
        if size is None:
            return entry_ir.ANY
        if isinstance(size, str):
            return entry_ir.SYMBOL - symbols.setdefault(size, len(symbols))
        return size

    return [argument.dtype.num, flags, alignment - 1, len(argument.shape), *map(word, argument.shape)]
