"""A compiled program apart from the process it runs in: code, constants, and what a caller must know of both.

    executable = model.executable_of(module, target)     # once
    model.start(executable)                              # in any process of a machine that has what the code uses

An engine file holds one, as `record_of` and `of_record` write and read it: sizes as texts of dims, element types by
name. The code and the constants are sections of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen

from stepwell.engine.records import BadRecord, Record
from stepwell.errors import EngineError
from stepwell.ir.dims import Dim, parse_dim

from . import abi
from .abi import Site
from .signature import Port, Signature
from .target import Processor

Array = np.ndarray[Any, Any]

MOST_SEGMENTS = 1 << 20
_NUMPY = frozenset({"bool", "complex64", "complex128", "float16", "float32", "float64",
                    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))})  # fmt: skip
_SMALL = frozenset({"int2", "uint2", "int4", "uint4"})


@frozen
class Executable:
    """What a `CpuModel` is made from.

    `objects` are relocatable objects for `processor`, `program` the symbol of the program function in them, and
    `constants` the arrays behind its table, each at a 64-byte boundary. `scratch_bytes` is what each thread needs.
    `sites` are the places that may report errors; of `demands`, sizes that must be 0, each has its reason.
    `shares_work` says whether the program ever gives grains to other threads."""

    processor: Processor
    signature: Signature
    scratch_bytes: Dim
    program: str
    sites: tuple[Site, ...]
    demands: tuple[tuple[Dim, str], ...]
    shares_work: bool
    objects: tuple[bytes, ...]
    constants: tuple[Array, ...]


def record_of(executable: Executable) -> dict[str, Any]:
    """All but objects and constants. Raises EngineError for what has no text that can be read back."""
    signature = executable.signature
    return {
        "abi": abi.VERSION,
        "processor": {
            "name": executable.processor.name,
            "triple": executable.processor.triple,
            "features": executable.processor.features,
        },
        "program": executable.program,
        "shares_work": executable.shares_work,
        "inputs": [_port_record(port) for port in signature.inputs],
        "outputs": [_port_record(port) for port in signature.outputs],
        "has_arena": signature.has_arena,
        "arena": dim_text(signature.arena_bytes),
        "scratch": dim_text(executable.scratch_bytes),
        "segments": signature.segments,
        "sites": [{"message": site.message, "label": site.label} for site in executable.sites],
        "demands": [{"zero": dim_text(zero), "reason": reason} for zero, reason in executable.demands],
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
    signature = Signature(
        tuple(_port(entry) for entry in record.records("inputs")),
        tuple(_port(entry) for entry in record.records("outputs")),
        record.flag("has_arena"),
        record.read("arena", parse_dim),
        record.integer("segments", 0, MOST_SEGMENTS),
    )
    return Executable(
        Processor(processor.text("name"), processor.text("triple"), processor.text("features")),
        signature,
        record.read("scratch", parse_dim),
        record.text("program"),
        tuple(Site(entry.text("message"), entry.text("label")) for entry in record.records("sites")),
        tuple((entry.read("zero", parse_dim), entry.text("reason")) for entry in record.records("demands")),
        record.flag("shares_work"),
        objects,
        constants,
    )


def _port_record(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "dtype": dtype_name(port.dtype),
        "dims": [dim_text(dim) for dim in port.dims],
        "published": port.published,
    }


def _port(record: Record) -> Port:
    dims = record.reads("dims", parse_dim)
    return Port(record.text("name"), record.read("dtype", dtype_named), dims, record.flag("published"))


def dim_text(dim: Dim) -> str:
    """A size as text that `parse_dim` reads back. Raises EngineError where it would not."""
    text = str(dim)
    if parse_dim(text) != dim:
        raise EngineError(f"the model cannot be saved: the size {text[:200]}... is too long to be written down")
    return text


def dtype_name(dtype: np.dtype[Any]) -> str:
    """An element type's name, for `dtype_named`. Raises EngineError for one that lies not in memory, such as text."""
    try:
        if dtype_named(dtype.name) == dtype:
            return dtype.name
    except ValueError:
        pass
    raise EngineError(f"the model cannot be saved: a port has element type {dtype}")


def dtype_named(name: str) -> np.dtype[Any]:
    """The element type of NumPy or ml_dtypes. Raises ValueError for an unknown name."""
    if name in _NUMPY:
        return np.dtype(name)
    import ml_dtypes

    if name in _SMALL or (name.startswith(("bfloat", "float")) and hasattr(ml_dtypes, name)):
        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return dtype
    raise ValueError(f"unknown element type {name!r}")
