"""The `lower` command: what goes to stdout, to stderr, to files, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwell import cli
from stepwell.ir.parser import parse_module
from stepwell.ir.resources import read_module

pytestmark = pytest.mark.usefixtures("interpreting_backend")

F = 'tensor<?x3xf32, #graph.shape<["batch"]>>'
GRAPH = f"""builtin.module {{
  func.func @main(%x: {F} {{onnx.name = "x"}}) -> ({F} {{onnx.name = "y"}}) {{
    %w = graph.constant dense<{[1.0] * 3}> : tensor<3xf32>
    %k = graph.constant dense_resource<k> : tensor<64xf32>
    %a = graph.add %x, %w {{onnx.outputs = ["sum"]}} : ({F}, tensor<3xf32>) -> {F} loc("Add_0")
    %b = graph.relu %a {{onnx.outputs = ["y"]}} : ({F}) -> {F} loc("Relu_1")
    func.return %b : {F}
  }}
}}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.mlir"
    path.write_text("\n".join(line for line in GRAPH.splitlines() if "dense_resource" not in line))
    return path


@pytest.fixture
def weighted(tmp_path: Path) -> Path:
    """A model with a constant outside the text."""
    path = tmp_path / "weighted.mlir"
    text = GRAPH.replace("graph.relu %a", "graph.relu %a").replace(
        "    func.return", "    %s = graph.sigmoid %k : (tensor<64xf32>) -> tensor<64xf32>\n    func.return"
    ).replace("func.return %b : " + F, f"func.return %b, %s : {F}, tensor<64xf32>").replace(
        '(' + F + ' {onnx.name = "y"})', f'({F} {{onnx.name = "y"}}, tensor<64xf32>)')  # fmt: skip
    from stepwell.ir.blobs import Blob
    from stepwell.ir.resources import WeightsFile, module_text

    module = parse_module(text, resources={"k": Blob("k", np.linspace(-1, 1, 64, dtype=np.float32))})
    path.write_text(module_text(module, WeightsFile(tmp_path / "weights.bin")))
    return path


def lower(*words: Any) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize(
    ("landing", "inside", "outside"),
    [("graph", "graph.relu", "tensor."), ("tensor", "tensor.kernel", "graph."), ("loop", "kernel.launch", "tensor.")],
)
def test_stopping_at_landings(
    model: Path, capsys: pytest.CaptureFixture[str], landing: str, inside: str, outside: str
) -> None:
    assert lower("--to", landing, model) == 0
    shown = capsys.readouterr()
    assert inside in shown.out
    assert f" {outside}" not in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("landing", ["graph", "tensor", "loop"])
def test_strict_precision_is_written_in_the_ir(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, landing: str
) -> None:
    dump = tmp_path / "strict.mlir"
    assert lower("--precision", "strict", "--to", landing, "-o", dump, model) == 0
    assert lower("--from-ir", dump, "--to", "loop") == 0
    assert 'sw.precision = "strict"' in capsys.readouterr().out


def test_strict_precision_below_the_kernels_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert lower("--to", "tensor", "-o", tmp_path / "plain.mlir", model) == 0
    assert lower("--precision", "strict", "--from-ir", tmp_path / "plain.mlir") == 1
    assert "it has to be asked for above them" in capsys.readouterr().err


def test_the_lowest_ir_is_the_default(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower(model) == 0
    assert capsys.readouterr().out.startswith("define void")


def test_going_on_from_any_dump(weighted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--to", "loop", "--dump-dir", tmp_path / "dump", weighted) == 0
    straight = capsys.readouterr().out
    dumps = sorted((tmp_path / "dump").glob("*.mlir"))
    assert dumps[0].name == "00.graph.input.mlir"
    assert (tmp_path / "dump" / "weights.bin").stat().st_size >= 256
    for path in dumps:
        assert lower("--to", "loop", "--from-ir", path) == 0, path
        assert capsys.readouterr().out.count("kernel.launch") == straight.count("kernel.launch"), path


def test_a_dash_is_stdout(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--to", "graph", model) == 0
    plain = capsys.readouterr().out
    assert lower("--to", "graph", "-o", "-", model) == 0
    assert capsys.readouterr().out == plain != ""


def test_results_in_files_load_again(weighted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mlir"
    assert lower("--to", "graph", "-o", out, weighted) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "out.mlir.weights.bin").exists()
    assert "Add_0" in [op.loc.label for op in read_module(out).walk()]


def test_printing_goes_to_stderr(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--to", "tensor", "--print-after", "to-tensor", "--print-before", "fuse", "--generic", model) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if line.startswith("//")] == [
        "// ----- after to-tensor -----", "// ----- before fuse -----",
    ]  # fmt: skip
    assert '"tensor.generic"(' in shown.err
    assert '"tensor.kernel"(' in shown.out


def test_changes_times_and_remarks(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--to", "tensor", "--print-changed", "--timing", "--remarks", "--verify-each", model) == 0
    shown = capsys.readouterr().err
    assert "// ----- to-tensor changed -----\n--- before\n+++ after\n" in shown
    assert "// ----- dce changed nothing -----" in shown
    assert " ms  in all\n" in shown


def test_a_pipeline_of_ones_own(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--pipeline", "graph(canonicalize),to-tensor", model) == 0
    assert "tensor.generic" in capsys.readouterr().out


def test_running_with_made_up_and_given_inputs(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--run", "--shapes", "batch=1,2,8", model) == 0
    assert capsys.readouterr().out.startswith("y: float32[2, 3]\n")
    np.savez(tmp_path / "in.npz", x=np.array([[-3, 1, 2]], np.float32))
    assert lower("--run", "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz", model) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["y"], [[0, 2, 3]])


@pytest.mark.parametrize(
    ("to", "inside"), [("graph", "graph.relu"), ("tensor", "tensor.kernel"), ("loop", "kernel.launch"),
                       ("llvm", "define void"), ("onnx", "Relu")],
)  # fmt: skip
@pytest.mark.parametrize("action", ["--run", "--check-each", "--report"])
def test_a_result_and_actions(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, inside: str, action: str
) -> None:
    """The file is that of the command without the action, and the action says what it says without the file."""
    plain, both = tmp_path / "plain" / "out", tmp_path / "both" / "out"
    for path in (plain, both):
        path.parent.mkdir()
    assert lower("--to", to, "-o", plain, model) == 0 and inside in plain.read_bytes().decode(errors="replace")
    assert lower("--to", to, "-o", both, action, model) == 0
    assert both.read_bytes() == plain.read_bytes()
    shown = {"--run": "y: float32[4, 3]", "--check-each": "no pass changed a result", "--report": "input   x: float32"}
    assert shown[action] in capsys.readouterr().out


def test_actions_stand_in_place_of_what_would_be_printed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--to", "graph", "--run", "--check-each", model) == 0
    shown = capsys.readouterr().out
    assert shown.index("no pass changed a result") < shown.index("y: float32[4, 3]") and "graph.relu" not in shown


def test_a_result_is_there_before_a_call_fails(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lower("--to", "graph", "-o", tmp_path / "out", "--run", "--inputs", "missing.npz", model) == 1
    assert "missing.npz" in capsys.readouterr().err and "graph.relu" in (tmp_path / "out").read_text()


def test_a_pipeline_of_ones_own_and_a_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert lower("--pipeline", "graph(canonicalize),to-tensor", "-o", out, "--run", model) == 0
    assert capsys.readouterr().out.startswith("y: float32[4, 3]") and "tensor.generic" in out.read_text()


def test_the_way_is_watched_once(model: Path, tmp_path: Path) -> None:
    dumps = []
    for words in ([], ["--check-each", "--to", "tensor", "-o", tmp_path / "out"]):
        dumps.append(tmp_path / f"dump{len(dumps)}")
        assert lower("--run", "--dump-dir", dumps[-1], *words, model) == 0
    first, second = (sorted(path.name for path in folder.iterdir()) for folder in dumps)
    assert second == first


def test_probing_an_intermediate(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([[-3, 1, 2]], np.float32))
    assert lower("--probe", "sum", "--inputs", tmp_path / "in.npz", model) == 0
    assert capsys.readouterr().out == "sum: float32[1, 3]\n[[-2.  2.  3.]]\n"


def test_probing_shows_what_is_done_on_the_way(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--probe", "sum", "--probe", "x", "--print-after", "fuse", "--timing", model) == 0
    shown = capsys.readouterr()
    assert [line.partition(":")[0] for line in shown.out.splitlines() if ": " in line] == ["sum", "x"]
    assert "// ----- after fuse" in shown.err
    assert "(backend)" in shown.err


def test_probing_below_the_graph_landing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lower("--to", "tensor", "-o", tmp_path / "t.mlir", model) == 0
    assert lower("--probe", "sum", tmp_path / "t.mlir") == 1
    assert "sum: intermediates can be had of models that enter at the graph landing only" in capsys.readouterr().err


def test_checking_each_pass(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--check-each", model) == 0
    assert capsys.readouterr().out.endswith("no pass changed a result\n")


def test_the_report(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--report", model) == 0
    shown = capsys.readouterr().out
    assert "input   x: float32[batch, 3]\noutput  y: float32[batch, 3]\nkernels: 1 launches of 1 functions\n" in shown
    assert "\nteam: in a run 1 barriers, 1 launches, 0 of them on one thread\n" in shown
    assert "arena: 0 bytes" in shown


def test_timing_calls(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.show.BENCH_SECONDS", 0.0)
    assert lower("--bench", model) == 0
    call, roofs, head, *rows = capsys.readouterr().out.splitlines()
    assert call.startswith("median ")
    assert call.endswith(" calls")
    assert " GFLOP/s in f32 and read in GB/s: L1 " in roofs
    assert " ".join(head.split()) == "kernel launches ms share GFLOP/s GB/s MB threads limit of it nodes"
    assert any(row.startswith("k_") and "Add_0" in row and "Relu_1" in row for row in rows)


def test_profiles_become_files(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwell.show.BENCH_SECONDS", 0.0)
    page, trace = tmp_path / "profile.html", tmp_path / "trace.json"
    assert lower("--html", page, "--trace", trace, model) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("kernel ")
    html = page.read_text(encoding="utf-8")
    assert f"<h1>Profile of {model.name}</h1>" in html and "Add_0" in html and "<dt>LLVM</dt>" in html
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    assert any("Add_0" in event["name"] for event in events)
    assert lower("--html", tmp_path / "missing" / "profile.html", model) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_objects_become_a_library(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.a"
    assert lower("--to", "obj", "-o", out, model) == 0
    data = out.read_bytes()
    assert data.startswith(b"!<arch>\n0.o/ ")
    assert data.index(b"\x7fELF") == 8 + 60
    assert data.endswith(b"odd\n")


def test_the_graph_goes_back_to_onnx(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "optimised.onnx"
    assert lower("--to", "onnx", "-o", out, model) == 0
    assert lower("--run", out) == 0
    assert capsys.readouterr().out.startswith("y: float32[4, 3]\n")


def test_host_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert lower("--host") == 0
    assert "threads: " in capsys.readouterr().out
    assert lower("--passes") == 0
    assert "outline: Make one function per kernel" in capsys.readouterr().out


PLUGIN = """
import attrs
from stepwell.dialects.graph.elementwise import NegOp, ReluOp
from stepwell.errors import PassError
from stepwell.ir.passes import Pass
from stepwell.lowering.pipeline import register_pass

@register_pass
@attrs.frozen
class Negate(Pass):
    name = "negate-PLACE"
    def run(self, module, context):
        for op in list(module.walk_of(ReluOp)):
            made = NegOp(op.x, loc=op.loc)
            op.parent.insert_before(op, made)
            op.replace_with(made.results)

@register_pass
@attrs.frozen
class Fail(Pass):
    name = "fail-PLACE"
    def run(self, module, context):
        raise PassError("no luck")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """(a file that brings two passes, what their names end with)."""
    monkeypatch.setattr("stepwell.lowering.pipeline._plugins", {})
    path = tmp_path / f"passes_{tmp_path.name}.py"
    path.write_text(PLUGIN.replace("PLACE", tmp_path.name))
    return path, tmp_path.name


def test_a_plugin_brings_a_pass(model: Path, plugin: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, end = plugin
    assert lower("--load", path, "--pipeline", f"negate-{end}", model) == 0
    assert "graph.neg" in capsys.readouterr().out


def test_a_wrong_pass_is_found(model: Path, plugin: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, end = plugin
    assert lower("--load", path, "--check-each", "--pipeline", f"cse,negate-{end}", model) == 1
    shown = capsys.readouterr().out
    assert f"the pass negate-{end} changed a result" in shown
    assert "first at Relu_1: graph.relu became graph.neg" in shown


def test_a_failing_pass_leaves_a_reproducer(
    model: Path, plugin: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, end = plugin
    assert lower("--load", path, "--crash-reproducer", tmp_path / "crash", "--pipeline", f"fail-{end}", model) == 1
    saved = tmp_path / "crash" / f"fail-{end}.mlir"
    assert f"lower: no luck\nnote: what the pass fail-{end} was given is in {saved}" in capsys.readouterr().err
    assert lower("--load", path, "--pipeline", f"fail-{end}", saved) == 1


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "no model given"),
        (["--to", "cellar", "MODEL"], 2, "invalid choice: 'cellar'"),
        (["missing.mlir"], 1, "missing.mlir cannot be read"),
        (["--from-ir", "missing"], 1, "No such file or directory: missing"),
        (["--print-after", "fuze", "MODEL"], 1, "there is no pass fuze"),
        (["--pipeline", "fuze", "MODEL"], 1, "unknown pass 'fuze' in the pipeline:\n  fuze\n  ^"),
        (["--target", "z80", "MODEL"], 1, "unknown CPU target 'z80'"),
        (["--threads", "0", "MODEL"], 1, "at least one"),
        (["--shapes", "batch", "MODEL"], 1, "--shapes batch: expected NAME=SIZE"),
        (["--to", "obj", "MODEL"], 1, "say where they go with -o"),
        (["--to", "onnx", "MODEL"], 1, "say where it goes with -o"),
        (["--run", "--inputs", "missing.npz", "MODEL"], 1, "No such file or directory: missing.npz"),
        (["--probe", "summ", "MODEL"], 1, "no value named 'summ'; close to it: sum"),
        (["--load", "missing.py", "MODEL"], 1, "no such Python file"),
        (["--run", "-o", "OUT", "MODEL"], 1, "-o OUT: say with --to what is written there, besides --run"),
        (["--html", "x", "--report", "-o", "OUT", "MODEL"], 1, "there, besides --report, --profile"),
        (["--probe", "sum", "--to", "graph", "-o", "OUT", "MODEL"], 1, "-o OUT: --probe adds outputs to the model"),
        (["--to", "engine", "--run", "MODEL"], 1, "--to engine makes a file: say where it goes with -o"),
        (["--to", "obj", "--run", "MODEL"], 1, "say where they go with -o"),
        (["--pipeline", "cse", "--to", "tensor", "MODEL"], 1, "says where the way ends: leave out --to tensor"),
        (["--tune", "--tune-file", "t", "--run", "--to", "llvm", "MODEL"], 1, "nothing else: leave out --run, --to"),
        (["--outputs", "x.npz", "MODEL"], 1, "--outputs x.npz: say --run"),
    ],
)
def test_what_goes_wrong(
    model: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    assert lower(*(model if word == "MODEL" else word for word in words)) == status
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_wrong_npz_files(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK nonsense")
    np.savez(tmp_path / "other.npz", v=np.zeros(3))
    for name, message in (("bad", "no .npz file of arrays"), ("other", "has no array for x; it has v")):
        assert lower("--run", "--inputs", tmp_path / f"{name}.npz", model) == 1
        assert message in capsys.readouterr().err


def test_unknown_operations_are_shown(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_text(model.read_text().replace("graph.relu", "graph.no_such_op"))
    assert lower("--to", "loop", model) == 1
    assert "unknown operation 'graph.no_such_op'" in capsys.readouterr().err
