"""A permutation of 0 .. n-1 that can be asked for one place at a time: no table, whatever n is."""

import blake3
import numpy as np
from numpy.typing import NDArray

ROUNDS = 12  # fewer are seen in domains of a handful
Numbers = NDArray[np.int64]


class Permutation:
    """`self[places]` are the numbers at these places, (k,) -> (k,).

    An alternating Feistel network over the smallest power of two that holds n (Luby and Rackoff, 1988),
    walked along its cycles until the number is one of ours (Black and Rogaway, 2002, sec. 3). Its arithmetic
    is spelled out here, so that the order of a run does not hang on the version of a library.
    """

    def __init__(self, count: int, key: bytes) -> None:
        if count < 1:
            raise ValueError(f"a permutation needs at least one element, got {count}")
        bits = max(2, (count - 1).bit_length())
        self.count = count
        self._low = np.uint64(bits // 2)
        self._masks = (np.uint64((1 << (bits // 2)) - 1), np.uint64((1 << (bits - bits // 2)) - 1))
        keys = np.frombuffer(blake3.blake3(key).digest(8 * ROUNDS), "<u8")
        self._keys = keys.astype(np.uint64)

    def __getitem__(self, places: Numbers) -> Numbers:
        found = self._network(np.asarray(places).astype(np.uint64))
        outside = np.flatnonzero(found >= self.count)
        while outside.size:
            found[outside] = self._network(found[outside])
            outside = outside[found[outside] >= self.count]
        return found.astype(np.int64)

    def _network(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low, high = words & self._masks[0], words >> self._low
        for i, key in enumerate(self._keys):
            if i % 2:
                low ^= _mix(high ^ key) & self._masks[0]
            else:
                high ^= _mix(low ^ key) & self._masks[1]
        return np.asarray(high << self._low | low)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit words in which every bit of the result hangs on all bits (Stafford's mix 13)."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ words >> np.uint64(31))
