"""Random numbers -> integer arithmetic on the number of each element; for MT19937 a loop over blocks of 624 words."""

from __future__ import annotations

import math as numbers
from collections.abc import Sequence

import numpy as np

from stepwell.dialects import arith, math
from stepwell.dialects.graph.random import RandomOp, uniform_digits
from stepwell.dialects.graph.shape import product
from stepwell.dialects.random_streams import (
    MT_LOWER,
    MT_MATRIX,
    MT_MIDDLE,
    MT_SIZE,
    MT_TEMPERING,
    MT_UPPER,
    PHILOX_MULTIPLIERS,
    PHILOX_ROUNDS,
    PHILOX_WEYL,
    WORD,
    mt_state,
)
from stepwell.dialects.tensor import DimsAttr, EntropyOp, ForOp, YieldOp
from stepwell.ir.attributes import UnitAttr
from stepwell.ir.builder import Builder
from stepwell.ir.conversion import Conversion
from stepwell.ir.core import Block, Region, Value
from stepwell.ir.dims import Dim, ceildiv, symbol
from stepwell.ir.types import F32, F64, I32, I64, INDEX, TensorType, Type, bit_width
from stepwell.lowering.to_tensor.control import constant
from stepwell.lowering.to_tensor.places import BORN, Places, dims, moved, reshaped, result_type
from stepwell.lowering.to_tensor.rules import lowers


@lowers(RandomOp)
def random(op: RandomOp, c: Conversion) -> Value:
    """graph.random {seed = 7}  ->  out[i] = number(philox(counter i, key 7)); with no seed the key is tensor.entropy"""
    key: Dim
    if op.seed is None:
        key = symbol(op.new_dims[0])
        c.insert(EntropyOp(symbol=op.new_dims[0]))
        op.attributes[BORN] = UnitAttr()
    else:
        key = op.seed
    result = result_type(op)
    count = product(result.shape)
    flat = TensorType((count,), result.element)
    if op.generator == "mt19937":
        return reshaped(c, _mersenne_twister(c, key, flat), result.shape)

    def body(p: Places) -> Value:
        words = _philox(p, p.integer_of(p.at(0), I64), _key_words(p, key))
        if op.distribution == "uniform":
            digits = uniform_digits(result.element)
            wide = F64 if digits > 24 else F32
            return p.narrowed(_fraction(p, words[0], words[1], digits, wide), result.element)
        return p.narrowed(_normal(p, words, F64 if bit_width(result.element) == 64 else F32), result.element)

    return reshaped(c, moved(c, flat, body), result.shape)


def _key_words(p: Places, key: Dim) -> list[Value]:
    """The low and the high word of a key."""
    if isinstance(key, int):
        return [_word(p, key), _word(p, key >> 32)]
    whole = p.integer_of(p.size(key), I64)
    return [_low(p, whole), _high(p, whole)]


def _word(p: Places, value: int) -> Value:
    """A constant of 32 bits."""
    value &= WORD
    return p.constant(value - (1 << 32) if value >> 31 else value, I32)


def _low(p: Places, wide: Value) -> Value:
    return p.emit(arith.TruncIOp(wide, result_types=[I32]))


def _high(p: Places, wide: Value) -> Value:
    return _low(p, _right(p, wide, 32))


def _xor(p: Places, *values: Value) -> Value:
    made = values[0]
    for value in values[1:]:
        made = p.emit(arith.XOrIOp(made, value))
    return made


def _right(p: Places, x: Value, bits: int) -> Value:
    return p.emit(arith.ShRUIOp(x, p.constant(bits, x.type))) if bits else x


def _left(p: Places, x: Value, bits: int) -> Value:
    return p.emit(arith.ShLIOp(x, p.constant(bits, x.type))) if bits else x


def _wide(p: Places, word: Value) -> Value:
    return p.emit(arith.ExtUIOp(word, result_types=[I64]))


def _philox(p: Places, counter: Value, key: Sequence[Value]) -> list[Value]:
    """The four words of a counter of 64 bits."""
    words = [_low(p, counter), _high(p, counter), _word(p, 0), _word(p, 0)]
    multipliers = [p.constant(value, I64) for value in PHILOX_MULTIPLIERS]
    for _ in range(PHILOX_ROUNDS):
        wide = [p.mul(_wide(p, words[n]), m) for n, m in zip((0, 2), multipliers, strict=True)]
        words = [
            _xor(p, _high(p, wide[1]), words[1], key[0]), _low(p, wide[1]),
            _xor(p, _high(p, wide[0]), words[3], key[1]), _low(p, wide[0]),
        ]  # fmt: skip
        key = [p.add(part, _word(p, step)) for part, step in zip(key, PHILOX_WEYL, strict=True)]
    return words


def _digits(p: Places, high: Value, low: Value, digits: int) -> Value:
    """The first bits of two words, as an i64."""
    if digits <= 32:
        return _wide(p, _right(p, high, 32 - digits))
    return p.either(_left(p, _wide(p, high), digits - 32), _wide(p, _right(p, low, 64 - digits)))


def _fraction(p: Places, high: Value, low: Value, digits: int, type_: Type) -> Value:
    """A multiple of 2^-digits in [0, 1)."""
    whole = p.emit(arith.SIToFPOp(_digits(p, high, low, digits), result_types=[type_]))
    return p.mul(whole, p.constant(2.0**-digits, type_))


def _normal(p: Places, words: Sequence[Value], type_: Type) -> Value:
    """sqrt(-2 ln u) cos(2 pi v), u of (0, 1] and v of [0, 1)"""
    digits = 53 if type_ is F64 else 32
    scale = p.constant(2.0**-digits, type_)
    drawn = (_digits(p, words[k], words[k + 1], digits) for k in (0, 2))
    u, v = (p.emit(arith.SIToFPOp(part, result_types=[type_])) for part in drawn)
    u = p.mul(p.add(u, p.constant(1.0, type_)), scale)
    radius = p.unary(math.SqrtOp, p.mul(p.constant(-2.0, type_), p.unary(math.LogOp, u)))
    return p.mul(radius, p.unary(math.CosOp, p.mul(p.constant(2 * numbers.pi, type_), p.mul(v, scale))))


# MT19937


def _mersenne_twister(c: Conversion, seed: Dim, flat: TensorType) -> Value:
    """The state goes from block to block; each round gives a row of tempered words, two of which make a number."""
    assert isinstance(seed, int)
    state = constant(c, mt_state(seed).view(np.int32))
    block = Block([INDEX, state.type])
    outside, c.builder = c.builder, Builder.at_end(block, c.builder.loc)
    following = moved(c, BLOCK, _twisted, sources=[block.arguments[1]])
    row = moved(c, BLOCK, _tempered, inputs=[following], maps=[dims(1)])
    c.insert(YieldOp([following, row]))
    c.builder = outside
    rounds = ceildiv(flat.shape[0], MT_SIZE // 2)
    made = c.insert(ForOp([state], steps=DimsAttr((rounds,)), backward=[0], regions=[Region([block])]))

    def number(p: Places, words: Value) -> Value:
        """27 bits of one word and 26 of the next one."""
        first = p.mul(p.at(0), p.whole(2))
        row, column = p.floordiv(first, p.whole(MT_SIZE)), p.mod(first, p.whole(MT_SIZE))
        high, low = (p.read(words, [row, p.add(column, p.whole(k))]) for k in (0, 1))
        parts = (_wide(p, _right(p, word, bits)) for word, bits in ((high, 5), (low, 6)))
        high, low = (p.emit(arith.SIToFPOp(part, result_types=[F64])) for part in parts)
        whole = p.add(p.mul(high, p.constant(float(1 << 26), F64)), low)
        return p.mul(whole, p.constant(2.0**-53, F64))

    return moved(c, flat, number, sources=[made.stacks[0]])


BLOCK = TensorType((MT_SIZE,), I32)
FRESH = MT_SIZE - MT_MIDDLE  # words whose recurrence reads the old state alone


def _twisted(p: Places, state: Value) -> Value:
    """The next state. A word that depends on a new one, FRESH words before it, computes that one again from the old
    state; so all words can be made at once."""
    at = p.at(0)
    last = p.compare("eq", at, p.whole(MT_SIZE - 1))
    third, second = p.compare("ge", at, p.whole(2 * FRESH)), p.compare("ge", at, p.whole(FRESH))

    def old(place: Value) -> Value:
        return p.read(state, [place])

    def mixed(word: Value, following: Value) -> Value:
        y = p.either(p.both(word, _word(p, MT_UPPER)), p.both(following, _word(p, MT_LOWER)))
        odd = p.compare("ne", p.both(y, _word(p, 1)), _word(p, 0))
        return _xor(p, _right(p, y, 1), p.select(odd, _word(p, MT_MATRIX), _word(p, 0)))

    def shifted(place: Value, by: int) -> Value:
        return p.sub(place, p.whole(by))

    def share(place: Value) -> Value:
        return mixed(old(place), old(p.add(place, p.whole(1))))

    zero = _word(p, 0)
    first = _xor(p, share(p.whole(0)), old(p.whole(MT_MIDDLE)))
    own = mixed(old(at), p.select(last, first, old(p.add(at, p.whole(1)))))
    before = p.select(second, share(shifted(at, FRESH)), zero)
    before = _xor(p, before, p.select(third, share(shifted(at, 2 * FRESH)), zero))
    back = p.select(third, p.whole(2 * FRESH), p.select(second, p.whole(FRESH), p.whole(0)))
    return _xor(p, own, before, old(p.add(p.sub(at, back), p.whole(MT_MIDDLE))))


def _tempered(p: Places, word: Value) -> Value:
    for shift, mask in MT_TEMPERING:
        turned = _left(p, word, shift) if shift > 0 else _right(p, word, -shift)
        word = _xor(p, word, p.both(turned, _word(p, mask)))
    return word
