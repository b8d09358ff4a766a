"""What a look at files costs beside decoding them, and what its process adds. `python -m jobs.bench.sandbox`.

Three ways take turns over the same files in memory: the bare decoder (read, decode all), the survey in this
process (open, read, hash, probe, decode, quality, fingerprint), and the same with its decoder in a process
apart. Medians of the rounds; CPU is that of both processes. OMP_NUM_THREADS=1 gives all three the one thread
that the child has.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import modalities
from jobs.bench.ingest import KINDS, bare_decode, write_files
from modalities.base import BadSample, Modality
from pipelines.sources import Entry, list_source
from pipelines.stages.sandbox import Sandbox
from pipelines.stages.survey import examined

COUNTS = {"jpeg": 480, "laz": 48, "geotiff": 96, "h264": 48}  # of a round: about half a second
WAYS = ("bare decoder", "in this process", "in the sandbox")


def measure(form: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Of every way and round: seconds of CPU and by the clock, a file."""
    kind = modalities.get(KINDS[form])
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder, Sandbox() as box:
        write_files(Path(folder), form, COUNTS[form])
        entries = list(_listed(folder, kind))
        paths = [str(Path(folder, entry.name)) for entry in entries]
        ways: list[Callable[[], None]] = [
            lambda: bare_decode(paths, form),
            lambda: _survey(entries, kind, False),
            lambda: _survey(entries, kind, box),
        ]
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for i in range(rounds + 1):
            for name, way in zip(WAYS, ways, strict=True):
                cpu, clock = _cpu(box), time.perf_counter()
                way()
                found = (_cpu(box) - cpu) / len(paths), (time.perf_counter() - clock) / len(paths)
                took[name] += [found] if i else []  # the first one imports
        return took


def _listed(folder: str, kind: Modality) -> Iterator[Entry]:
    columns = {"uri_column": "uri", "label_column": "label", "caption_column": "caption"}
    return list_source(
        SimpleNamespace(uri=folder, synth=None, seed=0, labels="none", glob=None, **columns), kind
    )


def _survey(entries: list[Entry], kind: Modality, sandbox: bool | Sandbox) -> None:
    for entry, _, _, outcome in examined(entries, kind, [], sandbox=sandbox):
        if isinstance(outcome, BadSample):
            raise AssertionError(f"{entry.name} is not good: {outcome}")


def _cpu(box: Sandbox) -> float:
    """Seconds of this process and of the child."""
    own, child = time.process_time(), box.pid
    return own if child is None else own + time.clock_gettime((~child << 3) | 2)  # linux: CPUCLOCK_SCHED


def measure_start(form: str) -> tuple[float, float]:
    """Seconds of its CPU until a child is up, and by the clock."""
    with Sandbox() as box:
        start = time.perf_counter()
        box.start(modalities.get(KINDS[form]), wait=True)
        assert box.pid is not None
        return time.clock_gettime((~box.pid << 3) | 2), time.perf_counter() - start


def main() -> None:
    """Measure every form of file, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("forms", nargs="*", metavar="form", default=sorted(KINDS))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    for form in given.forms:
        took = measure(form, given.rounds)
        starts = [measure_start(form) for _ in range(3)]
        print(f"{form}: a child is up in {_ms(starts, 1):.0f} ms, {_ms(starts, 0):.0f} of CPU")
        bare, apart = WAYS[0], WAYS[2]
        for name in WAYS:
            print(
                f"  {name:<16}{_ms(took[name], 0):8.2f} CPU ms a file{_ratio(took, name, bare, 0):6.2f} bare"
                f"{_ms(took[name], 1):10.2f} ms by the clock{_ratio(took, name, bare, 1):7.2f}"
            )
        cpu, clock = (_ratio(took, apart, WAYS[1], at) for at in (0, 1))
        print(f"  the sandbox adds {cpu - 1:+.0%} of CPU, {clock - 1:+.0%} of time", flush=True)


def _ms(took: list[tuple[float, float]], at: int) -> float:
    return 1e3 * median(pair[at] for pair in took)


def _ratio(took: dict[str, list[tuple[float, float]]], a: str, b: str, at: int) -> float:
    """Median over the rounds, each of which has its own load."""
    return median(x[at] / y[at] for x, y in zip(took[a], took[b], strict=True))


if __name__ == "__main__":
    main()
