import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.serialised import SerialisedAttention
from models.ops.curves import curve_order

SMALL = [{"group": 8}]  # several windows at small sizes


def loop(mixer: SerialisedAttention, x: Tensor, coords: Tensor) -> Tensor:
    """Cloud by cloud, run by run."""
    y = torch.zeros_like(x)
    for b in range(x.shape[0]):
        order = curve_order(coords[b : b + 1], None, curve=mixer.curve, reverse_axes=mixer.reverse_axes)[0]
        first = mixer.group - mixer.group // 2 if mixer.shifted else mixer.group
        for run in [order[:first], *order[first:].split(mixer.group)]:
            if len(run):
                y[b, run] = mixer.attention(x[b : b + 1, run])[0]
    return y


@pytest.mark.parametrize("n", [1, 8, 20, 33])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("curve", "reverse_axes"), [("morton", False), ("hilbert", True)])
def test_equals_a_loop_over_runs(n: int, shifted: bool, curve: str, reverse_axes: bool) -> None:
    torch.manual_seed(0)
    mixer = SerialisedAttention(
        8, group=8, curve=curve, shifted=shifted, reverse_axes=reverse_axes, head_dim=4
    ).double()
    x, coords = torch.randn(2, n, 8, dtype=torch.float64), torch.rand(2, n, 3, dtype=torch.float64)
    assert_close(mixer(x, Layout(coords=coords)), loop(mixer, x, coords))


def test_shifted_runs_carry_information_between_groups() -> None:
    torch.manual_seed(0)
    x, coords = torch.randn(1, 16, 8), torch.linspace(0, 1, 16)[None, :, None].expand(1, 16, 3)
    changed = x.clone()
    changed[:, 7] += 1  # the last of the first group of 8

    def touched(shifted: bool) -> list[int]:
        mixer = SerialisedAttention(8, group=8, shifted=shifted, head_dim=4)
        layout = Layout(coords=coords)
        return (
            ((mixer(x, layout) - mixer(changed, layout)).abs().amax(-1)[0] > 1e-6)
            .nonzero()
            .flatten()
            .tolist()
        )

    assert touched(False) == list(range(8))
    assert touched(True) == list(range(4, 12))


def test_rejects_a_layout_without_coords_and_an_unknown_curve() -> None:
    with pytest.raises(ValueError, match="serialised needs coords in the layout, got none"):
        SerialisedAttention(16)(torch.zeros(1, 4, 16), Layout())
    with pytest.raises(LookupError, match="no curve 'peano'"):
        SerialisedAttention(16, curve="peano")
