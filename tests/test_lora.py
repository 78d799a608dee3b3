"""LoRA: the base model at the start, adapters in peft's files, merge, switch."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from minimind.cli import main
from minimind.errors import UserError
from minimind.text.packing import PackedRows
from minimind.train.checkpoint import load_model, save_model
from minimind.train.loop import train
from minimind.train.lora import (
    TARGETS,
    LoRAConfig,
    add_adapter,
    lora_layers,
    merge_adapter,
    remove_adapters,
    set_adapter,
    trainable_share,
    unmerge_adapter,
)
from minimind.train.lora_files import load_adapter, save_adapter
from tests.training_kit import (
    CONFIG,
    SHAPE,
    new_model,
    plain_loss,
    same_weights,
    stop_after,
    token_file,
    tokenizer,
    write_rows,
)

MOE = replace(SHAPE, num_experts=4, num_experts_per_tok=2, num_shared_experts=1)
IDS = torch.randint(0, SHAPE.vocab_size, (2, 9), generator=torch.manual_seed(0))


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def adapted(shape=SHAPE, name="a", config=LoRAConfig(rank=2), model=None):
    """A model whose adapter says something, as if it had been trained."""
    model = new_model(shape=shape) if model is None else model
    add_adapter(model, name, config)
    for path, layer in lora_layers(model).items():
        generator = torch.Generator().manual_seed(len(path) + ord(name))
        for half in (layer.lora_A[name], layer.lora_B[name]):
            half.data.normal_(std=0.1, generator=generator)
    return model


# --- the layers ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, MOE], ids=["dense", "moe"])
def test_starts_as_the_base_model(shape):
    model = new_model(shape=shape)
    before = logits(model)
    add_adapter(model, "a", LoRAConfig(rank=2))
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize(("shape", "layers"), [(SHAPE, 7), (MOE, 4 + 3 * 5)])
def test_every_layer_that_is_named_gets_one(shape, layers):
    """Also those that are not square, and all experts, the shared one too."""
    found = lora_layers(adapted(shape))
    assert len(found) == layers * shape.num_hidden_layers
    assert {path.split(".")[-1] for path in found} == set(TARGETS)


def test_targets_by_name():
    model = adapted(config=LoRAConfig(rank=2, targets=("k_proj", "down_proj")))
    assert {p.split(".")[-1] for p in lora_layers(model)} == {"k_proj", "down_proj"}
    with pytest.raises(UserError, match="--targets q_project: no layer"):
        add_adapter(new_model(), "a", LoRAConfig(targets=("q_proj", "q_project")))


def test_a_head_that_is_the_embedding_gets_none():
    """Merged, it would change what the model reads as well as what it writes."""
    config = LoRAConfig(targets=("q_proj", "lm_head"))
    with pytest.raises(UserError, match="lm_head: its weight is the embedding's"):
        add_adapter(new_model(), "a", config)
    model = adapted(replace(SHAPE, tie_word_embeddings=False), config=config)
    before = logits(model)
    merge_adapter(model)
    assert_close(logits(model), before, atol=1e-5, rtol=0)


def test_the_formula():
    """y = W x + alpha / r * B (A x), written out with numbers of its own."""
    model = adapted(config=LoRAConfig(rank=2, alpha=6.0))
    layer = next(iter(lora_layers(model).values()))
    x = torch.randn(3, layer.in_features)
    a, b = layer.lora_A["a"].detach(), layer.lora_B["a"].detach()
    with torch.no_grad():
        expected = x @ (layer.weight + 3.0 * torch.einsum("mr,rn->mn", b, a)).T
        assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_dropout_is_for_training_only():
    model = adapted(config=LoRAConfig(rank=2, dropout=0.5))
    layer, x = next(iter(lora_layers(model).values())), torch.ones(1, 32)
    assert torch.equal(layer.eval()(x), layer(x))
    assert not torch.equal(layer.train()(x), layer(x))


@pytest.mark.parametrize("training", [True, False])
def test_layers_are_in_the_mode_of_those_they_replace(training):
    """Or a model opened for use would go on dropping inputs."""
    model = new_model().train(training)
    add_adapter(model, "a", LoRAConfig(rank=2, dropout=0.5))
    layers = lora_layers(model)
    assert all(layer.training == training for layer in layers.values())
    remove_adapters(model)
    assert all(model.get_submodule(path).training == training for path in layers)


def test_a_layer_with_a_bias_gets_none():
    """The layer that takes its place has none, and would drop it."""
    model = new_model()
    model.model.layers[0].mlp.up_proj = nn.Linear(32, 64)
    with pytest.raises(UserError, match="layers.0.mlp.up_proj: it has a bias"):
        add_adapter(model, "a", LoRAConfig(targets=("up_proj",)))


def test_only_the_adapter_trains_and_both_halves_move():
    model = new_model()
    base = {k: v.clone() for k, v in model.state_dict().items()}
    add_adapter(model, "a", LoRAConfig(rank=2))
    start = {k: v.clone() for k, v in model.state_dict().items() if "lora" in k}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in base.items())
    assert all(not torch.equal(after[key], value) for key, value in start.items())


def test_the_share_that_trains():
    model = adapted(config=LoRAConfig(rank=1))
    total = sum(p.numel() for p in new_model().parameters())
    wide, inner, keys = 32, 48, 16
    thin = 2 * (wide + wide) + 2 * (wide + keys) + 3 * (wide + inner)
    assert trainable_share(model) == pytest.approx(thin / total)
    add_adapter(model, "b", LoRAConfig(rank=1))  # the first one rests now
    assert trainable_share(model) == pytest.approx(thin / total)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "--rank 0"),
        ({"alpha": -1.0}, "--alpha -1.0"),
        ({"dropout": 1.0}, "--dropout 1.0"),
    ],
)
def test_senseless_numbers(options, message):
    with pytest.raises(UserError, match=message):
        LoRAConfig(**options)


# --- merge and switch -----------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, MOE], ids=["dense", "moe"])
def test_merged_is_adapted_and_unmerged_is_the_base_to_the_bit(shape):
    base = logits(new_model(shape=shape))
    model = adapted(shape)
    before = logits(model)
    assert not torch.allclose(before, base)
    merge_adapter(model)
    assert_close(logits(model), before, atol=1e-5, rtol=0)
    unmerge_adapter(model)
    assert torch.equal(logits(model), before)
    unmerge_adapter(model)  # nothing to do
    set_adapter(model, None)
    assert torch.equal(logits(model), base)


def test_merging_twice_is_refused():
    model = adapted()
    merge_adapter(model)
    once = logits(model)
    with pytest.raises(UserError, match="merged already"):
        merge_adapter(model)
    assert torch.equal(logits(model), once)
    with pytest.raises(UserError, match="unmerge it first"):
        set_adapter(model, None)


def test_the_plain_weights_move_with_the_model_while_merged():
    model = adapted()
    merge_adapter(model)
    keys = model.state_dict().keys()
    model.to(torch.float64)
    unmerge_adapter(model)
    weights = model.state_dict()
    assert weights.keys() == keys
    assert all(weight.dtype == torch.float64 for weight in weights.values())


def test_a_merged_adapter_is_not_saved(tmp_path):
    """The fingerprint of its base could not be told from the merged weights."""
    model = adapted()
    merge_adapter(model)
    with pytest.raises(UserError, match="'a' is merged in; unmerge it first"):
        save_adapter(model, tokenizer(), tmp_path / "adapter", {})
    assert not (tmp_path / "adapter").exists()


def test_several_adapters_and_a_switch():
    alone = {name: logits(adapted(name=name)) for name in "ab"}
    base = logits(new_model())
    model = adapted(name="b", model=adapted(name="a"))
    for name in ("a", "b", None, "a"):
        set_adapter(model, name)
        assert torch.equal(logits(model), base if name is None else alone[name])
    with pytest.raises(UserError, match="no adapter 'c'; there are"):
        set_adapter(model, "c")
    with pytest.raises(UserError, match="already has an adapter 'a'"):
        add_adapter(model, "a", LoRAConfig())
    with pytest.raises(UserError, match="without a point"):
        add_adapter(model, "v1.0", LoRAConfig())


def test_removed_adapters_leave_a_plain_model():
    model = adapted()
    merge_adapter(model)
    merged = logits(model)
    remove_adapters(model)
    assert not lora_layers(model) and torch.equal(logits(model), merged)
    assert model.state_dict().keys() == new_model().state_dict().keys()


# --- files ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A base model and an adapter, in directories of their own."""
    root = tmp_path_factory.mktemp("saved")
    save_model(new_model(), tokenizer(), root / "base", {})
    parent = {"parent": str(root / "base")}
    save_adapter(adapted(), tokenizer(), root / "adapter", parent)
    return root


def test_only_the_adapter_is_saved_and_read_back(saved):
    names = {path.name for path in (saved / "adapter").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors"} | {
        "minimind.json"
    }
    model = new_model()
    load_adapter(model, saved / "adapter", "again")
    assert torch.equal(logits(model), logits(adapted()))


def test_peft_computes_the_same(saved, tmp_path):
    """From our files; and we from its."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(saved / "base")
    theirs = peft.PeftModel.from_pretrained(base, saved / "adapter").eval()
    ours = logits(adapted())
    assert_close(logits(theirs), ours, atol=1e-5, rtol=0)
    theirs.save_pretrained(tmp_path)
    model = new_model()
    load_adapter(model, tmp_path, "theirs")
    assert torch.equal(logits(model), ours)


def test_an_adapter_belongs_to_its_base(saved):
    model = new_model(seed=1)
    with pytest.raises(UserError, match="trained on a model with the weights"):
        load_adapter(model, saved / "adapter", "a")
    merged = adapted()
    merge_adapter(merged)
    remove_adapters(merged)
    with pytest.raises(UserError, match="not yet merged"):
        load_adapter(merged, saved / "adapter", "a")


def change_config(saved, tmp_path, **changes):
    """The saved adapter with another config, without the note of its base."""
    given = json.loads((saved / "adapter" / "adapter_config.json").read_text())
    for key, value in changes.items():
        given[key] = value
    given = {key: value for key, value in given.items() if value != "gone"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(given))
    weights = (saved / "adapter" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"use_rslora": True}, "use_rslora is True"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"r": "gone"}, "the field r is missing"),
        ({"target_modules": ".*proj"}, "no list of layer names"),
        ({"r": 3}, "is (2, 32), not (3, 32)"),
        ({"target_modules": ["q_proj"]}, "is unknown"),
    ],
)
def test_what_is_not_computed_here_is_refused(saved, tmp_path, changes, message):
    directory = change_config(saved, tmp_path, **changes)
    model = new_model()
    with pytest.raises(UserError) as error:
        load_adapter(model, directory, "a")
    assert message in str(error.value) and str(directory) in str(error.value)
    assert not lora_layers(model), "a refused adapter must leave nothing behind"


def test_damaged_or_missing(saved, tmp_path):
    directory = change_config(saved, tmp_path)
    (directory / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="incomplete or damaged"):
        load_adapter(new_model(), directory, "a")
    with pytest.raises(UserError, match="adapter_config.json is missing"):
        load_adapter(new_model(), tmp_path / "none", "a")


# --- a run ------------------------------------------------------------------------


def run_adapter(rows, directory, **changes):
    model = new_model()
    add_adapter(model, "a", LoRAConfig(rank=2))
    config = replace(CONFIG, **changes)
    info = {"parent": "base", "settings": {"rank": 2}}
    more = {"info": info, "save": save_adapter}
    train(model, tokenizer(), rows, plain_loss, config, directory, **more)
    return model


def test_a_run_keeps_only_the_adapter_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    rows = PackedRows(token_file(tmp_path), 32)
    straight = run_adapter(rows, tmp_path / "straight")
    stop_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_adapter(rows, tmp_path / "stopped")
    monkeypatch.undo()
    assert same_weights(run_adapter(rows, tmp_path / "stopped"), straight)
    made = tmp_path / "straight"
    assert not (made / "model.safetensors").exists()
    states = list((made / "state").glob("*.pt"))
    held = torch.load(states[0], weights_only=True)["model"]
    assert held and all(".lora_" in name for name in held)
    model = new_model()
    load_adapter(model, made, "again")
    assert torch.equal(logits(model), logits(straight))


def test_commands(saved, tmp_path, capsys):
    chat = [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "dog"}]
    data = write_rows(tmp_path / "chat.jsonl", [{"conversations": chat}] * 8)
    prepare = ["data", "prepare", "--kind", "sft", "--max-length", "64"]
    prepare += ["--data", str(data), "--tokenizer", str(saved / "base")]
    assert main([*prepare, "--out", str(tmp_path / "data")]) == 0
    lora = ["train", "lora", "--data", str(tmp_path / "data"), "--seq-len", "64"]
    lora += ["--model", str(saved / "base"), "--out", str(tmp_path / "lora")]
    lora += ["--rank", "2", "--steps", "3", "--batch-size", "1", "--device", "cpu"]
    assert main(lora) == 0
    share = trainable_share(adapted(config=LoRAConfig(rank=2)))
    said = f"7 layers get an adapter; {share:.2%} of all trains"
    assert said in capsys.readouterr().out
    other = [*lora]
    other[other.index("--rank") + 1] = "4"
    assert main(other) == 2
    assert "rank 2 -> 4" in capsys.readouterr().err
    merge = ["lora", "merge", "--model", str(saved / "base")]
    merge += ["--adapter", str(tmp_path / "lora")]
    assert main([*merge, "--out", str(tmp_path / "merged")]) == 0
    with_adapter, _ = load_model(saved / "base")
    load_adapter(with_adapter, tmp_path / "lora", "a")
    merged, _ = load_model(tmp_path / "merged")
    assert_close(logits(merged), logits(with_adapter), atol=1e-5, rtol=0)
    assert not torch.equal(logits(merged), logits(new_model()))
    again = [*merge, "--out", str(tmp_path / "twice")]
    again[again.index("--model") + 1] = str(tmp_path / "merged")
    capsys.readouterr()
    assert main(again) == 2
    assert "not yet merged" in capsys.readouterr().err
    assert isinstance(merged.model.layers[0].self_attn.q_proj, nn.Linear)
    assert copy.deepcopy(merged).training is False
