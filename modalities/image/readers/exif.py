"""Which way is up and when it was taken, from an EXIF block; a broken block is no reason to refuse a picture.

Source: CIPA DC-008 (Exif 2.32), sec. 4.6.
"""

import re
from collections.abc import Mapping

from modalities.base import BadSample
from modalities.image.readers.ifd import Entry, Tiff
from modalities.image.readers.span import Span

_ORIENTATION, _DATE, _EXIF, _TAKEN = 0x0112, 0x0132, 0x8769, 0x9003
_STAMP = re.compile(rb"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")


def read(block: bytes) -> tuple[int, str | None]:
    """(orientation 1..8, timestamp) of a bare EXIF block, which is a little TIFF."""
    block = block.removeprefix(b"Exif\0\0")
    try:
        tiff = Tiff.open(Span(len(block), data=block))
        return facts(tiff, tiff.directory(tiff.first))
    except BadSample:
        return 1, None


def facts(tiff: Tiff, entries: Mapping[int, Entry]) -> tuple[int, str | None]:
    """The same of an open directory. The time it was taken wins over the time it was changed."""
    return _orientation(tiff, entries), _taken(tiff, entries) or _stamp(tiff, entries.get(_DATE))


def _orientation(tiff: Tiff, entries: Mapping[int, Entry]) -> int:
    try:
        value = tiff.numbers(entries[_ORIENTATION])[:1]
    except (BadSample, LookupError):
        return 1
    return value[0] if value and 1 <= value[0] <= 8 else 1


def _taken(tiff: Tiff, entries: Mapping[int, Entry]) -> str | None:
    try:
        (offset,) = tiff.numbers(entries[_EXIF])
        return _stamp(tiff, tiff.directory(offset).get(_TAKEN))
    except (BadSample, LookupError, ValueError):
        return None


def _stamp(tiff: Tiff, entry: Entry | None) -> str | None:
    try:
        found = _STAMP.match(tiff.blob(entry)) if entry and entry.count <= 64 else None
    except BadSample:
        return None
    if not found or found[1] == b"0000":
        return None
    year, month, day, hour, minute, second = (part.decode() for part in found.groups())
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}"
