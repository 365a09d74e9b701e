"""The ONNX frontend: protobuf in, graph dialect out."""

from __future__ import annotations
