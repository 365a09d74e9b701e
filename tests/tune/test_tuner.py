"""The search, with made-up times and a clock of its own; and one that is real, of a small model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.cli import main
from stepwell.compiler import Options, machine_of
from stepwell.dialects.schedule import ScheduleAttr
from stepwell.errors import PassError, TuningError
from stepwell.lowering.tensor.canonical import structure
from stepwell.lowering.tensor.machine import Machine
from stepwell.lowering.tensor.schedule import kernel_schedule
from stepwell.sources import load_source
from stepwell.tune.files import TuneFile, target_key
from stepwell.tune.kernels import LoneKernel, Timed, lone_kernels
from stepwell.tune.tuner import LEAST_CALLS, Found, Tuner, _Pace, is_surely_less

OPTIONS = Options(target="x86-64-v3", threads=1)


def products(*sizes: tuple[int, int], rows: int = 32, name: str = "x") -> onnx.ModelProto:
    """Products with ReLU behind each, none of which needs another: [rows, a] x [a, b] for each (a, b)."""
    rng = np.random.default_rng(3)
    nodes, weights, inputs, outputs = [], [], [], []
    for n, (a, b) in enumerate(sizes):
        array = rng.standard_normal((a, b)).astype(np.float32) / np.float32(a**0.5)
        weights.append(numpy_helper.from_array(array, f"w{n}"))
        nodes += [helper.make_node("MatMul", [f"{name}{n}", f"w{n}"], [f"p{n}"], name=f"product{n}")]
        nodes += [helper.make_node("Relu", [f"p{n}"], [f"y{n}"], name=f"relu{n}")]
        inputs.append(helper.make_tensor_value_info(f"{name}{n}", TensorProto.FLOAT, [rows, a]))
        outputs.append(helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, [rows, b]))
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


SIZES = [(64, 256), (256, 64), (64, 256), (256, 16)]
MODEL = products(*SIZES)


def lone(model: Any = MODEL, options: Options = OPTIONS) -> list[LoneKernel]:
    return lone_kernels(load_source(model)[0], options)


class Clock:
    """Seconds that pass only where something says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class Fake:
    """A schedule that takes as long as a function of it says."""

    time: float
    clock: Clock

    def seconds(self, budget: float) -> float:
        self.clock.now += max(budget, LEAST_CALLS * self.time)
        return self.time


def tuner(path: Path, cost: Callable[[ScheduleAttr], float], seconds_to_compile: float = 0.01) -> Tuner:
    """A tuner of the model's kernels whose schedules take what `cost` says."""
    clock = Clock()

    def compile_(kernel: LoneKernel, schedule: ScheduleAttr) -> Fake:
        clock.now += seconds_to_compile
        return Fake(cost(schedule), clock)

    file = TuneFile.read(path, must_exist=False)
    return Tuner(lone(), OPTIONS, file, compile_, clock, "made up")


def rows_of(schedule: ScheduleAttr) -> int:
    return schedule.register[0][1]


def prefers_two_rows(schedule: ScheduleAttr) -> float:
    return 1e-4 * (1 + abs(rows_of(schedule) - 2))


def entries(found: Iterator[Found]) -> list[Any]:
    return [each.entry for each in found]


def test_equal_kernels_are_one() -> None:
    found = lone()
    assert [each.launches for each in found] == [2, 1, 1]
    assert len({each.key for each in found}) == 3
    assert all(each.kernel.schedule is None for each in found)


def test_keys_do_not_depend_on_names() -> None:
    assert [each.key for each in lone(products(*SIZES, name="other"))] == [each.key for each in lone()]
    assert lone(products((64, 128)))[0].key != lone(products((64, 256)))[0].key


def test_structure_tells_the_same_kernels_apart() -> None:
    kernels = [each.kernel for each in (*lone(), *lone(products(*SIZES, name="other")))]
    assert len({structure(kernel) for kernel in kernels}) == 3


def test_the_search_finds_what_is_fast(tmp_path: Path) -> None:
    found = entries(tuner(tmp_path / "t", prefers_two_rows).run(1000))
    assert [rows_of(entry.schedule) for entry in found] == [2, 2, 2]
    assert all(entry.finished and entry.seconds == 1e-4 < entry.usual_seconds for entry in found)
    assert json.loads((tmp_path / "t").read_text())["entries"][0]["machine"] == "made up"


def test_the_largest_kernel_comes_first(tmp_path: Path) -> None:
    found = entries(tuner(tmp_path / "t", prefers_two_rows).run(1000))
    weights = [entry.cycles * launches for entry, launches in zip(found, (2, 1, 1), strict=True)]
    assert weights[-1] == min(weights)


def test_noise_changes_nothing(tmp_path: Path) -> None:
    """Schedules that differ by less than runs of one do."""
    shakes = np.random.default_rng(1)

    def cost(schedule: ScheduleAttr) -> float:
        return 1e-4

    made = tuner(tmp_path / "t", cost)
    inner = made.compile_
    assert inner is not None

    def compile_(kernel: LoneKernel, schedule: ScheduleAttr) -> Any:
        contender = inner(kernel, schedule)
        real = contender.seconds
        contender_seconds = lambda budget: real(budget) * shakes.uniform(0.9, 1.1)  # noqa: E731
        return type("Shaky", (), {"seconds": staticmethod(contender_seconds)})()

    made.compile_ = compile_
    for entry in entries(made.run(1000)):
        assert entry.schedule == entry.usual


def test_a_small_gain_is_left_alone(tmp_path: Path) -> None:
    machine = Machine.of(machine_of(OPTIONS))
    usual = {kernel_schedule(each.kernel, machine) for each in lone()}
    found = entries(tuner(tmp_path / "t", lambda s: 1e-4 if s in usual else 0.99e-4).run(1000))
    assert all(entry.schedule == entry.usual for entry in found)


@pytest.mark.parametrize("seconds_to_compile", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("box", [2, 5, 17, 30, 60])
def test_time_is_kept(tmp_path: Path, box: float, seconds_to_compile: float) -> None:
    """Slow runs too: a call takes 20 ms here, and a run makes seven."""
    made = tuner(tmp_path / "t", lambda schedule: 0.02, seconds_to_compile)
    found = entries(made.run(box))
    assert made.clock() < box
    assert made.missing() == 3 - sum(entry.finished for entry in found)


def test_a_search_that_is_cut_short_says_so(tmp_path: Path) -> None:
    made = tuner(tmp_path / "t", prefers_two_rows, seconds_to_compile=1.0)
    (entry,) = entries(made.run(5))
    assert not entry.finished and 1 < entry.tried < 6


def test_kernels_that_another_tuner_has_searched_meanwhile(tmp_path: Path) -> None:
    one, two = (tuner(tmp_path / "t", prefers_two_rows) for _ in range(2))
    search = one.run(1000)
    first = next(search).entry
    others = entries(two.run(1000))
    assert first is not None and len(others) == 2 and list(search) == []
    assert len({first.kernel, *(entry.kernel for entry in others)}) == 3


def test_a_smaller_kernel_that_fits_is_searched_where_a_larger_one_does_not(tmp_path: Path) -> None:
    pace = _Pace()
    pace.learn(0.5, 1e-6)
    assert pace.search(1e3) < 2 < pace.search(1e6)
    pace.learn(0.1, 1e-9)  # a faster one changes nothing
    assert pace.search(1e6) > 2
    assert _Pace().search(1e9) < 1  # of nothing is known


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Kernels that the file lacks come first, then those whose search was cut short; what is finished stays."""
    first = tuner(tmp_path / "t", prefers_two_rows, seconds_to_compile=1.0)
    (cut,) = entries(first.run(5))
    second = tuner(tmp_path / "t", prefers_two_rows)
    found = entries(second.run(1000))
    assert [entry.kernel for entry in found][-1] == cut.kernel
    assert len(found) == 3 and second.missing() == 0
    assert entries(tuner(tmp_path / "t", prefers_two_rows).run(1000)) == []


def test_a_schedule_that_cannot_be_made_is_passed_over(tmp_path: Path) -> None:
    made = tuner(tmp_path / "t", prefers_two_rows)
    inner = made.compile_
    assert inner is not None

    def compile_(kernel: LoneKernel, schedule: ScheduleAttr) -> Any:
        if rows_of(schedule) == 2:
            raise PassError("no")
        return inner(kernel, schedule)

    made.compile_ = compile_
    assert {rows_of(entry.schedule) for entry in entries(made.run(1000))} <= {1, 3}


def test_a_kernel_that_cannot_run_alone_is_named(tmp_path: Path) -> None:
    def compile_(kernel: LoneKernel, schedule: ScheduleAttr) -> Any:
        raise PassError("its sizes follow from no input\nand so on")

    made = tuner(tmp_path / "t", prefers_two_rows)
    made.compile_ = compile_
    found = list(made.run(10))
    assert len(found) == 3 and not (tmp_path / "t").exists()
    assert str(found[0]).endswith("not tuned: its sizes follow from no input")


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.9] * 7, True),
        ([0.99] * 7, False),  # too little
        ([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 1.3], True),  # one was disturbed
        ([0.9, 0.9, 0.9, 0.9, 0.9, 1.1, 1.1], False),
        ([0.6, 0.7, 0.8, 0.93, 0.98, 0.99, 0.99], False),  # they differ more than they gain
    ],
)
def test_what_is_surely_less(ratios: list[float], expected: bool) -> None:
    assert is_surely_less(ratios) == expected


# What a file does to a compilation


def tuned_file(path: Path, change: Callable[[ScheduleAttr], ScheduleAttr], options: Options) -> None:
    """A file with a changed schedule for every kernel of the model."""
    target = machine_of(options)
    machine = Machine.of(target)
    file = TuneFile(path)
    for each in lone(options=options):
        usual = kernel_schedule(each.kernel, machine)
        made = Tuner([each], options, file, lambda k, s: Fake(1.0, Clock()), Clock(), "m")
        (found,) = made.run(1)
        assert found.entry is not None
        file.add(attrs.evolve(found.entry, schedule=change(usual)), target)
    file.write()


def two_rows(schedule: ScheduleAttr) -> ScheduleAttr:
    (first, _), *rest = schedule.register
    return attrs.evolve(schedule, register=((first, 2), *rest))  # type: ignore[misc]


def test_a_tuned_schedule_is_in_the_ir_and_gives_the_same(tmp_path: Path) -> None:
    options = Options(threads=1)
    tuned_file(tmp_path / "t", two_rows, options)
    feeds = [np.random.default_rng(n).standard_normal((32, a)).astype(np.float32) for n, (a, _) in enumerate(SIZES)]
    plain, tuned = (stepwell.compile(MODEL, threads=1, tuned=t) for t in (None, tmp_path / "t"))
    for a, b in zip(plain(*feeds), tuned(*feeds), strict=True):
        np.testing.assert_array_equal(a, b)
    assert tuned.context.statistics["schedules tuned"] == 4
    assert "schedules tuned" not in plain.context.statistics
    assert any("tuned: {" in str(remark) and "instead of" in str(remark) for remark in tuned.context.remarks)


def test_schedules_for_another_target_are_named(tmp_path: Path) -> None:
    tuned_file(tmp_path / "t", two_rows, Options(target="x86-64", threads=1))
    model = stepwell.compile(MODEL, target="x86-64-v3", threads=1, tuned=tmp_path / "t")
    assert "schedules tuned" not in model.context.statistics
    assert any("3 schedules are for other targets" in str(remark) for remark in model.context.remarks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": "zz"}, "vectors along 'zz'"),
        ({"register": (("b0m", 999), ("n", 64))}, "does not suit it"),
        ({"partial": 100_000}, "sums have parts of 100000 products, not"),
    ],
)
def test_schedules_that_do_not_suit_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tuned_file(tmp_path / "t", lambda s: attrs.evolve(s, **change), OPTIONS)  # type: ignore[misc]
    with pytest.raises(PassError, match=message) as caught:
        stepwell.compile(MODEL, target="x86-64-v3", threads=1, tuned=tmp_path / "t")
    assert "product" in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("{}")
    with pytest.raises(TuningError, match="is no file of tuned schedules"):
        stepwell.compile(MODEL, tuned=tmp_path / "t")
    with pytest.raises(TuningError, match="cannot be read"):
        stepwell.compile(MODEL, tuned=tmp_path / "nowhere")


# The real thing, in a moment


def test_a_kernel_alone_is_timed() -> None:
    options = Options(threads=1)
    each = lone(products((16, 32), rows=4), options)[0]
    schedule = kernel_schedule(each.kernel, Machine.of(machine_of(options)))
    assert 0 < Timed(each, schedule, options).seconds(0.001) < 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "tuned.json"
    onnx.save(products((16, 32), rows=4), model)
    assert main([str(model), "--tune", "60", "--tune-file", str(out), "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "product0 + relu0: " in printed and "of 1 kernels are left" in printed
    (read,) = TuneFile.read(out).entries.values()
    assert read.target == target_key(machine_of(Options())) and read.threads == 1
    assert main([str(model), "--tuned", str(out), "--remarks", "--to", "tensor", "-o", str(tmp_path / "m.mlir")]) == 0
    assert "tuned: {" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tune", "1"], "say where it goes with --tune-file"),
        (["--tune", "0", "--tune-file", "t"], "no search of so many seconds"),
        (["--tune", "1e-6", "--tune-file", "t"], "--tune 1e-06: loading and lowering the model took "),
        (["--tune", "1", "--tune-file", "t", "--target", "aarch64"], "cannot run on this machine"),
        (["--tuned", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_wrong_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    onnx.save(products((16, 32), rows=4), "m.onnx")
    assert main(["m.onnx", *arguments]) == 1
    assert message in capsys.readouterr().err
