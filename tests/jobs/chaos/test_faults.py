"""The comparison counts what lies there and says the exit codes that came."""

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from jobs.chaos import clients, faults

# Writes ten samples a tar, gives up with 7 on a bad picture and with 9 on a full disk.
WRITER = """
import io, os, sys, tarfile, time
from pathlib import Path
source, output, mode = sys.argv[1:]
os.makedirs(output, exist_ok=True)
files = sorted(Path(source).iterdir())
for start in range(0, len(files), 10):
    try:
        with tarfile.open(f"{output}/{start:04}.tar", "w") as tar:
            for path in files[start:start + 10]:
                content = path.read_bytes()
                if mode == "decode" and content[-2:] != b"\\xff\\xd9":
                    sys.exit(7)
                info = tarfile.TarInfo(path.stem + ".bin")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    except OSError:
        os._exit(9)
    time.sleep(0.05 if mode == "slow" else 0)
"""
READER = """
import sys, tarfile
from pathlib import Path
tars = [tarfile.open(path) for path in Path(sys.argv[1]).glob("*.tar")]
contents = [tar.extractfile(info).read() for tar in tars for info in tar]
"""


def tar_of(path: Path, *contents: bytes) -> bytes:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, content in enumerate(contents):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def test_what_lies_there_is_counted(tmp_path: Path) -> None:
    inputs = {hashlib.sha256(content).hexdigest() for content in (b"a", b"b", b"c")}
    tar_of(tmp_path / "one.tar", b"a", b"b", b"other")
    whole = tar_of(tmp_path / "two.tar", b"a", b"c" * 2000)
    (tmp_path / "two.tar").write_bytes(whole[:1700])
    tar_of(tmp_path / ".staging" / "three.tar", b"c")
    there = faults.there(tmp_path, inputs)
    assert (there.good, there.twice, there.others, there.cut) == (2, 1, 1, 1)
    (tmp_path / "two.tar").write_bytes(b"")
    there = faults.there(tmp_path, inputs)
    assert (there.good, there.twice, there.others, there.cut) == (2, 0, 1, 1)


def test_every_cell_is_what_came_of_the_tool(tmp_path: Path) -> None:
    probe = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(tmp_path)]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs rights")
    subprocess.run(["umount", str(tmp_path)], check=True)
    good, bad = faults.write_files(tmp_path / "source")
    (folder := tmp_path / "tool").mkdir()
    tool = faults.Tool(
        lambda source, output, mode: [sys.executable, "-c", WRITER, str(source), str(output), mode],
        READER, {"object": "not this one"},
    )  # fmt: skip
    found = faults.measure(tool, good, bad, folder)
    peace = "exit 0; 120 of 120 samples, 0 twice, 0 cut tars"
    assert found.pop("killed at four tars")[:2] in ("30", "40", "50")
    assert found == {
        "none, twice": f"{peace}; 12 of 12 tars have the same bytes",
        "killed, then run again": f"{peace}; 12 of 12 tars as if never killed",
        "a JPEG cut in half among them, not decoded":
            "exit 0; 120 of 120 samples, 0 twice, 1 damaged, 0 cut tars",
        "a JPEG cut in half among them, decoded on the way":
            "exit 7; 58 of 120 samples, 0 twice, 1 cut tars",
        "a sample that cannot be encoded": "not this one",
        "disk of 2 MiB": found["disk of 2 MiB"],
        "one bit flipped in a sample": "120 samples read, 1 of them wrong, without a word",
    }  # fmt: skip
    assert found["disk of 2 MiB"].startswith("exit 9; ")
    assert found["disk of 2 MiB"].endswith(", 0 twice, 1 cut tars")


def test_objects_are_counted_as_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "OBJECTS", 3)
    monkeypatch.setattr(clients, "SIZE", 100_000)
    with clients.server() as url:
        for client in (clients.Ours, clients.S3fs, clients.Pyarrow):
            assert clients.objects(client, "", url) == "3 written, 3 read"
        monkeypatch.setattr(clients, "RATE", 1.0)  # a bad body is refused at the door, a bad answer is not
        told = clients.objects(clients.Pyarrow, "flip", url)
        assert told == "0 written, 3 read, 3 wrong, 3 uploads left"
