import pytest
import torch

from models import create_model, create_task


def test_classes_and_channels_are_as_asked() -> None:
    model = create_model("window_nano", num_classes=7, in_chans=5)
    assert model(torch.randn(2, 5, 20, 31)).shape == (2, 7)
    assert create_model("window_nano", num_classes=0)(torch.randn(2, 3, 32, 32)).shape == (2, 192)


def test_an_option_reaches_every_part_that_takes_it() -> None:
    model = create_model("window_nano", window=4, drop_path=0.3)
    windows = [m.window for m in model.modules() if type(m).__name__ == "WindowAttention"]
    assert windows == [(4, 4)] * 5
    assert model.backbone.stages[2][0].drop_path.rate == pytest.approx(0.3)


def test_mixers_are_taken_in_turn_through_all_stages() -> None:
    model = create_model("points_nano")
    assert [m.curve for m in model.modules() if type(m).__name__ == "SerialisedAttention"] == [
        "morton",
        "hilbert",
        "morton",
        "hilbert",
    ]


def test_an_option_may_name_its_part() -> None:
    model = create_model("window_nano", **{"stem.patch": 8, "mixers.head_dim": 48})
    assert model.features(torch.randn(1, 3, 32, 32))[0].layout.grid == (4, 4)
    assert model.backbone.stages[0][0].mixer.heads == 1


def test_unknown_option_suggests_the_near_one() -> None:
    with pytest.raises(LookupError, match=r"'drop_pth' is an option of 0 parts of this model.*'drop_path'"):
        create_model("window_nano", drop_pth=0.1)
    with pytest.raises(LookupError, match=r"'frames' is an option of 0 parts"):
        create_model("window_nano", frames=2)


def test_another_head_drops_the_options_of_the_old_one() -> None:
    model = create_model("light_nano", head="classification", num_classes=4)
    assert model(torch.randn(2, 3, 4, 16, 16)).shape == (2, 4)


def test_a_task_keeps_the_presets_options_of_the_same_head() -> None:
    task = create_task("regression", model="light_nano", inputs={"x": "frames"}, num_outputs=3)
    value = task({"frames": torch.randn(2, 3, 4, 16, 16)})["prediction"]
    assert value.shape == (2, 4, 3)
    torch.testing.assert_close(value.norm(dim=-1), torch.ones(2, 4))


def test_unknown_task_and_argument_suggest_the_near_one() -> None:
    with pytest.raises(LookupError, match=r"no 'clasification'.*\['classification'\]"):
        create_task("clasification", model="window_nano", inputs={"x": "image"}, num_outputs=2)
    with pytest.raises(LookupError, match=r"takes no 'wavelength'.*'wavelengths'"):
        create_task("masked", model="spectral_nano", inputs={"x": "cube", "wavelength": "nm"}, num_outputs=0)
    with pytest.raises(LookupError, match="inputs must say which field"):
        create_task("masked", model="window_nano", inputs={}, num_outputs=0)
