"""A case from a seed: a model, arrays for its inputs, and whether its sizes are symbols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from random import Random
from typing import Any

import attrs

from tests.fuzz.graphs.draft import Draft
from tests.fuzz.graphs.families import draw_node, drawable
from tests.fuzz.graphs.oracle import Oracle, Unevaluated
from tests.fuzz.graphs.values import DIMS, ELEMENT_OF, Array, draw_array, kind_of

NEWEST = 28

Feeds = dict[str, Array]


@attrs.frozen
class Case:
    """`feeds` has arrays for the sizes that the model was drawn with; `others` for further ones, which the same model
    takes when its sizes are symbols. `symbols` says how they are named: each its own, or equal sizes alike."""

    seed: int
    model: Any = attrs.field(repr=False)
    feeds: Feeds = attrs.field(repr=False)
    others: tuple[Feeds, ...] = attrs.field(default=(), repr=False)
    symbols: str = ""

    @property
    def operators(self) -> list[str]:
        """The operators in order."""
        return [node.op_type for node in self.model.graph.node]


def draw(seed: int, rejected: Counter[str] | None = None, only: Collection[str] = ()) -> Case:
    """The case of a seed, of the operators `only` where some are given; `rejected` counts why nodes were not made."""
    random = Random(seed)
    opsets = [opset for opset in range(7, NEWEST + 1) if not only or {*only} & {*drawable(opset)[0]}]
    opset = opsets[-1] if random.random() < 0.3 else random.choice(opsets)
    draft = Draft(random, opset)
    for _ in range(random.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 8, 12))):
        draw_node(draft, rejected, only)
    model = draft.model()
    feeds = draft.feeds(model)
    symbols = random.choice(("", "own", "alike"))
    others = [_rebound(model, feeds, random) for _ in range(2)] if symbols else []
    return Case(seed, model, feeds, tuple(other for other in others if other is not None), symbols)


def _rebound(model: Any, feeds: Feeds, random: Random) -> Feeds | None:
    """Arrays of other sizes, where the model allows them: all dims of a size become another one."""
    sizes = sorted({dim for array in feeds.values() for dim in array.shape})
    if not sizes:
        return None
    oracle = Oracle(model)
    for _ in range(3):
        old, new = random.choice(sizes), random.choice((0, *DIMS))
        if old == new:
            continue
        made = {}
        for name, array in feeds.items():
            shape = tuple(new if dim == old else dim for dim in array.shape)
            element = ELEMENT_OF[array.dtype]
            if shape == array.shape:
                made[name] = array
            elif element.startswith(("int", "uint")):
                return None  # indices and sizes may not be drawn anew
            else:
                made[name] = draw_array(random, element, shape, kind_of(array))
        try:
            oracle.values(made)
            return made
        except Unevaluated:
            continue
    return None
