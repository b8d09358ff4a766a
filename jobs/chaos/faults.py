"""Ours beside Ray's write_webdataset and webdataset's ShardWriter, under the same faults, measured here.

python -m jobs.chaos.faults                 prints both tables of docs/guide/trust.md

Each is given the same 120 JPEGs, the same bad file, the same disk of 2 MiB and the same flipped bit, and is
killed when it has four tars. Ours is `rayloom run`. By hand is only why a fault cannot be given to a tool.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from jobs.chaos import clients

SAMPLES: Final = 120
TARS: Final = 4  # of twelve, when the kill comes
DISK: Final = "2m"
LIMIT_S: Final = 600.0
ROOT: Final = Path(__file__).parents[2]
CLI: Final = [sys.executable, "-m", "jobs.cli"]
Command = Callable[[Path, Path, str], list[str]]  # source, output, and what is done to the samples
COMMON: Final = """
import io, json, os, sys, time
from pathlib import Path
source, output, mode = sys.argv[1:4]
def sample(path, content):
    if mode == "slow":
        time.sleep(0.05)
    if mode == "decode":
        import PIL.Image
        PIL.Image.open(io.BytesIO(content)).load()
    name = Path(path).stem
    return {"__key__": name, "bin": object() if mode == "object" and name == "0057" else content}
"""
RAY: Final = (
    COMMON
    + """
os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
import ray
from ray.data.checkpoint import CheckpointConfig
ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
checkpoint = sys.argv[4:] == ["checkpoint"]
if checkpoint:
    ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig(
        id_column="path", checkpoint_path=output + ".checkpoint", delete_checkpoint_on_success=False
    )
def row(given):
    kept = {"path": given["path"]} if checkpoint else {}
    return sample(given["path"], given["bytes"]) | kept
files = ray.data.read_binary_files(source, include_paths=True, override_num_blocks=12)
files.map(row).write_webdataset(output)
"""
)
WDS: Final = (
    COMMON
    + """
import webdataset  # without WDS_SECURE, which forbids it to write files
os.makedirs(output, exist_ok=True)
with webdataset.ShardWriter(output + "/%06d.tar", maxcount=10, verbose=0) as writer:
    for path in sorted(Path(source).iterdir()):
        writer.write(sample(path, path.read_bytes()))
"""
)
# How each reads what it wrote, with what its library does by default but decoding: a hash for every sample.
READ: Final = """
import hashlib, json
print(json.dumps([hashlib.sha256(content).hexdigest() for content in contents]))
"""
READ_RAY: Final = """
import sys, ray
ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
contents = [row["bin"] for row in ray.data.read_webdataset(sys.argv[1], decoder=None).take_all()]
"""
READ_WDS: Final = """
import glob, sys, webdataset
tars = sorted(glob.glob(sys.argv[1] + "/*.tar"))
contents = [sample["bin"] for sample in webdataset.WebDataset(tars, shardshuffle=False)]
"""
READ_OURS: Final = """
import sys
from pipelines.loading import Loader
batches = Loader(sys.argv[1], batch_size=8, split="train").raw()
contents = [files["jpg"] for batch in batches for files in batch["files"]]
"""


def _script(code: str, *more: str) -> Command:
    return lambda source, output, mode: [sys.executable, "-c", code, str(source), str(output), mode, *more]


def rayloom(source: Path, output: Path, mode: str, each: int = 10) -> list[str]:
    """The command, and its job file beside `output`, for shards of so many samples."""
    job = output.parent / f"{output.name}.yaml"
    decode = "true" if mode == "decode" else "false"
    job.write_text(
        f"kind: ingest\nmodality: image\nsource: {{uri: {source}}}\noutput: {output}\ndecode: {decode}\n"
        f"shards: {{max_samples: {each}}}\nworkers: 2\n"
    )
    return [*CLI, "run", str(job)]


def _books(output: Path) -> str:
    done = _run([*CLI, "check", str(output), "--json"])
    return f", {json.loads(done.stdout)['books']['quarantined']} quarantined; check: exit {done.returncode}"


@dataclass(frozen=True)
class Tool:
    """How it is run, how it reads what it wrote, and what cannot be given to it, and why."""

    command: Command
    read: str
    cannot: Mapping[str, str] = field(default_factory=dict)
    books: Callable[[Path], str] = lambda _: ""  # what it says itself of a run that ended well


TOOLS: Final[dict[str, Tool]] = {
    "rayloom": Tool(rayloom, READ_OURS, {"object": "cannot be given: its inputs are files"}, _books),
    "ray.data `write_webdataset`": Tool(_script(RAY), READ_RAY),
    "the same with `CheckpointConfig`": Tool(_script(RAY, "checkpoint"), READ_RAY),
    "webdataset `ShardWriter`": Tool(_script(WDS), READ_WDS),
}


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def _run(command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=_environment(**more), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def write_files(folder: Path) -> tuple[Path, Path]:
    """Different JPEGs of 24 kB; and the same with one more that was cut in half."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    (good := folder / "good").mkdir(parents=True)
    for i in range(SAMPLES):
        pixels = Image.fromarray(rng.integers(0, 255, (150, 150, 3), np.uint8))
        pixels.save(good / f"{i:04}.jpg", quality=92)
    shutil.copytree(good, bad := folder / "bad")
    content = (good / "0057.jpg").read_bytes()
    (bad / "0057x.jpg").write_bytes(content[: len(content) // 2])
    return good, bad


def hashes(folder: Path) -> set[str]:
    """Of the files that lie there."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@dataclass(frozen=True)
class There:
    """What lies in the tars with final names."""

    good: int  # of the inputs, by their bytes
    twice: int
    others: int  # samples that are none of the inputs
    cut: int  # tars
    digests: frozenset[str]  # of all tars

    def __str__(self) -> str:
        others = f", {self.others} damaged" if self.others else ""
        return f"{self.good} of {SAMPLES} samples, {self.twice} twice{others}, {self.cut} cut tars"


def tars(folder: Path) -> list[Path]:
    """Those with final names: no reader takes what lies in hidden folders."""
    found = sorted(folder.rglob("*.tar"))
    return [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]


def there(folder: Path, inputs: set[str]) -> There:
    """Read every tar as far as it goes."""
    samples, cut, digests = Counter[str](), 0, set()
    for path in tars(folder):
        content = path.read_bytes()
        digests.add(hashlib.sha256(content).hexdigest())
        whole = content[-1024:] == bytes(1024)
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for info in tar:
                    if info.name.endswith((".jpg", ".bin")) and (file := tar.extractfile(info)):
                        samples[hashlib.sha256(file.read()).hexdigest()] += 1
        except (tarfile.TarError, EOFError):
            whole = False
        cut += not whole
    good = {digest: count for digest, count in samples.items() if digest in inputs}
    return There(
        good=len(good), twice=sum(good.values()) - len(good), others=samples.total() - sum(good.values()),
        cut=cut, digests=frozenset(digests),
    )  # fmt: skip


def kill(command: list[str], folder: Path) -> None:
    """SIGKILL of all its processes once there are TARS tars."""
    process = subprocess.Popen(
        command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(tars(folder)) < TARS:
        time.sleep(0.002)
    if process.poll() is not None:
        raise AssertionError(f"want a run that is killed, it ended before with {process.returncode}")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in family:
        with suppress(psutil.Error):
            child.kill()
    process.wait()


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A tmpfs of DISK."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def measure(tool: Tool, good: Path, bad: Path, folder: Path) -> dict[str, str]:
    """What a tool does under every fault, by its exit codes and what lies there afterwards."""
    inputs, found = hashes(good), {}

    def run(output: Path, source: Path = good, mode: str = "") -> tuple[str, There]:
        done = _run(tool.command(source, output, mode))
        if done.returncode:
            print(f"{output.name}: exit {done.returncode}: {done.stderr[-1000:]}", file=sys.stderr)
        lies = there(output, inputs)
        return f"exit {done.returncode}; {lies}{'' if done.returncode else tool.books(output)}", lies

    _, one = run(folder / "one")
    time.sleep(1.1)  # tar headers count whole seconds: the second run falls into another
    text, two = run(folder / "two")
    found["none, twice"] = (
        f"{text}; {len(one.digests & two.digests)} of {len(two.digests)} tars have the same bytes"
    )
    kill(tool.command(good, folder / "kill", "slow"), folder / "kill")
    found["killed at four tars"] = str(there(folder / "kill", inputs))
    text, after = run(folder / "kill")
    found["killed, then run again"] = (
        f"{text}; {len(one.digests & after.digests)} of {len(after.digests)} tars as if never killed"
    )
    for name, source, mode in (
        ("a JPEG cut in half among them, not decoded", bad, ""),
        ("a JPEG cut in half among them, decoded on the way", bad, "decode"),
        ("a sample that cannot be encoded", good, "object"),
    ):
        found[name] = tool.cannot.get(mode) or run(folder / f"{source.name}{mode}", source, mode)[0]
    with small_disk(folder / "disk") as disk:
        found["disk of 2 MiB"] = run(disk / "data")[0]
    found["one bit flipped in a sample"] = _flipped(tool, folder / "one", inputs)
    return found


def _flipped(tool: Tool, output: Path, inputs: set[str]) -> str:
    """What its own reader says of it."""
    path = tars(output)[0]
    with tarfile.open(path) as tar:
        info = next(info for info in tar if info.name.endswith((".jpg", ".bin")))
    content = bytearray(path.read_bytes())
    content[info.offset_data + info.size // 2] ^= 1
    path.write_bytes(content)
    done = _run([sys.executable, "-c", tool.read + READ, str(output)])
    if done.returncode:
        error = done.stderr.strip().splitlines()[-1].partition(": ")[2].partition(" of /")[0]
        return "refused: " + re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1...", error)
    read = json.loads(done.stdout.splitlines()[-1])
    return f"{len(read)} samples read, {len(set(read) - inputs)} of them wrong, without a word"


def on_s3(good: Path, folder: Path) -> dict[str, dict[str, str]]:
    """The same job onto a bucket through a line that fails, beside clients of S3."""
    command = rayloom(good, folder / "data", "", each=40)  # hundreds of requests fewer
    if (done := _run(command)).returncode:
        raise AssertionError(done.stderr[-2000:])
    want = json.loads(_run([*CLI, "check", str(folder / "data"), "--json"]).stdout)["manifest"]

    def cli(arguments: list[str], line: dict[str, str]) -> tuple[int, str]:
        done = _run([*CLI, *arguments], **line)
        return done.returncode, done.stdout

    return clients.measure(cli, folder / "data.yaml", want)


def table(first: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown, a column for each tool."""
    lines = [f"| {first} | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for fault in next(iter(columns.values())):
        lines.append(f"| {fault} | {' | '.join(column[fault] for column in columns.values())} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=["tools", "s3"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rayloom-faults-") as temporary:
        good, bad = write_files(Path(temporary, "source"))
        if given.only != "s3":
            found = {}
            for number, (name, tool) in enumerate(TOOLS.items()):
                (place := Path(temporary, str(number))).mkdir()
                found[name] = measure(tool, good, bad, place)
            print(table("fault", found), flush=True)
        if given.only != "tools":
            (place := Path(temporary, "s3")).mkdir()
            print("\n" + table("fault", on_s3(good, place)))


if __name__ == "__main__":
    main()
