from __future__ import annotations

from stepwell.backends.cpu.abi import ArgsLayout


def test_slots_follow_the_order_of_the_contract() -> None:
    layout = ArgsLayout((2, 0, 3), outputs=2)
    assert [layout.input(0), layout.input(2), layout.output(0), layout.output(1)] == [0, 2, 3, 4]
    assert [layout.arena, layout.constants, layout.scratch, layout.scratch_stride] == [5, 6, 7, 8]
    assert [layout.dim(0, 0), layout.dim(0, 1), layout.dim(2, 0), layout.dim(2, 2)] == [9, 10, 11, 13]
    assert layout.slots == 14


def test_a_model_without_inputs_has_no_dimensions() -> None:
    layout = ArgsLayout((), outputs=1)
    assert (layout.output(0), layout.arena, layout.slots) == (0, 1, 5)
