"""A snapshot of a dataset: which shards are in it, and the books of how they came to be."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipelines.jsontext import digest
from pipelines.parquet import from_parquet, to_parquet
from pipelines.seal import Corrupt, seal, unseal
from pipelines.shards.storage import Storage, put_right, read_verified

FORMAT = 2
FIELDS = ("number", "parent", "modality", "settings", "plans", "classes", "job")  # of a head, as they are


class Conflict(RuntimeError):
    """Somebody else committed something different, or the dataset was built with other settings."""


@dataclass(frozen=True, kw_only=True)
class Books:
    """Where every input went. Inputs are counted after cutting: a video of five clips is five."""

    inputs: int = 0
    written: int = 0
    quarantined: int = 0
    duplicates: int = 0
    filtered: int = 0

    def __add__(self, other: "Books") -> "Books":
        return Books(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def __sub__(self, other: "Books") -> "Books":
        return Books(**{name: value - getattr(other, name) for name, value in asdict(self).items()})

    @property
    def closed(self) -> bool:
        """Whether every input is accounted for, once."""
        return self.inputs == self.written + self.quarantined + self.duplicates + self.filtered


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard of a snapshot, named by the BLAKE3 of its bytes."""

    digest: str
    samples: int
    size: int
    split: str
    index: str  # BLAKE3 of the index beside it

    @property
    def key(self) -> str:
        return f"shards/{self.digest}.tar"

    @property
    def index_key(self) -> str:
        return f"index/{self.digest}.parquet"


SHARDS = pa.schema(
    [
        ("digest", pa.string()),
        ("samples", pa.int64()),
        ("size", pa.int64()),
        ("split", pa.string()),
        ("index", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Snapshot `number` of a dataset. `settings` are what decides the content; `job` is the whole job."""

    number: int
    parent: str | None
    modality: str
    settings: str
    plans: Sequence[str]  # every run whose quarantine and source listing belong to this snapshot
    classes: Sequence[str]
    books: Books
    shards: Sequence[Shard]
    job: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """BLAKE3 of the content: the same for the same inputs and settings, wherever and whenever built."""
        shards = [(s.digest, s.samples, s.size, s.split, s.index) for s in self.shards]
        return digest([FORMAT, self.modality, self.settings, list(self.classes), asdict(self.books), shards])

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.shards)


def commit(storage: Storage, manifest: Manifest) -> None:
    """Make the snapshot visible, whole or not at all; Conflict when its number is taken."""
    if not manifest.books.closed or manifest.books.written != manifest.samples:
        raise AssertionError(
            f"the books do not close: {manifest.books}, {manifest.samples} samples in the shards; "
            "nothing was committed"
        )
    # Named by content: a builder that loses the race must not leave its list under the winner's number.
    put_right(storage, listing_key(manifest), shard_list(manifest))
    if manifest.plans:
        put_right(storage, copy_key(manifest), head_of(manifest))
    if (
        not storage.put(head_key(manifest.number), head_of(manifest))
        and load(storage, manifest.number).digest != manifest.digest
    ):
        raise Conflict(
            f"snapshot {manifest.number} of {storage.url} was committed by another builder meanwhile"
        )


def head_of(manifest: Manifest) -> bytes:
    """The sealed head: everything but the shard list."""
    return seal(
        {
            "format": FORMAT, "digest": manifest.digest, "shards": listing_key(manifest),
            "samples": manifest.samples, "bytes": manifest.size, "books": asdict(manifest.books),
            **{name: getattr(manifest, name) for name in FIELDS},
        }
    )  # fmt: skip


def shard_list(manifest: Manifest) -> bytes:
    """The sealed Parquet file beside the head."""
    columns = {name: [getattr(shard, name) for shard in manifest.shards] for name in SHARDS.names}
    return to_parquet(pa.table(columns, schema=SHARDS))


def load(storage: Storage, number: int | None = None) -> Manifest:
    """Snapshot `number`, or the newest; FileNotFoundError when there is none, Corrupt when it is damaged."""
    if number is None:
        number = latest(storage)
        if number is None:
            raise FileNotFoundError(
                f"no dataset at {storage.url}: there is no manifest in {storage.url}/manifest"
            )
    head = read_head(storage, head_key(number))
    table = read_verified(storage, head["shards"], from_parquet)
    manifest = manifest_of(head, [Shard(**row) for row in _typed(storage, head["shards"], table).to_pylist()])
    if manifest.digest != head["digest"] or manifest.number != number:
        raise Corrupt(
            f"snapshot {number} of {storage.url} is damaged: its content is not what its digest says"
        )
    return manifest


def read_head(storage: Storage, key: str) -> dict[str, Any]:
    """A head, or the copy of one, with all its fields."""
    head = read_verified(storage, key, unseal)
    if head.get("format") != FORMAT:
        raise ValueError(f"{key} of {storage.url} has format {head.get('format')}, this reads {FORMAT}")
    wanted = {*FIELDS, "digest", "shards", "books", "samples", "bytes"}
    if missing := wanted - head.keys():
        raise Corrupt(f"{key} of {storage.url} is no manifest: it lacks {sorted(missing)}")
    return head


def manifest_of(head: Mapping[str, Any], shards: Sequence[Shard]) -> Manifest:
    """A head and its shards as one."""
    try:
        books = Books(**head["books"])
    except TypeError as e:
        raise Corrupt(f"the head of snapshot {head['number']} has strange books: {e}") from e
    return Manifest(books=books, shards=shards, **{name: head[name] for name in FIELDS})


def _typed(storage: Storage, key: str, table: pa.Table) -> pa.Table:
    if table.schema.remove_metadata() != SHARDS:
        raise Corrupt(f"{key} of {storage.url} is no list of shards: it has {table.schema.names}")
    return table


def latest(storage: Storage) -> int | None:
    """The highest snapshot number, or None."""
    return max(numbers(storage), default=None)


def numbers(storage: Storage) -> Iterator[int]:
    """Of every snapshot there is, in order."""
    for key in storage.list("manifest/"):
        if found := re.fullmatch(r"manifest/(\d{6,})\.json", key):
            yield int(found[1])


def head_key(number: int) -> str:
    """Where snapshot `number` is made visible."""
    return f"manifest/{number:06}.json"


def listing_key(manifest: Manifest) -> str:
    """Where its shard list lies."""
    return f"manifest/{manifest.number:06}-{manifest.digest[:16]}.parquet"


def copy_key(manifest: Manifest) -> str:
    """Where its run keeps a copy of the head, for repairs."""
    return f"runs/{plan_of(manifest.plans[-1])}/head.json"


def plan_of(run: str) -> str:
    """The plan of a run as a manifest names it, `survey/plan`."""
    return run.rpartition("/")[2]
