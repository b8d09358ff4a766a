"""Real processes that are killed: driver, worker, raylet; then the same job again, and the checker.

python -m jobs.chaos.kills --points 50 --victims driver,worker,raylet --paths surveyed,plain
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from jobs.chaos.invariants import Truth, swept, torn, truth_of, watched
from jobs.failures import CLUSTER, OK
from pipelines.shards.manifest import latest
from pipelines.shards.storage import LocalStorage

VICTIMS: Final = ("driver", "worker", "raylet")
PATHS: Final = {"surveyed": "exact", "plain": "none"}  # what dedup decides: plain objects are opened once
KINDS: Final = ("survey", "units", "shards", "done")  # of objects, which every run on both paths writes
LATEST: Final = 75  # per cent: of what is left then, a killer on a busy machine is still in time
ENDS: Final = {  # a job whose worker died goes on; Ray itself ends one without a raylet, with 1 and no word
    "driver": (-signal.SIGKILL,),
    "worker": (OK,),
    "raylet": (1, CLUSTER, OK),  # OK where the last results were with the driver by then
}
LIMIT_S: Final = 240.0  # of one run (I7)
ATTEMPTS: Final = 4
PICTURES: Final = 240


@dataclass(frozen=True)
class Kill:
    """Which process died, at which moment of the job, and how the job ended that time."""

    victim: str
    moment: str  # done:25% of what this run had to write
    code: int | None  # None: it had not ended within LIMIT_S
    happened: bool  # before there was a snapshot
    error: str = ""

    def problems(self) -> list[str]:
        """A kill that did not happen proves nothing; one that did has to end the job, in a known way (I7)."""
        if self.code is None:
            return [f"I7 no end within {LIMIT_S:g} s"]
        if not self.happened:
            return [f"nobody was killed: the job had ended before, with {self.code} {self.error}"]
        if self.code not in ENDS[self.victim]:
            return [f"I7 exit code {self.code}, want one of {ENDS[self.victim]}: {self.error}"]
        return []


def write_job(
    folder: Path, *, pictures: int = PICTURES, samples: int = 2, seed: int = 0, path: str = "surveyed"
) -> Path:
    """A source with a bad file and a double in it, and the job file that ingests it by one of PATHS.

    Few `samples` a shard make many units: a second of packing, in which there is time to kill.
    """
    import numpy as np
    from PIL import Image

    source = folder / "source"
    source.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(pictures):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(out := io.BytesIO(), "JPEG")
        (source / f"{i:04}.jpg").write_bytes(out.getvalue())
    (source / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (source / "twice.jpg").write_bytes((source / "0000.jpg").read_bytes())
    job = folder / "job.yaml"
    job.write_text(
        f"kind: ingest\nmodality: image\nsource: {{uri: {source}}}\noutput: {folder / 'data'}\n"
        f"shards: {{max_samples: {samples}}}\ndedup: {PATHS[path]}\nworkers: 2\n"
    )
    return job


def run_job(job: Path, output: Path) -> int | None:
    """The same job in peace; its exit code, or None when it does not end."""
    with _started(job, output) as process:
        return _code(process, time.monotonic() + LIMIT_S)[0]


def killed_run(job: Path, output: Path, victim: str, moment: str, whole: Truth) -> Kill:
    """Run the job, and kill `victim` once this run has written so much of what it will write of a kind.

    `moment` is "done:25%": 0% is the first object and 100% the last, by what there is in the `whole`. Of a
    kind that earlier runs have written, it is that share of the done-markers.
    """
    kind, _, share = moment.partition(":")
    wanted = {name: sum(PurePath(key).match(_objects(name)) for key in whole.keys) for name in KINDS}
    before = {name: sum(1 for _ in output.glob(_objects(name))) for name in KINDS}
    if before[kind] >= wanted[kind]:
        kind = "done"
    left = wanted[kind] - before[kind]
    count = before[kind] + 1 + int(max(0, left - 1) * int(share.rstrip("%")) / 100)
    deadline, happened = time.monotonic() + LIMIT_S, False
    family: list[Any] = []
    with _started(job, output) as process:
        while process.poll() is None and time.monotonic() < deadline:
            if sum(1 for _ in output.glob(_objects(kind))) >= count:
                family = _family(process.pid)
                if _kill(process.pid, family, victim):
                    happened = latest(LocalStorage(output)) is None
                    break
            time.sleep(0.01)
        code, error = _code(process, deadline)
    _end(family)
    return Kill(victim, moment, code, happened, error)


def _objects(kind: str) -> str:
    """The pattern of their keys."""
    return "shards/*" if kind == "shards" else f"runs/*/{kind}/*"


@contextlib.contextmanager
def _started(job: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The job in a process of its own, which is gone afterwards."""
    command = [sys.executable, "-m", "jobs.cli", "run", str(job), f"output={output}"]
    process = subprocess.Popen(
        command, env=_environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            family = _family(process.pid)
            process.kill()
            _end(family)
        process.communicate()


def _code(process: subprocess.Popen[bytes], deadline: float) -> tuple[int | None, str]:
    """How it ended, and the last it said."""
    try:
        _, error = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None, ""
    return process.returncode, error.decode(errors="replace")[-2000:]


def _family(driver: int) -> list[Any]:
    """Every process that the job has started: those and no other are ended when it is dead."""
    import psutil

    with contextlib.suppress(psutil.Error):
        found: list[Any] = psutil.Process(driver).children(recursive=True)
        return found
    return []


def _kill(driver: int, family: list[Any], victim: str) -> bool:
    """SIGKILL; the driver goes with its whole family, as when a machine loses its power.

    False: there is none, or no worker that is at work on something somebody waits for.
    """
    import psutil

    if victim == "driver":
        os.kill(driver, signal.SIGKILL)
        _end(family)
        return True
    wanted = {"raylet": "raylet", "worker": "ray::"}[victim]
    for process in family:
        with contextlib.suppress(psutil.Error):
            title = f"{process.name()} {' '.join(process.cmdline()[:1])}"
            if wanted in title and not any(word in title for word in ("IDLE", "Agent", "wake")):
                process.kill()
                return True
    return False


def _end(family: list[Any]) -> None:
    import psutil

    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _environment() -> dict[str, str]:
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def until_done(
    job: Path, output: Path, whole: Truth, kills: Sequence[tuple[str, str]]
) -> tuple[list[Kill], list[str]]:
    """Kill and start again until the job has ended, while somebody reads; everything that does not hold."""
    storage, done, found = LocalStorage(output), list[Kill](), list[str]()
    with watched(storage) as seen:
        for victim, moment in kills:
            done.append(kill := killed_run(job, output, victim, moment, whole))
            found += [f"{victim} at {moment}: {text}" for text in kill.problems() + torn(storage)]
            if kill.code == OK and latest(storage) is None:
                found.append(f"{victim} at {moment}: I7 exit code 0 without a snapshot")
        for _ in range(ATTEMPTS):
            if latest(storage) is not None or run_job(job, output) == OK:
                break
        else:
            found.append(f"I7 the job does not end in {ATTEMPTS} attempts")
    return done, found + seen + swept(storage, whole, thorough=True)


def golden(job: Path, output: Path) -> Truth:
    """What the job makes when nothing happens."""
    assert run_job(job, output) == OK
    return truth_of(LocalStorage(output))


def draw(rng: random.Random, victims: Sequence[str]) -> list[tuple[str, str]]:
    """One or two kills at moments that every run has; none after that of a worker: its job ends well."""
    kills: list[tuple[str, str]] = []
    for _ in range(rng.choice((1, 1, 2))):
        kills.append((rng.choice(victims), f"{rng.choice(KINDS)}:{rng.randint(0, LATEST)}%"))
        if kills[-1][0] == "worker":
            break
    return kills


def main() -> int:
    """Kill at random moments, print what did not hold and how to see it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--victims", default=",".join(VICTIMS))
    parser.add_argument("--paths", default=",".join(PATHS), help="taken in turn")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bad, paths = 0, arguments.paths.split(",")
    with tempfile.TemporaryDirectory(prefix="rayloom-kills-") as temporary:
        folder = Path(temporary)
        jobs = {path: write_job(folder / path, path=path) for path in paths}
        truths = {path: golden(job, folder / path / "golden") for path, job in jobs.items()}
        for point in range(arguments.points):
            path = paths[(arguments.seed + point) % len(paths)]
            kills = draw(random.Random(arguments.seed + point), arguments.victims.split(","))
            done, found = until_done(jobs[path], folder / path / f"data{point}", truths[path], kills)
            bad += bool(found)
            who = [f"{k.victim} at {k.moment}, {'killed' if k.happened else 'NOT KILLED'}" for k in done]
            told = {"seed": arguments.seed + point, "path": path, "kills": who, "found": found}
            print(json.dumps(told), flush=True)
            if found:
                again = f"--points 1 --seed {arguments.seed + point} --victims {arguments.victims}"
                again += f" --paths {arguments.paths}"
                print(f"again: python -m jobs.chaos.kills {again}", flush=True)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
