import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.ops.attention import by_matmul
from models.ops.packed import PACKED, attend_packed

ENDS = torch.tensor([0, 11, 12, 30])


def given() -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = torch.randn(3, 2, 4, 30, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return q, k, v


@pytest.mark.parametrize("backend", ["sequences", "mask"])
@pytest.mark.parametrize("masked", [False, True])
def test_each_sequence_attends_to_itself(backend: str, masked: bool) -> None:
    q, k, v = (t.requires_grad_() for t in given())
    keys = torch.rand(2, 30, generator=torch.Generator().manual_seed(1)) < 0.7 if masked else None
    if keys is not None:
        keys[:, [0, 11, 12]] = True  # every sequence has something to see
    with PACKED.force(backend):
        got = attend_packed(q, k, v, ENDS, keys)
    want = []
    for a, b in ((0, 11), (11, 12), (12, 30)):
        seen = None if keys is None else keys[:, None, None, a:b]
        want.append(by_matmul(q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], seen))
    expected = torch.cat(want, 2)
    assert_close(got, expected)
    grads = [torch.autograd.grad(y.sin().sum(), (q, k, v)) for y in (got, expected)]
    assert_close(*grads)


@pytest.mark.parametrize("backend", ["sequences", "mask"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_errors_are_at_most_twice_those_of_the_plain_form(backend: str, dtype: torch.dtype) -> None:
    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        spans = ((0, 11), (11, 12), (12, 30))
        return torch.cat([by_matmul(*(t[:, :, a:b] for t in (q, k, v))) for a, b in spans], 2)

    exact, rough = plain(*given()), [t.to(dtype) for t in given()]
    with PACKED.force(backend):
        error = (attend_packed(*rough, ENDS) - exact).abs().max()
    assert error <= 2 * (plain(*rough) - exact).abs().max()


def test_a_compiled_graph_takes_the_mask() -> None:
    q, k, v = given()
    whole = torch.compile(attend_packed, backend="eager", fullgraph=True)
    assert_close(whole(q, k, v, ENDS), attend_packed(q, k, v, ENDS))
    assert "sequences  taken" in PACKED.explain(q, k, v, ENDS)
