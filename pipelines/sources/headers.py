"""Headers of a tar, walked without reading the data: USTAR, PAX, GNU and V7, each checksum verified.

Python's tarfile takes a cut header for the end of the archive, and so loses what follows without a word; here
only the zero blocks that end every archive count as its end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 512
WINDOW = 2**18  # read ahead: headers of small members lie close together
MAX_EXTENDED = 2**20  # one PAX or long-name record
KINDS = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"5": "folder",
    b"6": "pipe",
    b"S": "sparse file",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member; `name` may carry surrogates for bytes that are not UTF-8."""

    name: str
    kind: str
    offset: int  # of its data
    size: int


@dataclass(frozen=True)
class Damage:
    """Where the archive stops making sense.

    `member` is whose data are cut, if its header still was whole; `whole` says that the archive itself is
    complete and something lies behind it.
    """

    reason: str
    detail: str
    offset: int
    member: str = ""
    whole: bool = False


class _Damaged(Exception):
    def __init__(self, reason: str, detail: str, member: str = "") -> None:
        super().__init__(reason, detail, member)
        self.reason, self.detail, self.member = reason, detail, member


def read_members(read: Callable[[int, int], bytes], size: int) -> Iterator[Member | Damage]:
    """Members in the order they lie, folders left out; a Damage, if there is one, comes last.

    read(offset, size): bytes of the archive, fewer only at its end. `size`: of the archive.
    """
    window = _Window(read, size)
    offset = 0
    overall: dict[str, str] = {}
    while True:
        start = offset
        try:
            member, offset = _next_member(window, offset, size, overall)
            if member is None:
                _check_tail(window, offset, size)
                return
        except _Damaged as damage:
            yield Damage(damage.reason, damage.detail, start, damage.member, damage.reason == "trailing")
            return
        if member.kind != "folder":
            yield member


def _next_member(
    window: "_Window", offset: int, size: int, overall: dict[str, str]
) -> tuple[Member | None, int]:
    """The member whose first header is at `offset`, and where the next begins; None at the end marker."""
    own: dict[str, str] = {}
    long_name = None
    while True:
        header = window.read(offset, BLOCK)
        if len(header) < BLOCK:
            what = "the end marker is missing" if not header else "a header is cut"
            raise _Damaged("truncated", what)
        if not any(header):
            if own or long_name is not None:
                raise _Damaged("damaged", "the archive ends between a long name and its member")
            return None, offset + BLOCK
        _verify(header)
        kind, length = header[156:157], _number(header[124:136], "size")
        if kind in (b"x", b"g", b"L", b"K"):
            record = _extended(window, offset + BLOCK, length)
            if kind == b"L":
                long_name = record.rstrip(b"\0")
            elif kind != b"K":
                (own if kind == b"x" else overall).update(_pax(record))
            offset += BLOCK + _padded(length)
            continue
        return _member(header, offset + BLOCK, size, long_name, overall | own)


def _member(
    header: bytes, data: int, size: int, long_name: bytes | None, pax: dict[str, str]
) -> tuple[Member, int]:
    kind = KINDS.get(header[156:157], f"member of unknown type {header[156:157]!r}")
    length = _number(header[124:136], "size")
    if "size" in pax:
        if not pax["size"].isascii() or not pax["size"].isdigit():
            raise _Damaged("damaged", f"a size of {pax['size'][:20]!r}")
        length = int(pax["size"])
    name = pax.get("path") or _text(long_name if long_name is not None else _ustar_name(header))
    if any(key.startswith("GNU.sparse") for key in pax):
        kind = "sparse file"
        name = pax.get("GNU.sparse.name", name)
    if kind == "file" and name.endswith("/"):
        kind = "folder"  # how V7 archives mark one
    if kind in ("hard link", "symbolic link", "character device", "block device", "folder", "pipe"):
        length = 0
    end = data + _padded(length)
    if data + length > size:
        raise _Damaged(
            "truncated", f"{name[:200]!r} is cut, {max(size - data, 0):,} of {length:,} bytes", name
        )
    return Member(name, kind, data, length), end


def _check_tail(window: "_Window", offset: int, size: int) -> None:
    """After the end marker there are zeros, or something that readers leave unread."""
    while offset < size:
        chunk = window.read(offset, WINDOW)
        if not chunk:
            return
        if any(chunk):
            raise _Damaged(
                "trailing", f"{size - offset:,} bytes behind the end marker; concatenated tars are not read"
            )
        offset += len(chunk)


def _verify(header: bytes) -> None:
    rest = header[:148] + b" " * 8 + header[156:]
    stated, came = _number(header[148:156], "checksum"), sum(rest)
    if stated != came and stated != came - 256 * sum(byte > 127 for byte in rest):  # historic: signed chars
        hint = ""
        if header.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")):
            hint = "; it is a compressed file, decompress it first"
        raise _Damaged("damaged", f"the checksum of a header is wrong{hint}")


def _number(field: bytes, what: str) -> int:
    """Octal, or base 256 where the first bit is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.replace(b"\0", b" ").strip()
    if not text:
        return 0
    if any(byte not in b"01234567" for byte in text):
        raise _Damaged("damaged", f"the {what} of a header is no number")
    return int(text, 8)


def _ustar_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":  # GNU's "ustar  " keeps times where the prefix is
        prefix = header[345:500].partition(b"\0")[0]
        return prefix + b"/" + name if prefix else name
    return name


def _extended(window: "_Window", offset: int, length: int) -> bytes:
    if length > MAX_EXTENDED:
        raise _Damaged(
            "damaged", f"an extended header of {length:,} bytes, at most {MAX_EXTENDED:,} are read"
        )
    record = window.read(offset, length)
    if len(record) < length:
        raise _Damaged("truncated", "an extended header is cut")
    return record


def _pax(record: bytes) -> dict[str, str]:
    """Records "<length> <key>=<value>\\n" again and again; the length counts itself."""
    out = {}
    while record.strip(b"\0"):
        digits, space, _ = record[:20].partition(b" ")
        if not space or not digits.isdigit():
            raise _Damaged("damaged", "an extended header has no length")
        line, record = record[len(digits) + 1 : int(digits)], record[int(digits) :]
        key, equals, value = line.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise _Damaged("damaged", "an extended header breaks off")
        out[_text(key)] = _text(value[:-1])
    return out


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


class _Window:
    """Reads ahead; what is asked for rarely costs a read of its own."""

    def __init__(self, read: Callable[[int, int], bytes], total: int) -> None:
        self._read, self._total = read, total
        self._start, self._data = 0, b""

    def read(self, offset: int, size: int) -> bytes:
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._data):
            want = min(max(size, WINDOW), self._total - offset)
            self._start, self._data, begin = offset, self._read(offset, want) if want > 0 else b"", 0
        return self._data[begin : begin + size]
