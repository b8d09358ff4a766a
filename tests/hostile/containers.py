"""Hostile tars, tables and folders, whatever lies in them."""

import gzip
import io
import os
import socket
import tarfile
from collections.abc import Callable
from typing import Any

from hostile.case import Case, Place, pickled, stored
from hostile.images import jpeg

Fill = Callable[[tarfile.TarFile, Place], None]


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def tar(name: str, about: str, reason: str, fill: Fill, **options: Any) -> Case:
    def content(place: Place) -> bytes:
        with tarfile.open(fileobj=(out := io.BytesIO()), mode="w", **options) as archive:
            fill(archive, place)
        return out.getvalue()

    return Case(
        name=f"tar-{name}", about=about, modality="image", reason=reason, library="webdataset",
        make=stored("x.tar", content), file="x.tar",
    )  # fmt: skip


def raw_tar(name: str, about: str, reason: str, content: bytes, file: str = "x.tar") -> Case:
    return Case(
        name=f"tar-{name}", about=about, modality="image", reason=reason, library="webdataset",
        make=stored(file, content), file=file,
    )  # fmt: skip


def member(name: str, **fields: Any) -> Fill:
    return lambda archive, place: add(archive, name, b"" if "type" in fields else jpeg(), **fields)


def payload(extension: str) -> Fill:
    def fill(archive: tarfile.TarFile, place: Place) -> None:
        add(archive, "a.jpg", jpeg())
        add(archive, f"a.{extension}", pickled(place))

    return fill


def twice(archive: tarfile.TarFile, place: Place) -> None:
    add(archive, "a.jpg", jpeg())
    add(archive, "./a.jpg", jpeg())


def linked_class(archive: tarfile.TarFile, place: Place) -> None:
    add(archive, "a.jpg", jpeg())
    add(archive, "a.cls", type=tarfile.SYMTYPE, linkname=str(place.canary))


def linked_and_read(archive: tarfile.TarFile, place: Place) -> None:
    """A link to a folder outside, then a member through it: what extraction falls for."""
    add(archive, "d", type=tarfile.SYMTYPE, linkname=str(place.outside))
    add(archive, "d/../../up.jpg", jpeg())


def one(**fields: Any) -> bytes:
    info = tarfile.TarInfo("a.jpg")
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def two_archives() -> bytes:
    parts = []
    for name in ("a.jpg", "b.jpg"):
        with tarfile.open(fileobj=(out := io.BytesIO()), mode="w") as archive:
            add(archive, name, jpeg())
        parts.append(out.getvalue())
    return b"".join(parts)


def _tars() -> list[Case]:
    kinds = ("pyd", "pkl", "pickle", "pth", "pt")
    sparse = {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.name": "a.jpg"}}
    return [
        *(tar(f"pickle-{kind}", f"a .{kind} beside a picture, which readers unpickle", "unsafe",
             payload(kind))
          for kind in kinds),
        tar("up", "a member called ../a.jpg", "unsafe", member("../a.jpg")),
        tar("up-inside", "a member called a/../../b.jpg", "unsafe", member("a/../../b.jpg")),
        tar("absolute", "a member called /a.jpg", "unsafe", member("/a.jpg")),
        tar("backslash", "a member called win\\..\\a.jpg", "unsafe", member("win\\..\\a.jpg")),
        tar("bell", "a control character in a name", "unsafe", member("a\ab.jpg")),
        tar("long-name", "a name of 5000 letters", "unsafe", member("x" * 5000 + ".jpg")),
        tar("link", "a symbolic link to a local file", "unsafe",
            lambda archive, place: add(archive, "a.jpg", type=tarfile.SYMTYPE, linkname=str(place.canary))),
        tar("hard-link", "a hard link to a local file", "unsafe",
            lambda archive, place: add(archive, "a.jpg", type=tarfile.LNKTYPE, linkname=str(place.canary))),
        tar("link-through", "a link to a folder, and a member through it", "unsafe", linked_and_read),
        tar("fifo", "a pipe", "unsafe", member("a.jpg", type=tarfile.FIFOTYPE)),
        tar("device", "a character device", "unsafe", member("a.jpg",
             type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
        tar("block-device", "a disk", "unsafe", member("a.jpg", type=tarfile.BLKTYPE, devmajor=8)),
        tar("twice", "two members of one name", "unsafe", twice),
        tar("linked-class", "a picture whose class is a link", "unsafe", linked_class),
        tar("sparse", "a sparse member", "unsafe", lambda archive, place: add(archive, "a.jpg", **sparse),
            format=tarfile.PAX_FORMAT),
        raw_tar("2-60", "a member of 2^60 bytes", "truncated", one(size=2**60) + bytes(2048)),
        raw_tar("pax-2-60", "an extended header of 2^60 bytes", "damaged",
                one(size=2**60, type=tarfile.XHDTYPE) + bytes(2048)),
        raw_tar("name-2-60", "a name of 2^60 bytes", "damaged",
                one(size=2**60, type=tarfile.GNUTYPE_LONGNAME) + bytes(2048)),
        raw_tar("noise", "no tar at all", "damaged", b"not a tar at all" * 99),
        raw_tar("empty", "no bytes", "truncated", b""),
        raw_tar("gzip-inside", "a gzip called .tar", "damaged", gzip.compress(bytes(10**7), mtime=0)),
        raw_tar("gzip", "10 MB of zeros in 10 kB", "unsupported", gzip.compress(bytes(10**7), mtime=0),
                "x.tar.gz"),
    ]  # fmt: skip


def table(
    name: str,
    about: str,
    uri: str | Callable[[Place], str],
    reason: str = "unsafe",
    library: str = "fsspec",
) -> Case:
    def make(place: Place) -> None:
        where = uri(place) if callable(uri) else uri
        stored("t.csv", f'uri,label\ngood.jpg,a\n"{where}",b\n'.encode())(place)

    return Case(
        name=f"table-{name}", about=about, modality="image", reason=reason, library=library, make=make,
        file="t.csv", source="t.csv",
    )  # fmt: skip


def _tables() -> list[Case]:
    return [
        table("pipe", "pipe:touch marker", lambda place: f"pipe:touch {place.marker}",
             library="webdataset.gopen"),
        table("web", "http:// on this machine", lambda place: f"{place.url}/a.jpg"),
        table("web-name", "http:// on localhost", lambda place: place.url.replace("127.0.0.1",
             "localhost") + "/a.jpg"),
        table("web-short", "http:// on 127.1", lambda place: place.url.replace("127.0.0.1",
             "127.1") + "/a.jpg"),
        table("web-number", "http:// on 2130706433", lambda place: place.url.replace("127.0.0.1",
             "2130706433") + "/a.jpg"),
        table("web-ipv6", "http:// on ::1", lambda place: place.url.replace("127.0.0.1", "[::1]") + "/a.jpg"),
        table("web-mapped", "http:// on ::ffff:127.0.0.1",
              lambda place: place.url.replace("127.0.0.1", "[::ffff:127.0.0.1]") + "/a.jpg"),
        table("web-metadata", "http:// on 169.254.169.254", "http://169.254.169.254/latest/meta-data/a.jpg"),
        table("web-password", "a URL with a password", lambda place: place.url.replace("//",
             "//me:secret@") + "/a.jpg"),
        table("chained", "zip://a.jpg::file://...", lambda place: f"zip://a.jpg::file://{place.canary}"),
        table("cached", "simplecache::http://...", lambda place: f"simplecache::{place.url}/a.jpg"),
        table("reference", "reference::...", lambda place: f"reference://a.jpg::{place.url}/r.json"),
        table("github", "github://", "github://owner:repository@main/a.jpg"),
        table("ssh", "ssh://", "ssh://host/a.jpg"),
        table("hdfs", "hdfs://", "hdfs://host/a.jpg"),
        table("data", "data:", "data:image/png;base64,AAAA"),
        table("javascript", "javascript:", "javascript:alert(1)"),
        table("file-host", "file:// on another host", "file://host/share/a.jpg"),
        table("nowhere", "a file that is not there", "/none/of/these/a.jpg", "unreadable"),
        table("device", "/dev/zero", "/dev/zero"),
        table("no-uri", "a row without a URI", "", "unreadable"),
    ]  # fmt: skip


def node(name: str, about: str, reason: str, make: Callable[[Place], None], file: str = "x.jpg") -> Case:
    return Case(
        name=f"folder-{name}",
        about=about,
        modality="image",
        reason=reason,
        library="open",
        make=make,
        file=file,
    )


def _socket(place: Place) -> None:
    here = os.getcwd()
    os.chdir(place.root)  # a socket's path has at most 107 letters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x.jpg")
    finally:
        os.chdir(here)


def _deep(place: Place) -> None:
    path = place.root
    for _ in range(70):
        path /= "d"
    path.mkdir(parents=True)
    (path / "x.jpg").write_bytes(jpeg())


def _linked_sidecar(place: Place) -> None:
    (place.root / "x.jpg").write_bytes(jpeg())
    (place.root / "x.txt").symlink_to(place.canary)


def _folders() -> list[Case]:
    def link(target: Callable[[Place], Any], name: str = "x.jpg") -> Callable[[Place], None]:
        return lambda place: (place.root / name).symlink_to(target(place))

    return [
        node("link", "a link to a file outside", "unsafe", link(lambda place: place.canary)),
        node("link-up", "a link to the folder above", "unsafe", link(lambda place: place.root.parent, "up"),
             "up/outside/canary"),
        node("link-loop", "a link to the folder itself", "unsafe", link(lambda place: place.root, "loop"),
             "loop/good.jpg"),
        node("link-to-itself", "a link to itself", "unreadable", link(lambda place: place.root / "x.jpg")),
        node("link-to-nothing", "a link to nothing", "unreadable",
             link(lambda place: place.root / "none.jpg")),
        node("link-to-proc", "a link to the environment of whoever reads", "unsafe",
             link(lambda place: "/proc/self/environ")),
        node("link-to-zeros", "a link to /dev/zero", "unsafe", link(lambda place: "/dev/zero")),
        node("pipe", "a pipe, which nobody writes to", "unsafe",
             lambda place: os.mkfifo(place.root / "x.jpg")),
        node("socket", "a socket", "unsafe", _socket),
        node("deep", "a file below 70 folders", "unsafe", _deep, "/".join(["d"] * 70) + "/x.jpg"),
        node("linked-caption", "a caption that is a link to a file outside", "unsafe",
             _linked_sidecar, "x.txt"),
        node("pickle", "a pickle called .pkl", "unknown-format", stored("x.pkl", pickled), "x.pkl"),
    ]  # fmt: skip


def cases() -> list[Case]:
    return [*_tars(), *_tables(), *_folders()]
