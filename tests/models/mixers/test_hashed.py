import torch
from torch.testing import assert_close

from models.layout import Layout
from models.mixers.hashed import HashedAttention

SMALL = [{"head_dim": 16, "supports": 8, "bits": 6}]


def test_learns_from_the_first_batch_in_training_and_when_told() -> None:
    torch.manual_seed(0)
    mixer, x = HashedAttention(16, head_dim=8, supports=5, bits=4), torch.randn(2, 20, 16)
    start = mixer.weights.clone()
    mixer.eval()(x, Layout())
    assert torch.equal(mixer.weights, start)
    mixer.train()(x, Layout())
    first = mixer.weights.clone()
    assert not torch.equal(first, start)
    mixer(x + 1, Layout())
    assert torch.equal(mixer.weights, first)
    mixer.relearn()
    mixer(x + 1, Layout())
    assert not torch.equal(mixer.weights, first)


def test_hidden_tokens_teach_nothing() -> None:
    x, mask = torch.randn(2, 20, 16), torch.arange(20).expand(2, -1) < 12
    learned = []
    for hidden in (0.0, 5.0):
        torch.manual_seed(0)
        mixer = HashedAttention(16, head_dim=8, supports=5, bits=4, similar=3).train()
        mixer(torch.where(mask[..., None], x, x + hidden), Layout(mask=mask))
        learned.append((mixer.supports.clone(), mixer.weights.clone()))
    assert_close(learned[0], learned[1])


def test_gradients_pass_the_sign_where_its_argument_is_small() -> None:
    torch.manual_seed(0)
    mixer = HashedAttention(16, head_dim=8, supports=5, bits=4).double()
    with torch.no_grad():
        mixer.weights[0, 0] *= 1e4  # one bit whose argument is large everywhere
    qk = torch.nn.functional.normalize(torch.randn(1, 2, 20, 8, dtype=torch.float64), dim=-1).requires_grad_()
    for bit, passes in ((0, False), (1, True)):
        (grad,) = torch.autograd.grad(mixer.codes(qk, None)[:, 0, :, bit].sum(), qk)
        assert bool(grad.any()) is passes
