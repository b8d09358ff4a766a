"""S3 through a line that fails: `rayloom run`, and objects by our storage, by s3fs and by pyarrow.

The server is moto on loopback, the line is jobs/chaos/proxy.py; every client meets the same seeded faults,
and does what its library does by default.
"""

import json
import logging
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from jobs.chaos.proxy import Faults, Proxy

NAMES: Final = {
    "": "none", "503": "503", "reset": "connection reset", "lost-ack": "answer lost",
    "truncate": "body cut short", "flip": "a bit flipped",
}  # fmt: skip
RATE: Final = 0.2  # of all requests
OBJECTS: Final = 16
SIZE: Final = 12 * 2**20
BUCKET: Final = "datasets"
FAILED: Final = object()
KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
Rayloom = Callable[
    [list[str], dict[str, str]], tuple[int, str]
]  # arguments, environment -> exit code, output


class Client(ABC):
    """One library that writes and reads objects at `url`, an endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def write(self, key: str, content: bytes) -> None:
        """Put an object."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """All of it."""


class Ours(Client):
    """What `rayloom` reads and writes with."""

    def __init__(self, url: str) -> None:
        from s3fs import S3FileSystem

        from pipelines.shards.storage import open_storage

        S3FileSystem.clear_instance_cache()  # each proxy has an address, and each client one of them
        os.environ["AWS_ENDPOINT_URL"] = url
        self.storage = open_storage(f"s3://{BUCKET}")

    def write(self, key: str, content: bytes) -> None:
        self.storage.put(key, content)

    def read(self, key: str) -> bytes:
        return self.storage.get(key)


class S3fs(Client):
    """s3fs as it comes."""

    def __init__(self, url: str) -> None:
        from s3fs import S3FileSystem

        self.files: Any = S3FileSystem(endpoint_url=url, skip_instance_cache=True)

    def write(self, key: str, content: bytes) -> None:
        self.files.pipe_file(f"{BUCKET}/{key}", content)

    def read(self, key: str) -> bytes:
        content: bytes = self.files.cat_file(f"{BUCKET}/{key}")
        return content


class Pyarrow(Client):
    """pyarrow.fs as it comes."""

    def __init__(self, url: str) -> None:
        from pyarrow.fs import S3FileSystem

        self.files = S3FileSystem(endpoint_override=url.partition("//")[2], scheme="http")

    def write(self, key: str, content: bytes) -> None:
        with self.files.open_output_stream(f"{BUCKET}/{key}") as stream:
            stream.write(content)

    def read(self, key: str) -> bytes:
        with self.files.open_input_file(f"{BUCKET}/{key}") as file:
            content: bytes = file.read()
            return content


@contextmanager
def server() -> Iterator[str]:
    """The URL of an S3 server with an empty bucket; this process has the keys for it meanwhile."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    before = {name: os.environ.get(name) for name in (*KEYS, "AWS_ENDPOINT_URL")}
    os.environ.update(KEYS)
    try:
        _plain(url := f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
        yield url
    finally:
        served.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def _plain(url: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=url)


def objects(client: type[Client], kind: str, upstream: str) -> str:
    """How many objects one client writes and reads under one kind of fault, and what it leaves behind."""
    plain, rng = _plain(upstream), random.Random(0)
    contents = {f"{client.__name__}-{kind}/{i}": rng.randbytes(SIZE) for i in range(OBJECTS)}
    proxy = Proxy(upstream, Faults((kind,) if kind else (), RATE))
    try:
        library = client(proxy.url)
        written = [key for key in contents if _tried(library.write, key, contents[key]) is not FAILED]
        stored = {key: _tried(_stored, plain, key) for key in written}
        proxy.faults.rate = 0.0  # what is read, the same library has written in peace
        for key, content in contents.items():
            library.write(f"{key}-again", content)
        proxy.faults.rate = RATE
        answers = {key: _tried(library.read, f"{key}-again") for key in contents}
    finally:
        proxy.close()
    read = {key: answer for key, answer in answers.items() if answer is not FAILED}
    wrong = sum(content != contents[key] for found in (stored, read) for key, content in found.items())
    left = plain.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{client.__name__}-{kind}/").get("Uploads", ())
    told = [f"{len(written)} written", f"{len(read)} read"]
    told += [f"{count} {what}" for count, what in ((wrong, "wrong"), (len(left), "uploads left")) if count]
    return ", ".join(told)


def _tried(work: Callable[..., Any], *given: Any) -> Any:
    try:
        return work(*given)
    except Exception:
        return FAILED  # and said so


def _stored(plain: Any, key: str) -> bytes:
    content: bytes = plain.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return content


def job(rayloom: Rayloom, file: Path, want: str, kind: str, upstream: str) -> str:
    """The exit codes of `rayloom run` onto the bucket and of `rayloom check`, through the same faults.

    Where the trial of the store refuses it for what the line did, once more without the trial.
    """
    output = f"s3://{BUCKET}/job-{kind or 'none'}"
    proxy = Proxy(upstream, Faults((kind,) if kind else (), RATE))
    line = {"AWS_ENDPOINT_URL": proxy.url}
    run, told = ["run", str(file), f"output={output}"], ""
    try:
        code, _ = rayloom(run, line)
        if code:
            told = f"exit {code}; with `single_writer: true` "
            code, _ = rayloom([*run, "single_writer=true"], line)
        checked, _ = rayloom(["check", output], line)
    finally:
        proxy.close()
    _, found = rayloom(["check", output, "--json"], {"AWS_ENDPOINT_URL": upstream})  # by a line that is good
    same = json.loads(found)["manifest"] == want if found else False
    return (
        f"{told}exit {code}, {'the digest of the disk' if same else 'another digest'}; check: exit {checked}"
    )


def measure(rayloom: Rayloom, file: Path, want: str) -> dict[str, dict[str, str]]:
    """Who -> kind of fault -> what came of it. `want` is the digest of the same job on a disk."""
    libraries: dict[str, type[Client]] = {"rayloom's storage": Ours, "s3fs": S3fs, "pyarrow": Pyarrow}
    with server() as upstream:
        found = {"`rayloom`": {NAMES[kind]: job(rayloom, file, want, kind, upstream) for kind in NAMES}}
        for name, client in libraries.items():
            found[name] = {NAMES[kind]: objects(client, kind, upstream) for kind in NAMES}
    return found
