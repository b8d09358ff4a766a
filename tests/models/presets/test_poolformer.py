"""poolformer: pooling as a token mixer, against two independent implementations."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from models import create_model
from models.layout import Layout
from models.mixers import create_mixer

SIZES = [(64, 64), (72, 100)]  # the second is odd in every later stage


def test_poolformer_equals_transformers(transformers: Any, agree: Any) -> None:
    dims, depths = (16, 32, 48, 64), (1, 2, 1, 1)
    config = transformers.PoolFormerConfig(num_labels=11, hidden_sizes=list(dims), depths=list(depths))
    peer = transformers.PoolFormerForImageClassification(config)
    small = {"num_classes": 11, "dims": dims, "depths": depths}
    agree("poolformer_s12", peer, source="transformers", sizes=SIZES, options=small)


def test_poolformer_equals_timm(timm: Any, agree: Any) -> None:
    peer = timm.create_model("poolformer_s12", num_classes=11)
    after = {"backbone.norm": None, "head.norm": {"name": "layer", "eps": 1e-6}}
    agree("poolformer_s12", peer, source="timm", sizes=SIZES, options={"num_classes": 11, **after})


def test_poolformer_mixer_of_a_constant_map_is_exactly_zero_also_at_borders() -> None:
    x = (torch.randint(-16, 17, (2, 1, 8)) / 8).expand(-1, 30, -1)  # sums of nine of them do not round
    assert not create_mixer("pool", 8)(x, Layout(grid=(5, 6))).any()


def test_poolformer_mixer_has_no_parameters() -> None:
    assert not list(create_mixer("pool", 8).parameters())
    x, layout = torch.randn(1, 9, 8), Layout(grid=(3, 3))
    middle = x.mean(1) - x[:, 4]
    assert_close(create_mixer("pool", 8)(x, layout)[:, 4], middle)


@pytest.mark.parametrize("mixer", [{"name": "identity"}, {"name": "attention", "head_dim": 16}])
def test_poolformer_keeps_all_other_shapes_when_the_mixer_is_swapped_by_name(mixer: dict[str, Any]) -> None:
    with torch.device("meta"):
        pool, other = (create_model("poolformer_nano", mixers=(m,)) for m in ({"name": "pool"}, mixer))
    shapes = {key: value.shape for key, value in pool.state_dict().items()}
    swapped = {key: value.shape for key, value in other.state_dict().items() if ".mixer." not in key}
    assert swapped == shapes
    assert not any(".mixer." in key for key in shapes)
    image = torch.zeros(1, 3, 32, 32, device="meta")
    assert [s.tokens.shape for s in pool.features(image)] == [s.tokens.shape for s in other.features(image)]
