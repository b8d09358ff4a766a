"""Which places a source may name, and the store behind each."""

import os
import re
from urllib.parse import unquote_to_bytes, urlsplit

from pipelines.sources.stores import LocalStore, Store

OBJECT_STORES = ("memory", "s3", "gs", "gcs", "az", "abfs", "abfss")
SCHEMES = ("file", "http", "https", *OBJECT_STORES)
_IPV6 = re.compile(r"(?<=://)\[[0-9A-Fa-f:.]+\]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least, so that C:\\ is no scheme


def scheme_of(uri: str) -> str:
    """The scheme in lower case, "" for a local path. ValueError for schemes that are not read."""
    found = _SCHEME.match(uri)
    if found is None:
        return ""
    if "::" in uri and "::" in _IPV6.sub("", uri):
        raise ValueError(f"{uri!r}: chained URLs (::) are not read; name the file itself")
    scheme = found[1].lower()
    if scheme not in SCHEMES:
        raise ValueError(
            f"{uri!r}: the scheme {scheme}: is not read; use a path or {', '.join(SCHEMES)} "
            "(a local path with a colon starts with ./)"
        )
    return scheme


def resolve(uri: str) -> str:
    """An absolute local path (links resolved), or the URL, checked against the schemes that are read."""
    if "\0" in uri:
        raise ValueError(f"{uri!r} has a NUL byte in it")
    scheme = scheme_of(uri)
    if scheme not in ("", "file"):
        if scheme in ("http", "https") and "@" in uri and urlsplit(uri).username is not None:
            raise ValueError(f"{urlsplit(uri).hostname}: a URL must not carry a password")
        return uri
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"{uri!r}: a file: URL has three slashes, file:///data/x.jpg")
        if parts.query or parts.fragment:
            raise ValueError(
                f"{uri!r}: a ? or # in a file: URL is written %3F or %23; or give the plain path"
            )
        uri = os.fsdecode(unquote_to_bytes(parts.path))
        if "\0" in uri:
            raise ValueError(f"{uri!r} has a NUL byte in it")
    return os.path.abspath(os.path.expanduser(uri))


def split_glob(uri: str) -> tuple[str, str | None]:
    """Split "/data/*/x.jpg" into ("/data", "*/x.jpg"); a path that is there as it stands is no glob."""
    if uri.startswith(("http:", "https:")) or not re.search(r"[*?\[]", uri):
        return uri, None
    if "://" not in uri and os.path.lexists(uri):
        return uri, None
    parts = uri.split("/")
    first = next(i for i, part in enumerate(parts) if re.search(r"[*?\[]", part))
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def open_store(uri: str, *, anonymous: bool = False) -> Store:
    """The store that reads `uri`, with what it may read below bound to `uri`."""
    scheme = scheme_of(uri)
    if scheme in ("", "file"):
        root = os.path.realpath(uri.removeprefix("file://"))
        return LocalStore(root=root if os.path.isdir(root) else os.path.dirname(root))
    if scheme in ("http", "https"):
        from pipelines.sources.web import WebStore

        return WebStore()
    from pipelines.sources.objects import ObjectStore

    return ObjectStore(scheme, anonymous=anonymous)
