"""What becomes of a case: Stepwell's results against the reference evaluator's, and onnxruntime's where it runs it.

    plain          compiled for the sizes of the case, on one thread
    threads        the same on two threads: the same bits
    symbolic       compiled for any sizes, on two threads, run with two or three bindings
    bounds         the same on one thread, every access to memory checked; with symbols for sizes, also with arrays
                   that do not fit each other, which an error has to find before they are read
    check each     every stage interpreted, by the driver of `--check-each`
"""

from __future__ import annotations

import functools
import os
import re
import traceback
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import attrs
import numpy as np
import onnx

import stepwell
from stepwell.check import CheckEach, ResultChanged
from stepwell.compiler import Options, context_of, lower, machine_of
from stepwell.errors import ModelError, PassError, StepwellError
from stepwell.frontends.onnx.importer import import_model
from stepwell.frontends.onnx.report import ImportFailed
from tests.frontends.onnx.rule_harness import onnxruntime_session
from tests.fuzz.graphs.cases import Case, Feeds
from tests.fuzz.graphs.oracle import Expected, Oracle, Unevaluated, difference
from tests.fuzz.graphs.values import Array
from tests.misfits import leaves_memory, misfit
from tests.onnx_conformance.cases import HOST, INTERNAL, OK, REFUSED, SPECIALISED, WRONG
from tests.onnx_conformance.suite import with_symbols

DISPUTED = "disputed"  # ours is what one of the others gives, and not what the other one gives
MISFITS = 4  # sets of arrays whose sizes do not fit, for each model whose accesses are checked
INVALID = "invalid"  # not a model: a flaw of the generator

NUMBER = re.compile(r"_\d+")


@attrs.frozen
class Finding:
    """What became of a case, in which way of running it, and why."""

    kind: str
    way: str = ""
    reason: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether it is a bug of ours."""
        return self.kind in (WRONG, INTERNAL)


def named_alike(model: Any) -> Any:
    """The model with equal sizes of its inputs, 1 excepted, as one symbol."""
    made = with_symbols(model)
    for declared, port in zip(model.graph.input, made.graph.input, strict=True):
        sizes = declared.type.tensor_type.shape.dim
        for size, dim in zip(sizes, port.type.tensor_type.shape.dim, strict=True):
            dim.dim_param = f"n{size.dim_value}" if size.dim_value != 1 else dim.dim_param
    return made


SYMBOLS = {"own": with_symbols, "alike": named_alike}


def examine(case: Case, check_each: float = 0.25) -> Finding:
    """Run a case in all ways, `check_each` being how often accesses are checked, and every stage is interpreted."""
    random = Random(case.seed)
    try:
        onnx.checker.check_model(case.model, full_check=True)
        oracle = Oracle(case.model)
        expected = oracle.expected(case.feeds)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, Unevaluated) as error:
        return Finding(INVALID, "", " ".join(str(error).split())[:200])
    judge = Judge(case, oracle, expected)
    found = [judge.plain()]
    if not found[0].is_bad and found[0].kind != REFUSED and random.random() < 0.25:
        found.append(judge.threads())
    if random.random() < check_each and not found[0].is_bad and found[0].kind != REFUSED:
        found.append(judge.bounds())
    if case.symbols and not any(one.is_bad for one in found):
        found.append(judge.symbolic())
    if random.random() < check_each and not any(one.is_bad for one in found) and found[0].kind != REFUSED:
        found.append(judge.each())
    order = (INTERNAL, WRONG, DISPUTED, REFUSED, SPECIALISED, HOST, OK)
    return min(found, key=lambda one: order.index(one.kind))


class Judge:
    """Runs one case in several ways."""

    def __init__(self, case: Case, oracle: Oracle, expected: Sequence[Expected]) -> None:
        self.case, self.oracle, self.expected = case, oracle, expected
        self._bits: Sequence[Array] | None = None

    def plain(self) -> Finding:
        """As it is, on one thread."""
        return self._guarded("plain", lambda: self._compared("plain", self.case.model, 1, [self.case.feeds]))

    def threads(self) -> Finding:
        """On two threads."""
        return self._guarded("threads", self._same_bits)

    @property
    def _model(self) -> Any:
        """The model with symbols for sizes, where the case says so."""
        make = SYMBOLS.get(self.case.symbols)
        return make(self.case.model) if make else self.case.model

    def symbolic(self) -> Finding:
        """With symbols for sizes, on two threads."""
        model = self._model
        feeds = [self.case.feeds, *self.case.others]
        return self._guarded("symbolic", lambda: self._compared("symbolic", model, 2, feeds))

    def each(self) -> Finding:
        """With every stage interpreted; sizes are symbols where the case says so."""
        return self._guarded("check each", lambda: self._checked(self._model))

    def bounds(self) -> Finding:
        """With every access to memory checked; sizes are symbols where the case says so."""
        return self._guarded("bounds", self._inside)

    def _inside(self) -> Finding:
        compiled = stepwell.compile(self._model, threads=1, cache=False, sanitize=True)
        random = Random(self.case.seed)
        count = MISFITS if self.case.symbols else 0
        wrong = [{name: misfit(array, random) for name, array in self.case.feeds.items()} for _ in range(count)]
        for feeds in [self.case.feeds, *self.case.others, *wrong]:
            try:
                compiled.run(feeds)
            except StepwellError as error:  # whether it belongs there, the other ways say
                if leaves_memory(error):
                    return Finding(WRONG, "bounds", " ".join(str(error).split())[:400])
        return Finding(OK, "bounds")

    def _same_bits(self) -> Finding:
        compiled = stepwell.compile(self.case.model, threads=2, cache=False)
        found = list(compiled.run(self.case.feeds).values())
        for number, (a, b) in enumerate(zip(found, self._bits or found, strict=True)):
            if a.tobytes() != b.tobytes():
                return Finding(WRONG, "threads", f"output {number} has other bits on two threads")
        return Finding(OK, "threads")

    def _compared(self, way: str, model: Any, threads: int, bindings: Sequence[Feeds]) -> Finding:
        compiled = stepwell.compile(model, threads=threads, cache=False)
        kind = OK
        for number, feeds in enumerate(bindings):
            try:
                found = compiled.run(feeds)
            except StepwellError:
                if number:
                    continue  # sizes that the model need not allow
                raise
            arrays = [np.asarray(found[name]) for name in self.oracle.outputs]
            if way == "plain":
                self._bits = arrays
            expected = self.expected if not number else self.oracle.expected(feeds)
            said = self._verdict(arrays, expected, feeds)
            if said is not None:
                return attrs.evolve(said, way=way if not number else f"{way}, binding {number}")
            kind = SPECIALISED if compiled.is_specialised else HOST if compiled.host_calls else OK
        return Finding(kind, way)

    def _verdict(self, found: Sequence[Array], expected: Sequence[Expected], feeds: Feeds) -> Finding | None:
        said = first_difference(found, expected)
        if said is None:
            return None
        other = onnxruntime_results(self.case.model, feeds)
        is_peers = False
        if other is not None and not self.oracle.peer_flaws:
            close = [one.of(array) for one, array in zip(expected, other, strict=True)]
            is_peers = first_difference(found, close) is None
        if self.oracle.flaws:
            peer = "none" if other is None else "ours" if is_peers else "another result"
            return Finding(DISPUTED, "", f"{', '.join(self.oracle.flaws)}; onnxruntime gives {peer}")
        if is_peers:
            return Finding(DISPUTED, "", f"as onnxruntime, not as the reference evaluator: {said}")
        peer = "onnxruntime has no say" if other is None else (
            "onnxruntime agrees with the reference" if first_difference(other, expected) is None
            else "onnxruntime gives a third result")  # fmt: skip
        return Finding(WRONG, "", f"{said}; {peer}")

    def _checked(self, model: Any) -> Finding:
        module = import_model(model)
        options = Options()
        context = context_of(options, machine_of(options))
        inputs = [self.case.feeds[port.name] for port in model.graph.input]
        try:
            lower(module, "loop", context, [CheckEach(inputs, context=context)])
        except ResultChanged as error:
            return Finding(WRONG, "check each", " ".join(str(error).split())[:400])
        return Finding(OK, "check each")

    def _guarded(self, way: str, run: Callable[[], Finding]) -> Finding:
        try:
            return run()
        except ModelError as error:
            return Finding(REFUSED, way, refusal(error))
        except PassError as error:
            if not any(words in str(error) for words in ("no conversion for", "follows from no input")):
                return Finding(INTERNAL, way, f"PassError: {' '.join(str(error).split())[:300]}")
            return Finding(REFUSED, way, NUMBER.sub("", " ".join(str(error).split()))[:120])
        except StepwellError as error:
            return Finding(INTERNAL, way, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        except Exception as error:  # a bug of ours, whatever it is
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            return Finding(INTERNAL, way, f"{type(error).__name__} at {place}: {str(error)[:200]}")


def refusal(error: ModelError) -> str:
    """Why a model is not imported: the operator and the reason of the first problem."""
    if isinstance(error, ImportFailed):
        problem = error.problems[0]
        return f"{problem.op}-{problem.version}: {problem.reason}"[:200]
    return " ".join(str(error).split())[:200]


def first_difference(found: Sequence[Array], expected: Sequence[Expected]) -> str | None:
    """The first output that differs, and how."""
    for number, (array, one) in enumerate(zip(found, expected, strict=True)):
        said = difference(array, one)
        if said is not None:
            return f"output {number}: {said}"
    return None


def onnxruntime_results(model: Any, feeds: Feeds) -> list[Array] | None:
    """What onnxruntime gives, without its optimiser; None where it does not take the model."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.ir_version = min(made.ir_version, 10)  # newer ones say nothing else of these graphs
    opset = made.opset_import[0]
    opset.version = max(onnx.defs.get_schema(node.op_type, opset.version).since_version for node in made.graph.node)
    try:
        found = _session(made).run(None, {name: np.asarray(array) for name, array in feeds.items()})
    except Exception:  # whatever it raises, it has no say
        return None
    return [np.asarray(array) for array in found]


def _session(model: Any) -> Any:
    os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime_session(model)


@functools.cache
def versions() -> str:
    """The versions of the judges, which seeds depend on."""
    return f"onnx {onnx.__version__}, NumPy {np.__version__}"
