import pytest
import torch

from models import create_model, list_models
from models.mixers import create_mixer, list_mixers
from models.presets import swin
from models.presets.base import mixer_of, module_of, presets, resolve, systems


@pytest.mark.parametrize("name", list_models())
def test_builds_on_the_meta_device_with_the_papers_parameters(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert all(p.is_meta for p in model.parameters())
    published = resolve(name).get("millions")
    if published is not None:
        assert millions == pytest.approx(published, rel=0.005)
    else:
        assert name.endswith("_nano"), "only our own small models have no published size"
        assert millions < 2


@pytest.mark.parametrize("name", list_models())
def test_says_what_it_is_and_for_which_data(name: str) -> None:
    preset = resolve(name)
    assert preset["doc"]
    assert preset["modality"] in ("image", "video", "pointcloud", "hyperspectral", "lighting")
    assert name in list_models(preset["modality"])


def test_inherits_what_it_does_not_change() -> None:
    small, tiny = resolve("swin_small"), resolve("swin_tiny")
    assert small["backbone.depths"] == (2, 2, 18, 2)
    assert {k for k in small if small[k] != tiny[k]} == {
        "doc",
        "millions",
        "backbone.depths",
        "backbone.drop_path",
    }
    assert "base" not in small


def test_another_part_inherits_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**presets(), "cubes": {"base": "swin_tiny", "stem": "spectral", "stem.bands": 2}}
    monkeypatch.setattr("models.presets.base.presets", lambda: table)
    cubes = resolve("cubes")
    assert {key for key in cubes if key.startswith("stem")} == {"stem", "stem.bands"}
    assert cubes["backbone.depths"] == (2, 2, 6, 2)


def test_unknown_model_suggests_the_near_one() -> None:
    with pytest.raises(LookupError, match=r"no model 'swin_tny'; did you mean one of \['swin_tiny'"):
        create_model("swin_tny")


def test_a_system_is_reached_by_its_short_name() -> None:
    with torch.device("meta"):
        assert create_model("swin", num_classes=7).head.out.out_features == 7
        assert type(create_mixer("swin", dim=64)).__name__ == "WindowAttention"
    assert {"swin", "window"} <= set(list_mixers())
    for system in systems():
        if mixer_of(system):
            with torch.device("meta"):
                create_mixer(system, dim=64)
    with pytest.raises(LookupError, match=r"no mixer 'swim'.*'swin'"):
        create_mixer("swim", dim=64)


def test_constants_of_a_preset_file_mean_nothing_but_part_presets_and_imports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(swin, "MIXER", {"name": "pool"}, raising=False)
    assert mixer_of("swin") == "window"
    monkeypatch.setattr(swin, "PART", "mixer")
    module_of.cache_clear()
    with pytest.raises(ValueError, match=r"PART of models/presets/swin.py must be one of .*, got 'mixer'"):
        module_of("swin")
