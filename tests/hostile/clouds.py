"""Hostile point clouds."""

import struct
from collections.abc import Callable
from functools import cache

from hostile.case import Case, Place, builders, pickled, stored

from modalities.base import Raw
from modalities.pointcloud.readers import las as las_reader

golden: Callable[[], dict[str, bytes]] = builders("modalities/pointcloud/test_probe.py").golden
XYZ = "property float x\nproperty float y\nproperty float z\n"
PCD = (
    "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH %d\nHEIGHT %d\nPOINTS %d\nDATA %s\n"
)


def ply(form: str, elements: str, body: bytes = b"") -> bytes:
    return f"ply\nformat {form} 1.0\n{elements}end_header\n".encode() + body


def pcd(width: int, height: int, points: int, data: str, body: bytes = b"") -> bytes:
    return (PCD % (width, height, points, data)).encode() + body


def edited(name: str, *changes: tuple[str, int, float]) -> bytes:
    content = bytearray(golden()[name])
    for kind, at, value in changes:
        struct.pack_into(kind, content, at, value if kind[1] == "d" else int(value))
    return bytes(content)


@cache
def _laz() -> las_reader.Header:
    return las_reader.parse(Raw(name="a.laz", content=golden()["a.laz"]))


def npy(text: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + body


def shaped(shape: str, descr: str = "<f4") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


def object_npy(place: Place) -> bytes:
    return npy(shaped("(1, 3)", "|O"), pickled(place))


def case(
    name: str,
    about: str,
    reason: str,
    extension: str,
    content: bytes | Callable[[Place], bytes],
    library: str,
) -> Case:
    file = f"{name}.{extension}"
    return Case(
        name=name, about=about, modality="pointcloud", reason=reason, library=library, file=file,
        make=stored(file, content),
    )  # fmt: skip


def cases() -> list[Case]:
    return [*_plys(), *_pcds(), *_las(), *_tables()]


def _plys() -> list[Case]:
    little = "binary_little_endian"
    lists = "property list uchar int vertex_indices\n"
    made = [
        ("4e8", "a header of 4e8 points, none of them there", "truncated",
         ply(little, f"element vertex 400000000\n{XYZ}", bytes(1200))),
        ("1e12", "a header of 1e12 points", "truncated", ply("ascii",
             f"element vertex 1000000000000\n{XYZ}", b"1 2 3\n")),
        ("negative", "a header of -1 points", "corrupt", ply("ascii", f"element vertex -1\n{XYZ}")),
        ("faces", "9e7 faces that are not there", "truncated",
         ply(little, f"element vertex 1\n{XYZ}element face 90000000\n{lists}", bytes(12))),
        ("list", "a list in every point", "unsupported",
         ply("ascii", f"element vertex 1\n{XYZ}property list uchar int a\n", b"1 2 3\n")),
        ("endless", "a header without an end", "truncated", b"ply\nformat ascii 1.0\nelement vertex 1\n"),
        ("long-header", "20 MB of comments", "truncated",
             b"ply\nformat ascii 1.0\n" + b"comment x\n" * 2_000_000),
        ("words", "words for coordinates", "corrupt", ply("ascii", f"element vertex 1\n{XYZ}", b"1 2 x\n")),
        ("no-points", "no points", "empty", ply("ascii", f"element vertex 0\n{XYZ}")),
        ("type", "a type nobody has", "corrupt", ply("ascii", "element vertex 1\nproperty float3 x\n")),
    ]  # fmt: skip
    return [case(f"ply-{name}", about, reason, "ply", data, "Open3D") for name, about, reason, data in made]


def _pcds() -> list[Case]:
    made = [
        ("1e8", "1e8 points, none of them there", "truncated", pcd(10**8, 1, 10**8, "binary", bytes(1000))),
        ("1e12", "1e12 points", "truncated", pcd(10**12, 1, 10**12, "ascii", b"1 2 3\n")),
        ("packed-1e8", "1e8 packed points", "too-large", pcd(10**8, 1, 10**8, "binary_compressed",
             bytes(1000))),
        ("packed-lie", "8 bytes that unpack to 16 MB", "corrupt",
         pcd(1, 1, 1, "binary_compressed", b"\x08\0\0\0\xff\xff\xff\0" + bytes(8))),
        ("counts", "a width and height that are not the points", "corrupt", pcd(2, 2, 5, "binary",
             bytes(1000))),
        ("type", "a type nobody has", "corrupt", pcd(1, 1, 1, "ascii", b"1 2 3\n").replace(b"F F F",
             b"F F O")),
        ("no-points", "no points", "empty", pcd(0, 1, 0, "binary")),
    ]  # fmt: skip
    return [case(f"pcd-{name}", about, reason, "pcd", data, "Open3D") for name, about, reason, data in made]


def _las() -> list[Case]:
    header = _laz()
    record = golden()["a.laz"].index(header.records["laszip encoded", 22204])
    (table,) = struct.unpack_from("<q", golden()["a.laz"], header.points_at)
    layer = header.points_at + 8 + header.record_bytes + 4
    made = [
        ("las", "1e8", "1 kB that count 1e8 points", "truncated",
         edited("a.las", ("<I", 107, 10**8), ("<Q", 247, 10**8))[:1024]),
        ("las", "points-elsewhere", "points at byte 2^31", "truncated", edited("a.las", ("<I", 96, 2**31))),
        ("las", "short-records", "records of one byte", "corrupt", edited("a.las", ("<H", 105, 1))),
        ("las", "format-60", "point format 60", "unsupported", edited("a.las", ("<B", 104, 60))),
        ("las", "version-9", "version 1.9", "unsupported", edited("a.las", ("<B", 25, 9))),
        ("las", "scale-zero", "a scale of 0", "corrupt", edited("a.las", ("<d", 131, 0.0))),
        ("las", "offset-nan", "an offset that is no number", "corrupt", edited("a.las", ("<d",
             155, float("nan")))),
        ("las", "records-2-32", "2^32 variable records", "corrupt", edited("a.las", ("<I", 100, 2**32 - 1))),
        ("las", "extended-records", "2^32 extended records", "corrupt", edited("a.las", ("<I",
             243, 2**32 - 1))),
        ("las", "no-points", "no points", "empty", edited("a.las", ("<I", 107, 0), ("<Q", 247, 0))),
        ("laz", "2e7", "60 packed points that count 2e7", "corrupt", edited("a.laz", ("<Q", 247, 2 * 10**7))),
        ("laz", "1e8", "60 packed points that count 1e8", "too-large", edited("a.laz", ("<Q", 247, 10**8))),
        ("laz", "layer-2-31", "a layer that unpacks to 2 GiB", "corrupt", edited("a.laz", ("<I",
             layer, 2**31))),
        ("laz", "chunks-2-32", "2^32 chunks", "corrupt", edited("a.laz", ("<I", table + 4, 2**32 - 1))),
        ("laz", "table-elsewhere", "a chunk table at byte 2^60", "truncated",
         edited("a.laz", ("<q", header.points_at, 2**60))),
        ("laz", "900-items", "points of 900 items", "corrupt", edited("a.laz", ("<H", record + 32, 900))),
        ("laz", "cut", "half of a file", "truncated", golden()["a.laz"][: len(golden()["a.laz"]) // 2]),
        ("las", "is-ply", "a PLY called .las", "extension-mismatch", golden()["a.ply"]),
    ]  # fmt: skip
    return [
        case(f"{kind}-{name}", about, reason, kind, data, "laspy") for kind, name, about, reason, data in made
    ]


def _tables() -> list[Case]:
    zeros = bytes(240)
    arrays: list[tuple[str, str, str, bytes | Callable[[Place], bytes]]] = [
        ("pickle", "an array of objects, which is a pickle", "unsafe", object_npy),
        ("1e12", "1e12 rows", "truncated", npy(shaped("(1000000000000, 3)"), zeros)),
        ("negative", "-1 rows", "corrupt", npy(shaped("(-1, 3)"), zeros)),
        ("code", "a header that is a call", "corrupt", npy("__import__('os').abort()")),
        ("brackets", "a header of 2000 brackets", "corrupt", npy("(" * 2000)),
        ("letters", "letters for coordinates", "unsupported", npy(shaped("(1, 3)", "<U9"), bytes(108))),
        ("no-header", "six bytes", "corrupt", b"\x93NUMPY"),
        ("zip", "a zip called .npy", "unsupported", b"PK\x03\x04" + bytes(60)),
    ]
    texts = [
        ("xyz", "prose", "a photograph of a street", "unknown-format", b"a photograph of a street\n"),
        ("xyz", "nul", "zeros between the numbers", "unknown-format", b"1 2 3\n\0\0\0\0\n"),
        ("csv", "ragged", "rows of different lengths", "corrupt", b"1 2 3\n1 2\n"),
        ("xyz", "late", "400 good rows and one bad", "corrupt", b"1 2 3\n" * 400 + b"1 2 fish\n"),
        ("xyz", "one-line", "20 MB without a line's end", "unknown-format", b"1" * 20_000_000),
        ("csv", "columns", "100,000 columns", "unknown-format", b",".join([b"1"] * 100_000) + b"\n"),
        ("bin", "noise", "floats that are no coordinates", "unknown-format", b"\xff" * 1600),
        (
            "bin",
            "odd",
            "bytes that are no whole number of points",
            "truncated",
            b"\0\0\0\1" * 401 + b"x",
        ),
    ]
    return [
        *(case(f"npy-{name}", about, reason, "npy", data, "NumPy") for name, about, reason, data in arrays),
        *(
            case(f"text-{name}", about, reason, kind, data, "Open3D" if kind == "xyz" else "read_text")
            for kind, name, about, reason, data in texts
        ),
    ]
