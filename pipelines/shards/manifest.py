"""A snapshot of a dataset: which shards are in it, and the books of how they came to be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.jsontext import digest, dumps, loads
from pipelines.parquet import from_parquet, to_parquet
from pipelines.shards.storage import Storage

FORMAT = 1


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

    @property
    def digest(self) -> str:
        """BLAKE3 of the content: the same for the same inputs and settings, wherever and whenever built."""
        shards = [(s.digest, s.samples, s.size, s.split) for s in self.shards]
        return digest([FORMAT, self.modality, self.settings, list(self.classes), asdict(self.books), shards])

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.shards)


def commit(storage: Storage, manifest: Manifest) -> None:
    """Make the snapshot visible, whole or not at all; Conflict when its number is taken."""
    if not manifest.books.closed:
        raise AssertionError(f"the books do not close: {manifest.books}")
    columns = {name: [getattr(shard, name) for shard in manifest.shards] for name in SHARDS.names}
    # Named by content: a builder that loses the race must not leave its list under the winner's number.
    listing = f"manifest/{manifest.number:06}-{manifest.digest[:16]}.parquet"
    storage.put(listing, to_parquet(pa.table(columns, schema=SHARDS)))
    head = {
        "format": FORMAT, "digest": manifest.digest, "shards": listing, "samples": manifest.samples,
        "bytes": manifest.size, **{k: v for k, v in vars(manifest).items() if k not in ("shards", "books")},
        "books": asdict(manifest.books),
    }  # fmt: skip
    key = _key(manifest.number)
    if (
        not storage.put(key, dumps(head).encode())
        and load(storage, manifest.number).digest != manifest.digest
    ):
        raise Conflict(
            f"snapshot {manifest.number} of {storage.url} was committed by another builder meanwhile"
        )


def load(storage: Storage, number: int | None = None) -> Manifest:
    """Snapshot `number`, or the newest; FileNotFoundError when there is none."""
    if number is None:
        number = latest(storage)
        if number is None:
            raise FileNotFoundError(
                f"no dataset at {storage.url}: there is no manifest in {storage.url}/manifest"
            )
    head = loads(storage.get(_key(number)))
    if head["format"] != FORMAT:
        raise ValueError(
            f"snapshot {number} of {storage.url} has format {head['format']}, this reads {FORMAT}"
        )
    rows = from_parquet(storage.get(head["shards"])).to_pylist()
    manifest = Manifest(
        books=Books(**head["books"]),
        shards=[Shard(**row) for row in rows],
        **{
            name: head[name]
            for name in ("number", "parent", "modality", "settings", "plans", "classes", "job")
        },
    )
    if manifest.digest != head["digest"]:
        raise ValueError(
            f"snapshot {number} of {storage.url} is damaged: its content is not what its digest says"
        )
    return manifest


def latest(storage: Storage) -> int | None:
    """The highest snapshot number, or None."""
    heads = [key for key in storage.list("manifest/") if key.endswith(".json")]
    return max((int(key[9:-5]) for key in heads), default=None)


def _key(number: int) -> str:
    return f"manifest/{number:06}.json"
