"""One raw object of a source, listed but not opened, and the places its bytes lie."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pipelines.jsontext import dumps, loads

UNKNOWN_SIZE = -1  # a URL in a table: asking every server first would cost a round trip a row
_NOTHING: Final[Mapping[str, "Part"]] = MappingProxyType({})


class Part(NamedTuple):  # and not a dataclass: millions are made, and a tuple is made in half the time
    """Bytes somewhere: a whole object, or a range of one (a member of a tar).

    `uri` is an absolute local path, a URL, `synth:<modality>:<seed>`, or "" where there is nothing to read.
    `version` (etag, or the times of a local file) notices changes cheaply; it never enters a content digest.
    """

    uri: str
    size: int
    offset: int = 0
    ranged: bool = False
    version: str = ""

    def to_json(self) -> str:
        """As `to_list`, written out."""
        if self.ranged:
            return f"[{dumps(self.uri)},{self.size},{dumps(self.version)},{self.offset}]"
        version = f",{dumps(self.version)}" if self.version else ""
        return f"[{dumps(self.uri)},{self.size}{version}]"

    def to_list(self) -> list[Any]:
        """As JSON, without the trailing defaults."""
        if self.ranged:
            return [self.uri, self.size, self.version, self.offset]
        return [self.uri, self.size, self.version] if self.version else [self.uri, self.size]

    @classmethod
    def from_list(cls, values: list[Any]) -> "Part":
        version = values[2] if len(values) > 2 else ""
        offset = values[3] if len(values) > 3 else 0
        return cls(values[0], values[1], offset, len(values) > 3, version)


class Entry(NamedTuple):
    """One raw object. Small and JSON-able, so that millions stream through Parquet.

    name: unique in its source, relative to the root, forward slashes, NFC. A folder object ends in "/"; a
        sample of a tar is `<tar>/<key>.<ext>`.
    content: the primary file (size 0 for a folder object).
    companions: names relative to the object's own folder, as in `Raw.companions`.
    sidecars: extension -> part, what rides along: cls, txt, json, seg.png; in a tar every other member.
    label, caption: from a folder name or a table column. A `cls` sidecar is read when the entry is opened.
    group: the scene; entries of one group must share a split.
    refusal: (reason, detail) of an object that must not be opened; `open_entry` raises it as BadSample.
    """

    name: str
    content: Part
    companions: Mapping[str, Part] = _NOTHING
    sidecars: Mapping[str, Part] = _NOTHING
    label: str | None = None
    caption: str | None = None
    group: str = ""
    refusal: tuple[str, str] | None = None

    def to_json(self) -> str:
        """One compact line, the same for equal entries."""
        if not (self.companions or self.sidecars or self.caption is not None or self.refusal is not None):
            label = "" if self.label is None else f'"label":{dumps(self.label)},'
            return (
                f'{{"content":{self.content.to_json()},"group":{dumps(self.group)},{label}'
                f'"name":{dumps(self.name)}}}'
            )
        record: dict[str, Any] = {"name": self.name, "content": self.content.to_list(), "group": self.group}
        for what in ("companions", "sidecars"):
            if parts := getattr(self, what):
                record[what] = {name: part.to_list() for name, part in parts.items()}
        for what in ("label", "caption", "refusal"):
            if (value := getattr(self, what)) is not None:
                record[what] = value
        return dumps(record)

    @classmethod
    def from_json(cls, line: str) -> "Entry":
        record = loads(line)
        content = Part.from_list(record["content"])
        if len(record) == 3:  # a file that stands for itself, without a label
            return cls(record["name"], content, group=record["group"])
        record["content"] = content
        for what in ("companions", "sidecars"):
            if what in record:
                record[what] = {name: Part.from_list(part) for name, part in record[what].items()}
        if "refusal" in record:
            record["refusal"] = tuple(record["refusal"])
        return cls(**record)

    @property
    def num_bytes(self) -> int:
        """Bytes of everything that belongs to it, as far as known before opening."""
        if not (self.companions or self.sidecars):
            return max(self.content.size, 0)
        parts = (self.content, *self.companions.values(), *self.sidecars.values())
        return sum(max(part.size, 0) for part in parts)


def refused(name: str, reason: str, detail: str, *, uri: str = "", size: int = 0) -> Entry:
    """An object that is counted and never opened."""
    return Entry(name=name, content=Part(uri=uri, size=size), group=name, refusal=(reason, detail))
