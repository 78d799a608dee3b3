"""Experts and normalised queries through a saved directory, read by transformers."""

import json
import shutil
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from minimind.commands.train import pretrain
from minimind.errors import UserError
from minimind.model.config import PRESETS, ModelConfig
from minimind.model.granite import weights_from_hf, weights_to_hf
from minimind.model.rope import RopeScaling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import train_tokenizer
from minimind.train.checkpoint import load_model, save_model

TINY = ModelConfig(
    vocab_size=300,
    hidden_size=48,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rope_theta=5e4,
    initializer_range=0.3,  # logits that differ, routers that decide
)
MIXED = replace(TINY, num_experts=4)
YARN = RopeScaling("yarn", 4.0, 32)
LINEAR = RopeScaling("linear", 4.0, 32)
CASES = {
    "qwen3": (replace(TINY, qk_norm=True), "Qwen3ForCausalLM", 1e-5),
    "yarn": (replace(TINY, rope_scaling=YARN), "LlamaForCausalLM", 1e-5),
    "linear": (replace(TINY, rope_scaling=LINEAR), "LlamaForCausalLM", 1e-5),
    "one shared": (
        replace(MIXED, num_shared_experts=1, rope_scaling=YARN),
        "GraniteMoeSharedForCausalLM",
        1e-4,
    ),
    "two shared": (
        replace(MIXED, num_shared_experts=2, seq_aux=False),
        "GraniteMoeSharedForCausalLM",
        1e-4,
    ),
    "none shared": (
        replace(MIXED, num_experts_per_tok=3, tie_word_embeddings=False),
        "GraniteMoeSharedForCausalLM",
        1e-4,
    ),
    "qwen3 moe": (replace(MIXED, qk_norm=True), "Qwen3MoeForCausalLM", 1e-4),
    "qwen3 top 1": (
        replace(MIXED, qk_norm=True, num_experts_per_tok=1, norm_topk_prob=False),
        "Qwen3MoeForCausalLM",
        1e-4,
    ),
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the cat sees a bird"] * 9, 300)


def random_model(config):
    """A fresh model whose norms are away from one."""
    torch.manual_seed(0)
    model = MiniMindForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def open_with_transformers(directory):
    """transformers' own model of a directory: nothing missing, nothing left over."""
    transformers = pytest.importorskip("transformers")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True
    )
    assert {k: v for k, v in report.items() if v} == {}
    return model


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) for key in one
    )


@pytest.mark.parametrize("case", CASES)
def test_saved_opened_by_transformers_saved_there_and_loaded(tmp_path, case, tokenizer):
    config, name, tolerance = CASES[case]
    model = random_model(config)
    save_model(model, tokenizer, tmp_path, {"stage": "pretrain"})
    theirs = open_with_transformers(tmp_path)
    assert type(theirs).__name__ == name
    ids = torch.randint(300, (2, 128), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, others = model(ids).logits, theirs(ids).logits
    assert ours.std() > 0.5  # logits of zero would be equal, too
    assert (ours - others).abs().max() < tolerance
    for _ in range(2):  # as we wrote it, and as transformers writes it
        loaded, _ = load_model(tmp_path)
        assert loaded.config == config and same_weights(model, loaded)
        theirs.save_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["minimind2-moe", "minimind3-moe"])
def test_a_published_shape_equals_transformers(tmp_path, name, tokenizer):
    config = replace(PRESETS[name], max_position_embeddings=512)
    if name == "minimind3-moe":
        config = replace(config, num_hidden_layers=2)
    model = random_model(replace(config, initializer_range=0.06))
    save_model(model, tokenizer, tmp_path, {})
    theirs = open_with_transformers(tmp_path)
    ids = torch.randint(6400, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, others = model(ids).logits, theirs(ids).logits
    shutil.rmtree(tmp_path)  # hundreds of megabytes
    assert ours.std() > 0.5
    assert (ours - others).abs().max() < 1e-4


def test_what_transformers_cannot_compute_is_not_written(tmp_path, tokenizer):
    model = random_model(replace(MIXED, norm_topk_prob=False))
    with pytest.raises(UserError, match="norm_topk_prob=False without qk_norm"):
        save_model(model, tokenizer, tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


def test_it_is_refused_before_training(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer")
    shape = {"num_experts": 4, "norm_topk_prob": False}
    (tmp_path / "mine.json").write_text(json.dumps(shape))
    with pytest.raises(UserError, match="norm_topk_prob=False without qk_norm"):
        pretrain(
            data=tmp_path / "data",
            tokenizer=tmp_path / "tokenizer",
            out=tmp_path / "run",
            preset=str(tmp_path / "mine.json"),
        )
    assert not (tmp_path / "run").exists()


def test_names_in_memory_are_the_published_ones():
    names = set(random_model(replace(MIXED, num_shared_experts=2)).state_dict())
    mlp = "model.layers.1.mlp."
    for name in (
        "gate.weight",
        "experts.3.gate_proj.weight",
        "experts.0.down_proj.weight",
        "shared_experts.1.up_proj.weight",
    ):
        assert mlp + name in names


def test_names_on_disk_and_back():
    config = replace(MIXED, num_shared_experts=2)
    weights = dict(random_model(config).state_dict())
    stored = weights_to_hf(config, weights)
    layer = "model.layers.0."
    shapes = {
        name.removeprefix(layer): tuple(value.shape)
        for name, value in stored.items()
        if name.startswith((layer + "block", layer + "shared"))
    }
    assert shapes == {
        "block_sparse_moe.router.layer.weight": (4, 48),
        "block_sparse_moe.input_linear.weight": (4, 80, 48),
        "block_sparse_moe.output_linear.weight": (4, 48, 40),
        "shared_mlp.input_linear.weight": (160, 48),
        "shared_mlp.output_linear.weight": (48, 80),
    }
    back = weights_from_hf(config, stored)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    "key, change, said",
    [
        ("router.layer", None, "mlp.gate.weight is missing"),
        ("input_linear", lambda w: w[:3], "experts.3.gate_proj.weight is missing"),
        ("output_linear", lambda w: w[:, :, 1:], "is (48, 39), not (48, 40)"),
    ],
)
def test_experts_that_do_not_fit(tmp_path, tokenizer, key, change, said):
    save_model(random_model(MIXED), tokenizer, tmp_path, {})
    path = tmp_path / "model.safetensors"
    stored = safetensors.torch.load_file(path)
    name = f"model.layers.1.block_sparse_moe.{key}.weight"
    old = stored.pop(name)
    if change:
        stored[name] = change(old).contiguous()
    safetensors.torch.save_file(stored, path)
    with pytest.raises(UserError) as caught:
        load_model(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_another_number_of_experts_is_said(tmp_path, tokenizer):
    save_model(random_model(MIXED), tokenizer, tmp_path, {})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_local_experts": 8}))
    with pytest.raises(UserError, match="weights do not fit the model"):
        load_model(tmp_path)
