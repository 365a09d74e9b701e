"""RotaryEmbedding of com.microsoft, compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepwell.frontends.onnx.registry import Unsupported
from tests.frontends.onnx.microsoft_harness import Array, check, floats
from tests.frontends.onnx.rule_harness import imported, node_model, refused

POSITIONS = np.array([[0, 1, 5], [3, 2, 4]], np.int64)
TABLES = [floats(6, 4), floats(6, 4) * 2]
HALF = [floats(6, 2), floats(6, 2)]
FLAT: dict[int, Sequence[int | str]] = {0: ["b", "s", 16], 1: ["b", "s"]}
SPLIT: dict[int, Sequence[int | str]] = {0: ["b", 2, "s", 8], 1: ["b", "s"]}


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("first", [None, 0, 2])
def test_rotary_embedding(interleaved: int, first: int | None) -> None:
    positions = POSITIONS if first is None else np.array([first])
    for x, shapes in ((floats(2, 3, 16), FLAT), (floats(2, 2, 3, 8), SPLIT)):
        sizes = shapes if first is None else {0: shapes[0]}
        check("RotaryEmbedding", [x, positions, *TABLES], shapes=sizes, interleaved=interleaved, native=first == 2)


def test_parts_of_heads() -> None:
    for fields in ({}, {"scale": 2.0}):
        for x, shapes in ((floats(2, 3, 16), FLAT), (floats(2, 2, 3, 8), SPLIT)):
            check(
                "RotaryEmbedding", [x, POSITIONS, *HALF], shapes=shapes, num_heads=2, rotary_embedding_dim=4, **fields
            )


def test_narrow_floats() -> None:
    inputs = [floats(2, 3, 16).astype(np.float16), POSITIONS, *(table.astype(np.float16) for table in TABLES)]
    check("RotaryEmbedding", inputs, shapes=FLAT, tolerance=2e-3)


@pytest.mark.parametrize(
    ("tables", "fields", "words"),
    [
        (TABLES, {"is_packed_batching": 1}, "ragged batches"),
        (HALF, {"rotary_embedding_dim": 4}, "without num_heads"),
        (TABLES, {"rotary_embedding_dim": 4, "num_heads": 2}, "4 columns where 4 elements"),
        (TABLES, {"num_heads": 3}, "does not split into 3 heads"),
    ],
)
def test_refusals(tables: list[Array], fields: dict[str, Any], words: str) -> None:
    with refused(words, Unsupported):
        imported(
            node_model("RotaryEmbedding", [floats(2, 3, 16), POSITIONS, *tables], domain="com.microsoft", **fields)
        )


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_three_positions_for_each_row(layout: int, interleaved: int) -> None:
    positions = np.random.default_rng(5).integers(0, 9, (3, 2, 4))
    tables = [floats(9, 8), floats(9, 8) * 2]
    fields = {"mrope_section": [4, 2, 2], "mrope_layout": layout, "interleaved": interleaved}
    shapes: dict[int, Sequence[int | str]] = {0: ["b", "s", 32], 1: [3, "b", "s"]}
    check("MRotaryEmbedding", [floats(2, 4, 32), positions, *tables], shapes=shapes, num_heads=2, **fields)
    shapes = {0: ["b", 2, "s", 16], 1: [3, "b", "s"]}
    check("MRotaryEmbedding", [floats(2, 2, 4, 16), positions, *tables], shapes=shapes, native=layout == 1, **fields)
    model = node_model("MRotaryEmbedding", [floats(2, 2, 4, 16), positions, *tables], domain="com.microsoft",
                       mrope_section=[4, 2, 1])  # fmt: skip
    with refused("does not share out the 8 columns", Unsupported):
        imported(model)
