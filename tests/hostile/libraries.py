"""What the usual library does with each file by default, measured: a process a file, with limits."""

import contextlib
import csv
import json
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

MEMORY_BYTES = 4 * 2**30
TIMEOUT_S = 20.0
FRAMES = 30  # of a video


def _pillow(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        return [picture.tobytes(), repr(picture.info)]


def _tifffile(path: Path) -> Any:
    import tifffile

    return tifffile.imread(path)


def _rasterio(path: Path) -> Any:
    import rasterio

    with rasterio.open(path) as scene:
        return scene.read()


def _pyav(path: Path) -> Any:
    import av

    with av.open(str(path)) as file:
        return [
            frame.to_ndarray(format="rgb24")
            for frame, _ in zip(file.decode(video=0), range(FRAMES), strict=False)
        ]


def _open3d(path: Path) -> Any:
    import numpy as np
    import open3d

    points = np.asarray(open3d.io.read_point_cloud(str(path)).points)
    if not len(points):
        return f"{len(points)} points and no error"
    return points


def _laspy(path: Path) -> Any:
    import laspy

    return laspy.read(path).xyz


def _numpy(path: Path) -> Any:
    import numpy as np

    found = np.load(path)
    return [found[name] for name in found.files] if hasattr(found, "files") else found


def _h5py(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        return file["cube"][()] if "cube" in file else repr(list(file))


def _scipy(path: Path) -> Any:
    import scipy.io

    if path.suffix == ".mat":
        return repr(scipy.io.loadmat(path)["cube"])
    with scipy.io.netcdf_file(path, mmap=False) as file:
        return file.variables["cube"][:].copy()


def _zarr(path: Path) -> Any:
    import zarr

    return zarr.open(path, mode="r")[...]


def _json(path: Path) -> Any:
    return repr(json.loads(path.read_bytes()))


def _text(path: Path) -> Any:
    return path.read_text()


def _webdataset(path: Path) -> Any:
    import webdataset

    return repr(list(webdataset.WebDataset(str(path), shardshuffle=False).decode()))


def _uri(path: Path) -> str:
    with path.open(newline="") as file:
        return list(csv.reader(file))[-1][0]


def _gopen(path: Path) -> Any:
    import webdataset

    return webdataset.gopen(_uri(path)).read()


def _fsspec(path: Path) -> Any:
    import fsspec

    with fsspec.open(_uri(path)) as file:
        return file.read(1000)


def _open(path: Path) -> Any:
    with path.open("rb") as file:
        return file.read(1000)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {  # what it is called -> its package, how it reads
    "Pillow": ("pillow", _pillow),
    "tifffile": ("tifffile", _tifffile),
    "rasterio": ("rasterio", _rasterio),
    "PyAV": ("av", _pyav),
    "Open3D": ("open3d-cpu", _open3d),
    "laspy": ("laspy", _laspy),
    "NumPy": ("numpy", _numpy),
    "h5py": ("h5py", _h5py),
    "SciPy": ("scipy", _scipy),
    "zarr": ("zarr", _zarr),
    "json": ("", _json),
    "read_text": ("", _text),
    "webdataset": ("webdataset", _webdataset),
    "webdataset.gopen": ("webdataset", _gopen),
    "fsspec": ("fsspec", _fsspec),
    "open": ("", _open),
}


def versions() -> list[str]:
    packages = sorted({package for package, _ in READERS.values() if package})
    return [f"{package} {version(package)}" for package in packages]


def warm(library: str) -> None:
    """Import it here, so that no measurement pays for it."""
    with contextlib.suppress(Exception):
        READERS[library][1](Path("/nothing/at/all"))


def measure(library: str, path: Path, secret: str) -> str:
    """What it does, in words; whether it ran or called something its caller has to see."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _read(library, path, secret, writer)
    os.close(writer)
    status, peak = _wait(child)
    with os.fdopen(reader) as answer:
        said = answer.read()
    more = (peak - before) // 1024
    memory = f"; {round(more, -2):,} MB" if more >= 100 else ""
    if status is None:
        return f"hangs: stopped after {TIMEOUT_S:g} s{memory}"
    if os.WIFSIGNALED(status):
        return f"crashes: {signal.Signals(os.WTERMSIG(status)).name}{memory}"
    return f"{said or f'ends the process with code {os.waitstatus_to_exitcode(status)}'}{memory}"


def _wait(child: int) -> tuple[int | None, int]:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage.ru_maxrss
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return None, os.wait4(child, 0)[2].ru_maxrss


def _read(library: str, path: Path, secret: str, writer: int) -> None:
    """In the child: read, say what came, go."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    warnings.simplefilter("ignore")
    try:
        said = _words(READERS[library][1](path), secret)
    except MemoryError:
        said = f"runs out of {MEMORY_BYTES >> 30} GiB of memory"
    except BaseException as e:
        said = f"refuses: {type(e).__name__}"
    os.write(writer, said.encode())
    os._exit(0)


def _words(found: Any, secret: str) -> str:
    parts: Iterable[Any] = found if isinstance(found, list) else [found]
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        data = part[: 2**20] if isinstance(part, bytes) else part.reshape(-1)[: 2**20].tobytes()
        if secret.encode() in data:
            return "reads the file outside"
    if isinstance(found, str) and found.endswith("no error"):
        return f"takes it: {found}"
    return "takes it"
