"""A shuffled order of n items, computed item by item, so that nothing of size n is ever held in memory.

A Feistel network permutes the numbers of 2k bits with any round function: each round XORs a function of one half into
the other half, which can be undone. Numbers of n and above go through the network again until they are below n ("cycle
walking"), so the result is a permutation of [0, n).
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
    """Return the items at `places` of a shuffled order of n items, seeded by `key`. Places and items are in [0, n)."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    numbers = np.array(places, dtype=np.uint64)
    walking = np.arange(len(numbers))
    while len(walking):
        numbers[walking] = _feistel(numbers[walking], half, key)
        walking = walking[numbers[walking] >= n]
    return numbers.astype(np.int64)


def mix_bits(*parts: int) -> int:
    """Hash a few numbers to 64 bits, the same on every machine."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        state = _splitmix(state ^ np.uint64(part & _MASK64))
    return int(state[0])


def _feistel(numbers: U64, half: int, key: int) -> U64:
    """Permute the numbers of 2 * `half` bits."""
    mask = np.uint64((1 << half) - 1)
    left, right = numbers >> np.uint64(half), numbers & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (_splitmix(right ^ np.uint64(mix_bits(key, number))) & mask)
    return (left << np.uint64(half)) | right


def _splitmix(x: U64) -> U64:
    """Return 64 bits, each of which depends on every bit of x. Source: Steele et al., SplitMix64, 2014."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
