"""Logs that are full or closed, streams of another code, odd folders: none of them ends a job."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.bench.ingest import make_jpeg
from jobs.cluster import FOR_SOCKETS, _fits_sockets


@pytest.mark.parametrize(
    ("streams", "folder"),
    [("2>/dev/full", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"), ("2>&- >&- <&-", "long" * 20)],
)
def test_a_job_ends_wherever_it_talks_to_and_keeps_its_files(
    streams: str, folder: str, tmp_path: Path
) -> None:
    (source := tmp_path / "source").mkdir()
    (source / "a.jpg").write_bytes(make_jpeg(0))
    output = tmp_path / "donn\N{LATIN SMALL LETTER E WITH ACUTE}es"
    job = tmp_path / "job.yaml"
    job.write_text(
        f"kind: ingest\nmodality: image\nsource: {{uri: {source}}}\ndecode: false\noutput: {output}\n"
    )
    (temporary := tmp_path / folder).mkdir()
    assert not _fits_sockets(temporary)
    assert _fits_sockets(FOR_SOCKETS)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "jobs.cli", "run", str(job)],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        stdout=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == b"" if ">&-" in streams else b"written 1 + quarantined 0" in done.stdout
    assert list((output / "manifest").glob("*.json"))


def test_who_has_no_cluster_at_an_address_is_told_which(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not decoded")
    job = tmp_path / "job.yaml"
    job.write_text(
        f"kind: ingest\nmodality: image\nsource: {{uri: {tmp_path}/a.jpg}}\noutput: {tmp_path}/data\n"
    )
    command = [sys.executable, "-m", "jobs.cli", "run", str(job)]
    done = subprocess.run(
        command, env={**os.environ, "RAY_ADDRESS": "garbage"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        5,
        "ClusterDown: no Ray at garbage: Invalid address format: garbage\n",
    )


LATE = """
import atexit, os
from jobs.cli import main
class Late:
    def __del__(self, write=os.write): write(1, b"taken apart")
late = Late()
atexit.register(print, "told at exit")
main()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["ls", "nowhere"], 2)])
def test_a_command_ends_before_python_is_taken_apart(arguments: list[str], code: int) -> None:
    """A thread of Arrow's that still gives back what was read would abort then: -6 of a job done."""
    done = subprocess.run(
        [sys.executable, "-c", LATE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "told at exit" in done.stdout
    assert "taken apart" not in done.stdout


@pytest.mark.parametrize("command", ["ls", "check"])
def test_a_full_disk_for_what_was_asked_is_told(command: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.jpg").write_bytes(make_jpeg(0))
    settings = f"source: {{uri: {tmp_path}/source}}\ndecode: false\noutput: {tmp_path}/data\n"
    (tmp_path / "job.yaml").write_text(f"kind: ingest\nmodality: image\n{settings}")
    run = [sys.executable, "-m", "jobs.cli"]
    subprocess.run([*run, "run", f"{tmp_path}/job.yaml"], check=True, capture_output=True)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*run, command, f"{tmp_path}/data"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr
