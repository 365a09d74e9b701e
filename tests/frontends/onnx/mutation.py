"""Damages models on purpose, reproducibly: by bytes, and by fields, which gets deeper."""

from __future__ import annotations

from random import Random
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from stepwell.errors import ModelError
from stepwell.frontends.onnx.importer import import_model

INTERESTING = [
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    127,
    -1,
    -2,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    (1 << 63) - 1,
    -(1 << 63),
    1 << 40,
]


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """One to four damages: a changed, dropped or doubled stretch."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(out) + 1)
        kind = random.randrange(4)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << random.randrange(8)
        elif kind == 1 and place < len(out):
            out[place] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)])
        elif kind == 2:
            del out[place : place + random.randint(1, 16)]
        else:
            start = random.randrange(len(out) + 1)
            out[place:place] = out[start : start + random.randint(1, 32)]
    return bytes(out)


def mutate_fields(data: bytes, random: Random) -> bytes:
    """One to four damages to fields anywhere in the message: changed, cleared, doubled or swapped."""
    proto = onnx.ModelProto.FromString(data)
    for _ in range(random.randint(1, 4)):
        message = _descend(proto if random.random() < 0.2 else proto.graph, random)
        fields = message.ListFields()
        if fields:
            _damage(message, *random.choice(fields), random)
    return bytes(proto.SerializeToString())


def _descend(message: Any, random: Random) -> Any:
    while True:
        inner = []
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                inner += list(value) if hasattr(value, "add") else [value]
        if not inner or random.random() < 0.25:
            return message
        message = random.choice(inner)


def _damage(message: Any, field: Any, value: Any, random: Random) -> None:
    repeated = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
    if random.random() < 0.15:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        if repeated and random.random() < 0.5:
            value.add().CopyFrom(random.choice(list(value)))
        elif repeated:
            del value[random.randrange(len(value))]
        else:
            value.Clear()
    elif repeated:
        place = random.randrange(len(value))
        if random.random() < 0.4:
            value.append(_scalar(field, value[place], random))
        else:
            value[place] = _scalar(field, value[place], random)
    else:
        setattr(message, field.name, _scalar(field, value, random))


def _scalar(field: Any, value: Any, random: Random) -> Any:
    if isinstance(value, str):
        pool = [
            "",
            "x",
            "y",
            "\0",
            "8*h8",
            "ai.onnx",
            "If",
            "Loop",
            "Constant",
            "Reshape",
            "Cast",
            value + "_",
            value[::-1],
        ]
        return random.choice(pool)
    if isinstance(value, bytes):
        return mutate_bytes(value, random)
    if isinstance(value, float):
        return random.choice([0.0, -1.0, float("nan"), float("inf"), 3.4e38])
    if field.enum_type is not None:
        return random.choice([item.number for item in field.enum_type.values])
    low, high = (-(1 << 31), (1 << 31) - 1) if field.cpp_type == field.CPPTYPE_INT32 else (-(1 << 63), (1 << 63) - 1)
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        low = 0
    choice = random.choice([*INTERESTING, value + 1, value - 1, random.randrange(32)])
    return min(max(choice, low), high)


def mutant(data: bytes, random: Random) -> bytes:
    """A damaged model."""
    if random.random() < 0.4:
        return mutate_bytes(data, random)
    try:
        return mutate_fields(data, random)
    except DecodeError:
        return mutate_bytes(data, random)


def survives(data: bytes) -> bool:
    """Import a model that may be damaged: True where it imports, False where it is refused as it should be. Any other
    exception leaves."""
    try:
        import_model(data)
    except ModelError as error:
        assert str(error)
        return False
    return True
