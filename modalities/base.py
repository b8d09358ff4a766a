"""What every kind of data promises, with the same names: raw objects in, arrays and shard files out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final, NamedTuple

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]  # field -> array; text is a 0-d str array, so nothing is lost on the way
Files = Mapping[str, bytes]  # shard extension without the leading dot -> contents
Meta = Mapping[str, Any]  # header facts, JSON-able: str, int, float, bool, None, lists and dicts of them
_NONE: Final[Mapping[str, Any]] = {}
Measured = tuple[Mapping[str, float], int]  # quality and fingerprint

MAX_DECODED_BYTES = 2**30  # one decoded sample; larger ones are cut into clips or tiles first


class BadSample(ValueError):
    """A sample that cannot be used. `reason` is a code to count, `detail` says what came and what to do."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both in args, so that the error survives a trip between processes
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class Raw(NamedTuple):  # and not a dataclass: made for every sample, in a third of the time
    """One object of a source as it lies there: a file, and the files beside it that belong to it.

    `name` is relative to the source's root, with forward slashes. `content` is the bytes, or the path of a
    local file that is too large to hold; for an object that is a folder (`scene.zarr/`) it is empty bytes and
    the companions hold what is inside. `companions` maps names relative to the object's own folder.
    """

    name: str
    content: bytes | Path
    companions: Mapping[str, bytes | Path] = _NONE

    @property
    def filename(self) -> str:
        """Last part of `name`, lower case: what suffixes are matched against."""
        return self.name.rstrip("/").rpartition("/")[2].lower()

    @property
    def size(self) -> int:
        """Bytes of the object's own file, companions not counted."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def open(self) -> BinaryIO:
        """Seekable and read-only."""
        return self.content.open("rb") if isinstance(self.content, Path) else BytesIO(self.content)

    def head(self, size: int) -> bytes:
        """The first `size` bytes, fewer if the object is smaller."""
        if isinstance(self.content, bytes):
            return self.content[:size]
        with self.open() as file:
            return file.read(size)

    def read(self) -> bytes:
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content

    def companion(self, name: str) -> "Raw":
        """The file `name` beside this one; LookupError names those that are there."""
        if name not in self.companions:
            raise LookupError(f"no {name!r} beside {self.name}; there are {sorted(self.companions)}")
        return Raw(name=name, content=self.companions[name])

    @contextmanager
    def local(self) -> Iterator[Path]:
        """A path for libraries that open only paths: the object with its companions, in one folder."""
        if isinstance(self.content, Path) and not self.companions:
            yield self.content
            return
        with TemporaryDirectory(prefix="rayloom-") as folder:
            path = Path(folder, Path(self.name.rstrip("/")).name)
            if self.name.endswith("/"):
                path.mkdir()
                root = path
            else:
                root = Path(folder)
                _place(path, self.content)
            for name, content in self.companions.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                _place(root / name, content)
            yield path


def _place(path: Path, content: bytes | Path) -> None:
    if isinstance(content, Path):
        path.symlink_to(content.resolve())
    else:
        path.write_bytes(content)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a raw object that becomes a sample of its own: a clip of a video, a tile of a raster."""

    suffix: str  # ends the sample's key, `[A-Za-z0-9_-]+`: "t000012500" (ms), "y00256-x00512"
    spec: Meta  # what `Cut.extract` needs to find it again, JSON-able
    num_bytes: int  # how large its files will be, about: shard boundaries are planned with it


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One way of cutting. `plan` looks, `extract` makes; both are pure functions of their arguments.

    plan(raw, meta, **options) -> pieces, in order; never holds the whole object in memory.
    extract(raw, meta, spec, **options) -> the files of one piece.
    """

    plan: Callable[..., Sequence[Piece]]
    extract: Callable[..., Files]


@dataclass(frozen=True, kw_only=True)
class Modality:
    """A kind of data and the functions the pipelines need. No torch, no ray.

    patterns: what a primary file is called, matched without case against its file name: "*.jpg",
        "*.pcd.bin", "lights.npy"; "*.zarr/" is a folder. `companions` maps a pattern to globs of the files
        that belong to it, relative to its folder, with {stem} for the name without the pattern's suffix:
        {"*.hdr": ("{stem}.img",)}.
    probe(raw) -> meta: reads the header in pure Python, checks the caps, raises BadSample. Knows the format
        from the first bytes; an extension that says otherwise is refused. No native decoder sees an unprobed
        file.
    pack(raw, meta) -> files: the bytes as they are, under a canonical extension. Changes nothing.
    decode(files) -> arrays; encode(arrays) -> files: decode(encode(decode(x))) == decode(x), field for field.
    quality(arrays) -> named numbers. fingerprint(arrays) -> 64 bits, near for near-duplicates.
    measure(files, meta) -> both, of files whose probe said `meta`, for less than decoding and judging would
        cost; it refuses every file that decode refuses. None: `look`, quality and fingerprint do.
    preview(arrays) -> small files a browser shows: {"png": ...}, {"mp4": ...}, {"json": ...}.
    synth(seed) -> files of a tiny realistic sample, with its label ("cls") where classification makes sense.
    prepare(arrays, *, rng, **options) -> model-ready arrays of fixed shape; `rng` None means no augmentation.
    glance(files) -> arrays enough for quality, fingerprint, preview and prepare, where decoding everything
        would cost far more; None: decode does.
    cuts, transforms: what stages may ask for by name. transforms[name](arrays, **options) -> arrays.
    """

    name: str
    axes: Mapping[str, str]  # field -> axis letters, {"cube": "h w c"}
    patterns: tuple[str, ...]
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    probe: Callable[[Raw], Meta]
    pack: Callable[[Raw, Meta], Files]
    decode: Callable[[Files], Arrays]
    encode: Callable[[Arrays], Files]
    quality: Callable[[Arrays], Mapping[str, float]]
    fingerprint: Callable[[Arrays], int]
    preview: Callable[[Arrays], Files]
    synth: Callable[[int], Files]
    prepare: Callable[..., Arrays]
    glance: Callable[[Files], Arrays] | None = None
    measure: Callable[[Files, Meta], Measured] | None = None
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    transforms: Mapping[str, Callable[..., Arrays]] = field(default_factory=dict)

    def look(self, files: Files) -> Arrays:
        """`glance`, or `decode` where there is none."""
        return (self.glance or self.decode)(files)

    def measured(self, files: Files, meta: Meta) -> Measured:
        """`measure`, or quality and fingerprint of what `look` sees where there is none."""
        if self.measure is not None:
            return self.measure(files, meta)
        arrays = self.look(files)
        return self.quality(arrays), self.fingerprint(arrays)


def check_decoded(what: str, shape: Sequence[int], itemsize: int) -> None:
    """Refuse a header that promises more than MAX_DECODED_BYTES, before anything is allocated."""
    size = itemsize * prod(shape)
    if size > MAX_DECODED_BYTES:
        raise BadSample(
            "too-large",
            f"{what} {tuple(shape)} is {size:,} bytes decoded, at most {MAX_DECODED_BYTES:,}; cut it",
        )
