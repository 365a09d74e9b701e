"""Programs apart from a process: what a record holds, and the version of the run time that code expects."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import pytest

from stepwell.backends.cpu import abi
from stepwell.backends.cpu.executable import dim_text, dtype_name, dtype_named
from stepwell.dialects.heap import SEGMENT_WORDS
from stepwell.errors import EngineError
from stepwell.ir.dims import parse_dim, symbol

ABI_DIGESTS = {1: "f69c"}
"""What abi.py says, by version: where this does not fit, code on disk would be run by a run time that it does not fit.
A change of the contract gets a new number."""


def test_a_change_of_the_contract_is_a_new_version() -> None:
    layout = abi.ArgsLayout((2, 0, 3), 4)
    slots = [layout.arena, layout.constants, layout.scratch, layout.scratch_stride, layout.dim(2, 1), layout.slots]
    contract = repr((abi.RUNTIME_DECLARATIONS, abi.__doc__, abi.JOBS, abi.INTERRUPTED, SEGMENT_WORDS, slots))
    assert hashlib.blake2b(contract.encode()).hexdigest()[:4] == ABI_DIGESTS[abi.VERSION]


@pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float16", "complex64", "bfloat16", "int4", "float8_e5m2"])
def test_element_types_have_names(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    assert dtype_named(name) == dtype and dtype_name(dtype) == name


@pytest.mark.parametrize("name", ["object", "U8", "float", "f4", "finfo", "__doc__", "", "i4,i4", "float9000", "void"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown element type"):
        dtype_named(name)


def test_text_has_no_place_in_a_file() -> None:
    with pytest.raises(EngineError, match="a port has element type object"):
        dtype_name(np.dtype(object))


@pytest.mark.parametrize("text", ["0", "-5", "n", "4*n + 2", "`a b`*n", "floordiv(n, 3)", "max(n, m)", "mod(n, 7)"])
def test_sizes_are_read_back(text: str) -> None:
    assert parse_dim(dim_text(parse_dim(text))) == parse_dim(text)


def test_sizes_that_would_not_be_read_back_are_refused() -> None:
    with pytest.raises(EngineError, match="too long to be written down"):
        dim_text(sum((symbol(f"a_size_with_a_long_name_{number}") for number in range(400)), start=0))
