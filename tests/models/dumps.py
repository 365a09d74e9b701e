"""Let the referees read every dump of whole models: what each pass left, in the text of `lower --dump-dir`.

    python -m tests.models.dumps                    # all of benchmarks/models
    python -m tests.models.dumps mlp_b64 unet_dyn    # some
    python -m tests.models.dumps --referees-only     # quicker: dumps are not read back

Each dump is read back and verified by ourselves first; its generic form, with the section that names its weights, goes
to mlir-minimal-opt and mlir-opt (see `tests.referee`). Weights have the right sizes and made-up values, since no text
holds them. The exit status says whether all were accepted."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks import materialize
from stepwell.compiler import Options, context_of, machine_of
from stepwell.errors import StepwellError
from stepwell.ir.core import Operation
from stepwell.ir.parser import parse_module
from stepwell.ir.printer import PrintOptions, blobs_of, print_op, resources_text
from stepwell.ir.resources import unique_blob_names
from stepwell.ir.verifier import verify
from stepwell.lowering.pipeline import phases
from stepwell.sources import load_source
from tests.referee import FULL, MINIMAL, available, complaints, generic_text

NAMES = tuple(sorted(path.stem for path in materialize.MODELS.glob("*.onnx")))
PASSES = tuple(f"{index:02}.{pass_.name}" for index, pass_ in enumerate(p for phase in phases() for p in phase.flat()))
_DUMP = PrintOptions(locations=True)


def sample(names: Collection[str], count: int) -> list[tuple[str, str]]:
    """(model, pass) pairs that a hash chooses among all: others as soon as a pass is added."""
    story = ",".join(PASSES)
    pairs = [(name, pass_) for name in sorted(names) for pass_ in PASSES]
    return sorted(pairs, key=lambda pair: hashlib.sha256(f"{pair} {story}".encode()).digest())[:count]


def quickly_filled(name: str) -> onnx.ModelProto:
    """A model of benchmarks/models with weights between 0.5 and 1.5, which repeat."""
    model = onnx.load(materialize.MODELS / f"{name}.onnx")
    few = np.linspace(0.5, 1.5, 4093)
    for tensor in model.graph.initializer:
        if tensor.doc_string.startswith("fill "):
            values = np.resize(few, tuple(tensor.dims)).astype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def dumps(name: str) -> Iterator[tuple[str, Operation]]:
    """(pass, the module as it left it) on a model's way down; the same module each time, later ones further down."""
    module, _ = load_source(quickly_filled(name))
    options = Options()
    context = context_of(options, machine_of(options))
    labels = iter(PASSES)
    for phase in phases():
        for pass_ in phase.flat():
            pass_.run(module, context)
            yield next(labels), module


def refusals(module: Operation, *, again: bool = True) -> str:
    """What is wrong with a module's dump: it cannot be read back, or a referee refuses it. Nothing, if all is well.

    Reading back takes longer than the referees do; `again` says whether to."""
    unique_blob_names(module)
    places = {key: f"weights.bin:0:{blob.array.nbytes}:{0:032x}" for key, blob in blobs_of(module).items()}
    section = resources_text(places) if places else ""
    generic = generic_text(module)
    if again:
        try:
            copy = parse_module(f"{print_op(module, _DUMP)}\n{section}", "dump")
            verify(copy)
        except StepwellError as error:
            return f"it cannot be read back: {error}"
        if generic_text(copy) != generic:
            return "read back, it prints otherwise"
    return "".join(complaints(referee, [generic + section]) for referee in (MINIMAL, FULL))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in benchmarks/models (default: all)")
    parser.add_argument("--referees-only", action="store_true", help="do not read dumps back, which takes longest")
    args = parser.parse_args(argv)
    if unknown := sorted({*args.models} - {*NAMES}):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if missing := [referee for referee in (MINIMAL, FULL) if not available(referee)]:
        parser.error(f"{' and '.join(missing)} are not installed (Debian: mlir-19-tools)")
    failed = 0
    for name in args.models or NAMES:
        start, refused = time.perf_counter(), {}
        for pass_, module in dumps(name):
            if said := refusals(module, again=not args.referees_only):
                refused[pass_] = said
        failed += len(refused)
        print(f"{name}: {len(refused)} of {len(PASSES)} dumps refused, {time.perf_counter() - start:.0f} s", flush=True)
        for pass_, said in refused.items():
            print(f"{name}, {pass_}: {said}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
