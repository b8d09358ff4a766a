"""Small work for faults of every kind, what an undisturbed run makes of it, and an S3 server on loopback."""

import random
from collections.abc import Generator, Iterator

import pytest

from jobs.chaos.invariants import Truth, truth_of
from jobs.chaos.proxy import Proxy
from jobs.chaos.small import Work, build, make_pictures, survey, work_on
from pipelines.shards.storage import LocalStorage


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Whoever fails says how to see it again: seeds are parameters, or stand in the test."""
    report = yield
    if report.failed:
        report.sections.append(("again", f"RAYLOOM_CHAOS=1 python -m pytest '{item.nodeid}'"))
    return report


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """One run over a dozen pictures."""
    make_pictures(folder := tmp_path_factory.mktemp("source"))
    return work_on("all", survey(folder))


@pytest.fixture(scope="module")
def truth(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """What becomes of it on a local disk when nothing happens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLOOM_SANDBOX", "0")
        storage = LocalStorage(tmp_path_factory.mktemp("golden"))
        build(storage, work, random.Random(0))
    return truth_of(storage)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server with an empty bucket `datasets`, and credentials for it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="datasets")
        yield url
    server.stop()


@pytest.fixture
def proxy(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before that server, and where clients look for it."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # each proxy has an address, and each client one of them
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    proxy = Proxy(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    S3FileSystem.clear_instance_cache()
    proxy.close()
