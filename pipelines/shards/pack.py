"""One shard unit: open its sources, build their samples, and put the shard where readers will find it."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blake3

import modalities
from modalities.base import BadSample, Files
from modalities.libraries import MissingLibrary
from pipelines.answers import STORE_FAILED
from pipelines.jsontext import dumps, loads
from pipelines.seal import Corrupt, seal, unseal
from pipelines.shards.index import IndexWriter
from pipelines.shards.manifest import Shard
from pipelines.shards.planned import read_plan, read_unit
from pipelines.shards.quarantine import dropped_key, dropped_table
from pipelines.shards.storage import Storage, put_right, read_verified, staged_file
from pipelines.shards.tar import TarWriter, header
from pipelines.sources import Entry, open_entry
from pipelines.stages.facts import before, class_name, member
from pipelines.stages.process import Filtered, Found, Look, content_digest, passed, passes
from pipelines.stages.sandbox import SandboxError, builder
from pipelines.stages.survey import examined, head_of

Members = list[tuple[str, bytes, bytes]]  # extension, header and content, in their order
Made = tuple[Members, dict[str, Any]] | Filtered | BadSample  # of a sample, with its index row; or why not


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one unit. `shard` is None when not one of its samples could be built."""

    shard: Shard | None
    counts: Mapping[str, int] = field(default_factory=dict)
    left_out: str = ""  # BLAKE3 of the quarantine file, when there is one


def read_done(storage: Storage, plan: str, unit: int) -> Done | None:
    """The done-marker of a unit, or None while it has none; Corrupt when it is not that."""

    def parse(content: bytes) -> Done:
        record = unseal(content)
        if (record.get("plan"), record.get("unit")) != (plan, unit):
            raise Corrupt("it is the mark of something else")
        shard = Shard(**record["shard"]) if record["shard"] else None
        return Done(shard=shard, counts=record["counts"], left_out=record["left_out"])

    try:
        return read_verified(storage, done_key(plan, unit), parse)
    except FileNotFoundError:
        return None


def done_key(plan: str, unit: int) -> str:
    return f"runs/{plan}/done/{unit:06}.json"


def seal_done(plan: str, unit: int, done: Done) -> bytes:
    """A done-marker as it is stored."""
    shard = vars(done.shard) if done.shard else None
    counts = dict(done.counts)
    return seal({"plan": plan, "unit": unit, "shard": shard, "counts": counts, "left_out": done.left_out})


@dataclass(frozen=True, kw_only=True)
class Built:
    """One unit as it lies in a staging folder, and what the storage will hold of it."""

    done: Done
    tar: Path
    index: bytes
    dropped: bytes  # the quarantine file, or nothing


def pack_unit(storage: Storage, plan: str, unit: int) -> Done:
    """Build, store and mark one unit. Any worker may do it, any number of times: the bytes are the same."""
    try:
        if done := read_done(storage, plan, unit):
            return done
    except Corrupt:  # a mark that cannot be read marks nothing
        storage.delete(done_key(plan, unit))
    head, rows = read_plan(storage, plan), read_unit(storage, plan, unit)
    with storage.staging() as folder:
        built = build_unit(rows, head, folder)
        if shard := built.done.shard:
            _store(storage, shard, built.tar)
            put_right(storage, shard.index_key, built.index)
    if built.dropped:
        put_right(storage, dropped_key(plan, unit, built.done.left_out), built.dropped)
    storage.put(done_key(plan, unit), seal_done(plan, unit, built.done))
    return built.done


def _store(storage: Storage, shard: Shard, tar: Path) -> None:
    """Put what its name describes. A stump there, or what was damaged since it was put, is no such object."""
    if storage.put(shard.key, tar):
        return
    if storage.size(shard.key) == shard.size:
        hasher = blake3.blake3()
        for chunk in storage.chunks(shard.key, shard.size):
            hasher.update(chunk)
        if hasher.hexdigest() == shard.digest:
            return
    storage.replace(shard.key, tar)


def build_unit(
    rows: list[dict[str, Any]], head: Mapping[str, Any], folder: Path, *, as_listed: bool = True
) -> Built:
    """The shard of planned `rows` as a file in `folder`, its index, and what could not be built.

    `as_listed`: a plain object that was written to since it was listed counts as changed. A repair knows the
    bytes it wants, and takes files that were moved or touched.
    """
    dropped: list[dict[str, Any]] = []
    path, shard, index = folder / "shard.tar", None, b""
    rows_written, name, size = _write_tar(path, rows, _Unit(head, as_listed=as_listed), dropped)
    written = len(rows_written)
    if written:
        index = rows_written.finish()
        shard = Shard(
            digest=name, samples=written, size=size, split=rows[0]["split"],
            index=blake3.blake3(index).hexdigest(),
        )  # fmt: skip
    if written + len(dropped) != len(rows):
        raise AssertionError(f"{len(rows)} planned, {written} written and {len(dropped)} left out")
    counts = {
        status: sum(row["status"] == status for row in dropped) for status in ("quarantined", "filtered")
    }
    table = dropped_table(dropped) if dropped else b""
    left_out = blake3.blake3(table).hexdigest() if dropped else ""
    done = Done(shard=shard, counts={"written": written, **counts}, left_out=left_out)
    return Built(done=done, tar=path, index=index, dropped=table)


def _write_tar(
    path: Path, rows: list[dict[str, Any]], unit: "_Unit", dropped: list[dict[str, Any]]
) -> tuple[IndexWriter, str, int]:
    index = IndexWriter()
    with staged_file(path) as file:
        tar = TarWriter(file)
        for row, made in unit.samples(rows):
            if isinstance(made, BadSample):
                dropped.append(_drop(row, "quarantined", made.reason, made.detail))
            elif isinstance(made, Filtered):
                dropped.append(_drop(row, "filtered", made.reason, ""))
            else:
                (members, described), key = made, row["key"]
                places = {ext: tar.add(f"{key}.{ext}", content, head) for ext, head, content in members}
                index.add(places, described)
        digest = tar.finish()
    return index, digest, tar.size


class _Unit:
    """Builds the samples of one unit."""

    def __init__(self, head: Mapping[str, Any], *, as_listed: bool) -> None:
        self.modality = modalities.get(head["modality"])
        self.anonymous, self.as_listed = head["anonymous"], as_listed
        self.stages = head["settings"]["stages"]
        self.decode = head["settings"].get("decode", True)
        self.passes = passes(self.stages)
        self.classes = {name: str(i).encode() for i, name in enumerate(head["classes"])}

    def samples(self, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Made]]:
        """What becomes of each planned row, in their order, and the row with all that is known of it."""
        entries = (Entry.from_json(row["entry"]) for row in rows if row["content"] is None)
        looked = examined(
            entries, self.modality, (), decode=self.decode, anonymous=self.anonymous,
            as_listed=self.as_listed, sandbox=self.decode,
        )  # fmt: skip
        for row in rows:
            if row["content"] is not None:
                yield row, _caught(self._surveyed, row)
                continue
            _, known, look, outcome = next(looked)  # nobody has opened it yet
            row = {**row, "content": known.get("content")}
            made = _caught(self._plain, row, look, outcome)
            yield {**row, "head": head_of(known, look)} if isinstance(made, BadSample) else row, made

    def _plain(self, row: Mapping[str, Any], look: Look | BadSample, outcome: Found | BadSample) -> Made:
        """A sample that is built right after it was examined."""
        if isinstance(look, BadSample):
            return look
        if isinstance(outcome, BadSample):
            return outcome
        [found] = outcome
        if isinstance(found, Filtered):
            return found
        given = {
            "meta": dumps(found.meta), "quality": sorted(found.quality.items()),
            "fingerprint": found.fingerprint,
        }  # fmt: skip
        files = dict(passed(look, self.modality, found.meta))
        return self._described(row, look, files, given)

    def _surveyed(self, row: Mapping[str, Any]) -> Made:
        """A sample that a survey knows; its source is still what it was then."""
        raw, sidecars = open_entry(Entry.from_json(row["entry"]), anonymous=self.anonymous)
        if content_digest(raw, sidecars) != row["content"]:
            raise BadSample("changed", "the source is not what it was when it was surveyed; ingest it again")
        look = Look(raw=raw, sidecars=sidecars, label=row["label"], caption=row["caption"])
        given = {"meta": row["meta"], "quality": row["quality"] or [], "fingerprint": row["fingerprint"]}
        meta = loads(row["meta"])
        if self.passes:
            files = dict(passed(look, self.modality, meta))
        else:
            spec = None if row["spec"] is None else loads(row["spec"])
            sample = builder(self.stages)(
                look, self.modality, self.stages, meta=meta, spec=spec, suffix=row["suffix"]
            )
            if isinstance(sample, Filtered):
                return sample
            files = dict(sample.files)
            given["meta"] = dumps(sample.meta)
            if sample.quality:
                given["quality"] = sorted(sample.quality.items())
            if sample.fingerprint is not None:
                given["fingerprint"] = sample.fingerprint
        return self._described(row, look, files, given)

    def _described(
        self, row: Mapping[str, Any], look: Look, files: dict[str, bytes], given: dict[str, Any]
    ) -> tuple[Members, dict[str, Any]]:
        """The members in full, and the index row but for their places. BadSample: a tar cannot hold them."""
        self._tell(files, row, look.sidecars, given["meta"])
        key, extensions = row["key"], sorted(files)
        try:  # before the first of them is written
            members = [(ext, header(f"{key}.{ext}", len(files[ext])), files[ext]) for ext in extensions]
        except ValueError as problem:
            raise BadSample("does-not-fit", str(problem)) from problem
        described = {name: row[name] for name in ("key", "label", "caption", "group", "content", "arrays")}
        return members, {**described, "source": row["name"], **given}

    def _tell(self, files: dict[str, bytes], row: Mapping[str, Any], sidecars: Files, meta: str) -> None:
        """Put the class, the caption and our own facts beside a sample's files."""
        label = row["label"]
        if label is not None:
            given = sidecars.get("cls", b"").strip()
            # A class number of the user's own stays; one that an earlier ingest gave counts by another list.
            theirs = given.isdigit() and class_name(sidecars) in (None, given.decode())
            files["cls"] = sidecars["cls"] if theirs else self.classes[label]
        if row["caption"] is not None:
            files.setdefault("txt", row["caption"].encode())
        earlier = before(sidecars) if sidecars else {}
        told = [f'"{name}":{dumps(earlier[name])},' for name in sorted(earlier)]
        told.append(f'"group":{dumps(row["group"])},')
        if label is not None:
            told.append(f'"label":{dumps(label)},')
        # The names in order, and meta's own text: both are canonical.
        told.append(f'"meta":{meta},"modality":"{self.modality.name}","source":{dumps(row["name"])}')
        files[member(files)] = f"{{{''.join(told)}}}".encode()


def _caught(make: Callable[..., Made], *arguments: Any) -> Made:
    """Whatever one sample does, its neighbours are kept."""
    try:
        return make(*arguments)
    except BadSample as bad:
        return bad
    except (SandboxError, MissingLibrary, *STORE_FAILED):  # no sample's fault
        raise
    except Exception:
        return _crashed()


def _crashed() -> BadSample:
    return BadSample("crashed", traceback.format_exc(limit=-3))


def _drop(row: Mapping[str, Any], status: str, reason: str, detail: str) -> dict[str, Any]:
    kept = {name: row[name] for name in ("name", "suffix", "entry", "content")}
    return {**kept, "status": status, "reason": reason, "detail": detail, "head": row["head"]}
