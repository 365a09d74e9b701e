"""Models saved and loaded: the same bits, or a clear error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell.engine.container import PAGE, Container, Section, digest, write
from stepwell.engine.records import Record, to_bytes
from stepwell.errors import EngineError, InputError, StepwellError, TargetError

EXAMPLES = Path(__file__).parents[2] / "examples"


def onnx_model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **weights: Any) -> Any:
    ports = [[helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in given.items()]
             for given in (inputs, outputs)]  # fmt: skip
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", *ports, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


F, I64, BF16 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BFLOAT16
RANDOM = np.random.default_rng(0)
PRODUCT = onnx_model(
    [helper.make_node("MatMul", ["x", "w"], ["p"], "Product"), helper.make_node("Relu", ["p"], ["y"], "Relu")],
    {"x": (F, ["batch", 96])}, {"y": (F, ["batch", 64])}, w=RANDOM.standard_normal((96, 64)).astype(np.float32),
)  # fmt: skip
MODELS: dict[str, tuple[Any, list[list[Any]]]] = {
    "dynamic": (PRODUCT, [[RANDOM.standard_normal((n, 96)).astype(np.float32)] for n in (1, 7, 0, 64)]),
    "two symbols": (
        onnx_model([helper.make_node("Concat", ["x", "z"], ["y"], axis=0)],
                   {"x": (F, ["n", 3]), "z": (F, ["m", 3])}, {"y": (F, ["k", 3])}),
        [[np.ones((2, 3), np.float32), np.zeros((5, 3), np.float32)]],
    ),
    "published": (
        onnx_model([helper.make_node("NonZero", ["x"], ["y"])], {"x": (F, ["n", 3])}, {"y": (I64, [2, "found"])}),
        [[np.array([[0, 1, 2], [3, 0, 0]], np.float32)]],
    ),
    "bfloat16": (
        onnx_model([helper.make_node("Cast", ["x"], ["y"], to=BF16)], {"x": (F, ["n"])}, {"y": (BF16, ["n"])}),
        [[np.linspace(-3, 3, 17, dtype=np.float32)]],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "digits.well"
    stepwell.compile(EXAMPLES / "digits_mlp.onnx").save(path)
    return path


@pytest.fixture(scope="module")
def images() -> Any:
    return np.load(EXAMPLES / "digits_images.npy")[:20].reshape(20, 64).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("verify", ["call", "load", "never"])
def test_a_loaded_model_gives_the_same_bits(name: str, verify: str, tmp_path: Path) -> None:
    source, calls = MODELS[name]
    compiled = stepwell.compile(source)
    compiled.save(tmp_path / "model.well")
    loaded = stepwell.load(tmp_path / "model.well", verify=verify)
    assert repr(loaded) == repr(compiled) and loaded.inputs == compiled.inputs and loaded.outputs == compiled.outputs
    for arrays in calls:
        ours, theirs = loaded(*arrays), compiled(*arrays)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


def test_errors_of_a_call_are_the_same(tmp_path: Path) -> None:
    gather = onnx_model(
        [helper.make_node("Gather", ["x", "i"], ["y"], "Pick")],
        {"x": (F, ["n", 2]), "i": (I64, ["k"])}, {"y": (F, ["k", 2])},
    )  # fmt: skip
    compiled = stepwell.compile(gather)
    compiled.save(tmp_path / "model.well")
    messages = []
    for model in (compiled, stepwell.load(tmp_path / "model.well")):
        x = np.ones((3, 2), np.float32)
        for arrays in ([x, np.array([7])], [x, np.array([1], np.int32)], [x[0], np.array([1])]):
            with pytest.raises(StepwellError) as raised:
                model(*arrays)
            messages.append(str(raised.value))
    assert messages[:3] == messages[3:] and "Pick" in messages[0]


def test_a_model_is_saved_alike_each_time_and_again_after_loading(digits: Path, tmp_path: Path) -> None:
    stepwell.compile(EXAMPLES / "digits_mlp.onnx").save(tmp_path / "again.well")
    stepwell.load(digits).save(tmp_path / "loaded.well")
    assert digits.read_bytes() == (tmp_path / "again.well").read_bytes() == (tmp_path / "loaded.well").read_bytes()


def test_constants_stay_in_the_file(tmp_path: Path) -> None:
    stepwell.compile(PRODUCT).save(tmp_path / "model.well")
    executable = stepwell.load(tmp_path / "model.well")._program.executable
    assert [array.ctypes.data % PAGE for array in executable.constants if array.nbytes >= PAGE] == [0]
    assert not any(array.flags.owndata or array.flags.writeable for array in executable.constants)


def test_a_model_can_be_saved_over_while_it_runs(digits: Path, tmp_path: Path, images: Any) -> None:
    path = tmp_path / "model.well"
    path.write_bytes(digits.read_bytes())
    loaded = stepwell.load(path)
    expected = loaded(images)
    loaded.save(path)
    stepwell.compile(PRODUCT).save(path)
    np.testing.assert_array_equal(loaded(images), expected)


def test_it_loads_in_a_process_without_onnx(digits: Path, images: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images)
    code = (
        "import sys, numpy as np, stepwell\n"
        f"y = stepwell.load({str(digits)!r}, threads=1)(np.load({str(tmp_path / 'x.npy')!r}))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, y)\n"
        "print('onnx' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), stepwell.load(digits)(images))


# What a first load imports decides how long it takes.
MOST_MODULES = 80
FOREIGN = {"onnx", "llvmlite", "google", "pathlib", "urllib", "ipaddress", "typing_extensions", "concurrent"}
COMPILING = ("stepwell.lowering", "stepwell.frontends", "stepwell.compiler", "stepwell.sources", "stepwell.ir.passes",
             "stepwell.ir.printer", "stepwell.ir.assembly", "stepwell.ir.builder", "stepwell.ir.rewrite",
             "stepwell.dialects.graph", "stepwell.dialects.tensor", "stepwell.dialects.buffer",
             "stepwell.backends.cpu.emit", "stepwell.engine.cache")  # fmt: skip


def test_a_load_imports_little(digits: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import stepwell\n"
        f"stepwell.load({str(digits)!r})\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    environment = {**os.environ, "STEPWELL_CACHE": str(tmp_path / "cache")}
    for _ in range(2):  # the first one leaves there what LLVM says of this machine
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    found = done.stdout.split()
    own = [name for name in found if name.partition(".")[0] == "stepwell"]
    assert "stepwell.engine.model" in own, done.stderr
    assert len(own) <= MOST_MODULES
    assert [name for name in own if name.startswith(COMPILING)] == []
    assert FOREIGN & {name.partition(".")[0] for name in found} == set()


def test_what_needs_the_ir_is_refused(digits: Path, images: Any) -> None:
    loaded = stepwell.load(digits)
    feeds = {loaded.inputs[0].name: images}
    assert list(loaded.run(feeds, fetch=["image"])) == ["logits", "image"]
    with pytest.raises(InputError, match="hidden: an engine file holds machine code, which has no intermediates"):
        loaded.run(feeds, fetch=["hidden"])
    with pytest.raises(InputError, match="an engine file holds machine code without clocks"):
        loaded.profile(feeds)


def test_an_unknown_way_to_verify_is_refused(digits: Path) -> None:
    with pytest.raises(InputError, match="verify='always': it is one of 'call', 'load', 'never'"):
        stepwell.load(digits, verify="always")


# Files that are not right


def rewritten(path: Path, change: Any) -> None:
    """The file anew, with right checksums, from sections that `change` was given as a dict of lists."""
    kinds: dict[str, list[bytes]] = {}
    for section in Container.open(path).sections:
        kinds.setdefault(section.kind, []).append(section.data.tobytes())
    change(kinds)
    write(path, [Section(kind, data) for kind, parts in kinds.items() for data in parts])


def with_meta(change: Any) -> Any:
    def edit(kinds: dict[str, list[bytes]]) -> None:
        meta = Record.parse(kinds["meta"][0]).fields
        change(meta)
        kinds["meta"] = [to_bytes(meta)]

    return edit


@pytest.mark.parametrize("verify", ["call", "load"])
def test_a_damaged_constant_never_gives_a_result(digits: Path, tmp_path: Path, images: Any, verify: str) -> None:
    path = tmp_path / "model.well"
    data = bytearray(digits.read_bytes())
    constant = Container.open(digits).all("constant")[0].data.tobytes()
    data[bytes(data).index(constant) + 5] ^= 1
    path.write_bytes(data)
    if verify == "load":
        with pytest.raises(EngineError, match=r"damaged .section 'constant' 0"):
            stepwell.load(path, verify=verify)
        return
    loaded = stepwell.load(path, verify=verify)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"damaged .section 'constant' 0"):
            loaded(images)


@pytest.mark.parametrize("kind", ["object", "runtime", "meta"])
def test_damaged_code_and_metadata_are_found_at_the_load(digits: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.well"
    data = bytearray(digits.read_bytes())
    data[bytes(data).index(Container.open(digits).all(kind)[0].data.tobytes()) + 20] ^= 64
    path.write_bytes(data)
    with pytest.raises(EngineError, match=f"damaged .section '{kind}' 0"):
        stepwell.load(path, verify="never")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda k: k.pop("meta"), EngineError, "0 sections 'meta'"),
        (lambda k: k.pop("object"), EngineError, "does not fit"),
        (lambda k: k["constant"].pop(), EngineError, "does not fit"),
        (lambda k: k.pop("runtime"), EngineError, "0 sections 'runtime'"),
        (lambda k: k.update(object=[b"\x7fELF nonsense"]), EngineError, "cannot load an object"),
        (lambda k: k.update(meta=[b"{}"]), EngineError, "metadata.program is no object"),
        (with_meta(lambda m: m["program"].update(abi=99)), EngineError, "expects version 99 of the run time"),
        (with_meta(lambda m: m["program"].update(program="main")), EngineError, "no symbol 'main'"),
        (with_meta(lambda m: m["program"].update(sites=[7])), EngineError, "program.sites.0. is no object"),
        (with_meta(lambda m: m["program"].update(head="func.func @f(")), EngineError, "the head of the program"),
        (with_meta(lambda m: m["program"].update(head="builtin.module {\n}")), EngineError, "is not one function"),
        (with_meta(lambda m: m["program"]["processor"].update(triple="aarch64-unknown-linux-gnu")), TargetError,
         "cannot run on this machine"),
        (with_meta(lambda m: m["program"]["processor"].update(features="+warp9")), TargetError, "lacks warp9"),
    ],
)  # fmt: skip
def test_right_checksums_of_wrong_things(
    digits: Path, tmp_path: Path, change: Any, error: type[StepwellError], message: str
) -> None:
    path = tmp_path / "model.well"
    path.write_bytes(digits.read_bytes())
    rewritten(path, change)
    with pytest.raises(error, match=message) as raised:
        stepwell.load(path)
    assert error is TargetError or "model.well" in str(raised.value)


def test_a_model_without_code_cannot_be_saved(tmp_path: Path) -> None:
    model = stepwell.compile(PRODUCT)
    model._program = object()
    with pytest.raises(EngineError, match="no machine code"):
        model.save(tmp_path / "model.well")


def test_digests_are_blake2b() -> None:
    assert digest(b"")[:4].hex() == "0e5751c0"  # RFC 7693's function with an output of 32 bytes


def test_an_onnx_file_is_no_engine(tmp_path: Path) -> None:
    onnx.save(PRODUCT, tmp_path / "model.onnx")
    with pytest.raises(EngineError, match="is no engine file"):
        stepwell.load(tmp_path / "model.onnx")


def test_the_command_writes_what_the_api_writes(digits: Path, tmp_path: Path, capsys: Any) -> None:
    from stepwell import cli

    source = str(EXAMPLES / "digits_mlp.onnx")
    assert cli.main(["--to", "engine", "-o", str(tmp_path / "digits.well"), source]) == 0
    assert (tmp_path / "digits.well").read_bytes() == digits.read_bytes()
    assert cli.main(["--to", "engine", source]) == 1
    assert "say where it goes with -o" in capsys.readouterr().err


def test_an_engine_for_another_processor_is_made_here_and_refused_here(tmp_path: Path, capsys: Any) -> None:
    from stepwell import cli
    from stepwell.backends.cpu import target

    other = "aarch64" if target.host().arch == "x86_64" else "x86-64"
    path = tmp_path / "digits.well"
    assert cli.main(["--to", "engine", "--target", other, "-o", str(path), str(EXAMPLES / "digits_mlp.onnx")]) == 0
    with pytest.raises(TargetError, match=f"code for {other} .* cannot run on this machine"):
        stepwell.load(path)
