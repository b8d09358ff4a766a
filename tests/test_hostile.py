"""Files made to harm cost themselves, each with a reason of its own, and nothing else.

Cases are built in tests/hostile/, a file a kind of data. docs/hostile.md says beside each what the usual
library does with it; `python tests/hostile/page.py` measures that anew.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import modalities
from pipelines.sources import list_source
from pipelines.stages.sandbox import Sandbox
from pipelines.stages.survey import survey_entries

sys.path.insert(0, str(Path(__file__).parent))

from hostile.case import KEPT, Case, Place, pickled
from hostile.list import CASES, neighbour
from hostile.listener import Listener

MEMORY_BYTES = 2**30
SECRET = "canary-7351"


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


def resident_bytes(pid: int, what: str) -> int:
    """VmRSS: what a process holds; VmHWM: the most it has held, as the kernel counts, since `forget`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def forget(pid: int) -> None:
    """Have the kernel count anew, where it lets us; else the count is of all cases so far."""
    with suppress(PermissionError, FileNotFoundError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.modality}-{case.name}")
def test_a_hostile_file_costs_itself_alone(
    case: Case, tmp_path: Path, listener: Listener, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAYLOOM_ALLOW_PRIVATE_HOSTS", raising=False)
    place = Place(root=tmp_path / "source", outside=tmp_path / "outside", url=listener.url)
    for folder in (place.root, place.outside):
        folder.mkdir()
    place.canary.write_text(SECRET)
    good = neighbour(case.modality, place.root)
    case.make(place)

    forget(os.getpid())
    before = resident_bytes(os.getpid(), "VmRSS")
    rows = surveyed(case, place, sandbox)

    kept = {row["name"] for row in rows if row["status"] == "ok"}
    reasons = {(row["name"], row["reason"]) for row in rows if row["status"] == "quarantined"}
    hostile = {row["name"] for row in rows} - good
    assert good <= kept, reasons
    assert hostile, "nothing was listed"
    if case.reason == KEPT:
        assert hostile <= kept, reasons
    else:
        assert {(name, case.reason) for name in hostile} == reasons
    assert not place.marker.exists(), "code ran"
    assert SECRET not in repr(rows), "a file outside was read"
    assert listener.counted() == 0, "somebody connected"
    assert sandbox.pid is not None
    assert resident_bytes(sandbox.pid, "VmHWM") <= MEMORY_BYTES
    assert resident_bytes(os.getpid(), "VmHWM") - before <= MEMORY_BYTES  # who lists and opens them


def surveyed(case: Case, place: Place, sandbox: Sandbox) -> list[dict[str, Any]]:
    source = SimpleNamespace(
        uri=str(place.root / case.source), synth=None, labels="auto" if case.source else "sidecar", glob=None,
        uri_column="uri", label_column="label", caption_column="caption",
    )  # fmt: skip
    kind = modalities.get(case.modality)
    sandbox._ready(case.modality, frozenset())
    assert sandbox.pid is not None
    forget(sandbox.pid)
    return survey_entries(list_source(source, kind), kind, [], sandbox=sandbox)


def test_there_are_many_cases_each_once() -> None:
    names = [(case.modality, case.name) for case in CASES]
    assert len(names) >= 120
    assert len(set(names)) == len(names)
    assert {case.modality for case in CASES} == set(modalities.names())


def test_the_page_lists_every_case_with_what_was_measured() -> None:
    page = Path(__file__).parents[1].joinpath("docs", "hostile.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line
    ]
    listed = {(row[0], row[1], row[2]) for row in rows if len(row) == 5}
    for case in CASES:
        assert (f"{case.modality}: {case.name}", case.about.replace("|", "/"), case.reason) in listed, (
            case.name
        )
    assert all(row[4] for row in rows if len(row) == 5)


def test_the_watch_notices_a_breach(tmp_path: Path, listener: Listener) -> None:
    """The positive control: the same watch over a reader that does what it is told."""
    place = Place(root=tmp_path, outside=tmp_path, url=listener.url)
    # what careless readers do; the payload is our own, and only touches the marker
    exec("import pickle; pickle.loads(content)", {"content": pickled(place)})
    assert place.marker.exists()
    with socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2]))):
        assert listener.counted() == 1
