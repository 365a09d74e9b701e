"""Runs checks on one model in a process of its own: `python -m tests.models.child MODEL.onnx RESULTS.json CHECK...`.

What a check finds is written before the next one starts, so that a process that dies costs one check."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from stepwell.errors import StepwellError
from tests.models.checks import CHECKS, Finding
from tests.models.subject import Subject


def recorded(path: Path) -> dict[str, Any]:
    """What was found so far: {check: {"status", "detail", "values", "seconds"}}."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def record(path: Path, check: str, finding: Finding, seconds: float = 0.0) -> None:
    """Add a finding to a file."""
    found = {**recorded(path), check: {**attrs.asdict(finding), "seconds": round(seconds, 1)}}
    path.write_text(json.dumps(found, indent=1) + "\n")


def examine(subject: Subject, check: str) -> Finding:
    """What a check finds; an error is a failure."""
    try:
        return CHECKS[check](subject)
    except MemoryError:
        return Finding("fail", "memory: more than the limit was asked for")
    except StepwellError as error:
        return Finding("fail", f"{type(error).__name__}: {error}")
    except Exception as error:  # a fault of the code or of the check: told with its place, the other checks go on
        return Finding("fail", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def main(arguments: Sequence[str]) -> int:
    model, results, *checks = arguments
    subject = Subject.read(Path(model))
    for check in checks:
        start = time.perf_counter()
        finding = examine(subject, check)
        record(Path(results), check, finding, time.perf_counter() - start)
        print(f"{Path(model).stem}: {check}: {finding.status} {finding.detail}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
