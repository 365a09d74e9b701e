"""A model under acceptance: its file, its inputs, its compilations, and what others say that it computes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx

import stepwell
from benchmarks import compare, materialize
from tests.models import double

Array = np.ndarray[Any, Any]
Sizes = dict[str, int]  # of symbols

LONE = (1, 7, 15, 37)  # one; a vector of eight or sixteen lanes but one; no multiple of anything
BATCHES = (1, 2, 3, 5)  # beside them, where a model has a batch and other symbols
TIMES = 4  # the typical size
OTHERS = 7  # inputs beside the typical ones


@attrs.define(eq=False)
class Subject:
    """A filled model file and its typical inputs. What costs time is worked out once, at its first use."""

    path: Path
    typical: dict[str, Array]
    _compiled: dict[str, stepwell.Model] = attrs.field(factory=dict, init=False)
    _exact: list[Array] | None = attrs.field(default=None, init=False)
    _exact_others: list[list[Array]] = attrs.field(factory=list, init=False)
    _expected: list[Array] | None = attrs.field(default=None, init=False)
    _proto: onnx.ModelProto | None = attrs.field(default=None, init=False)
    _session: Any = attrs.field(default=None, init=False)

    @staticmethod
    def read(path: Path) -> Subject:
        """A model beside which its inputs lie: `NAME.onnx` and `NAME.npz`."""
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            return Subject(path, {name: arrays[name] for name in arrays.files})

    @property
    def proto(self) -> onnx.ModelProto:
        """The model as ONNX has it."""
        if self._proto is None:
            self._proto = onnx.load(self.path)
        return self._proto

    def compiled(self, target: str = "cpu") -> stepwell.Model:
        """The model for a target, for any sizes."""
        if target not in self._compiled:
            self._compiled[target] = stepwell.compile(self.path, target=target)
        return self._compiled[target]

    def forget(self, target: str) -> None:
        """Free what was compiled for a target."""
        self._compiled.pop(target, None)

    def results(self, feeds: Mapping[str, Array] | None = None, target: str = "cpu") -> list[Array]:
        """Our outputs, in the order of the graph."""
        model = self.compiled(target)
        found = model.run(self.typical if feeds is None else feeds)
        return [found[port.name] for port in model.outputs]

    def expected(self, feeds: Mapping[str, Array] | None = None) -> list[Array]:
        """onnxruntime's outputs."""
        if feeds is not None:
            return self._theirs(feeds)
        if self._expected is None:
            self._expected = self._theirs(self.typical)
        return self._expected

    def _theirs(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._session is None:
            import onnxruntime  # late, so that it takes no memory of a process that measures ours

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # what it refuses, it raises
            self._session = onnxruntime.InferenceSession(self.path, options)
        results: list[Array] = self._session.run(None, dict(feeds))
        return results

    def inside(self, names: Sequence[str]) -> dict[str, Array]:
        """onnxruntime's values inside the model, none of them fused away."""
        import onnxruntime

        opened = onnx.ModelProto()
        opened.CopyFrom(self.proto)
        opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(opened.SerializeToString(), options)
        return dict(zip(names, session.run(list(names), self.typical), strict=True))

    def exact(self) -> list[Array]:
        """The outputs of a run in 64 bits. Raises StepwellError where the model has no such form."""
        if self._exact is None:
            self._exact = self._double.run(self.typical)
        return self._exact

    @functools.cached_property
    def _double(self) -> double.DoubleModel:
        return double.DoubleModel(self.proto)

    def distances(self, target: str = "cpu") -> list[double.Distance]:
        """How far we and onnxruntime are from the exact results."""
        return double.distances(self.exact(), self.results(target=target), self.expected())

    def distances_of_many(self, target: str = "cpu") -> list[double.Distance]:
        """The farthest that we and onnxruntime are from the exact results, over the typical inputs and others."""
        found = [self.distances(target)]
        for number, feeds in enumerate(self.others):
            if number == len(self._exact_others):
                self._exact_others.append(self._double.run(feeds))
            found.append(
                double.distances(self._exact_others[number], self.results(feeds, target), self.expected(feeds))
            )
        return [double.Distance.farthest(of_output) for of_output in zip(*found, strict=True)]

    @functools.cached_property
    def others(self) -> list[dict[str, Array]]:
        """Other inputs of the typical sizes: the floats of the typical ones in other orders."""
        return [
            {name: _shuffled(array, seed) if array.dtype.kind == "f" else array for name, array in self.typical.items()}
            for seed in range(OTHERS)
        ]

    def feeds(self, sizes: Sizes) -> dict[str, Array]:
        """Inputs at other sizes of the symbols."""
        return materialize.inputs(self.proto, sizes)

    @functools.cached_property
    def usual_sizes(self) -> Sizes:
        """The typical sizes of the symbols; nothing for a model of fixed sizes."""
        text = next((entry.value for entry in self.proto.metadata_props if entry.key == "dims"), "")
        return {name: int(value) for name, value in (word.split("=") for word in text.split())}


def _shuffled(array: Array, seed: int) -> Array:
    return np.random.default_rng(seed).permutation(array.reshape(-1)).reshape(array.shape)


def size_grid(usual: Sizes) -> list[Sizes]:
    """The sizes at which a model with these symbols must work: small and odd ones, the typical, four times each."""
    grid = []
    for number, batch in zip(LONE, BATCHES, strict=True):
        grid.append({name: batch if name == "batch" and len(usual) > 1 else number for name in usual})
    grid.append(dict(usual))
    grid += [{**usual, name: TIMES * size} for name, size in usual.items()]
    return grid


def difference(expected: Sequence[Array], actual: Sequence[Array]) -> str | None:
    """What sets our outputs apart from onnxruntime's, in words: integers must be equal, floats close."""
    for index, (left, right) in enumerate(zip(expected, actual, strict=False)):
        if left.dtype.kind in "iub" and left.shape == right.shape and not np.array_equal(left, right):
            return f"output {index}: {np.count_nonzero(left != right)} of {left.size} values differ"
    return compare.difference(expected, actual)


def same_bits(expected: Sequence[Array], actual: Sequence[Array]) -> str | None:
    """What sets two runs apart when every bit counts."""
    for index, (left, right) in enumerate(zip(expected, actual, strict=True)):
        if left.shape != right.shape or left.tobytes() != right.tobytes():
            return f"output {index}: {_count(left, right)} elements have other bits"
    return None


def _count(left: Array, right: Array) -> int:
    if left.shape != right.shape:
        return math.prod(right.shape)
    bits = [np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(a.size, -1) for a in (left, right)]
    return int((bits[0] != bits[1]).any(axis=1).sum())
