"""Which files a process may still open, by the kernel's Landlock: libraries to read, one folder to write.

https://docs.kernel.org/userspace-api/landlock.html; the numbers are those of linux/landlock.h.
"""

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
CREATE_RULESET_VERSION, RULE_PATH_BENEATH = 1, 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS = 1 << 0 | 1 << 1 | READ_FILE | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl
EXECUTE = 1 << 0
KNOWN_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many bits each version knows; 16 from 5 on
SYSTEM = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/openssl.cnf", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/dev/null", "/dev/zero", "/dev/urandom",
)  # fmt: skip
WRITTEN = ("/dev/null",)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def libraries(*, everything: bool = False) -> list[str]:
    """Where this interpreter finds code: its own folders, our rooms, packages, what is mapped already.

    A folder on sys.path that also holds the checkout, the working directory or the home is left out, for
    data lies there; `everything` takes those too.
    """
    root = Path(__file__).resolve().parents[2]
    private = {root, home(), Path(os.environ.get("PWD", root)).resolve()}
    with suppress(OSError):  # the folder we run in may be gone
        private.add(Path.cwd())
    paths = [Path(path).resolve() for path in sys.path if path]
    packages = [path for path in paths if everything or not any(p.is_relative_to(path) for p in private)]
    named = [os.environ.get(name, "") for name in ("LD_LIBRARY_PATH", "GDAL_DATA", "PROJ_DATA", "PROJ_LIB")]
    given = [path for value in named for path in value.split(os.pathsep) if path]
    rooms = [str(root / room) for room in ("modalities", "pipelines")]
    return [*SYSTEM, sys.prefix, sys.base_prefix, *rooms, *map(str, packages), *given, *_mapped()]


def home() -> Path:
    """The user's folder; "~" where nobody has any."""
    return Path(os.path.expanduser("~"))


def _mapped() -> Iterator[str]:
    """Folders of shared libraries in use."""
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        path = line.partition("/")[2]
        if ".so" in path:
            yield os.path.dirname(f"/{path}")


def restrict(read: Iterable[str], write: Iterable[str]) -> None:
    """Leave this process and its threads only these files and folders, for good. OSError if it cannot be."""
    version = _call(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION)
    handled = (1 << KNOWN_RIGHTS.get(version, 16)) - 1
    ruleset = _call(CREATE_RULESET, ctypes.byref(_Ruleset(handled)), ctypes.sizeof(_Ruleset), 0)
    try:
        for path in dict.fromkeys(read):
            _allow(ruleset, path, READ_FILE | READ_DIR)
        for path in dict.fromkeys((*write, *WRITTEN)):
            _allow(ruleset, path, handled & ~EXECUTE)
        _call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # nothing there, nothing to allow
        return
    try:
        rights = rights if os.path.isdir(path) else rights & FILE_RIGHTS
        rule = _Beneath(rights, descriptor)
        _call(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(
        ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), f"call {number}: {os.strerror(ctypes.get_errno())}")
    return int(result)
