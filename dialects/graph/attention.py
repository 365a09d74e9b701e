"""Attention: scaled dot products with masks, rotary position embedding, and linear attention with a state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.graph.base import (
    Array,
    GraphOp,
    broadcast_shapes,
    require_stretch,
    same_element,
    shape_of,
    tensor_type,
)
from stepwell.dialects.graph.demands import demand_at_most, demand_equal, demand_multiple, demand_one_of
from stepwell.dialects.graph.numeric import rounded, widened
from stepwell.errors import IRError, RuntimeError
from stepwell.ir.attrkinds import BOOL, FLOAT, INT, enum, type_attr_of
from stepwell.ir.constraints import BOOL_TENSOR, FLOAT_TENSOR, INDEX_LIST, INT_TENSOR
from stepwell.ir.core import Value
from stepwell.ir.dims import Dim, proven_equal
from stepwell.ir.opdef import attr, operand, optional_operand, result, results
from stepwell.ir.types import FloatType, TensorType, Type, numpy_dtype

SCORES = enum("raw", "capped", "biased", "probabilities")
UNDEFINED = enum("masked", "zero", "nan")
FLOAT_TYPE = type_attr_of(lambda t: isinstance(t, FloatType), "a float type")


def need_rank(rank: int, **values: Value | None) -> None:
    """Raise IRError for the first present value of another rank."""
    for name, value in values.items():
        if value is not None and len(shape_of(value)) != rank:
            raise IRError(f"{name} needs rank {rank}, not {len(shape_of(value))}")


def need_equal(what: str, *sizes: Dim) -> None:
    """Raise IRError where two of the sizes are known and differ."""
    known = {size for size in sizes if isinstance(size, int)}
    if len(known) > 1:
        raise IRError(f"{what} differ: {', '.join(map(str, sizes))}")
    for size in sizes[1:]:
        demand_equal(sizes[0], size, what)


def need_grouped(query_heads: Dim, heads: Dim) -> None:
    """Raise IRError unless the query heads are a multiple of the others."""
    if isinstance(query_heads, int) and isinstance(heads, int) and (heads < 1 or query_heads % heads):
        raise IRError(f"{query_heads} query heads do not share out among {heads} heads of keys and values")
    demand_multiple(query_heads, heads, "query heads share the heads of keys and values evenly")


def default_scale(size: int) -> float:
    """1 / sqrt(head size)"""
    return 1 / math.sqrt(size) if size else 1.0


class AttentionOp(GraphOp):
    """softmax(softcap(scale * q k^T) + bias) v over b batches, heads, s queries and t keys: q [b, heads, s, d],
    k [b, groups, t, d], v [b, groups, t, e] -> [b, heads, s, e]; consecutive query heads share a group. The scale is
    1 / sqrt(d) where it is absent.

    The bias forbids what any of these forbids, whatever its score (which is -inf then), and adds a float mask:
      * mask, broadcast to [b, heads, s, keys] with keys <= t: i1 (true: allowed) or floats to add; keys behind the
        mask's last are forbidden;
      * lengths [b]: keys from there on are padding;
      * causal: keys after the query's position, which is offset + its index; offset [1] or [b] (absent: 0);
      * left and right (-1: unbounded): keys more than so many places before or after the query's position.
    `softcap` c > 0 maps a score x to c * tanh(x / c). Where an i1 mask is false, the score is `fill`: -inf forbids the
    key. Softmax is computed in `precision` (absent: f32 for narrower floats), everything else in f32 for narrower
    floats; unless `narrow`: then every step is rounded to the type of the queries, and queries and keys are both
    multiplied by the root of the scale. `sinks` [heads] is a score per head that takes its share of each softmax of the
    head and has no value. A query whose softmax is not defined has these weights:
      * `undefined = "masked"`: zeros where the bias forbids all its keys, else NaN, as ONNX says;
      * `"zero"`: zeros, also where a score is NaN or inf, as where(is_nan(p), 0, p) gives;
      * `"nan"`: NaN, as softmax gives.

    `scores` asks for a second result [b, heads, s, t]: the raw or capped or biased scores, or the probabilities. Stands
    for ONNX Attention (Vaswani et al. 2017; groups: Ainslie et al. 2023).

    ```mlir
    %q = "test.value"() : () -> tensor<2x8x4x16xf32>
    %k = "test.value"() : () -> tensor<2x2x6x16xf32>
    %r = graph.attention %q, %k, %k {scale = 0.25, causal = true, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0>}
      : (tensor<2x8x4x16xf32>, tensor<2x2x6x16xf32>, tensor<2x2x6x16xf32>) -> tensor<2x8x4x16xf32>
    ```
    """

    name = "graph.attention"
    query: Value = operand(FLOAT_TENSOR)
    key: Value = operand(FLOAT_TENSOR)
    value: Value = operand(FLOAT_TENSOR)
    mask: Value | None = optional_operand(FLOAT_TENSOR | BOOL_TENSOR)
    lengths: Value | None = optional_operand(INDEX_LIST)
    offset: Value | None = optional_operand(INDEX_LIST)
    sinks: Value | None = optional_operand(FLOAT_TENSOR)
    scale: float | None = attr(FLOAT, default=None)
    causal: bool = attr(BOOL, default=False)
    left: int = attr(INT, default=-1)
    right: int = attr(INT, default=-1)
    softcap: float = attr(FLOAT, default=0.0)
    precision: Type | None = attr(FLOAT_TYPE, default=None)
    scores: str | None = attr(SCORES, default=None)
    fill: float = attr(FLOAT, default=-math.inf)
    undefined: str = attr(UNDEFINED, default="masked")
    narrow: bool = attr(BOOL, default=False)
    output: Value = result(FLOAT_TENSOR)
    exposed: Sequence[Value] = results(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        need_rank(4, query=self.query, key=self.key, value=self.value)
        (b, heads, s, d), (kb, groups, t, kd), (vb, v_groups, vt, e) = map(shape_of, (self.query, self.key, self.value))
        need_equal("batches", b, kb, vb)
        need_equal("head sizes of queries and keys", d, kd)
        need_equal("heads of keys and values", groups, v_groups)
        need_equal("numbers of keys and values", t, vt)
        need_grouped(heads, groups)
        if self.narrow and self.scale is not None and not self.scale >= 0:
            raise IRError(f"a scale of {self.scale} has no root")
        if self.left < -1 or self.right < -1:
            raise IRError(f"window sizes are -1 or more, not {self.left} and {self.right}")
        same_element(self.query, self.key)
        for name, sizes in (("lengths", self.lengths), ("offset", self.offset)):
            if sizes is not None and not (name == "offset" and shape_of(sizes) == (1,)):
                need_equal(f"the batch and the size of {name}", b, shape_of(sizes)[0])
        if self.sinks is not None:
            need_rank(1, sinks=self.sinks)
            need_equal("the heads and the size of sinks", heads, shape_of(self.sinks)[0])
        if self.mask is not None:
            self._check_mask(shape_of(self.mask), (b, heads, s, t))
        element = tensor_type(self.query).element
        types = [TensorType((b, heads, s, e), element)]
        return [*types, TensorType((b, heads, s, t), element)] if self.scores else types

    def _check_mask(self, mask: Sequence[Dim], full: Sequence[Dim]) -> None:
        if not 1 <= len(mask) <= 4:
            raise IRError(f"the mask needs rank 1 to 4, not {len(mask)}")
        broadcast_shapes(mask[:-1], full[:-1])
        for size, whole in zip(mask[-2::-1], full[-2::-1], strict=False):
            if isinstance(size, int) and isinstance(whole, int) and size not in (1, whole):
                raise IRError(f"the mask has a size of {size} where the scores have {whole}")
            demand_one_of(size, (1, whole), "a size of the mask")
        if self.fill != -math.inf and not proven_equal(mask[-1], full[-1]):
            raise IRError(f"a mask that fills scores in is for all {full[-1]} keys, not for {mask[-1]}")
        if isinstance(mask[-1], int) and isinstance(full[-1], int) and mask[-1] > full[-1]:
            raise IRError(f"the mask is for {mask[-1]} keys, there are {full[-1]}")
        demand_at_most(mask[-1], full[-1], "keys of the mask")

    def interpret(self, frame: Any, *args: Any) -> Any:
        given = dict(zip(self._present(), args, strict=True))
        own = numpy_dtype(self.results[0].type)
        q, k, v = (widened(given[name]) for name in ("query", "key", "value"))

        def step(x: Array) -> Array:
            return widened(rounded(x, own)) if self.narrow else x

        repeats = q.shape[1] // max(k.shape[1], 1)
        k, v = np.repeat(k, repeats, axis=1), np.repeat(v, repeats, axis=1)
        with np.errstate(all="ignore"):
            by_query, by_key = self.factors(q.shape[3], own)
            k = step(k * k.dtype.type(by_key)) if self.narrow else k
            raw = step(np.matmul(step(q * np.asarray(by_query, q.dtype)), np.swapaxes(k, 2, 3)))
            capped = step(np.tanh(raw / self.softcap) * self.softcap) if self.softcap > 0 else raw
            bias, allowed = self._bias(given, raw.shape, raw.dtype)
            biased = step(np.where(allowed, self._filled(capped, given) + bias, np.asarray(-np.inf, raw.dtype)))
            scores = biased.astype(self._softmax_dtype(raw.dtype))
            sinks = None if self.sinks is None else widened(given["sinks"]).astype(scores.dtype)
            forbidden = ~allowed | np.isneginf(bias)
            weights = _weights(scores, forbidden, self.undefined, step, sinks)
            probabilities = step(weights.astype(q.dtype))
            made = np.matmul(probabilities, v)
        dtype = numpy_dtype(self.results[0].type)
        exposed = {"raw": raw, "capped": capped, "biased": biased, "probabilities": probabilities}
        extra = (rounded(exposed[self.scores], dtype),) if self.scores else ()
        return (rounded(made, dtype), *extra)

    def factors(self, size: int, dtype: np.dtype[Any]) -> tuple[float, float]:
        """What queries and keys of a head size are multiplied by."""
        scale = default_scale(size) if self.scale is None else self.scale
        if not self.narrow:
            return scale, 1.0
        root = float(np.asarray(math.sqrt(scale)).astype(dtype))
        return root, root

    def _present(self) -> list[str]:
        names = ("query", "key", "value", "mask", "lengths", "offset", "sinks")
        return [name for name in names if getattr(self, name) is not None]

    def _filled(self, scores: Array, given: dict[str, Any]) -> Array:
        """The scores, `fill` where an i1 mask is false, unless that forbids."""
        mask = np.asarray(given.get("mask", 0))
        if mask.dtype != np.bool_ or self.fill == -math.inf:
            return scores
        return np.where(mask, scores, np.asarray(self.fill, scores.dtype))

    def _softmax_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        wanted = dtype if self.precision is None else numpy_dtype(self.precision)
        return wanted if wanted.itemsize >= 4 else np.dtype(np.float32)

    def _bias(self, given: dict[str, Any], shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """[b, heads or 1, s or 1, t] each: the floats that are added to the scores, and where a key is allowed."""
        b, _, s, t = shape
        keys = np.arange(t)
        bias = np.zeros((1, 1, 1, t), dtype)
        allowed = np.ones((1, 1, s, t), np.bool_)
        if "mask" in given:
            mask = np.asarray(given["mask"])
            lack = [(0, 0)] * (mask.ndim - 1) + [(0, t - mask.shape[-1])]
            if mask.dtype == np.bool_:
                allowed = allowed & np.pad(mask | (self.fill != -math.inf), lack)
            else:
                bias = bias + np.pad(widened(mask).astype(dtype), lack, constant_values=-np.inf)
        if "lengths" in given:
            allowed = allowed & (keys < np.asarray(given["lengths"]).reshape(b, 1, 1, 1))
        offset = np.asarray(given.get("offset", 0)).reshape(-1, 1, 1, 1)
        position = offset + np.arange(s)[:, None]
        if self.causal:
            allowed = allowed & (keys <= position)
        if self.left >= 0:
            allowed = allowed & (keys >= position - self.left)
        if self.right >= 0:
            allowed = allowed & (keys <= position + self.right)
        return bias, allowed


def _weights(
    scores: Array, forbidden: Array, undefined: str, step: Callable[[Array], Array], sinks: Array | None = None,
) -> Array:  # fmt: skip
    """Softmax over the last axis, undefined rows as the op says; `step` rounds powers and sums."""
    if scores.shape[-1] == 0:
        return scores
    peak = np.max(scores, axis=-1, keepdims=True)
    origin = peak if undefined == "nan" else np.where(np.isneginf(peak), 0, peak)
    powers = step(np.exp(scores - origin))
    total = powers.sum(axis=-1, keepdims=True)
    total = step(total if sinks is None else total + np.exp(sinks[:, None, None] - origin))
    weights = powers / np.where(total == 0, 1, total)
    if undefined == "masked":
        weights = np.where(forbidden.all(axis=-1, keepdims=True), 0, weights)
    elif undefined == "zero":
        weights = np.where(np.isnan(weights), 0, weights)
    return np.asarray(weights.astype(scores.dtype))


class RotaryEmbeddingOp(GraphOp):
    """Rotates pairs of the last axis of x [b, heads, s, d] by angles of the position.

    cos and sin are [b, s, r / 2], either of b and s may be 1, or, with positions [b, s], tables [rows, r / 2] that they
    index. The first r elements are rotated, the rest passes: pairs (i, i + r / 2), or (2i, 2i + 1) where `interleaved`.
    Stands for ONNX
    RotaryEmbedding (Su et al. 2021).

    ```mlir
    %x = "test.value"() : () -> tensor<2x4x3x8xf32>
    %c = "test.value"() : () -> tensor<2x3x4xf32>
    %r = graph.rotary_embedding %x, %c, %c
      : (tensor<2x4x3x8xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>) -> tensor<2x4x3x8xf32>
    ```
    """

    name = "graph.rotary_embedding"
    x: Value = operand(FLOAT_TENSOR)
    cos: Value = operand(FLOAT_TENSOR)
    sin: Value = operand(FLOAT_TENSOR)
    positions: Value | None = optional_operand(INT_TENSOR)
    interleaved: bool = attr(BOOL, default=False)
    result: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        need_rank(4, x=self.x)
        need_rank(2 if self.positions is not None else 3, cos=self.cos, sin=self.sin)
        need_rank(2, positions=self.positions)
        same_element(self.x, self.cos, self.sin)
        for a, b in zip(shape_of(self.cos), shape_of(self.sin), strict=True):
            need_equal("sizes of cos and sin", a, b)
        half, size = shape_of(self.cos)[-1], shape_of(self.x)[-1]
        if isinstance(half, int) and isinstance(size, int) and 2 * half > size:
            raise IRError(f"{2 * half} elements cannot be rotated in heads of {size}")
        demand_at_most(2 * half, size, "rotated elements of a head")
        b, _, s, _ = shape_of(self.x)
        if self.positions is None:
            for cache in (self.cos, self.sin):
                require_stretch("a table", cache, (b, s, shape_of(cache)[2]))
        else:
            for wanted, given in zip((b, s), shape_of(self.positions), strict=True):
                need_equal("sizes of the positions and of x", wanted, given)
        return [self.x.type]

    def interpret(self, frame: Any, *args: Any) -> Any:
        x, cos, sin = map(widened, args[:3])
        if self.positions is not None:
            cos, sin = (_rows(table, np.asarray(args[3])) for table in (cos, sin))
        cos, sin = cos[:, None], sin[:, None]
        half = cos.shape[-1]
        turned, rest = x[..., : 2 * half], x[..., 2 * half :]
        if self.interleaved:
            first, second = turned[..., ::2], turned[..., 1::2]
        else:
            first, second = turned[..., :half], turned[..., half:]
        with np.errstate(all="ignore"):
            real, imaginary = cos * first - sin * second, sin * first + cos * second
        if self.interleaved:
            turned = np.stack([real, imaginary], axis=-1).reshape(turned.shape)
        else:
            turned = np.concatenate([real, imaginary], axis=-1)
        return rounded(np.concatenate([turned, rest], axis=-1), numpy_dtype(self.results[0].type))


def _rows(table: Array, positions: Array) -> Array:
    if (bad := (positions < 0) | (positions >= len(table))).any():
        reason = f"a position is outside the {len(table)} rows of the rotation tables"
        raise RuntimeError(reason, int(positions[bad][0]))
    return np.asarray(table[positions])


class LinearAttentionOp(GraphOp):
    """Attention through a state S [b, groups, d, e] instead of scores, one position after the other:
    q [b, heads, t, d], k [b, groups, t, d], v [b, groups, t, e] -> output [b, heads, t, e] and the last state.

    At each position: S = exp(decay) * S (decay [b, groups, t, 1 or d]); with beta ([b, groups or 1, t, 1]), the
    delta rule, v = beta * (v - S^T k); S = S + k v^T; output = scale * S^T q, consecutive query heads sharing a group.
    Absent, the scale is 1 / sqrt(d), decay is 0, and the state starts at 0. Computed in f32; the state has `state`'s
    element type, else q's.
    Stands for ONNX LinearAttention (Katharopoulos et al. 2020; gated delta rule: Yang et al. 2024).

    ```mlir
    %q = "test.value"() : () -> tensor<2x4x3x8xf32>
    %k = "test.value"() : () -> tensor<2x2x3x8xf32>
    %y, %s = graph.linear_attention %q, %k, %k {scale = 0.5, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>}
      : (tensor<2x4x3x8xf32>, tensor<2x2x3x8xf32>, tensor<2x2x3x8xf32>) -> (tensor<2x4x3x8xf32>, tensor<2x2x8x8xf32>)
    ```
    """

    name = "graph.linear_attention"
    query: Value = operand(FLOAT_TENSOR)
    key: Value = operand(FLOAT_TENSOR)
    value: Value = operand(FLOAT_TENSOR)
    state: Value | None = optional_operand(FLOAT_TENSOR)
    decay: Value | None = optional_operand(FLOAT_TENSOR)
    beta: Value | None = optional_operand(FLOAT_TENSOR)
    scale: float | None = attr(FLOAT, default=None)
    output: Value = result(FLOAT_TENSOR)
    final: Value = result(FLOAT_TENSOR)

    def infer_types(self) -> Sequence[Type]:
        need_rank(4, query=self.query, key=self.key, value=self.value)
        need_rank(4, state=self.state, decay=self.decay, beta=self.beta)
        (b, heads, t, d), (kb, groups, kt, kd), (vb, v_groups, vt, e) = map(
            shape_of, (self.query, self.key, self.value)
        )
        need_equal("batches", b, kb, vb)
        need_equal("lengths", t, kt, vt)
        need_equal("head sizes of queries and keys", d, kd)
        need_equal("heads of keys and values", groups, v_groups)
        need_grouped(heads, groups)
        if self.state is not None:
            for axis, size in enumerate((b, groups, d, e)):
                need_equal(f"sizes of axis {axis} of the state", shape_of(self.state)[axis], size)
        require_stretch("decay", self.decay, (b, groups, t, d))
        require_stretch("beta", self.beta, (b, groups, t, 1))
        element = tensor_type(self.query).element
        kept = tensor_type(self.state).element if self.state is not None else element
        return [TensorType((b, heads, t, e), element), TensorType((b, groups, d, e), kept)]

    def interpret(self, frame: Any, *args: Any) -> Any:
        names = ("query", "key", "value", "state", "decay", "beta")
        present = [name for name in names if getattr(self, name) is not None]
        given = dict(zip(present, map(widened, args), strict=True))
        q, k, v = given["query"], given["key"], given["value"]
        state = given.get("state", np.zeros((*k.shape[:2], k.shape[3], v.shape[3]), k.dtype))
        repeats = q.shape[1] // max(k.shape[1], 1)
        out = np.zeros((*q.shape[:3], v.shape[3]), q.dtype)
        scale = default_scale(q.shape[3]) if self.scale is None else self.scale
        with np.errstate(all="ignore"):
            for t in range(q.shape[2]):
                row, written = k[:, :, t], v[:, :, t]
                if "decay" in given:
                    state = state * np.exp(given["decay"][:, :, t])[..., None]
                if "beta" in given:
                    written = given["beta"][:, :, t] * (written - np.einsum("bhde,bhd->bhe", state, row))
                state = state + row[..., None] * written[..., None, :]
                read = np.repeat(state, repeats, axis=1)
                out[:, :, t] = np.asarray(scale, q.dtype) * np.einsum("bhd,bhde->bhe", q[:, :, t], read)
        output, final = (numpy_dtype(r.type) for r in self.results)
        return rounded(out, output), rounded(state, final)
