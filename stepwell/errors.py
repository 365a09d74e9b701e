"""The exceptions that users of Stepwell meet. All of them derive from `StepwellError`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class StepwellError(Exception):
    """Base of every error that Stepwell raises on purpose: its text says what, where, why and what to do."""


class IRError(StepwellError):
    """An IR object was built or changed in a way that its definition forbids."""


class UnknownError(IRError):
    """A rank, or another part of a type, that depends on what is not known when a model is compiled.

    `sizes` are symbolic sizes, `values` are values of the IR whose contents decide, `sequences` those whose tensors'
    rank does."""

    def __init__(
        self, reason: str, sizes: Iterable[Any] = (), values: Iterable[Any] = (), sequences: Iterable[Any] = ()
    ) -> None:
        super().__init__(reason)
        self.sizes = tuple(sizes)
        self.values = tuple(values)
        self.sequences = tuple(sequences)


class ParseError(StepwellError):
    """IR text that does not parse. `str()` shows the line with a caret under the place."""


class VerifyError(StepwellError):
    """IR that breaks a rule of an op, a type, dominance or a landing's contract."""


class PassError(StepwellError):
    """A pass could not do its work, or a pipeline is malformed."""


class ModelError(StepwellError):
    """A model that cannot be imported: damaged, hostile, or using things that Stepwell lacks (all of them listed)."""


class InputError(StepwellError):
    """Arrays given to a compiled model that do not fit its inputs: name, rank, size or element type."""


class StateError(StepwellError):
    """State that does not fit: pairs of an input and an output that the model does not have, a state that is full, in
    use by another call, or of another model."""


class EngineError(StepwellError):
    """An engine file that cannot be written or used: missing, foreign, of a newer format, truncated, damaged."""


class OutputError(StepwellError):
    """A file of results that cannot be written: which one, why, and what to do. The old one is as it was."""


class TuningError(StepwellError):
    """A file of tuned schedules that cannot be used: missing, of another format, damaged, with a schedule that no
    kernel can have."""


class TargetError(StepwellError):
    """A target that is unknown, or that this machine cannot run."""


class RuntimeError(StepwellError):
    """A model met an error while it ran (an index out of range, a division by zero): where, what, and the value.

    `where` names the ONNX node, `value` is the offending number; either may be missing."""

    def __init__(self, problem: str, value: int | None = None, where: str = "") -> None:
        shown = problem if value is None else f"{problem} (value {value})"
        super().__init__(f"{where}: {shown}" if where else shown)
        self.problem = problem
        self.value = value
        self.where = where

    def at(self, where: str, what: str) -> RuntimeError:
        """The same error with its place and the op it came from, where it has none."""
        return self if self.where else RuntimeError(f"{what}: {self.problem}", self.value, where)
