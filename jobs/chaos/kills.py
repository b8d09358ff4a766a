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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs.chaos.invariants import Truth, torn, truth_of, violations
from pipelines.shards.manifest import latest
from pipelines.shards.storage import LocalStorage

VICTIMS: Final = ("driver", "worker", "raylet")
PATHS: Final = {"surveyed": "exact", "plain": "none"}  # what dedup decides: plain objects are opened once
LIMIT_S: Final = 240.0  # of one run (I7)
ATTEMPTS: Final = 4
PICTURES: Final = 120


@dataclass(frozen=True)
class Kill:
    """Which process died, at which moment of the job, and how the job ended that time."""

    victim: str
    moment: str
    code: int
    happened: bool


def write_job(folder: Path, *, pictures: int = PICTURES, seed: int = 0, path: str = "surveyed") -> Path:
    """A source with a bad file and a double in it, and the job file that ingests it by one of PATHS."""
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
        f"shards: {{max_samples: 10}}\ndedup: {PATHS[path]}\nworkers: 2\n"
    )
    return job


def run_job(job: Path, output: Path) -> int:
    """The same job in peace; its exit code."""
    command = [sys.executable, "-m", "jobs.cli", "run", str(job), f"output={output}"]
    done = subprocess.run(
        command, env=_environment(), timeout=LIMIT_S, stdout=subprocess.DEVNULL, check=False
    )
    return done.returncode


def killed_run(job: Path, output: Path, victim: str, moment: str) -> Kill:
    """Run the job and kill `victim` once `output` has so many objects of a kind: `moment` is "done:3"."""
    command = [sys.executable, "-m", "jobs.cli", "run", str(job), f"output={output}"]
    process = subprocess.Popen(
        command, env=_environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    kind, _, count = moment.partition(":")
    objects = "shards/*" if kind == "shards" else f"runs/*/{kind}/*"
    deadline, happened = time.monotonic() + LIMIT_S, False
    family: list[Any] = []
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if sum(1 for _ in output.glob(objects)) >= int(count):
                family = _family(process.pid)
                happened = _kill(process.pid, family, victim)
                break
            time.sleep(0.01)
        _, error = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
        # Ray itself ends a driver whose raylet is gone, with 1 and without a word.
        if process.returncode not in (0, 4, 5, -signal.SIGKILL, *([1] if victim == "raylet" else [])):
            raise AssertionError(f"exit code {process.returncode}: {error.decode()[-2000:]}")
    finally:
        if process.poll() is None:
            family = _family(process.pid)
            process.kill()
        _end(family)
    return Kill(victim, moment, process.returncode, happened)


def _family(driver: int) -> list[Any]:
    """Every process that the job has started: those and no other are ended when it is dead."""
    import psutil

    with contextlib.suppress(psutil.Error):
        found: list[Any] = psutil.Process(driver).children(recursive=True)
        return found
    return []


def _kill(driver: int, family: list[Any], victim: str) -> bool:
    """SIGKILL; the driver goes with its whole family, as when a machine loses its power."""
    import psutil

    if victim == "driver":
        os.kill(driver, signal.SIGKILL)
        _end(family)
        return True
    wanted = {"raylet": "raylet", "worker": "ray::"}[victim]
    for process in family:
        with contextlib.suppress(psutil.Error):
            title = f"{process.name()} {' '.join(process.cmdline()[:1])}"
            if wanted in title and not any(word in title for word in ("IDLE", "Agent", "Dashboard")):
                process.kill()
                return True
    return False


def _end(family: list[Any]) -> None:
    import psutil

    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def until_done(job: Path, output: Path, truth: Truth, kills: list[tuple[str, str]]) -> Iterator[str]:
    """Kill and start again until the job has ended; everything that does not hold."""
    storage = LocalStorage(output)
    for victim, moment in kills:
        kill = killed_run(job, output, victim, moment)
        yield from (f"{victim} at {moment}: {text}" for text in torn(storage))
        if not kill.happened and kill.code != 0:
            yield f"{victim} at {moment} was not killed, and the job ended with {kill.code}"
    for _ in range(ATTEMPTS):
        if run_job(job, output) == 0:
            break
    else:
        yield "I7 the job does not end"
    if latest(storage) is None:
        yield "I1 there is no snapshot"
        return
    for upload, _ in list(storage.uploads()):  # what gc does once it is old
        storage.abort(upload)
    yield from violations(storage, truth, thorough=True)


def golden(job: Path, output: Path) -> Truth:
    """What the job makes when nothing happens."""
    assert run_job(job, output) == 0
    return truth_of(LocalStorage(output))


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
            rng = random.Random(arguments.seed + point)
            kinds = [("survey", 4), ("units", 12), ("done", 12), ("shards", 12)]
            kills = []
            for _ in range(rng.choice((1, 1, 2))):
                kind, most = rng.choice(kinds)
                kills.append((rng.choice(arguments.victims.split(",")), f"{kind}:{rng.randint(1, most)}"))
            found = list(until_done(jobs[path], folder / path / f"data{point}", truths[path], kills))
            bad += bool(found)
            told = {"seed": arguments.seed + point, "path": path, "kills": kills, "found": found}
            print(json.dumps(told), flush=True)
            if found:
                again = f"--points 1 --seed {arguments.seed + point} --victims {arguments.victims}"
                again += f" --paths {arguments.paths}"
                print(f"again: python -m jobs.chaos.kills {again}", flush=True)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
