"""Models that keep state: step by step they give what the same calls give without it, to the bit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import stepwell
from stepwell import cli
from stepwell.binding import bind_states
from stepwell.errors import InputError, PassError, StateError
from stepwell.ir.parser import parse_module
from stepwell.ir.passes import PassContext, PassManager
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.lowering.graph.spread_sequences import SpreadSequences
from stepwell.lowering.pipeline import phases
from stepwell.sources import load_source
from tests.state_models import PAIRS, SIZE, WIDTH, attention, beside_lists, cache, info, node, proto, recurrent

RANDOM = np.random.default_rng(1)


def rows(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def kept(model: onnx.ModelProto, **options: Any) -> stepwell.Model:
    return stepwell.compile(model, state=PAIRS, **({"capacity": {"past": 12}} | options))


@pytest.fixture(scope="module")
def layer() -> stepwell.Model:
    return kept(attention())


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "x86-64"])
def test_steps_are_those_of_a_model_without_state(target: str) -> None:
    try:
        plain = stepwell.compile(attention(), target)
    except stepwell.errors.TargetError as error:
        pytest.skip(str(error))
    model = kept(attention(), target=target)
    state = model.new_state()
    k = v = np.zeros((1, 2, 0, SIZE), np.float32)
    for step in range(12):
        x = rows(1, 1, WIDTH)
        y, k, v = plain(x, k, v)
        np.testing.assert_array_equal(model(x, state=state), y)
        np.testing.assert_array_equal(state.arrays()["past_k"], k)
        np.testing.assert_array_equal(state.arrays()["past_v"], v)
        assert state.length == step + 1


@pytest.fixture(scope="module")
def plain() -> stepwell.Model:
    """The layer without state, for any number of rows and any batch."""
    return stepwell.compile(attention("new", "batch"))


@pytest.mark.parametrize("options", [{"sanitize": True}, {"capacity": 12}, {"capacity": None}, {"threads": 1}])
def test_options(options: dict[str, Any], plain: stepwell.Model) -> None:
    model = kept(attention("new", "batch"), **options)
    state = model.new_state(batch=3)
    k = v = np.zeros((3, 2, 0, SIZE), np.float32)
    for new in (5, 1, 0, 6):
        x = rows(3, new, WIDTH)
        y, k, v = plain(x, k, v)
        np.testing.assert_array_equal(model(x, state=state), y)
        np.testing.assert_array_equal(state.arrays()["past_v"], v)


def test_ports_are_those_of_the_caller(layer: stepwell.Model) -> None:
    assert [str(port) for port in (*layer.inputs, *layer.outputs)] == ["x: float32[1, 1, 16]", "y: float32[1, 1, 16]"]
    assert "keeps past_k, past_v" in repr(layer)
    assert layer.run({"x": rows(1, 1, WIDTH)}, state=layer.new_state()).keys() == {"y"}


def test_past_rows_are_written_once(layer: stepwell.Model) -> None:
    state = layer.new_state()
    layer(rows(1, 1, WIDTH), state=state)
    before = [array.ctypes.data for array in state.program_arrays()]
    layer(rows(1, 1, WIDTH), state=state)
    assert [array.ctypes.data for array in state.program_arrays()] == before


def test_a_full_state_is_an_error_and_stays_as_it_is() -> None:
    model = kept(attention("new"))
    state = model.new_state()
    model(rows(1, 10, WIDTH), state=state)
    before = state.arrays()
    with pytest.raises(StateError, match=r"needs 13 rows of 'past_k', and there is room for 12; reset or truncate"):
        model(rows(1, 3, WIDTH), state=state)
    assert all(np.array_equal(before[name], array) for name, array in state.arrays().items())
    model(rows(1, 2, WIDTH), state=state)
    assert state.length == state.capacity == 12


def test_truncate_reset_copy_and_trial(layer: stepwell.Model) -> None:
    xs = [rows(1, 1, WIDTH) for _ in range(4)]
    state = layer.new_state()
    ys = [layer(x, state=state) for x in xs]
    other = state.copy()
    state.truncate(2)
    assert (state.length, other.length) == (2, 4)
    with state.trial():
        layer(xs[0], state=state)
        with pytest.raises(StateError, match="at whose end 2 rows are needed"):
            state.truncate(1)
    np.testing.assert_array_equal(layer(xs[2], state=state), ys[2])
    np.testing.assert_array_equal(other.arrays()["past_k"][:, :, :3], state.arrays()["past_k"])
    state.reset()
    np.testing.assert_array_equal(layer(xs[0], state=state), ys[0])
    with pytest.raises(StateError, match="7 rows cannot be kept of 1"):
        state.truncate(7)


def test_a_state_begins_with_arrays(layer: stepwell.Model) -> None:
    plain = stepwell.compile(attention())
    k, v, x = rows(1, 2, 7, SIZE), rows(1, 2, 7, SIZE), rows(1, 1, WIDTH)
    state = layer.new_state({"past_k": k, "past_v": v})
    np.testing.assert_array_equal(layer(x, state=state), plain(x, k, v)[0])
    with pytest.raises(StateError, match="13 rows, and there is room for 12"):
        layer.new_state({"past_k": rows(1, 2, 13, SIZE), "past_v": rows(1, 2, 13, SIZE)})
    with pytest.raises(InputError, match="past_v"):
        layer.new_state({"past_k": k, "past_v": rows(1, 2, 6, SIZE)})
    with pytest.raises(InputError, match="element type float64"):
        layer.new_state({"past_k": k.astype(np.float64)})
    with pytest.raises(StateError, match="keeps past_k, past_v"):
        layer.new_state({"past": k})


def test_sizes_that_do_not_grow_are_told() -> None:
    model = kept(attention(batch="batch"))
    with pytest.raises(StateError, match=r"needs the size batch: new_state\(batch=...\)"):
        model.new_state()
    with pytest.raises(StateError, match="has the size heads; there are batch, past"):
        model.new_state(heads=2)
    with pytest.raises(InputError, match="batch = 2, past = 0"):
        model(rows(2, 1, WIDTH), state=model.new_state(batch=3))


@pytest.mark.parametrize("rows_", [1 << 50, 1 << 58, 1 << 60, 1 << 61, (1 << 61) + 1, 1 << 62, (1 << 63) - 1])
def test_a_capacity_for_which_there_is_no_memory(rows_: int) -> None:
    """Some of them have sizes in bytes that are small or negative modulo 2^64."""
    model = kept(attention(), capacity={"past": rows_})
    with pytest.raises(StateError, match=f"no memory for 'past_k', 1 x 2 x {rows_} x {SIZE} elements of the state"):
        model.new_state()


@pytest.mark.parametrize("batch", [1 << 50, 1 << 62, 1 << 70])
def test_sizes_for_which_there_is_no_memory(batch: int) -> None:
    model = kept(attention(batch="batch"), capacity={"past": 4})
    with pytest.raises(StateError, match=f"no memory for 'past_k', {batch} x 2 x 4 x {SIZE} elements"):
        model.new_state(batch=batch)
    with pytest.raises(StateError, match=f"no memory for 'h', {batch} x "):
        stepwell.compile(recurrent(), state={"h": "next"}).new_state(batch=batch)


def test_calls_without_their_state(layer: stepwell.Model) -> None:
    x = rows(1, 1, WIDTH)
    with pytest.raises(StateError, match="call it with state="):
        layer(x)
    with pytest.raises(StateError, match="of another model"):
        layer(x, state=kept(attention(), capacity={"past": 4}).new_state())
    plain = stepwell.compile(attention())
    with pytest.raises(StateError, match="keeps no state"):
        plain.new_state()
    with pytest.raises(StateError, match="keeps no state"):
        plain(x, rows(1, 2, 0, SIZE), rows(1, 2, 0, SIZE), state=layer.new_state())


def test_one_call_uses_a_state_at_a_time(layer: stepwell.Model) -> None:
    state = layer.new_state()
    with state.claimed(), pytest.raises(StateError, match="in use by another call"):
        layer(rows(1, 1, WIDTH), state=state)
    layer(rows(1, 1, WIDTH), state=state)
    assert state.length == 1


def test_states_of_one_model_are_used_at_the_same_time(layer: stepwell.Model) -> None:
    xs = [rows(1, 1, WIDTH) for _ in range(12)]

    def steps() -> list[Any]:
        state = layer.new_state()
        return [layer(x, state=state) for x in xs]

    expected, found = steps(), [[] for _ in range(6)]
    threads = [threading.Thread(target=lambda place=place: place.extend(steps())) for place in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(np.array(result), np.array(expected)) for result in found)


def test_fetched_values_with_a_state(layer: stepwell.Model) -> None:
    state, x = layer.new_state(), rows(1, 1, WIDTH)
    layer(x, state=state)
    found = layer.run({"x": x}, fetch=["present_k", "q0"], state=state)
    np.testing.assert_array_equal(found["present_k"], state.arrays()["past_k"])
    assert found["q0"].shape == (1, 1, WIDTH) and state.length == 2


def test_what_does_not_grow_is_carried() -> None:
    model = stepwell.compile(recurrent(), state={"h": "next"})
    state, h = model.new_state(batch=2), np.zeros((2, 4), np.float32)
    for _ in range(3):
        x = rows(2, 4)
        h = np.tanh(x + h)
        y = model(x, state=state)
        np.testing.assert_allclose(y, h, rtol=1e-5)
        np.testing.assert_array_equal(state.arrays()["h"], y)
    with pytest.raises(StateError, match="h cannot be taken back"):
        state.truncate(0)
    with pytest.raises(StateError, match="nothing in this state grows"):
        print(state.length)
    state.reset()
    assert not state.arrays()["h"].any()


READERS = {
    "sum of the past alone": ([node("ReduceSum", "past", "y", keepdims=0)], []),
    "the past as another output": ([node("Identity", "past", "y")], ["past", 4]),
    "the result as another output": ([node("Identity", "present", "y")], ["past + 1", 4]),
    "flat": ([node("Flatten", "present", "flat", axis=0), node("Relu", "flat", "y")], [1, "4*past + 4"]),
    "another axis": ([node("Unsqueeze", "present one", "deep"), node("Relu", "deep", "y")], ["past + 1", 1, 4]),
    "at places that data tell": ([node("Gather", "present last", "y", axis=0)], [1, 4]),
    "behind itself": ([node("Concat", "present past", "y", axis=0)], ["2*past + 1", 4]),
    "turned": ([node("Transpose", "present", "y")], [4, "past + 1"]),
}


@pytest.mark.parametrize("kind", READERS)
def test_readers_of_all_kinds(kind: str) -> None:
    nodes, shape = READERS[kind]
    model = cache(*nodes, y=shape, one=np.array([1]), last=np.array([-1]))
    plain, stateful = stepwell.compile(model), stepwell.compile(model, state={"past": "present"}, capacity=6)
    state, past = stateful.new_state(), np.zeros((0, 4), np.float32)
    assert stateful.context.statistics["states that grow in place"] == 1
    for _ in range(6):
        x = rows(1, 4)
        y, past = plain(x, past)
        np.testing.assert_allclose(stateful(x, state=state), y, rtol=1e-6)  # a sum of all has its dims in one or in two
        np.testing.assert_array_equal(state.arrays()["past"], past)


def test_rows_in_front_are_carried_as_a_whole() -> None:
    inputs, outputs = [info("x", [1, 4]), info("past", ["past", 4])], [info("present", ["past + 1", 4])]
    model = proto([node("Concat", "x past", "present", axis=0)], inputs, outputs)
    stateful = stepwell.compile(model, state={"past": "present"}, capacity={"past": 4})
    remarks = [str(remark) for remark in stateful.context.remarks]
    assert any("carried from call to call as a whole" in remark for remark in remarks)
    state, xs = stateful.new_state(), [rows(1, 4) for _ in range(5)]
    for x in xs:
        stateful(x, state=state)
    np.testing.assert_array_equal(state.arrays()["past"], np.concatenate(xs[::-1]))


def test_a_dump_of_any_landing_keeps_state() -> None:
    source = cache(node("Softmax", "present", "y"), y=["past + 1", 4])
    model = stepwell.compile(source, state={"past": "present"}, capacity=12)
    expected = model(x := rows(1, 4), state=model.new_state())
    for landing in ("graph", "tensor", "loop"):
        module, _ = load_source(source)
        bind_states(module, {"past": "present"}, {"past": 12})
        PassManager(phases("graph", landing)).run(module, PassContext())
        model = stepwell.compile(parse_module(print_op(module, PrintOptions(locations=True))))
        np.testing.assert_allclose(model(x, state=model.new_state()), expected, rtol=1e-5, atol=1e-6)


LISTS_PAIRS = {"past": "present", "h": "next"}


def check_beside_lists(model: stepwell.Model) -> None:
    plain = stepwell.compile(beside_lists())
    state, past, h = model.new_state(), np.zeros((0, 4), np.float32), np.zeros((1, 4), np.float32)
    items: list[Any] = []
    for step in range(4):
        x = rows(1, 4)
        wanted, h, past, count = plain(items, h, past, x)
        items, found = model(items, x, state=state)
        assert (found, len(items)) == (count, step + 1)
        for a, b in zip(items, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(state.arrays()["past"], past)
        np.testing.assert_array_equal(state.arrays()["h"], h)


@pytest.mark.parametrize("capacity", [8, None])
def test_state_beside_lists(capacity: int | None) -> None:
    model = stepwell.compile(beside_lists(), state=LISTS_PAIRS, capacity=capacity)
    assert [port.name for port in (*model.inputs, *model.outputs)] == ["items", "x", "y", "count"]
    check_beside_lists(model)


@pytest.mark.parametrize("landing", ["graph", "tensor", "loop"])
def test_a_dump_keeps_state_beside_lists(landing: str) -> None:
    module, _ = load_source(beside_lists())
    bind_states(module, LISTS_PAIRS, {"past": 8})
    PassManager(phases("graph", landing)).run(module, PassContext())
    check_beside_lists(stepwell.compile(print_op(module, PrintOptions(locations=True))))


def test_state_is_bound_to_arguments_behind_parts_of_lists() -> None:
    module, _ = load_source(beside_lists())
    SpreadSequences().run(module, PassContext())
    bind_states(module, LISTS_PAIRS, {"past": 8})
    check_beside_lists(stepwell.compile(module))


@pytest.mark.parametrize("source", ["layer", "lists"])
def test_engine_files_keep_state(source: str, tmp_path: Path) -> None:
    if source == "lists":
        stepwell.compile(beside_lists(), state=LISTS_PAIRS, capacity=8).save(tmp_path / "m.engine")
        check_beside_lists(stepwell.load(tmp_path / "m.engine"))
        return
    model = kept(attention())
    model.save(tmp_path / "m.engine")
    loaded = stepwell.load(tmp_path / "m.engine")
    a, b = model.new_state(), loaded.new_state()
    for _ in range(4):
        x = rows(1, 1, WIDTH)
        np.testing.assert_array_equal(loaded(x, state=b), model(x, state=a))
    model(x, state=b)  # states of the model and of its file are the same
    with pytest.raises(StateError, match="the model keeps state"):
        loaded(x)


def test_a_list_is_not_kept() -> None:
    with pytest.raises(StateError, match="'items' is a list or an optional value, which a state does not keep"):
        stepwell.compile(beside_lists(), state={"items": "y"})
    text = print_op(load_source(beside_lists())[0])
    text = text.replace('{onnx.name = "items"', '{sw.state = {result = 0}, onnx.name = "items"')
    with pytest.raises(PassError, match="a state keeps tensors, and no value of type"):
        stepwell.compile(text)


@pytest.mark.parametrize("action", ["--run", "--check-each", "--bench"])
def test_the_command_keeps_state_beside_lists(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(beside_lists(), tmp_path / "m.onnx")
    options = [f"--state={name}={becomes}" for name, becomes in LISTS_PAIRS.items()]
    assert cli.main([*options, "--capacity", "past=8", action, str(tmp_path / "m.onnx")]) == 0
    expected = {"--run": "present: float32[5, 4]", "--check-each": "no pass changed", "--bench": "append"}
    assert expected[action] in capsys.readouterr().out


@pytest.mark.parametrize("action", ["--run", "--check-each", "--bench"])
def test_the_command_keeps_state(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(attention(), tmp_path / "layer.onnx")
    options = [f"--state={name}={becomes}" for name, becomes in PAIRS.items()]
    assert cli.main([*options, "--capacity", "past=8", action, str(tmp_path / "layer.onnx")]) == 0
    out = capsys.readouterr().out
    expected = {"--run": "present_k: float32[1, 2, 5, 8]", "--check-each": "no pass changed", "--bench": "append"}
    assert expected[action] in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--state", "past_k"], "--state past_k: expected INPUT=OUTPUT"),
        (["--state", "past_k=present_k", "--capacity", "past=many"], "--capacity past=many: expected NAME=ROWS"),
        (["--capacity", "past=3"], "say with state= which inputs are kept"),
        (["--state", "past_k=present_k", "--capacity", "past=3", "--run"], "4 rows, and there is room for 3"),
    ],
)
def test_wrong_command_lines(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(attention(), tmp_path / "layer.onnx")
    assert cli.main([*options, str(tmp_path / "layer.onnx")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "capacity", "message"),
    [
        ({"past": "present_k"}, None, "no input named 'past'; close to it: past_"),
        ({"past_k": "presents"}, None, "no output named 'presents'; close to it: present_"),
        ({"present_k": "past_k"}, None, "leads from inputs to outputs: {'past_k': 'present_k'}"),
        ({"past_k": "present_k", "past_v": "present_k"}, None, "cannot become both 'past_k' and 'past_v'"),
        ({"past_k": "y"}, None, "differ in element type or rank"),
        (PAIRS, {"seq": 4}, "no kept input grows by a size named 'seq'; there are past"),
        (PAIRS, {"past": 0}, "past has room for 0 rows"),
        (PAIRS, True, "past has room for True rows"),
        (None, {"past": 4}, "say with state= which inputs are kept"),
    ],
)
def test_pairs_that_do_not_fit(state: Any, capacity: Any, message: str) -> None:
    with pytest.raises(StateError, match=message.replace("{", "\\{")):
        stepwell.compile(attention(), state=state, capacity=capacity)


def test_sizes_that_no_call_repeats() -> None:
    inputs, outputs = [info("x", [1, 4]), info("past", [3, 4])], [info("present", [4, 4])]
    model = proto([node("Concat", "past x", "present", axis=0)], inputs, outputs)
    with pytest.raises(StateError, match="dimension 0 is 3 in every call; export the model with a symbolic size"):
        stepwell.compile(model, state={"past": "present"})
