"""GroupQueryAttention, compared with onnxruntime where its results are defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import i32, imported, node_model, refused

HEADS, GROUPS, SIZE = 4, 2, 16
COUNTS = {"num_heads": HEADS, "kv_num_heads": GROUPS}
SHAPES: dict[int, Sequence[int | str]] = {
    0: ["b", "s", HEADS * SIZE], 1: ["b", "s", GROUPS * SIZE], 2: ["b", "s", GROUPS * SIZE],
    3: ["b", GROUPS, "p", SIZE], 4: ["b", GROUPS, "p", SIZE], 5: ["b"], 9: ["b", "s"],
}  # fmt: skip
TABLES = [np.cos(floats(16, SIZE // 2)), np.sin(floats(16, SIZE // 2))]


@attrs.frozen
class Step:
    """A call: b sequences of `rows` new rows each behind a cache of `held` rows (None: no cache); `lengths` of each
    sequence with the new ones, and how many rows the cache then has at most."""

    rows: int
    lengths: tuple[int, ...]
    total: int
    held: int | None = None

    @property
    def inputs(self) -> list[Array | None]:
        """The first seven inputs."""
        b, wide, narrow = len(self.lengths), HEADS * SIZE, GROUPS * SIZE
        new = [floats(b, self.rows, wide), floats(b, self.rows, narrow), 2 * floats(b, self.rows, narrow)]
        past: list[Array | None] = [None, None]
        if self.held is not None:
            keys = floats(b, GROUPS, self.held, SIZE)
            past = [keys, 3 * keys]
        return [*new, *past, i32(self.lengths) - 1, i32(self.total)]

    def defined(self, index: int, array: Array) -> Array:
        """The queries that are no padding; of the presents, the rows that are valid; of scores, the visible keys."""
        parts = []
        for entry, length in enumerate(self.lengths):
            prompt = self.rows == self.total
            first = 0 if prompt else length - self.rows
            queries = min(self.rows, length) if prompt else self.rows
            if index == 0:
                parts.append(array[entry, :queries])
            elif index in (1, 2):
                parts.append(array[entry, :, : max(length, self.rows) if prompt else length])
            else:
                parts += [array[entry, :, query, : first + query + 1] for query in range(queries)]
        return np.concatenate([part.ravel() for part in parts])

    def check(self, more: Sequence[Array | None] = (), shapes: Any = None, **fields: Any) -> None:
        """Against onnxruntime, with given and with symbolic sizes."""
        outputs = ["y", "key", "value", "scores"] if fields.get("qk_output") else ["y", "key", "value"]
        check("GroupQueryAttention", [*self.inputs, *more], outputs, shapes=SHAPES | (shapes or {}),
              defined=self.defined, **COUNTS, **fields)  # fmt: skip


PROMPT, STEP = Step(3, (3, 3), 3), Step(1, (7, 5), 7, 6)
STEPS = {
    "prompt": PROMPT,
    "prompts of two lengths": Step(3, (2, 3), 3),
    "prompt into a cache": Step(3, (2, 3), 3, 6),
    "prompt behind nothing": Step(3, (3, 3), 3, 0),
    "first row": Step(1, (1, 1), 1, 0),
    "row behind a cache": STEP,
    "row into a cache": Step(1, (2, 5), 5, 6),
    "rows behind a cache": Step(3, (9,), 9, 6),
    "rows into a cache": Step(3, (5,), 5, 6),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_the_cache(step: Step) -> None:
    step.check()
    step.check(TABLES, do_rotary=1)


@pytest.mark.parametrize("name", ["prompt", "row into a cache", "rows behind a cache"])
def test_compiled(name: str) -> None:
    STEPS[name].check(TABLES, do_rotary=1, native=True)


@pytest.mark.parametrize("step", [PROMPT, STEP, STEPS["rows into a cache"]], ids=["prompt", "row", "rows"])
@pytest.mark.parametrize(
    "fields",
    [{"softcap": 3.0}, {"local_window_size": 2}, {"local_window_size": 4, "softcap": 2.0}, {"smooth_softmax": 1},
     {"causal": 0}, {"scale": 0.3}, {"qk_output": 1, "softcap": 2.0}, {"qk_output": 2}],
    ids=str,
)  # fmt: skip
def test_attributes(step: Step, fields: dict[str, Any]) -> None:
    step.check(**fields)


@pytest.mark.parametrize("step", [PROMPT, STEP], ids=["prompt", "row"])
def test_optional_inputs(step: Step) -> None:
    b, rows, total = len(step.lengths), step.rows, step.total
    for batch, heads in ((1, 1), (b, HEADS), (1, HEADS)):
        bias = floats(batch, heads, rows, total)
        step.check([None] * 3 + [bias], {10: ["b" if batch > 1 else 1, heads, "s", "t"]}, qk_output=1)
    step.check([None] * 4 + [floats(HEADS)])
    step.check([*TABLES, np.arange(b * rows).reshape(b, rows) + 1], do_rotary=1)
    step.check(TABLES, do_rotary=1, rotary_interleaved=1)


def test_total_from_a_size() -> None:
    """Where the total is the size of a mask, as exporters write it, the present has that symbol."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceSum", ["mask", "one"], ["sums"], keepdims=0),
        helper.make_node("Sub", ["sums", "one"], ["last"]),
        helper.make_node("Cast", ["last"], ["lengths"], to=TensorProto.INT32),
        helper.make_node("Shape", ["mask"], ["shape"]),
        helper.make_node("Gather", ["shape", "index"], ["size"]),
        helper.make_node("Cast", ["size"], ["total"], to=TensorProto.INT32),
        helper.make_node("GroupQueryAttention", ["q", "k", "k", "pk", "pv", "lengths", "total"], ["y", "key", "value"],
                         domain="com.microsoft", **COUNTS),
    ]  # fmt: skip
    port = helper.make_tensor_value_info
    ports = [port("mask", TensorProto.INT64, ["b", "t"])]
    for name, shape in (("q", SHAPES[0]), ("k", SHAPES[1]), ("pk", SHAPES[3]), ("pv", SHAPES[4])):
        ports.append(port(name, TensorProto.FLOAT, shape))
    results = [helper.make_empty_tensor_value_info(name) for name in ("y", "key", "value")]
    constants = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("index", TensorProto.INT64, [], [1]),
    ]
    graph = helper.make_graph(nodes, "decoder", ports, results, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = imported(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    assert "max(p, t)" in str(model.types[1])


def test_packed_operands_and_narrow_floats() -> None:
    for step in (PROMPT, STEP):
        query, key, value, *rest = step.inputs
        parts = [part for part in (query, key, value) if part is not None]
        packed: list[Array | None] = [np.concatenate(parts, 2), None, None, *rest, *TABLES]
        shapes = SHAPES | {0: ["b", "s", (HEADS + 2 * GROUPS) * SIZE]}
        outputs = ["y", "key", "value"]
        check("GroupQueryAttention", packed, outputs, shapes=shapes, defined=step.defined, do_rotary=1, **COUNTS)
        narrow = [x.astype(np.float16) if x is not None and x.dtype == np.float32 else x for x in step.inputs]
        check("GroupQueryAttention", narrow, outputs, shapes=SHAPES, defined=step.defined, tolerance=2e-3, **COUNTS)


def test_normalized_queries_and_keys() -> None:
    """onnxruntime has no kernel with these weights for a CPU: the same without them, of rows normalised before."""
    query, key, value, *rest = PROMPT.inputs
    assert query is not None and key is not None
    weights = [1 + floats(SIZE), 2 - floats(SIZE)]

    def normalized(x: Array, weight: Array) -> Array:
        heads = x.reshape(*x.shape[:2], -1, SIZE)
        return np.asarray(heads / np.sqrt(np.mean(heads**2, -1, keepdims=True) + 1e-6) * weight).reshape(x.shape)

    def outputs(inputs: Sequence[Array | None]) -> list[Array]:
        model = node_model("GroupQueryAttention", inputs, outputs=["y"], domain="com.microsoft", do_rotary=1, **COUNTS)
        return list(imported(model).run([array for array in inputs if array is not None]))

    given = outputs([query, key, value, *rest, *TABLES, *[None] * 5, *weights])
    before = [normalized(x, weight) for x, weight in zip((query, key), weights, strict=True)]
    np.testing.assert_allclose(given[0], outputs([*before, value, *rest, *TABLES])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "fields", "words"),
    [
        (STEP.inputs, {"k_quant_type": "PER_TENSOR"}, "quantised cache"),
        (STEP.inputs, {"sliding_window_cache": 1, "local_window_size": 4}, "window's size"),
        ([*STEP.inputs[:4], None, *STEP.inputs[5:]], {}, "past_key and past_value"),
        (STEP.inputs, {"num_heads": 3}, "3 query heads do not share"),
        ([floats(2, 1, 20), None, None, *STEP.inputs[3:]], {}, "20 columns"),
    ],
    ids=["quantised", "window", "past", "heads", "packed"],
)
def test_refusals(inputs: Sequence[Array | None], fields: dict[str, Any], words: str) -> None:
    model = node_model("GroupQueryAttention", inputs, outputs=3, domain="com.microsoft", **COUNTS | fields)
    with refused(words, Unsupported):
        imported(model)
