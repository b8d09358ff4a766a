"""Weights made one after another: the bits that a model has at once, and never all of them in memory."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from jobs.deferred import Deferred
from models import create_model
from tests.jobs.living import Living

# Window bias, convolutions, tables of numbers, reparametrised norms, drawn buffers, truncated normals.
NAMES = (
    "window_nano", "convnext_nano", "convit_nano", "pre_crmsnorm_nano", "ecoformer_nano", "kat_nano",
    "slide_attn_nano", "points_nano", "spectral_nano", "video_nano",
)  # fmt: skip


def built(name: str) -> nn.Module:
    torch.manual_seed(3)
    return create_model(name, num_classes=7)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_and_the_next_random_number_are_those_of_the_whole_model(name: str) -> None:
    whole = built(name)
    after = torch.rand(1)
    torch.manual_seed(3)
    deferred = Deferred(lambda: create_model(name, num_classes=7))
    assert all(tensor.is_meta for tensor in deferred.module.state_dict().values())
    found = {weight: value.clone() for weight, value in deferred.weights()}
    want = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    assert found.keys() == want.keys()
    assert all(torch.equal(found[weight], value) for weight, value in want.items())
    assert torch.equal(torch.rand(1), after)


def most_bytes(work: Callable[[], object]) -> int:
    with Living() as living:
        work()
    return living.most


def test_no_more_than_a_few_weights_are_in_memory_at_a_time() -> None:
    sizes = [p.nbytes for p in built("window_nano").parameters()]
    deferred = Deferred(lambda: create_model("window_nano", num_classes=7))

    def one_by_one() -> None:
        for _, weight in deferred.weights():
            del weight

    assert most_bytes(lambda: built("window_nano")) >= sum(sizes)
    assert max(sizes) <= most_bytes(one_by_one) <= 2 * max(sizes)


def test_a_model_that_draws_into_memory_is_refused() -> None:
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("noise", torch.rand(3, device="cpu"))

    with pytest.raises(RuntimeError, match="draws random numbers"):
        Deferred(Drawn)


def test_what_is_computed_in_memory_is_given_as_it_is() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("numbers", torch.arange(3.0, device="cpu"))
            self.register_buffer("twice", torch.tensor([1.0, 2.0]) * 2)
            self.register_buffer("swapped", torch.arange(6.0).view(2, 3).t())

    found = dict(Deferred(Table).weights())
    assert found["numbers"].tolist() == [0.0, 1.0, 2.0]
    assert found["twice"].tolist() == [2.0, 4.0]
    assert found["swapped"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
