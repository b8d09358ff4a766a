"""The proof that a dataset is whole: every object that a snapshot needs is there and is what it was."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import blake3
import crc32c
import numpy as np
import pyarrow as pa

from pipelines.shards.closing import unit_problem
from pipelines.shards.dataset import Dataset
from pipelines.shards.index import SCHEMA
from pipelines.shards.manifest import (
    Books,
    Manifest,
    Shard,
    head_key,
    load,
    numbers,
    plan_of,
    read_head,
)
from pipelines.shards.marks import hash64
from pipelines.shards.pack import done_key, read_done
from pipelines.shards.planned import unit_sizes
from pipelines.shards.quarantine import dropped_at
from pipelines.shards.runs import UNREADABLE, Problem, other_than, run_problems, text_of
from pipelines.shards.storage import Storage, open_storage
from pipelines.shards.tar import BLOCK, END, walk

__all__ = ["UNREADABLE", "Problem", "check", "find_problems", "report"]
FEW = 16  # of so many members of a shard one, and always the first


def check(url: str, *, share: float = 1.0, seed: int | None = None) -> dict[str, Any]:
    """A report on the newest snapshot at `url`: `ok`, counts, and `problems` as text.

    All digests of the chain of manifests, the runs with their quarantine, and the indexes are verified; of
    the shards' bytes a `share`, which the `seed` draws: another every time, or the one given. The report
    names it. FileNotFoundError: there is nothing that could be a dataset.
    """
    storage = open_storage(url)
    seed = secrets.randbelow(2**32) if seed is None else seed
    problems, manifest = find_problems(storage, share=share, seed=seed)
    read = len(drawn_of(manifest.shards, share, seed)) if manifest else 0
    return {**report(problems, manifest), "read": read, "seed": seed}


def report(problems: list[Problem], manifest: Manifest | None) -> dict[str, Any]:
    """For people and programs."""
    return {
        "ok": not problems,
        "samples": manifest.samples if manifest else 0,
        "shards": len(manifest.shards) if manifest else 0,
        "bytes": manifest.size if manifest else 0,
        "manifest": manifest.digest if manifest else "",
        "books": asdict(manifest.books if manifest else Books()),
        "problems": [str(problem) for problem in problems],
    }


def find_problems(
    storage: Storage, *, share: float = 1.0, seed: int = 0
) -> tuple[list[Problem], Manifest | None]:
    """Everything that is wrong, and the newest snapshot if it can be read at all."""
    problems, manifest = _chain(storage)
    if manifest is None:
        return problems, None
    problems += [problem for i in range(len(manifest.plans)) for problem in _run(storage, manifest, i)]
    problems += _books(storage, manifest) + _marked(storage, manifest)
    dataset, keys = Dataset(storage, manifest), []
    drawn = drawn_of(manifest.shards, share, seed)
    for shard in manifest.shards:
        found, table = _index(dataset, shard)
        problems += found
        if table is not None:
            keys.append(np.array([hash(key) for key in table["key"].to_pylist()], np.int64))
        problems += _bytes(storage, shard, table, deep=shard.digest in drawn)
    return problems + _twice(dataset, keys), manifest


def drawn_of(shards: Sequence[Shard], share: float, seed: int) -> set[str]:
    """Digests of a share of the shards: the nearest number, and one at least where the share is not zero."""
    count = max(1, int(share * len(shards) + 0.5)) if share else 0
    return set(sorted((shard.digest for shard in shards), key=lambda name: hash64(seed, name))[:count])


def _chain(storage: Storage) -> tuple[list[Problem], Manifest | None]:
    there = list(numbers(storage))
    if not there:
        load(storage)  # says that there is nothing
    problems, manifest, parent = [], None, None
    for number in range(max(there) + 1):
        key = head_key(number)
        manifest = None
        try:
            manifest = load(storage, number)
        except UNREADABLE as e:
            problems.append(Problem(_listing_of(storage, key) or key, text_of(e)))
        if manifest and parent and manifest.parent != parent.digest:
            problems.append(Problem(key, f"names parent {manifest.parent}, snapshot {number - 1} is another"))
        if manifest and number == 0 and manifest.parent is not None:
            problems.append(Problem(key, f"is the first and names parent {manifest.parent}"))
        parent = manifest
    return problems, manifest


def _listing_of(storage: Storage, key: str) -> str | None:
    """The shard list that a readable head names: then that is what is damaged."""
    try:
        listing: str = read_head(storage, key)["shards"]
    except UNREADABLE:
        return None
    return listing


def _run(storage: Storage, manifest: Manifest, i: int) -> Iterator[Problem]:
    """Plan, survey, marks, quarantine of one run: what its books rest on, and appends and repairs need."""
    yield from _copy(storage, manifest, i)
    yield from run_problems(storage, manifest.plans[i])
    plan = plan_of(manifest.plans[i])
    try:
        sizes = unit_sizes(storage, plan)
    except UNREADABLE:
        return  # told already
    shards = {shard.digest: shard for shard in manifest.shards}
    for unit, size in enumerate(sizes):
        try:
            mark = read_done(storage, plan, unit)
        except UNREADABLE as e:
            yield Problem(done_key(plan, unit), text_of(e))
            continue
        if mark is None:
            yield Problem(done_key(plan, unit), "missing")
            continue
        if problem := unit_problem(mark, size):
            yield Problem(done_key(plan, unit), problem)
        if mark.shard and shards.get(mark.shard.digest) != mark.shard:
            yield Problem(done_key(plan, unit), "names a shard that the snapshot does not")
        if mark.left_out:
            yield from other_than(storage, dropped_at(storage, plan, unit, mark.left_out), mark.left_out)


def _copy(storage: Storage, manifest: Manifest, i: int) -> Iterator[Problem]:
    """Every run keeps a copy of the head that it committed; run i is that of snapshot i."""
    key = f"runs/{plan_of(manifest.plans[i])}/head.json"
    try:
        if read_head(storage, key)["digest"] != read_head(storage, head_key(i))["digest"]:
            yield Problem(key, "is the copy of another snapshot")
    except UNREADABLE as e:
        yield Problem(key, text_of(e))


def _marked(storage: Storage, manifest: Manifest) -> list[Problem]:
    """The shards of a snapshot are those that the marks of its runs name, in their order."""
    shards = []
    try:
        for run in manifest.plans:
            for unit in range(len(unit_sizes(storage, plan_of(run)))):
                if (mark := read_done(storage, plan_of(run), unit)) is None:
                    return []  # told already
                shards += [mark.shard] if mark.shard else []
    except UNREADABLE:
        return []
    if manifest.plans and shards != list(manifest.shards):
        return [
            Problem(head_key(manifest.number), "its shards are not those that the marks of its runs name")
        ]
    return []


def _books(storage: Storage, manifest: Manifest) -> list[Problem]:
    key, books = head_key(manifest.number), manifest.books
    problems = []
    if not books.closed:
        problems.append(Problem(key, f"the books do not close: {books}"))
    if books.written != manifest.samples:
        detail = f"{books.written} samples written, {manifest.samples} in the shard list"
        problems.append(Problem(key, detail))
    return problems


def _index(dataset: Dataset, shard: Shard) -> tuple[list[Problem], pa.Table | None]:
    try:
        table = dataset.index(shard)
    except UNREADABLE as e:
        return [Problem(shard.index_key, text_of(e))], None
    if table.schema.names != SCHEMA.names or table.num_rows != shard.samples:
        return [Problem(shard.index_key, f"{table.num_rows} rows, want {shard.samples}")], None
    return [], table


def _bytes(storage: Storage, shard: Shard, table: pa.Table | None, *, deep: bool) -> list[Problem]:
    size = storage.size(shard.key)
    if size != shard.size:
        there = "missing" if size is None else f"{size:,} bytes"
        return [Problem(shard.key, f"{there}, want {shard.size:,} bytes")]
    offsets, sizes, sums, problems = _places(shard, table)
    if not deep:
        return problems
    # The digest is of every byte: checksums say which member is damaged, and a few whether they are right.
    digest, wrong = _hashed(storage, shard, offsets[::FEW], sizes[::FEW], sums[::FEW])
    if wrong or digest != shard.digest:  # once more: a bit that flipped on the way is right the second time
        digest, wrong = _hashed(storage, shard, offsets, sizes, sums)
    if table is not None:
        problems += [Problem(shard.key, f"{_name(table, i)} is damaged") for i in wrong]
    if digest != shard.digest:
        problems.append(Problem(shard.key, f"its bytes hash to {digest[:16]}...{_broken_at(storage, shard)}"))
    return problems


Places = tuple[np.ndarray, np.ndarray, np.ndarray, list[Problem]]


def _places(shard: Shard, table: pa.Table | None) -> Places:
    """Offsets, sizes and checksums of all members; they must fill the archive without gaps."""
    if table is None:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty, []
    files = pa.compute.list_flatten(table["files"]).combine_chunks()
    columns = (pa.compute.struct_field(files, name) for name in ("offset", "size", "crc32c"))
    offsets, sizes, sums = (column.to_numpy(zero_copy_only=False) for column in columns)
    ends = offsets + sizes + -sizes % BLOCK
    starts = np.concatenate(([0], ends[:-1])) + BLOCK
    whole = len(ends) and np.array_equal(offsets, starts) and int(ends[-1]) + len(END) == shard.size
    return (
        offsets,
        sizes,
        sums,
        [] if whole else [Problem(shard.index_key, "its places do not fill the shard")],
    )


def _hashed(
    storage: Storage, shard: Shard, offsets: np.ndarray, sizes: np.ndarray, sums: np.ndarray
) -> tuple[str, list[int]]:
    """BLAKE3 of a shard, and which members' checksums are wrong, in one pass of bounded memory."""
    hasher, wrong = blake3.blake3(), []
    member, value = 0, 0  # the one that the next bytes belong to, and its checksum so far
    spans = list(zip(offsets.tolist(), (offsets + sizes).tolist(), sums.tolist(), strict=True))
    start = end = 0
    for chunk in storage.chunks(shard.key, shard.size):
        start, end = end, end + len(chunk)
        while member < len(spans) and spans[member][0] < end:
            first, last, want = spans[member]
            if first >= start and last <= end:  # as nearly all do
                value = crc32c.crc32c(chunk[first - start : last - start])
            else:
                value = crc32c.crc32c(chunk[max(first - start, 0) : min(last, end) - start], value)
                if last > end:
                    break
            if value != want:
                wrong.append(member)
            member, value = member + 1, 0
        hasher.update(chunk)  # last: the faster of both brings it into the processor's cache
    return hasher.hexdigest(), wrong + list(range(member, len(spans)))


def _name(table: pa.Table, number: int) -> str:
    for key, files in zip(table["key"].to_pylist(), table["files"].to_pylist(), strict=True):
        if number < len(files):
            return f"{key}.{files[number]['name']} (sample {key})"
        number -= len(files)
    raise IndexError(number)


def _broken_at(storage: Storage, shard: Shard) -> str:
    try:
        for _ in walk(memoryview(storage.get(shard.key))):
            pass
    except ValueError as e:
        return f"; {e}"
    return ""


def _twice(dataset: Dataset, keys: list[np.ndarray]) -> list[Problem]:
    everything = np.concatenate(keys) if keys else np.zeros(0, np.int64)
    if len(np.unique(everything)) == len(everything):
        return []
    seen: dict[str, Shard] = {}
    problems = []
    for shard in dataset.manifest.shards:
        _, table = _index(dataset, shard)
        for key in [] if table is None else table["key"].to_pylist():
            if key in seen:
                problems.append(Problem(shard.index_key, f"key {key} is in the dataset twice"))
            seen[key] = shard
    return problems
