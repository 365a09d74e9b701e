"""The story of the phases: complete, in order, and enterable at every landing."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest

from stepwell.errors import PassError
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import Pass, PassContext
from stepwell.lowering import pipeline


def test_every_phase_names_passes_that_exist() -> None:
    used = {text.partition("{")[0] for spec in pipeline.PIPELINE for text in spec.passes}
    assert used <= set(pipeline.PASSES)
    assert {name: cls.name for name, cls in pipeline.passes_by_name().items()} == {n: n for n in pipeline.PASSES}


def test_the_phases_lead_down() -> None:
    landings = [pipeline.LANDINGS.index(spec.landing) for spec in pipeline.PIPELINE]
    assert landings == sorted(landings)
    assert all(name in [spec.name for spec in pipeline.PIPELINE] for name in pipeline.ENTRIES.values())


@pytest.mark.parametrize(
    ("start", "stop", "names"),
    [
        ("graph", "graph", ["pre-optimise", "optimise"]),
        ("graph", "tensor", ["pre-optimise", "optimise", "to-tensor", "post-optimise"]),
        ("tensor", "loop", ["post-optimise", "to-loop", "loop"]),
        ("loop", "loop", ["loop"]),
    ],
)
def test_phases_between_landings(start: str, stop: str, names: list[str]) -> None:
    assert [phase.name for phase in pipeline.phases(start, stop)] == names


@pytest.mark.parametrize(
    ("start", "stop", "message"), [("loop", "graph", "leads down"), ("attic", "loop", "no landing")]
)
def test_ways_that_do_not_exist(start: str, stop: str, message: str) -> None:
    with pytest.raises(PassError, match=message):
        pipeline.phases(start, stop)


@pytest.mark.parametrize(
    ("body", "landing"),
    [
        ("%r = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>", "graph"),
        ("", "graph"),
        ("%r = tensor.reshape %x : (tensor<4xf32>) -> tensor<2x2xf32>", "tensor"),
        ("%b = buffer.alloc() : memref<4xf32>", "loop"),
    ],
)
def test_where_a_module_stands(body: str, landing: str) -> None:
    text = f"builtin.module {{ func.func @main(%x: tensor<4xf32>) {{ {body} func.return }} }}"
    assert pipeline.landing_of(parse_module(text)) == landing


def test_a_module_without_any_landing() -> None:
    with pytest.raises(PassError, match="no landing"):
        pipeline.landing_of(parse_module("builtin.module { }"))


def test_texts_of_pipelines() -> None:
    items = pipeline.parse("graph(canonicalize,cse),to-tensor,fuse{enabled=false}")
    assert ",".join(map(str, items)) == "graph(canonicalize,cse),to-tensor,fuse{enabled=false}"
    with pytest.raises(PassError, match="unknown pass 'canonicalise'"):
        pipeline.parse("canonicalise")


@attrs.frozen
class Impostor(Pass):
    """Takes another pass's name."""

    name: ClassVar[str] = "fuse"

    def run(self, module: Operation, context: PassContext) -> None:
        pass


def test_a_plugin_cannot_take_a_name() -> None:
    with pytest.raises(PassError, match=r"belongs to stepwell\.lowering\.tensor\.fuse\.Fuse"):
        pipeline.register_pass(Impostor)


def test_the_story_names_every_phase() -> None:
    text = "\n".join(pipeline.story())
    assert all(f"{spec.name}: {spec.description}" in text for spec in pipeline.PIPELINE)
