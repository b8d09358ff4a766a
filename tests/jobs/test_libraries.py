"""`rayloom doctor libs`: what does not load is explained, with the package that has it."""

import json

import pytest

from jobs.libraries import PROBES, _child, check_libraries, explain, missing_objects, probe
from modalities.libraries import PACKAGES


def test_this_machine_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    import av
    import rasterio

    assert check_libraries(as_json=True) == 0
    found = {library["name"]: library for library in json.loads(capsys.readouterr().out)}
    assert found["av"]["inside"] == f"FFmpeg {av.ffmpeg_version_info}"
    assert found["rasterio"]["inside"] == f"GDAL {rasterio.__gdal_version__}"
    assert set(PROBES) <= set(found)


def test_what_modalities_ask_for_late_is_loaded_not_only_named() -> None:
    assert set(PACKAGES.values()) <= set(PROBES)


def test_a_missing_shared_object_names_its_debian_package() -> None:
    code, _, error = _child("import ctypes; ctypes.CDLL('libX11-of-no-machine.so.6')", ())
    assert code
    assert missing_objects(error) == ("libX11-of-no-machine.so.6",)
    told = explain("open3d-cpu", code, error, ("libX11.so.6", "libGL.so.1"))
    assert told["advice"] == "apt-get install libx11-6 libgl1"
    assert "even without a screen" in told["problem"]


def test_a_library_that_kills_its_process_is_survived() -> None:
    code, _, error = _child("import os; os.kill(os.getpid(), 4)", ())
    assert "dies of signal 4" in explain("open3d-cpu", code, error, ())["problem"]


def test_a_library_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROBES, "no-such-wheel", "import no_such_wheel")
    assert probe("no-such-wheel").version == ""
