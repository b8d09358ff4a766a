"""What is known about a picture before its pixels are touched, and the limits it must keep.

Reason codes of `BadSample`, stable, because people count them:

    empty               no bytes at all
    unknown-format      the first bytes belong to no format that is read here
    extension-mismatch  the first bytes belong to another format than the name says
    truncated           the structure points beyond the end of the file, or its end mark is missing
    too-small           fewer pixels than a crop asks for
    too-large           more pixels than MAX_PIXELS, or more bytes than MAX_DECODED_BYTES
    unsupported         a valid file of a kind that is not read (12-bit JPEG, float TIFF, ...)
    corrupt             the structure contradicts itself, or the decoder gave up
"""

from typing import NamedTuple, TypedDict

from modalities.base import MAX_DECODED_BYTES, BadSample, check_decoded

MAX_PIXELS = 100_000_000

EXTENSIONS = {  # what a file may be called -> canonical extension, which is also the name of the format
    "jpg": "jpg",
    "jpeg": "jpg",
    "jpe": "jpg",
    "jfif": "jpg",
    "png": "png",
    "webp": "webp",
    "tif": "tif",
    "tiff": "tif",
    "gif": "gif",
    "bmp": "bmp",
}


class ImageMeta(TypedDict):
    """Header facts of one picture; JSON-able."""

    format: str  # canonical extension: "jpg", "png", "webp", "tif", "gif", "bmp"
    width: int  # as displayed, orientation applied
    height: int
    stored_width: int
    stored_height: int
    mode: str  # colour as stored: "bilevel", "grey", "grey-alpha", "palette", "rgb", "rgba", "cmyk"
    channels: int  # of the decoded array: 1, 3 or 4
    bit_depth: int  # of a stored sample
    dtype: str  # of the decoded array: "uint8" or "uint16"
    orientation: int  # EXIF, 1..8; already applied by decode
    compression: str | None  # where the format leaves a choice
    progressive: bool  # progressive JPEG, interlaced PNG or GIF
    animated: bool  # more frames or pages follow the first, which is the one that is read
    icc: bool
    icc_name: str | None  # what the profile calls itself
    timestamp: str | None  # EXIF, camera's clock without a zone: "2021-05-09T13:45:00"


class Header(NamedTuple):  # and not a dataclass: millions are made, and a tuple is made in half the time
    """What a reader found. `width` and `height` as stored; see ImageMeta for the rest."""

    format: str
    width: int
    height: int
    mode: str
    channels: int
    bit_depth: int
    orientation: int = 1
    compression: str | None = None
    progressive: bool = False
    animated: bool = False
    icc: bytes | None = None
    timestamp: str | None = None

    @property
    def dtype(self) -> str:
        return "uint16" if self.bit_depth == 16 else "uint8"

    @property
    def displayed(self) -> tuple[int, int]:
        """(height, width) with the orientation applied."""
        turned = self.orientation >= 5
        return (self.width, self.height) if turned else (self.height, self.width)


def check_size(what: str, width: int, height: int, channels: int, itemsize: int = 1) -> None:
    """Refuse what cannot be a picture or would not fit, before anything is allocated."""
    if width < 1 or height < 1:
        raise BadSample("corrupt", f"{what} says {width} x {height} pixels; want at least 1 x 1")
    if width * height > MAX_PIXELS:
        raise BadSample(
            "too-large", f"{what} says {width} x {height} pixels, more than {MAX_PIXELS:,}; tile it"
        )
    if channels * itemsize * MAX_PIXELS > MAX_DECODED_BYTES:  # else it always fits, and this is called often
        check_decoded(what, (height, width, channels), itemsize)
