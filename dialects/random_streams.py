"""Generators of random numbers in NumPy: the meaning of the random ops, and tables for their lowerings.

Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) makes each element from its own
number alone, so that threads and vectors do not change a bit. MT19937 (Matsumoto and Nishimura, "Mersenne Twister",
1998) is what NumPy's `RandomState` draws from."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)  # what each round adds to the key
PHILOX_ROUNDS = 10

MT_SIZE, MT_MIDDLE = 624, 397
MT_MATRIX, MT_UPPER, MT_LOWER = 0x9908B0DF, 0x80000000, 0x7FFFFFFF
MT_TEMPERING = ((-11, 0xFFFFFFFF), (7, 0x9D2C5680), (15, 0xEFC60000), (-18, 0xFFFFFFFF))
"""x ^= (x shifted left by so many bits, right where negative) & mask, one after the other."""

WORD = 0xFFFFFFFF

INTERPRETED_ENTROPY = 0x243F6A8885A308D3
"""The key that the interpreter takes where a run would take one of its own."""


def philox(key: int, count: int) -> Array:
    """[count, 4] words of 32 bits: row i is the block of the counter (i, 0) under a key of 64 bits."""
    numbers = np.arange(count, dtype=np.uint64)
    words = [numbers & np.uint64(WORD), numbers >> np.uint64(32), np.zeros_like(numbers), np.zeros_like(numbers)]
    keys = [key & WORD, key >> 32 & WORD]
    for _ in range(PHILOX_ROUNDS):
        wide = [words[0] * np.uint64(PHILOX_MULTIPLIERS[0]), words[2] * np.uint64(PHILOX_MULTIPLIERS[1])]
        high, low = [w >> np.uint64(32) for w in wide], [w & np.uint64(WORD) for w in wide]
        words = [high[1] ^ words[1] ^ np.uint64(keys[0]), low[1], high[0] ^ words[3] ^ np.uint64(keys[1]), low[0]]
        keys = [(k + step) & WORD for k, step in zip(keys, PHILOX_WEYL, strict=True)]
    return np.stack(words, axis=-1).astype(np.uint32)


def mt_state(seed: int) -> Array:
    """The 624 words that a seed of 32 bits starts from, by the authors' `init_genrand` of 2002."""
    words = [seed & WORD]
    for number in range(1, MT_SIZE):
        last = words[-1]
        words.append((1812433253 * (last ^ last >> 30) + number) & WORD)
    return np.array(words, np.uint32)


def mt_twisted(state: Array) -> Array:
    """The next 624 words of the recurrence."""
    made = state.copy()
    for i in range(MT_SIZE):
        mixed = (int(made[i]) & MT_UPPER) | (int(made[(i + 1) % MT_SIZE]) & MT_LOWER)
        made[i] = int(made[(i + MT_MIDDLE) % MT_SIZE]) ^ mixed >> 1 ^ (MT_MATRIX if mixed & 1 else 0)
    return made


def mt_tempered(state: Array) -> Array:
    """The words as they are given out."""
    made = state.astype(np.uint64)
    for shift, mask in MT_TEMPERING:
        moved = made << np.uint64(shift) if shift > 0 else made >> np.uint64(-shift)
        made = made ^ moved & np.uint64(mask)
    return made.astype(np.uint32)


def mt_words(seed: int, count: int) -> Array:
    """The first words that a seed gives."""
    state, blocks = mt_state(seed), []
    for _ in range(-(-count // MT_SIZE)):
        state = mt_twisted(state)
        blocks.append(mt_tempered(state))
    return np.concatenate(blocks)[:count] if blocks else np.zeros(0, np.uint32)
