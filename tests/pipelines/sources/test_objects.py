"""What Google's and Azure's drivers send: a server on loopback counts it, and answers as a test has it."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import modalities
from modalities.base import BadSample
from pipelines import drivers
from pipelines.answers import TRANSIENT_STATUS, Unavailable, http_code, is_transient
from pipelines.drivers import Garbled
from pipelines.retry import Budget, Retry, retry_after
from pipelines.shards.objects import ObjectStorage
from pipelines.sources import objects, sorting
from pipelines.sources.folder import Folder
from pipelines.sources.names import looked_at
from pipelines.sources.objects import ObjectStore

Answer = Callable[[str, str], tuple[int, bytes] | None]  # of command and path; None: the line breaks
NAMES = [
    "in/",
    "in/0.png",
    "in/1.png",
    "in/a/x.png",
    "in/a/y.png",
    "in/b.png",
    "in/c/z.png",
    "in/d é.png",
    "inn",
]
MARKED = "<Metadata><hdi_isfolder>true</hdi_isfolder></Metadata>"
DAY = "Sun, 22 Nov 2026 00:00:00 GMT"


class Server:
    """`asked`: all that came, as a line of command and path. `cuts`: of so many answers half is sent."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.cuts = 0
        self.answer: Answer = lambda *_: (503, b"")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_it(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append(f"{self.command} {self.path}")
                if (told := outer.answer(self.command, self.path)) is None:
                    self.close_connection = True
                    return
                self.send_response(told[0])
                self.send_header("Retry-After", "7")
                self.send_header(
                    "Content-Type", "application/xml" if told[1][:1] == b"<" else "application/json"
                )
                self.send_header("Content-Length", str(len(told[1])))
                for header in outer.headers.items():
                    self.send_header(*header)
                self.end_headers()
                if outer.cuts:
                    outer.cuts, self.close_connection = outer.cuts - 1, True
                    told = told[0], told[1][: len(told[1]) // 2]
                self.wfile.write(told[1] if self.command != "HEAD" else b"")

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_it  # as http.server wants it

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # who asks may not wait
        self.place = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    text = f"DefaultEndpointsProtocol=http;AccountName=x;AccountKey=eA==;BlobEndpoint={server.place}/x;"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.place)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    from adlfs import AzureBlobFileSystem
    from gcsfs import GCSFileSystem

    for driver in (AzureBlobFileSystem, GCSFileSystem):
        driver.clear_instance_cache()
    yield server
    for driver in (AzureBlobFileSystem, GCSFileSystem):
        driver.clear_instance_cache()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(params=["gs://lake", "az://lake"])
def cloud(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    attempts(monkeypatch, 1)
    return str(request.param)


def attempts(monkeypatch: pytest.MonkeyPatch, number: int) -> list[float]:
    """A policy of so many tries that only notes how long it would wait."""
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, time=time.time)
    monkeypatch.setattr(objects, "Retry", partial(Retry, attempts=number, budget=Budget(), clock=clock))
    return slept


def asks(cloud: str) -> dict[str, Callable[[], object]]:
    """All that sources and datasets ask of a store, each of an object of its own."""
    storage, store = ObjectStorage(f"{cloud}/data"), ObjectStore(cloud[:2])
    return {
        "create": lambda: storage.create("create", b"x"),
        "replace": lambda: storage.replace("replace", b"x"),
        "get": lambda: storage.get("get", 1, 2),
        "size": lambda: storage.size("size"),
        "list": lambda: list(storage.list("list/")),
        "delete": lambda: storage.delete("delete"),
        "modified": lambda: storage.modified("modified"),
        "stat": lambda: store.stat(f"{cloud}/stat"),
        "scan": lambda: list(store.scan(f"{cloud}/scan")),
        "read": lambda: store.read(f"{cloud}/read", 0, 9, "x"),
    }


@pytest.mark.parametrize("status", TRANSIENT_STATUS)
def test_nothing_below_the_policy_asks_again_and_it_hears_when_to(
    status: int, cloud: str, server: Server
) -> None:
    server.answer = lambda *_: (status, b'{"error": {"message": "invalid, for now"}}')
    for name, ask in asks(cloud).items():
        with pytest.raises(Exception, match=r".") as caught:
            ask()
        assert isinstance(caught.value, Unavailable) or is_transient(caught.value), name
        assert retry_after(caught.value, 0) == 7, name
        assert set(Counter(server.asked).values()) == {1}, name


def test_what_a_broken_line_may_have_carried_is_not_sent_again(cloud: str, server: Server) -> None:
    for name, ask in asks(cloud).items():
        server.answer = lambda *_: (404, b"{}")
        assert ObjectStorage(f"{cloud}/data").size(f"before {name}") is None  # and the connection is kept
        server.answer = lambda *_: None
        with pytest.raises(Exception, match=r".") as caught:
            ask()
        assert isinstance(caught.value, Unavailable) or is_transient(caught.value), name
        assert set(Counter(server.asked).values()) == {1}, name


def test_the_policy_waits_as_long_as_a_store_asks(
    cloud: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = attempts(monkeypatch, 3)
    with pytest.raises(Unavailable, match="after 3 tries"):
        list(ObjectStore(cloud[:2]).scan(f"{cloud}/in"))
    assert slept == [7, 7]


BODY = b"123456789"


def holds(server: Server, body: bytes = BODY) -> None:
    """From its second byte on, or all of it, whatever the object."""
    server.answer = lambda *_: (200, body)
    server.headers = {"ETag": '"e1"', "Content-Range": f"bytes 1-{len(body)}/{len(body) + 1}"}


def test_a_body_that_was_cut_is_asked_for_again_by_the_policy_alone(
    cloud: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds(server)
    storage = ObjectStorage(f"{cloud}/data")
    reads: list[Callable[[], bytes]] = [
        lambda: storage.get("key"), lambda: storage.get("key", 1), lambda: storage.get("key", 1, 9),
        lambda: ObjectStore(cloud[:2]).read(f"{cloud}/key", 1, 9),
        lambda: ObjectStore(cloud[:2]).read(f"{cloud}/key", 0, 1),
    ]  # fmt: skip
    for read in reads:
        server.cuts = 1
        with pytest.raises(Exception, match=r".") as caught:
            read()
        assert isinstance(caught.value, Unavailable) or is_transient(caught.value)
    assert len(server.asked) == len(reads)
    attempts(monkeypatch, 3)
    again = Retry(attempts=3, budget=Budget(), clock=SimpleNamespace(sleep=float, time=time.time))
    for read in reads[:3]:
        server.cuts = 2
        assert again("get", read) == BODY
    for read in reads[3:]:
        server.cuts = 2
        assert read() == BODY
    assert len(server.asked) == 4 * len(reads)


def test_azure_is_asked_once_for_a_read_however_large_or_empty(server: Server) -> None:
    storage = ObjectStorage("az://lake/data")
    for body in (bytes(33 * 2**20), BODY, b""):
        holds(server, body)
        server.asked.clear()
        assert (storage.get("key"), len(server.asked)) == (body, 1)
    server.answer = lambda *_: (416, b"")
    with pytest.raises(Exception, match=r".") as caught:
        storage.get("key", 1)
    assert (http_code(caught.value)[0], is_transient(caught.value), len(server.asked)) == (416, False, 2)


@pytest.mark.parametrize("said", [{}, {"Content-Range": "bytes 0-8/10"}])
def test_another_range_than_was_asked_for_is_no_answer(said: dict[str, str], server: Server) -> None:
    holds(server)
    server.headers = said
    with pytest.raises(Garbled, match=r"lake/data/key: asked for bytes=1-9, and the answer says") as caught:
        ObjectStorage("az://lake/data").get("key", 1, 9)
    assert is_transient(caught.value)


def test_an_answer_that_is_no_use_gives_its_connection_back(server: Server) -> None:
    holds(server, bytes(2**22))
    server.headers = {}
    storage = ObjectStorage("az://lake/data")
    storage.files.service_client._pipeline._transport.session.connector._limit = 1  # of 100 it takes longer
    caught: list[BaseException] = []

    def read() -> None:
        for _ in range(3):
            try:
                storage.get("key", 1, 9)
            except Garbled as error:
                caught.append(error)

    thread = threading.Thread(target=read, daemon=True)  # who waits for a connection waits for ever
    thread.start()
    thread.join(60)
    assert len(caught) == 3


def test_who_sends_nothing_is_not_waited_for(
    cloud: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "TIMEOUT_S", 0.5)
    end = threading.Event()
    server.answer = lambda *_: (200, BODY if end.wait(60) else b"")
    for name, ask in asks(cloud).items():
        with pytest.raises(Exception, match=r"^") as caught:  # some say nothing
            ask()
        assert isinstance(caught.value, Unavailable) or is_transient(caught.value), name
    end.set()


def test_azure_says_in_one_answer_what_is_there_and_of_what_version(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts(monkeypatch, 1)
    holds(server)
    store = ObjectStore("az")
    for version in ("", "e1", "1795305600.0"):  # a time is nothing to compare an etag with
        assert store.read("az://lake/key", 1, 9, version) == BODY
    with pytest.raises(BadSample, match="az://lake/key was written to after it was listed"):
        store.read("az://lake/key", 1, 9, "e0")
    assert len(server.asked) == 4


def test_no_token_for_now_is_no_refusal(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.auth import exceptions

    kinds: Any = exceptions  # which has no types
    attempts(monkeypatch, 2)
    store = ObjectStore("gs")

    def refuse(why: Any, cause: Any = None) -> Callable[[], None]:
        def refresh() -> None:
            from gcsfs.retry import HttpError

            why.__cause__ = cause
            raise HttpError({"code": 401, "message": "Invalid Credentials"}) from why

        return refresh

    for passing in (
        refuse(kinds.RefreshError("away"), kinds.TransportError("away")),
        refuse(kinds.RefreshError("busy", retryable=True)),
    ):
        monkeypatch.setattr(store.fs.credentials, "maybe_refresh", passing)
        with pytest.raises(Unavailable, match="no token: "):
            store.stat("gs://lake/in/0.png")
    monkeypatch.setattr(store.fs.credentials, "maybe_refresh", refuse(kinds.RefreshError("revoked")))
    with pytest.raises(PermissionError, match="401 Invalid Credentials"):
        store.stat("gs://lake/in/0.png")


def level(prefix: str, start: int, count: int) -> tuple[list[str], int | None]:
    """One page of names and folders below a prefix, and where the next begins."""
    below = [name.removeprefix(prefix) for name in NAMES if name.startswith(prefix)]
    names = sorted({prefix + one.partition("/")[0] + "/" * ("/" in one) for one in below})
    return names[start : start + count], start + count if start + count < len(names) else None


def google(path: str) -> bytes:
    query = {key: value for key, [value] in parse_qs(urlsplit(path).query).items()}
    names, after = level(query["prefix"], int(query.get("pageToken", 0)), int(query["maxResults"]))
    items = [
        {"bucket": "lake", "name": name, "size": "0" if name.endswith("/") else "3", "etag": f"e{name}"}
        for name in names
        if not name.endswith("/") or name == query["prefix"]
    ]
    folders = [name for name in names if name.endswith("/") and name != query["prefix"]]
    page = {"kind": "storage#objects", "items": items, "prefixes": folders}
    return json.dumps(page | ({"nextPageToken": str(after)} if after else {})).encode()


def azure(path: str) -> bytes:
    query = {key: value for key, [value] in parse_qs(urlsplit(path).query).items()}
    names, after = level(query["prefix"], int(query.get("marker", 0)), int(query.get("maxresults", 5000)))
    blobs = [
        f"<BlobPrefix><Name>{name}</Name></BlobPrefix>" if name.endswith("/") else
        f"<Blob><Name>{name}</Name><Properties><Last-Modified>{DAY}</Last-Modified><Etag>e{name}</Etag>"
        "<Content-Length>3</Content-Length><BlobType>BlockBlob</BlobType></Properties><Metadata/></Blob>"
        for name in names
    ]  # fmt: skip
    return (
        '<EnumerationResults ServiceEndpoint="http://x/" ContainerName="lake"><Delimiter>/</Delimiter>'
        f"<Prefix>{query['prefix']}</Prefix><Blobs>{''.join(blobs)}</Blobs>"
        f"<NextMarker>{after or ''}</NextMarker></EnumerationResults>"
    ).encode()


def test_a_listing_comes_page_by_page_and_only_a_page_that_failed_is_asked_for_again(
    cloud: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PAGE_SIZE", 2)
    attempts(monkeypatch, 2)
    page = google if cloud.startswith("gs") else azure
    seen: list[str] = []

    def once(_: str, path: str) -> tuple[int, bytes]:
        seen.append(path)
        return (503, b"") if seen.count(path) == 1 else (200, page(path))

    server.answer = once
    store = ObjectStore(cloud[:2])
    nodes = store.scan(f"{cloud}/in")
    first = next(nodes)
    assert len(server.asked) <= 4  # the first page may hold nothing but the folder's own object
    found = [first, *nodes]
    pages = Counter(server.asked)
    assert set(pages.values()) == {2}
    assert len(pages) > 2
    server.answer = lambda _, path: (200, page(path))
    assert [node.name for node in found if node.is_folder] == ["a", "c"]
    infos = [info for info in store.fs.ls("lake/in", detail=True) if info["name"].strip("/") != "lake/in"]
    assert sorted(found) == sorted(store._node(info) for info in infos)
    assert {(node.size, node.version) for node in found if node.name == "1.png"} == {(3, "ein/1.png")}


@pytest.mark.parametrize("held", [1, 2**14])
def test_an_empty_object_that_stands_for_a_folder_is_that_folder(
    held: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts(monkeypatch, 1)
    monkeypatch.setattr(sorting, "HELD", held)
    mark = azure("/?prefix=in/b").decode().partition("<Blobs>")[2].partition("</Blobs>")[0]
    mark = mark.replace("in/b.png", "in/a").replace("<Metadata/>", MARKED)

    def answer(_: str, path: str) -> tuple[int, bytes]:
        page = azure(path)
        return 200, page.replace(b"<Blobs>", b"<Blobs>" + mark.encode()) if b"<Prefix>in/</" in page else page

    server.answer = answer
    root = Folder(
        store=ObjectStore("az"),
        root="az://lake/in",
        modality=modalities.get("image"),
        expand=lambda *_: iter(()),
    )
    assert [entry.name for entry in looked_at(root.walk())] == [
        "0.png", "1.png", "a/x.png", "a/y.png", "b.png", "c/z.png", "d é.png",
    ]  # fmt: skip


def test_keys_that_no_folder_can_hold_are_told_of(
    cloud: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "NAMES", ["in/", "in//x.png", "in/b.png"])
    server.answer = lambda _, path: (200, (google if cloud.startswith("gs") else azure)(path))
    found = ObjectStore(cloud[:2]).scan(f"{cloud}/in")
    assert {node.name: node.refusal and node.refusal[0] for node in found} == {
        "(no name)": "bad-name", "b.png": None,
    }  # fmt: skip
