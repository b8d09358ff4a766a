"""Files on a web server (loopback), and servers that must not be reached."""

import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from modalities.base import BadSample
from pipelines.sources import Entry, open_entry
from pipelines.sources.web import ALLOW_PRIVATE, _is_public

Lister = Callable[..., list[Entry]]


class Server:
    """What it serves, what it redirects, and who asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.hits: list[str] = []
        self.ranges = True
        self.url = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.hits.append(self.path)
            if target := state.redirects.get(self.path):
                self.send_response(302)
                self.send_header("Location", target)
                self.end_headers()
                return
            data = state.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            total = len(data)
            asked = self.headers.get("Range")
            if asked and state.ranges:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                if int(first) >= total:
                    self.send_error(416)
                    return
                data = data[int(first) : int(last) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", '"v1"')
            self.end_headers()
            with suppress(ConnectionError):  # a reader that has enough hangs up
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setenv(ALLOW_PRIVATE, "1")
        yield state
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_of_a_web_server(listing: Lister, server: Server, ranges: bool) -> None:
    server.ranges = ranges
    server.files["/d/a%20b.jpg"] = b"x" * 3000
    server.redirects["/moved.jpg"] = "/d/a%20b.jpg"
    (entry,) = listing(f"{server.url}/d/a%20b.jpg")
    assert (entry.name, entry.content.size, entry.content.version) == ("a b.jpg", 3000, "v1")
    assert open_entry(entry)[0].content == b"x" * 3000
    (moved,) = listing(f"{server.url}/moved.jpg")
    assert open_entry(moved)[0].content == b"x" * 3000


def test_a_tar_of_a_web_server_is_read_by_ranges(listing: Lister, server: Server) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(3):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 400_000
            tar.addfile(info, io.BytesIO(bytes([i]) * 400_000))
    server.files["/t.tar"] = out.getvalue()
    entries = listing(f"{server.url}/t.tar")
    assert [open_entry(entry)[0].content for entry in entries] == [bytes([i]) * 400_000 for i in range(3)]
    server.ranges = False
    with pytest.raises(BadSample, match=r"unreadable: .*does not serve ranges"):
        open_entry(entries[1])
    for entry in listing(f"{server.url}/t.tar"):
        with pytest.raises(BadSample, match=r"unreadable: .*does not serve ranges"):
            open_entry(entry)


def test_a_table_of_urls_asks_no_server_before_opening(
    listing: Lister, server: Server, tmp_path: Path
) -> None:
    server.files["/a.jpg"] = b"A"
    (tmp_path / "t.csv").write_text(f"uri,label\n{server.url}/a.jpg,cat\n{server.url}/gone.jpg,dog\n")
    there, gone = listing(tmp_path / "t.csv")
    assert server.hits == []
    assert there.content.size == -1
    assert (open_entry(there)[0].content, there.label) == (b"A", "cat")
    with pytest.raises(BadSample, match=r"unreadable: .*404"):
        open_entry(gone)


def test_budget_stops_an_endless_answer(listing: Lister, server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.files["/a.jpg"] = bytes(5_000_000)
    (tmp_path / "t.csv").write_text(f"uri\n{server.url}/a.jpg\n")
    (entry,) = listing(tmp_path / "t.csv")
    with pytest.raises(BadSample, match=r"too-large: .*more than 1,000 bytes"):
        open_entry(entry, max_bytes=1000)


def test_nothing_there_and_folders_are_errors(listing: Lister, server: Server) -> None:
    with pytest.raises(FileNotFoundError):
        listing(f"{server.url}/gone.jpg")
    server.files["/d/"] = b"index"
    with pytest.raises(ValueError, match="folder of a web server"):
        listing(f"{server.url}/d/")


def test_private_servers_are_never_asked(
    listing: Lister, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(ALLOW_PRIVATE)
    server.files["/a.jpg"] = b"A"
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"):
        with pytest.raises(ValueError, match=f"unsafe: .*{ALLOW_PRIVATE}=1"):
            listing(f"http://{host}:{port}/a.jpg")
    (tmp_path / "t.csv").write_text(f"uri\n{server.url}/a.jpg\nhttp://169.254.169.254/latest/meta-data\n")
    for entry in listing(tmp_path / "t.csv"):
        with pytest.raises(BadSample, match=r"unsafe: .*private network"):
            open_entry(entry)
    assert server.hits == []


def test_redirects_are_checked_and_end(listing: Lister, server: Server) -> None:
    server.redirects |= {"/loop.jpg": "/loop.jpg", "/file.jpg": "file:///etc/passwd", "/ftp.jpg": "ftp://h/x"}
    with pytest.raises(OSError, match="more than 5 redirects"):
        listing(f"{server.url}/loop.jpg")
    for name in ("file", "ftp"):
        with pytest.raises(BadSample, match="not a plain http"):
            listing(f"{server.url}/{name}.jpg")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *[
            (a, False)
            for a in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0")
        ],
        *[
            (a, False)
            for a in ("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1%eth0", "fd00::1", "::")
        ],
        *[(a, False) for a in ("::ffff:10.0.0.1", "2002:7f00:1::", "ff02::1", "64:ff9b::7f00:1")],
        *[(a, True) for a in ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8")],
    ],
)
def test_only_public_addresses_pass(address: str, public: bool) -> None:
    assert _is_public(address) is public
