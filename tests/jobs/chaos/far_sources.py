"""Ingest from a bucket whose line or whose answers fail, and write what came of each job to found.json.

A program of its own, started by test_sources.py: the workers of the tests' own Ray know no server.
"""

import io
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jobs.chaos import proxy as line
from jobs.cluster import cluster
from jobs.config.schema import IngestJob
from jobs.failures import report
from jobs.ingest import run
from jobs.storage import settings_of
from pipelines.shards.dataset import Dataset
from pipelines.shards.manifest import latest
from pipelines.shards.repair import repair
from pipelines.shards.storage import open_storage

PICTURES, OUTAGE_S = 10, 1.0
PASSING = ("503", "500", "reset", "slow", "lost-ack", "truncate")
WAYS = {"surveyed": {"dedup": "exact"}, "plain": {"dedup": "none"}}
MIDDLE = 4  # objects that were read


class Store:
    """How the bucket answers: as it should, but for what a job's test has set."""

    def __init__(self) -> None:
        self.answer = line._Handler._ask
        self.behave()

    def asked(self, handler: Any, body: bytes) -> Any:
        if handler.command == "GET" and "list-type" not in handler.path:
            self.reads += 1
            if self.reads == self.at:
                self.then()
        if self.stale or self.denied in handler.path:
            return 403, [], line.ERROR % (b"ExpiredToken" if self.stale else b"AccessDenied")
        return self.answer(handler, body)

    def behave(self) -> None:
        self.stale, self.denied = False, "no such path"
        self.after(0, lambda: None)

    def after(self, reads: int, then: Callable[[], None]) -> None:
        self.reads, self.at, self.then = 0, reads, then


def fill(server: str) -> None:
    """Different pictures and one that is none, in two folders."""
    import boto3
    from PIL import Image

    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="photos")
    for i in range(PICTURES - 1):
        pixels = np.random.default_rng(i).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(out := io.BytesIO(), "PNG")
        client.put_object(Bucket="photos", Key=f"in/{'ab'[i % 2]}/{i}.png", Body=out.getvalue())
    client.put_object(Bucket="photos", Key="in/b/none.png", Body=b"\x89PNG\r\n\x1a\n no picture")


def ingested(way: str, output: Path) -> dict[str, Any]:
    """The exit code of a job, what it said, and what there is afterwards."""
    values = {
        "kind": "ingest", "modality": "image", "source": {"uri": "s3://photos/in"}, "output": str(output),
        "shards": {"max_samples": 3}, "quarantine": {"max_share": 0.5}, **WAYS[way],
    }  # fmt: skip
    kept, sys.stderr = sys.stderr, io.StringIO()
    try:
        code = run(IngestJob.model_validate(values))
    except Exception as e:
        code = report(e)
    said, sys.stderr = sys.stderr.getvalue(), kept
    if latest(open_storage(str(output))) is None:
        return {"code": code, "digest": None, "said": said}
    dataset = Dataset.open(str(output))
    aside = sorted([row["name"], row["reason"]] for row in dataset.dropped())
    told = {"digest": dataset.manifest.digest, "samples": dataset.manifest.samples}
    return {"code": code, **told, "aside": aside, "said": said}


def mended(output: Path, store: Store) -> dict[str, Any]:
    """What a repair leaves that must look at the source again: while it may not, and when it may."""
    storage = open_storage(str(output))
    key = next(key for key in storage.list("runs/") if "/survey/" in key)
    storage.replace(key, b"damaged")
    store.stale = True
    left = [problem.key for problem in repair(storage, settings_of=settings_of).left]
    store.behave()
    later = [problem.key for problem in repair(storage, settings_of=settings_of).left]
    return {"damaged": key, "stale": left, "no longer stale": later}


def main(work: Path) -> None:
    from moto.server import ThreadedMotoServer

    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    fill(f"http://{host}:{port}")
    store = Store()
    line._Handler._ask = lambda handler, body: store.asked(handler, body)  # type: ignore[method-assign]
    proxy = line.Proxy(f"http://{host}:{port}")
    os.environ["AWS_ENDPOINT_URL"] = proxy.url
    faults, found = proxy.faults, dict[str, Any]()

    def outage() -> None:
        faults.down = True
        threading.Timer(OUTAGE_S, lambda: setattr(faults, "down", False)).start()

    with cluster(workers=2):
        for way in WAYS:
            found[f"{way}: undisturbed"] = ingested(way, work / way)
            store.after(MIDDLE, outage)
            faults.kinds, faults.rate = PASSING, 0.3
            found[f"{way}: faults and an outage"] = ingested(way, work / f"{way}-faults")
            faults.rate = 0.0
            store.after(MIDDLE, lambda: setattr(store, "stale", True))
            found[f"{way}: stale"] = ingested(way, work / f"{way}-stale")
            store.behave()
            found[f"{way}: no longer stale"] = ingested(way, work / f"{way}-stale")
            store.denied = "/3.png"
            found[f"{way}: denied"] = ingested(way, work / f"{way}-denied")
            store.behave()
        found["denied no longer"] = ingested("plain", work / "plain-denied")
    found["mended"] = mended(work / "surveyed", store)
    found["happened"] = dict(faults.happened)
    (work / "found.json").write_text(json.dumps(found))
    os._exit(0)  # the servers' threads would be waited for


if __name__ == "__main__":
    main(Path(sys.argv[1]))
