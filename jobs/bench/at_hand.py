"""Free memory that costs nothing to take, while something is measured that fills it."""

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

AT_HAND = 2**30  # bytes that are let go before they are wanted: less than Linux gives back meanwhile
EVERY_S = 0.1
HELD_S = 3.0  # before anything is let go: what was free earlier has been given back by then
HUGE = 2**21  # let go in whole huge pages: quick for whoever lets go and for who takes them


@contextmanager
def memory_at_hand(num_bytes: int) -> Iterator[int]:
    """Another process, whose id this is, holds so much and lets go of as much as is taken meanwhile.

    A virtual machine gives memory back that was free for 2 s, and every page that it wants again costs it as
    much as a small file. Without this, whoever comes first or runs for longer than that pays for it.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    holder = context.Process(target=_hold, args=(num_bytes, theirs), daemon=True)
    holder.start()
    theirs.close()
    try:
        assert holder.pid is not None
        ours.recv()
        yield holder.pid
    finally:
        ours.close()
        holder.join()


def _hold(num_bytes: int, user: Connection) -> None:
    size, freed = -(-num_bytes // HUGE) * HUGE, 0
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    for start in range(0, size, mmap.PAGESIZE):
        memory[start] = 1
    time.sleep(HELD_S)
    wanted, told = _free() + min(AT_HAND, size), False
    while not (told and user.poll(EVERY_S)):
        missing = max(0, min(wanted - _free(), size - freed)) // HUGE * HUGE
        if missing:
            memory.madvise(mmap.MADV_DONTNEED, freed, missing)
            freed += missing
        if not told:
            user.send(None)
            told = True


def _free() -> int:
    """Bytes."""
    _, _, rest = Path("/proc/meminfo").read_text().partition("MemFree:")
    return int(rest.split()[0]) * 1024
