"""One model with teams of several sizes: compiled once, for no pass and no code sees how many threads there are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import stepwell
from stepwell.compiler import Options, context_of, lower, machine_of
from stepwell.ir.passes import Instrument
from stepwell.sources import load_source


def compiled_for(
    source: Any, threads: Iterable[int], instruments: Sequence[Instrument] = ()
) -> Iterator[stepwell.Model]:
    """The compiled model for each number of threads, the instruments around the passes."""
    module, hints = load_source(source, None)
    options = Options(hints=hints)
    lower(module, "loop", context_of(options, machine_of(options)), instruments)
    first, *others = threads
    model = stepwell.compile(module, threads=first)
    yield model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.engine")
        model.save(path)
        for count in others:
            yield stepwell.load(path, threads=count)


def results_of(source: Any, feeds: Sequence[Mapping[str, Any]], threads: Iterable[int]) -> list[list[Any]]:
    """The outputs that one compilation gives for each of the feeds: the same bits at any number of threads."""
    results: list[list[Any]] = []
    for model in compiled_for(source, threads):
        found = [list(model.run(given).values()) for given in feeds]
        results = results or found
        assert [[a.tobytes() for a in arrays] for arrays in found] == [[a.tobytes() for a in r] for r in results]
    return results
