import pytest
import torch
from torch.testing import assert_close

from models.heads.base import HEADS
from models.heads.classification import ClassificationHead
from models.layout import Layout, Stage


def test_reads_the_mean_of_real_tokens_or_the_class_token() -> None:
    x = torch.randn(2, 5, 4)
    mask = torch.tensor([[True, True, False, False, False]] * 2)
    stage = Stage(x, Layout(mask=mask), prefix=x[:, 4:])
    mean, cls = HEADS.create("classification", [4], 0), HEADS.create("classification", [4], 0, source="class")
    assert_close(mean([stage], (5,)), x[:, :2].mean(1))
    assert_close(cls([stage], (5,)), x[:, 4])
    with pytest.raises(ValueError, match="the backbone has none; set its class_token"):
        cls([stage._replace(prefix=None)], (5,))
    with pytest.raises(ValueError, match=r"must be one of .'mean', 'class'., got 'max'"):
        HEADS.create("classification", [4], 3, source="max")


def test_norms_and_hidden_layers_stand_between_mean_and_scores() -> None:
    torch.manual_seed(0)
    head = HEADS.create("classification", [4], 3, norm="layer", act="tanh")
    x = torch.randn(2, 5, 4)
    want = head.out(head.hidden(torch.nn.functional.layer_norm(x.mean(1), (4,))).tanh())
    assert_close(head([Stage(x, Layout())], (5,)), want)


def test_projects_every_token_before_the_mean_if_told() -> None:
    torch.manual_seed(0)
    head = ClassificationHead((4,), 3, project=6).eval()
    tokens = torch.randn(2, 5, 4)
    assert head.project is not None
    want = torch.nn.functional.silu(head.project.norm(head.project.linear(tokens), Layout())).mean(1)
    assert_close(head([Stage(tokens, Layout())], ()), head.out(want))
