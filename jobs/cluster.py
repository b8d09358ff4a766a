"""Ray, where the job runs: the cluster that RAY_ADDRESS names, or this machine."""

import atexit
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from jobs.failures import CLUSTER
from jobs.head import ClusterDown, watched
from jobs.scratch import scratch
from jobs.streams import end

ROOT = Path(__file__).parents[1]
EXCLUDES = (".git", ".venv", "tests", "docs", "demo", "infra", "**/__pycache__", ".*_cache")
ENVIRONMENT = {
    "WDS_SECURE": "1",  # read when webdataset is imported: without it a tar can run code
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # the job draws its own
    "RAY_task_oom_retries": "10",  # of a task of Ray Data's; without it they have no end
    # Threads of a model that wait for each other must sleep: spinning they take the cores from the loader's
    # threads. On 2 cores with 2 loader threads a small model made 4 times the steps a second.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
}
STARTS = 2  # of a local Ray, on a machine that is too busy for the first
FOR_SOCKETS = Path("/tmp")
SOCKET_BYTES = (
    107 - 68
)  # of a socket's path, less what Ray adds: a session named by time and process, its own
NODE_STARTS = 5  # of one more node here, as tests have them
T = TypeVar("T")


@contextmanager
def cluster(workers: int | None = None) -> Iterator[None]:
    """Connect to Ray for the time of a job. `workers` bounds the cores of a local Ray.

    A Ray that is already connected is used as it is and left running, so that several jobs can share one.
    """
    os.environ.update(ENVIRONMENT)
    _heed_sigterm()
    import ray

    if ray.is_initialized():
        yield
        return
    remote = os.environ.get("RAY_ADDRESS")
    environment: dict[str, object] | None = None
    with scratch() as folder:
        if remote:
            environment = {"env_vars": ENVIRONMENT, "working_dir": str(ROOT), "excludes": list(EXCLUDES)}
        else:  # workers of a local Ray inherit this environment: they start faster than with one of their own
            os.environ["PYTHONPATH"] = _python_path()
            os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"  # nobody preempts this machine
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ talks past all loggers
            lasting = folder.parent  # for what outlasts a job: Ray's logs, kernels that torch compiled
            os.environ.setdefault("RAY_TMPDIR", str(lasting if _fits_sockets(lasting) else FOR_SOCKETS))
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{lasting}/torchinductor_{os.getuid()}")
        logging.getLogger("ray").setLevel(logging.ERROR)  # its own greetings are not the user's business
        _start(remote, workers, environment)
        lost = threading.Event()
        try:
            through = (remote or "").startswith("ray://")  # a proxy, which may be all that can be reached
            address = "" if through else ray.get_runtime_context().gcs_address
            with watched(address, lost, _leave):
                yield
        finally:
            if lost.is_set():
                _leave()
            else:
                ray.shutdown()


def _fits_sockets(folder: Path) -> bool:
    """Whether Ray can have its sockets there: it takes ASCII alone, and the system short paths."""
    return str(folder).isascii() and len(str(folder)) <= SOCKET_BYTES


def _start(remote: str | None, workers: int | None, environment: dict[str, object] | None) -> None:
    import ray

    for attempt in range(STARTS):
        try:
            with _hushed():
                ray.init(
                    address=remote or "local",  # never a Ray that somebody else left here
                    num_cpus=None if remote else workers,
                    include_dashboard=None if remote else False,
                    runtime_env=environment,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    configure_logging=True,
                )
            break
        except (ConnectionError, RuntimeError, OSError, ValueError) as e:
            raise ClusterDown(f"no Ray at {remote or 'this machine'}: {e}") from e
        except (SystemExit, KeyboardInterrupt) as e:  # the first is what Ray makes of SIGTERM while it starts
            _stop_children()
            raise KeyboardInterrupt from e
        except Exception as e:  # a bare one; Ray waits 30 s for a node that it has started, and no longer
            if "timed out during startup" not in str(e):
                raise
            ray.shutdown()
            _stop_children()
            if attempt == STARTS - 1:
                raise ClusterDown(
                    f"Ray did not come up in {STARTS} times 30 s; what else keeps this machine busy?"
                ) from e
    _quiet()
    _heed_sigterm()


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep what C++ writes to the standard error from the user, unless it ends in an error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _heed_sigterm() -> None:
    """Let SIGTERM interrupt as Ctrl-C does: Ray's own handlers would abort without a word."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _leave() -> None:
    """Leave a Ray without a head: its own farewell would wait for the head, and then fall over."""
    _stop_children()
    atexit.register(end, CLUSTER)  # before what Ray has registered


def _stop_children() -> None:
    """End what a start that was cut off has started: Ray's agents would look for their raylet for long."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def _python_path() -> str:
    """Our tree first, so that no `models` or `jobs` of another package is found on the workers."""
    given = [
        path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(ROOT))
    ]
    return os.pathsep.join([str(ROOT), *given])


def _quiet() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # not one that says that there was one
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors end the job, which says them


def patiently(start: Callable[[], T]) -> T:
    """Start a node. Ray gives it 30 s, however busy the machine is, so that one more try may be enough."""
    for _ in range(NODE_STARTS - 1):
        try:
            return start()
        except Exception as e:  # Ray raises nothing more special
            if "timed out during startup" not in str(e):
                raise
    return start()
