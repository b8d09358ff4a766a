"""The inside of the sandbox: confine this process, then examine and build what the worker sends."""

import errno
import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.stages import _confine

LIBRARY_BYTES = 2**30  # of address space for decoders that are imported when first needed
UNREAD_BYTES = 2**15
CLOCK_NS = 10**9  # a file system tells changes apart that are so far from each other

if TYPE_CHECKING:
    from modalities.base import Modality
    from pipelines.stages.process import Found, Look


def main(
    fds: str, parent: str, allowed: str, module: str, modality: str, libraries: str, *folders: str
) -> None:
    """Serve until the worker hangs up. Noise on standard output and error is harmless: they are not the line.

    `fds`: of the line, the bell and the shelf. `parent`: its process. `allowed`: bytes of memory. `module`:
    where MODALITY is taken from instead of the modalities on disk; "" for those. `modality` is imported
    before the first sample comes, so that its time is not the sample's; and so are `libraries`, of which
    the worker wants to know whether they load where no sample has been. `folders` may be read.
    """
    line, bell, shelf = map(int, fds.split(","))
    memory_bytes = int(allowed)
    os.mkdir(os.environ["TMPDIR"], 0o700)
    missing = _confine.confine(memory_bytes, read=folders, write=[os.environ["TMPDIR"]])
    _confine.die_with(int(parent))
    import faulthandler
    import gc
    import mimetypes

    faulthandler.enable()  # a crash in native code leaves the Python lines that led there on stderr
    # Libraries that are imported later ask `mimetypes` (open3d does, by way of dash), which opens each of the
    # machine's tables that it sees, and these may not be read here. Which there are differs between systems
    # and Python releases; without any, it knows the types that come with Python, the same on every machine.
    mimetypes.knownfiles.clear()
    from pipelines.stages._frames import Shelf, frame, read_frame

    _modality(modality, module)
    cell = _Cell(module, memory_bytes)
    with socket.socket(fileno=line) as link, link.makefile("rb", buffering=2**18) as incoming:

        def receive(size: int) -> bytes:
            data: bytes = incoming.read(size)
            if len(data) < size:
                os._exit(0)  # the worker is gone or has closed us
            return data

        _tell(link, bell, frame({"missing": missing, "lacks": _lacks(libraries)}))
        gc.freeze()  # libraries are not looked through again and again
        while True:
            message, sent = read_frame(receive, bounded=False)
            # One at a time: what was read last is in the processor's cache, and its memory is used again.
            taken = Shelf(shelf).take(*message["shelf"]) if "shelf" in message else _emptied(sent)
            _tell(link, bell, cell.answers(message, taken))


def _tell(link: socket.socket, bell: int, parts: Iterable[bytes]) -> None:
    """Send them and ring once they are there: a worker that waits for the bell is not woken for each.

    What the line may not hold unread is announced when it begins to come.
    """
    unread = 0
    for part in parts:
        unread += len(part)
        if unread > UNREAD_BYTES:
            link.sendall(part[:1])
            os.write(bell, b"\0")
            link.sendall(memoryview(part)[1:])
            unread = 0
        else:
            link.sendall(part)
    os.write(bell, b"\0")


def _lacks(libraries: str) -> str:
    """Which of them does not load and what to do; "" when all are there."""
    from modalities.libraries import MissingLibrary, load

    try:
        load(*filter(None, libraries.split(",")))
    except MissingLibrary as e:
        return str(e)
    return ""


def _emptied(blobs: list[bytes]) -> Iterator[bytes]:
    """Them in order, none of them held any longer."""
    blobs.reverse()
    while blobs:
        yield blobs.pop()


class _Cell:
    """Does the work. `memory_bytes`: what it may take, beside libraries and mapped files."""

    def __init__(self, module: str, memory_bytes: int) -> None:
        self.module, self.memory_bytes = module, memory_bytes
        self.address_bytes = _confine.address_space_bytes() + LIBRARY_BYTES + memory_bytes
        self.scratch = os.open(os.environ["TMPDIR"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.tidied = 0  # when the scratch folder had changed last, and nothing lay there, in ns
        self.limit = 0  # of the address space, as it is set
        self.served = 0

    def answers(self, message: Mapping[str, Any], blobs: Iterator[bytes]) -> Iterator[bytes]:
        """What to send back, look by look."""
        from pipelines.stages._frames import frame

        self._make_room()
        for number, look in enumerate(message["looks"], message["number"]):
            answer, files = self._answer(message, look, blobs)
            if "bad" in answer:  # and what others left may be why
                self._make_room()
            yield from frame({**answer, "number": number}, files)
            self.served += 1

    def _make_room(self) -> None:
        """End where samples before left too little memory or too few files: a new process will be asked."""
        short = _confine.data_bytes() > self.memory_bytes // 2 or _confine.few_files_left()
        if self.served and short:
            os._exit(0)

    def _answer(
        self, message: Mapping[str, Any], facts: list[Any], blobs: Iterator[bytes]
    ) -> tuple[dict[str, Any], list[bytes]]:
        """What became of one look, whatever it raised. Takes its blobs."""
        from modalities.base import BadSample
        from modalities.libraries import MissingLibrary
        from pipelines.stages._answer import told

        look, paths = _look(facts, blobs)
        try:
            if os.lseek(2, 0, os.SEEK_END):  # noise of the sample before
                os.ftruncate(2, 0)
            found = self._work(look, paths, message)
            files = [content for sample in found for content in getattr(sample, "files", {}).values()]
            return {"found": told(found)}, files
        except BadSample as bad:
            return {"bad": [str(bad.reason), str(bad.detail)]}, []
        except MissingLibrary as e:
            return {"bad": ["crashed", traceback.format_exc(limit=-3)], "lacks": e.name}, []
        except BaseException as e:  # also SystemExit, and the panics of Rust
            short = isinstance(e, MemoryError) or getattr(e, "errno", None) == errno.ENOMEM
            return {"bad": ["out-of-memory" if short else "crashed", traceback.format_exc(limit=-3)]}, []
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Remove what a sample left in the scratch folder, which stays: the kernel knows it, not its name."""
        if os.fstat(self.scratch).st_mtime_ns == self.tidied:
            return
        for name in os.listdir(self.scratch):
            left = Path(os.environ["TMPDIR"], name)
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        changed = os.fstat(self.scratch).st_mtime_ns
        # The clock of a file system ticks slowly: another change may still bear the time of this one.
        self.tidied = changed if time.time_ns() - changed > CLOCK_NS else 0

    def _work(self, look: "Look", paths: Iterable[str], message: Mapping[str, Any]) -> "Found":
        from pipelines.stages.process import build, examine

        limit = self.address_bytes + sum(os.path.getsize(path) for path in paths)
        if limit != self.limit:
            _confine.limit_address_space(limit)
            self.limit = limit
        modality, given = _modality(message["modality"], self.module), message["given"]
        if message["do"] == "examine":
            return list(examine(look, modality, message["stages"], **given))
        return [build(look, modality, message["stages"], **given)]


def _look(facts: list[Any], blobs: Iterator[bytes]) -> tuple["Look", Iterable[str]]:
    """And the local files it names."""
    from modalities.base import Raw
    from pipelines.stages.process import Look

    name, label, caption, paths, companions, sidecars = facts

    def part(which: str) -> bytes | Path:
        data = next(blobs)
        return Path(paths[which]) if which in paths else data

    whole = part("")
    raw = Raw(name=name, content=whole, companions={name: part(f"beside/{name}") for name in companions})
    beside = {ext: next(blobs) for ext in sidecars}
    return Look(raw=raw, sidecars=beside, label=label, caption=caption), paths.values()


@cache
def _modality(name: str, module: str) -> "Modality":
    from importlib import import_module

    import modalities

    if not module:
        return modalities.get(name)
    modality: Modality = import_module(module).MODALITY
    return modality


if __name__ == "__main__":
    main(*sys.argv[1:])
