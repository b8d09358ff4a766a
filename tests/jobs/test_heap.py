"""How a driver takes memory: seen from a process of its own, for it cannot be undone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, sys, threading
if sys.argv[2] == "one":
    from jobs.heap import one_heap
    one_heap()
import pyarrow as pa
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
all_there = threading.Barrier(9)
def take():
    libc.malloc(ctypes.c_size_t(1000))
    all_there.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
all_there.wait()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(pa.default_memory_pool().backend_name)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
@pytest.mark.parametrize("how", ["one", "as it comes"])
def test_threads_share_two_arenas_and_arrow_takes_the_systems_memory(how: str, tmp_path: Path) -> None:
    report = tmp_path / "malloc.xml"
    command = [sys.executable, "-c", PROGRAM, str(report), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    arenas = len(re.findall("<heap nr=", report.read_text()))
    if how == "one":
        assert (done.stdout.strip(), arenas) == ("system", 2)
    else:
        assert arenas > 2, "or this test proves nothing"
