"""Records that carry their own checksum: a flipped bit anywhere in them is noticed by the reader."""

from typing import Any

from pipelines.jsontext import digest, dumps, loads


class Corrupt(RuntimeError):
    """Stored bytes are not what their checksum, the manifest or the index says they are."""


def seal(record: dict[str, Any]) -> bytes:
    """Canonical JSON of `record` with its own BLAKE3 in the field `seal`."""
    return dumps({**record, "seal": digest(record)}).encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Invert `seal`; Corrupt when a single bit is not as it was written."""
    try:
        record = loads(content)
        record.pop("seal")
        intact = seal(record) == content  # the text, not only its meaning: no byte is left unchecked
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise Corrupt(f"no sealed record ({type(e).__name__}: {e})") from e
    if not intact:
        raise Corrupt("its content is not what its seal says")
    found: dict[str, Any] = record
    return found
