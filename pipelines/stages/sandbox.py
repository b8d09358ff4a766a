"""Foreign bytes meet native decoders in a process of their own: what one sample does there costs only itself.

One child a worker thread, kept over samples, started again after a death. The worker opens sources and keeps
credentials; the child gets bytes (or a local path) and answers with JSON and files, which are checked here.
RAYLOOM_SANDBOX=0 decodes in the worker instead; the bytes of a dataset do not depend on it.
"""

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import modalities
from modalities.base import BadSample, Meta, Modality
from modalities.libraries import PACKAGES, MissingLibrary
from pipelines.stages import process
from pipelines.stages._answer import checked_answer, checked_refusal, cleaned
from pipelines.stages._batch import Batch
from pipelines.stages._frames import Garbled
from pipelines.stages._landlock import libraries
from pipelines.stages._line import Line
from pipelines.stages.process import Compare, Filtered, Found, Look, Sample, Stage

SWITCH = "RAYLOOM_SANDBOX"
TIMEOUT_S = 120.0
MEMORY_BYTES = 4 * 2**30  # a picture of 99 Mpx takes 2.3 GB at its peak, a 1 GiB cube 3.1 GB
START_S = 300.0  # until the child is up; a crowded machine may need long to import
KEPT_VARIABLES = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONHOME", "GDAL_DATA", "PROJ_DATA",
    "PROJ_LIB",
)  # fmt: skip
THREADS = {  # one decoder thread, few arenas: both reserve address space by the number of cores
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX")
}
HEAP = {  # bytes; what a sample gave back is kept for the next: pages cost more to come by than to use
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TOP_PAD_": str(4 * 2**20),
}  # fmt: skip
DETAIL_CHARS = 4000
CELL = "pipelines.stages._cell"
MAX_FOLDERS = 1000
_OUT_OF_MEMORY = re.compile(r"std::bad_alloc|MemoryError|memory allocation of \d+ bytes failed")
log = logging.getLogger("rayloom")


class SandboxError(RuntimeError):
    """The sandbox itself does not work; no sample is to blame."""


class _Died(Exception):
    """The child ended in the middle of a sample, or ran out of memory: (reason, detail)."""


class _Doubted(Exception):
    """The child says that a library does not load; a new one shall say so before it has seen a sample."""


class Sandbox:
    """A child process that examines and builds samples. To be used from the thread that made it.

    timeout_s: wall clock of one sample. memory_bytes: what the child may allocate, all in all. module: a
    dotted module whose MODALITY the child takes instead of those on disk.
    """

    def __init__(
        self, *, timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES, module: str | None = None
    ) -> None:
        self.timeout_s, self.memory_bytes, self.module = timeout_s, memory_bytes, module
        self.starts = 0
        self._number = 0
        self._known: Modality | None = None  # found on disk
        self._loads: list[str] = []  # libraries that a child imports at its start, for one said it could not
        self._served = 0  # samples this child has answered for
        self._under_way: list[Batch] = []  # what this child was sent and has not answered in full
        self._child: subprocess.Popen[bytes] | None = None
        self._up = False  # it has said hello
        self._line: Line
        self._noise: BinaryIO
        self._folder = ""
        self._readable: frozenset[str] = frozenset()  # folders of local files that this child may read
        self._owner = os.getpid()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    @property
    def pid(self) -> int | None:
        """Of the child, while there is one."""
        return self._child.pid if self._child is not None else None

    def start(self, modality: Modality, *, wait: bool = False) -> None:
        """Start the child now, for there will be work for it; `wait` until it is up. SandboxError."""
        self._check(modality)
        if wait:
            self._ready(modality.name, frozenset())
        elif not self._alive():
            self.close()
            self._start(modality.name)

    def examine(
        self, looks: Sequence[Look], modality: Modality, stages: Sequence[Stage], *, decode: bool = True,
        compare: Compare = "",
    ) -> list[Found | BadSample]:  # fmt: skip
        """What process.examined says of each; also "crashed", "timeout" and "out-of-memory".

        All are sent at once, which saves waiting for the other process: keep them small together.
        """
        [outcomes] = self.stream([looks], modality, stages, decode=decode, compare=compare)
        return outcomes

    def stream(
        self, batches: Iterable[Sequence[Look]], modality: Modality, stages: Sequence[Stage], *,
        decode: bool = True, compare: Compare = "",
    ) -> Iterator[list[Found | BadSample]]:  # fmt: skip
        """`examine` of each batch, in order. The next is taken and sent before the answers to one are there.

        So the child works while the caller opens what comes next and uses what came last. Two batches are
        held. Headers alone are read here: that is plain Python, and the way to the child would cost more.
        """
        given: dict[str, Any] = {"decode": decode, "compare": compare}
        if not process.decodes(stages, decode=decode, compare=compare):
            for looks in batches:
                yield [process.examined(look, modality, stages, **given) for look in looks]
            return
        self._check(modality)
        last: Batch | None = None
        batch: Batch | None = None
        try:
            for looks in batches:
                batch = Batch("examine", looks, modality, stages, given)
                if last is not None:
                    self._offer(batch)
                    self._complete(last)
                self._begin(batch)
                if last is not None:
                    yield last.outcomes
                last = batch
            if last is not None:
                self._complete(last)
                yield last.outcomes
        finally:
            if any(left is not None and left in self._under_way for left in (last, batch)):
                self.close()  # nobody wants to know any more

    def build(
        self,
        look: Look,
        modality: Modality,
        stages: Sequence[Stage],
        *,
        meta: Meta,
        spec: Meta | None = None,
        suffix: str = "",
    ) -> Sample | Filtered:
        """As process.build. BadSample also for "crashed", "timeout" and "out-of-memory"."""
        self._check(modality)
        batch = Batch("build", [look], modality, stages, {"meta": meta, "spec": spec, "suffix": suffix})
        self._complete(batch)
        [found] = batch.outcomes
        if isinstance(found, BadSample):
            raise found
        if len(found) != 1:
            raise BadSample("crashed", f"want one sample from the decoder process, got {len(found)}")
        return found[0]

    def close(self) -> None:
        """End the child and whatever it left behind."""
        child, self._child, self._under_way = self._child, None, []
        if child is None or os.getpid() != self._owner:
            return
        self._line.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        self._noise.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self, modality: Modality) -> None:
        if self.module is None and modality is not self._known:
            if modalities.get(modality.name) is not modality:
                raise ValueError(f"want a modality on disk or Sandbox(module=...), got {modality}")
            self._known = modality

    def _begin(self, batch: Batch) -> None:
        """Send it. Whatever goes wrong will show when its answers are waited for."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._send(batch)

    def _offer(self, batch: Batch) -> None:
        """Send it behind the one that the child is busy with, unless they could wait for each other then."""
        if len(self._under_way) != 1 or not batch.left or not batch.folders <= self._readable:
            return
        message, blobs = batch.request(self._number)
        try:
            sent = self._line.send(message, blobs, time.monotonic() + self.timeout_s, ahead=True)
        except TimeoutError:
            self.close()
        except ConnectionError:
            pass  # what it died of is told where the one before is waited for
        else:
            self._number += batch.left if sent else 0
            self._under_way += [batch] if sent else []

    def _send(self, batch: Batch) -> None:
        """Unless the child has it and nothing before it. ConnectionError, TimeoutError."""
        while self._under_way and self._under_way[0] is not batch:
            self._complete(self._under_way[0])
        if self._under_way or not batch.left:
            return
        self._ready(batch.modality, batch.folders)
        message, blobs = batch.request(self._number)
        self._number += batch.left
        try:
            self._line.send(message, blobs, time.monotonic() + self.timeout_s)
        except ConnectionError:
            raise
        except BaseException:  # a half of it may be sent
            self.close()
            raise
        self._under_way.append(batch)

    def _complete(self, batch: Batch) -> None:
        """Have every outcome, asking again for what is left when a sample has ended the child."""
        while batch.left:
            try:
                self._send(batch)
                while batch.left:
                    batch.outcomes.append(self._answer(batch))
                    self._served += 1
                self._under_way.remove(batch)
            except TimeoutError:
                self.close()
                detail = f"no result after {self.timeout_s:g} s; the decoder was stopped"
                batch.outcomes.append(BadSample("timeout", detail))
            except Garbled as e:
                self.close()
                batch.outcomes.append(BadSample("crashed", f"the decoder process gave a wrong answer: {e}"))
            except _Doubted:
                self.close()
            except (ConnectionError, EOFError, _Died) as e:
                death = e if isinstance(e, _Died) else self._death()
                # A child that served others may have been hurt by them; a new one had only this sample.
                if not self._served:
                    batch.outcomes.append(BadSample(*death.args))
            except BaseException:  # an interrupt: what comes next would be the answer to this request
                self.close()
                raise

    def _answer(self, batch: Batch) -> Found | BadSample:
        """Of the first that is left. Its clock runs from here: the child may have begun, and not later."""
        answer, files = self._line.receive(time.monotonic() + self.timeout_s, self._alive)
        at = len(batch.outcomes)
        if answer.get("number") != batch.first + at:
            raise Garbled("it is the answer to another request")
        if "bad" not in answer:
            look = batch.looks[at]
            return checked_answer(answer.get("found"), files, look.label, look.caption)
        bad = checked_refusal(answer["bad"])
        if (lacks := answer.get("lacks")) in [name for name in PACKAGES if name not in self._loads]:
            self._loads.append(lacks)
            raise _Doubted
        if bad.reason == "out-of-memory":
            self.close()  # it may still hold what this sample took
            allowed = f"wants more than the {self.memory_bytes:,} bytes a decoder may take; cut it"
            raise _Died(bad.reason, f"{allowed}\n{bad.detail}")
        return bad

    def _alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _ready(self, modality: str, folders: frozenset[str]) -> None:
        """Have a child that may read `folders`, and is up."""
        if not self._alive() or not folders <= self._readable:
            self.close()
            # What a process gave up it cannot get back: a new folder needs a new child, which keeps the old
            # ones, for the pieces of a thousand scenes come in any order.
            self._readable = folders if len(self._readable) > MAX_FOLDERS else folders | self._readable
            self._start(modality)
        if not self._up:
            self._greet()

    def _start(self, modality: str) -> None:
        self._line = Line()
        self._noise = tempfile.TemporaryFile("a+b")  # noqa: SIM115  # closed with the child
        self._folder = str(Path(tempfile.gettempdir(), f"rayloom-{os.getpid()}-{secrets.token_hex(8)}"))
        ends = self._line.theirs
        numbers = (",".join(map(str, ends)), str(os.getpid()), str(self.memory_bytes))
        wanted = (self.module or "", modality, ",".join(self._loads))
        read = [*libraries(everything=self.module is not None), *sorted(self._readable)]
        self._served, self._up = 0, False  # before there is a child: an interrupt may come at once
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", CELL, *numbers, *wanted, *read],
                cwd="/", env=_environment(self._folder), pass_fds=[end for end in ends if end >= 0],
                start_new_session=True, stdin=subprocess.DEVNULL, stdout=self._noise, stderr=self._noise,
            )  # fmt: skip
        except BaseException:
            self._line.close()
            raise
        self._line.started()
        self.starts += 1

    def _greet(self) -> None:
        try:
            hello, _ = self._line.receive(time.monotonic() + START_S, self._alive)
        except (ConnectionError, EOFError, TimeoutError, Garbled) as e:
            detail = self._death().args[1]
            raise SandboxError(
                f"the decoder process does not start: {detail}; {SWITCH}=0 decodes without it"
            ) from e
        except BaseException:
            self.close()
            raise
        if lacks := hello.get("lacks"):
            self.close()
            self._loads.clear()  # work of another kind may do without
            raise MissingLibrary(f"{lacks}; if it loads elsewhere, {SWITCH}=0 decodes outside the sandbox")
        self._up = True
        for what in hello.get("missing", ()):
            if what not in _told:
                _told.add(what)
                log.warning("decoder process: %s", what)

    def _death(self) -> _Died:
        """Say how the child ended, and take it away."""
        assert self._child is not None
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        size = self._noise.seek(0, os.SEEK_END)
        self._noise.seek(max(0, size - DETAIL_CHARS))
        noise = cleaned(self._noise.read(DETAIL_CHARS).decode(errors="replace"))
        self.close()
        reason = "out-of-memory" if code == -signal.SIGKILL or _OUT_OF_MEMORY.search(noise) else "crashed"
        if code is None:
            how = "it closed the line"
        elif code >= 0:
            how = f"it ended with exit code {code}"
        else:
            how = f"it was ended by {signal.Signals(-code).name}"
            how += ", most often the kernel's, for lack of memory" if code == -signal.SIGKILL else ""
        return _Died(reason, f"{how}\n{noise}".strip())


def _environment(folder: str) -> dict[str, str]:
    """No credentials, no tokens, nothing of Ray's; our tree and the worker's packages importable."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    path = [str(Path(__file__).parents[2]), *(p for p in sys.path if p and Path(p).is_dir())]
    return {
        **THREADS,
        **HEAP,
        **kept,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "TMPDIR": folder,
        "HOME": folder,
    }


_told: set[str] = set()
_mine = threading.local()


def enabled() -> bool:
    """False when RAYLOOM_SANDBOX=0 asks for decoding in the worker itself."""
    return os.environ.get(SWITCH, "1") != "0"


def of_this_thread() -> Sandbox:
    """The sandbox of the calling thread, made on first use. The kernel ends its child with the thread."""
    mine: Sandbox | None = getattr(_mine, "sandbox", None)
    if mine is None or mine._owner != os.getpid():
        mine = _mine.sandbox = Sandbox()
    return mine


def builder(stages: Sequence[Stage]) -> Callable[..., Sample | Filtered]:
    """process.build; in the sandbox of this thread where it decodes, and not if bytes pass as they are."""
    return process.build if process.passes(stages) or not enabled() else of_this_thread().build
