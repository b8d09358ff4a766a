"""What `rayloom doctor libs` prints: native libraries, what does not load, the package that has it."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Final

DEBIAN: Final = {  # shared object -> package; what the wheels below expect to find on the system
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libGLX.so.0": "libglx0",
    "libX11.so.6": "libx11-6",
    "libXau.so.6": "libxau6",
    "libXdmcp.so.6": "libxdmcp6",
    "libxcb.so.1": "libxcb1",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libudev.so.1": "libudev1",
    "libgomp.so.1": "libgomp1",
    "libexpat.so.1": "libexpat1",
    "libz.so.1": "zlib1g",
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
}
OPEN3D: Final = (
    "libGL.so.1",
    "libEGL.so.1",
    "libX11.so.6",
    "libusb-1.0.so.0",
    "libudev.so.1",
    "libgomp.so.1",
)
FFMPEG_FIXED: Final = (62, 28, 102)  # libavcodec of FFmpeg 8.1.2, which fixes CVE-2026-8461
WHEELS: Final = ("torch", "ray", "pyarrow", "blake3", "crc32c")  # only their versions are told
PROBES: Final = {  # distribution -> what a child process prints: the versions of the C libraries inside
    "av": "import av; print('FFmpeg', av.ffmpeg_version_info)",
    "decord2": "import decord; print()",
    "rasterio": "import rasterio; print('GDAL', rasterio.__gdal_version__)",
    "h5py": "import h5py; print('HDF5', h5py.version.hdf5_version)",
    "pillow": "from PIL import Image, features as f; print('libjpeg-turbo', f.version('libjpeg_turbo'), "
    "'libtiff', f.version('libtiff'), 'libwebp', f.version('webp'))",
    "open3d-cpu": "import open3d; print()",
    "simplejpeg": "import simplejpeg; print()",
    "laspy": "import laspy; print()",
    "lazrs": "import lazrs; print()",
    "scipy": "import scipy.fft, scipy.ndimage; print()",
    "tifffile": "import tifffile; print()",
    "zarr": "import zarr; print()",
}
LOADS: Final = "import ctypes, sys; [ctypes.CDLL(name) for name in sys.argv[1:]]"


@dataclass(frozen=True, kw_only=True)
class Library:
    """One distribution: its version, the C libraries it brings, what is wrong with it and what to do."""

    name: str
    version: str
    inside: str = ""
    problem: str = ""  # it does not load
    warning: str = ""  # it loads, with something to know
    advice: str = ""


def check_libraries(*, as_json: bool) -> int:
    """Print a line for every library; 0 when all of them load, 1 otherwise."""
    found = [probe(name) for name in PROBES] + [Library(name=name, version=_version(name)) for name in WHEELS]
    found = [_absent(library) if not library.version else library for library in found]
    if as_json:
        print(json.dumps([asdict(library) for library in found]))
    else:
        for library in found:
            mark = "!!" if library.problem else "??" if library.warning else "ok"
            print(f"{mark}  {library.name:<12} {library.version:<14} {library.inside}".rstrip())
            for line in (library.problem, library.warning, library.advice):
                if line:
                    print(f"      {line}")
    return int(any(library.problem for library in found))


def probe(name: str) -> Library:
    """Import one library in a child process: a broken one may take its process with it."""
    version = _version(name)
    if not version:
        return Library(name=name, version="")
    code, output, error = _child(PROBES[name], ())
    inside = output.strip()
    if code == 0:
        return Library(name=name, version=version, inside=inside, **_old_ffmpeg(name))
    missing = missing_objects(error) or (
        tuple(so for so in OPEN3D if _child(LOADS, (so,))[0]) if "open3d" in name else ()
    )
    return Library(name=name, version=version, **explain(name, code, error, missing))


def missing_objects(error: str) -> tuple[str, ...]:
    """Names of the shared objects that the loader did not find."""
    return tuple(dict.fromkeys(re.findall(r"(lib[\w+.-]+\.so[.\d]*): cannot open shared object", error)))


def explain(name: str, code: int, error: str, missing: Sequence[str]) -> dict[str, str]:
    """Problem and advice for a library that did not load."""
    if missing:
        packages = [DEBIAN[so] for so in missing if so in DEBIAN]
        unknown = [so for so in missing if so not in DEBIAN]
        advice = f"apt-get install {' '.join(packages)}" if packages else ""
        if unknown:
            advice += f"{'; ' if advice else ''}find the package of {', '.join(unknown)} with apt-file search"
        why = (
            "; its wheel expects the system's OpenGL and X11, even without a screen"
            if "open3d" in name
            else ""
        )
        return {"problem": f"does not load: {', '.join(missing)} is missing{why}", "advice": advice}
    if code < 0:
        return {
            "problem": f"dies of signal {-code} while it is imported",
            "advice": "signal 4 means a processor without AVX; any other: install the wheel again",
        }
    last = error.strip().splitlines()[-1] if error.strip() else f"exit code {code}"
    return {"problem": f"does not load: {last}", "advice": f"pip install --force-reinstall {name}"}


def _old_ffmpeg(name: str) -> dict[str, str]:
    """The FFmpeg in a wheel, read off the file name of its libavcodec."""
    for file in metadata.files(name) or []:
        if match := re.search(r"libavcodec[\w-]*\.so\.(\d+)\.(\d+)\.(\d+)$", str(file)):
            version = tuple(int(part) for part in match.groups())
            if version < FFMPEG_FIXED:
                old = f"libavcodec {'.'.join(match.groups())} is older than FFmpeg 8.1.2 (CVE-2026-8461)"
                advice = "its MagicYUV decoder is unsafe; upgrade the wheel as soon as there is a newer one"
                return {"warning": old, "advice": advice}
    return {}


def _absent(library: Library) -> Library:
    return Library(
        name=library.name, version="-", problem="not installed", advice=f"pip install {library.name}"
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _child(code: str, arguments: Sequence[str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", "took longer than 120 s"
    return done.returncode, done.stdout, done.stderr
