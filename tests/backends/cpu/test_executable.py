"""Programs apart from a process: what a record holds, and the version of the run time that code expects."""

from __future__ import annotations

import hashlib

import pytest

from stepwell.backends.cpu import abi
from stepwell.backends.cpu.abi import Site
from stepwell.backends.cpu.executable import Executable, head_of, of_record, record_of
from stepwell.backends.cpu.target import Processor
from stepwell.dialects.descriptors import SEGMENT_WORDS
from stepwell.dialects.func import FuncOp
from stepwell.engine.records import BadRecord, Record, to_bytes
from stepwell.ir.dims import symbol
from stepwell.ir.parser import parse_module

ABI_DIGESTS = {1: "f69c", 2: "c641"}
"""What abi.py says, by version: where this does not fit, code on disk would be run by a run time that it does not fit.
A change of the contract gets a new number."""


def test_a_change_of_the_contract_is_a_new_version() -> None:
    layout = abi.ArgsLayout((2, 0, 3), 4)
    slots = [layout.arena, layout.constants, layout.scratch, layout.scratch_stride, layout.dim(2, 1), layout.slots]
    contract = repr((abi.RUNTIME_DECLARATIONS, abi.__doc__, abi.JOBS, abi.INTERRUPTED, SEGMENT_WORDS, slots))
    assert hashlib.blake2b(contract.encode()).hexdigest()[:4] == ABI_DIGESTS[abi.VERSION]


HEAD = """builtin.module {
  func.func @main(%x: memref<?xf32> {onnx.name = "x", sw.tensor = "tensor<?xf32, #graph.shape<[\\"n\\"]>>"},
                  %y: memref<?xf32> {onnx.name = "y", sw.out, sw.tensor = "tensor<?xf32, #graph.shape<[\\"n\\"]>>"},
                  %arena: memref<?xi8>)
      attributes {sw.arena = "64*n", sw.scratch = "16", sw.demands = ["n - 3", "no"]} {
    %n = buffer.dim %x {axis = 0} : memref<?xf32>
    func.return
  }
}
"""
PLAIN = Processor("cpu", "x86_64-unknown-linux-gnu", "")


def executable() -> Executable:
    (function,) = parse_module(HEAD).walk_of(FuncOp)
    return Executable(PLAIN, head_of(function), "stepwell.main", (Site("bad", "Gather_1"),), True, (b"code",), ())


def test_the_head_says_what_callers_must_know() -> None:
    made = executable()
    assert [op.name for op in made.head.body.block] == ["func.return"]
    assert [port.name for port in (*made.signature.inputs, *made.signature.outputs)] == ["x", "y"]
    n = symbol("n")
    assert (made.signature.arena_bytes, made.scratch_bytes, made.demands) == (64 * n, 16, ((n - 3, "no"),))


def test_a_record_gives_the_executable_back() -> None:
    record = Record.parse(to_bytes(record_of(executable())))
    assert of_record(record, (b"code",), ()) == executable()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("builtin.module {\n}", "not one function"),
        ("func.func @main(", "head of the program: "),
        ("", "expected an operation"),
        (HEAD * 2, "head of the program"),
        (HEAD.replace("memref<?xi8>", "i64"), "must be a buffer"),
        (HEAD.replace("tensor<?xf32, #graph", "tensor<?xfoo, #graph"), "head of the program: "),
    ],
)
def test_other_heads_are_refused(head: str, message: str) -> None:
    record = Record({**record_of(executable()), "head": head})
    with pytest.raises(BadRecord, match=message):
        of_record(record, (b"code",), ())
