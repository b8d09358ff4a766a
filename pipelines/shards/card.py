"""A data card: what is in a dataset, in numbers, from its indexes alone."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pipelines.shards.dataset import Dataset

BINS = 20
MOST = 20  # distinct values listed of a text field


def data_card(dataset: Dataset) -> dict[str, Any]:
    """Counts, sizes, classes, splits, statistics of fields, quality histograms, and what was dropped."""
    manifest = dataset.manifest
    fields: dict[str, list[Any]] = {}
    quality: dict[str, list[float]] = {}
    labels: Counter[str] = Counter()
    files: dict[str, list[int]] = {}
    splits: Counter[str] = Counter()
    for shard, row in dataset:
        splits[shard.split] += 1
        if row.label is not None:
            labels[row.label] += 1
        for name, value in _flat(row.meta):
            fields.setdefault(name, []).append(value)
        for name, number in row.quality.items():
            quality.setdefault(name, []).append(number)
        for ext, member in row.files.items():
            files.setdefault(ext, []).append(member.size)
    dropped = Counter((row["status"], row["reason"]) for row in dataset.dropped())
    return {
        "modality": manifest.modality,
        "snapshot": manifest.number,
        "digest": manifest.digest,
        "samples": manifest.samples,
        "shards": len(manifest.shards),
        "bytes": manifest.size,
        "books": asdict(manifest.books),
        "splits": dict(splits),
        "classes": {name: labels[name] for name in manifest.classes if labels[name]},
        "files": {ext: {"count": len(sizes), **_numbers(sizes)} for ext, sizes in sorted(files.items())},
        "fields": {name: _describe(values) for name, values in sorted(fields.items())},
        "quality": {name: {**_numbers(v), **_histogram(v)} for name, v in sorted(quality.items())},
        "dropped": [
            {"status": status, "reason": reason, "count": count}
            for (status, reason), count in sorted(dropped.items())
        ],
    }


def _flat(meta: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in meta.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            yield f"{prefix}{name}", value


def _describe(values: list[Any]) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        return {"count": len(there), **_numbers(there)}
    counts = Counter(str(value)[:80] for value in there)
    return {"count": len(there), "distinct": len(counts), "values": dict(counts.most_common(MOST))}


def _numbers(values: list[Any]) -> dict[str, float]:
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if not array.size:
        return {}
    return {
        "min": float(array.min()),
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "max": float(array.max()),
    }


def _histogram(values: list[float]) -> dict[str, Any]:
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    counts, edges = np.histogram(finite, bins=BINS) if finite.size else (np.array([]), np.array([]))
    return {"not_finite": int(array.size - finite.size), "counts": counts.tolist(), "edges": edges.tolist()}
