"""What several datasets have twice, from their indexes: by a shuffle of Ray Data that spills.

A plan finds what one job brings twice (pipelines.shards.duplicates). This looks across datasets that were
built apart: a test set in a training set, the parts of a collection that was divided among jobs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from pipelines.graphs.exchange import PART_ROWS, Shuffle
from pipelines.shards.dataset import Dataset, index_of
from pipelines.shards.manifest import Shard
from pipelines.shards.marks import hash64
from pipelines.shards.storage import open_storage
from pipelines.stages.dedup import components, is_in, keepers, mixed, settled, starts

DUPLICATES = pa.schema(
    [
        ("dataset", pa.int32()),  # its place among those named
        ("split", pa.string()),
        ("key", pa.string()),
        ("of_dataset", pa.int32()),  # the one that stays instead
        ("of_split", pa.string()),
        ("of_key", pa.string()),
        ("reason", pa.string()),  # one of REASONS
        ("distance", pa.int8()),  # bits of the fingerprints
        ("cluster", pa.uint64()),
    ]
)
REASONS = ("same-bytes", "same-content", "near-duplicate")
BYTES, CONTENT, PRINT = range(3)
SAMPLES = pa.schema(
    [
        ("a", pa.uint64()),  # 128 bits of what must be the same
        ("b", pa.uint64()),
        ("reason", pa.int8()),  # which of REASONS it would be
        ("dataset", pa.int32()),
        ("num_bytes", pa.int64()),
        ("split", pa.string()),
        ("key", pa.string()),
        ("fingerprint", pa.uint64()),  # of those that are PRINT
    ]
)
PREFERENCE = [("dataset", "ascending"), ("num_bytes", "descending"), ("key", "ascending")]
READERS = 16  # tasks at least, if there are as many shards; each gives one input of the shuffle
_COLUMNS = ["key", "files", "content", "arrays", "fingerprint"]
_OWN = ("meta.json",)  # members that name the source: the same sample has others elsewhere
Numbers = NDArray[np.uint64]


def duplicates(datasets: Sequence[Dataset], distance: int = 0) -> pa.Table:
    """Samples that are there already, as DUPLICATES, by dataset and key; each once, for its first reason.

    Of those that are alike one stays: of the dataset named first, then the largest, then the first key.
    same-bytes: the source and the files that were made of it. same-content: what they decode to, where both
    datasets were built with `dedup: content`. near-duplicate: fingerprints at most `distance` bits apart,
    none for 0; nobody is told to be one without a neighbour that stays. Memory here grows with what is found.
    ValueError for kinds of data whose fingerprints do not compare.
    """
    kinds = sorted({dataset.manifest.modality for dataset in datasets})
    if distance and len(kinds) > 1:
        raise ValueError(f"fingerprints of {' and '.join(kinds)} do not compare; distance 0 compares bytes")
    urls = [dataset.storage.url for dataset in datasets]
    shards = [{**asdict(shard), "dataset": i} for i, d in enumerate(datasets) for shard in d.manifest.shards]
    if not shards:
        return DUPLICATES.empty_table()
    count = len(REASONS) * sum(shard["samples"] for shard in shards)
    readers = min(len(shards), max(READERS, count // PART_ROWS))
    listed = ray.data.from_items(shards, override_num_blocks=readers)

    rows = listed.map_batches(lambda batch: _read(batch, urls), batch_size=1, batch_format="pyarrow")
    joined = Shuffle.of(rows, SAMPLES, count, "a")
    found = [*joined.map(_same)]
    if distance:
        found += _near(joined, distance)
    table = pa.concat_tables([DUPLICATES.empty_table(), *found]).combine_chunks()
    by_sample = [("dataset", "ascending"), ("key", "ascending")]
    rank = pc.index_in(table["reason"], pa.array(REASONS))
    order = pc.sort_indices(table.append_column("rank", rank), sort_keys=[*by_sample, ("rank", "ascending")])
    table = table.take(order)
    first = np.ones(table.num_rows, bool)
    names = table["dataset"].to_numpy(), np.array(table["key"].to_pylist(), object)
    first[1:] = (names[0][1:] != names[0][:-1]) | (names[1][1:] != names[1][:-1])
    return table.filter(pa.array(first))


def _read(batch: pa.Table, urls: Sequence[str]) -> pa.Table:
    """Of a shard's samples, as SAMPLES: a row for the bytes of each, its content and fingerprint if known."""
    [row] = batch.to_pylist()
    number = row.pop("dataset")
    shard = Shard(**row)
    table = index_of(open_storage(urls[number]), shard, _COLUMNS)
    count = table.num_rows
    files = table["files"].combine_chunks()
    ends = files.offsets.to_numpy()
    sizes = np.append(0, np.cumsum(files.flatten().field("size").to_numpy()))
    table = table.append_column("num_bytes", pa.array(sizes[ends[1:] - ends[0]] - sizes[ends[:-1] - ends[0]]))
    table = table.append_column("split", pa.array([shard.split] * count))
    table = table.append_column("dataset", pa.array(np.full(count, number), pa.int32()))
    first, second = _halves(table["content"])
    decoded = table.filter(pc.is_valid(table["arrays"]))
    prints = pc.fill_null(table["fingerprint"], pa.scalar(0, pa.uint64()))  # 0: nothing to compare
    seen = table.filter(pc.not_equal(prints, pa.scalar(0, pa.uint64())))
    told = [
        _samples(table, first, mixed(second ^ _files(files)), BYTES),
        _samples(decoded, *_halves(decoded["arrays"]), CONTENT),
        _samples(seen, seen["fingerprint"].to_numpy(), np.zeros(seen.num_rows, np.uint64), PRINT),
    ]
    return pa.concat_tables(told).combine_chunks()


def _samples(table: pa.Table, a: Numbers, b: Numbers, reason: int) -> pa.Table:
    count = len(a)
    columns = {
        "a": pa.array(a), "b": pa.array(b), "reason": pa.array(np.full(count, reason, np.int8)),
        "fingerprint": pa.array(a) if reason == PRINT else pa.nulls(count, pa.uint64()),
    }  # fmt: skip
    return pa.table(
        [columns.get(f.name, table[f.name] if f.name not in columns else None) for f in SAMPLES], SAMPLES
    )


def _halves(digests: pa.ChunkedArray) -> tuple[Numbers, Numbers]:
    """128 bits of digests in hexadecimal."""
    text = "".join(digest[:32] for digest in digests.to_pylist())
    numbers = np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64).reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def _files(files: pa.ListArray) -> Numbers:
    """64 bits of names, sizes and checksums of each sample's files, in any order."""
    each = files.flatten()
    names = each.field("name").dictionary_encode()
    words = names.dictionary.to_pylist()
    known = np.array([0 if name in _OWN else hash64(name) for name in words], np.uint64)[
        names.indices.to_numpy()
    ]
    told = mixed(known ^ mixed(each.field("crc32c").to_numpy().astype(np.uint64)))
    told = mixed(told ^ each.field("size").to_numpy().astype(np.uint64)) * (known != 0)
    sums = np.append(np.uint64(0), np.cumsum(told, dtype=np.uint64))  # wraps, and so do differences
    ends = files.offsets.to_numpy() - files.offsets[0].as_py()
    result: Numbers = sums[ends[1:]] - sums[ends[:-1]]
    return result


def _same(table: pa.Table) -> pa.Table:
    """Of a part of the join: every sample but the first of its kind."""
    table = _apart(table, pc.less, PRINT)
    if not table.num_rows:
        return DUPLICATES.empty_table()
    kind = [("a", "ascending"), ("b", "ascending"), ("reason", "ascending")]
    table = table.sort_by([*kind, *PREFERENCE])
    new = starts(*(table[name].to_numpy() for name, _ in kind))
    first = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
    rest = np.flatnonzero(~new)
    return _told(table, rest, table, first[rest], table["a"].to_numpy()[rest])


def _apart(table: pa.Table, compare: Callable[[Any, int], Any], reason: int) -> pa.Table:
    return table.filter(compare(table["reason"], reason))


def _near(samples: Shuffle, distance: int) -> Iterator[pa.Table]:
    """`samples` in parts, each with all that have its fingerprints."""
    pairs = [np.stack(pair, axis=1) for pair in samples.near("fingerprint", distance)]
    edges = np.concatenate(pairs) if pairs else np.empty((0, 2), np.uint64)
    best = samples.map(_best, np.unique(edges))
    known = pa.concat_tables([SAMPLES.empty_table(), *best]).combine_chunks().sort_by(PREFERENCE)
    order = np.argsort(values := known["a"].to_numpy())
    left, right = (order[np.searchsorted(values, edges[:, i], sorter=order)] for i in (0, 1))
    keeper, root = keepers(left, right, len(values)), components(left, right, len(values))
    return samples.map(_settled, known, order, keeper, root)


def _best(table: pa.Table, nodes: Numbers) -> pa.Table:
    """Of each of these fingerprints the sample that is preferred."""
    table = _apart(table, pc.equal, PRINT)
    table = table.filter(pa.array(is_in(table["a"].to_numpy(), nodes)))
    table = table.sort_by([("a", "ascending"), *PREFERENCE])
    return table.filter(pa.array(starts(table["a"].to_numpy())))


def _settled(
    table: pa.Table,
    known: pa.Table,
    order: NDArray[np.int64],
    keeper: NDArray[np.int64],
    root: NDArray[np.int64],
) -> pa.Table:
    """Of a part: those whose fingerprint is near a preferred one, or comes more than once."""
    table = _apart(table, pc.equal, PRINT).sort_by([("a", "ascending"), *PREFERENCE])
    prints, nodes = table["a"].to_numpy(), known["a"].to_numpy()[order]
    both = pa.concat_tables([table, known])
    chosen, roots, stays = settled(prints, nodes, order, keeper, root)
    rest = np.flatnonzero(~stays)
    return _told(table, rest, both, chosen[rest], both["a"].to_numpy()[roots[rest]])


def _told(
    table: pa.Table, rows: NDArray[np.int64], others: pa.Table, of: NDArray[np.int64], cluster: Numbers
) -> pa.Table:
    """As DUPLICATES: these rows of a table, instead of which those of another one stay."""
    mine, theirs = table.take(pa.array(rows)), others.take(pa.array(of))
    reasons = mine["reason"].to_numpy()
    bits = np.bitwise_count(mine["a"].to_numpy() ^ theirs["a"].to_numpy()).astype(np.int8)
    columns = {
        **{name: mine[name] for name in ("dataset", "split", "key")},
        **{f"of_{name}": theirs[name] for name in ("dataset", "split", "key")},
        "reason": pa.array(REASONS).take(pa.array(reasons)), "distance": bits, "cluster": cluster,
    }  # fmt: skip
    return pa.table([columns[name] for name in DUPLICATES.names], schema=DUPLICATES)
