import json

import pytest
import torch
from safetensors.torch import load

from models import create_model
from models.weights import from_bytes, load_bytes, to_bytes


def test_weights_and_their_description_come_back() -> None:
    model, other = create_model("video_nano"), create_model("video_nano")
    content = to_bytes(model, {"model": "video_nano", "num_classes": 10})
    assert load_bytes(other, content) == {"model": "video_nano", "num_classes": 10}
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_any_safetensors_reader_reads_them() -> None:
    model = create_model("video_nano")
    assert load(to_bytes(model)).keys() == model.state_dict().keys()


def test_same_weights_give_the_same_bytes() -> None:
    model = create_model("video_nano")
    assert to_bytes(model, {"a": 1, "b": 2}) == to_bytes(model, {"b": 2, "a": 1})


def test_weights_of_another_model_are_named_and_leave_this_one_alone() -> None:
    model = create_model("video_nano")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = to_bytes(create_model("video_nano", num_classes=3, depth=5))
    with pytest.raises(
        ValueError, match=r"another model: .*extra \['backbone.blocks.4.*head.out.bias \(3,\) for \(10,\)"
    ):
        load_bytes(model, wrong)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_weights_left_over_are_refused() -> None:
    with pytest.raises(ValueError, match=r"extra \['backbone.blocks.4"):
        load_bytes(create_model("video_nano"), to_bytes(create_model("video_nano", depth=5)))


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64, json.dumps({"a": 1}).encode()])
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a safetensors file"):
        from_bytes(content)
