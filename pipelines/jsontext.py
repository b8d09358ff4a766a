"""Canonical JSON: one text for one value, so that it can be hashed and compared."""

import json
from typing import Any

import blake3

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# What the two of json make anew for every call, which takes longer than most of our texts.
_string = json.encoder.encode_basestring
_pieces: Any = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _CANONICAL.default, _string, None, ":", ",", True, False, False
)
_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def dumps(value: Any) -> str:
    """Sorted keys, no spaces, UTF-8. NaN and infinity are written as null: JSON has no word for them."""
    if type(value) is str:  # as nearly all are
        return _string(value)
    try:
        return "".join(_pieces(value, 0))
    except ValueError:
        return "".join(_pieces(_finite(value), 0))


def loads(text: str | bytes) -> Any:
    """Invert `dumps`."""
    if type(text) is str:
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            end = -1
        if end == len(text):
            return value
    return json.loads(text)  # spaces, or an error to be told


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
