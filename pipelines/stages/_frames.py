"""How a worker and its sandbox talk: a length, JSON text, then bytes. Nothing in it can name code to run."""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from modalities.base import MAX_DECODED_BYTES

HEADER = struct.Struct("<IQ")  # bytes of JSON, bytes of all blobs
MAX_JSON_BYTES = 64 * 2**20  # a cut may plan a hundred thousand pieces
JOINED_BYTES = 8 * 2**20  # one copy costs less than many calls
MAX_BLOB_BYTES = 2 * MAX_DECODED_BYTES  # the files of one built sample

Receive = Callable[[int], bytes]  # exactly so many bytes, or it raises


class Garbled(ValueError):
    """What came is not a frame, or is larger than a frame may be."""


def frame(message: dict[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """The parts to send, in order; small ones in one. `blobs` come back in the same order."""
    sizes = [len(blob) for blob in blobs]
    text = json.dumps({**message, "sizes": sizes}).encode()  # ASCII; floats come back as they were, NaN too
    parts = [HEADER.pack(len(text), sum(sizes)), text, *blobs]
    return [b"".join(parts)] if sum(sizes) < JOINED_BYTES else parts


def read_frame(receive: Receive, *, bounded: bool = True) -> tuple[dict[str, Any], list[bytes]]:
    """Message and blobs. `bounded` refuses what no honest sandbox sends, before memory is taken for it."""
    text_bytes, blob_bytes = HEADER.unpack(receive(HEADER.size))
    if bounded and (text_bytes > MAX_JSON_BYTES or blob_bytes > MAX_BLOB_BYTES):
        raise Garbled(
            f"want at most {MAX_JSON_BYTES:,} bytes of text and {MAX_BLOB_BYTES:,} of files, "
            f"got {text_bytes:,} and {blob_bytes:,}"
        )
    try:
        message = json.loads(text := receive(text_bytes))
        if b"\\ud" in text.lower():  # a half of a surrogate pair is no text, and cannot be stored
            json.dumps(message, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        raise Garbled(f"want JSON text: {e}") from e
    sizes = message.pop("sizes", None) if isinstance(message, dict) else None
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
        raise Garbled("want an object that lists the sizes of its blobs")
    if sum(sizes) != blob_bytes:
        raise Garbled(f"want blobs of {blob_bytes:,} bytes, got a list of {sum(sizes):,}")
    return message, [receive(size) for size in sizes]
