"""Takes a model's weights out of its bytes before protobuf sees them, so that they stay where they are: in the mapped
file. What is left is small, and is parsed as usual.

Follows the protobuf wire format (protobuf.dev/programming-guides/encoding); the three nested messages on the way are
ModelProto.graph (7), GraphProto.initializer (5) and TensorProto.raw_data (9) of onnx.proto."""

from __future__ import annotations

from collections.abc import Iterator

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
LARGE = 4096  # bytes; smaller tensors stay in the message

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


class WireError(Exception):
    """The bytes are no protobuf message, or use parts of the format that ONNX models do not."""


Pieces = list[memoryview | bytes]


def take_weights(data: memoryview) -> tuple[bytes, dict[int, memoryview]]:
    """(the message without the large raw_data of its initializers, index of initializer -> the bytes taken out).

    Raises WireError where the bytes do not parse; protobuf's own parser then says what is wrong."""
    taken: dict[int, memoryview] = {}
    seen = 0
    pieces: Pieces = []
    for number, wire_type, start, body, end in _fields(data):
        if (number, wire_type) == (GRAPH, _LEN):
            graph, seen = _strip_graph(data[body:end], taken, seen)
            pieces += _delimited(GRAPH, graph)
        else:
            pieces.append(data[start:end])
    return b"".join(pieces), taken


def _strip_graph(data: memoryview, taken: dict[int, memoryview], seen: int) -> tuple[Pieces, int]:
    pieces: Pieces = []
    for number, wire_type, start, body, end in _fields(data):
        if (number, wire_type) != (INITIALIZER, _LEN):
            pieces.append(data[start:end])
            continue
        kept, raw = _strip_tensor(data[body:end]) if end - body >= LARGE else (_whole(data[body:end]), None)
        if raw is not None:
            taken[seen] = raw
        pieces += _delimited(INITIALIZER, kept)
        seen += 1
    return pieces, seen


def _strip_tensor(data: memoryview) -> tuple[Pieces, memoryview | None]:
    kept: Pieces = []
    raw = None
    for number, wire_type, start, body, end in _fields(data):
        if (number, wire_type) == (RAW_DATA, _LEN):
            raw = data[body:end]  # of a field given twice, the last one counts
        else:
            kept.append(data[start:end])
    return kept, raw


def _whole(data: memoryview) -> Pieces:
    return [data]


def _delimited(number: int, pieces: Pieces) -> Pieces:
    return [_encode(number << 3 | _LEN) + _encode(sum(map(len, pieces))), *pieces]


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """(field number, wire type, start of the tag, start of the content, end) of every field."""
    position, size = 0, len(data)
    while position < size:
        start = position
        tag, position = _decode(data, position)
        wire_type, length = tag & 7, 0
        if wire_type == _VARINT:
            _, position = _decode(data, position)
        elif wire_type == _LEN:
            length, position = _decode(data, position)
        elif wire_type in (_I64, _I32):
            length = 8 if wire_type == _I64 else 4
        else:
            raise WireError(f"wire type {wire_type}")
        if length > size - position:
            raise WireError("a field is longer than its message")
        yield tag >> 3, wire_type, start, position, position + length
        position += length


def _decode(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if position >= len(data):
            raise WireError("the message ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise WireError("a number of more than 64 bits")
