"""Memory of batches: taken once, filled by several threads, and taken again when the batch is gone."""

import threading
import weakref
from collections.abc import Mapping, Sequence, Set
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Sample = Mapping[str, Any]  # field -> array or number; "key": str
Batch = dict[str, Any]  # field -> tensor with the batch first; "key": list of str
TEXTS = ("key", "source")  # fields that stay lists of str
KEPT = 16  # free blocks held for the next batches; a batch has one for each field


class Pool:
    """Blocks of bytes. Fresh ones cost a page fault every 4 kB, as much as a tenth of decoding a picture."""

    def __init__(self, *, pinned: bool = False) -> None:
        self._free: list[NDArray[np.uint8]] = []
        self._lock, self._pinned = threading.Lock(), pinned

    def take(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array whose block comes back by itself once nothing looks at the array, or at a tensor of it.

        Pinned blocks are left to torch: it keeps them, too, and it alone knows when a copy to a GPU has read
        them, which may go on after the batch was dropped.
        """
        if self._pinned:
            kind = torch.from_numpy(np.empty(0, dtype)).dtype
            pinned: NDArray[Any] = torch.empty(tuple(shape), dtype=kind, pin_memory=True).numpy()
            return pinned
        size = prod(shape) * dtype.itemsize
        block = self._block(size)
        whole = block[:size].view(dtype).reshape(shape)
        weakref.finalize(whole, self._give, block).atexit = False
        return whole

    def lends(self, value: Any) -> bool:
        """Whether an array may be a batch as it lies: fresh memory of its own, and no other is asked for."""
        whole = isinstance(value, np.ndarray) and value.flags.c_contiguous and value.flags.writeable
        return whole and not self._pinned

    def _block(self, size: int) -> NDArray[np.uint8]:
        with self._lock:
            fitting = [b for b in self._free if size <= b.nbytes <= 2 * size]
            if fitting:
                best = min(fitting, key=lambda b: b.nbytes)
                self._free = [b for b in self._free if b is not best]
                return best
        block: NDArray[np.uint8] = torch.empty(max(1, size), dtype=torch.uint8).numpy()
        return block

    def _give(self, block: NDArray[np.uint8]) -> None:
        with self._lock:
            self._free = [*self._free[-KEPT + 1 :], block]


class Assembly:
    """One batch in the making. Slots are filled in any order, by any thread."""

    def __init__(self, count: int, pool: Pool | None = None) -> None:
        self.count, self._pool = count, pool or Pool()
        self._arrays: dict[str, NDArray[Any]] = {}
        self._texts: dict[str, list[str]] = {}
        self._filled: list[Set[str]] = [frozenset()] * count  # the fields that each sample has given
        self._written: set[str] = set()  # fields of every sample
        self._lock = threading.Lock()

    def slot(self, name: str, at: int, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        """Where sample `at` writes its field. ValueError names the shapes that do not fit together."""
        if (whole := self._arrays.get(name)) is None:
            with self._lock:
                if (whole := self._arrays.get(name)) is None:
                    whole = self._arrays[name] = self._pool.take((self.count, *shape), np.dtype(dtype))
        if whole.shape[1:] != tuple(shape) or whole.dtype != dtype:
            raise ValueError(
                f"{name}: samples of one batch have shapes {sorted({whole.shape[1:], tuple(shape)})} and "
                f"types {sorted({str(whole.dtype), str(np.dtype(dtype))})}; set a fixed size in data"
            )
        found: NDArray[Any] = whole[at] if shape else whole[at : at + 1]
        return found

    def put(self, at: int, sample: Sample) -> None:
        """Copy the fields that do not lie in their slots already."""
        for name, value in sample.items():
            if name in TEXTS:
                self._text(name)[at] = value
                continue
            if self.count == 1 and self._pool.lends(value) and name not in self._arrays:
                self._arrays[name] = value[None]  # the batch is this array: nothing to copy
                continue
            slot = self.slot(name, at, value.shape, value.dtype)
            if not np.may_share_memory(slot, value):
                slot[...] = value
        self._filled[at] = sample.keys()

    def write(self, name: str, slots: Sequence[int], values: Any) -> None:
        """A field that every sample has, of several at once: texts, or an array with the samples first."""
        if name in TEXTS:
            texts = self._text(name)
            for at, value in zip(slots, values, strict=True):
                texts[at] = value
        else:
            self.slot(name, 0, values.shape[1:], values.dtype)
            self._arrays[name][slots] = values
        self._written.add(name)

    def _text(self, name: str) -> list[str]:
        if name not in self._texts:
            with self._lock:
                self._texts.setdefault(name, [""] * self.count)
        return self._texts[name]

    def finish(self) -> Batch:
        """Tensors of the filled slots, in their order. Fields that only some samples have are left out."""
        kept = [at for at, fields in enumerate(self._filled) if fields]
        given = [set(self._filled[at]) for at in kept]
        common = set.intersection(*given) | self._written if given else set()
        arrays = {name: whole for name, whole in self._arrays.items() if name in common}
        texts = {name: texts for name, texts in self._texts.items() if name in common}
        if len(kept) < self.count:
            arrays = {name: whole[kept] for name, whole in arrays.items()}
            texts = {name: [values[at] for at in kept] for name, values in texts.items()}
        return {**{name: _tensor(whole) for name, whole in arrays.items()}, **texts}


def _tensor(whole: NDArray[Any]) -> torch.Tensor:
    """The tensor that an array was taken from, if there is one: of its memory torch knows who reads it."""
    return whole.base if isinstance(whole.base, torch.Tensor) else torch.from_numpy(whole)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack field by field. ValueError names the shapes that do not fit together."""
    if not samples:
        return {}
    assembly = Assembly(len(samples))
    for at, sample in enumerate(samples):
        assembly.put(at, sample)
    return assembly.finish()
