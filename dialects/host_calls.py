"""Calls that a program makes into Python: what each is told, and what lives as long as one call of the program.

    with HostProgram.of(function).scope():
        ...                              # the program runs; `current()` is the scope

The same record runs a call in the interpreter, at any landing, and for machine code."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import attrs
import numpy as np

from stepwell.dialects.func import FuncOp
from stepwell.dialects.host_strings import STRINGS, Array, StringPool, StringTable, as_texts
from stepwell.errors import IRError, PassError, RuntimeError, StepwellError
from stepwell.ir.attributes import (
    ArrayAttr,
    Attribute,
    DenseArrayAttr,
    DictAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    TypeAttr,
)
from stepwell.ir.core import Operation
from stepwell.ir.types import I1, FunctionType, StringType, TensorType, numpy_dtype

CALLS = "sw.host_calls"
"""The attribute of a program's head: the calls that its body makes, in the order of their numbers."""


FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, TypeError,
    ValueError, builtins.RuntimeError,
)  # fmt: skip
"""What a function on the host may raise by a fault of its own."""


def plain(attribute: Attribute) -> Any:
    """An attribute as a Python value: what a host function is told."""
    if isinstance(attribute, DictAttr):
        return {key: plain(value) for key, value in attribute.items}
    if isinstance(attribute, ArrayAttr):
        return [plain(value) for value in attribute.values]
    if isinstance(attribute, DenseArrayAttr):
        return list(attribute.values)
    if isinstance(attribute, IntegerAttr):
        return bool(attribute.value) if attribute.type is I1 else attribute.value
    if isinstance(attribute, (StringAttr, FloatAttr)):
        return attribute.value
    if isinstance(attribute, TypeAttr):
        return attribute.type
    raise IRError(f"{attribute} cannot be told to a function on the host")


@attrs.frozen(eq=False)
class HostCall:
    """One call: which function, what it is told, the types of its arrays (a size that varies is a symbol), and the node
    that asks for it."""

    callee: str
    config: DictAttr
    signature: FunctionType
    label: str

    @property
    def inputs(self) -> tuple[TensorType, ...]:
        """The types of what it is given."""
        return _tensors(self.signature.inputs)

    @property
    def results(self) -> tuple[TensorType, ...]:
        """The types of what it gives."""
        return _tensors(self.signature.results)

    def attribute(self) -> DictAttr:
        """As it stands at a head."""
        return DictAttr.of({"callee": StringAttr(self.callee), "config": self.config,
                            "label": StringAttr(self.label), "signature": TypeAttr(self.signature)})  # fmt: skip

    @staticmethod
    def of(attribute: Attribute) -> HostCall:
        """The inverse of `attribute`. Raises IRError."""
        found = dict(attribute.items) if isinstance(attribute, DictAttr) else {}
        callee, config, label = found.get("callee"), found.get("config"), found.get("label")
        kept = found.get("signature")
        type_ = kept.type if isinstance(kept, TypeAttr) else None
        if (
            not isinstance(callee, StringAttr) or not isinstance(label, StringAttr)
            or not isinstance(config, DictAttr) or not isinstance(type_, FunctionType)
        ):  # fmt: skip
            raise IRError(f"{attribute} is no call of a function on the host")
        _tensors((*type_.inputs, *type_.results))
        return HostCall(callee.value, config, type_, label.value)

    def run(self, arrays: Sequence[Array], strings: StringTable) -> list[Array]:
        """The results for arrays as the program holds them, with handles for strings.

        Raises RuntimeError naming the node."""
        from stepwell.dialects.host_functions import find

        try:
            given = [strings.texts(array) if _is_text(type_) else array
                     for type_, array in zip(self.inputs, arrays, strict=True)]  # fmt: skip
            with np.errstate(all="ignore"):
                made = find(self.callee).run(plain(self.config), *given)
            made = made if isinstance(made, tuple) else (made,)
            return [self._held(type_, array, strings) for type_, array in zip(self.results, made, strict=True)]
        except RuntimeError as error:
            raise error.at(self.label or "an operation", self.callee) from None
        except StepwellError as error:
            raise RuntimeError(f"{self.callee}: {error}", None, self.label or "an operation") from None
        except FAULTS as error:
            what = f"{self.callee} failed: {type(error).__name__}: {error}"
            raise RuntimeError(what, None, self.label or "an operation") from error

    def _held(self, type_: TensorType, made: Any, strings: StringTable) -> Array:
        array = np.asarray(made)
        fits = array.ndim == type_.rank and all(
            not isinstance(wanted, int) or wanted == size for wanted, size in zip(type_.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != numpy_dtype(type_):
            raise IRError(f"it gave {array.dtype}{list(array.shape)} for a {type_}")
        held = strings.handles(as_texts(array, "its result")) if _is_text(type_) else array
        return np.ascontiguousarray(held).reshape(array.shape)


def _is_text(type_: TensorType) -> bool:
    return isinstance(type_.element, StringType)


def _tensors(types: Sequence[Any]) -> tuple[TensorType, ...]:
    if not all(isinstance(type_, TensorType) for type_ in types):
        raise IRError(f"a function on the host takes and gives tensors, not {', '.join(map(str, types))}")
    return tuple(types)


class HostScope:
    """What one call of a program has on the host: its strings, and what its host calls have made last."""

    def __init__(self, program: HostProgram) -> None:
        self.strings = StringTable(program.pool)
        self.calls = program.calls
        self.made: dict[Any, list[Array]] = {}
        self.error: BaseException | None = None

    def run(self, key: Any, call: HostCall, arrays: Sequence[Array]) -> Array:
        """Run a call and keep its results under a key; answers their sizes, one after the other."""
        self.made[key] = made = call.run(arrays, self.strings)
        return np.array([size for array in made for size in array.shape], np.int64)

    def result(self, key: Any, number: int) -> Array:
        """A result of the last call of that key."""
        return self.made[key][number]


_CURRENT: ContextVar[HostScope | None] = ContextVar("host_scope", default=None)


def current() -> HostScope:
    """The scope of the call under way. Raises IRError where there is none."""
    found = _CURRENT.get()
    if found is None:
        raise IRError("strings and calls of the host exist while a program is called only")
    return found


def pending_error() -> BaseException | None:
    """What a host call of the call under way has raised."""
    found = _CURRENT.get()
    return found.error if found is not None else None


@attrs.frozen(eq=False)
class HostProgram:
    """What a program has to do with the host: the strings of its constants, and its calls by their numbers."""

    pool: StringPool
    calls: tuple[HostCall, ...]
    has_strings: bool = False

    @staticmethod
    def of(function: FuncOp) -> HostProgram:
        """Read it off a program or its head. Raises IRError."""
        kept = function.attributes.get(CALLS)
        if isinstance(kept, ArrayAttr):
            calls = [HostCall.of(item) for item in kept.values]
        else:
            calls_inside: list[Any] = [op for op in function.walk() if op.op_name == HOST_OPS[-1]]
            found: Mapping[int, HostCall] = {op.number: op.call for op in calls_inside}
            if sorted(found) != list(range(len(found))):
                raise IRError(f"the calls of the host in @{function.sym_name} are not numbered from 0 on")
            calls = [found[number] for number in range(len(found))]
        return HostProgram(StringPool.of(function), tuple(calls), STRINGS in function.attributes)

    @property
    def is_used(self) -> bool:
        """Whether its calls need a scope."""
        return self.has_strings or bool(self.calls)

    @contextmanager
    def scope(self) -> Iterator[HostScope]:
        """What is done inside is one call of the program."""
        scope = HostScope(self)
        token = _CURRENT.set(scope)
        try:
            yield scope
        finally:
            _CURRENT.reset(token)

    def names(self) -> list[str]:
        """The functions that it calls and the nodes that ask for them, for reports."""
        return [f"@{call.callee} for {call.label}" if call.label else f"@{call.callee}" for call in self.calls]


HOST_OPS = ("graph.host_call", "tensor.host_call", "host.call")
"""The ops, one per landing, that call a function on the host."""

REFUSED = "no host"
"""The option of a compilation that allows no calls of the host; its value says so to users."""


def refuse_host_calls(module: Operation, options: Mapping[str, Any]) -> None:
    """Raise PassError naming every call of a function on the host that a module has at any landing, where the
    compilation's options refuse them."""
    reason = options.get(REFUSED)
    calls = [op for op in module.walk() if op.op_name in HOST_OPS] if reason else []
    if calls:
        named = [f"  @{plain_name(op)} for {op.loc.label or 'an operation without a name'}" for op in calls]
        raise PassError("\n".join([f"{reason}; the model calls Python for what is no arithmetic:", *named]))


def plain_name(op: Operation) -> str:
    """The function that an op calls."""
    callee = op.properties.get("callee")
    return callee.name if isinstance(callee, SymbolRefAttr) else "?"
