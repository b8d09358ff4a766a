"""One dataset, whatever builds it: the digests of pipelines/graphs/two_nodes.py."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUCKET = "same-bytes"


@pytest.fixture
def s3() -> Iterator[dict[str, str]]:
    """The environment of an S3 server of our own."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    endpoint = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ).create_bucket(Bucket=BUCKET)
    yield {**keys, "AWS_ENDPOINT_URL": endpoint, "FSSPEC_S3_ENDPOINT_URL": endpoint}
    server.stop()


@pytest.mark.ray
@pytest.mark.timeout(1200)  # ten builds and a lost node: a minute, and five on a machine that is very busy
def test_workers_storage_interruptions_order_clock_and_lost_nodes_change_no_byte(
    s3: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / "tests/pipelines/graphs/two_nodes.py"), str(tmp_path), BUCKET]
    environment = {**os.environ, **s3, "PYTHONPATH": str(ROOT), "TZ": "Pacific/Apia"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1100)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found.pop("nodes"), found.pop("nodes at the end")) == (2, 1)
    assert found.pop("stopped") == ["survey", "pack"]
    assert found.pop("questions to both nodes") > 0
    assert found.pop("tasks given at a time to eight") == 16
    once = found.pop("opened once")
    assert len(once) == 2
    assert len({one["digest"] for one in once.values()}) == 1, once
    assert [(one["books"]["written"], one["books"]["quarantined"]) for one in once.values()] == [(60, 1)] * 2
    assert all(one["ok"] for one in once.values()), once
    assert len(found) == 5
    assert all(one["ok"] for one in found.values()), found
    assert len({one["digest"] for one in found.values()}) == 1, found
    books = found["two workers"]["books"]
    assert (books["inputs"], books["written"], books["duplicates"], books["quarantined"]) == (61, 56, 4, 1)
