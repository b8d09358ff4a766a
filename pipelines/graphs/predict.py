"""Predictions over a dataset: a Parquet part a shard, a row a sample in its order, committed whole."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import blake3
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from modalities.base import BadSample
from pipelines.jsontext import digest, dumps, loads
from pipelines.loading import Batch, collate, load_sample
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards.dataset import Corrupt, Dataset
from pipelines.shards.index import Row
from pipelines.shards.manifest import Conflict, Shard
from pipelines.shards.storage import Storage, open_storage

Report = Callable[[str, int, int], None]


class Predictor(Protocol):
    """A model in a worker: a batch in, for each field an array or list with a row a sample out."""

    options: Mapping[str, Any]

    def __call__(self, batch: Batch) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Part:
    """The predictions of one shard."""

    shard: str
    digest: str
    rows: int
    errors: int

    @property
    def key(self) -> str:
        return f"parts/{self.digest}.parquet"


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A snapshot of predictions: of which model, over which dataset snapshot, in which parts."""

    number: int
    model: str  # digest of checkpoint and settings
    dataset: str  # manifest digest
    parts: Sequence[Part]

    @property
    def digest(self) -> str:
        return digest([self.model, self.dataset, [asdict(part) for part in self.parts]])


def predict(
    dataset: Dataset,
    output: str,
    *,
    model: str,
    make: Callable[[], Predictor],
    split: str | None = None,
    batch_size: int = 32,
    workers: int = 1,
    report: Report = lambda *_: None,
    connect: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[Predictions, int]:
    """Predict every shard that `output` does not have yet; the snapshot, and how many shards were new.

    `make` builds the predictor once in each worker. `model` names it: an output holds one model's
    predictions, another raises Conflict. A sample that cannot be read has a row with its error.
    """
    storage = open_storage(output)
    last = load_predictions(storage)
    if last and last.model != model:
        raise Conflict(
            f"{output} holds predictions of another checkpoint or split; give these another output"
        )
    had = {part.shard: part for part in last.parts} if last else {}
    shards = [s for s in dataset.manifest.shards if split is None or s.split == split]
    todo = [shard for shard in shards if shard.digest not in had]
    if last and not todo:
        return last, 0
    if todo:
        with connect():
            _run(dataset, storage, model, todo, make, batch_size, workers, report)
    new = {shard.digest: _done(storage, model, shard.digest) for shard in todo}
    parts = [had.get(shard.digest) or new[shard.digest] for shard in shards]
    if missing := [s.digest for s, part in zip(shards, parts, strict=True) if part is None]:
        raise RuntimeError(f"shards {missing} ended without predictions")
    snapshot = Predictions(
        number=last.number + 1 if last else 0,
        model=model,
        dataset=dataset.manifest.digest,
        parts=[part for part in parts if part],
    )
    record = {**vars(snapshot), "parts": [asdict(part) for part in snapshot.parts], "digest": snapshot.digest}
    if not storage.put(f"manifest/{snapshot.number:06}.json", dumps(record).encode()):
        other = load_predictions(storage)
        if other is None or other.digest != snapshot.digest:
            raise Conflict(f"snapshot {snapshot.number} of {output} was committed by another job meanwhile")
    return snapshot, len(todo)


def load_predictions(storage: Storage) -> Predictions | None:
    """The newest snapshot, or None."""
    heads = list(storage.list("manifest/"))
    if not heads:
        return None
    record = loads(storage.get(max(heads)))
    parts = [Part(**part) for part in record["parts"]]
    snapshot = Predictions(**{k: v for k, v in record.items() if k not in ("parts", "digest")}, parts=parts)
    if snapshot.digest != record["digest"]:
        raise ValueError(f"{max(heads)} of {storage.url} is damaged: its content is not what its digest says")
    return snapshot


def read_predictions(url: str) -> pa.Table:
    """Every row of the newest snapshot, in the order of the dataset's shards."""
    storage = open_storage(url)
    snapshot = load_predictions(storage)
    if snapshot is None:
        raise FileNotFoundError(f"no predictions at {url}")
    tables = [from_parquet(storage.get(part.key)) for part in snapshot.parts]
    return pa.concat_tables(tables, promote_options="permissive")


def _done(storage: Storage, model: str, shard: str) -> Part | None:
    try:
        return Part(**loads(storage.get(f"runs/{model}/done/{shard}.json")))
    except FileNotFoundError:
        return None


def _run(
    dataset: Dataset, storage: Storage, model: str, todo: list[Shard], make: Callable[[], Predictor],
    batch_size: int, workers: int, report: Report,
) -> None:  # fmt: skip
    source, number, target = dataset.storage.url, dataset.manifest.number, storage.url

    class Worker:
        def __init__(self) -> None:
            self.predictor = make()
            self.dataset = Dataset.open(source, number)
            self.shards = {shard.digest: shard for shard in self.dataset.manifest.shards}

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            for name in batch["shard"]:
                predict_shard(
                    self.dataset,
                    self.shards[str(name)],
                    self.predictor,
                    open_storage(target),
                    model,
                    batch_size,
                )
            return batch

    report("shards", 0, len(todo))
    rows = ray.data.from_items([{"shard": s.digest} for s in todo], override_num_blocks=len(todo))
    pool = ActorPoolStrategy(size=min(workers, len(todo)))
    done = rows.map_batches(Worker, batch_size=1, compute=pool, num_cpus=1)
    for count, _ in enumerate(done.iter_rows(), 1):
        report("shards", count, len(todo))


def predict_shard(
    dataset: Dataset, shard: Shard, predictor: Predictor, storage: Storage, model: str, batch_size: int
) -> Part:
    """Predict one shard, store its part under its content, and mark it done. The same bytes every time."""
    if part := _done(storage, model, shard.digest):
        return part
    rows = dataset.rows(shard)
    records: list[dict[str, Any]] = []
    for start in range(0, len(rows), batch_size):
        records += _batch(dataset, shard, rows[start : start + batch_size], predictor)
    content = to_parquet(pa.Table.from_pylist(records))
    name: str = blake3.blake3(content).hexdigest()
    errors = sum(record["error"] is not None for record in records)
    part = Part(shard=shard.digest, digest=name, rows=len(records), errors=errors)
    storage.put(part.key, content)
    storage.put(f"runs/{model}/done/{shard.digest}.json", dumps(asdict(part)).encode())
    return part


def _batch(dataset: Dataset, shard: Shard, rows: list[Row], predictor: Predictor) -> list[dict[str, Any]]:
    samples: list[Batch] = []
    errors: dict[str, str] = {}
    for row in rows:
        try:
            samples.append(load_sample(dataset, shard, row, rng=None, options=predictor.options))
        except (BadSample, Corrupt) as e:
            errors[row.key] = str(e)
    columns = predictor(collate(samples)) if samples else {}
    found = {
        sample["key"]: {name: values[i] for name, values in columns.items()}
        for i, sample in enumerate(samples)
    }
    if taken := {"key", "error"} & set(columns):
        raise ValueError(f"a predictor may not call a column {sorted(taken)}: these are the rows' own")
    empty = dict.fromkeys(columns)
    return [{"key": r.key, "error": errors.get(r.key), **found.get(r.key, empty)} for r in rows]
