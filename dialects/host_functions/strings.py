"""Functions that look into strings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stepwell.dialects.host_functions import host_function
from stepwell.errors import IRError
from stepwell.ir.dims import Dim
from stepwell.ir.types import I1, SI64, StringType, TensorType, numpy_dtype

Array = np.ndarray[Any, Any]

TEXT = StringType()

MOST_PARTS = 1 << 26
"""Places for the parts of split strings: one long string makes a row as long for every other one."""


def text_array(items: Iterable[str], shape: Sequence[int]) -> Array:
    """Strings as an array of objects."""
    listed = list(items)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array.reshape(shape)


def texts_of(op: Any, number: int) -> TensorType:
    """The type of an operand that holds strings. Raises IRError."""
    if number >= len(op.types):
        raise IRError(f"@{op.callee} lacks its operand {number}")
    type_: TensorType = op.types[number]
    if type_.element is not TEXT:
        raise IRError(f"@{op.callee} takes strings, not {type_}")
    return type_


# Joining and splitting


def _concat_types(op: Any) -> Sequence[TensorType]:
    from stepwell.dialects.graph.base import broadcast_shapes

    return [TensorType(broadcast_shapes(texts_of(op, 0).shape, texts_of(op, 1).shape), TEXT)]


@host_function(_concat_types)
def string_concat(config: Any, x: Array, y: Array) -> Array:
    """Pairs of strings joined, with NumPy's broadcasting. ONNX: StringConcat."""
    try:
        return np.asarray(np.add(x, y, dtype=object), object)
    except ValueError:
        raise IRError(f"shapes {list(x.shape)} and {list(y.shape)} do not broadcast") from None


def _split_types(op: Any) -> Sequence[TensorType]:
    from stepwell.dialects.graph.symbols import fresh_dim

    shape = texts_of(op, 0).shape
    return [TensorType((*shape, fresh_dim(op, "string_split")), TEXT), TensorType(shape, SI64)]


@host_function(_split_types)
def string_split(config: Any, x: Array) -> tuple[Array, Array]:
    """The parts of each string between delimiters, filled up with empty strings, and how many there are. ONNX:
    StringSplit: without a delimiter (or with an empty one) runs of white space are one."""
    delimiter, most = config.get("delimiter") or None, config.get("maxsplit", -1)
    parts = [text.split(delimiter, most) if text else [] for text in x.reshape(-1).tolist()]
    width = max(map(len, parts), default=0)
    if len(parts) * width > MOST_PARTS:
        raise IRError(f"{len(parts)} strings with up to {width} parts: at most {MOST_PARTS} places are made for parts")
    filled = [part for row in parts for part in (*row, *[""] * (width - len(row)))]
    counts = np.array([len(row) for row in parts], np.int64)
    return text_array(filled, (*x.shape, width)), counts.reshape(x.shape)


# Normalising


def _normalizer_types(op: Any) -> Sequence[TensorType]:
    from stepwell.dialects.graph.symbols import fresh_dim

    type_ = texts_of(op, 0)
    if type_.rank not in (1, 2) or (type_.rank == 2 and isinstance(type_.shape[0], int) and type_.shape[0] != 1):
        raise IRError(f"words are [c] or [1, c], not {type_}")
    if not op.told().get("stopwords"):
        return [type_]
    left: Dim = fresh_dim(op, "string_normalizer")
    return [TensorType((left,) if type_.rank == 1 else (1, left), TEXT)]


@host_function(_normalizer_types)
def string_normalizer(config: Any, words: Array) -> Array:
    """Words in lower or upper case, without stopwords; one empty word where none is left. ONNX: StringNormalizer."""
    if words.ndim == 2 and words.shape[0] != 1:
        raise IRError(f"words are [c] or [1, c], not {list(words.shape)}")
    action, sensitive = config.get("case", "NONE"), bool(config.get("is_case_sensitive", False))
    compared = str if sensitive else str.lower
    stops = {compared(word) for word in config.get("stopwords", ())}
    kept = [word for word in words.reshape(-1).tolist() if not stops or compared(word) not in stops]
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(action, str)
    made = [change(word) for word in kept]
    if stops and not made:
        made = [""]
    return text_array(made, (len(made),) if words.ndim == 1 else (1, len(made)))


# Looking


def _flags(op: Any) -> Sequence[TensorType]:
    return [TensorType(texts_of(op, 0).shape, I1)]


@host_function(_flags)
def regex_full_match(config: Any, x: Array) -> Array:
    """Whether each string matches a regular expression as a whole, in RE2's syntax. ONNX: RegexFullMatch."""
    from stepwell.dialects.host_functions.expressions import matcher

    matches = matcher(config["pattern"])
    found = np.fromiter((matches(text) for text in x.reshape(-1).tolist()), np.bool_, x.size)
    return found.reshape(x.shape)


def _ranks(op: Any) -> Sequence[TensorType]:
    return [TensorType(texts_of(op, 0).shape, SI64)]


@host_function(_ranks)
def string_rank(config: Any, x: Array) -> Array:
    """The place of each string among the distinct ones, in the order of their code points."""
    flat = x.reshape(-1).tolist()
    places = {text: place for place, text in enumerate(sorted(set(flat)))}
    return np.array([places[text] for text in flat], np.int64).reshape(x.shape)


# Numbers


def _cast_types(op: Any) -> Sequence[TensorType]:
    to, (x,) = op.told()["to"], op.types
    if (x.element is TEXT) == (to is TEXT):
        raise IRError(f"@{op.callee} converts strings to numbers or numbers to strings, not {x.element} to {to}")
    numpy_dtype(to)
    return [x.with_element(to)]


@host_function(_cast_types)
def string_cast(config: Any, x: Array) -> Array:
    """Numbers as text, or text as numbers. ONNX: Cast."""
    from stepwell.dialects.graph.conversion import convert

    return convert(x, config["to"])
