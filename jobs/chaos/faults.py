"""Ours beside Ray's write_webdataset and webdataset's ShardWriter, under the same faults, measured here.

python -m jobs.chaos.faults                 prints the table of docs/guide/trust.md
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from jobs.chaos.kills import golden, killed_run, run_job, write_job
from jobs.chaos.small import build, make_pictures, survey, work_on
from pipelines.shards.storage import LocalStorage

SAMPLES: Final = 120
ROOT: Final = Path(__file__).parents[2]
RAY: Final = """
import os, sys, time
os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
import ray
folder, slow, poison = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
def sample(row):
    time.sleep(slow)
    content = b"x" * 45_000 if row["id"] != poison else object()
    return {"__key__": f"{row['id']:04}", "bin": content}
ray.data.range(int(sys.argv[4]), override_num_blocks=12).map(sample).write_webdataset(folder)
"""
WDS: Final = """
import os, sys, time
import webdataset  # without WDS_SECURE, which forbids it to write files
folder, slow, poison = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
os.makedirs(folder, exist_ok=True)
with webdataset.ShardWriter(folder + "/%06d.tar", maxcount=10, verbose=0) as writer:
    for i in range(int(sys.argv[4])):
        time.sleep(slow)
        content = b"x" * 45_000 if i != poison else object()
        writer.write({"__key__": f"{i:04}", "bin": content})
"""


def _script(code: str, folder: Path, *, slow: float = 0.0, poison: int = -1) -> list[str]:
    return [sys.executable, "-c", code, str(folder), str(slow), str(poison), str(SAMPLES)]


def _run(command: list[str], **options: Any) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=240, check=False, **options)
    return done.returncode


def _read(folder: Path) -> tuple[int, int, int]:
    """Distinct samples, samples too many, and tars that break off, of what lies under final names."""
    keys, broken = Counter[str](), 0
    for path in sorted(folder.rglob("*.tar")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # staging: a name that no reader takes
        try:
            with tarfile.open(path) as tar:
                names = [info.name for info in tar]
            content = path.read_bytes()
            broken += content[-1024:] != bytes(1024)
        except (tarfile.TarError, EOFError):
            broken += 1
            continue
        keys.update(name.split(".")[0] for name in names if name.endswith((".jpg", ".png", ".bin")))
    return len(keys), sum(keys.values()) - len(keys), broken


def _counts(there: tuple[int, int, int], want: int) -> str:
    return f"{there[0]} of {want} samples, {there[1]} twice, {there[2]} tars cut"


def _killed(command: list[str], folder: Path, tars: int) -> None:
    """SIGKILL of all processes once there are so many tars."""
    import psutil

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and sum(1 for _ in folder.rglob("*.tar")) < tars:
        time.sleep(0.005)
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    for child in family:
        try:
            child.kill()
        except psutil.Error:
            continue
    process.wait()


def _hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.tar"))}


@contextmanager
def _disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def baseline(code: str, folder: Path) -> dict[str, str]:
    """What one of the two others does, as sentences."""
    found = {}
    _killed(_script(code, folder / "kill", slow=0.02), folder / "kill", 4)
    there = _read(folder / "kill")
    found["killed half-way, before the rerun"] = f"{there[2]} tars cut short under their final names"
    _run(_script(code, folder / "kill"))
    there = _read(folder / "kill")
    found["killed half-way, run again"] = _counts(there, SAMPLES)
    rc = _run(_script(code, folder / "poison", poison=57))
    there = _read(folder / "poison")
    found["one sample that cannot be written"] = (
        f"exit code {rc}; {there[0]} of {SAMPLES - 1} good samples, {there[2]} tars cut"
    )
    for name in ("one", "two"):
        _run(_script(code, folder / name))
        time.sleep(1.1)  # tar headers count whole seconds: the second run falls into another
    one, two = _hashes(folder / "one"), _hashes(folder / "two")
    same = sum(one.get(name) == digest for name, digest in two.items())
    found["the same run twice"] = f"{same} of {len(two)} tars have the same name and bytes"
    with _disk(folder / "disk", "2m") as disk:
        rc = _run(_script(code, disk / "data"))
        there = _read(disk / "data")
        found["disk full"] = f"exit code {rc}; {there[2]} tars cut short under their final names"
    path = sorted((folder / "one").rglob("*.tar"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found["one bit flipped in a tar"] = (
        "read without a word" if _read(folder / "one")[0] == SAMPLES else "noticed"
    )
    return found


def ours(folder: Path) -> dict[str, str]:
    """The same faults for an ingest job."""
    from pipelines.shards.check import check

    found = {}
    job = write_job(folder, pictures=SAMPLES, samples=10)
    truth = golden(job, folder / "one")
    kill = killed_run(job, folder / "kill", "driver", "shards:30%", truth)
    assert not kill.problems(), kill
    cut = _read(folder / "kill")[2]
    heads = len(list((folder / "kill").glob("manifest/*.json")))
    found["killed half-way, before the rerun"] = f"{cut} tars cut short; {heads} snapshots visible"
    run_job(job, folder / "kill")
    report = check(str(folder / "kill"))
    same = report["manifest"] == truth.digest
    good = sum(status == "written" for status in truth.fates.values())
    found["killed half-way, run again"] = (
        f"{_counts(_read(folder / 'kill'), good)}; check: {report['problems'] or 'ok'}"
    )
    books = report["books"]
    found["one sample that cannot be written"] = (
        f"exit code 0; {books['written']} written, {books['quarantined']} quarantined with its reason"
    )
    run_job(job, folder / "two")
    one, two = _hashes(folder / "one"), _hashes(folder / "two")
    found["the same run twice"] = (
        f"{sum(one.get(n) == d for n, d in two.items())} of {len(two)} tars have the same name and bytes; "
        f"after the kill too: {same}"
    )
    with _disk(folder / "disk", "96k") as disk:
        make_pictures(folder / "small")
        work = work_on("all", survey(folder / "small"))
        try:
            build(LocalStorage(disk / "data"), work, random.Random(0))
            code = "0"
        except OSError as e:
            code = f"4 ({e.strerror})"
        found["disk full"] = (
            f"exit code {code}; {_read(disk / 'data')[2]} tars cut short under their final names"
        )
    path = sorted((folder / "one").rglob("*.tar"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found["one bit flipped in a tar"] = (
        "noticed: " + check(str(folder / "one"))["problems"][0].split(": ", 1)[1][:60]
    )
    return found


def main() -> int:
    """Measure all three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["RAYLOOM_SANDBOX"] = "0"
    columns: dict[str, Callable[[Path], dict[str, str]]] = {
        "rayloom": ours,
        "ray.data write_webdataset": lambda folder: baseline(RAY, folder),
        "webdataset ShardWriter": lambda folder: baseline(WDS, folder),
    }
    found = {}
    for name, measure in columns.items():
        with tempfile.TemporaryDirectory(prefix="rayloom-faults-") as folder:
            Path(folder, "x").mkdir()
            found[name] = measure(Path(folder, "x"))
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"| fault | {' | '.join(found)} |\n|{'---|' * (len(found) + 1)}")
    for fault in found["rayloom"]:
        print(f"| {fault} | {' | '.join(column[fault] for column in found.values())} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
