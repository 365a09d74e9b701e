"""Runs code for AArch64 on another machine: a model as a Linux program under `qemu-aarch64`.

    with emulation.of(tmp_path):
        model = stepwell.compile("model.onnx", target="aarch64")
    model(x)  # the machine code of the model, the team and its barriers, executed by qemu

Everything up to the native entry is what runs elsewhere: the same objects, the same run time (`native.runtime_ir`) with
its threads, and the same checks of arguments. In the place of the entry, which reads Python's objects, a program linked
here takes the arrays from its standard input and gives the results and the status word to its standard output.

The program needs a C library for AArch64 (threads, libm), a linker and qemu: Debian's packages libc6-arm64-cross,
binutils-aarch64-linux-gnu and qemu-user.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pytest
from attrs import frozen

from stepwell.backends.cpu import heap_ir, jit, model, native, target, team_block, team_ir
from stepwell.backends.cpu.abi import ArgsLayout
from stepwell.backends.cpu.entry import Argument
from stepwell.backends.cpu.executable import Executable
from stepwell.errors import TargetError

Array = np.ndarray[Any, Any]

QEMU, LINKER = "qemu-aarch64", "aarch64-linux-gnu-ld"
ROOT = Path("/usr/aarch64-linux-gnu")
PROCESSOR = "cortex-a53"  # Armv8.0-A and no more: an instruction of a later level is an illegal one
SECONDS = 120

BASE = 1 << 36
"""Where the program's memory lies: a fixed address, so that the pointers among the arguments can be made here."""

_LINE = 64
_WORDS = ("total", "results", "given", "begin", "args", "threads", "parallel", "segments")
_HEADER = struct.Struct(f"<{len(_WORDS)}q")

_PYTHON = """
; Python's side of the team: no caller here has signals to look for, so nothing calls these.
declare void @abort() noreturn
define void @PyEval_RestoreThread(ptr %state) { call void @abort() unreachable }
define ptr @PyEval_SaveThread() { call void @abort() unreachable }
define i32 @PyErr_CheckSignals() { call void @abort() unreachable }
"""

_MAIN = Template("""
@program = external global i8
@header = internal global [8 x i64] zeroinitializer
@report = internal global [3 x i64] zeroinitializer

declare i64 @read(i32, ptr, i64)
declare i64 @write(i32, ptr, i64)
declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare void @exit(i32) noreturn

define internal void @check(i1 %good, i32 %status) {
  br i1 %good, label %on, label %off
on:
  ret void
off:
  call void @exit(i32 %status)
  unreachable
}

; All %size bytes from standard input (%direction 0) or to standard output (1).
define internal void @transfer(i32 %direction, ptr %at, i64 %size) {
entry:
  br label %head
head:
  %done = phi i64 [ 0, %entry ], [ %done.next, %step ]
  %more = icmp slt i64 %done, %size
  br i1 %more, label %body, label %end
body:
  %here = getelementptr i8, ptr %at, i64 %done
  %rest = sub i64 %size, %done
  %out = icmp eq i32 %direction, 1
  br i1 %out, label %put, label %get
get:
  %got = call i64 @read(i32 0, ptr %here, i64 %rest)
  br label %step
put:
  %given = call i64 @write(i32 1, ptr %here, i64 %rest)
  br label %step
step:
  %moved = phi i64 [ %got, %get ], [ %given, %put ]
  %any = icmp sgt i64 %moved, 0
  call void @check(i1 %any, i32 101)
  %done.next = add i64 %done, %moved
  br label %head
end:
  ret void
}

; The dynamic loader has set up the C library when it jumps here.
define void @_start() noreturn {
entry:
  call void @transfer(i32 0, ptr @header, i64 $HEADER_BYTES)
$WORDS
  %base = inttoptr i64 $BASE to ptr
  ; PROT_READ | PROT_WRITE; MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
  %memory = call ptr @mmap(ptr %base, i64 %total, i32 3, i32 1048610, i32 -1, i64 0)
  %mapped = icmp eq ptr %memory, %base
  call void @check(i1 %mapped, i32 102)
  ; What nobody has written reads as NaN.
  call void @llvm.memset.p0.i64(ptr %base, i8 -1, i64 %total, i1 false)
  %table = getelementptr i8, ptr %base, i64 %begin
  call void @transfer(i32 0, ptr %table, i64 %given)
  %wanted.p = getelementptr i8, ptr @sw_team, i64 $WANTED
  store atomic i64 %threads, ptr %wanted.p monotonic, align 8
  %answer = call i64 @sw_call(ptr @program, ptr %args, i64 %threads, i64 %parallel, ptr null, ptr @report)
  %ran = icmp eq i64 %answer, 0
  call void @check(i1 %ran, i32 103)
  call void @transfer(i32 1, ptr @report, i64 24)
  call void @transfer(i32 1, ptr %base, i64 %results)
  br label %head
head:
  %segment = phi i64 [ 0, %entry ], [ %segment.next, %body ]
  %more = icmp slt i64 %segment, %segments
  br i1 %more, label %body, label %end
body:
  %words = shl i64 %segment, 1
  %memory.p = getelementptr i64, ptr %table, i64 %words
  %held = load ptr, ptr %memory.p
  %capacity.p = getelementptr i64, ptr %memory.p, i64 1
  %capacity = load i64, ptr %capacity.p
  call void @transfer(i32 1, ptr %held, i64 %capacity)
  %segment.next = add i64 %segment, 1
  br label %head
end:
  %ended = call i64 @sw_disband()
  call void @exit(i32 0)
  unreachable
}
""")


def missing() -> str:
    """What keeps this machine from running AArch64 programs; nothing where it can."""
    lacks = {
        "qemu-user": shutil.which(QEMU) is None,
        "binutils-aarch64-linux-gnu": shutil.which(LINKER) is None,
        "libc6-arm64-cross": not (ROOT / "lib" / "libm.so.6").exists(),
    }
    names = [name for name, absent in lacks.items() if absent]
    return f"Debian's {', '.join(names)} not installed" if names else ""


@contextlib.contextmanager
def of(folder: Path) -> Iterator[None]:
    """Models compiled within it are programs in `folder`, which qemu runs, also after it is left."""
    native.code()
    argument_of = model._output_argument

    def load(objects: Sequence[bytes], externals: Mapping[str, int] | None = None, nodes: object = None) -> Objects:
        return Objects(tuple(objects), Path(tempfile.mkdtemp(dir=folder)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "check_runs_here", lambda _: None)
        patch.setattr(model, "NativeEntry", EmulatedEntry)
        patch.setattr(model, "_output_argument", lambda port: _output(argument_of(port), port.published))
        patch.setattr(jit, "load", load)
        patch.setattr(model, "_externals", _externals)
        yield


def _externals(executable: Executable) -> dict[str, int]:
    if executable.host.calls:
        raise TargetError("there is no Python in an emulated program, which calls functions of it")
    return {}


@frozen
class Objects:
    """A model's objects, and the folder in which they are linked."""

    images: tuple[bytes, ...]
    folder: Path


def link(objects: Objects, program: str) -> Path:
    """The objects of a model, the run time and the main function as one executable file."""
    paths = []
    for number, image in enumerate([*objects.images, *_runtime()]):
        paths.append(objects.folder / f"{number}.o")
        paths[-1].write_bytes(image)
    made = objects.folder / "model"
    command: list[str | Path] = [
        LINKER, "-o", made, "--entry=_start", f"--defsym=program={program}", "--dynamic-linker",
        ROOT / "lib" / "ld-linux-aarch64.so.1", *paths, ROOT / "lib" / "libc.so.6", ROOT / "lib" / "libm.so.6",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"the objects do not link: {done.stderr[-2000:]}")
    return made


@functools.cache
def _runtime() -> list[bytes]:
    machine = target.named("aarch64")
    words = "\n".join(
        f"  %{name}.p = getelementptr i64, ptr @header, i64 {place}\n"
        f"  %{name} = load {'ptr' if name == 'args' else 'i64'}, ptr %{name}.p"
        for place, name in enumerate(_WORDS)
    )
    main = _MAIN.substitute(WORDS=words, HEADER_BYTES=_HEADER.size, BASE=BASE, WANTED=team_block.WANTED)
    return jit.compile_objects([team_ir.team_ir(machine.arch) + heap_ir.heap_ir() + main, _PYTHON], machine)


@frozen
class _Output(Argument):
    """An output of the model; what is no such output is the heap's table of segments, and the last one. Of a published
    output the program gives a descriptor: an address in the heap, and sizes."""

    published: bool = False


def _output(argument: Argument, published: bool) -> _Output:
    return _Output(argument.dtype, argument.shape, argument.dense, published)


@frozen
class _Image:
    """The program's memory: results first, which it gives back; then what it uses. What it is given begins with the
    heap's table, which is the last of the results."""

    results: int
    begin: int
    given: bytes
    total: int
    args: int
    places: tuple[int, ...]


class EmulatedEntry:
    """Stands in for `NativeEntry`: the same arguments, the same answers."""

    call: Callable[..., int | tuple[int, int, int] | None]

    def __init__(
        self, code: Objects, program: str, inputs: Sequence[Argument], outputs: Sequence[Argument],
        constants: Sequence[Array] = (), *, parallel: bool = True,
    ) -> None:  # fmt: skip
        self.program = link(code, program)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.layout = ArgsLayout(tuple(len(argument.shape) for argument in self.inputs), len(self.outputs))
        self.constants = tuple(constants)
        self.parallel = parallel
        self.segments = 0
        if self.outputs and not isinstance(self.outputs[-1], _Output):
            self.segments = int(self.outputs[-1].shape[0] or 0)
        self._heap: list[Array] = []

        def call(*arrays: Array) -> int | tuple[int, int, int] | None:
            return self._run(arrays)

        self.call = call

    def _run(self, arrays: Sequence[Array]) -> int | tuple[int, int, int] | None:
        described = (*self.inputs, *self.outputs)
        for index, (argument, array) in enumerate(zip(described, arrays, strict=False)):
            if argument.mismatch(array):
                return index
        inputs, outputs = arrays[: len(self.inputs)], arrays[len(self.inputs) : len(described)]
        arena, scratch = arrays[len(described) :]
        image = self._image(inputs, outputs, arena.nbytes, scratch)
        header = _HEADER.pack(
            image.total, image.results, len(image.given), image.begin, image.args, scratch.shape[0],
            int(self.parallel), self.segments,
        )  # fmt: skip
        answer = self._execute(header + image.given)
        code, op, value = struct.unpack_from("<3q", answer)
        moved = self._moved(answer, image)
        for place, argument, output in zip(image.places, self.outputs, outputs, strict=True):
            if isinstance(argument, _Output):
                output.reshape(-1).view(np.uint8)[:] = np.frombuffer(answer, np.uint8, output.nbytes, 24 + place)
                if argument.published and not code:
                    output[0] = moved(int(output[0]))
        return (code, op, value) if code else None

    def _moved(self, answer: bytes, image: _Image) -> Callable[[int], int]:
        """Where an address in the program's heap is here, until the next call."""
        segments = np.frombuffer(answer, np.int64, 2 * self.segments, 24 + image.begin).reshape(-1, 2).tolist()
        at = 24 + image.results
        self._heap = []
        for _, capacity in segments:
            self._heap.append(np.frombuffer(answer, np.uint8, capacity, at))
            at += capacity

        def moved(address: int) -> int:
            for (first, capacity), array in zip(segments, self._heap, strict=True):
                if first <= address < first + capacity:
                    return int(array.ctypes.data) + address - first
            raise AssertionError(f"a result lies at {address:#x}, in no segment of the heap: {segments}")

        return moved

    def _image(self, inputs: Sequence[Array], outputs: Sequence[Array], arena: int, scratch: Array) -> _Image:
        at = 0
        places = []

        def place(size: int) -> int:
            nonlocal at
            places.append(at)
            at = -(-(at + size) // _LINE) * _LINE
            return places[-1]

        out = [place(array.nbytes) for array in outputs]
        results = at
        begin = out[-1] if self.segments else results
        sent = [*inputs, *self.constants]
        at_sent = [place(array.nbytes) for array in sent]
        table = place(8 * len(self.constants))
        args = place(8 * self.layout.slots)
        end = at
        used = [place(arena), table, place(scratch.nbytes)]
        words = [BASE + offset for offset in (*at_sent[: len(inputs)], *out, *used)]
        words += [scratch.shape[1], *(size for array in inputs for size in array.shape)]
        given = bytearray(end - begin)
        for offset, array in zip(at_sent, sent, strict=True):
            given[offset - begin : offset - begin + array.nbytes] = array.tobytes()
        pointers = [BASE + offset for offset in at_sent[len(inputs) :]]
        struct.pack_into(f"<{len(pointers)}q", given, table - begin, *pointers)
        struct.pack_into(f"<{len(words)}q", given, args - begin, *words)
        return _Image(results, begin, bytes(given), max(at, _LINE), BASE + args, tuple(out))

    def _execute(self, request: bytes) -> bytes:
        command = [QEMU, "-cpu", PROCESSOR, "-L", str(ROOT), str(self.program)]
        done = subprocess.run(command, input=request, capture_output=True, timeout=SECONDS, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}: {said}")
        return done.stdout
