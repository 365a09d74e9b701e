"""LLVM IR text to object code or assembly, and object code into this process.

    objects = compile_objects([kernels, program], target)
    code = load(objects, externals)
    code.address("program")

Objects are position-independent, so the same bytes serve the JIT, a cache on disk and a shared library. Any number of
threads may call `compile_object` at once; they run in parallel.

LLVM ends the whole process when instruction selection fails ("Cannot select", "no libcall available"). IR that may do
that, such as IR edited by hand, is compiled with `isolated=True`: in a child process, whose death becomes a
`CodegenError`.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from . import announce, elf, link, llvm, machine
from .cache import ObjectCache, object_key
from .llvm import CodegenError
from .target import CpuTarget, host

__all__ = ["Code", "CodegenError", "compile_object", "compile_objects", "emit_assembly", "load"]

_library_names = itertools.count()


def compile_object(
    ir_text: str, target: CpuTarget, *, opt: int = 2, passes: Sequence[str] = (), isolated: bool = False
) -> bytes:
    """The relocatable object of one LLVM module.

    `opt` is the code generator's level (0 to 3). `passes` names IR passes to run first, out of `sroa`, `instcombine`,
    `simplifycfg`, `dce`, `always-inline`; explicit vector code needs none. Raises `CodegenError`.
    """
    if isolated:
        return _in_child(ir_text, target, opt, passes, as_object=True)
    return _generate(ir_text, target, opt, passes, as_object=True)


def compile_objects(
    ir_texts: Sequence[str],
    target: CpuTarget,
    *,
    opt: int = 2,
    passes: Sequence[str] = (),
    isolated: bool = False,
    threads: int | None = None,
    cache: ObjectCache | None = None,
) -> list[bytes]:
    """`compile_object` of every text, in parallel on `threads` threads (the usable cores by default), in order; what
    the `cache` has is taken from there, and it is given the rest."""

    def one(text: str) -> bytes:
        key = object_key(text, target, opt, passes) if cache else ""
        found = cache.get(key) if cache else None
        if found is None:
            found = compile_object(text, target, opt=opt, passes=passes, isolated=isolated)
            if cache:
                cache.put(key, found)
        return found

    workers = min(threads or machine.usable_cores(), len(ir_texts))
    if workers <= 1:
        return [one(text) for text in ir_texts]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers, thread_name_prefix="stepwell-codegen") as pool:
        return list(pool.map(one, ir_texts))


def emit_assembly(
    ir_text: str, target: CpuTarget, *, opt: int = 2, passes: Sequence[str] = (), isolated: bool = False
) -> str:
    """The assembly text of one LLVM module; the same code as `compile_object` makes. Raises `CodegenError`."""
    if isolated:
        return _in_child(ir_text, target, opt, passes, as_object=False).decode()
    return _generate(ir_text, target, opt, passes, as_object=False).decode()


class Code:
    """Object code linked into this process. Its memory is freed with the last reference to it: whoever can still
    call into the code holds one."""

    def __init__(self, engine: Any, addresses: Any, symbols: frozenset[str]) -> None:
        """`engine` is what the memory is freed with; `addresses` has that of each symbol."""
        self._engine = engine
        self._addresses = addresses
        self.symbols = symbols

    def address(self, symbol: str) -> int:
        """The address of a function or global variable. Raises `CodegenError` when no object defines it."""
        if symbol not in self.symbols:
            raise CodegenError(f"the code has no symbol {symbol!r}; it has {', '.join(sorted(self.symbols)) or 'none'}")
        return int(self._addresses[symbol])


def load(
    objects: Sequence[bytes],
    externals: Mapping[str, int] | None = None,
    nodes: Mapping[str, Sequence[str]] | None = None,
) -> Code:
    """Links object images with each other, with `externals` (symbol -> address) and with the process (libc, libm).

    Profilers and debuggers hear of it where the environment asks for that (see `announce`); `nodes` has the ONNX nodes
    of kernels, by their symbols, for them.

    Raises `CodegenError` when an object is damaged or made for another machine, or a symbol is defined nowhere.
    """
    if announce.wants_map() or announce.wants_gdb():
        objects = [elf.exposed(image) for image in _sound(objects)]
    exported = _check_links(objects, externals or {})
    linker = _load_for_gdb if announce.wants_gdb() else _load if host().arch in link.ARCHITECTURES else _load_by_llvm
    code = linker(objects, externals or {}, exported)
    if announce.wants_map():
        announce.write_map(code, objects, nodes or {})
    return code


def _load(objects: Sequence[bytes], externals: Mapping[str, int], exported: frozenset[str]) -> Code:
    try:
        linked = link.link(objects, externals)
    except link.NotLinked as error:
        raise CodegenError(f"the objects do not link: {error}") from None
    except elf.DamagedObject as error:
        raise CodegenError(f"cannot load an object: {error}") from None
    return Code(linked, linked.addresses, exported)


def _load_by_llvm(objects: Sequence[bytes], externals: Mapping[str, int], exported: frozenset[str]) -> Code:
    binding = llvm.binding()
    library = f"stepwell.{next(_library_names)}"
    builder = binding.JITLibraryBuilder().add_current_process()
    for image in objects:
        builder.add_object_img(image)
    for symbol, address in externals.items():
        builder.import_symbol(symbol, address)
    for symbol in exported:
        builder.export_symbol(symbol)
    engine = binding.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
    try:
        tracker = builder.link(engine, library)
    except RuntimeError as error:
        raise CodegenError(f"the objects do not link: {error}") from None
    return Code(engine, tracker, exported)


def _load_for_gdb(objects: Sequence[bytes], externals: Mapping[str, int], exported: frozenset[str]) -> Code:
    """By MCJIT, which tells GDB of each object and of its end, and takes the first of several symbols of one name."""
    names = [name for image in objects for name in elf.symbols_of(image).exported]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CodegenError(f"the objects do not link: defined more than once: {', '.join(twice)}")
    binding = llvm.binding()
    for symbol, address in externals.items():
        binding.add_symbol(symbol, address)
    module = binding.parse_assembly("")
    module.triple = binding.get_process_triple()
    machine = binding.Target.from_triple(module.triple).create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(module, machine)
    for image in objects:
        engine.add_object_file(binding.ObjectFileRef.from_data(image))
    engine.finalize_object()
    return Code(engine, {symbol: engine.get_global_value_address(symbol) for symbol in exported}, exported)


def _sound(objects: Sequence[bytes]) -> Sequence[bytes]:
    for image in objects:
        try:
            elf.symbols_of(image)
        except elf.DamagedObject as error:
            raise CodegenError(f"cannot load an object: {error}") from None
    return objects


def _check_links(objects: Sequence[bytes], externals: Mapping[str, int]) -> frozenset[str]:
    """The symbols that the objects export; an error unless all of them can be linked here."""
    arch = host().arch
    defined, exported, undefined = set[str](), set[str](), set[str]()
    for image in objects:
        try:
            symbols = elf.symbols_of(image)
        except elf.DamagedObject as error:
            raise CodegenError(f"cannot load an object: {error}") from None
        if symbols.arch != arch:
            raise CodegenError(f"cannot load an object made for {symbols.arch} into a process on {arch}")
        defined |= symbols.defined
        exported |= symbols.exported
        undefined |= symbols.undefined
    process = ctypes.CDLL(None)
    if missing := [name for name in sorted(undefined - defined - set(externals)) if not hasattr(process, name)]:
        raise CodegenError(f"defined nowhere: {', '.join(missing)}")
    return frozenset(exported)


def _generate(text: str, target: CpuTarget, opt: int, passes: Sequence[str], *, as_object: bool) -> bytes:
    with llvm.target_machine(target, opt) as generator, llvm.parsed(text) as module:
        llvm.run_passes(module, generator, passes)
        return llvm.emit(module, generator, as_object=as_object)


def _in_child(text: str, target: CpuTarget, opt: int, passes: Sequence[str], *, as_object: bool) -> bytes:
    import pickle
    import subprocess

    request = pickle.dumps((text, target, opt, tuple(passes), as_object))
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.codegen_child"],
        input=request,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        check=False,
    )
    if done.returncode == 0:
        ok, answer = pickle.loads(done.stdout)
        if ok:
            return bytes(answer)
        raise CodegenError(str(answer))
    said = done.stderr.decode(errors="replace")
    reason = next((line for line in said.splitlines() if "LLVM ERROR" in line), said.strip()[-500:])
    raise CodegenError(f"LLVM gave up on this module (exit status {done.returncode}): {reason}")
