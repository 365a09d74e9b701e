"""Which operators an opset has, by the schemas of the onnx package, and where models in use go beyond these.

    schema_of("", "Swish", 24)     # its OpSchema
    absence("", "Swish", 22)       # "opset 22 has no Swish, which came with opset 24", and what to do"""

from __future__ import annotations

import functools
from typing import Any

import onnx

# Operators that models use in opsets whose schemas lack them, with the first of these: they are read as the first
# version there is a schema of. onnxruntime takes them so too.
TAKEN_EARLIER = {
    ("", "LayerNormalization"): 1,  # onnxruntime writes it into the models it has optimised, whatever their opset
    ("", "ThresholdedRelu"): 1,  # exporters wrote it, with this meaning, while it was an experiment
}

# Versions of operators that count although they are marked as deprecated.
STANDING = {
    ("", "GroupNormalization", 18),  # marked three opsets later, for a scale per group that models of its time have
}


@functools.cache
def _history() -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in sorted(onnx.defs.get_all_schemas_with_history(), key=lambda schema: schema.since_version):
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found


def history(domain: str, op_type: str) -> list[Any]:
    """The OpSchemas of an operator from the oldest to the newest; none for one that is not ONNX's."""
    return _history().get((domain, op_type), [])


@functools.lru_cache(maxsize=4096)
def schema_of(domain: str, op_type: str, version: int) -> Any:
    """The OpSchema under which an operator is read in an opset, None where there is none."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except (onnx.defs.SchemaError, TypeError):  # the latter for versions beyond 32 bits
        earlier = TAKEN_EARLIER.get((domain, op_type))
        return None if earlier is None or version < earlier else history(domain, op_type)[0]


def is_deprecated(schema: Any) -> bool:
    """Whether an opset no longer has the operator, although it knows its name."""
    return bool(schema.deprecated) and (schema.domain, schema.name, schema.since_version) not in STANDING


@functools.lru_cache(maxsize=4096)
def absence(domain: str, op_type: str, version: int) -> tuple[str, str] | None:
    """(why an opset does not have an operator of ONNX, what to do); None where it has it, or the operator is none of
    ONNX's."""
    found = schema_of(domain, op_type, version)
    opset = f"opset {version}" + (f" of {domain}" if domain else "")
    if found is not None:
        if not is_deprecated(found):
            return None
        last = found.since_version - 1
        reason = f"{opset} has no {op_type} any more: the last one that has it is {last}"
        return reason, "express it by operators of this opset; with onnx.version_converter, or in a new export"
    versions = history(domain, op_type)
    if not versions:
        return None
    first = versions[0].since_version
    reason = f"{opset} has no {op_type}, which came with opset {first}"
    return reason, f"convert the model to opset {first} or newer with onnx.version_converter, or export it so"
