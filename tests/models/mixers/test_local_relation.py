import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.local_relation import LocalRelation

SMALL = [{"kernel": 3}]


def test_equals_an_affinity_matrix_of_offsets_in_one_and_three_axes() -> None:
    torch.manual_seed(0)
    for grid in ((9,), (3, 4, 3)):
        mixer = LocalRelation(4, kernel=3, axes=len(grid)).double()
        n = torch.Size(grid).numel()
        x = torch.randn(1, n, 4, dtype=torch.float64)
        places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), -1).flatten(0, -2)
        conv = mixer.affinity.conv
        affinity = torch.zeros(4, n, n, dtype=torch.float64)
        for i in range(n):
            for j in range(n):
                offset = places[j] - places[i] + 1
                if ((offset >= 0) & (offset < 3)).all():
                    affinity[:, i, j] = conv.weight[(slice(None), 0, *offset)]
        mixed = (affinity @ mixer.value(x)[0].T[:, :, None]).squeeze(-1) + conv.bias[:, None]
        assert_close(mixer(x, Layout(grid=grid)), mixer.out(mixed.T[None]))
