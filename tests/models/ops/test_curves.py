import itertools

import pytest
import torch

from models.ops.curves import curve_order, hilbert, morton, quantise


def slow_morton(cell: tuple[int, ...], bits: int) -> int:
    text = "".join(f"{axis >> level & 1}" for level in reversed(range(bits)) for axis in cell)
    return int(text, 2)


@pytest.mark.parametrize(("k", "bits"), [(1, 8), (2, 31), (3, 21), (3, 4)])
def test_morton_equals_interleaved_binary_digits(k: int, bits: int) -> None:
    cells = torch.randint(2**bits, (200, k), generator=torch.Generator().manual_seed(0))
    assert morton(cells, bits).tolist() == [slow_morton(tuple(cell), bits) for cell in cells.tolist()]


@pytest.mark.parametrize(("k", "bits"), [(2, 4), (3, 3), (4, 2)])
def test_hilbert_visits_every_cell_once_in_unit_steps(k: int, bits: int) -> None:
    cells = torch.tensor(list(itertools.product(range(2**bits), repeat=k)))
    codes = hilbert(cells, bits)
    assert codes.sort().values.tolist() == list(range(len(cells)))
    path = cells[codes.argsort()]
    assert (path.diff(dim=0).abs().sum(-1) == 1).all()


def test_codes_beyond_63_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="axes x bits must stay below 64 for int64, got 3 x 22"):
        morton(torch.zeros(1, 3, dtype=torch.long), 22)


def test_quantising_ignores_hidden_points_and_keeps_proportions() -> None:
    coords = torch.tensor([[[0.0, 0, 0], [2, 1, 0], [50, 50, 50]]])
    mask = torch.tensor([[True, True, False]])
    assert quantise(coords, mask, 3)[0, :2].tolist() == [[0, 0, 0], [7, 4, 0]]


def test_a_cloud_of_one_place_has_an_order() -> None:
    order = curve_order(torch.full((1, 5, 3), 2.0), None)
    assert order.tolist() == [[0, 1, 2, 3, 4]]


def test_hidden_points_come_last() -> None:
    coords = torch.rand(2, 9, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) % 3 > 0
    order = curve_order(coords, mask.expand(2, -1), curve="hilbert")
    assert mask[order].tolist() == [[True] * 6 + [False] * 3] * 2
