"""The sections of the report, each from what a benchmark command found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks import decode, goals, loading, memory, programs, report
from benchmarks.goals import Results
from benchmarks.harness import Comparison
from benchmarks.kernels import KERNELS, kernels_table


def means(comparisons: Sequence[Comparison]) -> str:
    """A table of geometric means of the ratios to each peer, by number of threads."""
    first, *peers = (outcome.engine for outcome in comparisons[0].outcomes)
    counts = sorted({c.threads for c in comparisons})
    rows = []
    for peer in peers:
        cells = [f"{peer} / {first}"]
        for count in counts:
            found = report.mean(comparisons, peer, count)
            cells.append(f"{found[0]:.2f} ({found[1]})" if found else "-")
        rows.append(cells)
    return report.table(["geometric mean (models)", *(f"threads {count}" for count in counts)], rows)


def scaling(comparisons: Sequence[Comparison]) -> str:
    """A table of the first engine's time on one thread by that on more, for each model."""
    times = {(c.case, c.threads): c.outcomes[0].latency for c in comparisons}
    counts = sorted({threads for _, threads in times if threads > 1})
    rows = []
    for name in dict.fromkeys(c.case for c in comparisons):
        one, more = times.get((name, 1)), [times.get((name, count)) for count in counts]
        rows.append([name, *(f"{one.median / many.median:.2f}" if one and many else "-" for many in more)])
    return report.table(["model", *(f"threads {count}" for count in counts)], rows)


def behind(comparisons: Sequence[Comparison]) -> list[str]:
    """A line for each case in which a peer takes less time, the worst first."""
    found = [
        (o.ratio.median, f"{c.case}, threads {c.threads}: {o.engine} takes {report.ratio(o)} of our time")
        for c in comparisons
        for o in c.outcomes
        if o.ratio and o.ratio.median < 1
    ]
    return [line for _, line in sorted(found)]


def _goals(found: Results) -> str:
    return (
        "How many cases meet each goal, and the one that is farthest from it; then those that miss it. A case during "
        f"which other processes were busy is called disturbed.\n\n{goals.table(found)}"
    )


def _models(found: Results) -> str:
    return f"{means(found.models)}\n\n{report.models_table(found.models)}" if found.models else ""


def _more_threads(found: Results) -> str:
    return f"The time of one thread by that of more.\n\n{scaling(found.models)}" if found.models else ""


def _symbolic(found: Results) -> str:
    if not found.fixed:
        return ""
    text = "The same model compiled for any size, and for the one size that it is timed at."
    return f"{text}\n\n{report.models_table(found.fixed)}"


def _kernels(found: Results) -> str:
    if not found.kernels:
        return ""
    return (
        "Per cent are of a loop that took turns with the engines and did as many multiply-adds in registers, as many "
        "as one of the threads has; only fewer multiply-adds get beyond (Winograd). GB/s count what must be read and "
        "written at least, of an LSTM the recurrent weights in each step: its loop reads them as often. The loops of "
        f"row-wise kernels read as many bytes{_row_wise(found.kernels)}, again and again the same, from the cache or "
        f"memory that holds them.\n\n{kernels_table(found.kernels)}"
    )


def _row_wise(comparisons: Sequence[Comparison]) -> str:
    """How much the loops read that row-wise kernels are compared with."""
    kernels = {name: KERNELS[name]() for name in dict.fromkeys(c.case for c in comparisons)}
    sizes = [f"{name} {kernel.bytes >> 10} KiB" for name, kernel in kernels.items() if not kernel.flops]
    return f" ({', '.join(sizes)})" if sizes else ""


def _decode(found: Results) -> str:
    if not found.decode:
        return ""
    return (
        "A step with one token reads all weights once; as many threads that do nothing else read as many bytes in "
        "turns with it. With the past as arrays a step reads and writes all of it, with state it writes only what is "
        f"new. `python -m benchmarks.decode`.\n\n{decode.table(found.decode)}"
    )


def _loading(found: Results) -> str:
    if not found.loading:
        return ""
    return (
        "Each step in a process of its own, importing Stepwell included: a cold compilation of the model's file, the "
        "same with a warm cache, loading a saved engine, loading it once more in the same process, and its first call. "
        f"`python -m benchmarks.loading`.\n\n{loading.table(found.loading)}"
    )


def _memory(found: Results) -> str:
    if not found.memory:
        return ""
    return (
        "Peak resident MiB, each of a process of its own. Compiling is measured above a baseline, what compiling and "
        f"running a model without weights takes: {found.memory[0].baseline / memory.MEBI:.0f} MiB. "
        f"`python -m benchmarks.memory`.\n\n{memory.table(found.memory)}"
    )


def _programs(found: Results) -> str:
    if not found.programs:
        return ""
    return (
        "What a run has of kernels, launches and barriers (+: and more as often as data decide), which part of its "
        "time goes to kernels that arithmetic limits, by the profile, and how long idle threads spin after a call. "
        "Arenas in MiB, by what lives at once (in brackets by that of buffers at multiples of 64 bytes), at typical "
        f"sizes of symbols, at 1, and at {programs.TIMES} times the typical ones. `python -m benchmarks.programs`.\n\n"
        f"{programs.table(found.programs)}"
    )


def _behind(found: Results) -> str:
    return _list([*behind(found.models or ()), *behind(found.kernels or ())])


def _remarks(found: Results) -> str:
    timed = [line for part in (found.models, found.fixed, found.kernels) for line in report.remarks(part or ())]
    return _list([*timed, *decode.remarks(found.decode or ()), *loading.remarks(found.loading or {})])


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


SECTIONS: Mapping[str, Callable[[Results], str]] = {
    "Goals": _goals,
    "Models": _models,
    "More threads": _more_threads,
    "Symbolic sizes": _symbolic,
    "Kernels": _kernels,
    "Steps of decoders": _decode,
    "Getting ready": _loading,
    "Memory": _memory,
    "Programs": _programs,
    "Where we are behind": _behind,
    "Remarks": _remarks,
}
"""Title -> the text for what was found; empty where nothing was."""
