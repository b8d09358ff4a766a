"""The head of a cluster, watched: Ray would end a driver without one after a minute, and say nothing."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.failures import CLUSTER

EVERY_S = 2.0
PATIENCE_S = 40.0  # a head that is started anew may be back by then; Ray's own patience is 60
HURRY_S = 10.0  # for the job to end as an interrupted one does, before Ray ends it


class ClusterDown(RuntimeError):
    """The cluster cannot be reached, or it went away."""


@contextmanager
def watched(address: str, lost: threading.Event, give_up: Callable[[], None]) -> Iterator[None]:
    """ClusterDown in the main thread when nobody answers at `address` (host:port) for PATIENCE_S.

    `lost` is set then. Where the main thread does not heed it, `give_up` is called and the process ends,
    with the exit code of clusters. Without an address nobody is watched.
    """
    done = threading.Event()
    told = (
        f"the head of the cluster at {address} has not answered for {PATIENCE_S:g} s; run the command again"
    )

    def watch() -> None:
        answered = time.monotonic()
        while not done.wait(EVERY_S):
            if _answers(address):
                answered = time.monotonic()
            elif time.monotonic() - answered > PATIENCE_S:
                lost.set()
                os.kill(os.getpid(), signal.SIGTERM)
                if not done.wait(HURRY_S):
                    print(told, file=sys.stderr, flush=True)
                    give_up()
                    os._exit(CLUSTER)
                return

    if address:
        threading.Thread(target=watch, name="head", daemon=True).start()
    try:
        yield
    except BaseException as e:  # what Ray raises for it meanwhile, and the interrupt
        if lost.is_set():
            raise ClusterDown(told) from e
        raise
    finally:
        done.set()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True
