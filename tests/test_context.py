"""A longer context: the model against transformers', its cache, and its limit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from minimind.cli import main
from minimind.errors import UserError
from minimind.model.attention import KVCache
from minimind.model.config import ModelConfig
from minimind.model.context import extend_context
from minimind.model.rope import RopeScaling, ntk_theta
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import train_tokenizer
from minimind.train.checkpoint import load_model, save_model

METHODS = ["linear", "ntk", "yarn"]
TRAINED, FACTOR = 32, 4.0
CONFIG = ModelConfig(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=TRAINED,
    rope_theta=1e4,
    initializer_range=0.3,  # so that attention is far from flat
)
LENGTH = int(FACTOR * TRAINED)


def small_model() -> MiniMindForCausalLM:
    torch.manual_seed(0)
    return MiniMindForCausalLM(CONFIG).eval()


def some_ids(tokens: int = LENGTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(CONFIG.vocab_size, (1, tokens), generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_logits_equal_transformers_with_the_same_scaling(method):
    transformers = pytest.importorskip("transformers", minversion="5")
    model = small_model()
    rope = {"rope_type": method, "rope_theta": CONFIG.rope_theta, "factor": FACTOR}
    if method == "yarn":
        rope["original_max_position_embeddings"] = TRAINED
    if method == "ntk":
        theta = ntk_theta(CONFIG.rope_theta, FACTOR, CONFIG.head_dim)
        rope = {"rope_type": "default", "rope_theta": theta}
    names = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"]
    names += ["num_attention_heads", "num_key_value_heads", "rms_norm_eps"]
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **{name: getattr(CONFIG, name) for name in names},
            max_position_embeddings=LENGTH,
            rope_parameters=rope,
            tie_word_embeddings=True,
        )
    ).eval()
    theirs.load_state_dict(model.state_dict())
    extend_context(model, method, FACTOR)
    ours, expected = model(some_ids()).logits, theirs(some_ids()).logits
    assert_close(ours, expected, rtol=0, atol=1e-3)
    extended = ours.clone()
    plain = small_model()
    extend_context(plain, "ntk", 1.0, trained_length=LENGTH)  # base * 1: no change
    assert (plain(some_ids()).logits - extended).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_cache_and_full_pass_agree_past_the_trained_length(method):
    """The angles do not depend on how long the text is by now."""
    model, ids = small_model(), some_ids()
    extend_context(model, method, FACTOR)
    full = model(ids).logits
    cache = KVCache(model.config, 1, LENGTH)
    parts = [model(part, cache=cache).logits for part in ids.split([20, 50, 57, 1], 1)]
    assert_close(torch.cat(parts, 1), full, rtol=0, atol=1e-4)
    assert_close(model(ids[:, :10]).logits, full[:, :10], rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_limit_moves_and_stays_an_error(method):
    model = small_model()
    with pytest.raises(ValueError, match=f"limit is {TRAINED}"):
        model(some_ids(TRAINED + 1))
    extend_context(model, method, FACTOR)
    assert model.config.max_position_embeddings == LENGTH
    model(some_ids(LENGTH))
    with pytest.raises(ValueError, match=f"limit is {LENGTH}"):
        model(some_ids(LENGTH + 1))


def test_trained_length_decides_what_is_stretched():
    model = small_model()
    extend_context(model, "yarn", 8.0, trained_length=16)
    assert model.config.rope_scaling == RopeScaling("yarn", 8.0, 16)
    assert model.config.max_position_embeddings == 128
    by_default = small_model()
    extend_context(by_default, "yarn", 8.0)
    assert by_default.config.rope_scaling == RopeScaling("yarn", 8.0, TRAINED)


def test_table_stays_in_fp32():
    model = small_model().bfloat16()
    extend_context(model, "yarn", FACTOR)
    wide = small_model()
    extend_context(wide, "yarn", FACTOR)
    for moved in (model, wide.bfloat16()):
        assert moved.model.rotary_emb.cos.dtype == torch.float32
    assert_close(model.model.rotary_emb.sin, wide.model.rotary_emb.sin, rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_scaling_is_kept_in_the_saved_config(method, tmp_path: Path):
    """A stretched model opens again as one, here and in transformers."""
    model = small_model()
    extend_context(model, method, FACTOR)
    tokenizer = train_tokenizer(["the cat sat on the mat " * 3] * 20, 300)
    save_model(model, tokenizer, tmp_path, {"stage": "test"})
    expected = model(some_ids()).logits
    again, _ = load_model(tmp_path)
    assert again.config == model.config
    assert_close(again(some_ids()).logits, expected, rtol=0, atol=0)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert_close(theirs(some_ids()).logits, expected, rtol=0, atol=1e-3)


def test_mistakes_are_told_in_one_line():
    model = small_model()
    with pytest.raises(UserError, match="factor=0.5"):
        extend_context(model, "linear", 0.5)
    with pytest.raises(UserError, match="original_max_position_embeddings=0"):
        extend_context(model, "ntk", 2.0, trained_length=0)
    assert model.config == CONFIG  # nothing was half done
    extend_context(model, "linear", 2.0)
    with pytest.raises(UserError, match="already, by 'linear'"):
        extend_context(model, "yarn", 2.0)


@pytest.mark.parametrize("method", METHODS)
def test_command_line_stretches_a_model(method, tmp_path: Path, capsys):
    tokenizer = train_tokenizer(["the cat sat on the mat " * 3] * 20, 300)
    config = replace(CONFIG, vocab_size=tokenizer.vocab_size)
    save_model(MiniMindForCausalLM(config), tokenizer, tmp_path, {"stage": "test"})
    prompt = "zxq " * 15  # more than the trained length in tokens
    assert TRAINED < len(tokenizer.encode(prompt)) < LENGTH
    command = ["generate", str(tmp_path), "--prompt", prompt, "--device", "cpu"]
    assert main(command) == 2
    assert str(TRAINED) in capsys.readouterr().err
    stretch = ["--rope-scaling", method, "--rope-factor", str(FACTOR)]
    assert main([*command, *stretch, "--trained-length", str(TRAINED)]) == 0
    about = {"stage": "test", "seq_len": int(TRAINED // FACTOR)}
    save_model(MiniMindForCausalLM(config), tokenizer, tmp_path, about)
    assert main([*command, *stretch]) == 2  # trained on less, it reads less
    assert f"limit is {TRAINED}" in capsys.readouterr().err
    assert main([*command, *stretch[:3], "0.5"]) == 2
    assert "factor=0.5" in capsys.readouterr().err
