"""The whole story, in reading order: the phases that lead from one landing to the next, and the passes of each.

    for phase in phases("graph", "loop"): ...

The command line's help, dumps, timing and documentation come from this list; a pass is written down here and nowhere
else. Classes are imported when a pipeline is made."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import attrs

from stepwell.errors import PassError
from stepwell.ir.core import Operation
from stepwell.ir.passes import Pass, Phase, parse_pipeline
from stepwell.ir.registry import REGISTRY
from stepwell.ir.types import MemRefType, TensorType

# The landings, and the phase at which a module enters each.
ENTRIES = {"graph": "pre-optimise", "tensor": "post-optimise", "loop": "loop"}
LANDINGS = tuple(ENTRIES)


@attrs.frozen
class PhaseSpec:
    """A stretch of the way down: `passes` are texts of passes (`tile{unroll=2}`), `landing` is where they lead."""

    name: str
    description: str
    landing: str
    passes: tuple[str, ...]


PIPELINE = (
    PhaseSpec(
        "pre-optimise", "WHAT is computed: constants folded, algebra simplified, equal things computed once", "graph",
        ("canonicalize", "spread-sequences", "cse", "dce"),
    ),
    PhaseSpec(
        "optimise", "the ops that the exporter took apart, and replacements that pay", "graph",
        ("recognize", "cse", "dce", "append-states"),
    ),
    PhaseSpec(
        "to-tensor", "graph ops become tileable ops on signless tensors", "tensor",
        ("to-tensor", "cse"),
    ),
    PhaseSpec(
        "post-optimise", "HOW DATA IS REPRESENTED, and what is one kernel", "tensor",
        (
            "move-quantised", "lower-quant", "affine-reads", "assign-layouts", "cse", "dce", "winograd",
            "decompose-layouts", "place-rows", "fuse", "collapse-dims", "split-dims", "schedule", "pack-inputs",
            "pack-constants",
        ),
    ),
    PhaseSpec(
        "to-loop", "kernels become functions over buffers, the rest the program that launches them", "loop",
        ("outline",),
    ),
    PhaseSpec(
        "loop", "ORDER AND PLACE: loops, tiles, vectors, one arena of memory", "loop",
        (
            "inline-stages", "tile", "vectorize", "canonicalize", "cse", "expand-math", "hoist", "cse",
            "plan-memory", "cse", "dce",
        ),
    ),
)  # fmt: skip

# What the backend makes of the loop landing, for `--to`.
BACKEND_STAGES = (
    ("llvm", "LLVM IR text: kernels, and the program that launches them"),
    ("asm", "assembly of the target"),
    ("obj", "relocatable object files, in a static library"),
)

# Pass name -> module:class, in the order in which they are met on the way down.
PASSES = {
    "fold": "stepwell.lowering.graph.fold:Fold",
    "canonicalize": "stepwell.lowering.graph.canonicalize:Canonicalize",
    "spread-sequences": "stepwell.lowering.graph.spread_sequences:SpreadSequences",
    "cse": "stepwell.lowering.graph.cse:CommonSubexpressions",
    "dce": "stepwell.lowering.graph.dce:DeadCode",
    "recognize": "stepwell.lowering.graph.recognize:Recognize",
    "append-states": "stepwell.lowering.graph.append_states:AppendStates",
    "to-tensor": "stepwell.lowering.to_tensor.convert:ToTensor",
    "move-quantised": "stepwell.lowering.tensor.quantised:MoveQuantised",
    "lower-quant": "stepwell.lowering.tensor.lower_quant:LowerQuant",
    "affine-reads": "stepwell.lowering.tensor.affine_reads:AffineReads",
    "assign-layouts": "stepwell.lowering.tensor.assign_layouts:AssignLayouts",
    "winograd": "stepwell.lowering.tensor.winograd:Winograd",
    "decompose-layouts": "stepwell.lowering.tensor.decompose:DecomposeLayouts",
    "place-rows": "stepwell.lowering.tensor.place_rows:PlaceRows",
    "fuse": "stepwell.lowering.tensor.fuse:Fuse",
    "collapse-dims": "stepwell.lowering.tensor.collapse:CollapseDims",
    "split-dims": "stepwell.lowering.tensor.split:SplitDims",
    "schedule": "stepwell.lowering.tensor.schedule:Schedule",
    "pack-inputs": "stepwell.lowering.tensor.pack_inputs:PackInputs",
    "pack-constants": "stepwell.lowering.tensor.pack:PackConstants",
    "outline": "stepwell.lowering.to_loop.outline:Outline",
    "inline-stages": "stepwell.lowering.loop.inline:InlineStages",
    "tile": "stepwell.lowering.loop.tile:Tile",
    "vectorize": "stepwell.lowering.loop.vectorize:Vectorize",
    "expand-math": "stepwell.lowering.loop.expand_math:ExpandMath",
    "hoist": "stepwell.lowering.loop.hoist:Hoist",
    "plan-memory": "stepwell.lowering.loop.plan_memory:PlanMemory",
    "sanitize": "stepwell.lowering.loop.sanitize:Sanitize",
}

_plugins: dict[str, type[Pass]] = {}


def register_pass(cls: type[Pass]) -> type[Pass]:
    """Decorator: make a plug-in's pass known to textual pipelines. Raises PassError where its name is taken."""
    other = _plugins.get(cls.name) or find_pass(cls.name)
    if other is not None and other is not cls:
        raise PassError(f"the pass name {cls.name!r} belongs to {other.__module__}.{other.__qualname__}")
    _plugins[cls.name] = cls
    return cls


def find_pass(name: str) -> type[Pass] | None:
    """The pass class of that name."""
    place = PASSES.get(name)
    if place is None:
        return _plugins.get(name)
    module, _, attribute = place.partition(":")
    found: type[Pass] = getattr(importlib.import_module(module), attribute)
    return found


def passes_by_name() -> dict[str, type[Pass]]:
    """Every pass, for listings; imports them all."""
    known = {name: find_pass(name) for name in PASSES}
    return {**{name: cls for name, cls in known.items() if cls is not None}, **_plugins}


def phases(start: str = "graph", stop: str = "loop") -> list[Phase]:
    """The phases that lead a module at the landing `start` to the end of the landing `stop`.

    Passes leave alone what is done already."""
    first, last = _landing_index(start), _landing_index(stop)
    if first > last:
        raise PassError(f"the way leads down: there is none from the {start} landing to the {stop} landing")
    begin = next(index for index, spec in enumerate(PIPELINE) if spec.name == ENTRIES[start])
    end = max(index for index, spec in enumerate(PIPELINE) if spec.landing == stop)
    return [_phase(spec) for spec in PIPELINE[begin : end + 1]]


def between(start: str, upper: str, lower: str) -> list[Phase]:
    """The phases that are left to the end of the landing `lower` of a module that entered at `start` and stands at the
    end of `upper`."""
    return phases(start, lower)[len(phases(start, upper)) :]


def _landing_index(name: str) -> int:
    if name not in LANDINGS:
        raise PassError(f"there is no landing {name!r}; there are {', '.join(LANDINGS)}")
    return LANDINGS.index(name)


def _phase(spec: PhaseSpec) -> Phase:
    return Phase(spec.name, parse_pipeline(",".join(spec.passes), find_pass), spec.description)


def parse(text: str) -> list[Pass | Phase]:
    """A textual pipeline, `graph(canonicalize,cse),to-tensor`: groups have a phase's or a landing's name.

    Raises PassError with a caret."""
    return parse_pipeline(text, find_pass, [*LANDINGS, *(spec.name for spec in PIPELINE)])


def landing_of(module: Operation) -> str:
    """The landing at which a module stands: the highest one that any of its ops belongs to.

    Raises PassError for a module without ops of any landing."""
    found = {op.dialect for op in module.walk()}
    landings = {REGISTRY.landing(name) for name in found}
    for landing in LANDINGS:
        if landing in landings:
            return landing
    types = [argument.type for op in module.walk() for r in op.regions for b in r.blocks for argument in b.arguments]
    if any(isinstance(type_, TensorType) or type_.mnemonic.startswith("graph.") for type_ in types):
        return "graph"  # a function that returns its arguments
    if any(isinstance(type_, MemRefType) for type_ in types):
        return "loop"
    raise PassError(f"no landing has ops of these dialects alone: {', '.join(sorted(found)) or 'none'}")


def story() -> Iterator[str]:
    """The way down as lines of text, for help and documentation."""
    for spec in PIPELINE:
        yield f"{spec.name}: {spec.description}"
        for text in spec.passes:
            cls = find_pass(text.partition("{")[0])
            words = (cls.__doc__ or "").strip().partition("\n")[0] if cls is not None else ""
            yield f"  {text}: {words}"
    for name, description in BACKEND_STAGES:
        yield f"{name}: {description}"
