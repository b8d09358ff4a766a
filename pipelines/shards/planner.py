"""How a plan is made: passes over the survey, and over buckets of what a pass left on disk."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.shards.decisions import KNOWN, NO_SPLIT, Decisions, Verdict
from pipelines.shards.duplicates import CANDIDATE, CLUSTERS, Duplicates
from pipelines.shards.exchange import Exchanges
from pipelines.shards.known import NAMED, Known, settle_known
from pipelines.shards.layout import PLACED, Layout
from pipelines.shards.marks import MARKED, draw_of, hash64, hash128, marks_of, name_tag, undivided
from pipelines.shards.plan import DROPPED, PLAN, Plan, Survey
from pipelines.shards.scenes import Scenes
from pipelines.shards.spill import Spill, bucket_of, num_buckets
from pipelines.stages.splits import NAMES, Strata

PART_ROWS = 2**16  # of clusters, and of what was dropped, with the first bytes of what was quarantined
NARROW = [
    "status",
    "name",
    "suffix",
    "content",
    "num_bytes",
    "label",
    "caption",
    "fingerprint",
    "reason",
    "detail",
    "marks",
]


class Planner:
    """The steps of one plan, each a pass over the survey or over buckets of what a pass left."""

    def __init__(
        self, plan: Plan, survey: Survey, folder: Path, known: Known | None, exchange: Exchanges
    ) -> None:
        self.plan, self.survey, self.folder, self.known = plan, survey, folder, known
        self.exchange = exchange
        self.settings = plan.settings
        self.split = {"stratify": False, **self.settings["split"]}
        self.buckets = num_buckets(survey.rows)
        self.early = Decisions(folder / "early", survey.rows)  # what the snapshot before decides
        self.later = Decisions(folder / "later", survey.rows)
        self.keys = Spill(folder / "keys", _KEYS, self.buckets)
        self.duplicates = self._duplicates()
        self.anchors: list[tuple[NDArray[np.uint64], NDArray[np.int8]]] = []  # draws with the split they have

    def run(self) -> None:
        if self.known:
            self._find_known(self.known)
        self._look()
        _settle_keys(self.keys, self.later)
        links = np.empty((0, 2), np.uint64)
        if self.duplicates:
            for part in _same_size(self.duplicates.find(), CLUSTERS):
                self.plan.add_part("clusters", part)
            if self.split["by"] == "cluster":
                links = np.concatenate([links, *self.duplicates.links])
        self.scenes = Scenes(links, self.anchors)
        if self.split["stratify"]:
            self._stratify()
        self._carry()

    def _find_known(self, known: Known) -> None:
        names = Spill(self.folder / "names", NAMED, self.buckets)
        start = 0
        for table in self.survey.read(NARROW):
            marks, count = marks_of(table), table.num_rows
            columns = {
                "a": pa.array(marks["name"][:, 0]), "b": pa.array(marks["name"][:, 1]),
                "row": pa.array(np.arange(start, start + count)),
            }  # fmt: skip
            rows = [
                columns.get(f.name, table[f.name] if f.name in table.schema.names else None) for f in NAMED
            ]
            names.add(pa.table(rows, schema=NAMED), bucket_of(marks["name"][:, 0], self.buckets))
            start += count
        settle_known(known, names, self.early, self._add_known)

    def _duplicates(self) -> Duplicates | None:
        dedup, by_cluster = self.settings["dedup"], self.split["by"] == "cluster"
        if dedup == "none" and not by_cluster:
            return None
        return Duplicates(
            self.folder / "duplicates", self.survey.rows, self.later,
            drop=dedup != "none", near=dedup == "near",
            reason="same-content" if dedup == "content" else "same-bytes",
            distance=self.settings.get("dedup_distance", 6) if dedup == "near" or by_cluster else 0,
            exchange=self.exchange,
        )  # fmt: skip

    def _look(self) -> None:
        """The first pass: keys, candidates for duplicates."""
        reasons: set[str | None] = set()
        detail = None
        start = 0
        for table, verdict in self._read(NARROW, self.early):
            if len(reasons) < 2:
                reasons |= set(table["reason"].unique().to_pylist())
                detail = detail or (table["detail"][0].as_py() if table.num_rows else None)
            fresh = pc.equal(table["status"], "ok").to_numpy()
            fresh[verdict.rows] = False
            rows = np.flatnonzero(fresh) + start
            start += table.num_rows
            table = table.filter(pa.array(fresh))
            marks = marks_of(table)
            self.keys.add(_pair(marks["key"], rows), bucket_of(marks["key"], self.buckets))
            if self.duplicates:
                self.duplicates.add(_candidates(table, marks, rows))
        if reasons == {"no-such-field"}:
            raise LookupError(f"no sample has what the filters ask for: {detail}")

    def _add_known(self, table: pa.Table) -> None:
        """Samples of the snapshot before: their keys are taken, new ones may be their duplicates."""
        taken = np.array([hash64("key", key) for key in table["key"].to_pylist()], np.uint64)
        self.keys.add(_pair(taken, np.full(len(taken), -1)), bucket_of(taken, self.buckets))
        draws = np.zeros(len(taken), np.uint64)
        if self.split["by"] == "cluster" or self.split["stratify"]:
            seed, by = self.settings["seed"], self.split["by"]
            named = zip(table["group"].to_pylist(), table["key"].to_pylist(), strict=True)
            draws = np.array([draw_of(seed, undivided(by, group, key)) for group, key in named], np.uint64)
            unique, first = np.unique(draws, return_index=True)
            self.anchors.append((unique, table["split"].to_numpy()[first]))
        if self.duplicates:
            self.duplicates.add(_given(table, draws, arrays=self.settings["dedup"] == "content"))

    def _read(self, columns: list[str], *decisions: Decisions) -> Iterator[Any]:
        """Tables of the survey, each with the verdicts on its rows."""
        counts: list[list[int]] = [[] for _ in decisions]
        readers = [d.along(iter(c.pop, None)) for d, c in zip(decisions, counts, strict=True)]
        for table in self.survey.read(columns):
            for count in counts:
                count.append(table.num_rows)
            yield table.combine_chunks(), *(next(reader) for reader in readers)

    def _stratify(self) -> None:
        """Settle splits by rank within a class."""
        groups = Spill(self.folder / "groups", _GROUPS, self.buckets)
        classes: dict[str | None, int] = {}
        start = 0
        for table, early, later in self._read(["status", "label", "marks"], self.early, self.later):
            fresh = _fresh(table, early, later)
            rows = np.flatnonzero(fresh) + start
            start += table.num_rows
            draws = self.scenes.draws(marks_of(table)[fresh]["draw"])
            labels = table["label"].filter(pa.array(fresh)).to_pylist()
            codes = np.array([classes.setdefault(label, len(classes)) for label in labels], np.int64)
            columns = [pa.array(draws), pa.array(codes), pa.array(rows)]
            groups.add(pa.table(columns, schema=_GROUPS), bucket_of(draws, self.buckets))
        order = sorted(classes, key=lambda label: (label is not None, label))
        rank = np.argsort([classes[label] for label in order])  # numbers that no order of parts decides
        rank = rank if len(rank) else np.zeros(1, np.int64)
        totals = np.zeros(len(rank), np.int64)
        for bucket in groups:
            _, codes, counts = _scenes(bucket, rank)
            np.add.at(totals, codes, counts)
        strata = Strata(totals, self.split)
        for bucket in groups.drain():
            at, codes, counts = _scenes(bucket, rank)
            self.later.split(bucket["row"].to_numpy(), strata.assign(codes, counts)[at])

    def _carry(self) -> None:
        """The second pass: every sample to its place, with its key and split."""
        layout = Layout(self.folder / "layout", self.survey.rows, self.settings)
        dropped = Spill(self.folder / "dropped", DROPPED, self.buckets)
        labels: set[str] = set()
        for table, early, later in self._read(MARKED.names, self.early, self.later):
            fresh = _fresh(table, early, later)
            gone = _gone(table, fresh, early, later)
            names = np.array([hash64(name) for name in gone["name"].to_pylist()], np.uint64)
            dropped.add(gone, bucket_of(names, self.buckets))
            self.plan.counts.update(gone["status"].to_pylist())
            kept, rekey, split = table.filter(pa.array(fresh)), later.rekey[fresh], later.split[fresh]
            marks = marks_of(kept)
            codes = self.scenes.splits(marks["draw"], self.split)
            codes = np.where((split != NO_SPLIT) & ~self.scenes.settled(marks["draw"]), split, codes)
            labels |= {label for label in kept["label"].unique().to_pylist() if label is not None}
            layout.add(_placed(kept, marks, rekey, codes), codes)
        for part in _same_size(map(_by_name, dropped.drain()), DROPPED):
            self.plan.add_part("dropped", part)
        self.plan.add_units((NAMES[code], unit.cast(PLAN)) for code, unit in layout.units())
        numbers = self.plan.settings.get("classes") == "numbers"
        self.plan.classes = _classes(labels, self.known.classes if self.known else [], numbers=numbers)


_KEYS = pa.schema([("key", pa.uint64()), ("row", pa.int64())])
_GROUPS = pa.schema([("draw", pa.uint64()), ("label", pa.int64()), ("row", pa.int64())])


def _pair(hashes: NDArray[np.uint64], rows: NDArray[np.int64]) -> pa.Table:
    return pa.table([pa.array(hashes), pa.array(rows)], schema=_KEYS)


def _settle_keys(keys: Spill, decisions: Decisions) -> None:
    """Whoever wants a key that somebody else wants too, or has, gets one of its own."""
    for bucket in keys.drain():
        hashes, rows = bucket["key"].to_numpy(), bucket["row"].to_numpy()
        if not len(hashes):
            continue
        order = np.argsort(hashes, kind="stable")
        same = hashes[order][1:] == hashes[order][:-1]
        shared = np.append(same, False) | np.insert(same, 0, False)
        wanted = rows[order][shared]
        if len(wanted := wanted[wanted >= 0]):
            decisions.rekey(wanted)


def _candidates(table: pa.Table, marks: NDArray[Any], rows: NDArray[np.int64]) -> pa.Table:
    same = marks["same"]
    columns = {
        "a": pa.array(same[:, 0]), "b": pa.array(same[:, 1]), "piece": pa.array(marks["piece"]),
        "given": pa.array(np.zeros(len(rows), bool)), "row": pa.array(rows), "draw": pa.array(marks["draw"]),
    }  # fmt: skip
    return pa.table(
        [columns.get(f.name, table[f.name] if f.name not in columns else None) for f in CANDIDATE],
        schema=CANDIDATE,
    )


def _given(table: pa.Table, draws: NDArray[np.uint64], *, arrays: bool) -> pa.Table:
    """Samples of the snapshot before as candidates: every piece of an object they have is a duplicate.

    Where a replay tells pieces apart, only the same piece is: others of its object are still to come.
    """
    told = [
        a if arrays and a else c
        for a, c in zip(table["arrays"].to_pylist(), table["content"].to_pylist(), strict=True)
    ]
    same = np.array([hash128("same", text) for text in told], np.uint64).reshape(-1, 2)
    count, pieces = len(told), np.zeros(len(told), np.uint64)
    if "suffix" in table.schema.names:
        of = zip(table["suffix"].to_pylist(), table["arrays"].to_pylist(), strict=True)
        pieces[:] = [0 if suffix is None or (arrays and a) else hash64(suffix) for suffix, a in of]
    columns = [
        pa.array(same[:, 0]), pa.array(same[:, 1]), pa.array(pieces), table["fingerprint"],
        pa.array(np.ones(count, bool)), pa.array(np.full(count, -1)), pa.array(np.zeros(count, np.int64)),
        table["source"], pa.array([""] * count), pa.array(draws),
    ]  # fmt: skip
    return pa.table(columns, schema=CANDIDATE)


def _fresh(table: pa.Table, *verdicts: Verdict) -> NDArray[np.bool_]:
    fresh: NDArray[np.bool_] = pc.equal(table["status"], "ok").to_numpy().copy()
    for verdict in verdicts:
        fresh[verdict.rows] = False
    return fresh


def _gone(table: pa.Table, fresh: NDArray[np.bool_], *verdicts: Verdict) -> pa.Table:
    """Rows that are left out, as DROPPED: as the survey said, or as was decided."""
    rows = np.flatnonzero(~fresh)
    chosen = table.take(pa.array(rows))
    told = {name: chosen[name].to_pylist() for name in ("status", "reason", "detail")}
    for verdict in reversed(verdicts):  # what was decided first holds
        for i, place in enumerate(np.searchsorted(rows, verdict.rows).tolist()):
            for name in told:
                told[name][place] = getattr(verdict, name)[i]
    columns = [pa.array(told[f.name], f.type) if f.name in told else chosen[f.name] for f in DROPPED]
    return pa.table(columns, schema=DROPPED).filter(
        pc.not_equal(pa.array(told["status"], pa.string()), KNOWN)
    )


def _by_name(dropped: pa.Table) -> pa.Table:
    """By the hash of the name, so that all buckets together are in one order, however many they are."""
    dropped = dropped.sort_by([("name", "ascending"), ("suffix", "ascending")])
    names = np.array([hash64(name) for name in dropped["name"].to_pylist()], np.uint64)
    return dropped.take(pa.array(np.argsort(names, kind="stable")))


def _same_size(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    held = schema.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= PART_ROWS:
            yield held.slice(0, PART_ROWS)
            held = held.slice(PART_ROWS)
    yield held


def _placed(
    table: pa.Table, marks: NDArray[Any], rekey: NDArray[np.bool_], codes: NDArray[np.int8]
) -> pa.Table:
    """Rows as PLACED, with their final keys."""
    keys = table["key"]
    if rekey.any():
        pairs = zip(keys.to_pylist(), table["name"].to_pylist(), rekey.tolist(), strict=True)
        keys = pa.array([f"{key}-{name_tag(name)}" if own else key for key, name, own in pairs])
    split = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(NAMES)).cast(pa.string())
    given = {"key": keys, "split": split, "place": pa.array(marks["place"])}
    return pa.table([given[f.name] if f.name in given else table[f.name] for f in PLACED], schema=PLACED)


def _scenes(
    groups: pa.Table, rank: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The scene of each row; of each scene, in the order of their draws, its class and number of samples.

    A scene has the class that most of it has.
    """
    draws, codes = groups["draw"].to_numpy(), rank[groups["label"].to_numpy()]
    scenes, at = np.unique(draws, return_inverse=True)
    pairs, counts = np.unique(np.stack([at, codes]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    first = order[np.searchsorted(pairs[0][order], np.arange(len(scenes)))]
    return at, pairs[1][first], np.bincount(at, minlength=len(scenes))


def _classes(labels: set[str], known: Sequence[str], *, numbers: bool) -> list[str]:
    """Names by class number: those there are, whole numbers by value; new ones come behind the known ones.

    `numbers`: they are class numbers already and stand for themselves, up to 99,999.
    """
    if numbers:
        if strange := sorted(name for name in labels if not re.fullmatch(r"0|[1-9]\d{0,4}", name)):
            raise ValueError(
                f"classes: numbers wants labels from 0 to 99999, got {strange[0]!r}; leave classes out"
            )
        return [str(i) for i in range(max(len(known), *(int(name) + 1 for name in labels), 0))]
    return [*known, *sorted(labels - set(known), key=_by_value)]


def _by_value(name: str) -> tuple[int, str]:
    return int(name) if re.fullmatch(r"0|[1-9]\d{0,17}", name) else 10**18, name
