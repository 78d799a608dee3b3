"""Recipes of published runs, and what a run will take."""

import json
import types
from dataclasses import fields, replace

import pytest
import torch

from minimind.cli import main
from minimind.errors import UserError
from minimind.model.config import PRESETS, get_preset
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.train import estimate
from minimind.train.config import TrainConfig
from minimind.train.estimate import active_parameters, flops_per_token, hours
from minimind.train.loop import train
from minimind.train.lora import LoRAConfig, add_adapter
from minimind.train.memory import spare_memory
from minimind.train.recipes import FOLDER, load_recipe, with_recipe
from tests.training_kit import (
    CONFIG,
    new_model,
    new_run,
    plain_loss,
    token_file,
    tokenizer,
)

RECIPES = ["minimind2", "minimind2-small", "moe", "zero"]
OPTIONS = {field.name for field in fields(TrainConfig)}


def test_the_recipes_are_these():
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_options_that_exist(name):
    recipe = load_recipe(name)
    assert recipe["about"]
    for stage in ("pretrain", "sft"):
        options = {k: v for k, v in recipe[stage].items() if k in OPTIONS}
        TrainConfig(**options)
        assert recipe[stage].keys() - OPTIONS <= {"seq_len", "preset"}
    shape = get_preset(recipe["pretrain"]["preset"])
    assert recipe["pretrain"]["seq_len"] <= shape.max_position_embeddings
    # 131,072 tokens a step, and a rate that the width rule would not call odd.
    step = [recipe["pretrain"][k] for k in ("seq_len", "batch_size", "accumulation")]
    assert step[0] * step[1] * step[2] == 2**17


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_published_values(name):
    """As the defaults of the published scripts; weight decay is that of torch."""
    recipe, both = load_recipe(name), ("schedule", "weight_decay", "grad_clip")
    for stage, batches, rate in (("pretrain", (32, 8), 5e-4), ("sft", (32, 1), 5e-5)):
        options = recipe[stage]
        assert (options["batch_size"], options["accumulation"]) == batches
        assert options["learning_rate"] == rate and options["seq_len"] == 512
        assert [options[key] for key in both] == ["cosine", 0.01, 1.0]
        assert options["epochs"] == (1 if name == "zero" else 2)


def test_what_is_typed_has_its_way(tmp_path):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"pretrain": {"preset": "nano", "batch_size": 7}}))
    typed = ["--batch-size", "3", "--recipe", str(own)]
    flags = with_recipe("pretrain", typed)
    assert flags == ["--preset", "nano", "--batch-size", "7", *typed]
    assert with_recipe("pretrain", [f"--recipe={own}"])[:2] == ["--preset", "nano"]
    assert with_recipe("pretrain", ["--out", "x"]) == ["--out", "x"]
    with pytest.raises(UserError, match="nothing for the stage sft"):
        with_recipe("sft", typed)
    with pytest.raises(UserError, match="no such recipe; there are: minimind2, "):
        with_recipe("sft", ["--recipe", "mini"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return PackedRows(token_file(tmp_path_factory.mktemp("data")), 48)


def test_a_dry_run_of_a_recipe(rows, tmp_path_factory, tmp_path, capsys):
    """From the command line, with a smaller model and fewer rows than published."""
    tokenizer().save(tmp_path / "tok")
    token_file(tmp_path)
    out = tmp_path / "run"
    argv = f"train pretrain --recipe zero --preset nano --out {out} --dry-run 2"
    argv += f" --tokenizer {tmp_path / 'tok'} --data {tmp_path / 'tokens'}"
    argv += " --seq-len 48 --batch-size 2 --price 3600 --device cpu"
    assert main(argv.split()) == 0
    printed = capsys.readouterr().out
    assert "2 steps of 768 tokens (2 rows of 48 x 8 x 1)" in printed
    assert "tokens/s" in printed and "at 3600 an hour" in printed
    assert not out.exists()


def test_what_is_measured(rows, tmp_path, monkeypatch, capsys):
    """A clock that advances two seconds a step; half of the GPU's peak is used."""
    model, now = new_model(), [0.0]

    def loss_fn(model, batch):
        now[0] += 1.0 if now[0] else 99.0  # two batches a step; the first is slow
        return plain_loss(model, batch)

    clock = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(estimate, "time", clock)
    tokens = 4 * 48
    flops = flops_per_token(model, model.config, 48) * tokens / 2
    monkeypatch.setattr(estimate, "peak_flops", lambda device: ("X", 2 * flops))
    config = replace(CONFIG, steps=1800, dry_run=3, price=1.5)
    found = train(model, tokenizer(), rows, loss_fn, config, tmp_path / "none")
    assert found["tokens_per_second"] == tokens / 2
    assert found["seconds"] == 3600 and found["cost"] == 1.5
    assert found["mfu"] == pytest.approx(0.5)
    assert "1 h 0 min, 1.50 at 1.5 an hour" in capsys.readouterr().out


def build(name):
    with torch.device("meta"):
        return MiniMindForCausalLM(PRESETS[name]), PRESETS[name]


def test_active_parameters():
    dense, shape = build("minimind2-small")
    assert active_parameters(dense, shape) == 25_829_888
    moe, shape = build("minimind2-moe")
    expert = 3 * 640 * 1728 * 8  # three matrices in eight layers
    assert active_parameters(moe, shape) == 145_029_760 - 2 * expert


# Adapters leave out what nothing before the first layer learns from.
@pytest.mark.parametrize(("adapted", "within"), [(False, 0.02), (True, 0.03)])
def test_operations_are_those_that_torch_counts(adapted, within):
    from torch.utils.flop_counter import FlopCounterMode

    shape = replace(get_preset("nano"), num_key_value_heads=4)
    model, ids = MiniMindForCausalLM(shape), torch.ones(1, 64, dtype=torch.long)
    if adapted:
        add_adapter(model, "a", LoRAConfig())
    with FlopCounterMode(display=False) as counter:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            model(ids, labels=ids).loss.backward()
    ours = 64 * flops_per_token(model, shape, 64)
    assert ours == pytest.approx(counter.get_total_flops(), rel=within)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA L40S", 362),
    ],
)
def test_peaks(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    found = estimate.peak_flops(torch.device("cuda"))
    assert found == (name, peak and peak * 1e12)


def numbers_in(tensors):
    return 4 * sum(tensor.numel() for tensor in tensors)


def test_bytes_of_a_parameter_are_those_of_a_run(rows, tmp_path):
    run = new_run(rows, tmp_path)
    weights = list(run.model.parameters())
    run.gradient(run.next_batches(), 1.0)
    gradients = numbers_in(weight.grad for weight in weights)
    run.update_weights(1.0)
    kept = [state for o in run.optimizers for state in o.state.values()]
    moments = numbers_in(s[k] for s in kept for k in ("exp_avg", "exp_avg_sq"))
    assert {w.dtype for w in weights} == {torch.float32}
    found = estimate.state_bytes(sum(w.numel() for w in weights))
    expected = {"weights": numbers_in(weights), "gradients": gradients}
    assert found == {**expected, "moments": moments}


@pytest.mark.parametrize(
    ("stage", "bytes_a_parameter"), [(0, 16), (1, 10), (2, 7), (3, 4)]
)
def test_stages_of_zero_divide_one_after_the_other(stage, bytes_a_parameter):
    found = estimate.state_bytes(1000, gpus=4, stage=stage)
    assert sum(found.values()) == 1000 * bytes_a_parameter
    assert sum(estimate.state_bytes(1000, 1, stage).values()) == 16_000


def ring_all_reduce(parts):
    """Sum lists of as many numbers as there are GPUs; what each GPU sent.

    Each GPU adds to one number what its neighbour sends, and passes the sum on; then
    the sums go round.
    """
    gpus, sent = len(parts), [0] * len(parts)
    for add in (True, False):
        for turn in range(gpus - 1):
            moves = []
            for me in range(gpus):
                share = (me - turn + (not add)) % gpus
                moves.append((me, (me + 1) % gpus, share, parts[me][share]))
            for me, neighbour, share, value in moves:
                sent[me] += 1
                old = parts[neighbour][share] if add else 0
                parts[neighbour][share] = old + value
    return sent


@pytest.mark.parametrize("gpus", [2, 3, 8])
def test_a_ring_sends_what_is_said(gpus):
    parts = [[(g + 1) * 10**s for s in range(gpus)] for g in range(gpus)]
    expected = [sum(column) for column in zip(*parts, strict=True)]
    sent = ring_all_reduce(parts)
    assert parts == [expected] * gpus
    assert {4 * count for count in sent} == {estimate.sent_bytes(gpus, gpus)}
    assert estimate.sent_bytes(gpus, gpus, stage=3) == 1.5 * 4 * sent[0]
    assert estimate.sent_bytes(1000, 1, stage=3) == 0


def test_a_plan_by_hand():
    model, shape = build("minimind2-small")
    found = estimate.plan(model, shape, 1e9, 512, "A100", 4, mfu=0.5, price=2.0)
    assert found["flops"] == 1e9 * (6 * 25_829_888 + 12 * 8 * 512 * 512)
    assert found["seconds"] == pytest.approx(found["flops"] / (4 * 156e12))
    assert found["cost"] == pytest.approx(8 * found["seconds"] / 3600)
    with pytest.raises(UserError, match="H100"):
        estimate.plan(model, shape, 1e9, 512, "H10")


def test_an_outlook_is_that_plan():
    line = estimate.outlook("minimind2-small", 1.67, price=0.5)
    model, shape = build("minimind2-small")
    found = estimate.plan(
        model, shape, 1.67e9 / 4.8, 512, "RTX 3090", mfu=0.25, price=0.5
    )
    assert line.startswith("minimind2-small: 347.9M tokens, ")
    assert f"{hours(found['seconds'])}\n  on one RTX 3090 at 25% of its peak" in line
    assert f"{found['cost']:.2f} at 0.5 an hour\n  with 0.41 GB beside" in line


def test_hours():
    assert [hours(s) for s in (42, 185, 25_930)] == ["42 s", "3 min 5 s", "7 h 12 min"]


def test_what_a_forward_pass_keeps():
    """A linear layer keeps its input; recomputing keeps less; weights are no part."""
    layer, x = torch.nn.Linear(5, 3), torch.randn(7, 5)
    model = torch.nn.Module()
    model.layer = layer
    model.forward = lambda ids, labels: layer(ids)
    assert estimate.kept_bytes(model, x) == 4 * 7 * 5
    ids, kept = torch.zeros(1, 16, dtype=torch.long), []
    for blocks in (False, True):
        model = MiniMindForCausalLM(PRESETS["nano"])
        spare_memory(model, blocks, None)
        kept.append(estimate.kept_bytes(model, ids))
    assert kept[1] < kept[0] / 2


def test_the_memory_command(capsys):
    assert main(["memory", "--preset", "nano", "--batch-size", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    parts = {line.split()[0]: float(line.split()[1]) for line in lines[1:6]}
    assert lines[0].startswith("nano: 984,192 parameters")
    assert parts["moments"] == round(8 * 984_192 / 1e9, 2)
    others = sum(size for part, size in parts.items() if part != "sum")
    assert parts["sum"] == pytest.approx(others, abs=0.02)
    assert "2 rows of 512 tokens" in lines[6]
    assert main(["memory", "--preset", "nano", "--seq-len", "99999"]) == 2
    assert "--seq-len 99999: give 2 to" in capsys.readouterr().err
