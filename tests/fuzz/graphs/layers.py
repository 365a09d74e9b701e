"""Families of whole layers: recurrent ones, attention, quantised products, transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Rejected, Site, Value
from tests.fuzz.graphs.values import DTYPES, broadcastable
from tests.fuzz.graphs.windows import image, window

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(site: Site) -> Any:
    """RNN, GRU, LSTM: directions, layouts, lengths of sequences, optional inputs left out."""
    steps, batch, width, hidden = (site.random.choice((1, 2, 3, 5)) for _ in range(4))
    direction = site.set("direction", "forward", "reverse", "bidirectional", often=0.4)
    ways, gates = 2 if direction == "bidirectional" else 1, GATES[site.op]
    layout = site.set("layout", 0, 1, often=0.3)
    site.attributes["hidden_size"] = hidden
    site.set("linear_before_reset", 0, 1)
    x = site.value(0, shape=(batch, steps, width) if layout else (steps, batch, width))
    w = site.new(1, shape=(ways, gates * hidden, width), kind="weight")
    r = site.new(2, shape=(ways, gates * hidden, hidden), kind="recurrent")
    bias = site.new(3, shape=(ways, 2 * gates * hidden), kind="weight") if site.chance(0.6) else None
    lengths = None
    if site.chance(0.3):
        given = [site.random.randint(1, steps) for _ in range(batch)]
        lengths = site.draft.fresh(np.array(given, np.int32))
    state = (batch, ways, hidden) if layout else (ways, batch, hidden)
    states = [site.new(5, shape=state, kind="weight") if site.chance(0.5) else None for _ in range(gates // 4 + 1)]
    return site.give(x, w, r, bias, lengths, *states, outputs=site.random.choice((1, 2, gates // 4 + 2)))


def attention(site: Site) -> Any:
    """Attention of three and four dims, with grouped heads, masks, what came before, causal or not."""
    batch, groups, shared = (site.random.choice((1, 2)) for _ in range(3))
    queries, keys, width, depth = (site.random.choice((1, 2, 3, 5, 8, 17)) for _ in range(4))
    heads = groups * shared
    if site.chance(0.3):
        shapes = [(batch, queries, heads * width), (batch, keys, groups * width), (batch, keys, groups * depth)]
        site.attributes.update(q_num_heads=heads, kv_num_heads=groups)
    else:
        shapes = [(batch, heads, queries, width), (batch, groups, keys, width), (batch, groups, keys, depth)]
    q, k, v = (site.value(place, shape=shape) for place, shape in enumerate(shapes))
    past: list[Value] = []
    if site.chance(0.3):
        before = site.random.choice((1, 2, 5))
        past = [site.new(4 + n, shape=(batch, groups, before, size)) for n, size in enumerate((width, depth))]
        keys += before
    site.set("is_causal", 0, 1, often=0.4)
    site.set("scale", 0.5, 1.0, often=0.3)
    site.set("softcap", 0.0, 2.0, often=0.2)
    mask = None
    if site.chance(0.4):
        mask = site.new(3, shape=broadcastable(site.random, (batch, heads, queries, keys))[-4:])
        if mask.rank < 2 or mask.shape[-1] != keys:
            mask = site.new(3, shape=(queries, keys))
    return site.give(q, k, v, mask, *past, outputs=3 if past else 1)


def quantised_matmul(site: Site) -> Any:
    """QLinearMatMul with one scale for each matrix."""
    rows, inner, columns = (site.random.choice((1, 2, 3, 5, 17)) for _ in range(3))
    a, b = site.value(0, shape=(rows, inner)), site.value(3, shape=(inner, columns))
    y = site.draft.fresh(np.array(site.random.randrange(4), DTYPES[site.element(7)]), constant=True)
    return site.give(a, *_scaled(site, a), b, *_scaled(site, b), _scale(site), y)


def quantised_conv(site: Site) -> Any:
    """QLinearConv."""
    x = image(site, (4,))
    kernel = window(site, x.shape[2:])
    w = site.new(3, shape=(site.random.choice((1, 2, 3, 16)), x.shape[1], *kernel), constant=True)
    y = site.draft.fresh(np.array(site.random.randrange(4), DTYPES[site.element(7)]), constant=True)
    return site.give(x, *_scaled(site, x), w, *_scaled(site, w), _scale(site), y)


def _scaled(site: Site, value: Value) -> tuple[Value, Value]:
    zero = site.draft.fresh(np.array(site.random.randrange(4), value.array.dtype), constant=True)
    return _scale(site), zero


def _scale(site: Site) -> Value:
    return site.draft.fresh(np.array(site.random.choice((0.25, 0.5, 1.0, 2.0)), np.float32), constant=True)


def fourier(site: Site) -> Any:
    """DFT of real or complex signals along an axis."""
    parts = site.random.choice((1, 2))
    x = site.value(0, shape=(site.random.choice((1, 2)), site.random.choice((1, 2, 5, 8)), parts))
    onesided = site.set("onesided", 0, *([1] if parts == 1 else []), often=0.4)
    if not onesided:
        site.set("inverse", 0, 1, often=0.4)
    length = site.numbers(1, site.random.choice((2, 5, 8))) if site.chance(0.3) else None
    if site.version < 20:
        site.attributes["axis"] = 1
        return site.give(x, length)
    return site.give(x, length, site.numbers(2, 1))


def short_fourier(site: Site) -> Any:
    """STFT of real or complex signals, with a window, a length, or both."""
    parts = site.random.choice((1, 1, 2))
    x = site.value(0, shape=(site.random.choice((1, 2)), site.random.choice((5, 8, 16)), parts))
    site.set("onesided", 0, *([1] if parts == 1 else []), often=1 if parts == 2 else 0.5)
    length = site.random.choice((2, 3, 4, 5))
    window = site.new(2, shape=(length,), kind="positive") if site.chance(0.6) else None
    if site.attributes.get("onesided", 1) and site.draft.outer is not None:
        raise Rejected("STFT: what ONNX infers of one side is wrong where it knows the sizes")
    late = float(site.attributes.get("onesided", 1))
    given = site.numbers(3, length, late) if window is None or site.chance(0.5) else None
    return site.give(x, site.numbers(1, site.random.choice((1, 2, 3)), late), window, given)


def mel(site: Site) -> Any:
    """MelWeightMatrix of short transforms."""
    low = site.draft.fresh(np.array(site.random.choice((0, 20, 250)), DTYPES[site.element(3)]), constant=True)
    high = site.draft.fresh(np.array(site.random.choice((1900, 3000)), low.array.dtype), constant=True)
    site.set("output_datatype", 1, 10, 11)
    return site.give(site.numbers(0, site.random.choice((2, 4, 8))), site.numbers(1, site.random.choice((16, 32, 64))),
                     site.numbers(2, site.random.choice((4000, 8192))), low, high)  # fmt: skip


def causal(site: Site) -> Any:
    """CausalConvWithState, with and without what it kept."""
    batch, channels = site.random.choice((1, 2)), site.random.choice((1, 2, 3, 16))
    length, kernel = site.random.choice((1, 2, 5, 17)), site.random.choice((1, 2, 3, 4))
    x = site.value(0, shape=(batch, channels, length))
    w = site.new(1, shape=(channels, 1, kernel), kind="weight")
    bias = site.new(2, shape=(channels,), kind="weight") if site.chance(0.5) else None
    past = site.value(3, shape=(batch, channels, kernel - 1)) if site.chance(0.5) else None
    site.set("activation", "none", "silu", "swish")
    return site.give(x, w, bias, past, outputs=2)


def linear_attention(site: Site) -> Any:
    """LinearAttention by all its rules, with shared heads."""
    batch, steps = site.random.choice((1, 2)), site.random.choice((1, 2, 3, 5))
    heads, shared = site.random.choice((1, 2)), site.random.choice((1, 2))
    width, depth = (site.random.choice((1, 2, 3, 8)) for _ in range(2))
    rule = site.set("update_rule", "linear", "gated", "delta", "gated_delta", often=0.8) or "gated_delta"
    site.attributes.update(q_num_heads=heads * shared, kv_num_heads=heads)
    site.set("scale", 0.5, 1.0, often=0.4)
    site.set("chunk_size", 1, 2, often=0.2)
    q = site.value(0, shape=(batch, steps, heads * shared * width), kind="unit")
    k = site.new(1, shape=(batch, steps, heads * width), kind="unit")
    v = site.value(2, shape=(batch, steps, heads * depth))
    past = site.new(3, shape=(batch, heads, width, depth), kind="unit") if site.chance(0.5) else None
    decay = beta = None
    if "gated" in rule:
        decay = site.new(4, shape=(batch, steps, heads * site.random.choice((1, width))), kind="weight")
    if "delta" in rule:
        beta = site.new(5, shape=(batch, steps, site.random.choice((1, heads))), kind="unit")
    return site.give(q, k, v, past, decay, beta, outputs=2)


def rotary(site: Site) -> Any:
    """RotaryEmbedding of three and four dims, of all or some of each head, by positions or without."""
    batch, heads, steps = (site.random.choice((1, 2, 3)) for _ in range(3))
    width = site.random.choice((2, 4, 8, 16))
    rotated = site.random.choice((width, max(2, width // 2)))
    if rotated < width or site.chance(0.3):
        site.attributes["rotary_embedding_dim"] = rotated
    site.set("interleaved", 0, 1)
    flat = site.chance(0.4)
    if flat or (rotated < width or site.chance(0.3)):
        site.attributes["num_heads"] = heads
    x = site.value(0, shape=(batch, steps, heads * width) if flat else (batch, heads, steps, width))
    if site.chance(0.5):
        table, places = (7, rotated // 2), [[site.random.randrange(7) for _ in range(steps)] for _ in range(batch)]
        given = [site.numbers(3, places, runtime=0.5)]
    else:
        table, given = (batch, steps, rotated // 2), []
    return site.give(x, *(site.new(place, shape=table, kind="unit") for place in (1, 2)), *given)


def dropout(site: Site) -> Any:
    """Dropout: as the identity, or in training mode by a seed."""
    x = site.value(0, range(5))
    outputs = site.random.choice((1, 2))
    if site.has("ratio"):
        site.set("ratio", 0.0, 0.25, 0.5)
        return site.give(x, outputs=outputs)
    training = site.draft.fresh(np.array(site.chance(0.6)), site.chance(0.85))
    seeded = bool(training.array) and site.chance(0.8)
    if seeded:
        site.attributes["seed"] = site.random.randrange(2**31)
    ratio = site.random.choice((0.0, 0.25, 0.5, 0.75)) if seeded or not training.array else 0.0
    given = site.draft.fresh(np.array(ratio, x.array.dtype), site.chance(0.85))
    return site.give(x, given, training, outputs=outputs)


def window_function(site: Site) -> Any:
    """HannWindow and its kin; of 1 element the standard divides 0 by 0."""
    site.set("periodic", 0, 1)
    return site.give(site.numbers(0, site.random.choice((2, 5, 16))))


FAMILY = {
    **dict.fromkeys(GATES, recurrent),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), window_function),
    "Attention": attention, "CausalConvWithState": causal, "DFT": fourier, "Dropout": dropout,
    "LinearAttention": linear_attention, "MelWeightMatrix": mel, "QLinearConv": quantised_conv,
    "QLinearMatMul": quantised_matmul, "RotaryEmbedding": rotary, "STFT": short_fourier,
}  # fmt: skip
