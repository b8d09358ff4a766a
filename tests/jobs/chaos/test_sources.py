"""Sources in a bucket behind a line that breaks, or that refuses: the same bytes, or no snapshot at all."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import modalities
from jobs.chaos.proxy import ERROR, Proxy, _Handler
from jobs.chaos.small import PLAIN, Work, build, make_pictures, work_on
from jobs.failures import STORAGE, exit_code
from pipelines.answers import STORE_FAILED, Refused, Unavailable
from pipelines.parquet import to_parquet
from pipelines.retry import Budget, Retry
from pipelines.shards.plain import apart
from pipelines.shards.plan import Survey, make_plan
from pipelines.shards.repair import repair
from pipelines.shards.storage import LocalStorage
from pipelines.sources import Entry, list_source, objects
from pipelines.sources.places import open_store
from pipelines.stages.survey import survey_entries

ROOT = Path(__file__).parents[3]
PASSING = ("503", "500", "reset", "slow", "lost-ack", "truncate")
Answers = Callable[[Callable[[str, str], tuple[int, str] | None]], list[str]]


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_jobs_wait_for_their_source_or_end_without_a_snapshot(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests/jobs/chaos/far_sources.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"down"} < set(found["happened"]) <= {*PASSING, "down"}
    for way in ("surveyed", "plain"):
        undisturbed, stale, denied = (found[f"{way}: {what}"] for what in ("undisturbed", "stale", "denied"))
        bad = ["b/none.png", "truncated"]
        assert (undisturbed["code"], undisturbed["samples"], undisturbed["aside"]) == (0, 9, [bad])
        assert found[f"{way}: faults and an outage"]["digest"] == undisturbed["digest"]
        assert (stale["code"], stale["digest"]) == (STORAGE, None)
        [line] = [line for line in stale["said"].splitlines() if not line.startswith("ingest image: ")]
        assert re.match(r"s3://photos/in/.*: read: 403 ExpiredToken .*AWS_SESSION_TOKEN", line)
        assert found[f"{way}: no longer stale"]["digest"] == undisturbed["digest"]
        assert (denied["code"], denied["samples"]) == (0, 8)
        assert denied["aside"] == [["b/3.png", "unreadable"], bad]
    assert found["denied no longer"]["samples"] == 9
    assert re.fullmatch(r"runs/\w+/survey/000000.parquet", found["mended"]["damaged"])
    assert found["mended"]["stale"] == [found["mended"]["damaged"]]
    assert found["mended"]["no longer stale"] == []


@pytest.fixture(scope="module")
def pictures(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where they lie in a bucket of their own."""
    import boto3

    make_pictures(folder := tmp_path_factory.mktemp("pictures"))
    client = boto3.client("s3", endpoint_url=s3_server)
    client.create_bucket(Bucket="pictures")
    for path in sorted(folder.iterdir()):
        client.put_object(Bucket="pictures", Key=f"in/{path.name}", Body=path.read_bytes())
    return "s3://pictures/in"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The policy with short waits; with so many attempts."""

    def attempts(number: int) -> None:
        retry = partial(Retry, first_s=0.005, cap_s=0.05, attempts=number, budget=Budget(floor=5000))
        monkeypatch.setattr(objects, "Retry", retry)

    attempts(12)
    return attempts


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Have the store answer what a function of command and path says, where it says anything.

    Gives the list of all that the store was asked.
    """
    real, asked = _Handler._ask, list[str]()

    def refuse(answer: Callable[[str, str], tuple[int, str] | None]) -> list[str]:
        def handled(self: Any, body: bytes) -> Any:
            asked.append(f"{self.command} {self.path}")
            if told := answer(self.command, self.path):
                return told[0], [], ERROR % told[1].encode()
            return real(self, body)

        monkeypatch.setattr(_Handler, "_ask", handled)
        return asked

    return refuse


def listed(uri: str, modality: str = "image", **changes: Any) -> list[Entry]:
    columns = {"uri_column": "uri", "label_column": "label", "caption_column": "caption"}
    source: Any = SimpleNamespace(uri=uri, synth=None, labels="none", glob=None, **columns, **changes)
    return list(list_source(source, modalities.get(modality)))


def made(uri: str, *, plain: bool) -> Work:
    """The plan of a source: by its listing alone, or by a survey."""
    if not plain:
        rows = survey_entries(listed(uri), modalities.get("image"), [], decode=False, sandbox=False)
        return work_on("far", rows)
    tell = apart(PLAIN, patterns=modalities.get("image").patterns)
    assert tell
    table = tell.rows(tell(listed(uri))[0])
    plan = make_plan(Survey.of(table), settings=PLAIN)
    return Work(name="far", survey=to_parquet(table), plan=plan, parent=None, settings=PLAIN)


def digest(uri: str, folder: Path, *, plain: bool) -> str:
    return build(LocalStorage(folder), made(uri, plain=plain), random.Random(0))


@pytest.mark.skipif("RAYLOOM_CHAOS" not in os.environ, reason="the long tier: make chaos")
@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("plain", [False, True])
def test_every_kind_of_fault_on_the_way_to_a_source_is_survived(
    plain: bool, kind: str, proxy: Proxy, pictures: str, tmp_path: Path
) -> None:
    undisturbed = digest(pictures, tmp_path / "golden", plain=plain)
    proxy.faults.kinds, proxy.faults.rate = (kind,), 0.3
    assert digest(pictures, tmp_path / kind, plain=plain) == undisturbed
    assert proxy.faults.happened[kind] > 0


@pytest.mark.parametrize("plain", [False, True])
def test_a_source_that_stays_away_is_no_samples_fault(
    plain: bool, proxy: Proxy, pictures: str, tmp_path: Path, soon: Callable[[int], None]
) -> None:
    soon(3)
    work, entries, storage = made(pictures, plain=plain), listed(pictures), LocalStorage(tmp_path)
    proxy.faults.down = True
    for look in (
        lambda: survey_entries(entries, modalities.get("image"), [], decode=False, sandbox=False),
        lambda: build(storage, work, random.Random(0)),
        lambda: listed(pictures),
    ):
        with pytest.raises(Unavailable, match=r"s3://pictures/in.*: gave up after 3 tries: .*") as caught:
            look()
        assert exit_code(caught.value) == STORAGE
        assert "\n" not in str(caught.value)
    kept = [key for key in storage.list("") if "/done/" in key or key.startswith(("manifest/", "shards/"))]
    assert kept == []  # and so no quarantine of what was not read: it comes with the mark of its unit


def test_nothing_below_the_policy_asks_again(
    proxy: Proxy, pictures: str, answers: Answers, soon: Callable[[int], None]
) -> None:
    soon(1)
    store, path = open_store(pictures), f"{pictures}/0.png"
    asked = answers(lambda *_: (503, "SlowDown"))
    for ask in (
        lambda: store.stat(path),
        lambda: list(store.scan(pictures)),
        lambda: store.read(path, 0, 9, "x"),
    ):
        asked.clear()
        with pytest.raises(Unavailable):
            ask()
        assert len(asked) == 1


def test_of_a_long_listing_only_the_page_that_failed_is_asked_for_again(
    proxy: Proxy, pictures: str, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = objects.ObjectStore("s3")
    whole = [store._node(info) for info in store.fs.ls(pictures, detail=True)]
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    failed: list[str] = []

    def once(command: str, path: str) -> tuple[int, str] | None:
        first = "continuation-token" in path and path not in failed
        failed.extend([path] * first)
        return (503, "SlowDown") if first else None

    asked = answers(once)
    nodes = store.scan(pictures)
    first = next(nodes)
    assert len(asked) == 1
    assert sorted([first, *nodes]) == sorted(whole)
    assert len(failed) == (len(whole) - 1) // 2
    assert len(asked) == len(set(asked)) + len(failed)


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "ExpiredToken"), (400, "ExpiredToken"), (403, "InvalidAccessKeyId"), (401, "AccessDenied"),
     (403, "SignatureDoesNotMatch"), (404, "NoSuchBucket")],
)  # fmt: skip
def test_an_answer_about_who_asks_or_about_the_bucket_is_no_samples_fault(
    status: int, code: str, proxy: Proxy, pictures: str, answers: Answers
) -> None:
    entries = listed(pictures)
    answers(lambda *_: (status, code))
    with pytest.raises(Refused, match=code if status != 404 else "there is no bucket 'pictures'") as caught:
        survey_entries(entries, modalities.get("image"), [], decode=False, sandbox=False)
    assert exit_code(caught.value) == STORAGE


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (404, "NoSuchKey"), (403, "InvalidObjectState")]
)
def test_an_answer_about_one_object_is_that_samples_matter(
    status: int, code: str, proxy: Proxy, pictures: str, answers: Answers
) -> None:
    entries = listed(pictures)
    answers(lambda _, path: (status, code) if path.endswith("/3.png") else None)
    rows = survey_entries(entries, modalities.get("image"), [], decode=False, sandbox=False)
    assert [row["name"] for row in rows if row.get("reason") == "unreadable"] == ["3.png"]
    assert len(rows) == len(entries)


def test_a_missing_bucket_is_called_that(proxy: Proxy) -> None:
    for uri in ("s3://nosuch", "s3://nosuch/in"):
        with pytest.raises(Refused, match=f"{uri}: there is no bucket 'nosuch'") as caught:
            listed(uri)
        assert exit_code(caught.value) == STORAGE
    with pytest.raises(FileNotFoundError, match="nothing at s3://datasets/nosuch"):
        listed("s3://datasets/nosuch")


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (403, "AccessDenied"), (400, "InvalidArgument")]
)
def test_a_folder_below_that_cannot_be_listed_ends_the_listing(
    status: int, code: str, proxy: Proxy, answers: Answers, soon: Callable[[int], None]
) -> None:
    import boto3

    for name in ("in/a/0.png", "in/b/1.png"):
        boto3.client("s3").put_object(Bucket="datasets", Key=name, Body=b"x")
    soon(2)
    answers(lambda _, path: (status, code) if "prefix=in%2Fb%2F" in path else None)
    with pytest.raises(STORE_FAILED, match="s3://datasets/in/b"):
        listed("s3://datasets/in")


def test_a_tar_and_a_table_of_a_store_that_goes_away_end_the_listing(
    proxy: Proxy, answers: Answers, soon: Callable[[int], None]
) -> None:
    import boto3

    for key, body in (("at/t.tar", b"\0" * 10240), ("at/t.csv", b"uri\ns3://datasets/at/x.zarr\n")):
        boto3.client("s3").put_object(Bucket="datasets", Key=key, Body=body)
    assert listed("s3://datasets/at/t.tar", allow_empty=True) == []
    soon(2)
    answers(lambda command, path: (503, "SlowDown") if command == "GET" and path.endswith("t.tar") else None)
    with pytest.raises(Unavailable):
        listed("s3://datasets/at/t.tar")
    for status, code, kind in ((500, "InternalError", Unavailable), (403, "InvalidAccessKeyId", Refused)):
        answers(lambda _, path, told=(status, code): told if "x.zarr" in path else None)  # type: ignore[misc]
        with pytest.raises(kind):
            listed("s3://datasets/at/t.csv", "hyperspectral")


def test_a_repair_leaves_what_needs_a_source_that_is_away(
    proxy: Proxy, pictures: str, tmp_path: Path, soon: Callable[[int], None]
) -> None:
    storage = LocalStorage(tmp_path)
    undisturbed = build(storage, made(pictures, plain=True), random.Random(0))
    index = next(storage.list("index/"))
    whole = storage.get(index)
    storage.replace(index, b"damaged")
    soon(2)
    proxy.faults.down = True
    assert [problem.key for problem in repair(storage, settings_of=lambda _: PLAIN).left] == [index]
    proxy.faults.down = False
    assert repair(storage, settings_of=lambda _: PLAIN).left == []
    assert storage.get(index) == whole
    assert digest(pictures, tmp_path, plain=True) == undisturbed
