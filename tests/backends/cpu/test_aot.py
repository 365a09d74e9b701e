"""Shared libraries: the same bits as the model they are made of, called as C calls them."""

from __future__ import annotations

import ctypes
import errno
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from onnx import TensorProto, helper

import stepwell
from stepwell import cli
from stepwell.backends.cpu import aot, aot_c, llvm, target
from stepwell.errors import EngineError, TargetError

ROOT = Path(__file__).parents[3]
F, I64 = TensorProto.FLOAT, TensorProto.INT64


def has_compiler() -> bool:
    try:
        aot.compiler_for(target.host().arch)
    except EngineError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler (cc, gcc or clang)")


def onnx_model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    ports = [[helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in given.items()]
             for given in (inputs, outputs)]  # fmt: skip
    graph = helper.make_graph(nodes, "small", *ports)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Library:
    """A model's library, through ctypes."""

    def __init__(self, model: Any, folder: Path, name: str = "small") -> None:
        model.save(folder / f"{name}.so")
        self.header = (folder / f"{name}.h").read_text()
        self.prefix, self.model = name, model
        self.library = ctypes.CDLL(str(folder / f"{name}.so"))
        self.function("new").restype = ctypes.c_void_p
        self.function("error").restype = ctypes.c_char_p
        self.handle = ctypes.c_void_p(self.function("new")())
        assert self.handle.value

    def function(self, name: str) -> Any:
        return getattr(self.library, f"{self.prefix}_{name}")

    def run(self, sizes: Sequence[int], inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
        """Call it; the error's text, empty where there is none."""
        held = type("Sizes", (ctypes.Structure,), {"_fields_": [(f"s{i}", ctypes.c_int64) for i in range(len(sizes))]})
        given = [held(*sizes)] if sizes else []
        arrays = [ctypes.c_void_p(array.ctypes.data) for array in (*inputs, *outputs)]
        failed = self.function("run")(self.handle, *given, *arrays)
        text: str = self.function("error")(self.handle).decode()
        assert bool(failed) == bool(text)
        return text


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(stepwell.compile(ROOT / "examples" / "digits_cnn.onnx"), tmp_path_factory.mktemp("so"), "digits_cnn")


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch", [1, 0, 7, 200, 3])
def test_results_have_the_same_bits(digits: Library, batch: int, threads: int) -> None:
    digits.function("set_threads")(ctypes.c_int64(threads))
    images = np.load(ROOT / "examples" / "digits_images.npy")[:batch].reshape(batch, 1, 8, 8).astype(np.float32)
    logits = np.full((batch, 10), np.nan, np.float32)
    assert digits.run([batch], [images], [logits]) == ""
    assert logits.tobytes() == digits.model(images).tobytes()


@needs_compiler
@pytest.mark.parametrize("batch", [-1, 1 << 40, (1 << 31) - 1])
def test_sizes_that_cannot_be_are_refused(digits: Library, batch: int) -> None:
    nothing = np.empty(0, np.float32)
    why = digits.run([batch], [nothing], [nothing])
    assert "the size batch is negative or too large" in why or "memory" in why


@needs_compiler
def test_an_error_names_node_and_value(tmp_path: Path) -> None:
    gather = onnx_model([helper.make_node("Gather", ["x", "i"], ["y"], 'Pick "one"\\')],
                        {"x": (F, [3, 2]), "i": (I64, [2])}, {"y": (F, [2, 2])})  # fmt: skip
    library = Library(stepwell.compile(gather), tmp_path)
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2), np.empty((2, 2), np.float32)
    assert library.run([], [x, np.array([2, -3])], [y]) == "" and y.tolist() == [[4, 5], [0, 1]]
    why = library.run([], [x, np.array([0, 7])], [y])
    assert why.startswith('Pick "one"\\: ') and why.endswith("(value 7)")


@needs_compiler
def test_outputs_whose_sizes_the_data_tell(tmp_path: Path) -> None:
    model = onnx_model([helper.make_node("NonZero", ["x"], ["y"])], {"x": (F, ["n", 3])}, {"y": (I64, [2, "found"])})
    library = Library(stepwell.compile(model), tmp_path)
    assert "typedef struct {\n    const int64_t *data;\n    int64_t dims[2];\n} small_y;" in library.header
    for x in (np.eye(3, dtype=np.float32), np.zeros((5, 3), np.float32), np.ones((40, 3), np.float32)):
        found = np.zeros(3, np.int64)
        assert library.run([len(x)], [x], [found]) == ""
        address, *dims = (int(word) for word in found)
        data = np.array((ctypes.c_int64 * (dims[0] * dims[1])).from_address(address)) if dims[1] else np.empty(0)
        np.testing.assert_array_equal(data.reshape(dims), np.array(np.nonzero(x)))


@needs_compiler
def test_sizes_that_must_fit_together(tmp_path: Path) -> None:
    model = onnx_model(
        [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Add", ["r", "z"], ["y"])],
        {"x": (F, ["n", 4]), "z": (F, ["m", 2])}, {"y": (F, ["k", 2])},
    )  # fmt: skip
    model.graph.initializer.append(helper.make_tensor("shape", I64, [2], [-1, 2]))
    compiled = stepwell.compile(model)
    library = Library(compiled, tmp_path)
    x, z, y = np.ones((3, 4), np.float32), np.ones((6, 2), np.float32), np.empty((6, 2), np.float32)
    assert library.run([3, 6], [x, z], [y]) == "" and y.tobytes() == compiled(x, z).tobytes()
    assert library.run([3, 5], [x, z], [y])


@needs_compiler
def test_any_names_will_do(tmp_path: Path) -> None:
    names = ["float", "a b", "a_b", "*/ evil();", "2x", "größe", "arena", "report"]
    nodes = [helper.make_node("Sum", names, ["args"])]
    inputs = {name: (F, ["int" if number % 2 else "*/", 2]) for number, name in enumerate(names)}
    model = onnx_model(nodes, inputs, {"args": (F, ["int", 2])})
    library = Library(stepwell.compile(model), tmp_path, "_1st")
    declared = ["float_", "a_b", "a_b_", "___evil___", "_2x"]
    assert ", ".join(f"const float *{name}" for name in declared) in library.header
    y = np.empty((3, 2), np.float32)
    arrays = [np.full((3, 2), 1 << number, np.float32) for number in range(len(names))]
    assert library.run([3, 3], arrays, [y]) == "" and y.tolist() == [[255, 255]] * 3


@needs_compiler
def test_several_libraries_in_one_process(tmp_path: Path) -> None:
    nodes = [helper.make_node(op, ["x", "x"], ["y"]) for op in ("Add", "Mul")]
    models = [onnx_model([node], {"x": (F, [4])}, {"y": (F, [4])}) for node in nodes]
    libraries = [Library(stepwell.compile(model), tmp_path, f"m{i}") for i, model in enumerate(models)]
    x, y = np.full(4, 3, np.float32), np.empty(4, np.float32)
    for library, expected in [*zip(libraries, (6, 9), strict=True)] * 2:
        assert library.run([], [x], [y]) == "" and y.tolist() == [expected] * 4


@needs_compiler
def test_the_example_in_c(tmp_path: Path) -> None:
    model = ROOT / "examples" / "digits_mlp.onnx"
    assert cli.main(["--to", "so", "-o", str(tmp_path / "digits_mlp.so"), str(model)]) == 0
    compiler = aot.compiler_for(target.host().arch)
    source = str(ROOT / "examples" / "digits.c")
    made = [*compiler, "-Wall", "-Werror", "-I.", "-o", "digits", source, "./digits_mlp.so"]
    subprocess.run(made, cwd=tmp_path, check=True)
    images = np.load(ROOT / "examples" / "digits_images.npy")[:50].reshape(50, 64).astype(np.float32) / np.float32(16)
    done = subprocess.run(["./digits"], cwd=tmp_path, input=images.tobytes(), capture_output=True, check=True)
    classes = np.asarray(stepwell.compile(model)(images)).argmax(axis=1)
    assert [int(line) for line in done.stdout.split()] == classes.tolist()


@needs_compiler
def test_the_header_is_c_plus_plus_too(digits: Library, tmp_path: Path) -> None:
    (tmp_path / "use.cpp").write_text(digits.header + "int main() { return digits_cnn_new() == nullptr; }\n")
    command = [*aot.compiler_for(target.host().arch), "-x", "c++", "-fsyntax-only", "-Wall", "-Werror", "use.cpp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "cc1plus" in done.stderr:
        pytest.skip("the C compiler has no C++")
    assert done.returncode == 0, done.stderr


# Errors


@pytest.fixture
def small() -> Any:
    return stepwell.compile(onnx_model([helper.make_node("Neg", ["x"], ["y"])], {"x": (F, ["n"])}, {"y": (F, ["n"])}))


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("false", "false -shared .* failed"), ("/no/such/cc --flag", "the C compiler '/no/such/cc' does not run")],
)
def test_compilers_that_do_not_work(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, message: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(EngineError, match=message):
        small.save(tmp_path / "small.so")
    assert list(tmp_path.iterdir()) == []


def made_for(executable: Any, feature: str) -> Any:
    """The same program as if it were made for a processor with a further feature."""
    processor = executable.processor
    return attrs.evolve(executable, processor=processor._replace(features=f"{processor.features},+{feature}"))


@needs_compiler
@pytest.mark.skipif(target.host().arch != "x86_64", reason="x86 features")
def test_a_processor_that_lacks_what_the_code_may_use(small: Any, tmp_path: Path) -> None:
    lacking = next(name for name, on in llvm.binding().get_host_cpu_features().items() if not on)
    aot.write_library(tmp_path / "small.so", made_for(small.executable(), lacking))
    assert ctypes.CDLL(str(tmp_path / "small.so")).small_new() == 0


@needs_compiler
@pytest.mark.skipif(target.host().arch != "x86_64", reason="x86 features")
def test_features_that_nobody_can_ask_for(small: Any, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="that it has warp9"):
        aot.write_library(tmp_path / "small.so", made_for(small.executable(), "warp9"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"by a C compiler, and there is none .* install cc or gcc or clang"):
        small.save(tmp_path / "small.so")


@needs_compiler
def test_a_place_that_cannot_be_written(small: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"small.so cannot be written: No such file"):
        small.save(tmp_path / "no" / "small.so")


@needs_compiler
@pytest.mark.parametrize("name", ["both.h", "link.so"])
def test_a_name_that_is_the_headers(small: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.so").symlink_to("both.h")
    with pytest.raises(EngineError, match=f"{name} is the name of the library's header: end the library's with .so"):
        aot.write_library(tmp_path / name, small.executable())
    assert [path.name for path in tmp_path.iterdir()] == ["link.so"]


@needs_compiler
def test_a_header_that_cannot_be_written_leaves_the_library(small: Any, tmp_path: Path) -> None:
    (tmp_path / "small.so").write_bytes(b"old")
    (tmp_path / "small.h").mkdir()
    with pytest.raises(EngineError, match=r"small.h cannot be written: it is no ordinary file"):
        small.save(tmp_path / "small.so")
    assert (tmp_path / "small.so").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.h", "small.so"]


@needs_compiler
def test_a_folder_of_temporary_files_that_is_full(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", "/scratch")
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(EngineError) as caught:
        small.save(tmp_path / "small.so")
    assert str(caught.value).startswith("/scratch cannot be written: No space left on device; make room there")
    assert str(caught.value).endswith("TMPDIR says where it is") and list(tmp_path.iterdir()) == []


@needs_compiler
def test_a_model_that_keeps_state(tmp_path: Path) -> None:
    model = onnx_model([helper.make_node("Add", ["x", "h"], ["y"])], {"x": (F, [4]), "h": (F, [4])}, {"y": (F, [4])})
    with pytest.raises(EngineError, match="a model that keeps state cannot be a shared library: compile it without"):
        stepwell.compile(model, state={"h": "y"}).save(tmp_path / "small.so")
    assert list(tmp_path.iterdir()) == []


def test_the_command_needs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--to", "so", str(ROOT / "examples" / "digits_mlp.onnx")]) == 1
    assert "--to so makes a file: say where it goes with -o" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['"', "\\", "??/", "größe", "a\nb", "*/", "%s"])
def test_string_literals(text: str) -> None:
    literal = aot_c._string(text)
    assert literal.isascii() and literal.isprintable()
    assert literal[1:-1].encode().decode("unicode_escape").encode("latin-1").decode() == text


