"""llvmlite, imported on first use, with the calls that take long made free of its global lock.

llvmlite guards each call into LLVM by one process-wide lock. LLVM itself needs none as long as no two threads share a
context (LLVM Programmer's Manual, "Threads and LLVM"). Here every compilation has a context, a module and a target
machine of its own; parsing, passes and code generation go around the lock where llvmlite lets one, and work serially,
with the same results, where a future llvmlite does not.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stepwell.errors import StepwellError, TargetError

if TYPE_CHECKING:
    from .target import CpuTarget

_PASSES = {
    "sroa": "add_sroa_pass",
    "instcombine": "add_instruction_combine_pass",
    "simplifycfg": "add_simplify_cfg_pass",
    "always-inline": "add_always_inliner_pass",
    "dce": "add_dead_code_elimination_pass",
}


class CodegenError(StepwellError):
    """LLVM refused IR text: the text does not parse or verify (the offending line is shown), or has no code."""


@functools.cache
def binding() -> Any:
    """The module `llvmlite.binding`, with all targets initialised."""
    import llvmlite.binding as module  # takes long to import and maps 150 MB of library

    module.initialize_all_targets()
    module.initialize_all_asmprinters()
    module.initialize_native_asmparser()
    return module


@functools.cache
def version() -> str:
    """What makes code of IR text: `llvmlite 0.48.0, LLVM 20.1.8`."""
    import llvmlite

    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, binding().llvm_version_info))}"


@contextmanager
def parsed(text: str) -> Iterator[Any]:
    """The verified module of `text`, in a context of its own; both are gone when the block is left."""
    lib = binding()
    context = lib.create_context()
    try:
        module = _parse(text, context)
        try:
            _verify(module, text)
            yield module
        finally:
            module.close()
    finally:
        context.close()


@contextmanager
def target_machine(target: CpuTarget, opt: int) -> Iterator[Any]:
    """A code generator for `target` at level `opt` (0 to 3). Code is position-independent: the same object is loaded
    by the JIT and linked into a shared library."""
    lib = binding()
    try:
        made = lib.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="small"
        )
    except RuntimeError as error:
        raise TargetError(f"LLVM cannot make code for {target.name} ({target.triple}): {error}") from None
    try:
        yield made
    finally:
        made.close()


@functools.cache
def data_layout(target: CpuTarget) -> str:
    """The layout string that the target's LLVM modules begin with."""
    with target_machine(target, 0) as machine:
        return str(machine.target_data)


def run_passes(module: Any, machine: Any, passes: Sequence[str]) -> None:
    """Runs the named module passes in order. Raises `CodegenError` for an unknown name."""
    if not passes:
        return
    lib = binding()
    manager = lib.create_new_module_pass_manager()
    for name in passes:
        if name not in _PASSES:
            raise CodegenError(f"unknown LLVM pass {name!r}; known: {', '.join(_PASSES)}")
        getattr(manager, _PASSES[name])()
    options = lib.create_pipeline_tuning_options(speed_level=1)
    builder = lib.create_pass_builder(machine, options)
    _unlocked("LLVMPY_RunNewModulePassManager")(manager, module, builder)


def emit(module: Any, machine: Any, *, as_object: bool) -> bytes:
    """Object code or assembly of the module."""
    ffi = binding().ffi
    with ffi.OutputString() as message:
        buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, int(as_object), message)
        if not buffer:
            raise CodegenError(f"LLVM made no code: {message}")
    try:
        start, size = ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(start, size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _unlocked(name: str) -> Callable[..., Any]:
    wrapped = getattr(binding().ffi.lib, name)
    plain: Callable[..., Any] = getattr(wrapped, "_cfn", wrapped)
    return plain


def _parse(text: str, context: Any) -> Any:
    lib = binding()
    with lib.ffi.OutputString() as message:
        pointer = _unlocked("LLVMPY_ParseAssembly")(context, ctypes.c_char_p(text.encode()), message)
        if not pointer:
            raise _parse_error(str(message))
    return lib.module.ModuleRef(pointer, context)


def _parse_error(message: str) -> CodegenError:
    """LLVM's message already holds the line and a caret: name the place in our words and keep both."""
    head, _, excerpt = message.strip().partition("\n")
    place = re.match(r"<string>:(\d+):(\d+): error: (.*)", head)
    if place is None:
        return CodegenError(f"LLVM IR text does not parse: {message.strip()}")
    line, column, why = place.groups()
    return CodegenError(f"LLVM IR text does not parse: line {line}, column {column}: {why}\n{excerpt}")


def _verify(module: Any, text: str) -> None:
    try:
        module.verify()
    except RuntimeError as error:
        why = str(error).strip()
        line = _line_of(why, text)
        raise CodegenError(f"LLVM IR text is not valid: {f'line {line}: ' if line else ''}{why}") from None


def _line_of(message: str, text: str) -> int | None:
    """The line of `text` that the verifier prints under its reason, if it stands there in the same words."""
    printed = {" ".join(line.split()) for line in message.splitlines()[1:]} - {""}
    for number, line in enumerate(text.splitlines(), 1):
        if " ".join(line.split()) in printed:
            return number
    return None
