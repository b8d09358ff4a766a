"""Which sample goes into which shard: a pure function of what the survey found and the settings."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import blake3
import pyarrow as pa

from pipelines.jsontext import digest

SURVEY = pa.schema(
    [
        ("status", pa.string()),  # ok, filtered, quarantined; the plan adds duplicate
        ("name", pa.string()),
        ("entry", pa.string()),
        ("suffix", pa.string()),
        ("spec", pa.string()),
        ("num_bytes", pa.int64()),
        ("content", pa.string()),
        ("meta", pa.string()),
        ("label", pa.string()),
        ("caption", pa.string()),
        ("group", pa.string()),
        ("quality", pa.map_(pa.string(), pa.float64())),
        ("fingerprint", pa.uint64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("head", pa.binary()),
    ]
)
PLAN = pa.schema([("unit", pa.int64()), ("key", pa.string()), ("split", pa.string()), *SURVEY])
OVERHEAD = 2048  # bytes of headers and padding that a sample takes in a tar, about
MAX_KEY = 150


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Samples in order with their shard unit, what was left out, and the name of all this."""

    samples: pa.Table
    dropped: pa.Table
    classes: list[str]
    settings: Mapping[str, Any]

    @property
    def units(self) -> int:
        return 0 if self.samples.num_rows == 0 else int(self.samples["unit"][-1].as_py()) + 1

    @property
    def digest(self) -> str:
        """BLAKE3 of settings and of every decision; neither times nor places enter."""
        names = ["unit", "key", "split", "suffix", "spec", "content", "label", "caption"]
        rows = zip(*(self.samples[name].to_pylist() for name in names), strict=True)
        hasher = blake3.blake3(digest([self.settings, self.classes]).encode())
        for row in rows:
            hasher.update(digest(row).encode())
        for name, status in zip(*(self.dropped[c].to_pylist() for c in ("name", "status")), strict=True):
            hasher.update(digest([name, status]).encode())
        text: str = hasher.hexdigest()
        return text


def make_plan(
    survey: pa.Table,
    *,
    settings: Mapping[str, Any],
    patterns: Sequence[str],
    taken_keys: frozenset[str] = frozenset(),
    known_contents: frozenset[str] = frozenset(),
    known_classes: Sequence[str] = (),
) -> Plan:
    """Order the survey's samples and deal them to shard units.

    `settings` has seed, dedup, split {val, test} and shards {max_bytes, max_samples, shuffle}. Keys that the
    parent snapshot has taken are not given again; with dedup its contents count as seen. `patterns` are the
    modality's file names, which keys go without.
    """
    survey = survey.sort_by([("name", "ascending"), ("suffix", "ascending")])
    kept = survey.filter(pa.compute.equal(survey["status"], "ok"))
    dropped = survey.filter(pa.compute.not_equal(survey["status"], "ok"))
    if settings["dedup"] == "exact":
        kept, duplicates = _unique(kept, known_contents)
        dropped = pa.concat_tables([dropped, duplicates])
    keys = _keys(kept, patterns, taken_keys)
    groups = keys if settings["split"]["by"] == "piece" else kept["group"].to_pylist()
    splits = [_split(group, settings) for group in groups]
    seed, shuffle = settings["seed"], settings["shards"]["shuffle"]
    order = sorted(
        range(len(keys)), key=lambda i: (splits[i], _hash(seed, keys[i]) if shuffle else "", keys[i])
    )
    sizes = kept["num_bytes"].to_pylist()
    units = _deal([(splits[i], sizes[i]) for i in order], settings["shards"])
    # Inside a shard members lie in key order, whatever the order of the shards.
    order = [i for _, _, i in sorted((unit, keys[i], i) for unit, i in zip(units, order, strict=True))]
    columns = {"unit": sorted(units), "key": [keys[i] for i in order], "split": [splits[i] for i in order]}
    rest = kept.take(pa.array(order, pa.int64()))
    samples = pa.table(
        [pa.array(columns[n], PLAN.field(n).type) if n in columns else rest[n] for n in PLAN.names],
        schema=PLAN,
    )
    labels = {label for label in kept["label"].unique().to_pylist() if label is not None}
    return Plan(samples=samples, dropped=dropped, classes=_classes(labels, known_classes), settings=settings)


def _classes(labels: set[str], known: Sequence[str]) -> list[str]:
    """Names by class number. Whole numbers stand for themselves; new names come behind the known ones."""
    everything = labels | set(known)
    if everything and all(re.fullmatch(r"0|[1-9]\d{0,4}", name) for name in everything):
        return [str(i) for i in range(max(map(int, everything)) + 1)]
    return [*known, *sorted(labels - set(known))]


def _unique(table: pa.Table, seen: frozenset[str]) -> tuple[pa.Table, pa.Table]:
    first: dict[tuple[str, str], str] = {}
    statuses, reasons = [], []
    columns = (table[name].to_pylist() for name in ("content", "suffix", "name"))
    for content, suffix, name in zip(*columns, strict=True):
        known = content in seen or (content, suffix) in first
        statuses.append("duplicate" if known else "ok")
        reasons.append(
            f"same bytes as {first.get((content, suffix), 'an earlier snapshot')}" if known else ""
        )
        first.setdefault((content, suffix), name)
    marked = table.set_column(table.schema.get_field_index("status"), "status", [statuses])
    marked = marked.set_column(marked.schema.get_field_index("reason"), "reason", [reasons]).cast(SURVEY)
    same = pa.compute.equal(marked["status"], "duplicate")
    return marked.filter(pa.compute.invert(same)), marked.filter(same)


def _keys(table: pa.Table, patterns: Sequence[str], taken: frozenset[str]) -> list[str]:
    names = table["name"].to_pylist()
    suffixes = table["suffix"].to_pylist()
    wanted = [make_key(name, suffix, patterns) for name, suffix in zip(names, suffixes, strict=True)]
    counts = Counter(wanted)
    return [
        key if counts[key] == 1 and key not in taken else f"{key}-{_hash('name', name)[:10]}"
        for key, name in zip(wanted, names, strict=True)
    ]


def make_key(name: str, suffix: str, patterns: Sequence[str]) -> str:
    """A sample's key: the source's name without its extension, in characters every tar reader agrees on.

    >>> make_key("cats/Tom Cat.v2.jpg", "", ["*.jpg"]), make_key("scene.zarr/", "y0", ["*.zarr/"])
    ('cats/Tom_Cat_v2', 'scene_y0')
    """
    path = unicodedata.normalize("NFKD", name)
    if in_tar := ".tar/" in path:
        path = path.rpartition(".tar/")[2]
    *folders, last = path.rstrip("/").split("/")
    named = last + "/" * path.endswith("/")
    if last.lower() in patterns and folders:  # a pattern without a star: the folder is the object
        stem = folders.pop()
    elif in_tar:
        stem = last.partition(".")[0]  # WebDataset's rule
    else:
        ends = [p.strip("*") for p in patterns if p.startswith("*.") and fnmatch(named.lower(), p.lower())]
        stem = named[: -max(map(len, ends))] if ends else last.partition(".")[0]
    parts = [
        re.sub(r"[^A-Za-z0-9_-]+", "_", part) for part in [*folders, stem] if part not in ("", ".", "..")
    ]
    key = "/".join(parts)
    if not key or len(key) > MAX_KEY or any(len(part) > 60 for part in parts):
        key = f"{key[-40:].strip('/')}-{_hash('name', name)[:10]}".replace("/", "_")
    return f"{key}_{suffix}" if suffix else key


def _split(group: str, settings: Mapping[str, Any]) -> str:
    place = int(_hash(settings["seed"], "split", group)[:12], 16) / 16**12
    val, test = settings["split"]["val"], settings["split"]["test"]
    return "val" if place < val else "test" if place < val + test else "train"


def _deal(samples: Iterable[tuple[str, int]], limits: Mapping[str, Any]) -> list[int]:
    """Unit numbers for (split, bytes) in order; a unit never mixes splits."""
    units: list[int] = []
    unit, total, count, current = -1, 0, 0, None
    for split, size in samples:
        full = total + size + OVERHEAD > limits["max_bytes"] or count >= limits["max_samples"]
        if split != current or full:
            unit, total, count, current = unit + 1, 0, 0, split
        total, count = total + size + OVERHEAD, count + 1
        units.append(unit)
    return units


def _hash(*values: object) -> str:
    text: str = blake3.blake3("\0".join(map(str, values)).encode()).hexdigest()
    return text
