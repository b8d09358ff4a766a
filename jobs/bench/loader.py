"""How near the loader comes to its decoders, and how far ahead of other loaders.

Run it by `python -m jobs.bench.loader [section ...]`. Every number is a ratio of two loops over the same
samples, run in turn on the same cores; the median of the pairs is printed, in wall time and in processor
time, which tells more on a machine that others use, too. Other loaders take part when they are installed.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from modalities.base import Files
from pipelines.loading import Loader
from pipelines.loading.augment import Step
from pipelines.shards.dataset import Dataset
from pipelines.shards.index import Row, write_index
from pipelines.shards.manifest import Books, Manifest, Shard, commit
from pipelines.shards.storage import Storage, open_storage
from pipelines.shards.tar import TarWriter

THREADS = 2
SIZE = 224  # of crops
CROP: tuple[Step, ...] = ({"random_resized_crop": {"size": SIZE}}, "flip")
PAIRS = 3
PHOTOGRAPHS = 2840  # of 500 x 375: an epoch of more than a second, for its start and its end take some
EPOCHS = 9  # of raw iteration: enough for Python's collector to go through everything
PHOTOS = Path("../shared/data/images")


def build(folder: Path, modality: str, samples: Iterator[tuple[str, Files]], *, per_shard: int) -> Dataset:
    """A dataset of these samples, without looking at them."""
    storage = open_storage(str(folder))
    shards: list[Shard] = []
    batch: list[tuple[str, Files]] = []
    for sample in [*samples, None]:
        if sample is not None:
            batch.append(sample)
        if batch and (sample is None or len(batch) == per_shard):
            shards.append(_shard(storage, batch))
            batch = []
    count = sum(shard.samples for shard in shards)
    commit(storage, Manifest(
        number=0, parent=None, modality=modality, settings="", plans=[], classes=[],
        books=Books(inputs=count, written=count), shards=shards,
    ))  # fmt: skip
    return Dataset.open(storage.url)


def _shard(storage: Storage, samples: Sequence[tuple[str, Files]]) -> Shard:
    import blake3

    with storage.staging() as folder:
        path, rows = folder / "shard.tar", []
        with path.open("wb") as file:
            tar = TarWriter(file)
            for key, files in samples:
                members = {ext: tar.add(f"{key}.{ext}", content) for ext, content in sorted(files.items())}
                rows.append(Row(
                    key=key, files=members, meta={}, label=None, caption=None, group="", quality={},
                    fingerprint=None, source="", content="",
                ))  # fmt: skip
            digest = tar.finish()
        index = write_index(rows)
        shard = Shard(
            digest=digest,
            samples=len(rows),
            size=tar.size,
            split="train",
            index=blake3.blake3(index).hexdigest(),
        )
        storage.put(shard.key, path)
        storage.put(shard.index_key, index)
    return shard


def photos(
    count: int, *, height: int = 375, width: int = 500, quality: int = 85
) -> Iterator[tuple[str, Files]]:
    """JPEGs of one size, from the photographs beside the checkout."""
    import simplejpeg
    from PIL import Image

    made = []
    for path in sorted(PHOTOS.glob("*.JPEG")):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
        made.append(
            simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorsubsampling="420")
        )
    for i in range(count):
        yield f"photo{i:06}", {"jpg": made[i % len(made)], "cls": b"%d" % (i % 1000)}


class Clock:
    """Wall time and processor time of this process and its children."""

    def __init__(self) -> None:
        import psutil

        self._me = psutil.Process()

    def __call__(self) -> tuple[float, float]:
        family = [self._me, *self._me.children(recursive=True)]
        return time.perf_counter(), sum(sum(one.cpu_times()[:2]) for one in family)

    def cost(self, work: Callable[[], int]) -> tuple[float, float]:
        """Seconds on the clock and on the processor for each thing that work says it did."""
        before = self()
        count = work()
        wall, busy = (now - then for now, then in zip(self(), before, strict=True))
        return wall / count, busy / count


def compare(name: str, mine: Callable[[], int], other: Callable[[], int]) -> tuple[float, float]:
    """Medians over alternating pairs of other / mine, in wall time and in processor time; printed."""
    clock = Clock()
    mine(), other()
    pairs = [(clock.cost(mine), clock.cost(other)) for _ in range(PAIRS)]
    wall, busy = (statistics.median(b[i] / a[i] for a, b in pairs) for i in range(2))
    rates = [1 / statistics.median(column) for column in zip(*((a[0], b[0]) for a, b in pairs), strict=True)]
    print(
        f"{name:58} {rates[0]:8,.4g} {rates[1]:8,.4g} /s   wall {wall:5.2f}   processor {busy:5.2f}",
        flush=True,
    )
    return wall, busy


def in_threads(work: Callable[[int], object], count: int) -> int:
    """Do `work(i)` for every i, THREADS at a time, with nothing else around."""

    def share(first: int) -> None:
        for i in range(first, count, THREADS):
            work(i)

    threads = [threading.Thread(target=share, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count


def run_through(loader: Loader) -> int:
    """One epoch."""
    return sum(len(batch["key"]) for batch in loader)


def images(folder: Path) -> None:
    """Decode at full size, against the same decoder in a bare loop on as many cores."""
    import simplejpeg

    dataset = photo_dataset(folder)
    files = [dataset.files(shard, row)["jpg"] for shard, row in dataset]
    print(
        f"JPEG of 500 x 375, {np.mean([len(f) for f in files]) / 1000:.0f} kB, {THREADS} threads or processes"
    )
    loader = Loader(dataset, batch_size=64, num_workers=THREADS, prepare=False)
    bare = lambda: in_threads(lambda i: simplejpeg.decode_jpeg(files[i], "RGB"), len(files))  # noqa: E731
    compare("full size, against bare simplejpeg", lambda: run_through(loader), bare)


def least(folder: Path) -> None:
    """Crops against the least that they take: decode, cut and resize in a bare loop on as many cores.

    What a picture's crop takes beside decoding it whole is no loader's doing, so nobody is further ahead of
    another than this leaves room for. With `large` pictures a crop can be decoded at half its scale.
    """
    from jobs.bench.loader_peers import pixels

    for name, dataset in (
        ("500 x 375", photo_dataset(folder)),
        ("1500 x 1125", photo_dataset(folder, large=3)),
    ):
        files = [dataset.files(shard, row)["jpg"] for shard, row in dataset]
        loader = Loader(dataset, batch_size=64, num_workers=THREADS, prepare=False, augment=CROP)
        bare = partial(in_threads, lambda i, files=files: pixels(files[i], SIZE), len(files))  # type: ignore[misc]
        compare(f"crops of {SIZE} of {name}, against a bare loop", partial(run_through, loader), bare)


def _peer(batches: Any) -> int:
    return sum(len(images) for images, _ in batches)


def peers(folder: Path, *, size: int | None = None) -> None:
    """Against other loaders, each with the same decoder and resize, in processes that stay alive."""
    from jobs.bench import loader_peers as made

    dataset = photo_dataset(folder)
    makers: dict[str, Callable[..., Any]] = {"webdataset": partial(made.webdataset, dataset)}
    if find_spec("litdata"):
        if not (folder / "litdata").exists():
            made.write_litdata(dataset, folder / "litdata")
        makers["litdata"] = partial(made.litdata, folder / "litdata")
    else:
        print("litdata is not installed")
    loader = Loader(
        dataset, batch_size=64, num_workers=THREADS, prepare=False, augment=CROP if size else False
    )
    for peer, make in makers.items():
        theirs = partial(_peer, make(batch_size=64, workers=THREADS, size=size))
        name = f"crops of {size}" if size else "full size"
        compare(f"{name}, against {peer}", partial(run_through, loader), theirs)


def photo_dataset(folder: Path, *, large: int = 1) -> Dataset:
    """The photographs, at `large` times 500 x 375, built once in a run."""
    place = folder / f"photos{large}"
    if not place.exists():
        made = photos(PHOTOGRAPHS // large**2, height=375 * large, width=500 * large)
        build(place, "image", made, per_shard=200)
    return Dataset.open(str(place))


def raw(folder: Path) -> None:
    """Verified bytes of every sample in shuffled order, one thread."""
    count = 20_000
    dataset = build(folder / "raw", "image", photos(count, height=282, width=376), per_shard=1000)
    loader = Loader(dataset, batch_size=256)
    through = partial(_raw_through, loader)
    through()
    size = dataset.manifest.size / count
    clock = Clock()
    costs = [clock.cost(through) for _ in range(EPOCHS)]
    print(f"raw iteration, {size / 1000:.0f} kB a sample, one thread, {EPOCHS} epochs of {count:,} samples")
    for name, column in zip(("wall", "processor"), zip(*costs, strict=True), strict=True):
        rates = (1 / statistics.median(column), 1 / statistics.mean(column), 1 / max(column))
        print(f"{name:12} median {rates[0]:10,.0f} mean {rates[1]:10,.0f} slowest {rates[2]:10,.0f} /s")


def others(folder: Path) -> None:
    """Real files, against the library that decodes them, doing no more than that, on as many cores.

    laspy hands the chunks of one file to every core unless it is told not to; the loader gives each core
    files of its own, by processes, whose processor time is not seen here.
    """
    import laspy

    cloud, cube = _largest("points/*.laz"), _largest("hyperspectral/hls*.tif")
    alone, every = laspy.LazBackend.Lazrs, laspy.LazBackend.LazrsParallel
    for name, modality, path, bare, workers in (
        ("coordinates by laspy", "pointcloud", cloud, partial(_coordinates, alone), 0),
        ("all fields by laspy", "pointcloud", cloud, partial(_all_fields, alone), 0),
        (
            f"coordinates by laspy, {THREADS} cores",
            "pointcloud",
            cloud,
            partial(_coordinates, every),
            THREADS,
        ),
        ("all fields by laspy", "pointcloud", cloud, partial(_all_fields, every), THREADS),
        ("rasterio", "hyperspectral", cube, _bands, 0),
    ):
        data, count = path.read_bytes(), 200 if workers else 16  # the start of processes is no part of it
        loader = _loader_of(folder / f"{name} {workers}", modality, path, count=count, workers=workers)
        compare(
            f"{path.suffix}, {len(data) / 1e6:.1f} MB, {workers or 1} cores, against {name}",
            partial(run_through, loader), partial(_repeat, bare, data, count),
        )  # fmt: skip


def clips(folder: Path) -> None:
    """H.264, one thread, against decord, which is asked for the frames that the loader has taken."""
    import decord

    count = 4

    def bare(data: bytes, picks: Sequence[Any]) -> int:
        for frames in picks:
            decord.VideoReader(BytesIO(data), num_threads=1).get_batch(frames).asnumpy()
        return len(picks)

    for path in (PHOTOS.parent / "video/demo.mp4", _largest("video/*.mp4")):
        data = path.read_bytes()
        every = decord.VideoReader(BytesIO(data), num_threads=1)
        times = every.get_frame_timestamp(range(len(every)))[:, 0]
        height, width = every[0].shape[:2]
        for what, steps in (("32 frames", ()), ("8 frames in a second", ({"clip": {"rate": 8}},))):
            loader = _loader_of(folder / f"{path.stem} {what}", "video", path, count=count, augment=steps)
            # One epoch again and again: its random clips are the same ones.
            batches = [loader.batch(0, number) for number in range(count)]
            picks = [abs(times - batch["times"].numpy().T).argmin(1) for batch in batches]
            through = partial(_batches, loader, count)
            compare(
                f"{what} of {len(every)} of {width} x {height}, against decord",
                through, partial(bare, data, picks),
            )  # fmt: skip


def _largest(pattern: str) -> Path:
    return max(PHOTOS.parent.glob(pattern), key=lambda path: path.stat().st_size)


def _loader_of(
    folder: Path, modality: str, path: Path, *, count: int, augment: Sequence[Step] = (), workers: int = 0
) -> Loader:
    files = {path.suffix[1:]: path.read_bytes()}
    dataset = build(folder, modality, ((f"s{i:03}", files) for i in range(count)), per_shard=count)
    return Loader(dataset, batch_size=1, prepare=False, augment=augment, num_workers=workers)


def _batches(loader: Loader, count: int) -> int:
    return sum(len(loader.batch(0, number)["key"]) for number in range(count))


def _coordinates(backend: Any, data: bytes) -> object:
    import laspy

    return laspy.read(BytesIO(data), laz_backend=backend).xyz


def _all_fields(backend: Any, data: bytes) -> object:
    """Coordinates, and every other field in memory of its own, as a batch has them."""
    import laspy

    cloud = laspy.read(BytesIO(data), laz_backend=backend)
    names = [name for name in cloud.point_format.dimension_names if name not in ("X", "Y", "Z")]
    return [cloud.xyz, *(np.array(cloud[name]) for name in names)]


def _bands(data: bytes) -> object:
    from rasterio.io import MemoryFile

    with MemoryFile(data) as memory, memory.open() as source:
        return source.read()


def _repeat(work: Callable[[bytes], object], data: bytes, count: int) -> int:
    for _ in range(count):
        work(data)
    return count


def _raw_through(loader: Loader) -> int:
    return sum(len(batch["key"]) for batch in loader.raw())


SECTIONS: Mapping[str, Callable[[Path], None]] = {
    "raw": raw,
    "images": images,
    "peers": peers,
    "crops": partial(peers, size=SIZE),
    "least": least,
    "others": others,
    "clips": clips,
}


def main() -> None:
    """Run the sections named, or all."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="rayloom-bench-") as folder:
        for name in sys.argv[1:] or SECTIONS:
            SECTIONS[name](Path(folder))


if __name__ == "__main__":
    main()
