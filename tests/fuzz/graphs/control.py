"""Families with bodies: branches and loops that read what is around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.graphs.draft import Draft, Rejected, Site, Value
from tests.fuzz.graphs.values import ELEMENTS, FLOATS, Array, draw_array

# Operators of two operands of one type that give that type, for bodies.
STEPS = ("Add", "Sub", "Mul", "Max", "Min")


def branch(site: Site) -> Any:
    """If: one side is drawn, the other has a value of the same type."""
    from tests.fuzz.graphs.families import draw_node

    condition = site.value(0, [0])
    drawn = site.draft.body("t")
    for _ in range(site.random.randint(1, 3)):
        draw_node(drawn)
    if not drawn.made:
        raise Rejected("If without nodes")
    result = list(drawn.made.values())[-1]
    other = site.draft.body("e")
    same = other.existing(lambda value: (value.element, value.shape) == (result.element, result.shape))
    if same is None:
        same = other.fresh(draw_array(site.random, result.element, result.shape))
    (given,) = other.add("Identity", [same], {}, 1)
    sides = [drawn.body_graph([result]), other.body_graph([given])]
    if site.chance(0.5):
        sides.reverse()
    site.attributes.update(then_branch=sides[0], else_branch=sides[1])
    return site.give(condition)


def loop(site: Site) -> Any:
    """Loop: a carried value that keeps its type, a scanned one, a fixed number of rounds or a condition."""
    x = site.value(2, range(4), suits=lambda value: value.element in ELEMENTS[:-1])
    body = site.draft.body("l")
    number = _given(body, "i", np.array(0, np.int64))
    _given(body, "go", np.array(True))
    state = _given(body, "s", x.array)
    (step,) = _step(body, state)
    limit = body.fresh(np.array(site.random.choice((1, 3, 9)), np.int64))
    (go,) = body.add("Less", [number, limit], {}, 1)
    scanned = step if site.chance(0.5) else body.add("Cast", [number], {"to": 1}, 1)[0]
    site.attributes["body"] = body.body_graph([go, step, scanned])
    rounds = site.draft.fresh(np.array(site.random.choice((1, 2, 5)), np.int64))
    go_on = site.draft.fresh(np.array(True)) if site.chance(0.5) else None
    return site.give(rounds, go_on, x, outputs=2)


def scan(site: Site) -> Any:
    """Scan over the first axis of a value, with a state."""
    x = site.value(0, range(1, 4), suits=lambda value: 0 not in value.shape and value.element in ELEMENTS[:-1])
    site.bound.clear()
    start = site.draft.fresh(draw_array(site.random, x.element, x.shape[1:]))
    body = site.draft.body("s")
    state, part = _given(body, "s", start.array), _given(body, "p", x.array[0])
    (step,) = body.add(site.random.choice(STEPS), [state, part], {}, 1)
    (scanned,) = _step(body, step)
    site.attributes.update(body=body.body_graph([step, scanned]), num_scan_inputs=1)
    site.set("scan_input_directions", [0], [1])
    site.set("scan_output_directions", [0], [1])
    return site.give(start, x, outputs=2)


def _given(body: Draft, name: str, array: Array) -> Value:
    """An input of a body, for which any array of the right type stands while it is drawn."""
    value = Value(f"{body.prefix}{name}", array)
    body.inputs[value.name] = array
    return value


def _step(body: Draft, state: Value) -> list[Value]:
    """A node or two that give a value of the state's type."""
    other = body.existing(lambda value: (value.element, value.shape) == (state.element, state.shape))
    if other is None or body.random.random() < 0.3:
        other = body.fresh(draw_array(body.random, state.element, state.shape))
    made = body.add(body.random.choice(STEPS), [state, other], {}, 1)
    if state.element in FLOATS and body.random.random() < 0.5:
        made = body.add("Tanh", made, {}, 1)
    return made


FAMILY = {"If": branch, "Loop": loop, "Scan": scan}
