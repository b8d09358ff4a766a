"""How a driver takes memory from the system: many threads make its tables, and each keeps what it freed."""

import ctypes
import os
from contextlib import suppress

ARENAS = 2  # one would make threads wait: a fifth more time for a plan
M_ARENA_MAX = -8  # malloc.h of glibc
# Read when pyarrow is imported. Its own allocator gives back less than the system's, in the same time.
ONE_HEAP = {"ARROW_DEFAULT_MEMORY_POOL": "system"}


def one_heap() -> None:
    """Have this process keep little of what its threads freed. To be called before pyarrow is imported."""
    os.environ.update(ONE_HEAP)
    with suppress(OSError, AttributeError):  # of glibc alone; in the environment it would reach Ray's servers
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
