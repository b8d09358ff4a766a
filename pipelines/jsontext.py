"""Canonical JSON: one text for one value, so that it can be hashed and compared."""

import json
from typing import Any

import blake3

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def dumps(value: Any) -> str:
    """Sorted keys, no spaces, UTF-8. NaN and infinity are written as null: JSON has no word for them."""
    if type(value) is str:  # as nearly all are
        return json.encoder.encode_basestring(value)
    try:
        return _CANONICAL.encode(value)
    except ValueError:
        return _CANONICAL.encode(_finite(value))


def loads(text: str | bytes) -> Any:
    """Invert `dumps`."""
    return json.loads(text)


def digest(value: Any) -> str:
    """BLAKE3 of the canonical text, in hex."""
    text: str = blake3.blake3(dumps(value).encode()).hexdigest()
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
