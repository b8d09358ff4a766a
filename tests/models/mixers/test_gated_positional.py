import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.gated_positional import GatedPositionalAttention

SMALL = [{"head_dim": 8}]


def test_equals_its_matrix_row_by_row() -> None:
    torch.manual_seed(0)
    mixer, grid = GatedPositionalAttention(8, head_dim=2).double(), (3, 4)
    torch.nn.init.normal_(mixer.gate)
    torch.nn.init.normal_(mixer.value)
    torch.nn.init.normal_(mixer.place_weight)
    x = torch.randn(12, 8, dtype=torch.float64)
    q, k = mixer.qk(x).view(12, 2, 4, 2).permute(1, 2, 0, 3)
    v = (x @ mixer.value.T).view(12, 4, 2).transpose(0, 1)
    y = torch.empty_like(v)
    for h in range(4):
        g = mixer.gate[h].sigmoid()
        for i in range(12):
            d = [(j % 4 - i % 4, j // 4 - i // 4) for j in range(12)]
            places = torch.tensor([(a, b, a * a + b * b) for a, b in d], dtype=torch.float64)
            row = (1 - g) * (k[h] @ q[h, i] / 2**0.5).softmax(0) + g * (
                places @ mixer.place_weight[h]
            ).softmax(0)
            y[h, i] = row / row.sum() @ v[h]
    assert_close(mixer(x[None], Layout(grid=grid))[0], mixer.out(y.transpose(0, 1).flatten(1)))
