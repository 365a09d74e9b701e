"""Loading a model: from a path, bytes, a ModelProto or a file object; and the checks that come before its graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from stepwell.errors import ModelError
from stepwell.frontends.onnx import wire
from stepwell.frontends.onnx.element_types import text
from stepwell.frontends.onnx.files import ExternalFiles, map_model, read_object
from stepwell.frontends.onnx.weights import Weights

PROTOBUF_LIMIT = (1 << 31) - 1  # bytes that one protobuf message may have


@attrs.frozen(eq=False)
class Model:
    """A loaded model: `proto` (ModelProto, without the weights that stay in the mapped file), `label` for messages,
    its weights, and the opset version of every domain it imports ("" is ai.onnx)."""

    proto: Any
    label: str
    weights: Weights
    opsets: Mapping[str, int]


def load_model(source: Any, *, folder: str | os.PathLike[str] | None = None) -> Model:
    """Load a model from a path, bytes, a ModelProto, a binary file object or a loaded Model.

    `folder` is where external data lies; the folder of the file unless given. Raises ModelError for whatever cannot be
    read or parsed, and for IR and opset versions beyond those that the onnx package knows."""
    if isinstance(source, Model):
        return source
    base = Path(folder) if folder is not None else None
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fspath(source))
        return parse_model(map_model(path), path.name, ExternalFiles(base or path.parent))
    if isinstance(source, onnx.ModelProto):
        return _checked(source, text(source.graph.name) or "the model", Weights(ExternalFiles(base)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return parse_model(bytes(source), "the model", ExternalFiles(base))
    if hasattr(source, "read"):
        data, named = read_object(source)
        if base is None and named is not None and named.is_file():
            base = named.parent
        return parse_model(data, named.name if named else "the model", ExternalFiles(base))
    raise ModelError(f"a model is a path, bytes, a ModelProto or a binary file object, not {type(source).__name__}")


def parse_model(content: Any, label: str, files: ExternalFiles) -> Model:
    """The model whose bytes are `content` (anything with the buffer protocol, which the weights are views of from here
    on). Raises ModelError."""
    data = memoryview(content)
    if len(data) == 0:
        raise ModelError(f"{label} is empty")
    if bytes(data[:24]) == b"version https://git-lfs.":
        raise ModelError(f"{label} is a pointer of Git LFS, not the model; fetch the file with `git lfs pull`")
    embedded: Mapping[int, memoryview]
    try:
        message, embedded = wire.take_weights(data)
    except wire.WireError:
        message, embedded = b"", {}
    if not embedded:
        message = bytes(data[: PROTOBUF_LIMIT + 1])
    if len(message) > PROTOBUF_LIMIT:
        raise ModelError(f"{label} has more than 2 GiB outside its weights; save it with external data")
    try:
        proto = onnx.ModelProto.FromString(message)
    except DecodeError:
        raise ModelError(
            f"{label} is no ONNX model, or is damaged or cut short: {len(data)} bytes that protobuf cannot parse; "
            "fetch or export it again"
        ) from None
    return _checked(proto, label, Weights(files, embedded))


def _checked(proto: Any, label: str, weights: Weights) -> Model:
    if not proto.HasField("ir_version") or proto.ir_version < 1:
        raise ModelError(f"{label} has no IR version: it is no ONNX model, or is damaged; fetch or export it again")
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{label} has IR version {proto.ir_version}, and onnx {onnx.__version__} knows {onnx.IR_VERSION} at most; "
            "upgrade the onnx package, or export the model for an older version"
        )
    if not proto.HasField("graph"):
        raise ModelError(f"{label} has no graph: it is damaged, or holds functions only")
    return Model(proto, label, weights, _opsets(proto, label))


def _opsets(proto: Any, label: str) -> dict[str, int]:
    if not proto.opset_import and proto.ir_version < 3:
        return {"": 1}
    found = opset_versions(proto.opset_import, label)
    if not found:
        raise ModelError(f"{label} imports no operator set, so its nodes have no meaning; export it again")
    known = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    for domain, newest in known.items():
        if found.get(domain, 0) > newest:
            raise ModelError(
                f"{label} uses opset {found[domain]} of {domain or 'ai.onnx'}, and onnx {onnx.__version__} knows "
                f"{newest} at most; upgrade the onnx package, or convert the model with onnx.version_converter"
            )
    return found


def opset_versions(imports: Iterable[Any], label: str) -> dict[str, int]:
    """Domain -> version of a list of OperatorSetIdProto. Raises ModelError where one domain has two versions."""
    found: dict[str, int] = {}
    for entry in imports:
        domain = canonical_domain(text(entry.domain))
        version = int(entry.version)
        if found.setdefault(domain, version) != version:
            raise ModelError(f"{label} imports {domain or 'ai.onnx'} in two versions: {found[domain]} and {version}")
        if version < 1:
            raise ModelError(f"{label} imports {domain or 'ai.onnx'} in version {version}; versions start at 1")
    return found


def canonical_domain(domain: str) -> str:
    """ "" for ai.onnx, others as they are."""
    return "" if domain == "ai.onnx" else domain
