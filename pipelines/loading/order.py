"""The order of samples: a pure function of (manifest digest, seed, epoch), the same on every machine."""

import numpy as np
from numpy.typing import NDArray

from pipelines.jsontext import digest


def epoch_order(manifest: str, seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of `count` samples, (count,)."""
    words = np.frombuffer(bytes.fromhex(digest([manifest, seed, epoch])), np.uint32)
    return np.random.Generator(np.random.Philox(words[:2].view(np.uint64))).permutation(count)


def sample_rng(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The randomness of one sample in one epoch, so that any augmented sample can be made again."""
    return np.random.default_rng([seed, epoch, sample])
