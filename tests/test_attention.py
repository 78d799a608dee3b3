"""Attention, its masks and its cache, against PyTorch, transformers and itself."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from minimind.model.attention import Attention, KVCache, attend, attention_mask_for
from minimind.model.config import ModelConfig
from minimind.model.rope import RotaryEmbedding

CONFIG = ModelConfig(
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    rope_theta=1e4,
)
SHARING = pytest.mark.parametrize("kv_heads", [6, 3, 2, 1])


def close(actual, expected, atol=1e-5):
    assert_close(actual, expected, atol=atol, rtol=0)


def by_hand(q, k, v, visible):
    """One query at a time, in double precision; visible(t, s) says who may look."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    q, k, v = q.double(), k.double(), v.double()
    batch, heads, tokens, dim = q.shape
    for b in range(batch):
        for h in range(heads):
            shared = h * k.shape[1] // heads
            for t in range(tokens):
                keys = [s for s in range(k.shape[2]) if visible(b, t, s)]
                scores = [q[b, h, t].dot(k[b, shared, s]).item() for s in keys]
                sizes = [math.exp(score / math.sqrt(dim)) for score in scores]
                for s, size in zip(keys, sizes, strict=True):
                    out[b, h, t] += size / sum(sizes) * v[b, shared, s]
    return out.float()


class Stack:
    """Three attention layers with positions, mask and cache as a model has them."""

    def __init__(self, config=CONFIG, seed=0):
        torch.manual_seed(seed)
        self.config = config
        self.layers = [Attention(config, i) for i in range(config.num_hidden_layers)]
        self.rotary = RotaryEmbedding(config.head_dim, 64, config.rope_theta)

    @torch.no_grad()
    def __call__(self, x, cache=None, attention_mask=None, document_ids=None):
        past = 0 if cache is None else cache.length
        tokens = x.shape[1]
        mask = attention_mask_for(tokens, past, attention_mask, document_ids)
        positions = torch.arange(past, past + tokens)[None]
        if attention_mask is not None:
            counted = attention_mask.cumsum(-1) - 1
            positions = counted.clamp(min=0)[:, past:]
        for layer in self.layers:
            x = x + layer(x, self.rotary(positions), mask, cache)
        if cache is not None:
            cache.advance(tokens)
        return x


@pytest.fixture(scope="module")
def stack():
    return Stack()


def tokens(batch, length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, CONFIG.hidden_size, generator=generator)


def heads(kv_heads, queries, keys, batch=2, seed=2):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(6, queries), (kv_heads, keys), (kv_heads, keys)]
    return [torch.randn(batch, h, t, 8, generator=generator) for h, t in shapes]


# attend


@SHARING
def test_attend_is_the_formula(kv_heads):
    q, k, v = heads(kv_heads, 5, 5)
    close(attend(q, k, v), by_hand(q, k, v, lambda b, t, s: s <= t))


@SHARING
def test_a_single_query_reads_all_of_the_past(kv_heads):
    q, k, v = heads(kv_heads, 1, 7)
    close(attend(q, k, v), by_hand(q, k, v, lambda b, t, s: True))


@SHARING
@pytest.mark.parametrize("queries", [1, 4])
def test_attend_with_a_mask_for_each_row(kv_heads, queries):
    q, k, v = heads(kv_heads, queries, 6)
    mask = (
        torch.rand(2, 1, queries, 6, generator=torch.Generator().manual_seed(3)) > 0.4
    )
    mask[..., 0] = True
    close(attend(q, k, v, mask), by_hand(q, k, v, lambda b, t, s: mask[b, 0, t, s]))


@SHARING
def test_attend_equals_sdpa_with_repeated_heads(kv_heads):
    q, k, v = heads(kv_heads, 9, 9)
    wide = [z.repeat_interleave(6 // kv_heads, 1) for z in (k, v)]
    close(attend(q, k, v), F.scaled_dot_product_attention(q, *wide, is_causal=True))


def test_fewer_queries_than_keys_need_a_mask():
    q, k, v = heads(2, 2, 6)
    with pytest.raises(ValueError, match="2 queries for 6 keys need a mask"):
        attend(q, k, v)


# masks


def test_no_mask_where_causality_says_it_all():
    assert attention_mask_for(5, 0) is None
    assert attention_mask_for(1, 4) is None


@pytest.mark.parametrize("tokens_, past", [(3, 4), (1, 0), (6, 0)])
def test_the_mask_of_real_tokens_is_causal(tokens_, past):
    ones = torch.ones(2, past + tokens_)
    mask = attention_mask_for(tokens_, past, ones)
    assert mask.shape == (2, 1, tokens_, past + tokens_)
    for t in range(tokens_):
        for s in range(past + tokens_):
            assert mask[0, 0, t, s] == (s <= past + t)


def test_a_chunk_sees_the_past_and_itself_causally():
    mask = attention_mask_for(2, 2)
    assert mask[0, 0].int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_padding_is_seen_by_itself_only():
    mask = attention_mask_for(4, 0, torch.tensor([[0, 0, 1, 1]]))
    rows = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert mask[0, 0].int().tolist() == rows


def test_documents_and_padding_together():
    padding = torch.tensor([[0, 1, 1, 1]])
    mask = attention_mask_for(4, 0, padding, torch.tensor([[0, 0, 0, 1]]))
    rows = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert mask[0, 0].int().tolist() == rows


@pytest.mark.parametrize("covered", [1, 5, 7])
def test_a_padding_mask_that_does_not_fit_is_refused(covered):
    with pytest.raises(ValueError, match=f"covers {covered} tokens, not 6"):
        attention_mask_for(1, 5, torch.ones(2, covered))


def test_documents_cannot_continue_a_cache():
    with pytest.raises(ValueError, match="document_ids"):
        attention_mask_for(1, 5, document_ids=torch.zeros(1, 1))


# the layer


@pytest.mark.parametrize("changed", range(1, 8))
def test_a_changed_token_changes_nothing_before_it(stack, changed):
    x = tokens(2, 8)
    other = x.clone()
    other[:, changed] += 1
    before, after = stack(x), stack(other)
    assert torch.equal(after[:, :changed], before[:, :changed])
    assert (after[:, changed:] - before[:, changed:]).abs().amax(-1).min() > 1e-3


def test_the_order_of_the_past_matters(stack):
    x = tokens(1, 6)
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    assert (stack(x)[:, -1] - stack(swapped)[:, -1]).abs().max() > 1e-3


@SHARING
@pytest.mark.parametrize("sizes", [[9], [1] * 9, [4, 5], [4, 1, 1, 3], [1, 8]])
def test_any_pieces_through_the_cache_equal_one_pass(kv_heads, sizes):
    stack = Stack(replace(CONFIG, num_key_value_heads=kv_heads))
    x = tokens(2, 9)
    cache = KVCache(stack.config, 2, 12)
    parts = [stack(part, cache) for part in x.split(sizes, dim=1)]
    close(torch.cat(parts, 1), stack(x))
    assert cache.length == 9


@pytest.mark.parametrize("sizes", [[6], [5, 1], [3, 2, 1], [1] * 6])
def test_a_left_padded_batch_equals_each_row_alone(stack, sizes):
    rows = [tokens(1, length, seed=length) for length in (6, 4, 1)]
    x = 5 * tokens(3, 6, seed=9)  # what stands in the padding must not matter
    padding = torch.zeros(3, 6, dtype=torch.long)
    for i, row in enumerate(rows):
        x[i, 6 - row.shape[1] :] = row[0]
        padding[i, 6 - row.shape[1] :] = 1
    close_to = [stack(row)[0] for row in rows]
    cache, parts = KVCache(CONFIG, 3, 6), []
    for part in x.split(sizes, dim=1):
        end = cache.length + part.shape[1]
        parts.append(stack(part, cache, padding[:, :end]))
    out = torch.cat(parts, 1)
    assert out.isfinite().all()
    for i, alone in enumerate(close_to):
        close(out[i, 6 - len(alone) :], alone)


def test_right_padding_changes_no_real_token(stack):
    x = tokens(1, 6)
    padding = torch.tensor([[1, 1, 1, 1, 0, 0]])
    close(stack(x, attention_mask=padding)[:, :4], stack(x[:, :4]))


def test_packed_documents_equal_each_alone(stack):
    lengths = [3, 1, 5]
    documents = [tokens(1, length, seed=length) for length in lengths]
    ids = torch.tensor([[0] * 3 + [1] * 1 + [2] * 5])
    row = torch.cat(documents, 1)
    packed = stack(row, document_ids=ids)
    for part, document in zip(packed.split(lengths, 1), documents, strict=True):
        close(part, stack(document))
    assert (stack(row)[:, 3:] - packed[:, 3:]).abs().amax(-1).min() > 1e-3


def test_a_document_may_come_back_later_in_the_row(stack):
    """Ids, not borders, say what belongs together."""
    x = tokens(1, 4)
    ids = torch.tensor([[0, 1, 0, 1]])
    other = x.clone()
    other[:, 0] += 1
    before, after = stack(x, document_ids=ids), stack(other, document_ids=ids)
    assert torch.equal(before[:, [1, 3]], after[:, [1, 3]])
    assert not torch.equal(before[:, 2], after[:, 2])


def test_gradients_reach_every_weight_and_agree_with_double_precision():
    layer = Attention(CONFIG, 0).double()
    rope = RotaryEmbedding(CONFIG.head_dim, 8, 1e4)(torch.arange(4)[None])
    rope = tuple(table.double() for table in rope)
    x = tokens(1, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: layer(z, rope), (x,))
    layer(x, rope).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in layer.parameters())


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@SHARING
def test_equals_the_attention_of_transformers(kv_heads, implementation):
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaAttention

    config = replace(CONFIG, num_key_value_heads=kv_heads)
    theirs = LlamaAttention(
        transformers.LlamaConfig(
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=kv_heads,
            attn_implementation=implementation,
        ),
        layer_idx=0,
    )
    ours = Attention(config, 0)
    ours.load_state_dict(theirs.state_dict())
    x = tokens(2, 7)
    cos, sin = RotaryEmbedding(config.head_dim, 8, 1e4)(torch.arange(7)[None])
    mask = torch.full((7, 7), -torch.inf).triu(1)[None, None]
    expected = theirs(x, (cos[:, 0], sin[:, 0]), attention_mask=mask)[0]
    close(ours(x, (cos, sin)), expected, atol=1e-6)


# the cache


def test_past_the_end_is_an_error_and_changes_nothing(stack):
    x = tokens(1, 6)
    cache = KVCache(CONFIG, 1, 5)
    stack(x[:, :4], cache)
    keys = cache.keys.clone()
    with pytest.raises(ValueError, match="6 tokens, but the cache holds 5"):
        stack(x[:, 4:], cache)
    assert cache.length == 4
    assert torch.equal(cache.keys, keys)
    close(stack(x[:, 4:5], cache), stack(x[:, :5])[:, 4:])
    with pytest.raises(ValueError, match="6 tokens, but the cache holds 5"):
        stack(x[:, 5:], cache)


def test_the_cache_is_written_in_place_and_read_without_a_copy(stack):
    cache = KVCache(CONFIG, 1, 8)
    place = cache.keys.data_ptr(), cache.values.data_ptr()
    for part in tokens(1, 8).split(2, dim=1):
        stack(part, cache)
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == place
    cache = KVCache(CONFIG, 1, 8)
    new = torch.ones(1, 2, 3, 8)
    keys, values = cache.update(0, new, 2 * new)
    assert keys.shape == values.shape == (1, 2, 3, 8)
    assert keys.data_ptr() == cache.keys.data_ptr()
    assert values.data_ptr() == cache.values.data_ptr()


def test_what_lies_beyond_the_length_is_never_read(stack):
    x = tokens(1, 5)
    cache = KVCache(CONFIG, 1, 9)
    cache.keys.fill_(torch.nan)
    cache.values.fill_(torch.nan)
    out = [stack(part, cache) for part in x.split([3, 1, 1], dim=1)]
    close(torch.cat(out, 1), stack(x))


@SHARING
@pytest.mark.parametrize("dtype, width", [(torch.float32, 4), (torch.bfloat16, 2)])
def test_bytes_of_the_cache(kv_heads, dtype, width):
    config = replace(CONFIG, num_key_value_heads=kv_heads)
    cache = KVCache(config, 4, 10, dtype=dtype)
    assert cache.nbytes() == 2 * 3 * 4 * kv_heads * 10 * 8 * width


# the config


def test_head_dim_follows_from_hidden_size_and_heads():
    assert CONFIG.head_dim == 8
    assert ModelConfig().head_dim == 64


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"hidden_size": 50}, ["hidden_size=50", "num_attention_heads=8"]),
        ({"hidden_size": 24}, ["hidden_size=24", "num_attention_heads=8"]),
        ({"num_key_value_heads": 3}, ["num_key_value_heads=3"]),
        ({"num_key_value_heads": 16}, ["num_key_value_heads=16"]),
    ],
)
def test_numbers_that_do_not_fit_are_refused(wrong, named):
    with pytest.raises(ValueError) as error:
        ModelConfig(**wrong)
    assert all(part in str(error.value) for part in named)
    assert "\n" not in str(error.value)


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        ModelConfig().hidden_size = 768
