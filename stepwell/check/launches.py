"""The program around the kernels: what every launch is given and makes, and whether a pass changed that.

`Recorder` runs a program and keeps every launch. `Replay` runs it again and holds each launch against the kept ones:
first what it reads, so that memory which something else has written over is found where it is read, then what it
writes. After that the launch's results are set to the kept ones, so that rounding does not pile up from kernel to
kernel and each is judged on the same inputs."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects import kernel
from stepwell.dialects.tensor import GenericOp, KernelOp, is_written, tensor_type, unwritten
from stepwell.ir.core import Operation
from stepwell.ir.types import TensorType
from stepwell.lowering.to_loop.outline import kernel_symbols
from stepwell.ports import Array

from .compare import Arithmetic, ResultChanged, difference
from .interpret import arithmetic_of
from .roundings import nudged, slack_of

RunKernel = Callable[[str, Sequence[Any]], None]
"""Runs the kernel of that name on arrays, in place."""


@attrs.frozen(eq=False)
class Launch:
    """One run of a kernel: its arguments before and after it. `is_read[n]`: argument n has its contents before."""

    kernel: str
    label: str
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    is_read: tuple[bool, ...]
    arithmetic: Arithmetic
    types: tuple[TensorType, ...] = ()  # of the buffers, with their symbolic sizes, where these are known
    symbols: tuple[str, ...] = ()  # whose values follow the buffers

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for launches that do the same on other contents."""
        shapes = (a.shape if isinstance(a, np.ndarray) else int(a) for a in self.before)
        return (self.kernel, *shapes)


@attrs.frozen(eq=False)
class Made:
    """One run of a `tensor.kernel`: what it was given and gave."""

    label: str
    inputs: tuple[Array, ...]
    results: tuple[Array, ...]
    arithmetic: Arithmetic
    types: tuple[TensorType, ...]
    symbols: tuple[str, ...]


class KernelRecorder:
    """Launcher at the tensor landing: keeps what every `tensor.kernel` is given and gives."""

    def __init__(self, symbols: dict[str, int]) -> None:
        self.symbols = symbols
        self.made: list[Made] = []

    def __call__(self, op: Operation, arguments: Sequence[Any], run: Callable[[], Any]) -> Any:
        results = run()
        assert isinstance(op, KernelOp)
        generics = [inner for inner in op.walk() if isinstance(inner, GenericOp)]
        found = [arithmetic_of(generic, self.symbols) for generic in generics]
        longest = functools.reduce(operator.or_, found, Arithmetic())
        arrays = [np.asarray(value) for value in (*arguments, *results)]
        count = len(arguments)
        types = tuple(tensor_type(value) for value in (*op.inputs, *op.results))
        self.made.append(
            Made(op.loc.label, tuple(arrays[:count]), tuple(arrays[count:]), longest, types, tuple(kernel_symbols(op)))
        )
        return results


def is_constant(array: Any) -> bool:
    """Whether an argument cannot be written to."""
    return not isinstance(array, np.ndarray) or not array.flags.writeable


def copied(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Arguments whose contents stay as they are now; one array given twice is one copy."""
    arrays = {_place(a): a for a in arguments if not is_constant(a)}
    made = {place: array.copy() for place, array in arrays.items()}
    return tuple(a if is_constant(a) else made[_place(a)] for a in arguments)


def _place(array: Array) -> tuple[Any, ...]:
    return array.ctypes.data, array.shape, array.strides, array.dtype


class Recorder:
    """Launcher of a program that nothing is known of: runs each launch and keeps it. `steps` says of kernels what the
    coarsest type is in which they compute."""

    def __init__(self, run_kernel: RunKernel, steps: Mapping[str, float]) -> None:
        self.run_kernel = run_kernel
        self.steps = steps
        self.launches: list[Launch] = []

    def __call__(self, op: Operation, arguments: Sequence[Any], run: Callable[[], Any]) -> Any:
        assert isinstance(op, kernel.LaunchOp)
        before = copied(arguments)
        self.run_kernel(op.callee, arguments)
        after = copied(arguments)
        same = [is_constant(b) or b.tobytes() == a.tobytes() for b, a in zip(before, after, strict=True)]
        terms = max((a.size for a in arguments if isinstance(a, np.ndarray)), default=1)
        arithmetic = Arithmetic(terms, step=self.steps[op.callee])
        self.launches.append(Launch(op.callee, op.loc.label, before, after, tuple(same), arithmetic))
        return ()


class Outlined:
    """Launcher of a program just made from `tensor.kernel` ops: each launch must read what the op was given, and is
    answered by what the op gave; no kernel runs."""

    def __init__(self, made: Sequence[Made]) -> None:
        self.made = made
        self.launches: list[Launch] = []

    def __call__(self, op: Operation, arguments: Sequence[Any], run: Callable[[], Any]) -> Any:
        assert isinstance(op, kernel.LaunchOp)
        if len(self.launches) == len(self.made):
            raise ResultChanged(f"{op.loc.label}: there are more launches than tensor.kernel ops were run")
        made = self.made[len(self.launches)]
        given, results = arguments[: len(made.inputs)], arguments[len(made.inputs) :][: len(made.results)]
        where = f"@{op.callee} (launched for {op.loc.label or 'an op without a location'})"
        _same_on_entry(where, given, made.inputs)
        rest = arguments[len(given) + len(results) :]
        before = [*copied(given), *(unwritten(array) for array in results), *rest]
        for place, result in zip(results, made.results, strict=True):
            if place.shape != result.shape:
                raise ResultChanged(f"{where} writes {list(place.shape)} in place of {list(result.shape)}")
            place[...] = result
        # What is read stays: where it shares memory with a result, at other places, the kernel is run on copies.
        after = (*before[: len(given)], *copied(results), *rest)
        self.launches.append(
            Launch(op.callee, made.label, tuple(before), after,
                   tuple(n < len(given) for n in range(len(arguments))), made.arithmetic, made.types,
                   made.symbols)
        )  # fmt: skip
        return ()


def _same_on_entry(where: str, given: Sequence[Any], expected: Sequence[Any]) -> None:
    for number, (now, then) in enumerate(zip(given, expected, strict=True)):
        if isinstance(now, np.ndarray) and not is_constant(now):
            found = _difference(np.asarray(then), now, Arithmetic())
            if found is not None:
                raise ResultChanged(f"{where} does not read what it read before: argument {number}: {found}")


def _difference(kept: Array, now: Array, arithmetic: Arithmetic, slack: Array | None = None) -> str | None:
    """How contents differ from the kept ones; what was not written then may hold anything."""
    if kept.shape != now.shape:
        return difference(kept, now, arithmetic)
    known = is_written(kept)
    if known.all():
        return difference(kept, now, arithmetic, slack)
    return difference(kept[known], now[known], arithmetic, None if slack is None else slack[known])


class Replay:
    """Launcher of a program that a pass has changed: every launch runs and is held against a kept one."""

    def __init__(self, run_kernel: RunKernel, launches: Sequence[Launch]) -> None:
        self.run_kernel = run_kernel
        self.kept = launches
        self.count = 0
        self.is_lost = False  # the launches are not the kept ones any more: from here on they only run

    def __call__(self, op: Operation, arguments: Sequence[Any], run: Callable[[], Any]) -> Any:
        assert isinstance(op, kernel.LaunchOp)
        kept = self.kept[self.count] if self.count < len(self.kept) else None
        self.count += 1
        self.is_lost = self.is_lost or kept is None or not _is_alike(kept, op.callee, arguments)
        if self.is_lost or kept is None:
            self.run_kernel(op.callee, arguments)
            return ()
        where = f"@{op.callee} (launched for {kept.label or 'an op without a location'})"
        reads = [n for n, is_read in enumerate(kept.is_read) if is_read]
        _same_on_entry(where, [arguments[n] for n in reads], [kept.before[n] for n in reads])
        self.run_kernel(op.callee, arguments)
        writes = [n for n in range(len(arguments)) if n not in reads]
        found = really_changed(kept, arguments, writes, lambda given: self.run_kernel(op.callee, given))
        if found is not None:
            raise ResultChanged(f"{where}: {found}")
        for n, now in enumerate(arguments):
            if n not in reads and not is_constant(now):
                now[...] = kept.after[n]
        return ()


def _is_alike(kept: Launch, callee: str, arguments: Sequence[Any]) -> bool:
    return kept.key == Launch(callee, "", tuple(arguments), (), (), Arithmetic()).key


def really_changed(
    kept: Launch, arguments: Sequence[Any], which: Sequence[int], run: Callable[[Sequence[Any]], None]
) -> str | None:
    """What `changed_argument` says; where it does, with the slack that `run` shows on nudged arguments."""

    def again(random: np.random.Generator) -> Sequence[Any]:
        given = [nudged(argument, random, kept.arithmetic.step) for argument in copied(kept.before)]
        run(given)
        return given

    found = changed_argument(kept, arguments, which)
    return found and changed_argument(kept, arguments, which, slack_of(arguments, again))


def changed_argument(
    kept: Launch, arguments: Sequence[Any], which: Sequence[int], slack: Sequence[Array | None] = ()
) -> str | None:
    """The first of some arguments whose contents after a launch are not the kept ones, but for the `slack` of each."""
    for n in which:
        if isinstance(arguments[n], np.ndarray) and not is_constant(arguments[n]):
            kept_now = np.asarray(kept.after[n])
            found = _difference(kept_now, arguments[n], kept.arithmetic, slack[n] if slack else None)
            if found is not None:
                return f"argument {n}: {found}"
    return None

