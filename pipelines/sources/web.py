"""Files on web servers, read so that a URL in somebody's table cannot reach into our own network.

The host is resolved once, every address it has must be public, and the connection goes to the address that
was checked, so that the answer cannot change in between; each redirect is checked again. No proxy, no
credentials.
"""

import http.client
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote, urljoin, urlsplit

from modalities.base import BadSample
from pipelines.sources.stores import Mixed, Node, clean_name

ALLOW_PRIVATE = "RAYLOOM_ALLOW_PRIVATE_HOSTS"  # "1": servers inside our network may be read
TIMEOUT_S = 30
MAX_REDIRECTS = 5
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # the IPv4 address is in the last 32 bits


class WebStore:
    """Single files by http and https; a web server has no folders."""

    has_folders = False

    def stat(self, uri: str) -> Node | None:
        with _get(uri, "bytes=0-0") as answer:
            if answer.status in (404, 410):
                return None
            _check(answer, uri)
            total = re.fullmatch(r"bytes [^/]*/(\d+)", answer.getheader("Content-Range", ""))
            size = int(total[1]) if total else int(answer.getheader("Content-Length") or -1)
            version = answer.getheader("ETag") or answer.getheader("Last-Modified") or ""
        name = clean_name(unquote(urlsplit(uri).path).rpartition("/")[2])
        if not name:
            raise ValueError(
                f"{uri}: a folder of a web server cannot be listed; name a file, a tar or a table"
            )
        return Node(name=name, uri=uri, size=size, version=version.strip('"'))

    def scan(self, folder: str) -> Iterator[Node]:
        raise OSError(f"{folder}: a folder of a web server cannot be listed")

    def names(self, folder: str) -> Iterator[list[str]]:
        raise Mixed

    def read(self, uri: str, offset: int, size: int, version: str = "") -> bytes:
        # No `version` is known here: what is named by URL has no listing.
        with _get(uri, f"bytes={offset}-{offset + size - 1}") as answer:
            if answer.status == 416:  # nothing at that offset: the object ends before it
                return b""
            _check(answer, uri)
            if answer.status != 206 and offset:
                raise OSError(f"{uri}: the server does not serve ranges, so members of a tar cannot be read")
            chunks = []
            while size > 0 and (chunk := answer.read(min(size, 2**20))):
                chunks.append(chunk)
                size -= len(chunk)
            return b"".join(chunks)


@contextmanager
def _get(uri: str, ranged: str) -> Iterator[http.client.HTTPResponse]:
    for _ in range(MAX_REDIRECTS + 1):
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise BadSample("unsafe", f"{parts.scheme}://{parts.hostname}: not a plain http or https address")
        connection = _connect(parts.scheme, parts.hostname, parts.port)
        try:
            target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
                f"?{parts.query}" if parts.query else ""
            )
            headers = {"Range": ranged, "Accept-Encoding": "identity", "User-Agent": "rayloom"}
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            location = answer.getheader("Location")
            if answer.status not in (301, 302, 303, 307, 308) or location is None:
                yield answer
                return
            if parts.scheme == "https" and not urljoin(uri, location).startswith("https:"):
                raise BadSample("unsafe", f"{uri} redirects from https to {urlsplit(location).scheme}")
            uri = urljoin(uri, location)
        except http.client.HTTPException as error:
            raise OSError(f"{uri}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
    raise OSError(f"more than {MAX_REDIRECTS} redirects, the last to {uri}")


def _connect(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    """A connection to an address of `host` that was checked, not to whatever the name says next time."""
    port = port or (443 if scheme == "https" else 80)
    address = public_address(host, port)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    connection.sock = socket.create_connection((address, port), timeout=TIMEOUT_S)
    if scheme == "https":
        context = ssl.create_default_context()
        connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
    return connection


def public_address(host: str, port: int) -> str:
    """An address of the host. BadSample if any of them is private, loopback, link-local or reserved."""
    found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    if os.environ.get(ALLOW_PRIVATE) != "1":
        for address in found:
            if not _is_public(address):
                raise BadSample(
                    "unsafe",
                    f"{host} is {address}, inside a private network; set {ALLOW_PRIVATE}=1 to read it",
                )
    return found[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        else:
            ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast


def _check(answer: http.client.HTTPResponse, uri: str) -> None:
    if answer.status not in (200, 206):
        raise OSError(f"{uri}: the server answers {answer.status} {answer.reason}")
    if answer.getheader("Content-Encoding", "identity") != "identity":
        raise OSError(f"{uri}: the server sends {answer.getheader('Content-Encoding')} though asked not to")
