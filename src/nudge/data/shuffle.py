"""A shuffled order of n things that is computed place by place, so that nothing of size n is ever held in memory.

A Feistel network is a permutation of the numbers of 2k bits, whatever its round function does: each round adds to one
half a function of the other, which can be taken off again. Numbers that land at n or beyond are sent through again
until they fall below ("cycle walking"), which keeps it a permutation of [0, n).
Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.

NumPy's own generators would be shorter, but their streams may change between versions (NEP 19), and a run must be
resumable under another version.
"""

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
_ROUNDS = 6
_MASK64 = (1 << 64) - 1


def permute(places: npt.ArrayLike, n: int, key: int) -> npt.NDArray[np.int64]:
    """The things at `places` (each in [0, n)) of the order that `key` names."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    numbers = np.atleast_1d(np.asarray(places)).astype(np.uint64)
    walking = np.arange(len(numbers))
    while len(walking):
        numbers[walking] = _feistel(numbers[walking], half, key)
        walking = walking[numbers[walking] >= n]
    return numbers.astype(np.int64)


def mixed(*parts: int) -> int:
    """64 well-mixed bits of a few numbers, the same on every machine."""
    state = 0
    for part in parts:
        array = np.array([(state ^ part) & _MASK64], dtype=np.uint64)
        state = int(_splitmix(array)[0])
    return state


def _feistel(numbers: U64, half: int, key: int) -> U64:
    mask = np.uint64((1 << half) - 1)
    left, right = numbers >> np.uint64(half), numbers & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (_splitmix(right ^ np.uint64(mixed(key, turn))) & mask)
    return (left << np.uint64(half)) | right


def _splitmix(x: U64) -> U64:
    """Every bit of the result depends on every bit of x. Source: Steele et al., SplitMix64, 2014."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
