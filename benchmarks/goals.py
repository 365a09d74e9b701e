"""What this project wants to reach, and whether what was measured reaches it.

A goal is data: its words, the parts of the report that it needs, and a small function that takes them apart into cases.
Each case says which part of the goal it reaches; a goal is met where all reach all of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from benchmarks import cases
from benchmarks.cases import Case
from benchmarks.decode import Step
from benchmarks.harness import Comparison
from benchmarks.loading import Figures
from benchmarks.memory import Peaks
from benchmarks.programs import Program

SHOWN = 6  # cases that miss a goal
WITHIN_TENTH = 1 / 1.1


@attrs.frozen
class Results:
    """What the benchmark commands found; None where a part was left out."""

    models: Sequence[Comparison] | None = None
    kernels: Sequence[Comparison] | None = None
    fixed: Sequence[Comparison] | None = None
    decode: Sequence[Step] | None = None
    loading: Mapping[str, Mapping[str, Figures]] | None = None
    memory: Sequence[Peaks] | None = None
    programs: Sequence[Program] | None = None


@attrs.frozen
class Goal:
    """A goal in words, the parts of `Results` that it needs, and its cases in them. `limit` is what keeps those that
    miss it from it, where one thing does."""

    words: str
    parts: tuple[str, ...]
    cases: Callable[..., Iterator[Case]]
    limit: str = ""

    def judge(self, results: Results) -> Verdict:
        """Take the goal's cases out of the results."""
        found = [getattr(results, part) for part in self.parts]
        left_out = tuple(part for part, data in zip(self.parts, found, strict=True) if data is None)
        return Verdict(self, () if left_out else tuple(self.cases(*found)), left_out)


@attrs.frozen
class Verdict:
    """A goal and its cases; none where a part of the results is `left_out`."""

    goal: Goal
    cases: tuple[Case, ...]
    left_out: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool | None:
        """Whether all cases meet the goal; None where there are none."""
        return all(case.is_met for case in self.cases) if self.cases else None

    @property
    def missed(self) -> list[Case]:
        """The cases that miss the goal, the worst first."""
        return sorted((case for case in self.cases if not case.is_met), key=lambda case: case.reached)

    def row(self) -> list[str]:
        """Goal, what was measured, whether the goal is met, and what limits it."""
        met = {None: "not measured", True: "yes", False: "no"}[self.is_met]
        return [self.goal.words, self._measured(), met, self._limits()]

    def _measured(self) -> str:
        if not self.cases:
            return f"left out: {', '.join(self.left_out)}" if self.left_out else "no case"
        worst = min(self.cases, key=lambda case: case.reached)
        text = f"{worst.name}: {worst.text}"
        if len(self.cases) > 1:
            text = f"{sum(case.is_met for case in self.cases)} of {len(self.cases)}; worst {text}"
        disturbed = sum(bool(case.disturbed) for case in self.cases)
        return text + (f"; {disturbed} disturbed" if disturbed else "")

    def _limits(self) -> str:
        if not self.missed:
            return "-"
        listed = [*map(str, self.missed[:SHOWN])]
        if more := len(self.missed) - SHOWN:
            listed += [f"{more} more"] if more > 0 else []
        return ". ".join(filter(None, ("; ".join(listed), self.goal.limit)))


SMALL, LARGE = ("digits_cnn", "mlp_b64"), ("resnet50", "bert_base")
OPERATORS = ("softmax_*", "layernorm_*", "gelu_*", "attention_*", "depthwise_*", "lstm_*")
CONVOLUTIONS, LAST = ("conv[13]x[13]_*",), ("conv*_7",)

_of = functools.partial
GOALS = (
    Goal("no f32 model slower than in onnxruntime", ("models",), _of(cases.against, peer="onnxruntime", least=1)),
    Goal("models at least 1.25 times as fast as in onnxruntime, geometric mean", ("models",),
         _of(cases.mean_against, peer="onnxruntime", least=1.25)),
    Goal("models at least 1.1 times as fast as in OpenVINO, geometric mean", ("models",),
         _of(cases.mean_against, peer="openvino", least=1.1)),
    Goal("a call of a small model takes less than onnxruntime's", ("models",),
         _of(cases.against, peer="onnxruntime", least=1, names=SMALL)),
    Goal("matrix products with a weight: 85 % of one core's multiply-adds", ("kernels",),
         _of(cases.near_peak, least=0.85, names=("matmul_*",), but=("matmul_*_inputs",))),
    Goal("matrix products of two inputs, from 512 up: 80 % of them", ("kernels",),
         _of(cases.near_peak, least=0.8, names=("matmul_*_inputs",))),
    Goal("convolutions of ResNet-50: 85 % of them", ("kernels",),
         _of(cases.near_peak, least=0.85, names=CONVOLUTIONS, but=LAST)),
    Goal("its 7x7 convolutions on one core: onnxruntime's speed", ("kernels",),
         _of(cases.against, peer="onnxruntime", least=1, names=LAST, threads=1)),
    Goal("softmax, layer norm, GELU, attention, depthwise convolution, LSTM: 1.2 times the better peer's speed, or "
         "within 10 % of the limit that is timed in turns", ("kernels",),
         _of(cases.ahead_or_near_limit, least=1.2, near=0.9, names=OPERATORS)),
    Goal("models of symbolic sizes within 10 % of those of fixed ones", ("fixed",),
         _of(cases.against, peer="stepwell_static", least=WITHIN_TENTH)),
    Goal("a decoder's step reads weights at 85 % of the bandwidth", ("decode",), _of(cases.streaming, least=0.85)),
    Goal("a decoder's step with state copies no past", ("decode",), cases.no_copy_of_past),
    Goal("ResNet-50 and BERT-base: cold compilation below 8 s", ("loading",),
         _of(cases.ready, step="cold", most=8, names=LARGE)),
    Goal("with a warm cache below 1 s", ("loading",), _of(cases.ready, step="warm", most=1, names=LARGE)),
    Goal("a process's first load of an engine, with imports, below 50 ms", ("loading",),
         _of(cases.ready, step="engine", most=0.05, names=LARGE), "Mostly importing; once more is without"),
    Goal("compilation grows no faster than distinct kernels (exponent at most 1.1)", ("loading",),
         _of(cases.growth, most=1.1)),
    Goal("peak memory of loading and running at most onnxruntime's", ("memory",), cases.running_memory),
    Goal("peak memory of compiling, above that for a model without weights, at most 2.5 times the weights", ("memory",),
         _of(cases.compiling_memory, most=2.5), "IR and LLVM's memory for kernels do not shrink with the weights"),
    Goal("arenas within 10 % of what lives at once", ("programs",), _of(cases.tight_arenas, most=1.1)),
    Goal("two threads at least 1.8 times as fast as one, where arithmetic limits three quarters of the time",
         ("programs", "models"), _of(cases.scaling, least=1.8)),
    Goal("idle threads sleep within a millisecond", ("programs",), _of(cases.sleeping, most=1e-3)),
    Goal("no more barriers than launches", ("programs",), cases.few_barriers),
)  # fmt: skip


def table(results: Results, goals: Sequence[Goal] = GOALS) -> str:
    """All goals in markdown, a line for each."""
    rows = [["goal", "measured", "met", "what limits it"], ["---"] * 4, *(goal.judge(results).row() for goal in goals)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
