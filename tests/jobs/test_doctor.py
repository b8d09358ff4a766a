"""`rayloom doctor storage`: a verdict for a storage that works, and one line for one that cannot be used."""

from collections.abc import Iterator

import pytest

from jobs import failures
from jobs.storage import doctor
from pipelines.shards import trial


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """An S3 server on loopback with an empty bucket `lake`."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    S3FileSystem.clear_instance_cache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket="lake")
        yield
        S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.parametrize("url", ["s3://lake", "s3://lake/a/b"])
def test_a_store_is_left_as_it_was_found(
    url: str, s3: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import boto3

    monkeypatch.setattr(trial, "OBJECTS", 3)
    monkeypatch.setattr(trial, "ROUNDS", 1)
    assert doctor(url, large=False) == failures.OK
    assert "(1 under way, then none)" in capsys.readouterr().out
    client = boto3.client("s3")
    assert not client.list_multipart_uploads(Bucket="lake").get("Uploads")
    assert not client.list_objects_v2(Bucket="lake").get("Contents")


def test_a_missing_bucket_is_named(s3: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="there is no bucket 'pond'") as caught:
        doctor("s3://pond/data", large=False)
    assert failures.report(caught.value) == failures.STORAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nobody_there_is_told_after_one_operation(s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    from pipelines.retry import BUDGET

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    before = BUDGET.operations, BUDGET.retries
    with pytest.raises(OSError, match=r"s3://lake: .*gave up after 3 tries.*nobody answers there") as caught:
        doctor("s3://lake", large=False)
    assert failures.exit_code(caught.value) == failures.STORAGE
    assert (BUDGET.operations, BUDGET.retries) == (before[0] + 1, before[1] + 2)
    S3FileSystem.clear_instance_cache()
