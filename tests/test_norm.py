"""RMSNorm: against PyTorch's and transformers' own, and by its properties."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from minimind.model.norm import RMSNorm


def trained_norm(channels: int, eps: float = 1e-5) -> RMSNorm:
    """A norm whose gains are not all 1."""
    generator = torch.Generator().manual_seed(channels)
    norm = RMSNorm(channels, eps)
    norm.weight.data += torch.randn(channels, generator=generator)
    return norm


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("shape", [(96,), (5, 96), (2, 3, 96)])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_equals_torch(shape, eps):
    norm, x = trained_norm(96, eps), tokens(*shape)
    assert_close(norm(x), F.rms_norm(x, (96,), norm.weight, eps))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounds_once_in_16_bits(dtype):
    """Without a gain, the result is the exact one, rounded."""
    x = tokens(200, 96).to(dtype)
    exact = F.rms_norm(x.double(), (96,), eps=1e-5).to(dtype)
    ours = RMSNorm(96).to(dtype)(x)
    assert ours.dtype == dtype
    # fp32 may fall on the other side of a rounding boundary, but hardly ever.
    assert (ours != exact).float().mean() < 1e-3


def test_large_numbers_do_not_overflow_fp16():
    norm, x = RMSNorm(96).half(), (300 * tokens(4, 96)).half()
    assert_close(norm(x), F.rms_norm(x, (96,), eps=1e-5))
    assert norm(x).abs().max() > 1


def test_scale_of_the_input_does_not_matter():
    norm, x = trained_norm(96), tokens(5, 96)
    for scale in (1000.0, 0.5):
        assert_close(norm(scale * x), norm(x), rtol=1e-4, atol=1e-4)


def test_each_token_alone_decides_its_size():
    norm, x = RMSNorm(96), tokens(2, 3, 96)
    x[0, 1] *= 50
    sizes = norm(x).pow(2).mean(-1).sqrt()
    assert_close(sizes, torch.ones(2, 3), rtol=0, atol=1e-4)
    assert_close(norm(x)[1, 2], norm(x[1, 2]))


def test_zero_token_stays_zero_and_has_a_gradient():
    norm, x = RMSNorm(8), torch.zeros(1, 8, requires_grad=True)
    norm(x).sum().backward()
    assert_close(norm(x), torch.zeros(1, 8))
    assert x.grad.isfinite().all()


def test_equals_llama_to_the_bit():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    for dtype in (torch.float32, torch.bfloat16):
        ours = trained_norm(96).to(dtype)
        theirs = llama.LlamaRMSNorm(96, eps=1e-5).to(dtype)
        theirs.load_state_dict(ours.state_dict())
        x = tokens(2, 5, 96).to(dtype)
        assert_close(ours(x), theirs(x), rtol=0, atol=0)
