"""`--check-each` as an instrument around passes: what is run before and after each, and the report."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.host_calls import HostProgram
from stepwell.dialects.tensor import AppendOp, BorderOp, JoinOp, ScatterOp
from stepwell.errors import StepwellError
from stepwell.ir.core import Operation
from stepwell.ir.instruments import Quiet
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering.pipeline import landing_of
from stepwell.ports import accepted, main_function, parts_of, ports_of

from .compare import ResultChanged
from .interpret import BUDGET, Run, TooLong, compare_all, fingerprint, first_difference, interpret, program_symbols
from .kernels import Checked, KernelChecks
from .launches import KernelRecorder, Launch, Outlined, Recorder, Replay, copied, is_constant
from .roundings import nudged, slack_of
from .shrink import ShrunkKernels

PROGRAM_BUDGET = 50_000_000  # operations of a program around its kernels: loops run as often as the model says


@attrs.frozen
class Outcome:
    """What one pass's check found: `checked` says what was run on both sides, `skipped` what was not, and why."""

    pass_name: str
    checked: str = ""
    skipped: str = ""

    def __str__(self) -> str:
        parts = [f"checked ({self.checked})"] if self.checked else []
        return f"{self.pass_name}: " + "; ".join([*parts, *([f"skipped: {self.skipped}"] if self.skipped else [])])


class CheckEach(Quiet):
    """Runs the module around every pass on the same inputs. Raises ResultChanged after a pass that changed a result;
    `report()` lists what was run."""

    def __init__(self, inputs: Sequence[Any], budget: int = BUDGET, context: PassContext | None = None) -> None:
        self.inputs = list(inputs)
        self.budget = budget
        self.outcomes: list[Outcome] = []
        self.failure: str | None = None
        self._reference: Run | None = None
        self._made: KernelRecorder | None = None
        self._launches: list[Launch] = []
        # Whether kernels write parts of what others read whole: what lies between the parts means nothing, and launches
        # cannot be held against one another argument by argument; the program's results can.
        self._shares_memory = False
        self._seen: Hashable = ()  # the module's fingerprint, below the tensor landing that of its program
        self._kernels = KernelChecks(budget)
        self._shrunk = ShrunkKernels(context or PassContext())

    def before(self, pass_: Pass, module: Operation) -> None:
        if self._reference is None:
            below = landing_of(module) == "loop"
            self._reference = self._first_below(module) if below else self._first_whole(module)

    def after(self, pass_: Pass, module: Operation) -> None:
        try:
            below = landing_of(module) == "loop"
            outcome = self._check_below(pass_, module) if below else self._check_whole(pass_, module)
        except StepwellError as error:
            self.failure = f"the pass {pass_} changed a result: {error}"
            raise ResultChanged(self.failure) from error
        self.outcomes.append(outcome)

    def report(self) -> str:
        """Which passes were checked, and the failure if there is one."""
        lines = [str(outcome) for outcome in self.outcomes]
        return "\n".join([*lines, self.failure or "no pass changed a result"]) + "\n"

    # Down to the end of the tensor landing

    def _interpreted(self, module: Operation) -> Run:
        function = main_function(module)
        with HostProgram.of(function).scope():
            arrays = accepted(ports_of(function)[0], parts_of(function)[0], self.inputs)
        self._made = KernelRecorder(program_symbols(function, arrays))
        self._shares_memory = any(isinstance(op, (AppendOp, BorderOp, JoinOp, ScatterOp)) for op in module.walk())
        return interpret(module, self.inputs, PROGRAM_BUDGET, self._made)

    def _first_whole(self, module: Operation) -> Run:
        self._seen = fingerprint(module)
        return self._interpreted(module)

    def _check_whole(self, pass_: Pass, module: Operation) -> Outcome:
        before = self._reference
        assert before is not None
        now = fingerprint(module)
        if now == self._seen:
            return Outcome(str(pass_), f"{before.landing} -> {before.landing}; unchanged")
        run = self._interpreted(module)
        self._compare(before, run, lambda inputs, random: interpret(
            module, inputs, PROGRAM_BUDGET, rounded=lambda content: nudged(content, random)))  # fmt: skip
        self._reference, self._seen = run, now
        return Outcome(str(pass_), f"{before.landing} -> {run.landing}; interpreted")

    def _compare(self, before: Run, run: Run, again: Callable[[list[Any], np.random.Generator], Run]) -> None:
        """Hold a run against the one before; where they differ, by what the program makes `again` of nudged inputs with
        each op or launch rounding otherwise as well."""
        if compare_all(before.results, run.results, before, run) is None:
            return
        slack = slack_of(run.results, lambda random: again([nudged(x, random) for x in self.inputs], random).results)
        found = compare_all(before.results, run.results, before, run, slack)
        if found is not None:
            culprit = first_difference(before, run)
            raise ResultChanged(found + (f"\n  first at {culprit}" if culprit else ""))

    # Below it

    def _first_below(self, module: Operation) -> Run:
        """A module that comes from a dump: what it computes now is the measure."""
        self._kernels.update(module)
        recorder = Recorder(self._kernels.run, self._kernels.steps)
        run = self._program_run(module, recorder)
        self._keep(module, recorder.launches)
        return attrs.evolve(run, arithmetic=functools.reduce(
            operator.or_, (launch.arithmetic for launch in recorder.launches), run.arithmetic))  # fmt: skip

    def _keep(self, module: Operation, launches: list[Launch]) -> None:
        self._launches, self._seen = launches, fingerprint(main_function(module))
        self._kernels.keep(launches, module)

    def _program_run(self, module: Operation, launcher: Any) -> Run:
        """A run of the launches; their sums are as long as those of the run before, which no op says here."""
        run = interpret(module, self.inputs, PROGRAM_BUDGET, launcher)
        before = self._reference
        return run if before is None else attrs.evolve(run, arithmetic=run.arithmetic | before.arithmetic)

    def _launched(self, module: Operation, inputs: list[Any], random: np.random.Generator) -> Run:
        """A run whose kernels' constants and results are nudged as well: what is made of constants alone rounds too."""

        def run(name: str, arguments: Sequence[Any]) -> None:
            before = copied(arguments)
            step = self._kernels.steps[name]
            self._kernels.run(name, [nudged(a, random, step) if is_constant(a) else a for a in arguments])
            for argument, old in zip(arguments, before, strict=True):
                if isinstance(argument, np.ndarray) and argument.tobytes() != old.tobytes():
                    argument[...] = nudged(argument, random, step)

        return interpret(module, inputs, PROGRAM_BUDGET, Recorder(run, self._kernels.steps))

    def _check_below(self, pass_: Pass, module: Operation) -> Outcome:
        before = self._reference
        assert before is not None
        changed = self._kernels.update(module)
        if before.landing != "loop":
            said = self._check_outlined(module, before)
            self._shrunk.add(module)
            checked = self._kernels.check(changed)
        else:
            self._shrunk.check(pass_)
            checked = self._kernels.check(changed)
            said = self._check_program(module, before)
        kernels = self._said_of_kernels(checked)
        skipped = "; ".join([*checked.skipped.values(), *checked.limited])
        return Outcome(str(pass_), f"{before.landing} -> loop; {said}; {kernels}", skipped)

    def _said_of_kernels(self, checked: Checked) -> str:
        if not checked.changed:
            return "kernels unchanged"
        ways = [
            (checked.scalar, "run as scalar code"), (checked.interpreted, "interpreted"),
            (self._shrunk.count, "shrunk ones interpreted"),
        ]  # fmt: skip
        return f"{_counted(checked.changed, 'kernel')} changed: " + ", ".join(f"{n} {way}" for n, way in ways if n)

    def _check_outlined(self, module: Operation, before: Run) -> str:
        """tensor -> loop: every launch reads what its `tensor.kernel` was given."""
        assert self._made is not None
        made, self._made = self._made.made, None
        launcher = Recorder(self._kernels.run, self._kernels.steps) if self._shares_memory else Outlined(made)
        try:
            run = self._program_run(module, launcher)
        except TooLong as error:  # the results stay the measure
            self._kernels.keep(launcher.launches, module)
            self._reference = attrs.evolve(before, landing="loop")
            return f"program not run: a kernel takes {error}"
        self._compare(before, run, lambda inputs, random: self._launched(module, inputs, random))
        self._keep(module, launcher.launches)
        self._reference = run
        count = len(launcher.launches)
        return "program run" if self._shares_memory else f"{_counted(count, 'launch', 'launches')} compared"

    def _check_program(self, module: Operation, before: Run) -> str:
        now = fingerprint(main_function(module))
        if now == self._seen:
            return "program unchanged"
        replay = None if self._shares_memory else Replay(self._kernels.run, self._launches)
        try:
            run = self._program_run(module, replay or Recorder(self._kernels.run, self._kernels.steps))
        except TooLong as error:
            return f"program not run: a kernel takes {error}"
        if replay is not None and not replay.is_lost and replay.count != len(self._launches):
            raise ResultChanged(f"{len(self._launches)} launches became {replay.count}")
        self._compare(before, run, lambda inputs, random: self._launched(module, inputs, random))
        self._seen, self._reference = now, run
        return "program run" if replay is None else f"program run, {_counted(replay.count, 'launch', 'launches')}"


def _counted(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"

