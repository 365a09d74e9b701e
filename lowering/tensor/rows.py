"""Joins kernels that work on the same rows, so that what passes between them is a row that stays in the cache.

max kernel, exp kernel, sum kernel, division kernel   ->  one kernel of four stages, computed row by row   (softmax)
QK kernel, softmax kernels, PV kernel                 ->  one kernel, computed by blocks of rows           (attention)

The root is the last kernel; the ones before join it from the back, each where all readers of its result have joined.
What is given up must be worth less than the memory traffic that is saved: there have to be rows enough for all threads,
a row's values have to fit the cache, and an operand that every row reads again has to stay in it too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cmp_to_key

import attrs

from stepwell.dialects import math as math_dialect
from stepwell.dialects.tensor import GenericOp, JoinOp, KernelOp, ReadOp
from stepwell.errors import PassError
from stepwell.ir.core import Operation, Value
from stepwell.ir.dims import free_symbols
from stepwell.ir.passes import PassContext
from stepwell.lowering.tensor.candidates import candidates
from stepwell.lowering.tensor.collapse import collapse_kernel
from stepwell.lowering.tensor.common_rows import Rows
from stepwell.lowering.tensor.cost import Terms
from stepwell.lowering.tensor.grouped import kernel_of
from stepwell.lowering.tensor.halo import Halo, earlier, open_halo
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.maps import dims_through, turns
from stepwell.lowering.tensor.row_memory import bytes_again, cache_budget, is_worth_reading, row_bytes, stays
from stepwell.lowering.tensor.row_schedule import rows_that_slide
from stepwell.lowering.tensor.running import running
from stepwell.lowering.tensor.sizes import size_of, unbounded_symbols
from stepwell.lowering.tensor.stages import INLINE, Stage, stages_of

LEAST_GRAINS = 16  # rows that a kernel of more than SMALL points has at least
SMALL = 1 << 16
LEAST_GAIN = 0.02  # of the time, for which what is read through windows is computed in the rows of its reader
COUNTED, ALWAYS, NEVER = "counted", "always", "never"
CHEAP = 4  # operations of a map that is rather computed again than stored
NO_KERNEL = "its rows are no rows of the others once cheap maps are computed where they are read, and dims are one"


@attrs.frozen
class Trial:
    """What joining asks: a machine, how to treat windows, which symbols no input bounds, and whether each step has to
    be a kernel, or the whole."""

    machine: Machine
    context: PassContext
    windows: str
    unbounded: frozenset[str] = frozenset()
    as_kernels: bool = False


@attrs.frozen
class Answer:
    """Whether a stage joins: the rows with it, None where it does not; why not, and what was counted."""

    rows: Rows | None
    said: str = ""


def join_rows(
    kernels: Sequence[Sequence[GenericOp]], context: PassContext, windows: str = COUNTED
) -> tuple[list[list[GenericOp]], set[GenericOp]]:
    """The ops of kernels, in program order, with those joined that share rows; their ops name their stages. What is
    read through `windows` joins where that is counted to be faster, or ALWAYS, or NEVER. Beside them the ops of stages
    that do not join all that read them, of which a remark says why."""
    machine = Machine.of(context.target)
    stages = [Stage(ops) for ops in kernels]
    owner = {op: stage for stage in stages for op in stage.ops}
    halos = open_halos(kernels)
    trial = Trial(machine, context, windows, unbounded_symbols(kernels[0][0]) if kernels else frozenset())
    joined: set[Stage] = set()
    refused: set[GenericOp] = set()
    made: list[list[GenericOp]] = []
    for root in reversed(stages):
        if root in joined or len(root.results) != 1:
            if root not in joined:
                made.append(list(root.ops))
            continue
        rows, answers = _grown(root, owner, trial)
        if not is_kernel(rows):
            rows, answers = _grown(root, owner, attrs.evolve(trial, as_kernels=True))
        joined.update(rows.stages[1:])
        refused.update(op for stage, answer in answers.items() if answer.rows is None for op in stage.ops)
        for words in dict.fromkeys(_words(root, stage, answer) for stage, answer in answers.items()):
            context.remark(root.root, words)
        made.append(_named(rows))
    close_halos(halos, made)
    return made[::-1], refused


def _words(root: Stage, stage: Stage, answer: Answer) -> str:
    """What a remark says of a stage that was asked to join."""
    what = f"{name_beside(stage.root, root.root)} is {'not ' if answer.rows is None else ''}computed in its rows"
    return f"{what}: {answer.said}" if answer.said else what


def name_beside(op: GenericOp, other: GenericOp) -> str:
    """What remarks about another op call an op."""
    name = op.loc.label or op.op_name
    return "another part of it" if name == (other.loc.label or other.op_name) else name


def _grown(root: Stage, owner: Mapping[GenericOp, Stage], trial: Trial) -> tuple[Rows, dict[Stage, Answer]]:
    """The rows of a root with all the stages that join it, and the last answers to those that were asked. Rows of any
    length need not fit the cache where they are those of a softmax before a sum, which can be computed part by part."""
    rows, answers = _joined_by_turns(root, owner, trial, of_any_length=True)
    if not stays(rows, trial.machine) and running(rows) is None:
        return _joined_by_turns(root, owner, trial, of_any_length=False)
    return rows, answers


def _joined_by_turns(
    root: Stage, owner: Mapping[GenericOp, Stage], trial: Trial, *, of_any_length: bool
) -> tuple[Rows, dict[Stage, Answer]]:
    rows, answers, grown = Rows.of_root(root), dict[Stage, Answer](), True
    while grown:
        grown = False
        for stage in _producers(rows, owner):
            answer = answers[stage] = _try(rows, stage, trial, of_any_length=of_any_length)
            if answer.rows is not None:
                rows, grown = answer.rows, True
                break
    return rows, answers


def open_halos(kernels: Sequence[Sequence[GenericOp]]) -> list[Halo]:
    """Take the borders that kernels read apart from what they lie around."""
    joins = dict.fromkeys(value.defining_op for ops in kernels for op in ops for value in op.inputs)
    found = [open_halo(join) for join in joins if isinstance(join, JoinOp)]
    return [halo for halo in found if halo is not None]


def close_halos(halos: Sequence[Halo], kernels: Sequence[Sequence[GenericOp]]) -> None:
    """Put those back whose readers are not all in the kernel of what makes them."""
    place = {op: n for n, ops in enumerate(kernels) for op in ops}
    for halo in halos:
        if any(place[reader] != place[halo.maker] for reader, _ in halo.readers):
            halo.close()


def _producers(rows: Rows, owner: Mapping[GenericOp, Stage]) -> list[Stage]:
    """The stages that make inputs of these, the last first, and that nothing else reads."""
    found: dict[Stage, None] = {}
    inside = {op for stage in rows.stages for op in stage.ops}
    for stage in rows.stages:
        for op in reversed(stage.ops):
            for value in reversed(op.inputs):
                producer = value.defining_op
                if isinstance(producer, GenericOp) and producer in owner and producer not in inside:
                    found[owner[producer]] = None
    return [stage for stage in found if all(_reads(user, result, inside) for result in stage.results
                                            for user in result.users)]  # fmt: skip


def _reads(user: Operation, value: Value, inside: set[GenericOp]) -> bool:
    return isinstance(user, GenericOp) and user in inside and value not in user.sources


def _try(rows: Rows, stage: Stage, trial: Trial, *, of_any_length: bool) -> Answer:
    """The rows with a stage more, or why not."""
    if stage.ops[-1].parent is not rows.root.ops[-1].parent:
        return Answer(None, "it runs at another time, outside a loop or a branch")
    if len(stage.results) != 1:
        return Answer(None, "it has several results")
    if 0 in rows.root.root.sizes.dims:
        return Answer(None, "there is nothing to compute")
    joined = rows.joined(stage)
    if isinstance(joined, str):
        return Answer(None, joined)
    counted = ""
    refusal = why_not_kept(joined, trial.unbounded) or why_not_by_rows(
        joined, trial.machine, of_any_length=of_any_length
    )
    windows = through_windows(joined, stage)
    if trial.windows == NEVER and windows:
        return Answer(None, "it is read through windows")
    if refusal is None and trial.windows != ALWAYS and (
        windows or rows_that_slide(joined) is not None or is_turned(rows, stage) or has_windows(stage)
    ):
        try:
            apart, together = apart_and_together(rows, stage, joined, trial.machine)
        except PassError:
            return Answer(None, NO_KERNEL)
        counted = f"{together}; apart: {apart}"
        if together.cycles >= apart.cycles * (1 - LEAST_GAIN):
            refusal = f"it would gain too little, {counted}"
    if refusal is None and trial.as_kernels and not is_kernel(joined):
        refusal = NO_KERNEL
    return Answer(None, refusal) if refusal is not None else Answer(joined, counted)


def why_not_kept(rows: Rows, unbounded: frozenset[str]) -> str | None:
    """Why there may be no room for what passes between the stages: threads have theirs before the program runs."""
    for stage in rows.stages if unbounded else ():
        if stage is rows.root or is_cheap(stage, rows):
            continue
        kept = [stage.root.sizes.dims[d] for d in rows.inner(stage) if stage.root.iterators[d] == "parallel"]
        born = sorted(name for size in kept for name in free_symbols(size) & unbounded)
        if born:
            return f"its rows are as long as data tell ({', '.join(born)}), which no input bounds"
    return None


def through_windows(rows: Rows, stage: Stage) -> bool:
    """Whether a stage is read through windows: rows are several of its places, or reach into one another."""
    return any(row.margins[stage] != (0, 0) or row.units[stage] > row.units[rows.root] for row in rows.rows)


def has_windows(stage: Stage) -> bool:
    """Whether a stage is a convolution or a pool: neighbouring results sum up some elements both."""
    root = stage.root
    summed = {d for d, kind in enumerate(root.iterators) if kind != "parallel"}
    places = (place for map_ in root.input_maps for place in map_.results if place.linear_form() is not None)
    return any(place.dims & summed and place.dims - summed for place in places)


def is_turned(rows: Rows, stage: Stage) -> bool:
    """Whether a map in the rows transposes what a stage gives."""
    readers = {user for result in stage.results for user in result.users if isinstance(user, GenericOp)}
    return any(
        value.defining_op is stage.ops[-1] and not op.has_reduction and turns(op, index, stage.ops[-1])
        for other in rows.stages for op in other.ops if op in readers for index, value in enumerate(op.inputs)
    )  # fmt: skip


def apart_and_together(rows: Rows, stage: Stage, joined: Rows, machine: Machine) -> tuple[Terms, Terms]:
    """What a stage and some rows cost as kernels of their own, and as one. Raises PassError where they cannot be
    one."""
    alone = estimated(list(stage.ops), machine) + estimated(_named(rows), machine)
    return alone, estimated(_named(joined), machine)


def estimated(ops: Sequence[GenericOp], machine: Machine) -> Terms:
    """What a kernel of these ops costs under the best schedule. Raises PassError for stages that cannot be computed
    together."""
    with _kernel(ops) as kernel:
        return candidates(kernel, machine)[0].terms


@contextmanager
def _kernel(ops: Sequence[GenericOp]) -> Iterator[KernelOp]:
    """What would be made a kernel of ops that name their stages, for a look at it."""
    kernel = kernel_of(ops)
    try:
        collapse_kernel(kernel)
        yield kernel
    finally:
        kernel.erase()
        for op in ops:
            op.stage = None


def is_kernel(rows: Rows) -> bool:
    """Whether stages share rows as a kernel has them too: cheap maps computed where they are read, dims of 1 left out,
    dims that follow one another made one. A norm has the rows of the map behind it, but not those of a pool that reads
    the map through windows."""
    if len(rows.stages) == 1:
        return True
    with _kernel(_named(rows)) as kernel:
        return Rows.of(stages_of(kernel)) is not None


def why_not_by_rows(rows: Rows, machine: Machine, *, of_any_length: bool = False) -> str | None:
    """Why working row by row would cost more than it saves; None where it would not."""
    grains = math.prod(map(size_of, rows.sizes()))
    static = all(isinstance(size, int) for stage in rows.stages for size in stage.root.sizes.dims)
    points = max(math.prod(map(size_of, stage.root.sizes.dims)) for stage in rows.stages)
    if grains < LEAST_GRAINS and (points > SMALL or not (static or rows.rows)):
        return f"{grains} rows are too few for a team of threads"
    if not of_any_length and not stays(rows, machine):
        return f"{row_bytes(rows)} bytes of a row do not stay in the cache"
    again = bytes_again(rows, cache_budget(rows, machine))
    if again and not is_worth_reading(again, rows, machine):
        return f"{max(again)} bytes of an operand would be read for every block of rows"
    return None


def _named(rows: Rows) -> list[GenericOp]:
    """All ops, in program order, each naming its stage where there are several."""
    if len(rows.stages) == 1:
        return list(rows.root.ops)
    in_order = sorted({op for stage in rows.stages for op in stage.ops}, key=cmp_to_key(earlier))
    stages = sorted(rows.stages, key=lambda stage: in_order.index(stage.ops[-1]))
    number = 0
    for stage in stages:
        name = INLINE if stage is not rows.root and is_cheap(stage, rows) else f"s{number}"
        number += name != INLINE
        for op in stage.ops:
            op.stage = name
    return in_order


def is_cheap(stage: Stage, rows: Rows) -> bool:
    """Whether a map takes so few operations that its readers, none of which reads an element twice, rather compute it
    again."""
    if stage.root.has_reduction or len(stage.ops) != 1 or stage.root.border is not None:
        return False
    ops = list(stage.root.body.block)
    if len(ops) > CHEAP + 1 or any(isinstance(op, ReadOp) or op.dialect == math_dialect.DIALECT.name for op in ops):
        return False
    for reader in rows.stages:
        for op in reader.ops:
            for value, read in zip(op.inputs, op.input_maps, strict=True):
                if value is stage.results[0]:
                    once = len(read.used_dims()) == len(op.iterators)
                    if not once or dims_through(stage.root.output_maps[0], read) is None:
                        return False
    return True
