"""Write benchmarks/README.md: goals, models and kernels beside other engines, and where we are behind.

    python -m benchmarks.page                                     # measure everything: an hour and a half
    python -m benchmarks.page --parts build/benchmarks            # keep every part there, and measure what is not there
    python -m benchmarks.page --models models.json --fixed fixed.json --skip kernels,memory

Every part is what a command of benchmarks wrote with `--json`. A model that runs in integers is timed with the others
and is no part of the means."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import decode, materialize, memory, options, programs, report
from benchmarks.goals import Results
from benchmarks.sections import SECTIONS

PAGE = Path(__file__).parent / "README.md"
ENGINES = "stepwell,onnxruntime,openvino"
SYMBOLIC = "*_dyn.onnx"  # models with symbolic sizes
TIMED = ("models", "kernels", "fixed")  # parts that compare engines

Part = Mapping[str, Any]
"""What a command wrote."""

INTRODUCTION = """\
# Speed, beside other engines

Written by `python -m benchmarks.page`, which takes an hour and a half on a machine that does nothing else. Every engine
runs in a process of its own with the same number of threads, and stands still while another one is timed; blocks of
calls take turns. Times are medians over the blocks, ratios are taken round by round, with the smallest and the largest
in brackets; above 1 Stepwell is faster. All engines compute in f32 (OpenVINO is told to), and their outputs are
compared in the run that is timed.
"""


def commands() -> dict[str, list[str]]:
    """The command in benchmarks that writes each part, and its arguments."""
    symbolic = [path.stem for path in sorted(materialize.MODELS.glob(SYMBOLIC))]
    return {
        "models": ["run", "--engines", ENGINES],
        "kernels": ["kernels", "--engines", ENGINES],
        "fixed": ["run", *symbolic, "--engines", "stepwell,stepwell_static"],
        **{name: [name] for name in ("decode", "loading", "memory", "programs")},
    }


def measured(path: Path, module: str, *arguments: str) -> Path:
    """Run a benchmark command that writes its JSON to `path`. Raises CalledProcessError where it wrote none."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--json", str(path)]
    status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    if not path.exists():
        raise subprocess.CalledProcessError(status, command)
    return path


def results(parts: Mapping[str, Part]) -> Results:
    """What the parts say that are there."""
    found: dict[str, Any] = {name: report.comparisons(parts[name]) for name in TIMED if name in parts}
    others = {"decode": decode.steps, "memory": memory.peaks, "programs": programs.programs}
    found |= {name: read(parts[name]) for name, read in others.items() if name in parts}
    if "loading" in parts:
        found["loading"] = parts["loading"]["models"]
    return Results(**found)


def machines(parts: Mapping[str, Part]) -> str:
    """Where the parts were measured, when and from which commit: one paragraph if all agree, else one for each."""
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        environment = {**part["environment"], "versions": None}
        found.setdefault(json.dumps(environment, sort_keys=True), []).append(name)
    paragraphs = []
    for names in found.values():
        environments = [parts[name]["environment"] for name in names]
        versions = {engine: version for one in environments for engine, version in one["versions"].items()}
        text = report.machine({**environments[0], "versions": versions})
        paragraphs.append(text if len(found) == 1 else f"{', '.join(names)}: {text}")
    return "\n\n".join(paragraphs) + "\n"


def _core(peak: Mapping[str, Any]) -> str:
    reads = ", ".join(f"{level} {rate:.0f}" for level, rate in peak["read_gbs"].items())
    caches = ", ".join(f"{level} {size >> 10} KiB" for level, size in peak.get("caches", {}).items())
    return (f"One core: {peak['gflops']:.0f} GFLOP/s f32 by multiply-adds; reads in GB/s: {reads}"
            f"{f'; caches: {caches}' if caches else ''}.\n")  # fmt: skip


def page(parts: Mapping[str, Part]) -> str:
    """The document, from the contents of the parts' JSON files; those that are not there are named."""
    left_out = [name for name in commands() if name not in parts]
    head = [INTRODUCTION, machines(parts)]
    if "kernels" in parts:
        head.append(_core(parts["kernels"]["peak"]))
    if left_out:
        head.append(f"Left out: {', '.join(left_out)}.\n")
    found = results(parts)
    texts = {title: text for title, section in SECTIONS.items() if (text := section(found))}
    return "\n".join([*head, *(f"## {title}\n\n{text}\n" for title, text in texts.items())])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (module, *_) in commands().items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"what `benchmarks.{module} --json` wrote")
    parser.add_argument("--parts", type=Path, metavar="FOLDER", help="keep what is measured there; measure what is not")
    parser.add_argument("--skip", type=options.names, default=[], metavar="A,B", help="leave these parts out")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE", help="default: benchmarks/README.md")
    args = parser.parse_args(argv)
    if unknown := sorted({*args.skip} - {*commands()}):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(commands())}")
    wanted = {name: command for name, command in commands().items() if name not in args.skip}
    if not wanted:
        parser.error("nothing is left")
    with contextlib.ExitStack() as stack:
        folder = args.parts or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        parts = {}
        for name, command in wanted.items():
            kept = folder / f"{name}.json"
            path = getattr(args, name) or (kept if kept.exists() else measured(kept, *command))
            parts[name] = json.loads(path.read_text())
    args.output.write_text(page(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
