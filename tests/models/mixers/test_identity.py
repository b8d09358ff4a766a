import torch

from models.layout import Layout
from models.mixers.identity import IdentityMixer


def test_gives_what_it_gets() -> None:
    x = torch.randn(1, 3, 4)
    assert IdentityMixer(4)(x, Layout()) is x
