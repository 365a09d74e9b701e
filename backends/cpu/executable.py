"""A compiled program apart from the process it runs in: code, constants, and what a caller must know of both.

    executable = model.executable_of(module, target)     # once
    model.start(executable)                              # in any process of a machine that has what the code uses

What callers must know is the head of the program function: its arguments and attributes as they stand in the IR,
without the body. An engine file holds it as IR text, so a file says all that a program says, and in the same words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import field, frozen

from stepwell.dialects.func import FuncOp, ReturnOp
from stepwell.dialects.host_calls import CALLS, HostProgram
from stepwell.dialects.program_attributes import DEMANDS, SCRATCH
from stepwell.engine.records import BadRecord, Record
from stepwell.errors import EngineError, StepwellError
from stepwell.ir.attributes import ArrayAttr, StringAttr
from stepwell.ir.dims import Dim, parse_dim
from stepwell.ir.parser import parse_module

from . import abi
from .abi import Site
from .signature import Signature, dim_attribute
from .target import Processor

Array = np.ndarray[Any, Any]


@frozen
class Executable:
    """What a `CpuModel` is made from.

    `objects` are relocatable objects for `processor`, `program` the symbol of the program function in them, `head` that
    function without its body, and `constants` the arrays behind the constants table, each at a 64-byte boundary.
    `sites` are the places that may report errors. `shares_work` says whether the program ever gives grains to other
    threads. Raises StepwellErrors for a head that is none of a program."""

    processor: Processor
    head: FuncOp = field(eq=False)
    program: str
    sites: tuple[Site, ...]
    shares_work: bool
    objects: tuple[bytes, ...]
    constants: tuple[Array, ...] = field(eq=False)
    signature: Signature = field(init=False)
    scratch_bytes: Dim = field(init=False)
    """Scratch memory that each thread needs, over the symbols of the inputs."""
    demands: tuple[tuple[Dim, str], ...] = field(init=False)
    """Sizes that must be 0 when the program is called, and what is wrong where one is not."""
    host: HostProgram = field(init=False, eq=False)
    """What it calls in Python, and the strings that it holds."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "signature", Signature.of(self.head))
        object.__setattr__(self, "scratch_bytes", dim_attribute(self.head, SCRATCH))
        object.__setattr__(self, "demands", demands_of(self.head))
        object.__setattr__(self, "host", HostProgram.of(self.head))


def demands_of(function: FuncOp) -> tuple[tuple[Dim, str], ...]:
    """The sizes that must be 0 when the program is called, and what is wrong where one is not."""
    kept = function.attributes.get(DEMANDS)
    texts = [text.value for text in kept.values if isinstance(text, StringAttr)] if isinstance(kept, ArrayAttr) else []
    return tuple((parse_dim(zero), reason) for zero, reason in zip(texts[::2], texts[1::2], strict=False))


def head_of(function: FuncOp) -> FuncOp:
    """func.func @main(...) attributes {...} { body }   ->   func.func @main(...) attributes {...} { func.return }

    Of the body, what it calls on the host is told by an attribute."""
    from stepwell.ir.builder import Builder

    head = function.clone()
    assert isinstance(head, FuncOp)
    calls = HostProgram.of(function).calls
    if calls:
        head.attributes[CALLS] = ArrayAttr(tuple(call.attribute() for call in calls))
    for op in reversed(list(head.body.block)):
        op.erase()
    Builder.at_end(head.body.block).insert(ReturnOp(()))
    return head


def head_of_text(text: str) -> FuncOp:
    """The function of an IR text, which holds nothing else. Raises BadRecord."""
    try:
        module = parse_module(text)
        functions = list(module.walk_of(FuncOp))
        if len(functions) != 1 or len(functions[0].body.blocks) != 1:
            raise BadRecord("the head of the program is not one function")
        return functions[0]
    except StepwellError as error:
        raise BadRecord(f"the head of the program: {error}") from None


def record_of(executable: Executable) -> dict[str, Any]:
    """All but objects and constants. The head is in the generic form, which takes least to read."""
    from stepwell.ir.printer import PrintOptions, print_op

    return {
        "abi": abi.VERSION,
        "processor": {
            "name": executable.processor.name,
            "triple": executable.processor.triple,
            "features": executable.processor.features,
        },
        "head": print_op(executable.head, PrintOptions(generic=True)),
        "program": executable.program,
        "shares_work": executable.shares_work,
        "sites": [{"message": site.message, "label": site.label} for site in executable.sites],
        "constants": len(executable.constants),
    }


def of_record(record: Record, objects: tuple[bytes, ...], constants: tuple[Array, ...]) -> Executable:
    """Raises BadRecord, and EngineError where the code expects another run time than this one."""
    version = record.integer("abi", 1, 1 << 30)
    if version != abi.VERSION:
        raise EngineError(f"its code expects version {version} of the run time, and this Stepwell has {abi.VERSION}: "
                          "save the model again with this one")  # fmt: skip
    if record.integer("constants", 0, 1 << 30) != len(constants) or not objects:
        raise BadRecord(f"metadata.constants does not fit {len(constants)} constants and {len(objects)} objects")
    processor = record.record("processor")
    needed = Processor(processor.text("name"), processor.text("triple"), processor.text("features"))
    sites = tuple(Site(entry.text("message"), entry.text("label")) for entry in record.records("sites"))
    head, program, shares_work = head_of_text(record.text("head")), record.text("program"), record.flag("shares_work")
    try:
        return Executable(needed, head, program, sites, shares_work, objects, constants)
    except StepwellError as error:
        raise BadRecord(f"the head of the program: {error}") from None
