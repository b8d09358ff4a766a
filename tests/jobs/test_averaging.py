"""Moving averages of weights."""

import pytest
import torch
from torch import nn

from jobs.averaging import Average


def test_an_average_follows_its_formula_and_leaves_the_weights_alone() -> None:
    net = nn.Linear(2, 2)
    average, want = Average(net, 0.5), net.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            net.weight.add_(step)
        average.update(net, step)
        d = min(0.5, (1 + step) / (10 + step))
        want = d * want + (1 - d) * net.weight.detach()
        assert torch.allclose(average.weights["weight"], want)
    trained = net.weight.detach().clone()
    with average.inside(net):
        assert torch.allclose(net.weight, want)
    assert torch.equal(net.weight, trained)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_a_decay_outside_of_zero_and_one_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Average(nn.Linear(1, 1), decay)
