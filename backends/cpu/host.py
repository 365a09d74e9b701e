"""`sw_host`: how machine code calls functions in Python, as a callback that is made once per process.

The GIL is taken for the time of the call. What is raised is kept in the scope of the call under way (see
`host_calls`), and raised again where the program has ended."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from stepwell.dialects.host_calls import HostScope, current, pending_error
from stepwell.ir.types import I64, StringType, TensorType, numpy_dtype

from .abi import HOST_RUNS

Array = np.ndarray[Any, Any]

_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))


@functools.cache
def callback() -> Any:
    """The callback, which lives as long as the process."""
    return _PROTOTYPE(_host)


def address() -> int:
    """Where programs find it."""
    return ctypes.cast(callback(), ctypes.c_void_p).value or 0


def _host(call: int, what: int, words: Any) -> int:
    try:
        scope = current()
        if what == HOST_RUNS:
            _run(scope, call, words)
        else:
            _copy(scope, call, what, words)
    except BaseException as error:  # Ctrl-C as well: an exception cannot pass through machine code
        if pending_error() is None:
            current().error = error
        return 0
    return 1


def _run(scope: HostScope, number: int, words: Any) -> None:
    call = scope.calls[number]
    reader = _reader(words)
    arrays = [_array(reader, type_).copy() for type_ in call.inputs]
    sizes = scope.run(number, call, arrays)
    _array(reader, TensorType((len(sizes),), I64))[...] = sizes


def _copy(scope: HostScope, number: int, result: int, words: Any) -> None:
    made = scope.result(number, result)
    memory = _array(_reader(words), scope.calls[number].results[result])
    if memory.shape != made.shape:
        raise ValueError(f"a result of shape {list(made.shape)} for memory of shape {list(memory.shape)}")
    memory[...] = made


def _reader(words: Any) -> Iterator[int]:
    position = 0
    while True:
        yield words[position]
        position += 1


def _array(words: Iterator[int], type_: TensorType) -> Array:
    """The memory that the next words describe, as an array."""
    place = next(words)
    shape = [next(words) for _ in range(type_.rank)]
    dtype = np.dtype(np.int64) if isinstance(type_.element, StringType) else numpy_dtype(type_)
    count = math.prod(shape)
    if not count:
        return np.empty(shape, dtype)
    memory = memoryview((ctypes.c_ubyte * (count * dtype.itemsize)).from_address(place))
    array: Array = np.frombuffer(memory, dtype, count)
    return array.reshape(shape)
