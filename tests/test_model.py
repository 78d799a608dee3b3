"""The whole model against `transformers`' Llama, hand sums, and itself in pieces."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch.testing import assert_close

from minimind.errors import UserError
from minimind.model.attention import KVCache
from minimind.model.config import (
    PRESETS,
    ModelConfig,
    config_from,
    get_preset,
    nearest,
)
from minimind.model.hf import from_hf, model_type, to_hf
from minimind.model.rope import RopeScaling
from minimind.model.transformer import (
    MiniMindForCausalLM,
    causal_lm_loss,
    positions_of,
)
from tests.training_kit import random_model

TINY = ModelConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-3,
    rope_theta=5e4,
)
MIXED = replace(TINY, num_experts=4, num_shared_experts=1)
COUNTS = {
    "nano": 984_192,
    "nano-moe": 1_379_456,
    "minimind2-small": 25_829_888,
    "minimind2": 104_030_976,
    "minimind2-moe": 145_029_760,
    "minimind-v1-small": 26_878_464,
    "minimind-v1": 108_749_568,
    "minimind-v1-moe": 96_100_864,
    "minimind3": 63_912_192,
    "minimind3-moe": 198_416_640,
}


def random_ids(batch=2, tokens=40, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(TINY.vocab_size, (batch, tokens), generator=generator)


def llama_like(model):
    transformers = pytest.importorskip("transformers")
    written = to_hf(model.config)
    config = transformers.AutoConfig.for_model(**written)
    llama = getattr(transformers, written["architectures"][0])(config).eval()
    llama.load_state_dict(model.state_dict())
    return llama


# --- the same numbers as Llama


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_logits_equal_llama_exactly(tie, key_heads):
    model = random_model(
        replace(TINY, tie_word_embeddings=tie, num_key_value_heads=key_heads)
    )
    llama, ids = llama_like(model), random_ids(tokens=64)
    with torch.no_grad():
        ours, theirs = model(ids).logits, llama(ids).logits
    assert ours.std() > 0.5  # logits of zero would be equal, too
    assert (ours - theirs).abs().max() == 0


SCALINGS = [RopeScaling("yarn", 4.0, 16), RopeScaling("linear", 3.0, 16)]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.rope_type)
def test_stretched_logits_equal_llama(scaling):
    model, ids = random_model(replace(TINY, rope_scaling=scaling)), random_ids()
    with torch.no_grad():
        ours, theirs = model(ids).logits, llama_like(model)(ids).logits
        plain = random_model(TINY)(ids).logits
    assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert (ours - plain).abs().max() > 0.1


def test_normalised_queries_equal_qwen3():
    model, ids = random_model(replace(TINY, qk_norm=True)), random_ids(tokens=64)
    qwen3 = llama_like(model)
    assert type(qwen3).__name__ == "Qwen3ForCausalLM"
    with torch.no_grad():
        ours, theirs = model(ids).logits, qwen3(ids).logits
    assert ours.std() > 0.5
    assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_loss_and_gradients_equal_llama(qk_norm):
    model = random_model(replace(TINY, qk_norm=qk_norm))
    llama, ids = llama_like(model), random_ids()
    labels = ids.masked_fill(ids < 20, -100)
    ours, theirs = model(ids, labels=labels).loss, llama(ids, labels=labels).loss
    assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    wanted = dict(llama.named_parameters())
    assert len(wanted) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, wanted[name].grad, msg=name)


# --- config.json


KINDS = {
    "LlamaConfig": TINY,
    "Qwen3Config": replace(TINY, qk_norm=True),
    "GraniteMoeSharedConfig": replace(MIXED, num_shared_experts=2),
    "Qwen3MoeConfig": replace(
        MIXED,
        num_shared_experts=0,
        qk_norm=True,
        num_experts_per_tok=1,
        norm_topk_prob=False,
        seq_aux=False,
    ),
}


@pytest.mark.parametrize("scaling", [None, *SCALINGS], ids=["plain", "yarn", "linear"])
@pytest.mark.parametrize("name", KINDS)
def test_config_opens_in_transformers_and_comes_back(tmp_path, name, scaling):
    transformers = pytest.importorskip("transformers")
    config = replace(KINDS[name], rope_scaling=scaling)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_hf(config)), encoding="utf-8")
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(theirs).__name__ == name
    assert (theirs.head_dim, theirs.num_key_value_heads) == (12, 2)
    assert theirs.tie_word_embeddings is True and theirs.rms_norm_eps == 1e-3
    assert theirs.eos_token_id == 2 and theirs.bos_token_id == 1
    assert theirs.rope_parameters["rope_theta"] == 5e4
    assert from_hf(json.loads(path.read_text(encoding="utf-8"))) == config
    theirs.save_pretrained(tmp_path)
    assert from_hf(json.loads(path.read_text(encoding="utf-8"))) == config


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.rope_type)
def test_stretching_is_found_in_both_places(scaling):
    config = replace(TINY, rope_scaling=scaling)
    written = to_hf(config)
    version_4 = {k: v for k, v in written.items() if k != "rope_parameters"}
    version_5 = {
        k: v for k, v in written.items() if k not in ("rope_theta", "rope_scaling")
    }
    assert from_hf(version_4) == from_hf(version_5) == config
    # An older file has "type", and the trained length of linear is not in it.
    old = {"rope_scaling": {"type": "linear", "factor": 2}, "rope_theta": 5e4}
    read = from_hf(to_hf(TINY) | {"rope_parameters": None} | old).rope_scaling
    assert read == RopeScaling("linear", 2, TINY.max_position_embeddings)


def test_rope_theta_is_found_in_both_places():
    written = to_hf(TINY)
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 5e4
    version_4 = written | {"rope_parameters": None, "rope_scaling": None}
    version_5 = {k: v for k, v in written.items() if k != "rope_theta"}
    assert from_hf(version_4) == from_hf(version_5) == TINY


@pytest.mark.parametrize(
    "change, named",
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"head_dim": 16}, "head_dim"),
        ({"head_dim": 13}, "head_dim"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters: factor"),
        (
            {"rope_scaling": asdict(SCALINGS[0]) | {"attention_factor": 2.0}},
            "unknown field 'attention_factor'",
        ),
        ({"rope_scaling": asdict(SCALINGS[0]) | {"factor": "4"}}, "rope_scaling"),
        (
            {
                "rope_scaling": asdict(SCALINGS[0]),
                "rope_parameters": asdict(SCALINGS[1]),
            },
            "rope_parameters and rope_scaling say different things",
        ),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_att"),
        ({"rope_parameters": None, "rope_theta": None}, "rope_theta"),
        ({"num_key_value_heads": None}, "num_key_value_heads"),
        ({"rms_norm_eps": None}, "rms_norm_eps"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"num_attention_heads": 5, "head_dim": None}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 must be greater"),
        ({"num_key_value_heads": -2}, "num_key_value_heads=-2"),
        ({"hidden_size": 48.0}, "hidden_size is 48.0, not of type int"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1, not of type bool"),
        ({"vocab_size": [97]}, "vocab_size"),
        ({"rms_norm_eps": math.nan}, "rms_norm_eps=nan"),
        ({"rope_parameters": None, "rope_theta": math.inf}, "rope_theta=inf"),
    ],
)
def test_a_config_we_would_compute_differently_is_refused(change, named):
    with pytest.raises(UserError) as caught:
        from_hf(to_hf(TINY) | change, source="out/config.json")
    message = str(caught.value)
    assert message.startswith("out/config.json: ") and "\n" not in message
    assert named in message


@pytest.mark.parametrize(
    "config, change, named",
    [
        (MIXED, {"attention_multiplier": 1.0}, "attention_multiplier"),
        (MIXED, {"attention_multiplier": None}, "attention_multiplier"),
        (MIXED, {"residual_multiplier": 0.5}, "residual_multiplier"),
        (MIXED, {"shared_intermediate_size": 81}, "shared_intermediate_size is 81"),
        (MIXED, {"shared_intermediate_size": None}, "shared_intermediate_size"),
        (MIXED, {"num_local_experts": None}, "num_local_experts is missing"),
        (MIXED, {"num_experts_per_tok": 5}, "num_experts_per_tok=5"),
        (MIXED, {"num_experts_per_tok": 1}, "norm_topk_prob=False"),
        (MIXED, {"intermediate_size": 0}, "intermediate_size"),
        (KINDS["Qwen3MoeConfig"], {"norm_topk_prob": True}, "norm_topk_prob"),
        (KINDS["Qwen3MoeConfig"], {"norm_topk_prob": None}, "norm_topk_prob is miss"),
        (KINDS["Qwen3MoeConfig"], {"mlp_only_layers": [0]}, "mlp_only_layers"),
        (KINDS["Qwen3MoeConfig"], {"decoder_sparse_step": 2}, "decoder_sparse_step"),
        (KINDS["Qwen3Config"], {"use_sliding_window": True}, "use_sliding_window"),
        (KINDS["Qwen3Config"], {"head_dim": 128}, "head_dim"),
    ],
)
def test_a_mixture_we_would_compute_differently_is_refused(config, change, named):
    hf = to_hf(config) | change
    if change.get("attention_multiplier", 0) is None:
        del hf["attention_multiplier"]  # transformers then takes 1.0
    with pytest.raises(UserError) as caught:
        from_hf(hf, source="out/config.json")
    message = str(caught.value)
    assert message.startswith("out/config.json: ") and "\n" not in message
    assert named in message


@pytest.mark.parametrize(
    "change, named",
    [
        ({"norm_topk_prob": False}, "norm_topk_prob=False without qk_norm"),
        ({"qk_norm": True}, "qk_norm together with num_shared_experts"),
    ],
)
def test_what_transformers_cannot_compute_has_no_config(change, named):
    with pytest.raises(UserError, match=named):
        to_hf(replace(MIXED, **change))
    assert model_type(replace(MIXED, num_shared_experts=0)) == "granitemoeshared"


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0},
        {"num_key_value_heads": 0},
        {"hidden_size": -48},
        {"num_hidden_layers": 0},
        {"initializer_range": 0.0},
        {"router_aux_loss_coef": -0.1},
        {"num_shared_experts": 1},
        {"rope_scaling": {"rope_type": "yarn"}},
    ],
)
def test_a_number_that_cannot_be(change):
    (field,) = change
    with pytest.raises(ValueError, match=field):
        replace(TINY, **change)


def test_a_shape_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    yarn = asdict(SCALINGS[0])
    path.write_text(json.dumps({"num_hidden_layers": 3, "rope_scaling": yarn}))
    wanted = ModelConfig(num_hidden_layers=3, rope_scaling=SCALINGS[0])
    assert get_preset(str(path)) == wanted


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"num_layers": 3}', "unknown field 'num_layers'; did you mean num_"),
        ('{"hidden_size": 500, "num_attention_heads": 8}', "hidden_size=500"),
        ('{"rope_scaling": {"rope_type": "yarn"}}', "rope_scaling: factor is missing"),
        ('{"rope_scaling": {"fctor": 2}}', "did you mean factor"),
        ('{"hidden_size": ', "Expecting value"),
        ("[]", "not an object"),
    ],
)
def test_a_wrong_shape_of_ones_own(tmp_path, text, said):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        get_preset(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="nowhere.json: .*No such file"):
        get_preset("nowhere.json")


def test_config_from_names_the_file():
    with pytest.raises(UserError, match="run.json: unknown field 'hiden_size'"):
        config_from({"hiden_size": 4}, "run.json")


# --- sizes


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_their_published_size(name):
    c = get_preset(name)
    heads = c.num_attention_heads + c.num_key_value_heads
    experts = c.num_experts + c.num_shared_experts or 1
    block = 2 * c.hidden_size * c.head_dim * heads
    block += 3 * c.hidden_size * c.intermediate_size * experts + 2 * c.hidden_size
    block += c.hidden_size * c.num_experts + 2 * c.qk_norm * c.head_dim
    by_hand = c.vocab_size * c.hidden_size + c.num_hidden_layers * block
    by_hand += c.hidden_size
    with torch.device("meta"):
        built = MiniMindForCausalLM(c)
    counted = sum(p.numel() for p in built.parameters())
    assert counted == by_hand == COUNTS[name]


def test_an_unknown_preset_offers_the_nearest():
    with pytest.raises(UserError, match="did you mean minimind2-small"):
        get_preset("minimind2-smal")
    assert nearest("zzz", ["a", "b"]) == "known names: a, b"


def test_tied_embedding_is_one_tensor_with_one_gradient():
    tied, ids = random_model(TINY), random_ids()
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    free = random_model(replace(TINY, tie_word_embeddings=False))
    assert free.lm_head.weight is not free.model.embed_tokens.weight
    free.load_state_dict(tied.state_dict())
    tied(ids, labels=ids).loss.backward()
    free(ids, labels=ids).loss.backward()
    both = free.lm_head.weight.grad + free.model.embed_tokens.weight.grad
    assert_close(tied.lm_head.weight.grad, both)


def test_fresh_weights():
    torch.manual_seed(0)
    model = MiniMindForCausalLM(PRESETS["nano"])
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            last = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = 0.08 / (2 * 4) ** 0.5 if last else 0.08
            assert abs(parameter.std() / std - 1) < 0.02, name
        else:
            assert torch.equal(parameter, torch.ones_like(parameter)), name


# --- the loss


def test_loss_is_the_mean_surprise_of_what_is_asked():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 5)
    labels = torch.tensor([[0, 3, -100, 1], [2, -100, 4, 0]])
    surprises = []
    for row in range(2):
        for t in range(1, 4):
            if labels[row, t] != -100:
                scores = [math.exp(x) for x in logits[row, t - 1].tolist()]
                surprises.append(-math.log(scores[labels[row, t]] / sum(scores)))
    assert len(surprises) == 4
    wanted = sum(surprises) / len(surprises)
    assert causal_lm_loss(logits, labels).item() == pytest.approx(wanted, rel=1e-5)


def test_loss_is_computed_in_fp32():
    logits = torch.randn(1, 9, 5).bfloat16()
    loss = causal_lm_loss(logits, torch.zeros(1, 9, dtype=torch.long))
    assert loss.dtype == torch.float32


def test_first_loss_is_near_ln_v():
    torch.manual_seed(0)
    model = MiniMindForCausalLM(PRESETS["minimind2-small"])
    ids = torch.randint(6400, (2, 128))
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()
    assert math.log(6400) < loss < math.log(6400) + 0.2


# --- the same in pieces


@pytest.mark.parametrize("sizes", [[40], [39, 1], [16, 16, 8], [1] * 40])
def test_cached_pieces_equal_one_forward(sizes):
    model, ids = random_model(TINY), random_ids()
    cache = KVCache(TINY, batch_size=2, max_length=40)
    with torch.no_grad():
        full = model(ids).logits
        pieces = [model(p, cache=cache).logits for p in ids.split(sizes, dim=1)]
    assert cache.length == 40
    assert_close(torch.cat(pieces, dim=1), full, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_left_padding_changes_nothing(cached):
    model, ids = random_model(TINY), random_ids()
    padded, mask = ids.clone(), torch.ones_like(ids)
    padded[1, :13], mask[1, :13] = 0, 0
    with torch.no_grad():
        alone = [model(ids[:1]).logits[0], model(ids[1:, 13:]).logits[0]]
        if cached:
            cache = KVCache(TINY, batch_size=2, max_length=40)
            parts = [
                model(padded[:, a:b], attention_mask=mask[:, :b], cache=cache).logits
                for a, b in [(0, 30), (30, 37), (37, 38), (38, 40)]
            ]
            logits = torch.cat(parts, dim=1)
        else:
            logits = model(padded, attention_mask=mask).logits
    assert logits.isfinite().all()
    assert_close(logits[0], alone[0], rtol=0, atol=1e-5)
    assert_close(logits[1, 13:], alone[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("reset", [True, False])
def test_packed_documents_equal_each_alone(reset):
    model, ids = random_model(TINY), random_ids(batch=1)
    lengths = [7, 1, 32]
    documents = torch.arange(3).repeat_interleave(torch.tensor(lengths))[None]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    with torch.no_grad():
        packed = model(ids, positions if reset else None, document_ids=documents)
        alone = [model(piece).logits for piece in ids.split(lengths, dim=1)]
        joined = model(ids).logits
    # Without the reset the rotations differ, but only their differences count.
    assert_close(packed.logits, torch.cat(alone, 1), rtol=0, atol=1e-5)
    assert (packed.logits - joined).abs().max() > 0.1


def test_the_future_is_out_of_sight():
    model, ids = random_model(TINY), random_ids()
    other = ids.clone()
    other[:, 25] = (other[:, 25] + 1) % TINY.vocab_size
    with torch.no_grad():
        before, after = model(ids).logits, model(other).logits
    assert torch.equal(before[:, :25], after[:, :25])
    assert not torch.equal(before[:, 25:], after[:, 25:])


def test_logits_to_keep():
    model, ids = random_model(TINY), random_ids()
    with torch.no_grad():
        full, last = model(ids).logits, model(ids, logits_to_keep=3).logits
    assert full.shape == (2, 40, 97)
    assert_close(last, full[:, -3:], rtol=0, atol=1e-6)


def test_positions_count_real_tokens_only():
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    assert positions_of(4, 0, mask).tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert positions_of(1, 3, mask).tolist() == [[3], [1]]
    assert positions_of(2, 5).tolist() == [[5, 6]]


def test_past_the_limit_is_an_error():
    model = random_model(TINY)
    with pytest.raises(ValueError, match="65 tokens.*limit is 64"):
        model(torch.zeros(1, 65, dtype=torch.long))
    cache = KVCache(TINY, batch_size=1, max_length=100)
    with torch.no_grad():
        model(torch.zeros(1, 60, dtype=torch.long), cache=cache)
        with pytest.raises(ValueError, match="65 tokens"):
            model(torch.zeros(1, 5, dtype=torch.long), cache=cache)


def test_bf16_is_close_to_fp32():
    model, ids = random_model(TINY), random_ids(tokens=64)
    with torch.no_grad():
        exact = model(ids).logits
        rounded = model.bfloat16()(ids, labels=ids)
    assert rounded.logits.dtype == torch.bfloat16
    error = (rounded.logits.float() - exact).pow(2).mean().sqrt()
    assert error < 0.03 * exact.std()
