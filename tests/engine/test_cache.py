"""Whole models on disk: found again, told apart by all that decides them, never trusted beyond their checksums."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell import cli
from stepwell.compiler import Request
from stepwell.engine import cache, code
from stepwell.engine.container import Container
from stepwell.errors import EngineError, InputError, ModelError, StepwellError, TargetError, TuningError
from stepwell.ir import origins
from stepwell.ir.parser import parse_module
from stepwell.sources import open_source
from stepwell.tune.files import TuneFile

F, I64 = TensorProto.FLOAT, TensorProto.INT64
RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((5, 96)).astype(np.float32)


def onnx_model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **weights: Any) -> Any:
    ports = [[helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in given.items()]
             for given in (inputs, outputs)]  # fmt: skip
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", *ports, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def product(scale: float = 1.0) -> Any:
    weights = np.random.default_rng(1).standard_normal((96, 64)).astype(np.float32) * np.float32(scale)
    return onnx_model(
        [helper.make_node("MatMul", ["x", "w"], ["p"], "Product"), helper.make_node("Relu", ["p"], ["y"], "Relu")],
        {"x": (F, ["batch", 96])}, {"y": (F, ["batch", 64])}, w=weights,
    )  # fmt: skip


TEXT = """
builtin.module {
  func.func @main(%x : tensor<?x3xf32, #graph.shape<["n"]>>) -> tensor<?x3xf32, #graph.shape<["n"]>> {
    %y = graph.relu %x : (tensor<?x3xf32, #graph.shape<["n"]>>) -> tensor<?x3xf32, #graph.shape<["n"]>>
    func.return %y : tensor<?x3xf32, #graph.shape<["n"]>>
  }
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder; code of others, which other tests may have brought, is forgotten."""
    monkeypatch.setenv("STEPWELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(origins, "_others", set())
    monkeypatch.setattr(code, "fingerprint", lambda: "this code")
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(product(), tmp_path / "product.onnx")
    return tmp_path / "product.onnx"


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "models").glob("*.well"))


def expected(x: Any = X, scale: float = 1.0) -> Any:
    return stepwell.compile(product(scale), cache=False)(x)


def changed(path: Path, change: Callable[[bytearray], None]) -> None:
    """Another file of that name: to change one in place would change what models have mapped."""
    data = bytearray(path.read_bytes())
    change(data)
    path.unlink()
    path.write_bytes(data)


# Sources


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text of a path": str,
    "bytes": lambda path: path.read_bytes(),
    "memory": lambda path: memoryview(path.read_bytes()),
    "ModelProto": onnx.load,
    "file object": lambda path: BytesIO(path.read_bytes()),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_second_compilation_is_reading_a_file(kind: str, path: Path, folder: Path) -> None:
    first, second = (stepwell.compile(SOURCES[kind](path)) for _ in range(2))
    assert (first.is_from_cache, second.is_from_cache) == (False, True)
    assert repr(first) == repr(second) and (first.inputs, first.outputs) == (second.inputs, second.outputs)
    for x in (X, X[:1], X[:0]):
        assert first(x).tobytes() == second(x).tobytes() == expected(x).tobytes()


def test_ir_in_text_is_kept_and_a_module_is_not(folder: Path, tmp_path: Path) -> None:
    x = np.array([[-1, 0, 2]], np.float32)
    (tmp_path / "relu.mlir").write_text(TEXT)
    for source, found in [(TEXT, True), (tmp_path / "relu.mlir", True), (parse_module(TEXT), False)]:
        models = [stepwell.compile(source) for _ in range(2)]
        assert [model.is_from_cache for model in models] == [False, found]
        assert [model(x).tolist() for model in models] == [[[0, 0, 2]]] * 2


def test_a_state_is_kept_as_well(folder: Path) -> None:
    source = onnx_model([helper.make_node("Add", ["s", "x"], ["t"])],
                        {"s": (F, [3]), "x": (F, [3])}, {"t": (F, [3])})  # fmt: skip
    for found in (False, True):
        model = stepwell.compile(source, state={"s": "t"})
        assert model.is_from_cache is found
        state = model.new_state()
        for _ in range(3):
            model(np.ones(3, np.float32), state=state)
        assert state.arrays()["s"].tolist() == [3, 3, 3]


# What tells models apart


def key(source: Any, **options: Any) -> str:
    place = cache.place_of(open_source(source), Request(**options))
    assert place is not None
    return place.key


def test_the_key_tells_apart_all_that_decides(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"x": "y"}
    keys = [
        key(path), key(path, sanitize=True), key(path, target="x86-64"), key(path, target="x86-64-v3"),
        key(path, shapes={"batch": 5}), key(path, shapes={"batch": 4}), key(path, shapes={"x": [5, 96]}),
        key(path, shapes={"batch": (1, 5, 9)}), key(path, state=state), key(path, state=state, capacity=4),
        key(path, state=state, capacity={"batch": 4}), key(path, precision="f16"), key(path.read_bytes()),
        key(product(2)), key(TEXT), key(TEXT + "\n"),
    ]  # fmt: skip
    onnx.save(product(2), path)
    keys.append(key(path))
    keys.append(key(path.rename(path.with_name("other.onnx"))))
    monkeypatch.setenv("STEPWELL_SWITCH", "1")
    keys.append(key(path.with_name("other.onnx")))
    monkeypatch.setattr(code, "fingerprint", lambda: "other code")
    keys.append(key(path.with_name("other.onnx")))
    assert len(set(keys)) == len(keys)


def test_the_key_is_the_same_where_nothing_differs(folder: Path, path: Path) -> None:
    assert key(path) == key(str(path)) == key(path, shapes=None)
    assert key(path, shapes={"batch": (1, 5, 9)}) == key(path, shapes={"batch": [1, 5, 9]})


def test_tuned_schedules_count_by_what_their_file_has(folder: Path, path: Path, tmp_path: Path) -> None:
    tuned = [tmp_path / name for name in ("a.json", "b.json")]
    for file in tuned:
        TuneFile(file).write()
    assert key(path, tuned=str(tuned[0])) != key(path)
    before = key(path, tuned=str(tuned[0]))
    assert before == key(path, tuned=str(tuned[1]))
    tuned[0].write_text(tuned[0].read_text() + " ")
    assert key(path, tuned=str(tuned[0])) != before
    assert cache.place_of(open_source(path), Request(tuned=str(tmp_path / "missing.json"))) is None
    with pytest.raises(TuningError, match="cannot be read"):
        stepwell.compile(path, tuned=tmp_path / "missing.json")


def test_what_is_not_kept(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_kept(**options: Any) -> bool:
        return True in [stepwell.compile(path, **options).is_from_cache for _ in range(2)]

    assert not is_kept(cache=False)
    with monkeypatch.context() as patch:
        patch.setenv("STEPWELL_CACHE", "off")
        assert not is_kept()
    with monkeypatch.context() as patch:
        patch.setattr(code, "fingerprint", lambda: None)
        assert not is_kept()
    with monkeypatch.context() as patch:
        patch.setattr(origins, "_others", {"a_plug_in"})
        assert not is_kept()
    assert not entries(folder)
    assert is_kept()


@pytest.mark.parametrize("value", [1.5, b"x", {1: 2}, np.int64(5), object()])
def test_options_that_nobody_knows_are_no_part_of_a_key(value: Any) -> None:
    with pytest.raises(cache.NotPlain):
        cache.plain({"shapes": [value]})


def test_code_of_others_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    from stepwell.frontends.onnx.registry import RuleTable
    from stepwell.ir.conversion import Rule
    from stepwell.ir.registry import Dialect, Registry
    from stepwell.ir.rewrite import Pattern

    class Theirs:
        name = "theirs.op"

    def theirs(*args: Any) -> bool:
        return False

    joins: list[Callable[[], Any]] = [
        lambda: RuleTable().add("", "Odd", 1, theirs), lambda: Rule(Theirs, theirs),  # type: ignore[arg-type]
        lambda: Pattern("p", None, theirs), lambda: Registry()._add(Dialect("theirs", ops=[Theirs])),
    ]  # fmt: skip
    for join in joins:
        monkeypatch.setattr(origins, "_others", set())
        join()
        assert origins.others() == {__name__}
    monkeypatch.setattr(origins, "_others", set())
    Pattern("p", None, expected_of_ours())
    assert not origins.others()


def expected_of_ours() -> Any:
    from stepwell.lowering.graph.simplify import all_patterns

    return all_patterns()[0].apply


def test_a_plugin_turns_the_cache_of_models_off(path: Path, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("")
    script = (
        "import sys, stepwell\n"
        "first = [stepwell.compile(sys.argv[1]).is_from_cache for _ in range(2)]\n"
        "stepwell.load_plugin(sys.argv[2])\n"
        "print(*first, stepwell.compile(sys.argv[1]).is_from_cache)\n"
    )
    done = in_process(script, tmp_path / "cache", path, tmp_path / "plugin.py")
    assert done.stdout == "False True False\n", done.stderr


def in_process(script: str, folder: Path, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STEPWELL_CACHE": str(folder)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


# Other files


def with_external_data(folder: Path, scale: float = 1.0) -> Path:
    path = folder / "model.onnx"
    for old in (path, folder / "weights.bin"):
        old.unlink(missing_ok=True)
    onnx.save(product(scale), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_external_data_count(folder: Path, tmp_path: Path) -> None:
    def compiled(scale: float) -> Any:
        model = stepwell.compile(with_external_data(tmp_path, scale))
        assert model(X).tobytes() == expected(scale=scale).tobytes()
        return model.is_from_cache

    assert [compiled(1), compiled(1), compiled(2), compiled(2), compiled(1)] == [False, True, False, True, True]


def test_a_missing_external_file_is_the_same_error(folder: Path, tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    stepwell.compile(path)
    (tmp_path / "weights.bin").rename(tmp_path / "elsewhere.bin")
    errors = []
    for cached in (True, False):
        with pytest.raises(ModelError) as raised:
            stepwell.compile(path, cache=cached)
        errors.append(str(raised.value))
    assert errors[0] == errors[1] and "weights.bin" in errors[0]


def test_a_link_out_of_the_folder_is_refused_from_the_cache_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = with_external_data(tmp_path / "in")
    stepwell.compile(path)
    (tmp_path / "in" / "weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "in" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="is a link out of the model's folder"):
        stepwell.compile(path)


@pytest.mark.parametrize("change", [lambda data: data.clear(), lambda data: data.reverse(), lambda data: data.pop()])
def test_a_damaged_list_of_files_is_a_miss(folder: Path, tmp_path: Path, change: Any) -> None:
    path = with_external_data(tmp_path)
    stepwell.compile(path)
    (listed,) = (folder / "models").glob("*.files")
    changed(listed, change)
    assert [stepwell.compile(path).is_from_cache for _ in range(2)] == [False, True]


def test_weights_of_ir_count(folder: Path, tmp_path: Path) -> None:
    onnx.save(product(), tmp_path / "p.onnx")
    assert cli.main(["--to", "graph", "-o", str(tmp_path / "p.mlir"), str(tmp_path / "p.onnx")]) == 0
    assert [stepwell.compile(tmp_path / "p.mlir").is_from_cache for _ in range(2)] == [False, True]
    changed(tmp_path / "p.mlir.weights.bin", lambda data: data.__setitem__(7, data[7] ^ 1))
    with pytest.raises(StepwellError, match="was changed or is another model's"):
        stepwell.compile(tmp_path / "p.mlir")


# The way down


def test_what_needs_ir_is_made_from_the_source(folder: Path, path: Path) -> None:
    first, second = stepwell.compile(path), stepwell.compile(path)
    path.unlink()
    assert second.is_from_cache
    assert second.run({"x": X}, fetch=["p"])["p"].tobytes() == first.run({"x": X}, fetch=["p"])["p"].tobytes()
    assert list(map(str, second.context.remarks)) == list(map(str, first.context.remarks))
    assert second.context.statistics == first.context.statistics
    rows = [model.profile({"x": X}, 0.01).rows for model in (first, second)]
    assert {row.kernel: row.nodes for row in rows[0]} == {row.kernel: row.nodes for row in rows[1]}
    with pytest.raises(InputError, match="no value named 'q'"):
        second.run({"x": X}, fetch=["q"])


def test_a_model_that_is_changed_afterwards_is_still_what_was_compiled(folder: Path) -> None:
    proto = product()
    models = [stepwell.compile(proto) for _ in range(2)]
    proto.graph.node[1].op_type = "Neg"
    for model in models:
        assert (model.run({"x": X}, fetch=["p"])["y"] >= 0).all()


def test_a_file_that_is_written_to_in_place_is_no_source_any_more(folder: Path, path: Path) -> None:
    stepwell.compile(path)
    model = stepwell.compile(path)
    before = model(X)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    assert model(X).tobytes() == before.tobytes()
    with pytest.raises(ModelError, match=r"product\.onnx was changed in place since it was compiled"):
        model.run({"x": X}, fetch=["p"])


def test_a_source_that_changes_while_it_is_compiled_is_not_kept(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cache.place_of(open_source(path), Request())
    assert place is not None
    place.settle()
    executable = stepwell.compile(path, cache=False).executable()
    with path.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"\1")
    place.keep(executable)
    assert not entries(folder)


def test_errors_are_the_same(folder: Path) -> None:
    source = onnx_model([helper.make_node("Gather", ["x", "i"], ["y"], "Pick")],
                        {"x": (F, ["n", 2]), "i": (I64, ["k"])}, {"y": (F, ["k", 2])})  # fmt: skip
    models = [stepwell.compile(source) for _ in range(2)]
    assert models[1].is_from_cache
    x, messages = np.ones((3, 2), np.float32), []
    for model in models:
        for arrays in ([x, np.array([7])], [x, np.array([1], np.int32)], [x[0], np.array([1])], [x]):
            with pytest.raises(StepwellError) as raised:
                model(*arrays)
            messages.append((type(raised.value), str(raised.value)))
    assert messages[:4] == messages[4:] and "Pick" in messages[0][1]


def test_options_are_checked(folder: Path, path: Path) -> None:
    stepwell.compile(path)
    for options in ({"threads": 0}, {"precision": "f1"}, {"target": "pdp11"}):
        messages = []
        for cached in (True, False):
            with pytest.raises(TargetError) as raised:
                stepwell.compile(path, cache=cached, **options)
            messages.append(str(raised.value))
        assert messages[0] == messages[1]
    with pytest.raises(StepwellError, match=r"shapes: .3, 2, 1. is not"):
        stepwell.compile(path, shapes={"batch": (3, 2, 1)})


def test_threads_are_not_part_of_what_is_known(folder: Path, path: Path) -> None:
    models = [stepwell.compile(path, threads=threads) for threads in (2, 1, None)]
    assert [model.is_from_cache for model in models] == [False, True, True]
    assert len({model(X).tobytes() for model in models}) == 1


def test_a_cached_model_is_saved_like_any_other(folder: Path, path: Path, tmp_path: Path) -> None:
    for name in ("first.well", "second.well"):
        stepwell.compile(path).save(tmp_path / name)
    assert (tmp_path / "first.well").read_bytes() == (tmp_path / "second.well").read_bytes()


# Damage


def test_damage_anywhere_never_shows(folder: Path, path: Path) -> None:
    wanted = stepwell.compile(path)(X)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    places = [0, 9, 13, 20, 40, 70, 90, *(whole.index(s.data.tobytes()) + 3 for s in Container.open(entry).sections)]
    cases = [whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :] for at in places]
    cases += [b"", whole[:10], whole[:100], whole[:-1], whole + b"\0", b"\0" * len(whole), b"PK" + whole[2:]]
    for case in cases:
        entry.unlink()
        entry.write_bytes(case)
        assert stepwell.compile(path)(X).tobytes() == wanted.tobytes()
        stepwell.compile(path, threads=1)(X[:1])  # what the first call finds is removed
        assert stepwell.compile(path).is_from_cache and entry.read_bytes() == whole


def test_damaged_weights_are_made_anew_at_the_first_call(folder: Path, path: Path, tmp_path: Path) -> None:
    wanted = stepwell.compile(path)(X)
    (entry,) = entries(folder)
    constant = Container.open(entry).all("constant")[0].data.tobytes()
    changed(entry, lambda data: data.__setitem__(bytes(data).index(constant) + 5, 99))
    model, other, third = (stepwell.compile(path) for _ in range(3))
    assert model.is_from_cache
    assert [model(X).tobytes() for _ in range(2)] == [wanted.tobytes()] * 2
    assert not entries(folder)
    other.save(tmp_path / "other.well")
    assert stepwell.load(tmp_path / "other.well")(X).tobytes() == wanted.tobytes()
    path.write_bytes(b"")
    with pytest.raises((ModelError, EngineError)):
        third(X)


def test_an_entry_under_another_name_is_a_miss(folder: Path, path: Path) -> None:
    stepwell.compile(path)
    stepwell.compile(product(2))
    one, two = entries(folder)
    first, second = one.read_bytes(), two.read_bytes()
    for entry, other in ((one, second), (two, first)):
        entry.unlink()
        entry.write_bytes(other)
    model = stepwell.compile(path)
    assert not model.is_from_cache and model(X).tobytes() == expected().tobytes()


def test_links_are_not_followed(folder: Path, path: Path, tmp_path: Path) -> None:
    stepwell.compile(path)
    (entry,) = entries(folder)
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    assert not stepwell.compile(path).is_from_cache


# The folder


def test_the_folder_stays_within_its_size(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_CACHE_MIB", "1")
    large = onnx_model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (F, [1])}, {"y": (F, [1 << 18])},
                       w=RANDOM.standard_normal(1 << 18).astype(np.float32))  # fmt: skip
    assert True not in [stepwell.compile(large).is_from_cache for _ in range(2)]
    count = 0
    for scale in range(1, 40):
        stepwell.compile(product(scale), threads=1)
        sizes = [entry.stat().st_size for entry in entries(folder)]
        assert sum(sizes) <= 7 << 17
        if len(sizes) <= count:
            break
        count = len(sizes)
        for number, entry in enumerate(entries(folder)):
            os.utime(entry, (time.time() - 100 + number,) * 2)
    else:
        pytest.fail("nothing was ever dropped")


def test_half_of_the_free_disk_stays_free(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.engine.folder.PrivateFolder.free_bytes", lambda self: 10_000)
    assert True not in [stepwell.compile(path).is_from_cache for _ in range(2)]


COMPILE = """
import sys, numpy as np, stepwell
model = stepwell.compile(sys.argv[1], threads=1)
np.save(sys.argv[2], model(np.load(sys.argv[3])))
print(model.is_from_cache)
"""


@pytest.fixture
def arguments(path: Path, tmp_path: Path) -> list[Path]:
    np.save(tmp_path / "x.npy", X)
    return [path, tmp_path / "y.npy", tmp_path / "x.npy"]


def test_another_process_finds_it(folder: Path, arguments: list[Path]) -> None:
    for found in ("False\n", "True\n"):
        done = in_process(COMPILE, folder, *arguments)
        assert done.stdout == found, done.stderr
        assert np.load(arguments[1]).tobytes() == expected().tobytes()


def test_several_processes_at_once(folder: Path, arguments: list[Path], tmp_path: Path) -> None:
    environment = {**os.environ, "STEPWELL_CACHE": str(folder)}
    outputs = [tmp_path / f"y{number}.npy" for number in range(4)]
    running = [
        subprocess.Popen([sys.executable, "-c", COMPILE, arguments[0], output, arguments[2]], env=environment,
                         stdout=subprocess.PIPE)
        for output in outputs
    ]  # fmt: skip
    assert [process.wait() for process in running] == [0] * 4
    assert {np.load(output).tobytes() for output in outputs} == {expected().tobytes()}
    assert len(entries(folder)) == 1 and not list(folder.rglob("*.part"))


def test_a_full_disk_keeps_nothing_and_shows_nothing(folder: Path, arguments: list[Path]) -> None:
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
    done = in_process(limit + COMPILE, folder, *arguments)
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert not entries(folder) and not list(folder.rglob("*.part"))
    assert np.load(arguments[1]).tobytes() == expected().tobytes()


def test_a_killed_writer_leaves_nothing_that_is_read(folder: Path, arguments: list[Path]) -> None:
    kill = (
        "import os, signal\nfrom stepwell.engine import cache\n"
        "def half(file, sections):\n"
        "    file.write(b'half of it'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "cache.write_sections = half\n"
    )
    assert in_process(kill + COMPILE, folder, *arguments).returncode == -signal.SIGKILL
    assert not entries(folder) and len(list(folder.rglob("models/*.part"))) == 1
    assert [in_process(COMPILE, folder, *arguments).stdout for _ in range(2)] == ["False\n", "True\n"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(folder: Path, arguments: list[Path]) -> None:
    in_process(COMPILE, folder, *arguments)
    for name in (folder, *folder.iterdir()):
        name.chmod(0o500)
    assert in_process(COMPILE, folder, *arguments).stdout == "True\n"


def test_a_folder_that_is_a_file(folder: Path, arguments: list[Path]) -> None:
    folder.write_text("")
    done = in_process(COMPILE, folder, *arguments)
    assert done.stdout == "False\n" and "compiled code is not cached" in done.stderr


def test_a_shelf_that_is_a_file(folder: Path, path: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "models").write_text("")
    assert True not in [stepwell.compile(path).is_from_cache for _ in range(2)]


# The command


def test_the_command_says_where_a_model_came_from(folder: Path, path: Path, tmp_path: Path, capsys: Any) -> None:
    def said(*arguments: str) -> tuple[str, str]:
        assert cli.main([*arguments, str(path)]) == 0
        said = capsys.readouterr()
        return said.out, said.err

    assert "cache: the compiled model is not there" in said("--report")[0]
    first, timing = said("--run", "--timing")
    assert "(backend)" in timing
    assert "cache: the compiled model is there" in said("--report")[0]
    second, timing = said("--run", "--timing")
    assert first == second and "(model from the cache)" in timing and "vectorize" not in timing
    assert "vectorize" in said("--run", "--timing", "--no-cache")[1]
    assert "func.func" in said("--run", "--print-after=vectorize")[1]
    said("--to", "engine", "-o", str(tmp_path / "a.well"))
    said("--to", "engine", "-o", str(tmp_path / "b.well"), "--no-cache")
    assert (tmp_path / "a.well").read_bytes() == (tmp_path / "b.well").read_bytes()
