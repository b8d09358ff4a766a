"""What an ICC profile is called and which colours it speaks of.

Source: ICC.1:2022, sec. 7.2, 10.15 (mluc); ICC.1:2001-04, sec. 6.5.17 (desc).
"""

MAX_BYTES = 1 << 24


def space(profile: bytes) -> str:
    """Colour space of the samples: "RGB", "GRAY", "CMYK", ...; empty when the profile is broken."""
    if profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def name(profile: bytes) -> str | None:
    """The profile's description, or None."""
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, 132 + 12 * min(count, 100), 12):
        if profile[at : at + 4] == b"desc":
            offset, size = (int.from_bytes(profile[at + k : at + k + 4], "big") for k in (4, 8))
            return _text(profile[offset : offset + min(size, 4096)]) or None
    return None


def _text(tag: bytes) -> str:
    if tag[:4] == b"desc":
        length = int.from_bytes(tag[8:12], "big")
        text = tag[12 : 12 + length].decode("latin-1")
    elif tag[:4] == b"mluc":
        length, offset = int.from_bytes(tag[20:24], "big"), int.from_bytes(tag[24:28], "big")
        text = tag[offset : offset + length].decode("utf-16-be", errors="replace")
    else:
        return ""
    return "".join(c for c in text.split("\0")[0] if c.isprintable()).strip()


def fitting(profile: bytes | None, channels: int) -> bytes | None:
    """The profile if it describes decoded samples of `channels` channels, else None.

    A CMYK profile says nothing about the RGB that came out of the conversion.
    """
    want = "GRAY" if channels == 1 else "RGB"
    return profile if profile and space(profile) == want else None
