"""Interning: equal is identical, and what Python calls equal but prints differently is kept apart."""

from __future__ import annotations

import copy
import gc
import struct
from typing import Any

import numpy as np
import pytest

from stepwell.errors import IRError
from stepwell.ir.attributes import (
    ArrayAttr,
    Attribute,
    DenseArrayAttr,
    DenseAttr,
    DictAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    bool_attr,
)
from stepwell.ir.interned import interned
from stepwell.ir.location import NameLoc
from stepwell.ir.types import F16, F32, F64, I1, I8, I32, I64, INDEX, FloatType, IntegerType, TensorType, VectorType


@interned
class Flags(Attribute):
    """A parameter of each plain kind."""

    mnemonic = "test.flags"
    value: Any


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: IntegerType(32), lambda: I32),
        (lambda: FloatType("f32"), lambda: F32),
        (lambda: TensorType((2, 3), F32), lambda: TensorType((2, 3), F32)),
        (lambda: IntegerAttr(True, I64), lambda: IntegerAttr(1)),
        (lambda: IntegerAttr(np.int8(1)), lambda: IntegerAttr(1)),
        (lambda: IntegerAttr(-1, I1), lambda: bool_attr(True)),
        (lambda: FloatAttr(0.1, F32), lambda: FloatAttr(float(np.float32(0.1)), F32)),
        (lambda: FloatAttr(1, F64), lambda: FloatAttr(1.0, F64)),
        (lambda: FloatAttr(np.float32(2), F32), lambda: FloatAttr(2.0)),
        (lambda: DenseArrayAttr(F64, (1, 2)), lambda: DenseArrayAttr(F64, (1.0, 2.0))),
        (lambda: DenseArrayAttr(I64, (np.int64(1), True)), lambda: DenseArrayAttr(I64, (1, 1))),
        (lambda: FloatAttr(float("nan")), lambda: FloatAttr(float("nan"))),
        (lambda: DictAttr.of({"b": I, "a": I}), lambda: DictAttr.of({"a": I, "b": I})),
        (lambda: NameLoc("a"), lambda: NameLoc("a")),
    ],
)
def test_the_same_object(one: Any, other: Any) -> None:
    assert one() is other()


I = IntegerAttr(1)  # noqa: E741


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (FloatAttr(0.0), FloatAttr(-0.0)),
        (FloatAttr(1.0, F32), FloatAttr(1.0, F64)),
        (IntegerAttr(1, I1), IntegerAttr(1, I8)),
        (IntegerAttr(1, I64), IntegerAttr(1, INDEX)),
        (Flags(1), Flags(True)),
        (Flags(1), Flags(1.0)),
        (Flags(0.0), Flags(-0.0)),
        (Flags((1, (0,))), Flags((1, (False,)))),
        (Flags("1"), Flags(1)),
        (StringAttr("a"), StringAttr("b")),
        (DenseArrayAttr(F64, (0.0,)), DenseArrayAttr(F64, (-0.0,))),
        (ArrayAttr((I,)), ArrayAttr((I, I))),
        (
            DenseAttr(TensorType((1,), F32), struct.pack("<f", 0.0)),
            DenseAttr(TensorType((1,), F32), struct.pack("<f", -0.0)),
        ),
        (DenseAttr(TensorType((1,), F32), bytes(4)), DenseAttr(VectorType((1,), F32), bytes(4))),
        (FloatAttr(struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0], F64), FloatAttr(float("nan"), F64)),
        (TensorType((1,), F32), VectorType((1,), F32)),
        (IntegerType(8), I32),
    ],
)
def test_different_objects(one: Attribute, other: Attribute) -> None:
    assert one is not other
    assert one != other


def test_what_was_made_first_does_not_decide_what_is_printed() -> None:
    assert [str(Flags(value)) for value in (True, 1, 1.0)] == [
        "#test.flags<value = true>",
        "#test.flags<value = 1>",
        "#test.flags<value = 1.0>",
    ]
    assert str(IntegerAttr(True, I8)) == "1 : i8"
    assert [str(FloatAttr(v, F16)) for v in (0.0, -0.0)] == ["0.0 : f16", "-0.0 : f16"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegerAttr(256, I8), "256 does not fit in i8"),
        (lambda: IntegerAttr(1, F32), "is an integer, which f32 is not"),
        (lambda: FloatAttr(1.0, I8), "is a float, which i8 is not"),
        (lambda: IntegerType(0), "1 to 64 bits, not 0"),
        (lambda: FloatType("f7"), "unknown floating-point format 'f7'"),
        (lambda: VectorType((0,), F32), "positive integers"),
        (lambda: TensorType((-1,), F32), "a dim of size -1"),
        (lambda: DenseArrayAttr(I8, (999,)), "999 does not fit in i8"),
        (lambda: DenseAttr(TensorType((2,), F32), bytes(4)), "4 bytes of data for tensor<2xf32>, which has 8"),
        (lambda: TensorType((2,), TensorType((2,), F32)), "does not hold elements of type tensor<2xf32>"),
    ],
)
def test_what_cannot_be_made(make: Any, message: str) -> None:
    with pytest.raises(IRError, match=message):
        make()


def test_copies_are_the_object_itself() -> None:
    type_ = TensorType((2, 3), F32)
    assert copy.copy(type_) is type_
    assert copy.deepcopy([type_])[0] is type_


def test_objects_are_immutable() -> None:
    with pytest.raises(AttributeError):
        I32.width = 64  # type: ignore[misc]


def test_unused_objects_go() -> None:
    import weakref

    watched = weakref.ref(StringAttr("a text that nobody keeps"))
    gc.collect()
    assert watched() is None
