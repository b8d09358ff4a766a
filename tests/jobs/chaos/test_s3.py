"""A dataset built over real connections that break: the same bytes as on a local disk."""

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.chaos import bucket
from jobs.chaos.invariants import Truth, violations
from jobs.chaos.proxy import KINDS, Proxy
from jobs.chaos.small import Work, build
from pipelines.answers import Unavailable
from pipelines.retry import Budget, Retry
from pipelines.shards import trial
from pipelines.shards.gc import collect
from pipelines.shards.manifest import latest
from pipelines.shards.objects import ObjectStorage
from pipelines.shards.pack import Done, pack_unit
from pipelines.shards.retry import RetryingStorage
from pipelines.shards.storage import Storage, open_storage
from pipelines.shards.trial import MARK, Untrusted, require_trusted, try_storage

Open = Callable[..., RetryingStorage]
LONG = pytest.mark.skipif("RAYLOOM_CHAOS" not in os.environ, reason="the long tier: make chaos")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial of few objects: the server here is slow."""
    monkeypatch.setattr(trial, "OBJECTS", 3)
    monkeypatch.setattr(trial, "ROUNDS", 1)


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    def opened(seed: int = 0, attempts: int = 12, cap_s: float = 0.05) -> RetryingStorage:
        retry = Retry(
            first_s=0.005, cap_s=cap_s, attempts=attempts, rng=random.Random(seed), budget=Budget(floor=5000)
        )
        return RetryingStorage(ObjectStorage(f"s3://datasets/{tmp_path.name}"), retry)

    return opened


def test_all_kinds_of_fault_together_are_survived(
    proxy: Proxy, opened: Open, work: Work, truth: Truth
) -> None:
    proxy.faults.kinds, proxy.faults.rate = KINDS, 0.3
    assert build(opened(), work, random.Random(0)) == truth.digest
    assert violations(opened(), truth) == []  # read through the same faults
    assert set(proxy.faults.happened) == set(KINDS)


@LONG
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_is_survived(
    kind: str, seed: int, proxy: Proxy, opened: Open, work: Work, truth: Truth
) -> None:
    rate = 0.1 if kind == "slow" else 0.3
    proxy.faults.kinds, proxy.faults.rate = (kind,), rate
    digest = build(opened(seed), work, random.Random(seed))
    assert digest == truth.digest
    assert violations(opened(), truth, thorough=kind == "flip") == []  # read through the same faults
    assert proxy.faults.happened[kind] > 3
    proxy.faults.rate = 0
    assert violations(opened(), truth, thorough=True) == []


@pytest.mark.parametrize("wrong", ["time", "name"])
def test_a_listing_that_makes_no_sense_is_asked_for_again(
    wrong: str, proxy: Proxy, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened()
    storage.put("a/b", b"c")
    garbled: list[bytes] = []

    def flipped(self: object, answer: bytes) -> bytes:
        before, after = (b"T", b"U") if wrong == "time" else (b"/a/b<", b"/q/b<")
        if len(garbled) < 2 and before in answer:
            garbled.append(answer := answer.replace(before, after))
        return answer

    monkeypatch.setattr("jobs.chaos.proxy._Handler._flipped", flipped)
    proxy.faults.kinds, proxy.faults.rate = ("flip",), 1.0
    assert list(storage.list("a/")) == ["a/b"]
    assert len(garbled) == 2


@LONG
@pytest.mark.timeout(300)
def test_an_outage_of_a_minute_is_waited_for(
    proxy: Proxy, tmp_path: Path, opened: Open, work: Work, truth: Truth
) -> None:
    """By the policy as it is, in the middle of a run."""
    storage = RetryingStorage(ObjectStorage(f"s3://datasets/{tmp_path.name}"), Retry(rng=random.Random(0)))
    packed: list[int] = []

    def pack(storage: Storage, plan: str, unit: int) -> Done:
        if not packed:
            proxy.faults.down = True
            threading.Timer(60, lambda: setattr(proxy.faults, "down", False)).start()
        packed.append(unit)
        return pack_unit(storage, plan, unit)

    assert build(storage, work, random.Random(0), pack=pack) == truth.digest
    assert len(packed) == work.plan.units  # nothing from the start again
    assert proxy.faults.happened["down"] > 3
    assert violations(opened(), truth, thorough=True) == []


def test_after_an_outage_that_was_too_long_the_run_goes_on_where_it_was(
    proxy: Proxy, opened: Open, work: Work, truth: Truth
) -> None:
    packed: list[int] = []

    def pack(storage: Storage, plan: str, unit: int) -> Done:
        if packed:
            proxy.faults.down = True
        done = pack_unit(storage, plan, unit)
        packed.append(unit)
        return done

    with pytest.raises(Unavailable, match="gave up after 3 tries"):
        build(opened(attempts=3), work, random.Random(0), pack=pack)
    assert len(packed) == 1
    proxy.faults.down = False
    assert latest(opened()) is None
    before = proxy.faults.happened.copy()
    assert build(opened(), work, random.Random(0)) == truth.digest
    assert proxy.faults.happened == before
    assert violations(opened(), truth, thorough=True) == []


@LONG
def test_two_builders_over_a_bad_line_make_one_dataset(
    proxy: Proxy, opened: Open, work: Work, truth: Truth
) -> None:
    proxy.faults.kinds, proxy.faults.rate = ("503", "reset", "lost-ack"), 0.2
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda i=i: digests.append(build(opened(i), work, random.Random(i))))  # type: ignore[misc]
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [truth.digest] * 2
    proxy.faults.rate = 0
    assert violations(opened(), truth, thorough=True) == []


def test_a_write_whose_answer_got_lost_is_known_as_our_own(proxy: Proxy, opened: Open) -> None:
    """Also where a library below would have asked again by itself."""
    storage, rng = opened(), random.Random(0)
    proxy.faults.kinds, proxy.faults.rate = ("lost-ack",), 0.3
    assert all(storage.create(f"new/{i}", rng.randbytes(1000)) for i in range(40))
    assert proxy.faults.happened["lost-ack"] > 5


@pytest.mark.parametrize("kind", ["lost-ack", "flip"])
def test_a_good_store_on_a_bad_line_passes_its_trial(
    kind: str, proxy: Proxy, opened: Open, few: None
) -> None:
    proxy.faults.kinds, proxy.faults.rate = (kind,), 0.2
    assert all(finding.kept for finding in trial.try_storage(opened(), large=False))


def test_unfinished_uploads_are_invisible_and_collected(
    proxy: Proxy, opened: Open, work: Work, truth: Truth, tmp_path: Path
) -> None:
    import boto3

    storage = opened()
    build(storage, work, random.Random(0))
    storage.begin_upload("shards/half.tar", b"x" * 5 * 2**20)
    assert storage.size("shards/half.tar") is None
    assert violations(storage, truth)[0].startswith("I6")
    assert len(collect(storage, older_than_s=0).uploads) == 1
    ours = {"Bucket": "datasets", "Prefix": tmp_path.name}
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(**ours)  # past our code
    assert violations(storage, truth, thorough=True) == []


def test_at_a_buckets_root_only_our_own_uploads_are_collected(proxy: Proxy, work: Work, truth: Truth) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=proxy.url)
    client.create_bucket(Bucket="rooted")
    build(storage := open_storage("s3://rooted"), work, random.Random(0))
    for key in ("shards/half.tar", "other/shards/half.tar"):
        storage.begin_upload(key, b"x" * 5 * 2**20)
    [done] = collect(storage, older_than_s=0).uploads
    assert done.startswith("shards/half.tar\n")
    left = client.list_multipart_uploads(Bucket="rooted")["Uploads"]
    assert [upload["Key"] for upload in left] == ["other/shards/half.tar"]
    for upload, _ in storage.uploads():
        storage.abort(upload)
    assert violations(storage, truth, thorough=True) == []


def test_a_good_store_passes_the_trial_and_is_tried_once(proxy: Proxy, opened: Open, few: None) -> None:
    storage = opened()
    findings = try_storage(storage, large=False)
    assert all(finding.kept for finding in findings), findings
    assert list(storage.list("")) == []
    assert list(storage.uploads()) == []
    require_trusted(storage)
    assert storage.size(MARK) is not None
    proxy.faults.strip = True
    require_trusted(storage)  # marked


def test_a_store_that_ignores_conditions_is_refused(proxy: Proxy, opened: Open, few: None) -> None:
    proxy.faults.strip = True
    storage = opened()
    broken = [finding for finding in try_storage(storage, large=False) if not finding.kept]
    assert [finding.promise[:14] for finding in broken] == ["of 8 writers a"]
    with pytest.raises(Untrusted, match=r"of 8 writers at once .* single_writer: true goes on"):
        require_trusted(storage)
    require_trusted(storage, single_writer=True)
    assert storage.size(MARK) is None


@LONG
def test_the_trial_of_a_large_object_fails_too(
    proxy: Proxy, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of 5 MiB here, so that an object of 11 MiB is one of several parts."""
    from s3fs import S3FileSystem

    plain = S3FileSystem._put_file

    async def in_parts(self: S3FileSystem, *arguments: object, **options: object) -> None:
        await plain(self, *arguments, **{**options, "chunksize": 5 * 2**20})

    monkeypatch.setattr(S3FileSystem, "_put_file", in_parts)
    monkeypatch.setattr(trial, "LARGE_BYTES", 11 * 2**20)
    assert try_storage(opened())[-1].kept
    proxy.faults.strip = True
    assert not try_storage(opened())[-1].kept


def test_a_job_does_not_start_on_a_store_that_ignores_conditions(
    proxy: Proxy, tmp_path: Path, few: None
) -> None:
    from jobs.config.schema import IngestJob
    from jobs.failures import exit_code
    from jobs.ingest import ingest_dataset

    proxy.faults.strip = True
    job = IngestJob.model_validate(
        {
            "kind": "ingest", "modality": "image", "source": {"synth": 2},
            "output": f"s3://datasets/{tmp_path.name}-job",
        }
    )  # fmt: skip
    with pytest.raises(Untrusted) as caught:
        ingest_dataset(job)
    assert exit_code(caught.value) == 4
    assert latest(open_storage(job.output)) is None


@LONG
def test_builders_that_die_and_do_not_hear_answers_on_a_real_store(
    proxy: Proxy, work: Work, truth: Truth, tmp_path: Path
) -> None:
    """What users run against their own bucket."""
    assert bucket.play(f"s3://datasets/{tmp_path.name}-chaos", 1, work, truth) == []
    for seed in range(2):
        assert bucket.play(str(tmp_path / f"{seed}"), seed, work, truth) == []
