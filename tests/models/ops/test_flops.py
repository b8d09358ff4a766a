import pytest
import torch

from models.ops.attention import ATTENTION, attend
from models.ops.flops import count_flops


@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
def test_attention_counts_whichever_backend_computes_it(backend: str) -> None:
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 4)
    if backend == "sdpa":
        v = torch.randn(2, 3, 7, 8)
    with ATTENTION.force(backend), torch.no_grad():
        flops = count_flops(lambda: attend(q, k, v))
    assert flops == 2 * 2 * 3 * 5 * 7 * (8 + v.shape[-1])
