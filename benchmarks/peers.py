"""The engines, each behind one small interface: a ModelProto and a number of threads in, a function on arrays out.

An engine is imported inside its function, so only in the child process that runs it; one that is not installed makes
an error in its column and nothing worse. A new peer is one function and one line of `ENGINES`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from benchmarks.worker import Array, Engine, Feeds, Run


def _input_names(model: Any) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in constants]


def stepwell(model: Any, threads: int) -> Run:
    """Stepwell at f32; it sizes its team by the CPUs that the process may use, which the worker has set."""
    import stepwell as engine

    return _of_stepwell(engine.compile(model), _input_names(model))


def stepwell_static(model: Any, threads: int) -> Run:
    """Stepwell with the symbolic sizes fixed to those of the first inputs that come, for which it compiles then."""
    import stepwell as engine

    names = _input_names(model)

    @functools.cache
    def compiled(*shapes: tuple[int, ...]) -> Run:
        return _of_stepwell(engine.compile(model, shapes=dict(zip(names, map(list, shapes), strict=True))), names)

    return lambda feeds: compiled(*(feeds[name].shape for name in names))(feeds)


def _of_stepwell(compiled: Any, names: Sequence[str]) -> Run:
    def run(feeds: Feeds) -> Sequence[Array]:
        result = compiled(*[feeds[name] for name in names])
        return result if isinstance(result, tuple) else (result,)

    return run


def onnxruntime(model: Any, threads: int) -> Run:
    """onnxruntime's CPU provider with all graph optimisations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(feeds: Feeds) -> Sequence[Array]:
        outputs: Sequence[Array] = session.run(None, dict(feeds))
        return outputs

    return run


def openvino(model: Any, threads: int) -> Run:
    """OpenVINO at f32 (its default may compute in bf16), tuned for latency."""
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    request = compiled.create_infer_request()
    names = _input_names(model)
    ports = {name: next(i for i, port in enumerate(compiled.inputs) if name in port.get_names()) for name in names}

    def run(feeds: Feeds) -> Sequence[Array]:
        results = request.infer({ports[name]: feeds[name] for name in names})
        return [results[index] for index in range(len(compiled.outputs))]

    return run


ENGINES: dict[str, Engine] = {
    "stepwell": stepwell, "stepwell_static": stepwell_static, "onnxruntime": onnxruntime, "openvino": openvino,
}  # fmt: skip
