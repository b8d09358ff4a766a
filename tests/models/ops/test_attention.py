import torch
from torch.testing import assert_close

from models.ops.attention import attend, open_empty_rows


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 5, 8, dtype=torch.float64)
    bias = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    want = (q @ k.mT / 8**0.5 + bias).softmax(-1) @ v
    assert_close(attend(q, k, v, bias), want)


def test_a_query_that_may_see_nothing_sees_everything() -> None:
    allowed = torch.tensor([[True, False], [False, False]])
    assert open_empty_rows(allowed).tolist() == [[True, False], [True, True]]
