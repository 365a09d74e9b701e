"""Random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import Array, tensor_type
from stepwell.dialects.graph.symbols import ShapedByTypeOp, fresh_dim, run_time_shape
from stepwell.dialects.random_streams import INTERPRETED_ENTROPY, mt_words, philox
from stepwell.errors import IRError
from stepwell.ir.attrkinds import INT, enum
from stepwell.ir.constraints import FLOAT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.opdef import attr, result
from stepwell.ir.types import FloatType, TensorType, Type, numpy_dtype


def uniform_digits(element: Type) -> int:
    """How many random bits a number of [0, 1) has: every one that its type can hold."""
    import ml_dtypes

    assert isinstance(element, FloatType)
    return int(ml_dtypes.finfo(numpy_dtype(element)).nmant) + 1


class RandomOp(ShapedByTypeOp):
    """Independent random numbers in the result type's shape: `uniform` ones of [0, 1), multiples of 2^-p where the type
    has p bits of precision, or `normal` ones (mean 0, deviation 1; Box and Muller, 1958).

    With a `seed` the numbers are the same in every run, on every machine; normal ones but for the rounding of
    elementary functions. Without one every run draws others: the key is a clock's time then. The generator is `philox`
    (Philox4x32-10; element i is made from the block of counter i) or `mt19937`, for uniform numbers of f64: NumPy's
    `RandomState(seed).random_sample`, from a seed of 32 bits. ONNX: RandomUniform, RandomNormal and their like.

    ```mlir
    %r = graph.random {distribution = "normal", seed = 7 : i64} : () -> tensor<2x3xf32>
    ```
    """

    name = "graph.random"
    distribution: str = attr(enum("uniform", "normal"))
    generator: str = attr(enum("philox", "mt19937"), default="philox")
    seed: int | None = attr(INT, default=None)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        if self.seed is None:
            fresh_dim(self, "chance")
        return self.known_types()

    def verify_op(self) -> None:
        type_ = self.result.type
        assert isinstance(type_, TensorType) and isinstance(type_.element, FloatType)
        if type_.element.width < 16:
            raise IRError(f"random numbers of {type_.element}, of which there are too few")
        if self.generator == "mt19937" and (
            self.distribution != "uniform" or type_.element.width != 64 or self.seed is None
        ):
            raise IRError("mt19937 gives uniform numbers of f64, and needs a seed")

    def compute(self, frame: Any, *args: Any) -> Any:
        shape = run_time_shape(self, frame, args, self.result.type)
        count, dtype = math.prod(shape), numpy_dtype(self.result.type)
        if self.generator == "mt19937":
            assert self.seed is not None
            return _halves(mt_words(self.seed, 2 * count).reshape(count, 2)).reshape(shape)
        words = philox(INTERPRETED_ENTROPY if self.seed is None else self.seed, count).astype(np.uint64)
        high, low = words[:, 0::2], words[:, 1::2]
        if self.distribution == "uniform":
            digits = uniform_digits(tensor_type(self.result).element)
            drawn = (high[:, 0] << np.uint64(32) | low[:, 0]) >> np.uint64(64 - digits)
            return np.ldexp(drawn.astype(np.float64), -digits).astype(dtype).reshape(shape)
        wide = np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
        return _normal(words, wide).astype(dtype).reshape(shape)


def _halves(pairs: Array) -> Array:
    """27 bits of one word and 26 of the next one make a number of [0, 1)."""
    high, low = (pairs[:, 0] >> 5).astype(np.float64), (pairs[:, 1] >> 6).astype(np.float64)
    return np.asarray((high * 67108864.0 + low) / 9007199254740992.0)


def _normal(words: Array, wide: np.dtype[Any]) -> Array:
    """sqrt(-2 ln u) cos(2 pi v), u of (0, 1] and v of [0, 1)"""
    digits = 53 if wide.itemsize == 8 else 32
    shift = np.uint64(64 - digits)
    parts = ((words[:, k] << np.uint64(32) | words[:, k + 1]) >> shift for k in (0, 2))
    u, v = (part.astype(wide) for part in parts)
    scale = wide.type(2.0**-digits)
    radius = np.sqrt(wide.type(-2) * np.log((u + wide.type(1)) * scale))
    return np.asarray(radius * np.cos(wide.type(2 * np.pi) * (v * scale)))
