"""Readers of a state's rows: they read the larger tensor at the same places, or a copy of the rows."""

from __future__ import annotations

import pytest

from stepwell.binding import bind_states
from stepwell.dialects.tensor import AppendOp, GenericOp, KernelOp, RoomOp, RowsOp
from stepwell.ir.core import Operation
from stepwell.ir.passes import PassContext, PassManager
from stepwell.lowering import pipeline
from stepwell.ports import main_function
from stepwell.sources import load_source
from tests.state_models import PAIRS, attention, cache, node

CAPACITY = {"past": 64}


def lowered(source: object, pairs: dict[str, str], landing: str = "tensor") -> tuple[Operation, PassContext]:
    module, _ = load_source(source)
    bind_states(module, pairs, CAPACITY)
    context = PassContext()
    PassManager(pipeline.phases("graph", landing)).run(module, context)
    return module, context


def copies(context: PassContext) -> int:
    return sum("rows of a state are copied" in str(remark) for remark in context.remarks)


def test_attention_reads_keys_and_values_where_they_lie() -> None:
    module, context = lowered(attention(), PAIRS)
    assert copies(context) == 0
    rooms = [op.result for op in module.walk_of(AppendOp)]
    (reader,) = [op for op in module.walk_of(KernelOp) if set(rooms) <= set(op.inputs)]
    assert {str(room.type) for room in rooms} == {"tensor<1x2x64x8xf32>"} and reader.results
    assert all(op.result.has_one_use for op in module.walk_of(RowsOp))  # what the function returns
    maps = [op for op in module.walk_of(GenericOp) if not op.has_reduction]
    assert all(op.body.block.first is not op.body.block.terminator for op in maps)  # none is a copy


@pytest.mark.parametrize(
    ("reader", "shape", "expected"),
    [
        (node("Relu", "present", "y"), ["past + 1", 4], 0),
        (node("Relu", "past", "y"), ["past", 4], 0),
        (node("Transpose", "present", "y"), [4, "past + 1"], 0),
        (node("Flatten", "present", "y", axis=0), [1, "4*past + 4"], 1),
        (node("Gather", "present last", "y", axis=0), [1, 4], 1),
    ],
)
def test_copies_of_rows(reader: object, shape: list[int | str], expected: int) -> None:
    import numpy as np

    _, context = lowered(cache(reader, y=shape, last=np.array([2])), {"past": "present"})  # type: ignore[arg-type]
    assert copies(context) == expected


def test_nothing_but_its_room_reads_an_argument() -> None:
    module, _ = lowered(cache(node("Relu", "past", "y"), y=["past", 4]), {"past": "present"})
    (room,) = module.walk_of(RoomOp)
    assert room.x.users == [room]


def test_the_program_writes_the_new_rows_alone() -> None:
    module, _ = lowered(cache(), {"past": "present"}, "loop")
    function = main_function(module)
    types = [str(argument.type) for argument in function.arguments]
    assert types[:2] == ["memref<1x4xf32>", "memref<?x4xf32, strided<[4, 1]>>"]
    assert not any("sw.out" in function.argument_attributes(n) for n in range(len(types)))
    launches = [op for op in module.walk() if op.op_name == "kernel.launch"]
    assert [str(op.properties["callee"]) for op in launches] == ["@append"]
