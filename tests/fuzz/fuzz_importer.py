"""Feeds damaged models to the importer until it raises what it should not; the finding is kept as a file.

python -m tests.fuzz.fuzz_importer --runs 100000 --seed 1 [--seconds 1800] [--corpus FOLDER] [--findings FOLDER]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import traceback
from pathlib import Path
from random import Random

from tests.frontends.onnx.mutation import mutant, survives

CORPUS = Path(__file__).parent / "corpus"
SLOW = 5.0  # seconds that no small model may take


def main() -> int:
    """Run; the exit status is the number of findings, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--memory", type=int, default=6, help="limit of address space, in GiB")
    options = parser.parse_args()
    limit = options.memory << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    corpus = [path.read_bytes() for path in sorted(options.corpus.glob("*.onnx"))]
    found = imported = runs = 0
    end = time.monotonic() + options.seconds
    for run in range(options.seed, options.seed + options.runs):
        if time.monotonic() >= end:
            break
        runs += 1
        random = Random(run)
        data = mutant(random.choice(corpus), random)
        start = time.monotonic()
        try:
            imported += survives(data)
            problem = "" if time.monotonic() - start < SLOW else f"took {time.monotonic() - start:.1f} s\n"
        except Exception:
            problem = traceback.format_exc()
        if problem:
            found += 1
            options.findings.mkdir(exist_ok=True)
            (options.findings / f"{run}.onnx").write_bytes(data)
            print(f"seed {run}:\n{problem}", file=sys.stderr)
    print(f"{runs} runs, {imported} imported, {found} findings")
    return min(found, 100)


if __name__ == "__main__":
    sys.exit(main())
