import torch
import torch.nn.functional as F
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.mbconv import MBConvMixer


def test_equals_its_convolutions_one_by_one() -> None:
    torch.manual_seed(0)
    mixer = MBConvMixer(8, ratio=2.0, act="relu").double().eval()
    branch, x = mixer.branch, torch.randn(2, 20, 8, dtype=torch.float64)
    # fresh batch norms divide by sqrt(1 + eps): twice before the first nonlinearity, once before the second
    y = F.relu(x / (1 + 1e-5) @ branch.expand.conv.weight[:, :, 0, 0].T)
    y = F.conv2d(y.mT.unflatten(-1, (4, 5)), branch.filter.conv.weight, padding=1, groups=16)
    y = F.relu(y / (1 + 1e-5) ** 0.5).flatten(2).mT
    gate = branch.squeeze.excite(F.silu(branch.squeeze.squeeze(y.mean(1)))).sigmoid()
    want = (y * gate[:, None]) @ branch.shrink.conv.weight[:, :, 0, 0].T + branch.shrink.conv.bias
    assert_close(mixer(x, Layout(grid=(4, 5))), want)
