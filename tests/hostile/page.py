"""Measure libraries on every case and write docs/hostile.md: `python tests/hostile/page.py`."""

import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import fill

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from hostile.case import Case, Place
from hostile.libraries import measure, versions, warm
from hostile.list import CASES, neighbour
from hostile.listener import Listener

ROOT = Path(__file__).parents[2]
SECRET = "canary-7351"
HEAD = """# Hostile files

What rayloom does with files made to harm, and what the usual library does with the same file when called
with its defaults. Each file is built by `tests/hostile/`, and `tests/test_hostile.py` holds ours to it:
nothing in the file runs, no file outside the source is read, nobody is called, the decoder's process and the
worker that opens the source stay below 1 GiB, the sample is quarantined with the reason given, and its
neighbours are kept. `kept`: the lie is of no consequence.

The last column is measured, not remembered: a process for each file, 4 GiB of address space, {timeout:g} s.
"takes it" means that something comes back without an error. It says how much has to be done around a
library, not that a library is at fault. Measured with {versions}. To measure anew: `python
tests/hostile/page.py`.

| case | what it is | rayloom | library | what the library does |
|---|---|---|---|---|
"""


def main() -> None:
    from hostile.libraries import TIMEOUT_S

    rows = dict(_measured())
    lines = [
        f"| {case.modality}: {case.name} | {_cell(case.about)} | {case.reason} | {case.library} | "
        f"{_cell(rows[case.modality, case.name])} |"
        for case in CASES
    ]
    head = HEAD.format(timeout=TIMEOUT_S, versions=", ".join(versions()))
    head = "\n".join(fill(line, 118) if len(line) > 118 else line for line in head.split("\n"))
    (ROOT / "docs" / "hostile.md").write_text(head + "\n".join(lines) + "\n")


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _measured() -> Iterator[tuple[tuple[str, str], str]]:
    """By library, each in a process of its own that has only this library in memory."""
    listener = Listener()
    for library, cases in groupby(
        sorted(CASES, key=lambda case: case.library), key=lambda case: case.library
    ):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            warm(library)
            with os.fdopen(writer, "w") as out:
                for case in cases:
                    out.write(f"{case.modality}\t{case.name}\t{_one(case, listener)}\n")
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answers:
            for line in answers:
                modality, name, said = line.rstrip("\n").split("\t")
                yield (modality, name), said
        os.waitpid(child, 0)


def _one(case: Case, listener: Listener) -> str:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(root=Path(folder, "source"), outside=Path(folder, "outside"), url=listener.url)
        place.root.mkdir()
        place.outside.mkdir()
        place.canary.write_text(SECRET)
        neighbour(case.modality, place.root)
        case.make(place)
        said = measure(case.library, place.root / case.file, SECRET)
        if place.marker.exists():
            said = f"RUNS THE CODE in it; {said}"
        if listener.counted():
            said = f"CONNECTS to the server; {said}"
        return said.replace("reads the file outside", "READS THE FILE outside")


if __name__ == "__main__":
    main()
