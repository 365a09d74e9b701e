"""How plug-ins get in: as files, as installed packages; and what is said where they cannot."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stepwell.errors import ModelError, StepwellError
from stepwell.ir.registry import REGISTRY, Dialect, Registry
from stepwell.plugins import load_plugin

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "adding-an-op.md"


def file_of_tutorial(name: str) -> str:
    """A file that the tutorial shows."""
    found = re.search(rf"^```python file={re.escape(name)}\n(.*?)^```$", TUTORIAL.read_text(), re.M | re.S)
    assert found is not None
    return found[1]


def run(folder: Path, *command: str) -> str:
    """What a Python process in `folder` prints; the project is on its path, and so is the folder."""
    environment = {"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tutorial's model and, as an installed package, its dialect."""
    (tmp_path / "waves.py").write_text(file_of_tutorial("waves.py"))
    (tmp_path / "make_model.py").write_text(file_of_tutorial("make_model.py"))
    assert run(tmp_path, "make_model.py") == ""
    return tmp_path


def install(folder: Path, entry: str) -> None:
    """Leave behind what pip leaves of a package."""
    info = folder / "waves-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: waves\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stepwell.dialects]\n{entry}\n")


def test_the_tutorial_s_file_is_short() -> None:
    assert len([line for line in file_of_tutorial("waves.py").splitlines() if line.strip()]) <= 40


def test_a_model_needs_its_plugin(folder: Path) -> None:
    assert "org.waves" in run(folder, "-m", "stepwell.cli", "--to", "graph", "waves.onnx")


def test_a_file_is_loaded_by_the_command(folder: Path) -> None:
    assert "waves.snake" in run(folder, "-m", "stepwell.cli", "--load", "waves.py", "--to", "graph", "waves.onnx")


@pytest.mark.parametrize("entry", ["waves = waves", "waves = waves:DIALECT", "anything = waves"])
def test_an_installed_package_is_found(folder: Path, entry: str) -> None:
    install(folder, entry)
    assert "waves.snake" in run(folder, "-m", "stepwell.cli", "--to", "graph", "waves.onnx")
    code = "import stepwell, numpy as np; model = stepwell.compile('waves.onnx')"
    call = "print(model(np.ones((2, 4), 'f'), np.ones((2, 8), 'f')).shape)"
    assert run(folder, "-c", f"{code}; {call}") == "(2, 8)\n"


def test_ir_text_with_an_installed_op_parses(folder: Path) -> None:
    install(folder, "waves = waves")
    text = run(folder, "-m", "stepwell.cli", "--to", "graph", "waves.onnx")
    (folder / "waves.mlir").write_text(text)
    assert run(folder, "-m", "stepwell.cli", "--to", "graph", "waves.mlir") == text


def test_an_installed_package_and_its_file_are_one(folder: Path) -> None:
    install(folder, "waves = waves")
    assert "waves.snake" in run(folder, "-m", "stepwell.cli", "--load", "waves.py", "--to", "graph", "waves.onnx")


def test_an_installed_package_that_fails_is_named(folder: Path) -> None:
    install(folder, "waves = nowhere")
    said = run(folder, "-m", "stepwell.cli", "--to", "graph", "waves.onnx")
    assert "lower: plug-in 'waves' of waves (nowhere): ModuleNotFoundError: No module named 'nowhere'" in said


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_fails_is_named(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(source)
    with pytest.raises(ModelError, match=rf"plug-in .*bad\.py: {re.escape(said)}"):
        load_plugin(path)


@pytest.mark.parametrize("name", ["absent.py", "folder", "text.txt"])
def test_what_is_no_python_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ModelError, match="no such Python file"):
        load_plugin(tmp_path / name)


def test_a_file_runs_once(tmp_path: Path) -> None:
    path = tmp_path / "counted.py"
    path.write_text("import builtins\nbuiltins.runs_of_counted = getattr(builtins, 'runs_of_counted', 0) + 1\n")
    assert load_plugin(path) is load_plugin(str(path))
    import builtins

    assert builtins.runs_of_counted == 1  # type: ignore[attr-defined]


def test_a_name_has_one_owner(tmp_path: Path) -> None:
    path = tmp_path / "thief.py"
    path.write_text(
        textwrap.dedent(
            """
            from stepwell.dialects.graph.base import GraphOp
            from stepwell.ir.registry import Dialect

            class ReluOp(GraphOp):
                name = "graph.relu"

            DIALECT = Dialect.of_module("graph", globals().values(), landing="graph")
            """
        )
    )
    with pytest.raises(StepwellError, match=r"'graph.relu' is defined by both .* and .*thief.*ReluOp"):
        load_plugin(path)


def test_a_dialect_has_one_owner() -> None:
    registry = Registry()
    with pytest.raises(StepwellError, match="two dialects are named 'graph'"):
        registry.register(Dialect("graph"))
    mine = Dialect("mine")
    registry.register(mine)
    registry.register(mine)
    with pytest.raises(StepwellError, match="two dialects are named 'mine'"):
        registry.register(Dialect("mine"))


def test_a_dialect_stands_at_its_landing() -> None:
    registry = Registry()
    registry.register(Dialect("mine", landing="graph"))
    assert (registry.landing("mine"), registry.landing("loop"), registry.landing("arith")) == ("graph", "loop", "")
    assert registry.landing("nobody_s") == ""
    assert REGISTRY.landing("tensor") == "tensor"
