"""Kernels as callable plain code: compiled one module per kernel, called on NumPy arrays."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.backends.cpu import jit, llvm, target
from stepwell.dialects import arith, buffer, loop
from stepwell.dialects.func import FuncOp
from stepwell.errors import InputError, RuntimeError
from stepwell.ir.core import Operation
from stepwell.ir.types import DYNAMIC, MemRefType

from . import arithmetic, structure  # noqa: F401  (they fill the table)
from .memory import dense
from .writer import NoScalarForm, Writer, text_type

__all__ = ["NoScalarForm", "ScalarKernel", "compile_kernels"]

SCRATCH_BYTES = 1 << 30  # of address space, for the local buffers of one call

_local = threading.local()


class ScalarKernel:
    """One kernel, called like the function that it was made from: buffers as arrays, sizes as integers."""

    def __init__(self, function: FuncOp) -> None:
        """Raises NoScalarForm for an op or a type without plain code."""
        self.name = function.sym_name
        self.sites: list[Operation] = []
        self.text = _written(function, self.sites)
        self.is_by_element = any(True for _ in function.walk_of(loop.StageOp))
        self._code: jit.Code | None = None

    def load(self, image: bytes) -> None:
        """Take the object made of `text`."""
        self._code = jit.load([image])
        self._run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
            self._code.address(SYMBOL)
        )

    def __call__(self, arguments: Sequence[Any]) -> None:
        """Run it; arrays are changed in place. Raises RuntimeError naming the op whose index was outside its buffer,
        whose divisor was 0, or whose local buffer was too large or had a size below 0."""
        slots = np.array([word for argument in arguments for word in _words(argument)], np.int64)
        status = self._run(slots.ctypes.data, _scratch().ctypes.data, SCRATCH_BYTES)
        if status:
            op = self.sites[status - 1]
            where = f" (from {op.loc.label})" if op.loc.label else ""
            raise RuntimeError(f"@{self.name}: {op.op_name}{where} {_complaint(op)}")


SYMBOL = "stepwell.scalar"


def _complaint(op: Operation) -> str:
    if isinstance(op, buffer.LocalOp):
        return f"needs more than {SCRATCH_BYTES >> 20} MB, or a size below 0"
    if isinstance(op, (loop.ForOp, loop.ParallelOp)):
        return "has a step that is not positive"
    if isinstance(op, arith.BinaryOp):
        return "divides by zero"
    return "leaves its buffer"


def compile_kernels(kernels: Sequence[ScalarKernel]) -> None:
    """Make code of all, on the usable cores. Raises CodegenError.

    Kernels of whole stages are short and run element by element: slots in registers make them four times as fast.
    Vectors are many instructions that run seldom: there optimization would cost more than it saves."""
    for by_element, level, passes in ((True, 1, ("sroa",)), (False, 0, ())):
        group = [kernel for kernel in kernels if kernel.is_by_element is by_element]
        images = jit.compile_objects([kernel.text for kernel in group], target.host(), opt=level, passes=passes)
        for kernel, image in zip(group, images, strict=True):
            kernel.load(image)


def _scratch() -> np.ndarray[Any, Any]:
    """Address space of this thread's own; pages come into being where they are written."""
    if not hasattr(_local, "scratch"):
        _local.scratch = np.empty(SCRATCH_BYTES, np.uint8)
    scratch: np.ndarray[Any, Any] = _local.scratch
    return scratch


def _words(argument: Any) -> list[int]:
    """A buffer as pointer, sizes, strides in elements; a number as itself."""
    if not isinstance(argument, np.ndarray):
        return [int(argument)]
    if not argument.flags.c_contiguous:
        raise InputError(f"a kernel takes dense arrays, not one of strides {argument.strides}")
    strides = [stride // argument.itemsize for stride in argument.strides]
    return [argument.ctypes.data, *argument.shape, *strides]


def _written(function: FuncOp, sites: list[Operation]) -> str:
    w = Writer(sites)
    position = 0

    def word(type_: str) -> str:
        nonlocal position
        place = w.emit(f"getelementptr i64, ptr %arguments, i64 {position}")
        position += 1
        return w.emit(f"load {type_}, ptr {place}")

    for argument in function.arguments:
        type_ = argument.type
        if isinstance(type_, MemRefType):
            text_type(type_.element)
            pointer, sizes = word("ptr"), [word("i64") for _ in range(type_.rank)]
            strides = [word("i64") for _ in range(type_.rank)]
            if type_.layout is None:
                # What the type says of sizes, and that the buffer is dense, is trusted here: the caller has compared.
                opened = [size for size, dim in zip(sizes, type_.shape, strict=True) if dim == DYNAMIC]
                w.memory[argument] = dense(w, type_, pointer, opened)
            else:
                w.define(argument, [pointer, *sizes, *strides, *["0"] * type_.rank])
        elif text_type(type_) == "i64":
            w.define(argument, [word("i64")])
        else:
            raise NoScalarForm(f"no plain code for an argument of type {type_}")
    w.operations(function.body.block)
    head = f'target datalayout = "{llvm.data_layout(target.host())}"\ntarget triple = "{target.host().triple}"\n'
    body = "\n".join(["entry:", "  %top = alloca i64", "  store i64 0, ptr %top", *w.slots, *w.lines])
    signature = f'define i64 @"{SYMBOL}"(ptr %arguments, ptr %scratch, i64 %room) nounwind'
    return "\n".join([head, *w.declarations, f"{signature} {{\n{body}\n}}\n"])
