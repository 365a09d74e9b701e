"""Asks two programs that are not ours whether our text is MLIR: `python -m tests.referee FILE...`.

`mlir-minimal-opt` knows the syntax and the builtin dialect, and must accept the generic form of everything. `mlir-opt`
knows upstream's dialects too and verifies our `func`, `arith`, `math` and `vector` ops; before it reads the text, the
dialects that upstream defines otherwise than we do are renamed (`tensor` -> `sw_tensor`)."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

from stepwell.errors import StepwellError
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.verifier import verify

OURS = ("tensor", "quant", "gpu")  # dialects whose names upstream owns and whose ops, types and attributes are ours
MINIMAL, FULL = "mlir-minimal-opt-19", "mlir-opt-19"
_SPLIT = "\n// -----\n"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_PREFIXED = re.compile(rf"([#!])({'|'.join(OURS)})\.")
_OP_NAME = re.compile(rf'"({"|".join(OURS)})\.')


def renamed(text: str) -> str:
    """The text with our own dialects out of upstream's way; strings that are not op names stay as they are."""
    out, position = [], 0
    for match in _STRING.finditer(text):
        out.append(_PREFIXED.sub(r"\1sw_\2.", text[position : match.start()]))
        is_op_name = text[match.end() : match.end() + 1] == "("
        out.append(_OP_NAME.sub(r'"sw_\1.', match.group()) if is_op_name else match.group())
        position = match.end()
    out.append(_PREFIXED.sub(r"\1sw_\2.", text[position:]))
    return "".join(out)


def generic_text(op: Operation) -> str:
    """The text that the referees read."""
    return print_op(op, PrintOptions(generic=True, locations=True)) + "\n"


def available(referee: str) -> bool:
    """Whether the program is installed."""
    return shutil.which(referee) is not None


def complaints(referee: str, texts: Sequence[str], *, rename: bool = True) -> str:
    """What a referee says against texts in generic form: nothing, if it accepts all of them. Without `rename` it takes
    all dialects for upstream's."""
    joined = _SPLIT.join(renamed(text) if rename and referee == FULL else text for text in texts)
    done = subprocess.run(
        [referee, "--allow-unregistered-dialect", "--split-input-file", "-o", "/dev/null"],
        input=joined, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    lines = joined.splitlines()
    numbers = sorted({int(n) for n in re.findall(r"<stdin>:(\d+):\d+: error", done.stderr)})
    quoted = "\n".join(f"  line {n}: {lines[n - 1].strip()[:300]}" for n in numbers if n <= len(lines))
    return f"{referee} refuses\n{quoted}\n{done.stderr}"


def main(paths: Sequence[str]) -> int:
    """Check files of our IR; the exit status says whether all were accepted."""
    failed = 0
    for path in paths:
        try:
            module = parse_module(pathlib.Path(path).read_text(), path)
            verify(module)
            text = generic_text(module)
        except StepwellError as error:
            print(error, file=sys.stderr)
            failed += 1
            continue
        for referee in (MINIMAL, FULL):
            missing = f"{referee} is not installed: {path} unchecked"
            said = complaints(referee, [text]) if available(referee) else missing
            failed += bool(said)
            print(f"{path}: {said or referee + ' accepts'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
