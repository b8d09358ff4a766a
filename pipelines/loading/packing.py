"""Samples of unlike sizes in rows of about as many tokens: packed end to end, `cu_seqlens` between them."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.image.colour import eight_bit, rgb
from modalities.image.transforms import MEAN, STD
from pipelines.jsontext import loads
from pipelines.loading.buffers import Batch
from pipelines.loading.catalog import Catalog
from pipelines.loading.loader import Loader
from pipelines.loading.lots import Lot, Piece
from pipelines.loading.order import sample_rng
from pipelines.loading.permutation import Numbers, Permutation
from pipelines.loading.pixels import resize
from pipelines.shards.dataset import Corrupt, Dataset

LOOKAHEAD = 512  # samples that are dealt to packs together
Pack = tuple[Piece, list[int]]  # samples, and the tokens of each, by its slot
State = tuple[int, int, int]  # epoch, window, pack


def fill(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Which items go together, none over `budget`: the longest first, each where it leaves least room.

    Best fit decreasing (Johnson, 1974): at most 11/9 of the fewest packs there can be, plus a few.
    """
    packs: list[list[int]] = []
    room = np.zeros(len(lengths), np.int64)
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fits = np.where(room[: len(packs)] >= lengths[item], room[: len(packs)], budget + 1)
        if len(packs) and fits.min() <= budget:
            pack = int(fits.argmin())
        else:
            pack = len(packs)
            packs.append([])
            room[pack] = budget
        packs[pack].append(item)
        room[pack] -= lengths[item]
    return packs


class Patches:
    """Pictures as patches at their own aspect, made smaller where they would be over `max_tokens`."""

    def __init__(self, *, patch: int = 16, max_tokens: int = 256) -> None:
        self.patch, self.max_tokens = patch, max_tokens

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        scale = min(1.0, (self.max_tokens * self.patch**2 / (height * width)) ** 0.5)
        rows = max(1, min(self.max_tokens, int(height * scale / self.patch + 0.5)))
        columns = max(1, int(width * scale / self.patch + 0.5))
        return rows, max(1, min(columns, self.max_tokens // rows))

    def length(self, meta: Mapping[str, Any]) -> int:
        rows, columns = self.grid(meta["height"], meta["width"])
        return rows * columns

    def __call__(
        self, arrays: Arrays, length: int, rng: np.random.Generator | None
    ) -> dict[str, NDArray[Any]]:
        """`patches` (n, 3 * patch**2) float32, normalised, channel first; `coords` (n, 2), row and column."""
        image = rgb(eight_bit(np.asarray(arrays["image"])))
        rows, columns = self.grid(*image.shape[:2])
        p = self.patch
        small = resize(image, (rows * p, columns * p)).astype(np.float32) / 255
        small = (small - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        patches = small.reshape(rows, p, columns, p, 3).transpose(0, 2, 4, 1, 3).reshape(rows * columns, -1)
        places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
        return {"patches": patches, "coords": places.reshape(-1, 2).astype(np.float32)}


class Points:
    """Clouds with all their points, or `max_tokens` of them, as their `prepare` scales them."""

    def __init__(
        self, *, max_tokens: int = 4096, features: Sequence[str] = ("height", "intensity", "rgb")
    ) -> None:
        self.max_tokens, self.features = max_tokens, features

    def length(self, meta: Mapping[str, Any]) -> int:
        return min(int(meta["num_points"]), self.max_tokens)

    def __call__(
        self, arrays: Arrays, length: int, rng: np.random.Generator | None
    ) -> dict[str, NDArray[Any]]:
        """`points` (n, 3), `features` (n, f), and `segmentation` (n,) where there is one."""
        from modalities.pointcloud.prepare import prepare
        from modalities.pointcloud.schema import select

        count = len(arrays["points"])
        if count > length:
            rows = (
                np.arange(length) * count // length
                if rng is None
                else np.sort(rng.choice(count, length, False))
            )
            arrays = select(arrays, rows)
        return dict(prepare(arrays, num_points=length, features=self.features, rng=None))


class Packs:
    """Packs of one rank, without end: for each a row of tokens (1, n, ...), and what belongs to its samples.

    The samples come in the loader's order, LOOKAHEAD at a time; these are dealt to packs and the packs put in
    a random order. Pack i after a state belongs to rank i % world_size, so any number of ranks goes on with
    the same packs. Lengths are read from the index: nothing is decoded to plan.

    Args:
        dataset: a URL, or an open Dataset.
        budget: tokens that a pack may have.
        tokens: Patches or Points.
        options: of Loader: seed, split, shuffle, augment (steps that keep the size), labelled, open_shards...
    """

    def __init__(
        self,
        dataset: str | Dataset,
        *,
        budget: int,
        tokens: Patches | Points,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        lookahead: int = LOOKAHEAD,
        **options: Any,
    ) -> None:
        if tokens.max_tokens > budget:
            raise ValueError(f"max_tokens must fit into the budget, got {tokens.max_tokens} and {budget}")
        self.loader = Loader(dataset, batch_size=1, prepare=False, **options)
        self.source = self.loader.sources[0]
        self.budget, self.tokens, self.lookahead = budget, tokens, lookahead
        self.rank, self.world_size, self.num_workers = rank, world_size, num_workers
        self._facts = Catalog(
            self.source.dataset, self.source.shards, labelled=self.source.part.labelled, facts=True,
            limit=self.source.pages.limit,
        )  # fmt: skip
        self.epoch, self.window, self.pack = 0, 0, 0
        self.used, self.given = 0, 0  # tokens of samples, and of packs, so far

    @property
    def efficiency(self) -> float:
        """Share of the budget that the packs so far have filled."""
        return self.used / self.given if self.given else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Where the next pack of rank 0 is: epoch, window of LOOKAHEAD samples, pack in it."""
        return {
            "epoch": self.epoch, "window": self.window, "pack": self.pack, "seed": self.loader.seed,
            "lookahead": self.lookahead, "budget": self.budget,
            "manifest": self.source.dataset.manifest.digest[:16],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where packs of any world size were."""
        mine = self.state_dict()
        for name in ("seed", "lookahead", "budget", "manifest"):
            if state[name] != mine[name]:
                raise ValueError(f"the state is of {name} {state[name]}, these packs have {mine[name]}")
        self.epoch, self.window, self.pack = state["epoch"], state["window"], state["pack"]

    def __iter__(self) -> Iterator[Batch]:
        """Packs of this rank, epoch after epoch."""
        sequence = self._sequence()
        if not self.num_workers:
            while True:
                step = list(islice(sequence, self.world_size))
                yield self._ready(step, self._make(step[self.rank][0]))
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="packs") as threads:
            steps = (list(islice(sequence, self.world_size)) for _ in iter(int, 1))
            ahead = [
                (step, threads.submit(self._make, step[self.rank][0]))
                for step in islice(steps, self.num_workers + 1)
            ]
            try:
                for step in steps:
                    done, making = ahead.pop(0)
                    yield self._ready(done, making.result())
                    ahead.append((step, threads.submit(self._make, step[self.rank][0])))
            finally:
                for _, making in ahead:
                    making.cancel()

    def _ready(self, step: list[tuple[Pack, State]], batch: Batch) -> Batch:
        self.epoch, self.window, self.pack = step[-1][1]
        self.used += sum(sum(lengths) for (_, lengths), _ in step)
        self.given += self.budget * len(step)
        return batch

    def _sequence(self) -> Iterator[tuple[Pack, State]]:
        """Packs that all ranks share from where we are, each with the state behind it."""
        epoch, window, first = self.epoch, self.window, self.pack
        windows = -(-self.source.num_samples // self.lookahead)
        while True:
            packs = self._dealt(epoch, window)
            for number in range(first, len(packs)):
                last = number + 1 == len(packs)
                after = (epoch, window + 1, 0) if last else (epoch, window, number + 1)
                yield packs[number], (epoch + 1, 0, 0) if after[1] == windows else after
            epoch, window, first = (epoch + 1, 0, 0) if window + 1 == windows else (epoch, window + 1, 0)

    def _dealt(self, epoch: int, window: int) -> list[Pack]:
        count = self.source.num_samples
        places = np.arange(window * self.lookahead, min((window + 1) * self.lookahead, count))
        shards, numbers = self.source.order(epoch).locate(places)
        self.source.prefetch(epoch, int(places[0]))
        lengths = self._lengths(shards, numbers)
        packs = fill(lengths, self.budget)
        name = f"{self.source.dataset.manifest.digest}/{self.loader.seed}/{epoch}/packs {window}"
        order = Permutation(len(packs), name.encode())[np.arange(len(packs))]
        dealt = [sorted(packs[pack]) for pack in order.tolist()]
        batches, slots = np.empty((2, len(places)), np.int64)
        for number, items in enumerate(dealt):
            batches[items], slots[items] = number, np.arange(len(items))
        lot = Lot(self.source, epoch, places, batches=batches, slots=slots)
        return [(lot.batch(number), [lengths[item] for item in items]) for number, items in enumerate(dealt)]

    def _lengths(self, shards: Numbers, numbers: Numbers) -> list[int]:
        found = np.zeros(len(shards), np.int64)
        for shard in np.unique(shards).tolist():
            page = self._facts[shard]
            here = np.flatnonzero(shards == shard)
            metas = page.facts["meta"].take(page.rows(numbers[here])).to_pylist()
            found[here] = [self.tokens.length(loads(meta)) for meta in metas]
        return found.tolist()

    def _make(self, pack: Pack) -> Batch:
        fields: dict[str, list[Any]] = {}
        (lot, start, stop), lengths = pack
        contents = lot.files(start, stop)
        for i in sorted(range(start, stop), key=lot.slots.__getitem__):
            key, length = lot.keys[i], lengths[lot.slots[i]]
            if isinstance(found := contents[i - start], Corrupt):
                raise found
            sample = lot.make(i, found)
            rng = (
                sample_rng(self.loader.seed, lot.epoch, f"tokens of {key}")
                if self.source.part.augment
                else None
            )
            made = self.tokens(sample, length, rng)
            if any(len(value) != length for value in made.values()):
                got = {name: value.shape for name, value in made.items()}
                raise ValueError(
                    f"sample {key} has {got}, its index promised {length} tokens; augment may not resize"
                )
            for name, value in (made | {"key": key, "label": lot.labels[i]}).items():
                fields.setdefault(name, []).append(value)
        ends = np.cumsum([0, *lengths])
        whole = {n: v for n, v in fields.items() if len(v) == len(lengths)}  # what only some have is left out
        row = {
            n: torch.from_numpy(np.concatenate(v))[None]
            for n, v in whole.items()
            if n not in ("key", "label")
        }
        labels = torch.from_numpy(np.array(whole["label"]))
        return {
            **row,
            "key": whole["key"],
            "label": labels,
            "cu_seqlens": torch.from_numpy(ends.astype(np.int32)),
        }
