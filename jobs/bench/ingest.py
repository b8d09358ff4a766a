"""Ingest beside what it is made of, and beside Ray's own writer. `python -m jobs.bench.ingest jpeg 4000`.

python -m jobs.bench.ingest memory 10000 100000: peak memory of driver and workers for so many tiny files.

Rows of one run on one machine: a bare loop that reads, hashes and tars the same files, and one that syncs
its tars as well; ray.data read_binary_files -> write_webdataset; our ingest without decoding; the bare
decoder of the kind; our ingest with decoding, quality and fingerprint. They take turns, three rounds, of
which the medians are told. Every path runs on --cores cores; loops are divided over processes. Before each,
sources are brought into the page cache and what was written goes to the disk; memory stays at hand as long
as a path runs. Every path has a few files first, so that its processes are up. Rates are what counts at
scale: take so many files (60,000 JPEGs) that the bare loop runs for seconds, or the start of tasks is all
that is measured. CPU seconds are those of all processes, Ray's own included: unlike the rates
they can be compared on a machine that does other work.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from jobs.bench.at_hand import memory_at_hand
from jobs.heap import ONE_HEAP, one_heap

KINDS = {"jpeg": "image", "laz": "pointcloud", "geotiff": "hyperspectral", "h264": "video"}
SUFFIX = {"jpeg": "jpg", "laz": "laz", "geotiff": "tif", "h264": "mp4"}
ROUNDS = 3  # in which all paths take turns; what counts is the median of each
DISTINCT = 24  # files that are made; the others differ from one of them by a few bytes behind the end


def make_jpeg(seed: int) -> bytes:
    """500 x 375, about 45 kB, with the falling spectrum of natural pictures."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)[None])
    frequency[0, 0] = 1
    waves = rng.normal(size=(2, 3, *frequency.shape))
    pixels = np.fft.irfft2((waves[0] + 1j * waves[1]) / frequency**1.2, (375, 500))
    pixels = 128 + 50 * pixels / pixels.std()
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0))
    image.save(out := io.BytesIO(), "JPEG", quality=72)
    return out.getvalue()


def make_laz(seed: int) -> bytes:
    """20,000 points of a rolling surface, point format 3."""
    import laspy

    rng = np.random.default_rng(seed)
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales = np.full(3, 0.01)
    cloud = laspy.LasData(header)
    x, y = rng.random((2, 20_000)) * 100
    cloud.x, cloud.y, cloud.z = x, y, 5 * np.sin(x / 9 + seed) + rng.normal(0, 0.05, x.size)
    cloud.intensity = rng.integers(0, 4096, x.size).astype(np.uint16)
    cloud.write(out := io.BytesIO(), do_compress=True)
    return out.getvalue()


def make_geotiff(seed: int) -> bytes:
    """12 bands of 128 x 128, uint16, deflated."""
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    rng = np.random.default_rng(seed)
    base = np.cumsum(np.cumsum(rng.normal(size=(128, 128)), 0), 1)
    cube = [2000 + 300 * base / base.std() + 40 * band + rng.normal(0, 5, base.shape) for band in range(12)]
    shape: dict[str, Any] = {
        "count": 12,
        "height": 128,
        "width": 128,
        "dtype": "uint16",
        "compress": "deflate",
    }
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", crs="EPSG:32632", transform=from_origin(0, 0, 10, 10), **shape
        ) as out:
            out.write(np.clip(cube, 0, 65535).astype(np.uint16))
        return bytes(memory.getbuffer())


def make_h264(seed: int) -> bytes:
    """24 frames of 320 x 240 with something that moves."""
    import av

    rng = np.random.default_rng(seed)
    still = np.kron(rng.integers(0, 255, (15, 20, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    with av.open(out := io.BytesIO(), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for t in range(24):
            frame = av.VideoFrame.from_ndarray(np.roll(still, 3 * t, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def decode_jpeg(data: bytes) -> None:
    import simplejpeg

    simplejpeg.decode_jpeg(data)


def decode_laz(data: bytes) -> None:
    import laspy

    np.asarray(laspy.read(io.BytesIO(data)).xyz)


def decode_geotiff(data: bytes) -> None:
    from rasterio.io import MemoryFile

    with MemoryFile(data) as memory, memory.open() as source:
        source.read()


def decode_h264(data: bytes) -> None:
    import av

    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


def write_files(folder: Path, form: str, count: int) -> None:
    """Different files: real ones, and copies with a counter where their format ignores it."""
    made = [globals()[f"make_{form}"](seed) for seed in range(min(count, DISTINCT))]
    for i in range(count):
        path = folder / f"{i // 1000:04}" / f"{i:07}.{SUFFIX[form]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made[i % len(made)] + _ending(form, i))


def _ending(form: str, number: int) -> bytes:
    if form == "h264":  # a box that players skip
        return (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
    return number.to_bytes(8, "big") if form in ("jpeg", "geotiff") else b""


def bare_tar(paths: list[str], output: str) -> None:
    """Read, hash, tar: what nobody who packs files can leave out."""
    import blake3

    with tarfile.open(output, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in paths:
            data = Path(path).read_bytes()
            blake3.blake3(data).digest()
            info = tarfile.TarInfo(Path(path).name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def synced_tar(paths: list[str], output: str) -> None:
    """A bare tar that is there after a power cut too, as a shard is."""
    bare_tar(paths, output)
    with open(output, "rb") as tar:
        os.fsync(tar.fileno())


def bare_decode(paths: list[str], form: str) -> None:
    decode = globals()[f"decode_{form}"]
    for path in paths:
        decode(Path(path).read_bytes())


Took = tuple[float, float]  # seconds by the clock, and of CPU in all processes
Settled = Callable[[], AbstractContextManager[int | None]]  # a process that has no part in the work


def _took(work: Callable[[], object], settled: Settled) -> Took:
    with settled() as apart:
        start, before = time.perf_counter(), _cpu(apart)
        work()
        return time.perf_counter() - start, _cpu(apart) - before


@contextmanager
def _settled(paths: list[str]) -> Iterator[int]:
    """All is on the disk, `paths` are in memory, and half as much again as they take is at hand.

    Else whoever syncs would pay for what others wrote, and whoever comes first for what is read.
    """
    os.sync()
    size = sum(len(Path(path).read_bytes()) for path in paths)
    with memory_at_hand(size * 3 // 2) as apart:
        yield apart


def _divided(
    work: Callable[[list[str], str], None], paths: list[str], what: list[str], settled: Settled
) -> Took:
    cores = len(what)
    # Not forked: what a child of a driver throws away, Ray would let go of in the driver's name.
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm, range(4 * cores)))
        return _took(lambda: list(pool.map(work, [paths[i::cores] for i in range(cores)], what)), settled)


def _cpu(apart: int | None = None) -> float:
    """CPU seconds so far of this process and all below it but the one `apart`."""
    total = 0.0
    for process in _family():
        if process.pid == apart:
            continue
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _family() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def peaks_mib() -> dict[str, float]:
    """Peak resident memory so far: of this process, and of the worker of Ray that took most."""
    found = {"driver": 0.0, "workers": 0.0}
    for process in _family():
        with suppress(psutil.Error, OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
            if process.pid == os.getpid():
                found["driver"] = peak
            elif status.startswith("Name:\tray::"):
                found["workers"] = max(found["workers"], peak)
    return found


def _warm(_: int) -> None:
    for name in ("blake3", "simplejpeg", "laspy", "rasterio.io", "av"):
        import_module(name)
    time.sleep(0.05)


def ray_writer(source: Path, output: Path, settled: Settled) -> Took:
    """The writer of Ray Data: no index, no checksum, no quarantine, no resume."""
    import ray

    def named(row: dict[str, Any]) -> dict[str, Any]:
        return {"__key__": Path(row["path"]).stem, "bin": row["bytes"]}

    def write() -> None:
        ray.data.read_binary_files(str(source), include_paths=True).map(named).write_webdataset(str(output))

    return _took(write, settled)


def ours(source: Path, output: Path, form: str, *, decode: bool, settled: Settled = nullcontext) -> Took:
    from jobs.config.schema import IngestJob
    from jobs.ingest import ingest_dataset

    job = IngestJob.model_validate(
        {
            "kind": "ingest", "modality": KINDS[form], "source": {"uri": str(source), "labels": "none"},
            "output": str(output), "decode": decode, "shards": {"max_bytes": "64MiB"},
        }
    )  # fmt: skip

    def build() -> None:
        books = ingest_dataset(job).books
        if books.quarantined:
            raise AssertionError(f"the files are not good: {books}")

    return _took(build, settled)


def measure(form: str, count: int, cores: int, folder: Path) -> dict[str, Any]:
    """Samples a second of every path."""
    import logging

    from jobs.cluster import cluster

    write_files(source := folder / "source", form, count)
    write_files(few := folder / "few", form, 4 * cores)
    paths = [str(path) for path in sorted(source.rglob("*.*"))]
    settled, output = partial(_settled, paths), folder / "output"
    tars = [str(output / f"{i}.tar") for i in range(cores)]
    ways: dict[str, Callable[[], Took]] = {
        "ray writer": lambda: ray_writer(source, output, settled),
        "bare tar": lambda: _divided(bare_tar, paths, tars, settled),
        "bare tar, synced": lambda: _divided(synced_tar, paths, tars, settled),
        "ingest, bytes pass": lambda: ours(source, output, form, decode=False, settled=settled),
        "bare decode": lambda: _divided(bare_decode, paths, [form] * cores, settled),
        "ingest, decoded": lambda: ours(source, output, form, decode=True, settled=settled),
    }
    took: dict[str, list[Took]] = {name: [] for name in ways}
    with cluster(cores):
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ours(few, folder / "warm", form, decode=True)  # workers are up, and have imported
        ray_writer(few, folder / "warm-ray", settled)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                output.mkdir()
                took[name].append(way())
                shutil.rmtree(output)  # all may lie in memory
        peaks = peaks_mib()
    clock, cpu = ({name: median(one[i] for one in found) for name, found in took.items()} for i in (0, 1))
    return {
        "form": form, "count": count, "cores": cores, "peaks_mib": peaks,
        "bytes_each": round(sum(os.path.getsize(path) for path in paths) / count),
        "rates": {name: count / clock[name] for name in ways},
        "cpu_ms": {name: cpu[name] / count * 1e3 for name in ways},
    }  # fmt: skip


def measure_memory(count: int, cores: int, folder: Path, *, flat: bool) -> dict[str, float]:
    """Peak memory of an ingest of so many tiny pictures, bytes passed on; flat: see `write_pictures`."""
    from jobs.bench.again import write_pictures
    from jobs.cluster import cluster

    write_pictures(folder / "source", count, flat=flat)
    with cluster(cores):
        ours(folder / "source", folder / "data", "jpeg", decode=False)
        return peaks_mib()


def main() -> None:
    """Measure one form of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("form", choices=[*sorted(KINDS), "memory"], nargs="?", default="jpeg")
    parser.add_argument("count", type=int, nargs="*", default=[4000])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--flat", action="store_true", help="memory: one folder, a caption beside each file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for count in given.count:
        if given.inside:
            one_heap()
            with tempfile.TemporaryDirectory(prefix="rayloom-bench-") as folder:
                if given.form == "memory":
                    print(json.dumps(measure_memory(count, given.cores, Path(folder), flat=given.flat)))
                else:
                    print(json.dumps(measure(given.form, count, given.cores, Path(folder))))
            continue
        command = [sys.executable, "-m", "jobs.bench.ingest", given.form, str(count)]
        command += ["--cores", str(given.cores), "--inside", *(["--flat"] if given.flat else [])]
        done = subprocess.run(  # Ray prints, too
            command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_HEAP
        )
        found = json.loads(done.stdout.splitlines()[-1])
        if given.form == "memory":
            driver, worker = found["driver"], found["workers"]
            print(f"{count:>9,} tiny files: driver {driver:,.0f} MiB, worker {worker:,.0f} MiB", flush=True)
        else:
            _print(found)


def _print(found: dict[str, Any]) -> None:
    rates, cpu, peaks = found["rates"], found["cpu_ms"], found["peaks_mib"]
    print(
        f"{found['count']:,} {found['form']} files of {found['bytes_each']:,} bytes, {found['cores']} cores"
    )
    for name, rate in rates.items():
        print(f"  {name:<20}{rate:10,.0f} samples/s {cpu[name]:8.2f} CPU ms a sample")
    pairs = {
        "bytes pass / ray writer": ("ingest, bytes pass", "ray writer"),
        "bare tar / bytes pass": ("bare tar", "ingest, bytes pass"),
        "synced / bytes pass": ("bare tar, synced", "ingest, bytes pass"),
        "decoded / bare decode": ("ingest, decoded", "bare decode"),
    }
    for what, (a, b) in pairs.items():
        print(f"  {what:<24}{rates[a] / rates[b]:6.2f} by the clock, {cpu[b] / cpu[a]:6.2f} by CPU")
    print(f"  peak: driver {peaks['driver']:,.0f} MiB, worker {peaks['workers']:,.0f} MiB")


if __name__ == "__main__":
    main()
