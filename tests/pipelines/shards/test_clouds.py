"""Google's and Azure's storage as their own clients see it: servers on loopback stand in for both."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from jobs.chaos import bucket
from jobs.chaos.invariants import truth_of
from jobs.chaos.small import build, make_pictures, survey, work_on
from modalities.base import BadSample
from pipelines.answers import Refused
from pipelines.shards.storage import LocalStorage, open_storage
from pipelines.shards.trial import Untrusted, require_trusted, try_storage
from pipelines.sources import objects

AZURITE = shutil.which("azurite-blob")
# The account that every Azurite has; its key is in Azurite's documentation.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="module")
def emulator() -> Iterator[None]:
    """A server that speaks Google's JSON API and ignores preconditions."""
    from gcp_storage_emulator.server import create_server
    from gcsfs import GCSFileSystem

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="lake")
    server.start()
    port = server._api._httpd.server_address[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        yield
        GCSFileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def google(emulator: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same server, taught ifGenerationMatch=0 as Google documents it: 412 when there is an object."""
    from gcp_storage_emulator import server
    from gcp_storage_emulator.exceptions import Conflict, NotFound
    from gcp_storage_emulator.handlers import objects
    from gcp_storage_emulator.storage import Storage

    conditional: dict[str, bool] = {}  # by resumable upload
    request: Any = None  # the server has one thread, and answers one at a time
    make, create, begin = server.Request.__init__, Storage.create_file, Storage.create_resumable_upload

    def seen(self: Any, *arguments: Any) -> None:
        nonlocal request
        make(self, *arguments)
        request = self

    def asks() -> bool:
        return bool(request.query.get("ifGenerationMatch") == ["0"])

    def create_file(self: Any, bucket: str, name: str, content: bytes, obj: Any, upload: Any = None) -> None:
        if asks() or conditional.get(upload):
            try:
                self.get_file_obj(bucket, name)
            except NotFound:
                pass
            else:
                raise Conflict("conditionNotMet")
        create(self, bucket, name, content, obj, upload)

    def create_resumable_upload(self: Any, *arguments: Any) -> Any:
        upload = begin(self, *arguments)
        conditional[upload] = asks()
        return upload

    def refuse(response: Any, error: Exception) -> None:
        response.status = HTTPStatus.PRECONDITION_FAILED
        response.json({"error": {"code": 412, "message": str(error)}})

    monkeypatch.setattr(server.Request, "__init__", seen)
    monkeypatch.setattr(Storage, "create_file", create_file)
    monkeypatch.setattr(Storage, "create_resumable_upload", create_resumable_upload)
    monkeypatch.setattr(objects, "_handle_conflict", refuse)
    return "gs://lake"


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Microsoft's own emulator: `npm install -g azurite`."""
    if AZURITE is None:
        pytest.skip("azurite-blob is not installed")
    from adlfs import AzureBlobFileSystem
    from azure.storage.blob import BlobServiceClient

    where = [
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        "0",
        "--location",
        str(tmp_path_factory.mktemp("azurite")),
    ]
    command = [AZURITE, *where, "--skipApiVersionCheck", "--disableTelemetry"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "successfully listens on" in line)
        place = f"{line.split()[-1]}/{ACCOUNT}"
        text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={place};"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
            with BlobServiceClient.from_connection_string(text) as client:
                client.create_container("lake")
            yield "az://lake"
            AzureBlobFileSystem.clear_instance_cache()
        server.terminate()


@pytest.fixture(params=["google", "azure"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.getfixturevalue(request.param)}/{tmp_path.name}"


def test_every_promise_is_kept(cloud: str) -> None:
    parts = cloud.startswith("az")  # Google's stand-in cannot end an upload in parts that was refused
    assert [finding for finding in try_storage(open_storage(cloud), large=parts) if not finding.kept] == []


def test_builders_that_die_and_race_leave_the_bytes_of_a_local_dataset(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLOOM_SANDBOX", "0")
    make_pictures(tmp_path / "source")
    work = work_on("all", survey(tmp_path / "source"))
    build(golden := LocalStorage(tmp_path / "golden"), work, random.Random(0))
    assert bucket.play(cloud, 0, work, truth_of(golden)) == []


def test_a_name_that_an_unfinished_upload_holds_can_still_be_created(cloud: str) -> None:
    storage = open_storage(cloud)
    storage.begin_upload("key", bytes(5 * 2**20))
    assert storage.size("key") is None
    assert storage.create("key", b"whole")
    assert not storage.create("key", b"other")
    assert storage.get("key") == b"whole"


def test_a_listing_by_pages_is_what_the_driver_lists(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(cloud)
    for name in (
        "in/0.png",
        "in/1 é.png",
        "in/a/x.png",
        "in/a/y.png",
        "in/b.png",
        "in/empty",
        "in/z/z/z.png",
        "inn",
    ):
        assert storage.create(name, b"x" * (name != "in/empty"))
    store = objects.ObjectStore(cloud[:2])
    for folder, count in ((cloud, 2), (f"{cloud}/in", 6), (f"{cloud}/in/z", 1), (f"{cloud}/in/0.png", 0)):
        infos = store.fs.ls(store._path(folder), detail=True)
        whole = sorted(store._node(info) for info in infos if f"{cloud[:2]}://{info['name']}" != folder)
        for size in (1000, 2, 1):
            monkeypatch.setattr(objects, "_PAGE_SIZE", size)
            assert sorted(store.scan(folder)) == whole
        assert len(whole) == count
    with pytest.raises(FileNotFoundError):
        next(store.scan(f"{cloud}/none"))
    with pytest.raises(Refused, match="there is no bucket 'nosuch'"):
        next(store.scan(f"{cloud[:2]}://nosuch/in"))


def test_what_is_read_is_of_the_version_that_was_listed(cloud: str) -> None:
    storage, store = open_storage(cloud), objects.ObjectStore(cloud[:2])
    contents = {"0.png": b"0123456789", "1 é.png": b"1", "empty": b""}
    for name, content in contents.items():
        assert storage.create(f"in/{name}", content)
    listed = list(store.scan(f"{cloud}/in"))
    assert {node.name: store.read(node.uri, 0, node.size + 1, node.version) for node in listed} == contents
    assert {node.name: store.read(node.uri, 0, 0) for node in listed if node.size == 0} == {"empty": b""}
    assert store.read(f"{cloud}/in/0.png", 3, 4) == b"3456"
    for node in listed:
        storage.replace(f"in/{node.name}", b"another")
        with pytest.raises(BadSample, match="was written to after it was listed"):
            store.read(node.uri, 0, node.size + 1, node.version)
    storage.delete("in/empty")
    with pytest.raises(FileNotFoundError):
        store.read(f"{cloud}/in/empty", 0, 1)
    with pytest.raises(FileNotFoundError):
        storage.get("in/empty")


def test_a_store_that_ignores_preconditions_is_refused(emulator: None, tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="exactly one creates an object"):
        require_trusted(open_storage(f"gs://lake/{tmp_path.name}"))
