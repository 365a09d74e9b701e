"""What can go wrong while a model runs: arrays and sizes that do not fit, errors in data, threads, forks, Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stepwell
from stepwell import cli
from stepwell.errors import InputError

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


def model(
    op: str, inputs: dict[str, tuple[int, list[Any]]], outputs: int = 1, constants: Any = None, opset: int = 17,
    result: int | None = None, **kw: Any,
) -> Any:  # fmt: skip
    """A model of one node called `op`_0 whose operands are the inputs, then the constants; its results have the element
    type of the first input, or `result`."""
    constants = constants or {}
    names = [f"y{n}" for n in range(outputs)]
    made = helper.make_node(op, [*inputs, *constants], names, f"{op}_0", **kw)
    ports = [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()]
    element = result or next(iter(inputs.values()))[0]
    results = [helper.make_tensor_value_info(name, element, None) for name in names]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph([made], "g", ports, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture(scope="module")
def relu() -> stepwell.Model:
    return stepwell.compile(model("Relu", {"x": (FLOAT, ["n", 3])}))


def misaligned() -> Any:
    made: Any = np.ndarray((4, 3), np.float32, bytearray(49), 1)
    made[:] = np.arange(-6, 6).reshape(4, 3)
    return made


X = np.arange(-6, 6, dtype=np.float32).reshape(4, 3)
READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "x",
    [X, np.asfortranarray(X), X[::-1, ::-1], X[::2], READ_ONLY, misaligned(), X.astype(">f4"), X[:0], X.tolist(),
     np.broadcast_to(X[:1], (5, 3)), np.ma.array(X)],
    ids=["plain", "fortran", "reversed", "strided", "read-only", "misaligned", "swapped", "empty", "list", "broadcast",
         "masked"],
)  # fmt: skip
def test_arrays_of_any_layout_are_taken(relu: stepwell.Model, x: Any) -> None:
    np.testing.assert_array_equal(relu(x), np.maximum(np.asarray(x, np.float32), 0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m(X[0]), r"shape \[n, 3\], not \[3\]"),
        (lambda m: m(X[:, :2]), r"shape \[n, 3\], not \[4, 2\]"),
        (lambda m: m(X.astype(np.float64)), "float64, expected float32"),
        (lambda m: m(X.astype(object)), "object, expected float32"),
        (lambda m: m([[1.0], [1.0, 2.0]]), "cannot be made an array"),
        (lambda m: m(None), "an array of float32: it is None"),
        (lambda m: m(), "0 arrays for 1 inputs"),
        (lambda m: m.run({"q": X}), "no array for input 'x'"),
        (lambda m: m.run([X]), "given by name"),
        (lambda m: m.run({"x": X}, fetch=["z"]), "no value named 'z'"),
    ],
)
def test_arrays_that_do_not_fit(relu: stepwell.Model, call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(relu)


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


ANY = (FLOAT, ["n"]), (FLOAT, ["m"])
MATRICES = {"x": (FLOAT, ["n", "k"]), "z": (FLOAT, ["l", "m"])}
PLACES = np.zeros((3, 3), np.int64)
KERNEL = {"w": np.ones((2, 1, 3, 3), np.float32)}

# name -> (model, arrays that fit, arrays that do not, what is wrong)
SIZES: dict[str, tuple[Any, Any, Any, str]] = {
    "broadcast": (model("Add", {"x": ANY[0], "z": ANY[1]}), [ones(4), ones(1)], [ones(4), ones(3)],
                  r"Add_0 \(graph.add\): sizes n and m do not broadcast \(with m = 3, n = 4\)"),
    "product": (model("MatMul", MATRICES), [ones(2, 3), ones(3, 4)], [ones(2, 3), ones(2, 4)],
                r"MatMul_0 .* sizes k and l differ \(with k = 3, l = 2\)"),
    "concat": (model("Concat", MATRICES, axis=0), [ones(2, 3), ones(1, 3)], [ones(2, 3), ones(1, 4)], "k and m differ"),
    "reshape": (model("Reshape", {"x": ANY[0]}, constants={"s": np.array([-1, 4])}), [ones(8)], [ones(7)],
                r"\(with n = 7\)"),
    "split": (model("Split", {"x": ANY[0]}, 2, {"s": np.array([2, 3])}), [ones(5)], [ones(4)], "sizes 5 and n differ"),
    "whole": (model("Split", {"x": ANY[0]}, 1, {"s": np.array([3])}), [ones(3)], [ones(4)], "sizes 3 and n differ"),
    "places": (model("GatherElements", {"x": (FLOAT, ["n", 3]), "i": (INT64, ["m", 3])}, axis=1),
               [ones(2, 3), PLACES[:2]], [ones(2, 3), PLACES], "m is more than n"),
    "cache": (model("TensorScatter", {"x": (FLOAT, [1, "n", 2]), "u": (FLOAT, [1, "m", 2])}, opset=24),
              [ones(1, 4, 2), ones(1, 3, 2)], [ones(1, 4, 2), ones(1, 5, 2)], "m is more than n"),
    "grid": (model("GridSample", {"x": (FLOAT, [1, 1, "h", "w"]), "g": (FLOAT, [1, 1, 1, "k"])}),
             [ones(1, 1, 2, 2), ones(1, 1, 1, 2)], [ones(1, 1, 2, 2), ones(1, 1, 1, 3)], "sizes k and 2 differ"),
    "affine": (model("AffineGrid", {"t": (FLOAT, [1, "k", "m"])}, constants={"s": np.array([1, 1, 2, 2])}, opset=20),
               [ones(1, 2, 3)], [ones(1, 2, 1)], "columns of theta: sizes m and 3 differ"),
    "boxes": (model("NonMaxSuppression", {"b": (FLOAT, [1, "n", "k"]), "s": (FLOAT, [1, 1, "n"])}, result=INT64),
              [ones(1, 2, 4), ones(1, 1, 2)], [ones(1, 2, 3), ones(1, 1, 2)], "sizes k and 4 differ"),
    "regions": (model("MaxRoiPool", {"x": (FLOAT, [1, 1, 2, 2]), "r": (FLOAT, ["n", "k"])}, pooled_shape=[1, 1]),
                [ones(1, 1, 2, 2), 0 * ones(1, 5)], [ones(1, 1, 2, 2), 0 * ones(1, 4)], "sizes k and 5 differ"),
    "expand": (model("Expand", {"x": ANY[0]}, constants={"s": np.array([6])}), [ones(1)], [ones(3)], "n and 6 do not"),
    "window": (model("Conv", {"x": (FLOAT, ["n", 1, "h", "w"])}, constants=KERNEL), [ones(1, 1, 3, 4)],
               [ones(1, 1, 1, 4)], "size h - 2, below 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_contradict_each_other(name: str) -> None:
    made, right, wrong, words = SIZES[name]
    compiled = stepwell.compile(made)
    compiled(*right)
    for _ in range(2):
        with pytest.raises(InputError, match=words):
            compiled(*wrong)
    compiled(*right)


GATHER = model("Gather", {"x": (FLOAT, [10, 37]), "i": (INT64, ["n"])})
DIVIDE = model("Div", {"a": (INT32, ["n"]), "b": (INT32, ["n"])})
TABLE = np.arange(370, dtype=np.float32).reshape(10, 37)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 16, 1000])
def test_errors_in_the_data(count: int, threads: int) -> None:
    gather, divide = (stepwell.compile(made, threads=threads) for made in (GATHER, DIVIDE))
    places, divisors = np.arange(count) % 20 - 10, np.arange(1, count + 1, dtype=np.int32)
    np.testing.assert_array_equal(gather(TABLE, places), TABLE[places])
    np.testing.assert_array_equal(divide(divisors * 7, divisors), np.full(count, 7))
    places[-1], divisors[count // 2] = -11, 0
    with pytest.raises(stepwell.RuntimeError, match=r"^Gather_0: graph.gather: index out of .* 10 \(value -11\)$"):
        gather(TABLE, places)
    with pytest.raises(stepwell.RuntimeError, match=r"^Div_0: graph.div: division of an integer by zero \(value 5\)$"):
        divide(np.full(count, 5, np.int32), divisors)
    np.testing.assert_array_equal(gather(TABLE, places[:-1]), TABLE[places[:-1]])


def test_the_command_shows_an_error_in_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(GATHER, tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", x=TABLE, i=np.array([3, 10]))
    assert cli.main([str(tmp_path / "m.onnx"), "--run", "--inputs", str(tmp_path / "in.npz")]) == 1
    expected = "lower: Gather_0: graph.gather: index out of range for axis 0 of size 10 (value 10)\n"
    assert capsys.readouterr().err == expected


def test_equal_kernels_name_their_own_nodes() -> None:
    nodes = [helper.make_node("Gather", ["x", name], [f"y_{name}"], f"pick_{name}") for name in "ij"]
    ports = [helper.make_tensor_value_info("x", FLOAT, [10, 37])]
    ports += [helper.make_tensor_value_info(name, INT64, [5]) for name in "ij"]
    results = [helper.make_tensor_value_info(f"y_{name}", FLOAT, None) for name in "ij"]
    graph = helper.make_graph(nodes, "g", ports, results)
    compiled = stepwell.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    good, bad = np.arange(5), np.arange(6, 11)
    for arrays, where in (((bad, good), "pick_i"), ((good, bad), "pick_j")):
        with pytest.raises(stepwell.RuntimeError, match=f"^{where}: "):
            compiled(TABLE, *arrays)


def test_ten_threads_and_two_models() -> None:
    gather, divide = stepwell.compile(GATHER), stepwell.compile(DIVIDE)
    failures: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for round_ in range(30):
            places = random.integers(-10, 10, 200 + round_)
            divisors = random.integers(1, 9, 3000).astype(np.int32)
            if not np.array_equal(gather(TABLE, places), TABLE[places]):
                failures.append(f"gather {seed} {round_}")
            if not np.array_equal(divide(divisors * seed, divisors), np.full(3000, seed)):
                failures.append(f"divide {seed} {round_}")
            places[round_] = 10 + seed
            try:
                gather(TABLE, places)
                failures.append(f"no error {seed} {round_}")
            except stepwell.RuntimeError as error:
                if error.value != 10 + seed:
                    failures.append(f"{error} {seed} {round_}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def run_script(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_fork_between_calls(tmp_path: Path) -> None:
    onnx.save(GATHER, tmp_path / "m.onnx")
    done = run_script(
        """
import os, sys
import numpy as np, stepwell
model = stepwell.compile(sys.argv[1], threads=2)
table, places = np.arange(370, dtype=np.float32).reshape(10, 37), np.arange(4000) % 10
good = lambda: np.array_equal(model(table, places), table[places])
assert good()
child = os.fork()
if child == 0:
    os._exit(0 if good() and good() else 3)
print(good(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        str(tmp_path / "m.onnx"),
    )
    assert done.stdout == "True 0\n", done.stderr


def endless() -> onnx.ModelProto:
    """A loop of 2^40 rounds."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Sin", ["a"], ["b"])], "body",
        [value("n", INT64, []), value("c", TensorProto.BOOL, []), value("a", FLOAT, [64])],
        [value("d", TensorProto.BOOL, []), value("b", FLOAT, [64])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], "Loop_0", body=body)
    rounds = numpy_helper.from_array(np.array(1 << 40), "rounds")
    graph = helper.make_graph([loop], "g", [value("x", FLOAT, [64])], [value("y", FLOAT, [64])], [rounds])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_ctrl_c_ends_a_long_run_of_the_command(tmp_path: Path) -> None:
    onnx.save(endless(), tmp_path / "m.onnx")
    done = run_script(
        """
import os, signal, sys, threading
from stepwell import api, cli
run = api.Model.run
def interrupted(*words, **options):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    return run(*words, **options)
api.Model.run = interrupted
sys.exit(cli.main(["--run", sys.argv[1]]))
""",
        str(tmp_path / "m.onnx"),
    )
    assert (done.returncode, done.stderr) == (130, "lower: interrupted\n")
