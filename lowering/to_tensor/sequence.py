"""Sequences and optional values that are left when the graph landing is: they have no form below yet.

What is known about them at compile time is resolved there (`dialects/graph/sequence`)."""

from __future__ import annotations

from stepwell.dialects.graph import sequence as graph
from stepwell.ir.conversion import Conversion, NoMatch
from stepwell.lowering.to_tensor.rules import lowers

SEQUENCES = (
    graph.SequenceOp, graph.SequenceInsertOp, graph.SequenceEraseOp, graph.SequenceAtOp, graph.SequenceLengthOp,
)  # fmt: skip
OPTIONALS = graph.OptionalOp, graph.OptionalHasElementOp, graph.OptionalGetElementOp


@lowers(*SEQUENCES)
def refuse_sequence(op: graph.SequenceOp, c: Conversion) -> None:
    """Raises NoMatch."""
    raise NoMatch(
        "which tensors the sequence has, or which of them is meant, is only known while the model runs; keep them in "
        "one tensor, by Concat and Gather"
    )


@lowers(*OPTIONALS)
def refuse_optional(op: graph.OptionalOp, c: Conversion) -> None:
    """Raises NoMatch."""
    raise NoMatch("whether the value is there is only known while the model runs; pass a flag and a tensor instead")
