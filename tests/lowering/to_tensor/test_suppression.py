"""Non-maximum suppression, against its meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepwell.dialects.graph.selection import NonMaxSuppressionOp
from stepwell.ir.types import SI64
from tests.lowering.to_tensor.by_data import check_by_data
from tests.lowering.to_tensor.descent import K, M, N, tensor

TYPES = [tensor(N, M, 4), tensor(N, K, M), tensor(1, element=SI64), tensor(1), tensor(1)]


def boxes_and_scores(batches: int, classes: int, count: int, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    low, size = random.random((2, batches, count, 2)) * [[[[6.0]]], [[[3.0]]]]
    scores = random.integers(0, 9, (batches, classes, count)) / 8
    return np.concatenate([low, low + size], 2).astype(np.float32), scores.astype(np.float32)


def limits(most: int, overlap: float, score: float) -> tuple[Any, Any, Any]:
    return np.array([most]), np.array([overlap], np.float32), np.array([score], np.float32)


@pytest.mark.parametrize("boxes_as", ["corners", "center"])
def test_boxes_of_all_sizes(boxes_as: str) -> None:
    def build(boxes: Any, scores: Any, most: Any, overlap: Any, score: Any) -> Any:
        return NonMaxSuppressionOp(boxes, scores, most, overlap, score, boxes_as=boxes_as)

    small = boxes_and_scores(2, 2, 3)
    others = [
        [*small, *limits(0, 0.5, 0.2)], [*small, *limits(9, 0.0, 2.0)],
        [*boxes_and_scores(1, 3, 20), *limits(7, 0.3, 0.1)], [*boxes_and_scores(1, 1, 0), *limits(7, 0.3, 0.1)],
        [*boxes_and_scores(0, 2, 3), *limits(7, 0.3, 0.1)], [*boxes_and_scores(1, 2, 24), *limits(1 << 40, 0.9, 0.0)],
    ]  # fmt: skip
    check_by_data(TYPES, build, *small, *limits(3, 0.2, 0.3), others=others, every_pass=boxes_as == "center")


def test_without_thresholds() -> None:
    def build(boxes: Any, scores: Any, most: Any) -> Any:
        return NonMaxSuppressionOp(boxes, scores, most)

    boxes, scores = boxes_and_scores(1, 2, 6)
    scores[0, 1, :3] = np.nan, -np.inf, np.inf
    others = [[boxes, scores, np.array([-1])]]
    check_by_data(TYPES[:3], build, boxes, scores, np.array([4]), others=others, every_pass=False)


def test_none_is_chosen_without_a_number() -> None:
    build, given = lambda b, s: NonMaxSuppressionOp(b, s), boxes_and_scores(1, 2, 4)
    check_by_data(TYPES[:2], build, *given, every_pass=False)
