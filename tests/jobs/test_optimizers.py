"""Which parameters decay, how fast each depth learns, and the updates themselves."""

import pytest
import torch
from torch import nn

from jobs.optimizers import DecoupledSGD, Lion, depths_of, groups_of, optimizer_of
from models import create_task

INPUTS = {"x": "image"}


def task(name: str = "window_nano") -> nn.Module:
    return create_task("classification", model=name, inputs=INPUTS, num_outputs=3)


def test_only_weights_of_maps_decay_and_every_parameter_is_in_one_group() -> None:
    net = task()
    groups = groups_of(net, weight_decay=0.1)
    names = {id(p): name for name, p in net.named_parameters()}
    found = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(found) == sorted(names.values())
    decayed = [names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]]
    assert decayed
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    tables = [name for name, p in net.named_parameters() if p.ndim >= 2 and name.endswith("mixer.bias")]
    assert tables
    assert not set(tables) & set(decayed)


@pytest.mark.parametrize("name", ["window_nano", "swin_tiny"])
def test_deeper_blocks_learn_faster_and_the_head_fastest(name: str) -> None:
    with torch.device("meta"):
        net = task(name)
    depths = depths_of(net)
    head = {depth for key, depth in depths.items() if ".head." in key}
    stem = {depth for key, depth in depths.items() if ".stem." in key}
    assert head == {max(depths.values())}
    assert stem == {0}
    assert set(range(1, max(depths.values()))) <= set(depths.values())
    rates = {
        id(p): group["rate"]
        for group in groups_of(net, weight_decay=0.1, layer_decay=0.5)
        for p in group["params"]
    }
    last = max(depths.values())
    for key, p in net.named_parameters():
        assert rates[id(p)] == 0.5 ** (last - depths[key])


def test_lion_steps_by_the_sign_of_its_interpolated_momentum() -> None:
    x = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    lion = Lion([x], lr=0.1, weight_decay=0.5)
    momentum, want = torch.zeros(2, dtype=torch.float64), x.detach().clone()
    for gradient in ([0.3, -0.1], [-4.0, 0.2], [0.1, 0.1]):
        g = torch.tensor(gradient, dtype=torch.float64)
        x.grad = g
        lion.step()
        want = want - 0.1 * ((0.9 * momentum + 0.1 * g).sign() + 0.5 * want)
        momentum = 0.99 * momentum + 0.01 * g
        assert torch.allclose(x, want, atol=1e-15)


def test_decay_of_sgd_does_not_pass_through_its_momentum() -> None:
    x = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    sgd = DecoupledSGD([{"params": [x], "weight_decay": 0.5}], lr=0.1)
    momentum, want = 0.0, 2.0
    for gradient in (1.0, -0.5, 0.25):
        x.grad = torch.tensor([gradient], dtype=torch.float64)
        sgd.step()
        momentum = 0.9 * momentum + gradient
        want = want * (1 - 0.1 * 0.5) - 0.1 * (gradient + 0.9 * momentum)
        assert x.item() == pytest.approx(want, abs=1e-14)
    assert sgd.param_groups[0]["weight_decay"] == 0.5


def test_an_unknown_optimizer_is_answered_with_those_there_are() -> None:
    with pytest.raises(LookupError, match="no optimizer 'adam'; there are adamw"):
        optimizer_of("adam", nn.Linear(2, 2), learning_rate=0.1, weight_decay=0.0)
