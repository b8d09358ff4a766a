"""One shard unit: open its sources, build their samples, and put the shard where readers will find it."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import blake3
import pyarrow as pa
import pyarrow.parquet as pq

import modalities
from modalities.base import BadSample, Files
from pipelines.jsontext import digest, dumps, loads
from pipelines.parquet import to_parquet
from pipelines.shards.index import Row, write_index
from pipelines.shards.manifest import Shard
from pipelines.shards.plan import Plan
from pipelines.shards.storage import Storage
from pipelines.shards.tar import TarWriter, header
from pipelines.sources import Entry, open_entry
from pipelines.stages.process import Filtered, content_digest
from pipelines.stages.sandbox import SandboxError, build

DROPPED = pa.schema(
    [
        ("status", pa.string()),  # quarantined, filtered, duplicate
        ("name", pa.string()),
        ("suffix", pa.string()),
        ("entry", pa.string()),
        ("content", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("head", pa.binary()),  # the first bytes of what was quarantined, a few kilobytes at most
    ]
)


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one unit. `shard` is None when not one of its samples could be built."""

    shard: Shard | None
    counts: Mapping[str, int] = field(default_factory=dict)


def write_plan(
    storage: Storage, plan: Plan, modality: str, *, survey: str = "", anonymous: bool = False
) -> str:
    """Store the plan, one row group a unit, and return the name it goes by.

    The name covers the `survey` that it was made from: the same samples may meanwhile lie elsewhere, and a
    plan that names the old place must not be taken up again. `anonymous`: no credentials are used.
    """
    name = digest([survey, plan.digest])
    with pq.ParquetWriter(out := BytesIO(), plan.samples.schema, compression="zstd") as writer:
        units = plan.samples["unit"].to_pylist()
        for unit in range(plan.units):
            first = units.index(unit)
            writer.write_table(plan.samples.slice(first, units.count(unit)))
    storage.put(f"runs/{name}/plan.parquet", out.getvalue())
    if plan.dropped.num_rows:
        write_dropped(storage, f"quarantine/{name}/survey.parquet", plan.dropped.to_pylist())
    head = {"modality": modality, "settings": plan.settings, "classes": plan.classes, "units": plan.units}
    head["anonymous"] = anonymous
    storage.put(f"runs/{name}/plan.json", dumps(head).encode())
    return name


def write_dropped(storage: Storage, key: str, rows: list[dict[str, Any]]) -> None:
    """Keep what was left out, with reasons, as Parquet."""
    columns = {name: [row[name] for row in rows] for name in DROPPED.names}
    storage.put(key, to_parquet(pa.table(columns, schema=DROPPED)))


def read_done(storage: Storage, plan: str, unit: int) -> Done | None:
    """The done-marker of a unit, or None while it has none."""
    try:
        record = loads(storage.get(f"runs/{plan}/done/{unit:06}.json"))
    except FileNotFoundError:
        return None
    return Done(shard=Shard(**record["shard"]) if record["shard"] else None, counts=record["counts"])


def pack_unit(storage: Storage, plan: str, unit: int) -> Done:
    """Build, store and mark one unit. Any worker may do it, any number of times: the bytes are the same."""
    if done := read_done(storage, plan, unit):
        return done
    head = loads(storage.get(f"runs/{plan}/plan.json"))
    rows = (
        pq.ParquetFile(pa.BufferReader(storage.get(f"runs/{plan}/plan.parquet")))
        .read_row_group(unit)
        .to_pylist()
    )
    dropped: list[dict[str, Any]] = []
    with storage.staging() as folder:
        written, digest, size = _write_tar(folder / "shard.tar", rows, head, dropped)
        shard = None
        if written:
            index = write_index(written)
            name: str = blake3.blake3(index).hexdigest()
            shard = Shard(digest=digest, samples=len(written), size=size, split=rows[0]["split"], index=name)
            storage.put(shard.key, folder / "shard.tar")
            storage.put(shard.index_key, index)
    if dropped:
        write_dropped(storage, f"quarantine/{plan}/{unit:06}.parquet", dropped)
    counts = {
        status: sum(row["status"] == status for row in dropped) for status in ("quarantined", "filtered")
    }
    done = Done(shard=shard, counts={"written": len(written), **counts})
    storage.put(
        f"runs/{plan}/done/{unit:06}.json",
        dumps({"shard": vars(shard) if shard else None, "counts": done.counts}).encode(),
    )
    return done


def _write_tar(
    path: Path, rows: list[dict[str, Any]], head: Mapping[str, Any], dropped: list[dict[str, Any]]
) -> tuple[list[Row], str, int]:
    written = []
    with path.open("wb") as file:
        tar = TarWriter(file)
        for row in rows:
            try:
                built = _build(row, head)
            except BadSample as bad:
                dropped.append(_drop(row, "quarantined", bad.reason, bad.detail))
                continue
            except SandboxError:  # no sample's fault
                raise
            except Exception:  # whatever one sample does, its neighbours are kept
                dropped.append(_drop(row, "quarantined", "crashed", traceback.format_exc(limit=-3)))
                continue
            if isinstance(built, Filtered):
                dropped.append(_drop(row, "filtered", built.reason, ""))
                continue
            files, described = built
            if problem := _does_not_fit(row["key"], files):
                dropped.append(_drop(row, "quarantined", "does-not-fit", problem))
                continue
            members = {ext: tar.add(f"{row['key']}.{ext}", files[ext]) for ext in sorted(files)}
            written.append(Row(files=members, **described))
        digest = tar.finish()
    return written, digest, tar.size


def _build(row: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[Files, dict[str, Any]] | Filtered:
    """The members of one sample in full, and its index row but for their places."""
    modality = modalities.get(head["modality"])
    raw, sidecars = open_entry(Entry.from_json(row["entry"]), anonymous=head["anonymous"])
    if content_digest(raw, sidecars) != row["content"]:
        raise BadSample("changed", "the source is not what it was when it was surveyed; ingest it again")
    spec = None if row["spec"] is None else loads(row["spec"])
    sample = build(
        raw, sidecars, modality, head["settings"]["stages"], meta=loads(row["meta"]), spec=spec,
        label=row["label"], suffix=row["suffix"],
    )  # fmt: skip
    if isinstance(sample, Filtered):
        return sample
    files = {**{k: v for k, v in sidecars.items() if k in ("txt", "json")}, **sample.files}
    facts = {"modality": head["modality"], "source": row["name"], "meta": sample.meta}
    if row["label"] is not None:
        number = str(head["classes"].index(row["label"])).encode()
        given = sidecars.get("cls", b"")
        files["cls"] = given if given.strip() == number else number
        facts["label"] = row["label"]
    if row["caption"] is not None:
        files.setdefault("txt", row["caption"].encode())
    files["meta.json"] = dumps(facts).encode()
    described = {
        "key": row["key"], "meta": sample.meta, "label": row["label"], "caption": row["caption"],
        "group": row["group"], "quality": sample.quality or dict(row["quality"] or ()),
        "fingerprint": row["fingerprint"] if sample.fingerprint is None else sample.fingerprint,
        "source": row["name"], "content": row["content"],
    }  # fmt: skip
    return files, described


def _does_not_fit(key: str, files: Files) -> str:
    """Why a sample cannot lie in a tar, or nothing. Asked before its first member is written."""
    for ext, content in files.items():
        try:
            header(f"{key}.{ext}", len(content))
        except ValueError as e:
            return str(e)
    return ""


def _drop(row: Mapping[str, Any], status: str, reason: str, detail: str) -> dict[str, Any]:
    kept = {name: row[name] for name in ("name", "suffix", "entry", "content")}
    return {**kept, "status": status, "reason": reason, "detail": detail, "head": row["head"]}
