"""Hostile pictures."""

import struct
import zlib
from typing import Any

import numpy as np
from hostile.case import KEPT, Case, Place, builders, pickled, stored
from PIL import Image

probe = builders("modalities/image/test_probe.py")


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def head(width: int, height: int, depth: int = 8, colour: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def grey(size: int = 8) -> list[tuple[bytes, bytes]]:
    return [head(size, size), (b"IDAT", zlib.compress(bytes(size * (size + 1)))), (b"IEND", b"")]


def jpeg(**options: Any) -> bytes:
    content: bytes = probe.written(probe.picture(), "JPEG", **options)
    return content


def edited(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def frame(marker: int, depth: int = 8) -> bytes:
    content = jpeg()
    at = content.index(b"\xff\xc0")
    return edited(edited(content, at + 1, bytes([marker])), at + 4, bytes([depth]))


def scans() -> bytes:
    content = jpeg(progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + scan * 1000 + content[-2:]


def tiff(**tags: Any) -> bytes:
    """Eight by eight grey, with these tags changed: t256=70_000."""
    values = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 64}
    values |= {int(name[1:]): value for name, value in tags.items() if name[0] == "t"}
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(values.items()))
    count, following = (
        struct.pack("<H", tags.get("count", len(values))),
        struct.pack("<I", tags.get("next", 0)),
    )
    body = tags.get("body", bytes(range(64)))
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + count + entries + following


def deflated_tiff(side: int) -> bytes:
    body = zlib.compress(bytes(side * side), 9)
    return tiff(t256=side, t257=side, t278=side, t259=8, t279=len(body), body=body)


def exif(orientation: int, tail: bytes = b"") -> bytes:
    block = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 1, orientation) + tail
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    content = jpeg()
    return content[:2] + segment + content[2:]


def vrt(place: Place) -> bytes:
    band = '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    return (
        f'<VRTDataset rasterXSize="5" rasterYSize="4">{band}<SourceFilename>{place.canary}</SourceFilename>'
        "<ImageOffset>0</ImageOffset></VRTRasterBand></VRTDataset>"
    ).encode()


def eps(place: Place) -> bytes:
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    return f"{text}({place.marker}) (w) file closefile showpage\n".encode()


def svg(place: Place) -> bytes:
    return (
        f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file://{place.canary}">]>'
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{place.url}/a.png"/><text>&x;</text></svg>'
    ).encode()


BOMBS = probe.bombs()
PILLOW = "Pillow"


def picture(name: str, about: str, reason: str, extension: str, content: Any, library: str = PILLOW) -> Case:
    file = f"{name}.{extension}"
    return Case(
        name=name, about=about, modality="image", reason=reason, library=library, file=file,
        make=stored(file, content),
    )  # fmt: skip


def beside(name: str, about: str, reason: str, extension: str, content: bytes) -> Case:
    """A good picture with a hostile sidecar."""

    def make(place: Place) -> None:
        stored(f"{name}.jpg", jpeg())(place)
        stored(f"{name}.{extension}", content)(place)

    return Case(
        name=name, about=about, modality="image", reason=reason, make=make, file=f"{name}.{extension}",
        library=PILLOW if extension == "seg.png" else "read_text",
    )  # fmt: skip


def cases() -> list[Case]:
    png8 = png(*grey())
    gif = probe.written(probe.picture().convert("P"), "GIF")
    bmp, webp = probe.written(probe.picture(), "BMP"), probe.written(probe.picture(), "WEBP")
    zeros = zlib.compress(bytes(12_000 * 12_001), 9)
    found = [
        picture(f"bomb-{kind.replace(' ', '-').replace('^', '')}",
             f"{kind}: a header of gigapixels or of more"
                " than the file holds", reason, extension, content)
        for kind, (extension, content, reason) in BOMBS.items()
    ]  # fmt: skip
    return [
        *found,
        picture("png-real-bomb", "140 kB that are 144 Mpx of grey", "too-large", "png",
                png(head(12_000, 12_000), (b"IDAT", zeros), (b"IEND", b""))),
        picture("png-text-bomb", "70 MB of text in a zTXt chunk of 70 kB", "corrupt", "png",
                png(grey()[0], (b"zTXt", b"c\0\0" + zlib.compress(bytes(70_000_000), 9)), *grey()[1:])),
        picture("png-profile-bomb", "a colour profile that unpacks to 200 MB", "corrupt", "png",
                png(grey()[0], (b"iCCP", b"p\0\0" + zlib.compress(bytes(200_000_000), 9)), *grey()[1:])),
        picture("png-without-end", "no IEND chunk", "truncated", "png", png(*grey()[:2])),
        picture("png-chunk-of-2-gb", "a chunk that says it is 2 GiB", "truncated", "png",
                png8[:33] + struct.pack(">I", 2**31 - 1) + png8[37:]),
        picture("png-no-pixels", "an IDAT that is no zlib stream", "corrupt", "png",
                png(head(8, 8), (b"IDAT", b"x" * 50), (b"IEND", b""))),
        picture("png-zero-size", "0 x 8 pixels", "corrupt", "png", png(head(0, 8), *grey()[1:])),
        picture("png-apng-of-2-31-frames", "an animation of 2^31 frames", KEPT, "png",
                png(grey()[0], (b"acTL", struct.pack(">II", 2**31 - 1, 0)), *grey()[1:])),
        picture("jpg-thousand-scans", "1009 progressive scans", "too-large", "jpg", scans()),
        picture("jpg-arithmetic", "arithmetic coding", "unsupported", "jpg", frame(0xC9)),
        picture("jpg-lossless", "lossless coding", "unsupported", "jpg", frame(0xC3)),
        picture("jpg-12-bit", "12 bits a sample", "unsupported", "jpg", frame(0xC1, 12)),
        picture("jpg-cut", "half of a JPEG", "truncated", "jpg", jpeg()[: len(jpeg()) // 2]),
        picture("jpg-exif-loop", "an EXIF directory that is its own next", KEPT, "jpg",
                exif(1, struct.pack("<I", 8))),
        picture("jpg-exif-orientation-99", "an orientation of 99", KEPT, "jpg", exif(99, bytes(4))),
        picture("jpg-exif-cut", "an EXIF directory that leaves the file", KEPT, "jpg",
             exif(6)[:2] + exif(6)[2:]),
        picture("jpg-is-svg", "SVG with an entity for a local file and a picture on a server",
                "unknown-format", "jpg", svg),
        picture("jpg-is-eps", "PostScript that writes a file", "unknown-format", "jpg", eps),
        picture("jpg-is-html", "a page of a web server", "unknown-format", "jpg",
             b"<!DOCTYPE html><html>404</html>"),
        picture("png-is-pickle", "a pickle called .png", "unknown-format", "png", pickled),
        picture("png-is-psd", "a Photoshop file", "unknown-format", "png", b"8BPS\0\x01" + bytes(99)),
        picture("png-is-jpg", "a JPEG called .png", "extension-mismatch", "png", jpeg()),
        picture("tif-is-vrt", "a GDAL description of a local file", "unknown-format", "tif", vrt, "rasterio"),
        picture("png-empty", "no bytes", "empty", "png", b""),
        picture("gif-cut", "half of a GIF", "truncated", "gif", gif[: len(gif) // 2]),
        picture("gif-no-codes", "LZW data of garbage", "corrupt", "gif",
                edited(gif, len(gif) - 60, b"\xff" * 40)),
        picture("bmp-cut", "half of a BMP", "truncated", "bmp", bmp[: len(bmp) // 2]),
        picture("bmp-pixels-elsewhere", "pixels at byte 2^31", "truncated", "bmp",
                edited(bmp, 10, struct.pack("<I", 2**31))),
        picture("webp-cut", "half of a WebP", "truncated", "webp", webp[: len(webp) // 2]),
        picture("webp-size", "a RIFF size of 4 GB", "truncated", "webp", edited(webp, 4, b"\xff" * 4)),
        picture("tif-loop", "a directory that is its own next", "corrupt", "tif", tiff(next=72), "tifffile"),
        picture("tif-strip-elsewhere", "a strip at byte 2^31", "truncated", "tif", tiff(t273=2**31),
             "tifffile"),
        picture("tif-65535-samples", "65535 samples a pixel", "truncated", "tif", tiff(t277=65535),
             "tifffile"),
        picture("tif-many-entries", "a directory of 65535 entries", "corrupt", "tif", tiff(count=65535),
             "tifffile"),
        picture("tif-deflate-bomb", "150 kB that are 144 Mpx", "too-large", "tif", deflated_tiff(12_000),
             "tifffile"),
        picture("tif-deflate-lie", "a strip that unpacks to 60 times what the size says", KEPT, "tif",
                tiff(t259=8, t279=len(zlib.compress(bytes(4000))), body=zlib.compress(bytes(4000))),
                     "tifffile"),
        beside("mask-of-another-size", "a mask that does not fit its picture", "corrupt", "seg.png", png8),
        beside("mask-bomb", "a mask of 2.5 gigapixels", "too-large", "seg.png", BOMBS["png"][1]),
        beside("mask-in-colour", "a mask of RGB", "unsupported", "seg.png",
               probe.written(Image.fromarray(np.zeros((24, 40, 3), np.uint8)), "PNG")),
        beside("class-empty", "a class file without a class", "bad-sidecar", "cls", b" \n"),
        beside("class-binary", "a class file of raw bytes", "bad-sidecar", "cls", b"\xff\xfe\xfd"),
        beside("caption-binary", "a caption of raw bytes", "bad-sidecar", "txt", b"\x80" * 9),
    ]  # fmt: skip
