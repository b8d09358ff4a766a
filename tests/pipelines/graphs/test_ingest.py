"""The path from files to shards, on real Ray."""

import io
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.config.schema import IngestJob
from jobs.ingest import SETTINGS, ingest_dataset, run
from jobs.storage import repair, replay
from pipelines.graphs import ingest as graph
from pipelines.graphs.ingest import ingest
from pipelines.shards.dataset import Corrupt, Dataset
from pipelines.shards.manifest import Conflict, latest
from pipelines.shards.storage import open_storage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(out := io.BytesIO(), "JPEG", quality=80)
    return out.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes, forty pictures, one file that is none."""
    for i in range(40):
        path = tmp_path / "source" / ("cat" if i % 2 else "dog") / f"{i:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i))
    (tmp_path / "source/cat/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return tmp_path / "source"


@pytest.fixture
def job(source: Path, tmp_path: Path) -> Callable[..., IngestJob]:
    def make(**changes: Any) -> IngestJob:
        values = {
            "kind": "ingest", "modality": "image", "source": {"uri": str(source)},
            "output": str(tmp_path / "data"), "shards": {"max_samples": 12},
        }  # fmt: skip
        return IngestJob.model_validate(values | changes)

    return make


def contents(dataset: Dataset) -> dict[str, dict[str, bytes]]:
    return {row.key: dict(dataset.files(shard, row)) for shard, row in dataset}


def test_every_input_is_written_or_quarantined_and_no_byte_changes(
    job: Callable[..., IngestJob], source: Path
) -> None:
    outcome = ingest_dataset(job())
    assert (outcome.books.inputs, outcome.books.written, outcome.books.quarantined) == (41, 40, 1)
    dataset = Dataset.open(job().output)
    for key, files in contents(dataset).items():
        assert files["jpg"] == (source / f"{key}.jpg").read_bytes()
        assert files["cls"] == str(["cat", "dog"].index(key.split("/")[0])).encode()
    [dropped] = dataset.dropped()
    assert (dropped["name"], dropped["status"]) == ("cat/broken.jpg", "quarantined")
    assert dropped["head"] == (source / "cat/broken.jpg").read_bytes()
    assert dataset.check()["ok"]


def test_other_readers_get_the_same_bytes(job: Callable[..., IngestJob]) -> None:
    import ray

    ingest_dataset(job())
    dataset = Dataset.open(job().output)
    ours = contents(dataset)
    tars = [str(Path(job().output, shard.key)) for shard in dataset.manifest.shards]
    for path in tars:
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, ext = info.name.partition(".")
                assert tar.extractfile(info).read() == ours[key][ext]  # type: ignore[union-attr]
    os.environ["WDS_SECURE"] = "1"
    import webdataset

    seen = {s["__key__"]: s for s in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)}
    assert {k: {e: v for e, v in s.items() if not e.startswith("__")} for k, s in seen.items()} == ours
    rows = ray.data.read_webdataset(tars, decoder=None).take_all()
    assert {r["__key__"]: {e: v for e, v in r.items() if not e.startswith("__")} for r in rows} == ours


def test_a_second_run_does_nothing_and_new_files_add_a_snapshot(
    job: Callable[..., IngestJob], source: Path
) -> None:
    first = ingest_dataset(job()).manifest
    again = ingest_dataset(job())
    assert (again.added, again.manifest.digest) == (False, first.digest)
    (source / "cat/900.jpg").write_bytes(picture(900))
    (source / "owl").mkdir()
    (source / "owl/901.jpg").write_bytes(picture(901))
    grown = ingest_dataset(job())
    assert (grown.books.inputs, grown.books.written, grown.manifest.number) == (2, 2, 1)
    assert grown.manifest.shards[: len(first.shards)] == first.shards
    assert grown.manifest.classes == ["cat", "dog", "owl"]
    assert grown.manifest.parent == first.digest
    assert Dataset.open(job().output).check()["ok"]


def test_touched_files_are_looked_at_and_changed_ones_are_noticed(
    job: Callable[..., IngestJob], source: Path
) -> None:
    first = ingest_dataset(job()).manifest
    os.utime(source / "cat/001.jpg", (1, 1))
    assert not ingest_dataset(job()).added
    (source / "cat/003.jpg").write_bytes(picture(5000))
    after = ingest_dataset(job())
    assert (after.books.quarantined, after.manifest.shards) == (1, first.shards)
    assert "changed" in {row["reason"] for row in Dataset.open(job().output).dropped()}


def test_a_byte_changed_behind_the_back_of_size_and_time_is_noticed(
    job: Callable[..., IngestJob], source: Path
) -> None:
    ingest_dataset(job())
    path = source / "cat/003.jpg"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (source / "cat/001.jpg").chmod(0o600)
    after = ingest_dataset(job())
    assert (after.books.inputs, after.books.quarantined) == (1, 1)
    [row] = [row for row in Dataset.open(job().output).dropped() if row["reason"] == "changed"]
    assert row["name"] == "cat/003.jpg"


def test_the_bytes_do_not_depend_on_place_time_or_listing(
    job: Callable[..., IngestJob], source: Path, tmp_path: Path
) -> None:
    first = ingest_dataset(job()).manifest
    shutil.copytree(source, moved := tmp_path / "elsewhere")
    other = ingest_dataset(job(source={"uri": str(moved)}, output=str(tmp_path / "other"))).manifest
    assert other.digest == first.digest
    assert other.shards == first.shards


def test_a_run_that_died_between_any_two_steps_goes_on(job: Callable[..., IngestJob], tmp_path: Path) -> None:
    golden = ingest_dataset(job()).manifest
    whole = Path(job().output)
    files = [p for p in whole.rglob("*") if p.is_file() and ".staging" not in p.parts]
    heads = [p for p in files if p.parent.name == "manifest"]
    marks = [p for p in files if p.parent.name == "done"]
    plans = [p for p in files if p.name.startswith("plan.")]
    surveys = [p for p in files if p.parent.name == "survey"]
    shards = [p for p in files if p.parent.name in ("shards", "index")]
    states = (
        heads,
        heads + marks[1:],
        heads + marks + shards[:2],
        heads + marks + plans,
        heads + marks + plans + surveys,
    )
    for i, lost in enumerate(states):
        partial = tmp_path / f"partial{i}"
        shutil.copytree(whole, partial)
        for path in lost:
            (partial / path.relative_to(whole)).unlink()
        assert latest(open_storage(str(partial))) is None
        resumed = ingest_dataset(job(output=str(partial))).manifest
        assert (resumed.digest, resumed.shards) == (golden.digest, golden.shards)
        assert Dataset.open(str(partial)).check()["ok"]


def test_other_settings_are_refused(job: Callable[..., IngestJob]) -> None:
    ingest_dataset(job())
    with pytest.raises(Conflict, match=r"built with other settings .*seed"):
        ingest_dataset(job(seed=1))


def test_filters_say_what_they_dropped_and_why(job: Callable[..., IngestJob]) -> None:
    stages = [{"kind": "filter", "field": "label", "one_of": ["cat"]}]
    outcome = ingest_dataset(job(stages=stages))
    assert (outcome.books.written, outcome.books.filtered, outcome.books.quarantined) == (20, 20, 1)
    reasons = {r["reason"] for r in Dataset.open(job().output).dropped() if r["status"] == "filtered"}
    assert reasons == {"label is 'dog', want one_of ['cat']"}


def test_transforms_change_only_what_they_are_asked_to(job: Callable[..., IngestJob]) -> None:
    stages = [{"kind": "transform", "how": "resize", "options": {"shorter": 12}}]
    ingest_dataset(job(stages=stages))
    dataset = Dataset.open(job().output)
    for shard, row in dataset:
        files = dataset.files(shard, row)
        [image] = [content for ext, content in files.items() if ext not in ("cls", "meta.json")]
        assert Image.open(io.BytesIO(image)).size == (16, 12) == (row.meta["width"], row.meta["height"])


def test_quarantine_over_the_budget_ends_with_3(job: Callable[..., IngestJob], capfd: Any) -> None:
    assert run(job(quarantine={"max_count": 1})) == 0
    assert run(job(output=job().output + "2", quarantine={"max_count": 0})) == 3
    assert "more than the job allows" in capfd.readouterr().err


def test_what_is_not_decoded_is_opened_once_and_appended_to_by_content(
    job: Callable[..., IngestJob], source: Path
) -> None:
    plain = job(decode=False)
    seen = plain.model_copy(update={"dedup": "exact", "output": plain.output + "-surveyed"})
    (source / "cat/broken.jpg").unlink()
    first, other = ingest_dataset(plain).manifest, ingest_dataset(seen).manifest
    assert first.shards == other.shards
    assert not list(Path(plain.output).glob("runs/*/listing/*"))  # nothing was left to look at
    (source / "cat/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    (source / "cat/003.jpg").write_bytes(picture(5000))
    os.utime(source / "cat/001.jpg", (1, 1))
    after = ingest_dataset(plain)
    assert (after.books.inputs, after.books.written, after.books.quarantined) == (2, 0, 2)
    assert after.manifest.shards == first.shards
    dropped = {row["name"]: row["reason"] for row in Dataset.open(plain.output).dropped()}
    assert dropped == {"cat/broken.jpg": "truncated", "cat/003.jpg": "changed"}
    assert Dataset.open(plain.output).check()["ok"]
    assert not ingest_dataset(plain).added


def test_a_file_written_to_during_the_run_is_set_aside_and_taken_by_the_next(
    job: Callable[..., IngestJob], source: Path
) -> None:
    resolved = job(decode=False).resolved()

    def run(report: Callable[[str, int, int], None]) -> Any:
        given, settings = SimpleNamespace(**resolved["source"], seed=0), {n: resolved[n] for n in SETTINGS}
        output = resolved["output"]
        return ingest(given, output, modality="image", settings=settings, job=resolved, report=report)

    def write(phase: str, done: int, _: int) -> None:
        if (phase, done) == ("pack", 0):
            (source / "cat/001.jpg").write_bytes(picture(5000))

    first = run(write)
    assert (first.books.written, first.books.quarantined) == (39, 2)
    dropped = {row["name"]: row["reason"] for row in Dataset.open(job().output).dropped()}
    assert dropped == {"cat/broken.jpg": "truncated", "cat/001.jpg": "changed"}
    after = run(lambda *_: None)
    assert (after.books.inputs, after.books.written) == (1, 1)
    files = contents(Dataset.open(job().output))
    assert files["cat/001"]["jpg"] == picture(5000)


def test_a_duplicate_of_a_file_that_went_away_is_promised_and_comes_in(
    job: Callable[..., IngestJob], source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("x", "y"):
        shutil.copyfile(source / "cat/001.jpg", source / f"cat/{name}.jpg")
    wanted = job(dedup="exact", quarantine={"max_share": 1.0})

    class Away:
        def __init__(self, *_: Any) -> None: ...

        def __call__(self, phase: str, done: int, _: int) -> None:
            if (phase, done) == ("pack", 0):
                (source / "cat/001.jpg").unlink(missing_ok=True)

        def close(self) -> None: ...

    monkeypatch.setattr("jobs.ingest.Progress", Away)
    assert run(wanted) == 0
    assert "  2 duplicates wait, " in capsys.readouterr().out
    assert replay(wanted.output) == 0
    assert "  2 duplicates wait, " in capsys.readouterr().out
    assert run(wanted) == 0
    assert "wait" not in capsys.readouterr().out
    dataset = Dataset.open(wanted.output)
    books = dataset.manifest.books
    assert (books.inputs, books.written, books.duplicates, books.quarantined) == (43, 40, 1, 2)
    assert "cat/x" in contents(dataset)
    assert dataset.check()["ok"]
    shard = dataset.manifest.shards[-1]
    for key in (shard.key, f"runs/{dataset.plans()[-1]}/plan.json"):
        Path(wanted.output, key).write_bytes(b"")
    assert repair(wanted.output) == 0
    assert run(wanted) == 0
    assert "nothing new" in capsys.readouterr().out


@pytest.mark.parametrize("forms", [("caf\u00e9.jpg", "cafe\u0301.jpg"), ("cafe\u0301.jpg", "caf\u00e9.jpg")])
def test_a_twin_in_another_form_of_unicode_comes_in_beside_the_first(
    forms: tuple[str, str], job: Callable[..., IngestJob], tmp_path: Path
) -> None:
    (folder := tmp_path / "twins").mkdir()
    (folder / "b.jpg").write_bytes(picture(1))
    plain = job(decode=False, source={"uri": str(folder)})
    for i, form in enumerate(forms):
        (folder / form).write_bytes(picture(50 + i))
        books = ingest_dataset(plain).books
        assert (books.written, books.quarantined) == (2 - i, 0)
    found = [files["jpg"] for files in contents(Dataset.open(plain.output)).values()]
    assert sorted(found) == sorted(map(picture, (1, 50, 51)))
    assert not ingest_dataset(plain).added


def test_damage_is_noticed_by_check_and_by_reading(job: Callable[..., IngestJob]) -> None:
    ingest_dataset(job())
    dataset = Dataset.open(job().output)
    shard, row = next(iter(dataset))
    path = Path(job().output, shard.key)
    content = bytearray(path.read_bytes())
    content[row.files["jpg"].offset + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(Corrupt, match=r"\.jpg in shards/.* is damaged"):
        dataset.files(shard, row)
    report = dataset.check()
    assert not report["ok"]
    assert any(row.key in problem for problem in report["problems"])
    path.write_bytes(content[:-600])
    assert any("want" in problem for problem in dataset.check()["problems"])
    path.unlink()
    assert any("missing" in problem for problem in dataset.check()["problems"])


def test_tars_come_back_as_they_went_in(job: Callable[..., IngestJob], tmp_path: Path) -> None:
    ingest_dataset(job())
    first = Dataset.open(job().output)
    again = job(source={"uri": str(Path(job().output, "shards"))}, output=str(tmp_path / "again"))
    ingest_dataset(again)
    second = contents(Dataset.open(again.output))
    for key, files in contents(first).items():
        assert {e: c for e, c in second[key].items() if e != "meta.json"} == {
            e: c for e, c in files.items() if e != "meta.json"
        }


def test_a_source_that_moved_after_an_interruption_loses_nothing(
    job: Callable[..., IngestJob], source: Path
) -> None:
    golden = ingest_dataset(job()).manifest
    whole = Path(job().output)
    for path in [*whole.glob("manifest/*"), *whole.glob("runs/*/done/*"), *whole.glob("shards/*")]:
        path.unlink()
    moved = source.rename(source.with_name("moved"))
    resumed = ingest_dataset(job(source={"uri": str(moved)}))
    assert (resumed.books.written, resumed.manifest.digest) == (40, golden.digest)
    assert Dataset.open(job().output).check()["ok"]


def test_touched_duplicates_and_bad_files_are_not_counted_again(
    job: Callable[..., IngestJob], source: Path
) -> None:
    shutil.copyfile(source / "cat/001.jpg", source / "cat/copy.jpg")
    first = ingest_dataset(job(dedup="exact"))
    assert (first.books.duplicates, first.books.quarantined) == (1, 1)
    for path in source.rglob("*.jpg"):
        os.utime(path, (1, 1))
    again = ingest_dataset(job(dedup="exact"))
    assert (again.added, again.manifest.digest) == (False, first.manifest.digest)


def test_what_could_not_be_read_is_tried_again_by_every_run(
    job: Callable[..., IngestJob], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server says neither size nor version: the entry is the same as before."""
    monkeypatch.setenv("RAYLOOM_ALLOW_PRIVATE_HOSTS", "1")  # here, and so the work is done here, too
    monkeypatch.setattr(graph, "each", lambda work, units, what: (work(unit) for unit in range(units)))
    handler = partial(SimpleHTTPRequestHandler, directory=str(source))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [
            f"http://127.0.0.1:{server.server_port}/{name}.jpg" for name in ("cat/001", "dog/000", "later")
        ]
        (tmp_path / "table.csv").write_text("\n".join(["uri", *urls]))
        given = job(source={"uri": str(tmp_path / "table.csv")})
        assert ingest_dataset(given).books.quarantined == 1
        assert not ingest_dataset(given).added
        shutil.copyfile(source / "cat/003.jpg", source / "later.jpg")
        after = ingest_dataset(given)
        server.shutdown()
    assert (after.added, after.books.written) == (True, 1)


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.parametrize("moment", [0, 1])
def test_a_run_whose_survey_another_one_forgot_commits_nothing_of_it(
    moment: int, mended: bool, job: Callable[..., IngestJob], source: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Another run of the same begins and ends within this one: before it has looked, or right after."""
    monkeypatch.setenv("RAYLOOM_ALLOW_PRIVATE_HOSTS", "1")
    monkeypatch.setattr(graph, "each", lambda work, units, what: (work(unit) for unit in range(units)))
    handler = partial(SimpleHTTPRequestHandler, directory=str(source))
    others: list[bool] = []

    class Other:
        def __init__(self, *_: Any) -> None: ...

        def __call__(self, phase: str, done: int, _: int) -> None:
            if (phase, done) == ("survey", moment) and not others:
                others.append(True)
                others[0] = ingest_dataset(given).added
                if mended:
                    shutil.copyfile(source / "cat/003.jpg", source / "later.jpg")
                    others.append(ingest_dataset(given).added)

        def close(self) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/{name}.jpg" for name in ("cat/001", "later")]
        (tmp_path / "table.csv").write_text("\n".join(["uri", *urls]))
        given = job(source={"uri": str(tmp_path / "table.csv")}, quarantine={"max_share": 1.0})
        first = ingest_dataset(given).manifest
        with monkeypatch.context() as patch:
            patch.setattr("jobs.ingest.Progress", Other)
            if moment:
                with pytest.raises(Conflict, match="run the same"):
                    ingest_dataset(given)
            else:
                assert ingest_dataset(given).added == mended
        last = ingest_dataset(given).manifest
        server.shutdown()
    assert others == [False, True][: 1 + mended]
    assert (last.number, last.books.closed) == (first.number + mended, True)
    assert Dataset.open(given.output).check()["ok"]


def test_a_label_that_changes_under_a_snapshot_is_a_conflict(
    job: Callable[..., IngestJob], source: Path
) -> None:
    ingest_dataset(job())
    (source / "stray.jpg").write_bytes(picture(77))  # not every picture lies in a class's folder any more
    with pytest.raises(Conflict, match=r"has label None now, '(cat|dog)' in the snapshot before"):
        ingest_dataset(job())


def test_an_output_inside_the_source_is_refused(job: Callable[..., IngestJob], source: Path) -> None:
    with pytest.raises(ValueError, match="lies in the source"):
        ingest_dataset(job(output=str(source / "data")))


def test_a_filter_on_a_field_that_nothing_has_commits_nothing(job: Callable[..., IngestJob]) -> None:
    stages = [{"kind": "filter", "field": "quality.blurr", "min": 0.0}]
    with pytest.raises(LookupError, match="no 'blurr'"):
        ingest_dataset(job(stages=stages, source={"synth": 3}))
    assert latest(open_storage(job().output)) is None


@pytest.mark.parametrize("full_at", ["survey", "pack"])
def test_a_disk_that_fills_up_under_a_worker_is_said_as_such_and_the_job_goes_on_later(
    full_at: str, job: Callable[..., IngestJob], tmp_path: Path
) -> None:
    import subprocess

    from jobs.failures import exit_code

    (small := tmp_path / "small").mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", small]).returncode:
        pytest.skip("needs root to mount a small file system")
    dedup = "exact" if full_at == "survey" else "none"  # plain objects have no survey
    resolved = job(output=str(small / "data"), dedup=dedup).resolved()

    def run(report: Callable[[str, int, int], None]) -> Any:
        source = SimpleNamespace(**resolved["source"], seed=0)
        settings = {name: resolved[name] for name in SETTINGS}
        return ingest(
            source, resolved["output"], modality="image", settings=settings, job=resolved, report=report
        )

    def fill(phase: str, done: int, _: int) -> None:
        """Take what is left just before the workers begin: the driver writes nothing until they are done."""
        if (phase, done) == (full_at, 0):
            free = os.statvfs(small).f_bavail * 4096
            (small / "filler").write_bytes(bytes(free))

    try:
        with pytest.raises(OSError, match="No space left") as failure:
            run(fill)
        assert exit_code(failure.value) == 4
        (small / "filler").unlink()
        assert run(lambda *_: None).books.written == 40
        assert Dataset.open(str(small / "data")).check()["ok"]
    finally:
        subprocess.run(["umount", small], check=True)


class _Connected(Exception):
    """Ray would start now."""


def _connecting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that are listed from here on; a connection to Ray raises _Connected instead."""
    from pipelines.graphs import ingest as graph

    listed: list[str] = []
    find = graph.find_objects

    def finding(*arguments: Any) -> Any:
        for one in find(*arguments):
            listed.append(getattr(one, "name", "") or getattr(one, "folder", ""))
            yield one

    def connect(_: Any) -> Any:
        raise _Connected

    monkeypatch.setattr(graph, "find_objects", finding)
    monkeypatch.setattr("jobs.ingest.cluster", connect)
    return listed


def test_workers_help_to_list_what_is_all_new(
    job: Callable[..., IngestJob], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = _connecting(monkeypatch)
    with pytest.raises(_Connected):
        ingest_dataset(job())
    assert len(listed) == 1 < len(list(source.iterdir()))


def test_ray_does_not_start_for_a_source_that_is_not_there_or_has_nothing_new(
    job: Callable[..., IngestJob], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest_dataset(job())
    listed = _connecting(monkeypatch)
    assert ingest_dataset(job()).manifest == first.manifest
    assert len(listed) > 1
    with pytest.raises(FileNotFoundError, match="nothing at"):
        ingest_dataset(job(source={"uri": str(source / "elsewhere")}, output=f"{source}-other"))
