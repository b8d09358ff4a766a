"""All that a modality offers works in the confined process, and gives the same there as outside it."""

import ast
import errno
import inspect
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

import modalities
from modalities.base import Modality, Raw
from modalities.libraries import PACKAGES
from pipelines.stages import _confine, process
from pipelines.stages.process import Look, Sample, Stage
from pipelines.stages.sandbox import Sandbox

OPTIONS: dict[str, list[dict[str, Any]]] = {  # each is tried; what is not named here is asked for without any
    "hyperspectral cut tiles": [{"size": 16, "overlap": 4}],
    "hyperspectral transform bands": [{"indices": [3, 5, 8]}],
    "hyperspectral transform crop": [{"y": 2, "x": 3, "height": 10, "width": 8}],
    "image transform crop": [{"height": 30, "width": 40}],
    "image transform resize": [{"shorter": 20}],
    "image transform transcode": [{"format": "jpg"}, {"format": "png"}, {"format": "webp"}],
    "lighting cut frames": [{"window": 2}],
    "lighting transform resize": [{"height": 20, "width": 24}],
    "pointcloud cut tiles": [{"size": 1.0}],
    "pointcloud transform crop": [{"low": [-9, -1], "high": [0, 0]}],
    "pointcloud transform subsample": [{"num_points": 100}],
    "pointcloud transform voxel": [{"size": 0.2}, {"size": 0.2, "keep": "mean"}],
    "video cut clips": [{"seconds": 0.75}, {"seconds": 0.75, "crf": 30}],
    "video transform frames": [{"num": 4}],
    "video transform resize": [{"shorter": 32}],
    "video transform transcode": [{"codec": "h264"}, {"codec": "vp9"}, {"codec": "av1"}],
}


def offered() -> dict[str, Any]:
    """ "modality kind name" -> what takes the options."""
    kinds = [modalities.get(name) for name in modalities.names()]
    cuts = {f"{kind.name} cut {how}": cut.plan for kind in kinds for how, cut in kind.cuts.items()}
    changes = {f"{kind.name} transform {how}": do for kind in kinds for how, do in kind.transforms.items()}
    return cuts | changes


def needed(function: Any) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}


CASES = [(name, options) for name in offered() for options in OPTIONS.get(name, [{}])]


@pytest.fixture(scope="module")
def boxes() -> Iterator[dict[str, Sandbox]]:
    """One for each modality."""
    made = {name: Sandbox() for name in modalities.names()}
    yield made
    for box in made.values():
        box.close()


def synthetic(kind: Modality, seed: int = 3) -> Look:
    files = {name: data for name, data in kind.synth(seed).items() if name != "cls"}
    return Look(raw=process.as_raw(files, kind), sidecars={})


def agreed(box: Sandbox, look: Look, kind: Modality, stages: list[Stage]) -> list[Sample]:
    """What becomes of it, here and there alike, judged and decoded."""
    here = process.examined(look, kind, stages, compare="arrays")
    [there] = box.examine([look], kind, stages, compare="arrays")
    assert repr(there) == repr(here)  # numbers to the last bit, and NaN as NaN
    assert isinstance(there, list)
    samples = [found for found in there if isinstance(found, Sample)]
    assert samples
    assert all(sample.arrays and sample.quality and sample.fingerprint is not None for sample in samples)
    return samples


def test_the_options_are_those_of_something_and_none_is_missing() -> None:
    known = offered()
    assert OPTIONS.keys() <= known.keys()
    assert {name: needed(function) - set(OPTIONS.get(name, [{}])[0]) for name, function in known.items()} == {
        name: set() for name in known
    }


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name} {given}" for name, given in CASES])
def test_cuts_and_transforms_make_the_same_files(
    boxes: dict[str, Sandbox], name: str, options: dict[str, Any]
) -> None:
    modality, what, how = name.split(" ")
    kind, box = modalities.get(modality), boxes[modality]
    stages: list[Stage] = [{"kind": what, "how": how, "options": options}]
    look = synthetic(kind)
    for sample in agreed(box, look, kind, stages):
        given: Any = {"meta": kind.probe(look.raw), "spec": sample.spec, "suffix": sample.suffix}
        built = box.build(look, kind, stages, **given)
        assert repr(built) == repr(process.build(look, kind, stages, **given))
        assert isinstance(built, Sample)
        assert built.files


def _hdf5(cube: Any) -> bytes:
    with h5py.File(out := BytesIO(), "w") as file:
        file.create_dataset("cube", data=cube, chunks=(8, 8, 4), compression="gzip")
    return out.getvalue()


def _npy(cube: Any) -> bytes:
    np.save(out := BytesIO(), cube)
    return out.getvalue()


def _zarr(cube: Any, folder: Path) -> Raw:
    zarr.create_array(folder, data=cube, chunks=(8, 8, 4))
    inside = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return Raw(name="scene.zarr/", content=b"", companions=inside)


def test_what_is_decoded_is_the_same(boxes: dict[str, Sandbox], tmp_path: Path) -> None:
    for name in modalities.names():
        kind = modalities.get(name)
        for seed in (3, 6):  # pictures and clouds come in two formats
            agreed(boxes[name], synthetic(kind, seed), kind, [])
    kind = modalities.get("hyperspectral")
    cube = np.random.default_rng(0).integers(0, 4000, (24, 20, 6)).astype(np.uint16)
    raws = [
        Raw(name="a.h5", content=_hdf5(cube)), Raw(name="a.npy", content=_npy(cube)),
        _zarr(cube, tmp_path / "scene.zarr"),
    ]  # fmt: skip
    found = [agreed(boxes["hyperspectral"], Look(raw=raw, sidecars={}), kind, []) for raw in raws]
    assert len({sample.fingerprint for [sample] in found}) == 1


@pytest.mark.parametrize(
    "real", ["points/simple.copc.laz", "hyperspectral/hls_10band_224.tif", "video/test.avi"]
)
def test_real_files_are_decoded_to_the_same_from_their_place(
    boxes: dict[str, Sandbox], shared_data: Path, real: str
) -> None:
    name = {"points": "pointcloud"}.get(real.partition("/")[0], real.partition("/")[0])
    raw = Raw(name=Path(real).name, content=shared_data / real)
    agreed(boxes[name], Look(raw=raw, sidecars={}), modalities.get(name), [])


@pytest.mark.parametrize("library", PACKAGES)
def test_each_library_loads_after_the_process_gave_up_its_rights(library: str) -> None:
    with Sandbox() as box:
        box._loads.append(library)
        box.start(modalities.get("pointcloud"), wait=True)  # MissingLibrary says why not


def imported_late(path: Path) -> tuple[set[str], set[str]]:
    """Modules of others that functions of a file import, and what it asks to be loaded."""
    late, loaded = set(), set()
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                late |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                late.add(str(node.module))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load":
                loaded |= {str(ast.literal_eval(name)) for name in node.args}
    ours = {*sys.stdlib_module_names, "modalities"}
    return {name for name in late if name.partition(".")[0] not in ours}, loaded


def test_what_is_imported_late_says_so_where_it_does_not_load() -> None:
    checked = 0
    for path in Path(modalities.__file__).parent.rglob("*.py"):
        if path.name != "libraries.py":
            late, loaded = imported_late(path)
            vague = {name for name in late if not any(f"{name}.".startswith(f"{one}.") for one in loaded)}
            assert not vague, f"{path}: call modalities.libraries.load before importing {vague}"
            checked += len(late)
    assert checked >= len(PACKAGES)


def test_a_network_is_left_where_the_kernel_then_lets_nobody_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ubuntu's AppArmor lets an ordinary user make namespaces, and answers so to what is written after."""

    class Kernel:
        def unshare(self, flags: int) -> int:
            assert flags == _confine.CLONE_NEWUSER | _confine.CLONE_NEWNET
            return 0

    asked: list[str] = []

    def refused(path: Path, text: str) -> int:
        asked.append(str(path))
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(_confine, "_libc", Kernel)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "write_text", refused)
    assert _confine._leave_network()
    assert asked == ["/proc/self/setgroups"]
