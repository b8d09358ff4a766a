"""From an entry to the bytes a modality works on."""

from collections.abc import Mapping
from pathlib import Path

import modalities
from modalities.base import BadSample, Raw
from pipelines.answers import STORE_FAILED
from pipelines.sources.entry import Entry, Part
from pipelines.sources.places import open_store
from pipelines.sources.samples import arrange
from pipelines.sources.stores import Store, is_local, local_path, open_regular, read_regular

IN_PLACE_BYTES = 32 * 2**20  # a whole local file above this is read where it lies
MAX_BYTES = 2**30  # of one entry, held in memory


def open_entry(
    entry: Entry, *, max_bytes: int = MAX_BYTES, anonymous: bool = False, as_listed: bool = False
) -> tuple[Raw, dict[str, bytes]]:
    """The object, and the bytes of its sidecars by extension.

    `as_listed`: local files must still be of the time that the listing saw, and what lies in an object store
    of its etag, else they are "changed".

    Raises:
        BadSample: unreadable (gone, cut, refused by the storage), too-large (more than `max_bytes` to hold in
            memory; local files above IN_PLACE_BYTES are not held), unsafe, truncated, bad-sidecar (a class
            file without a class) or whatever the listing found.
        Refused, Unavailable: an object store is of no use now, for this entry and for others.
    """
    if entry.refusal is not None:
        raise BadSample(*entry.refusal)
    if entry.content.uri.startswith("synth:"):
        return _open_synth(entry)
    reader = _Reader(max_bytes, anonymous=anonymous, as_listed=as_listed)
    content: bytes | Path = b"" if entry.name.endswith("/") else reader.open(entry.content)
    if not (entry.companions or entry.sidecars):
        return Raw(name=entry.name, content=content), {}
    companions = {name: reader.open(part) for name, part in entry.companions.items()}
    sidecars = {extension: reader.read(part) for extension, part in entry.sidecars.items()}
    if "cls" in sidecars and not sidecars["cls"].strip():
        raise BadSample("bad-sidecar", "the .cls file beside it is empty; write the class, or take it away")
    return Raw(name=entry.name, content=content, companions=companions), sidecars


class _Reader:
    """Reads the parts of one entry within one budget of memory."""

    def __init__(self, max_bytes: int, *, anonymous: bool, as_listed: bool) -> None:
        self.budget = self.max_bytes = max_bytes
        self.anonymous, self.as_listed = anonymous, as_listed
        self._stores: dict[str, Store] = {}

    def open(self, part: Part) -> bytes | Path:
        if is_local(part.uri) and not part.ranged and part.size > IN_PLACE_BYTES:
            with open_regular(part.uri, self._version(part)):
                return local_path(part.uri)
        return self.read(part)

    def read(self, part: Part) -> bytes:
        if part.size > self.budget:
            self._refuse(part, f"{part.size:,} bytes")
        want = part.size if part.ranged else self.budget + 1  # one more than may come, to notice what grew
        if part.size >= 0 and not part.ranged:
            want = part.size + 1
        try:
            if is_local(part.uri):
                data = read_regular(part.uri, part.offset, want, self._version(part))
            else:
                data = self._store(part.uri).read(part.uri, part.offset, want, self._version(part))
        except (BadSample, *STORE_FAILED):
            raise
        except (OSError, ValueError) as error:
            raise BadSample("unreadable", f"{part.uri}: {error}") from error
        if len(data) > self.budget:
            self._refuse(part, f"more than {self.budget:,} bytes")
        if part.size >= 0 and len(data) != part.size:
            came = "more" if len(data) > part.size else f"{len(data):,}"
            raise BadSample(
                "unreadable", f"{part.uri}: listed with {part.size:,} bytes, {came} came; list it again"
            )
        self.budget -= len(data)
        return data

    def _version(self, part: Part) -> str:
        return part.version if self.as_listed else ""

    def _store(self, uri: str) -> Store:
        scheme = uri.partition("://")[0]
        if scheme not in self._stores:
            self._stores[scheme] = open_store(f"{scheme}://", anonymous=self.anonymous)
        return self._stores[scheme]

    def _refuse(self, part: Part, came: str) -> None:
        raise BadSample(
            "too-large", f"{part.uri}: {came}, and one entry may hold {self.max_bytes:,} in memory"
        )


def _open_synth(entry: Entry) -> tuple[Raw, dict[str, bytes]]:
    _, name, seed = entry.content.uri.split(":")
    modality = modalities.get(name)
    files: Mapping[str, bytes] = modality.synth(int(seed))
    sample = arrange(entry.name, files, modality)
    companions = {inner: files[extension] for inner, extension in sample.companions.items()}
    raw = Raw(name=sample.name, content=files[sample.primary], companions=companions)
    return raw, {extension: files[extension] for extension in sample.sidecars}
