"""Which format an object is, by its first bytes, and what its header says: pure Python, nothing decoded."""

import re

from modalities.base import BadSample, Meta, Raw
from modalities.pointcloud.guard import guarded
from modalities.pointcloud.readers import fields, las, pcd, ply, table, text
from modalities.pointcloud.schema import MAX_POINTS

COMPANIONS = {fields.PRIMARY: ("*.npy",)}
PATTERNS = (
    fields.PRIMARY,
    "*.copc.laz",
    "*.pcd.bin",
    "*.ply",
    "*.pcd",
    "*.las",
    "*.laz",
    "*.xyz",
    "*.csv",
    "*.txt",
    "*.bin",
    "*.npy",
)
REASONS = {
    "empty": "no bytes, or no points",
    "unknown-format": "neither first bytes nor values are those of a format we read",
    "extension-mismatch": "the name says another format than the first bytes",
    "truncated": "the file ends before what its header promises",
    "too-large": f"more than {MAX_POINTS:,} compressed points, or more than one sample may decode to",
    "corrupt": "header or data contradict themselves",
    "unsupported": "a standard variant that is not read",
    "unsafe": "content that would run code",
}
_SUFFIXES = {
    "ply": (".ply",),
    "pcd": (".pcd",),
    "las": (".las",),
    "laz": (".laz",),
    "copc": (".laz",),
    "npy": (".npy",),
}
_TEXT, _BINARY = (".xyz", ".csv", ".txt"), (".bin",)


def sniff(head: bytes) -> str | None:
    """Format of the first bytes; None for those that have no magic (text, .bin)."""
    if re.match(rb"ply[ \t]*\r?\n", head):
        return "ply"
    if head.startswith(b"LASF"):
        return "las"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if re.match(rb"(\s*#[^\n]*\n)*\s*(VERSION|FIELDS)\s", head):
        return "pcd"
    return None


def probe(raw: Raw) -> Meta:
    """Header facts of a point cloud, or BadSample with one of REASONS."""
    if not raw.size:
        raise BadSample("empty", f"{raw.name} has no bytes")
    head = raw.head(4096)
    kind = sniff(head)
    suffix = "." + raw.filename.rpartition(".")[2]
    if kind is None:
        return _probe_unmarked(raw, head, suffix)
    if kind == "npy":
        with guarded(raw.name):
            if fields.files_of(raw):
                return fields.inspect(raw)
    inspect = {"ply": ply.inspect, "las": las.inspect, "npy": table.inspect_npy, "pcd": pcd.inspect}[kind]
    with guarded(raw.name):
        meta = inspect(raw)
    _check_suffix(raw, meta["format"], suffix)
    return meta


def _probe_unmarked(raw: Raw, head: bytes, suffix: str) -> Meta:
    if suffix in _TEXT + _BINARY:
        with guarded(raw.name):
            return text.inspect(raw) if suffix in _TEXT else table.inspect_bin(raw)
    if head.startswith(b"PK\x03\x04"):
        raise BadSample("unsupported", f"{raw.name} is a zip (.npz?); store its arrays as .npy files")
    raise BadSample("unknown-format", f"{raw.name} begins with {head[:8]!r}, not as a {suffix} file does")


def _check_suffix(raw: Raw, kind: str, suffix: str) -> None:
    if suffix not in _SUFFIXES[kind]:
        raise BadSample(
            "extension-mismatch", f"{raw.name} is {kind}; rename it to {' or '.join(_SUFFIXES[kind])}"
        )
