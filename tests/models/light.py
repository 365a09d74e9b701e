"""The nine light models of the onnx package, with the outputs that the package itself expects of them.

A light model is a known architecture whose weights are constants; its input counts from 0 towards 1, as onnx's own
backend tests make it (`onnx.backend.test.runner`), and its tolerances are those of that suite's `data.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import numpy_helper

import stepwell

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
NAMES = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
         "zfnet512")  # fmt: skip


@attrs.frozen
class LightCase:
    """A model file, and the tolerances within which its outputs must be met."""

    path: Path
    rtol: float
    atol: float

    def inputs(self) -> list[np.ndarray[Any, Any]]:
        """The elements of each input: k / n, for k from 0 to n - 1."""
        graph = onnx.load(self.path).graph
        given = {tensor.name for tensor in graph.initializer}
        shapes = [[dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
                  for value in graph.input if value.name not in given]  # fmt: skip
        return [(np.arange(np.prod(s)).reshape(s) / np.prod(s)).astype(np.float32) for s in shapes]

    def outputs(self) -> list[np.ndarray[Any, Any]]:
        """What the package expects."""
        found = []
        for index in range(len(onnx.load(self.path).graph.output)):
            place = self.path.with_name(f"{self.path.stem}_output_{index}.pb")
            tensor = onnx.TensorProto()
            tensor.ParseFromString(place.read_bytes())
            found.append(numpy_helper.to_array(tensor))
        return found

    def difference(self, model: stepwell.Model) -> str | None:
        """What sets a compiled model's outputs apart from the expected ones."""
        results = model(*self.inputs())
        for index, (expected, actual) in enumerate(
            zip(self.outputs(), results if isinstance(results, tuple) else (results,), strict=True)
        ):
            if actual.dtype != expected.dtype or actual.shape != expected.shape:
                return f"output {index}: {actual.dtype}{actual.shape} instead of {expected.dtype}{expected.shape}"
            wrong = ~np.isclose(actual, expected, rtol=self.rtol, atol=self.atol)
            if wrong.any():
                worst = float(np.max(np.abs(actual - expected)))
                return f"output {index}: {wrong.sum()} of {wrong.size} values, by {worst:.2g} at most"
        return None


def case_of(name: str) -> LightCase | None:
    """The case of a model that is called `light_NAME`; None for others."""
    plain = name.removeprefix("light_")
    if plain == name or plain not in NAMES:
        return None
    described = json.loads((DATA / "real" / f"test_{plain}" / "data.json").read_text())
    return LightCase(DATA / "light" / f"{name}.onnx", float(described["rtol"]), float(described["atol"]))
