"""A full disk is named, with what it is for and what is free there."""

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.failures import STORAGE, report
from jobs.scratch import scratch
from pipelines.disk import NEARLY_BYTES, told_when_full
from pipelines.shards.objects import ObjectStorage
from pipelines.shards.storage import LocalStorage


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    (place := tmp_path / "small").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("as_file", [False, True])
def test_an_output_that_is_full_is_named(
    as_file: bool, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path := tmp_path / "large").write_bytes(bytes(100_000))
    storage = LocalStorage(small / "data")
    with scratch(), pytest.raises(OSError, match="No space left") as caught:
        storage.create("key", path if as_file else path.read_bytes())
    assert report(caught.value) == STORAGE
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{small}/data")
    assert f"No space left on device for the output: 0 bytes are free on {small}; free some space" in line


def test_a_temporary_folder_that_is_full_is_named_and_not_the_output(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(small))
    wanted = f"for temporary files, which go where TMPDIR says: 0 bytes are free on {small}"
    with pytest.raises(OSError, match=wanted), ObjectStorage("memory://x").staging() as folder:
        (folder / "shard.tar").write_bytes(bytes(100_000))
    with pytest.raises(OSError, match=wanted), scratch() as folder:
        (folder / "spilled").write_bytes(bytes(100_000))


def test_another_disk_is_not_blamed(tmp_path: Path, small: Path) -> None:
    """A folder with room, while a write that names no file fails elsewhere."""
    assert NEARLY_BYTES > 64 * 1024
    with (
        pytest.raises(OSError, match=r"No space left on device$"),
        told_when_full(tmp_path, "us"),
    ):
        (small / "x").write_bytes(bytes(100_000))
    with pytest.raises(OSError, match="Permission denied") as caught, told_when_full(tmp_path, "us"):
        raise OSError(errno.EACCES, "Permission denied", "x")
    assert caught.value.filename == "x"
