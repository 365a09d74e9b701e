"""Each distinct kernel at its real sizes: run as plain scalar code before and after every pass that changed it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.errors import IRError, StepwellError
from stepwell.ir.core import Operation
from stepwell.ir.interpreter import run_function
from stepwell.lowering.loop.stage import kernel_functions

from .compare import ResultChanged
from .interpret import TooLong, coarsest_step, fingerprint
from .launches import Launch, copied, really_changed
from .sizes import other_sizes

MOST_SIZES = 3  # at which one kernel is run
INTERPRETED = 20_000  # elements of its arguments, at made-up sizes, where it has no scalar form


@attrs.define
class Checked:
    """How many kernels a pass changed, and how they were run."""

    changed: int = 0
    scalar: int = 0
    interpreted: int = 0
    skipped: dict[str, str] = attrs.Factory(dict)
    limited: list[str] = attrs.Factory(list)  # what was run, but not at all sizes, and why


class KernelChecks:
    """The kernels of a module, as they are after the last pass seen. `budget` bounds the operations that are
    interpreted of a kernel that has no scalar form."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.steps: dict[str, float] = {}  # what `coarsest_step` says of each kernel
        self._seen: dict[str, Hashable] = {}
        self._runners: dict[str, Callable[[Sequence[Any]], None]] = {}
        self._why_not: dict[str, str] = {}
        self._kept: dict[tuple[Any, ...], Launch] = {}
        self._too_large: set[str] = set()  # kernels that would be interpreted at some sizes for too long

    def keep(self, launches: Sequence[Launch], module: Operation) -> None:
        """What kernels must go on to compute; those of symbolic sizes also at other sizes, as they do it now."""
        functions = {function.sym_name: function for function in kernel_functions(module)}
        per_kernel: dict[str, int] = {}
        for launch in launches:
            if launch.key not in self._kept and per_kernel.get(launch.kernel, 0) < MOST_SIZES:
                per_kernel[launch.kernel] = per_kernel.get(launch.kernel, 0) + 1
                self._kept[launch.key] = launch
                self._keep_other_sizes(launch, functions[launch.kernel])

    def _keep_other_sizes(self, launch: Launch, function: FuncOp) -> None:
        for other in other_sizes(launch, function):
            elements = sum(np.size(argument) for argument in other.before)
            if launch.kernel in self._why_not and elements > INTERPRETED:
                self._too_large.add(launch.kernel)
                continue
            arguments = copied(other.before)
            try:
                self.run(launch.kernel, arguments)
            except StepwellError:
                continue  # made-up contents do not suit it
            self._kept.setdefault(other.key, attrs.evolve(other, after=arguments))

    def update(self, module: Operation) -> list[str]:
        """Make scalar code of the kernels that are new or changed; their names."""
        changed: dict[str, FuncOp] = {}
        for function in kernel_functions(module):
            now = fingerprint(function)
            if self._seen.get(function.sym_name) != now:
                self._seen[function.sym_name] = now
                self.steps[function.sym_name] = coarsest_step(function)
                changed[function.sym_name] = function
        self._compile(changed)
        return list(changed)

    def _compile(self, functions: dict[str, FuncOp]) -> None:
        from stepwell.backends.cpu.scalar import NoScalarForm, ScalarKernel, compile_kernels

        made: dict[str, ScalarKernel] = {}
        for name, function in functions.items():
            self._why_not.pop(name, None)
            try:
                made[name] = ScalarKernel(function)
            except NoScalarForm as error:
                self._why_not[name] = str(error)
                self._runners[name] = self._interpreted(function)
        compile_kernels(list(made.values()))
        self._runners.update(made)

    def _interpreted(self, function: FuncOp) -> Callable[[Sequence[Any]], None]:
        copy = function.clone()  # the next pass changes the function itself

        def run(arguments: Sequence[Any]) -> None:
            count = 0

            def spend(op: Operation, results: Sequence[Any]) -> None:
                nonlocal count
                count += 1
                if count > self.budget:
                    raise TooLong(f"more than {self.budget} interpreted operations")

            numbers = [a if isinstance(a, np.ndarray) else np.int64(a) for a in arguments]
            run_function(copy, numbers, observer=spend)

        return run

    def run(self, name: str, arguments: Sequence[Any]) -> None:
        """Run a kernel as it was at the last `update`. Raises IRError for one that is not there."""
        if name not in self._runners:
            raise IRError(f"the program launches @{name}, which is no kernel")
        self._runners[name](arguments)

    def check(self, names: Sequence[str]) -> Checked:
        """Run the kept launches of some kernels again. Raises ResultChanged, naming the kernel."""
        from stepwell.backends.cpu.machine import usable_cores

        checked = Checked(len(names))
        work = [launch for launch in self._kept.values() if launch.kernel in names]
        with ThreadPoolExecutor(usable_cores()) as pool:
            found = list(pool.map(self._check_one, work))
        for launch, answer in zip(work, found, strict=True):
            if isinstance(answer, TooLong):
                why = self._why_not.get(launch.kernel, "")
                checked.skipped[launch.kernel] = f"@{launch.kernel} has {why} and takes {answer}"
            elif answer is not None:
                raise ResultChanged(f"@{launch.kernel} (of {launch.label}) as scalar code: {answer}")
        done = {launch.kernel for launch in work} - checked.skipped.keys()
        checked.limited = [
            f"@{name} has {self._why_not[name]} and is not interpreted at sizes of more than {INTERPRETED} elements"
            for name in sorted(done & self._too_large & self._why_not.keys())
        ]
        checked.interpreted = len(done & self._why_not.keys())
        checked.scalar = len(done) - checked.interpreted
        return checked

    def _check_one(self, launch: Launch) -> str | TooLong | None:
        arguments = copied(launch.before)
        try:
            self.run(launch.kernel, arguments)
        except TooLong as error:
            return error
        except StepwellError as error:
            return str(error)
        found = really_changed(launch, arguments, range(len(arguments)), lambda given: self.run(launch.kernel, given))
        if found is None:  # from here on, what this stage computes is the measure
            self._kept[launch.key] = attrs.evolve(launch, after=tuple(arguments))
        return found
