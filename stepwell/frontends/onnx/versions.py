"""Which operators an opset has, by the schemas of the onnx package, and where models in use go beyond these.

    schema_of("", "Swish", 24)     # its OpSchema
    absence("", "Swish", 22)       # "opset 22 has no Swish, which came with opset 24", and what to do"""

from __future__ import annotations

import functools
from collections.abc import Sequence
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

# Versions of operators that are taken with other types than their schemas say.
LOOSE = {
    ("", "Split", 1), ("", "Tile", 1),  # sizes and counts of the type of the data: integers do as well
    ("ai.onnx.ml", "FeatureVectorizer", 1),  # all of one type, although each becomes f32 by itself
}  # fmt: skip


@functools.cache
def _history() -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for schema in sorted(onnx.defs.get_all_schemas_with_history(), key=lambda schema: schema.since_version):
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found


def history(domain: str, op_type: str) -> list[Any]:
    """The OpSchemas of an operator from the oldest to the newest; none for one that is not ONNX's."""
    return _history().get((domain, op_type), [])


def schemas() -> list[Any]:
    """The OpSchemas of all versions of all operators, by domain, name and version."""
    return [schema for _, found in sorted(_history().items()) for schema in found]


@functools.cache
def newest_opsets() -> dict[str, int]:
    """Domain -> the newest opset of which there are schemas; "" is ai.onnx."""
    found: dict[str, int] = {}
    for schema in schemas():
        found[schema.domain] = max(found.get(schema.domain, 0), int(schema.since_version))
    return found


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


Types = Sequence["str | None"]  # of inputs or outputs, as in schemas: `tensor(float)`; None: absent, not known


def misfit(schema: Any, inputs: Types, outputs: Types) -> str:
    """What a version of an operator has against these types, empty where it has nothing."""
    bound: dict[str, tuple[str, str]] = {}  # a type variable of the schema -> its type, and who has it
    for what, given, declared in (("input", inputs, schema.inputs), ("output", outputs, schema.outputs)):
        for index, type_ in enumerate(given):
            if type_ is None:
                continue
            if index >= len(declared) and not (declared and _is_variadic(declared[-1])):
                return f"has no {what} {index}"
            formal = declared[min(index, len(declared) - 1)]
            if type_ not in formal.types:
                return f"does not allow {_short(type_)} as {what} {index} ({formal.name})"
            if _is_variadic(formal) and not formal.is_homogeneous:
                continue
            other, where = bound.setdefault(formal.type_str, (type_, f"{what} {index}"))
            if other != type_:
                pair = f"{_short(other)} and {_short(type_)}"
                return f"wants {where} and {what} {index} ({formal.name}) of one type, not {pair}"
    return ""


def _short(type_: str) -> str:
    return type_[len("tensor(") : -1] if type_.startswith("tensor(") else type_


def _is_variadic(formal: Any) -> bool:
    return bool(formal.option == onnx.defs.OpSchema.FormalParameterOption.Variadic)


@functools.lru_cache(maxsize=4096)
def type_misfit(
    domain: str, op_type: str, version: int, inputs: tuple[str | None, ...], outputs: tuple[str | None, ...] = ()
) -> str:
    """What an operator has in an opset against these types, empty where it has nothing, or is none of ONNX's.

    Types that another version takes for the same inputs and outputs are taken as well: versions widen what is allowed,
    which says nothing new of what was allowed before, and exporters are ahead of them."""
    schema = schema_of(domain, op_type, version)
    found = "" if schema is None else misfit(schema, inputs, outputs)
    if not found or (domain, op_type, schema.since_version) in LOOSE:
        return ""
    names = _names(schema)
    if any(not misfit(other, inputs, outputs) for other in history(domain, op_type) if _names(other) == names):
        return ""
    return found


def _names(schema: Any) -> tuple[list[str], list[str]]:
    return [formal.name for formal in schema.inputs], [formal.name for formal in schema.outputs]
