"""Every stem cuts and joins without loss, and says what it was given wrongly."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.stems.base import STEMS, Side, Stem

ODD = {"tubelet": (2, 3, 5, 9, 18), "point": (2, 11, 3), "spectral": (2, 13, 9, 6)}
IMAGE = (2, 3, 9, 14)  # what other stems take


def build(name: str, **options: Any) -> Stem:
    torch.manual_seed(0)
    return STEMS.create(name, 1 if name == "spectral" else 3, 8, **options)


def given(name: str) -> tuple[Tensor, Side]:
    x = torch.randn(ODD.get(name, IMAGE), generator=torch.Generator().manual_seed(0))
    if name == "point":
        return x, Side(coords=x)
    return x, Side(wavelengths=torch.linspace(400, 900, 13).expand(2, -1) if name == "spectral" else None)


@pytest.mark.parametrize("name", STEMS.names())
def test_joining_undoes_cutting(name: str) -> None:
    stem, (x, _) = build(name), given(name)
    assert_close(stem.join(stem.cut(x), x.shape[-stem.axes :]), x)


@pytest.mark.parametrize("name", STEMS.names())
def test_tokens_fill_the_layout_and_hold_its_values(name: str) -> None:
    stem, (x, side) = build(name), given(name)
    tokens, layout = stem(x, side)
    n = tokens.shape[1]
    assert stem.cut(x).shape == (2, n, stem.values)
    assert tokens.shape == (2, n, 8)
    assert layout.grid is None or torch.Size(layout.grid).numel() == n


@pytest.mark.parametrize("name", STEMS.names())
def test_batch_rows_are_independent(name: str) -> None:
    stem, (x, side) = build(name).eval(), given(name)
    first = Side(*(None if part is None else part[:1] for part in side))
    assert_close(stem(x, side)[0][:1], stem(x[:1], first)[0])


@pytest.mark.parametrize("name", STEMS.names())
def test_every_parameter_gets_a_gradient(name: str) -> None:
    stem, (x, side) = build(name), given(name)
    (stem(x, side)[0] ** 3).sum().backward()  # the squares of a norm's outputs have a constant sum
    assert not [key for key, p in stem.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.compile
@pytest.mark.parametrize("name", STEMS.names())
def test_compiles_to_one_graph_and_exports(name: str, one_graph: Any, exports: Any) -> None:
    stem, (x, side) = build(name).eval(), given(name)
    n = stem.cut(x).shape[1]
    for mask in (None, torch.arange(n).expand(2, -1) < n - 2):
        case = side._replace(mask=mask)
        one_graph(stem, lambda stem, x, case=case: stem(x, case)[0], x)
        exports(stem, lambda stem, x, case=case: stem(x, case)[0], x)


@pytest.mark.parametrize("name", STEMS.names())
def test_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        assert all(p.is_meta for p in build(name).parameters())


def test_a_patch_stem_equals_a_strided_convolution() -> None:
    stem = build("patch", patch=3)
    conv = torch.nn.Conv2d(3, 8, 3, stride=3)
    conv.load_state_dict({"weight": stem.project.weight.view(8, 3, 3, 3), "bias": stem.project.bias})
    x = torch.randn(2, 3, 9, 12)
    assert_close(stem(x, Side())[0], conv(x).flatten(2).mT)


def test_a_tubelet_stem_equals_a_strided_convolution() -> None:
    stem = build("tubelet", frames=2, patch=3)
    conv = torch.nn.Conv3d(3, 8, (2, 3, 3), stride=(2, 3, 3))
    conv.load_state_dict({"weight": stem.project.weight.view(8, 3, 2, 3, 3), "bias": stem.project.bias})
    x = torch.randn(2, 3, 4, 9, 6)
    assert_close(stem(x, Side())[0], conv(x).flatten(2).mT)


def test_times_of_a_block_are_averaged() -> None:
    times = torch.tensor([[0.0, 1, 2, 3, 10]])
    _, layout = build("tubelet")(torch.zeros(1, 3, 5, 8, 8), Side(times=times))
    assert layout.times is not None
    assert layout.times.tolist() == [[0.5, 2.5, 10.0]]


def test_wavelengths_of_a_group_are_averaged_and_the_last_band_repeated() -> None:
    nm = torch.tensor([[400.0, 410, 420, 430, 500]])
    x = torch.arange(5.0).view(1, 5, 1, 1).expand(1, 5, 4, 4)
    stem = build("spectral", bands=4, patch=4)
    _, layout = stem(x, Side(wavelengths=nm))
    assert layout.wavelengths is not None
    assert layout.wavelengths.tolist() == [[415.0, 500.0]]
    assert stem.cut(x)[0, 1].unique().tolist() == [4.0]


def test_answers_of_a_cube_are_the_mean_over_its_bands() -> None:
    stem = build("spectral", bands=2, patch=2)
    values = torch.randn(1, 3 * 2 * 3, 5 * 4)
    got = stem.answers(values, (6, 4, 5))
    assert got.shape == (1, 5, 4, 5)
    assert_close(
        got[0, :, 2, 3], values.view(3, 6, 5, 4).mean(0)[4, :, 1]
    )  # row 2, column 3: patch (1, 1), cell (0, 1)


def test_clouds_are_centred_whatever_their_padding_holds() -> None:
    coords = torch.tensor([[[10.0, 0, 0], [14, 2, 0], [999, 999, 999]]])
    mask = torch.tensor([[True, True, False]])
    _, layout = build("point")(torch.zeros(1, 3, 3), Side(coords=coords, mask=mask))
    assert layout.coords is not None
    assert layout.coords.tolist() == [[[-1, -0.5, 0], [1, 0.5, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("name", "x", "side", "message"),
    [
        ("patch", (1, 3, 8), Side(), r"x must be \(b c h w\), got shape \(1, 3, 8\)"),
        ("patch", (1, 4, 8, 8), Side(), r"x must have 3 channels, got shape \(1, 4, 8, 8\)"),
        (
            "patch",
            (1, 3, 8, 8),
            Side(times=torch.zeros(1, 1)),
            "a patch stem takes .'mask'. besides x, got times",
        ),
        ("tubelet", (1, 3, 2, 8, 8), Side(times=torch.zeros(1, 3)), r"times must be \(b, t\) = \(1, 2\)"),
        ("point", (1, 5, 3), Side(), r"points need coords of shape \(1, 5, 3\), got None"),
        (
            "spectral",
            (1, 5, 8, 8),
            Side(wavelengths=torch.zeros(1, 4)),
            r"\(b, c\) = \(1, 5\) in nm, got \(1, 4\)",
        ),
    ],
)
def test_says_what_was_wanted_and_what_came(name: str, x: tuple[int, ...], side: Side, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name)(torch.zeros(x), side)


@pytest.mark.parametrize("name", [n for n in STEMS.names() if n not in ODD])
def test_pixels_of_hidden_tokens_reach_no_other(name: str) -> None:
    stem, (x, _) = build(name).eval(), given(name)
    rows = -(-x.shape[2] // round(stem.cells**0.5))
    n = stem.cut(x).shape[1]
    mask = (torch.arange(n) < n // rows).expand(2, -1)  # the first row of tokens is real
    other = x.clone()
    other[:, :, round(stem.cells**0.5) :] += 5
    hidden = [stem(image, Side(mask=mask))[0][mask] for image in (x, other)]
    assert_close(*hidden)


def test_a_tubelet_stem_that_reaches_further_equals_an_overlapping_convolution() -> None:
    stem = build("tubelet", frames=2, patch=3, reach=3)
    conv = torch.nn.Conv3d(3, 8, (3, 3, 3), stride=(2, 3, 3), padding=(1, 0, 0))
    conv.load_state_dict(stem.project.conv.state_dict())
    x = torch.randn(2, 3, 6, 9, 6)
    assert_close(stem(x, Side())[0], conv(x).flatten(2).mT)
    mask = torch.rand(2, 18, generator=torch.Generator().manual_seed(1)) < 0.5
    other = stem.join(stem.cut(x) + 5 * ~mask[..., None], (6, 9, 6))
    assert_close(stem(x, Side(mask=mask))[0][mask], stem(other, Side(mask=mask))[0][mask])


def test_a_convolution_stem_can_add_what_went_into_an_earlier_layer() -> None:
    layers = ({"stride": 2}, {"kernel": 3, "act": "relu"}, {"kernel": 3, "skip": 2})
    stem = build("conv", layers=layers)
    x = torch.randn(1, 3, 8, 8)
    first, second, third = (layer.conv for layer in stem.layers)
    y = torch.nn.functional.conv2d(x, first.weight, first.bias, stride=2, padding=1)
    z = torch.nn.functional.conv2d(y, second.weight, second.bias, padding=1).relu()
    want = y + torch.nn.functional.conv2d(z, third.weight, third.bias, padding=1)
    assert_close(stem(x, Side())[0], want.flatten(2).mT)
