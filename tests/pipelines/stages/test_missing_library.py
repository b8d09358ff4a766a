"""A library that does not load is the machine's trouble: the job ends, and no sample is blamed."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

import modalities
from jobs import failures
from modalities.base import Modality, Raw
from modalities.hyperspectral import materials
from modalities.libraries import MissingLibrary, load
from pipelines.sources import Entry, list_source
from pipelines.stages import process
from pipelines.stages.process import Look, Stage
from pipelines.stages.sandbox import Sandbox
from pipelines.stages.survey import survey_entries

ROOT = Path(__file__).parents[3]
NORMALS: Stage = {"kind": "transform", "how": "normals"}
NO_SYSTEM_LIBRARY = (
    r"open3d does not load \(OSError: libusb-1\.0\.so\.0: cannot open shared object file\); "
    r"`rayloom doctor libs` says what it lacks"
)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an Open3D lies that fails as it does without libusb."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "open3d.py").write_text("raise OSError('libusb-1.0.so.0: cannot open shared object file')")
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "open3d"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def synthetic(kind: Modality) -> Look:
    return Look(raw=process.as_raw(kind.synth(6), kind), sidecars={})


def entries(modality: str, *, uri: str | None = None, synth: int | None = None) -> list[Entry]:
    source = SimpleNamespace(
        uri=uri, synth=synth, seed=0, labels="none", glob=None, uri_column="uri",
        label_column="label", caption_column="caption",
    )  # fmt: skip
    return list(list_source(source, modalities.get(modality)))


def clouds(folder: Path) -> list[Entry]:
    folder.mkdir()
    for seed in (6, 7):
        (folder / f"{seed}.laz").write_bytes(modalities.get("pointcloud").synth(seed)["laz"])
    return entries("pointcloud", uri=str(folder))


def test_it_is_named_with_what_to_do(broken: Path) -> None:
    with pytest.raises(MissingLibrary, match=NO_SYSTEM_LIBRARY) as caught:
        load("h5py", "open3d")
    assert (caught.value.name, failures.exit_code(caught.value)) == ("open3d", failures.BAD_CONFIG)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.name) == (MissingLibrary, str(caught.value), "open3d")


def test_what_is_not_there_at_all_is_to_be_installed(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (broken / "open3d.py").unlink()
    monkeypatch.setattr(sys, "path", [str(broken)])
    with pytest.raises(MissingLibrary, match=r"No module named 'open3d'\); pip install open3d-cpu$"):
        load("open3d")


def test_a_lack_of_memory_stays_one(broken: Path) -> None:
    (broken / "open3d.py").write_text("raise MemoryError")
    with pytest.raises(MemoryError):
        load("open3d")


def test_the_sandbox_tells_it_from_a_bad_sample_and_serves_other_work(broken: Path) -> None:
    kind, picture = modalities.get("pointcloud"), modalities.get("image")
    look = synthetic(kind)
    given: dict[str, Any] = {"meta": kind.probe(look.raw), "spec": None, "suffix": ""}
    with Sandbox() as sandbox:
        for _ in range(2):
            with pytest.raises(MissingLibrary, match=f"{NO_SYSTEM_LIBRARY}; .*RAYLOOM_SANDBOX=0 decodes"):
                sandbox.build(look, kind, [NORMALS], **given)
        with pytest.raises(MissingLibrary):
            sandbox.examine([look, look], kind, [NORMALS], compare="prints")
        other = synthetic(picture)
        assert sandbox.examine([other], picture, []) == [process.examined(other, picture, [])]
        assert not isinstance(sandbox.examine([look], kind, [])[0], Exception)


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_survey_ends_with_it(broken: Path, tmp_path: Path, sandbox: bool) -> None:
    found, kind = clouds(tmp_path / "clouds"), modalities.get("pointcloud")
    with Sandbox() as apart, pytest.raises(MissingLibrary, match=NO_SYSTEM_LIBRARY):
        survey_entries(found, kind, [NORMALS], compare="prints", sandbox=apart if sandbox else False)


def test_spectra_that_are_not_installed_cost_no_synthetic_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    found, kind = entries("hyperspectral", synth=2), modalities.get("hyperspectral")
    materials.library.cache_clear()
    monkeypatch.setattr(materials, "find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match=r"earthlib: pip install 'rayloom\[demo\]'"):
        survey_entries(found, kind, [], sandbox=False)


@pytest.mark.parametrize(
    ("modality", "name", "library"),
    [("pointcloud", "a.laz", "laspy"), ("hyperspectral", "a.h5", "h5py"), ("video", "a.mp4", "av")],
)
def test_a_reader_that_misses_its_library_calls_no_file_corrupt(
    broken: Path, modality: str, name: str, library: str
) -> None:
    content = modalities.get(modality).synth(6).get(name.partition(".")[2], b"")
    if not content:
        with h5py.File(broken / name, "w") as file:
            file["cube"] = np.ones((4, 5, 6), np.uint16)
        content = (broken / name).read_bytes()
    (broken / f"{library}.py").write_text("raise ImportError('no such symbol')")
    look = Look(raw=Raw(name=name, content=content), sidecars={})
    with (
        Sandbox() as sandbox,
        pytest.raises(MissingLibrary, match=f"{library} does not load .*no such symbol"),
    ):
        sandbox.examine([look], modalities.get(modality), [])


@pytest.mark.ray
@pytest.mark.parametrize("sandbox", ["1", "0"])
def test_a_job_ends_with_one_line_and_exit_code_2(broken: Path, tmp_path: Path, sandbox: str) -> None:
    clouds(tmp_path / "clouds")
    (tmp_path / "job.yaml").write_text(
        "kind: ingest\nmodality: pointcloud\nsource: {uri: clouds}\noutput: out\n"
        "stages: [{kind: transform, how: normals}]\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{broken}{os.pathsep}{ROOT}", "RAYLOOM_SANDBOX": sandbox}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "run", "job.yaml"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == failures.BAD_CONFIG, done.stderr[-3000:]
    assert done.stderr.splitlines()[-1].startswith("open3d does not load (OSError: libusb-1.0.so.0:")
    assert "Traceback" not in done.stderr
