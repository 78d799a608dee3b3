"""DPO: sums over answers, trl's loss, ln 2 at the start, a preference learnt."""

import json
import math
from collections import defaultdict
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from minimind.cli import main
from minimind.errors import UserError
from minimind.text.chat import IGNORE
from minimind.text.packing import collate
from minimind.text.pairs import encode_last_answer, read_pairs
from minimind.text.tokenizer import EOS_ID
from minimind.train.accumulate import accumulate
from minimind.train.checkpoint import save_model
from minimind.train.dpo import (
    DPOConfig,
    answer_logps,
    check_start,
    count_pairs,
    dpo_loss,
    preference_loss,
    reference_logps,
)
from minimind.train.log import read_log
from minimind.train.loop import train
from tests.training_kit import CONFIG, SHAPE, new_model, tokenizer, write_rows

MODEL = replace(SHAPE, max_position_embeddings=256)
MOE = replace(MODEL, num_experts=4, num_experts_per_tok=2, num_shared_experts=1)


def pair(asked, chosen, rejected):
    def chat(said):
        turns = [("user", asked), ("assistant", said)]
        return [{"role": role, "content": content} for role, content in turns]

    return {"chosen": chat(chosen), "rejected": chat(rejected)}


# The preferred answer names a colour; lengths differ on purpose.
PAIRS = [
    pair("the ball", "red ball", "the ball the ball house"),
    pair("the house", "a red house finds the red ball", "house"),
    pair("cat", "red cat", "cat cat"),
    pair("猫", "红色 猫", "猫"),
]


@pytest.fixture
def rows(tmp_path):
    return read_pairs(write_rows(tmp_path / "dpo.jsonl", PAIRS), tokenizer(), 128)


def scored(rows, model):
    rows.reference = reference_logps(model, rows, batch_size=3)
    return rows


def batch_of(rows):
    return collate(rows.pair(number) for number in range(len(rows)))


# --- rows -------------------------------------------------------------------------


def test_only_the_last_answer_and_its_end_are_targets():
    chat = [
        {"role": "user", "content": "cat"},
        {"role": "assistant", "content": "dog"},
        {"role": "user", "content": "bird"},
        {"role": "assistant", "content": "red house"},
    ]
    ids, labels = encode_last_answer(tokenizer(), chat)
    learned = [i for i in labels if i != IGNORE]
    assert learned == [*tokenizer().encode("red house"), EOS_ID]
    assert all(label in (i, IGNORE) for i, label in zip(ids, labels))


def test_a_row_holds_both_and_neither_sees_the_other(rows):
    model = new_model(shape=MODEL).eval()
    batch = batch_of(rows)
    assert batch["document_ids"].unique().tolist() == [-1, 0, 1]
    with torch.no_grad():
        inputs = {k: v for k, v in batch.items() if k != "labels"}
        packed = model(**inputs).logits
        for number, row in enumerate(PAIRS):
            for side, name in enumerate(("chosen", "rejected")):
                ids, _ = encode_last_answer(tokenizer(), row[name])
                here = batch["document_ids"][number] == side
                assert batch["input_ids"][number][here].tolist() == ids
                alone = model(torch.tensor([ids])).logits[0]
                assert_close(packed[number][here], alone, atol=1e-5, rtol=0)


def test_every_epoch_visits_all_pairs_in_another_order(rows):
    orders = []
    for epoch in range(6):
        seen = [rows[4 * epoch + n]["input_ids"].tobytes() for n in range(4)]
        assert len(set(seen)) == 4
        orders.append(seen)
    assert any(order != orders[0] for order in orders)
    assert rows[2]["input_ids"].tobytes() == orders[0][2]  # whatever came between


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path):
    source = write_rows(tmp_path / "dpo.jsonl", PAIRS)
    sizes = [
        max(len(encode_last_answer(tokenizer(), row[k])[0]) for k in row)
        for row in PAIRS
    ]
    limit = sorted(sizes)[1]
    rows = read_pairs(source, tokenizer(), limit)
    assert rows.too_long == sum(size > limit for size in sizes) > 0
    assert len(rows) == len(PAIRS) - rows.too_long
    with pytest.raises(UserError, match="no pair fits --max-length 5"):
        read_pairs(source, tokenizer(), 5)


def test_another_prompt_on_one_side_is_a_bad_row(tmp_path):
    row = {"chosen": PAIRS[0]["chosen"], "rejected": PAIRS[1]["rejected"]}
    source = write_rows(tmp_path / "dpo.jsonl", [PAIRS[0], row])
    with pytest.raises(UserError, match="line 2: .*same prompt"):
        read_pairs(source, tokenizer(), 128)


# --- the loss -----------------------------------------------------------------------


def test_log_probability_is_a_sum_over_the_answer(rows):
    model = new_model(shape=MODEL).eval()
    found = reference_logps(model, rows)
    for number, row in enumerate(PAIRS):
        for side, name in enumerate(("chosen", "rejected")):
            ids, labels = encode_last_answer(tokenizer(), row[name])
            with torch.no_grad():
                scores = model(torch.tensor([ids])).logits[0].double()
            total = 0.0
            for t, label in enumerate(labels):
                if label != IGNORE:
                    total += scores[t - 1].log_softmax(-1)[label].item()
            assert found[number, side] == pytest.approx(total, abs=1e-4)


def test_padding_does_not_count(rows):
    model = new_model(shape=MODEL).eval()
    short = reference_logps(model, rows)
    rows.row_length += 50
    np.testing.assert_allclose(reference_logps(model, rows), short, atol=1e-4)


def trl_loss(logps, reference, sizes, beta, kinds=("sigmoid",), weights=(1.0,)):
    """The loss of trl's DPOTrainer on given log-probabilities, all of them (B, 2).

    Its method is called on a stand-in for the trainer, with a stand-in for the
    model, which spreads each log-probability over the tokens of its answer.
    """
    trl = pytest.importorskip("trl")
    lengths, sums = sizes.T.flatten().tolist(), logps.T.flatten()
    longest = max(lengths)
    mask = torch.zeros(len(lengths), longest + 1, dtype=torch.long)
    spread = torch.zeros(len(lengths), longest)
    for number, (length, total) in enumerate(zip(lengths, sums)):
        mask[number, 1 : 1 + length] = 1
        spread[number, :length] = total / length

    def same(value):
        return value

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=list(kinds),
        loss_weights=list(weights),
        beta=beta,
        use_weighting=False,
        label_smoothing=0.0,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    none = torch.zeros_like(spread)
    output = SimpleNamespace(
        log_probs=spread, entropy=none, mean_logits=none, is_top1=none.bool()
    )
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": mask,
        "completion_mask": mask,
        "ref_chosen_logps": reference[:, 0],
        "ref_rejected_logps": reference[:, 1],
    }
    compute = trl.DPOTrainer._compute_loss
    return compute(trainer, lambda **given: output, inputs, False)


@pytest.fixture
def drawn():
    """Log-probabilities of 16 pairs under policy and reference, and lengths."""
    generator = torch.Generator().manual_seed(7)
    logps, reference = -30 * torch.rand(2, 16, 2, generator=generator)
    return logps, reference, torch.randint(1, 20, (16, 2), generator=generator)


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.5, 2.0])
def test_the_loss_is_that_of_trl(drawn, beta):
    logps, reference, sizes = drawn
    ours, _ = dpo_loss(logps, reference, beta)
    assert_close(ours, trl_loss(logps, reference, sizes, beta), atol=1e-6, rtol=1e-6)


def test_the_loss_by_the_paper(drawn):
    logps, reference, _ = (value.double() for value in drawn)
    total = 0.0
    for (c, r), (c0, r0) in zip(logps.tolist(), reference.tolist()):
        total += math.log(1 + math.exp(-0.1 * ((c - c0) - (r - r0))))
    loss, numbers = dpo_loss(logps, reference, 0.1)
    assert loss.item() == pytest.approx(total / 16, abs=1e-12)
    wins = (logps - reference).diff().flatten() < 0
    assert numbers["accuracy"].item() == pytest.approx(wins.double().mean().item())


def test_the_options_are_those_of_trl(drawn, monkeypatch):
    """Length normalisation and the SFT term, through the stage's own loss."""
    logps, reference, sizes = drawn
    output = SimpleNamespace(aux_loss=None)
    monkeypatch.setattr(
        "minimind.train.dpo.pair_logps", lambda model, batch: (logps, sizes, output)
    )
    batch = {"reference": reference}

    def ours(**options):
        return preference_loss(None, batch, DPOConfig(beta=0.7, **options))

    loss, _ = ours(length_normalisation=True)
    theirs = trl_loss(logps, reference, sizes, 0.7, ["sigmoid_norm"])
    assert_close(loss, theirs, atol=1e-6, rtol=1e-6)
    loss, numbers = ours(sft_weight=0.3)
    theirs = trl_loss(logps, reference, sizes, 0.7, ["sigmoid", "sft"], [1.0, 0.3])
    assert_close(loss, theirs, atol=1e-5, rtol=1e-6)
    assert_close(numbers["dpo_loss"] + 0.3 * numbers["sft_loss"], loss)


def test_the_gradient_parts_the_answers():
    logps = torch.zeros(3, 2, requires_grad=True)
    loss, _ = dpo_loss(logps, torch.zeros(3, 2), beta=0.4)
    loss.backward()
    pull = 0.4 * 0.5 / 3  # beta * sigmoid(0), a mean over three pairs
    assert_close(logps.grad, torch.tensor([[-pull, pull]]).expand(3, 2))


@pytest.mark.parametrize("shape", [MODEL, MOE], ids=["dense", "moe"])
@pytest.mark.parametrize("normalised", [False, True])
def test_ln_2_before_the_first_step(rows, shape, normalised):
    model = new_model(shape=shape)
    options = DPOConfig(length_normalisation=normalised, sft_weight=0.5)
    first = check_start(model, scored(rows, model), options)
    assert first == pytest.approx(math.log(2), abs=1e-4)


def test_another_models_reference_is_refused(rows):
    scored(rows, new_model(seed=1, shape=MODEL))
    with pytest.raises(UserError, match="not ln 2"):
        check_start(new_model(seed=2, shape=MODEL), rows, DPOConfig(beta=1.0))


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"sft_weight": -1.0}])
def test_senseless_numbers(options):
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(UserError, match=f"--{name} "):
        DPOConfig(**options)


def test_lengths_come_with_the_sums():
    logits = torch.zeros(2, 6, 3)
    labels = torch.tensor([[-100, 1, 2, -100, 0, -100], [-100, 1, -100, 1, 1, 1]])
    documents = torch.tensor([[0, 0, 0, 1, 1, -1], [0, 0, 1, 1, 1, 1]])
    sums, sizes = answer_logps(logits, labels, documents)
    assert sizes.tolist() == [[2, 1], [1, 3]]
    assert_close(sums, -math.log(3) * sizes)


# --- training -------------------------------------------------------------------


def test_micro_batches_weigh_by_pairs(rows):
    """Not by tokens: three short pairs and a long one make the mean over four."""
    model = new_model(shape=MODEL)
    scored(rows, model)
    for weight in model.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    loss_fn = partial(preference_loss, options=DPOConfig(beta=0.5))
    grads = []
    for parts in ([[0, 1, 2, 3]], [[0, 2, 3], [1]]):
        model.zero_grad()
        batches = [collate(rows.pair(n) for n in part) for part in parts]
        accumulate(model, batches, loss_fn, count=count_pairs)
        grads.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*grads):
        assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_fifty_steps_learn_the_preference(rows, tmp_path):
    model = new_model(shape=MODEL)
    scored(rows, model)
    before = rows.reference.copy()
    config = replace(CONFIG, steps=50, accumulation=1, learning_rate=1e-3)
    loss_fn = partial(preference_loss, options=DPOConfig(beta=0.5))
    run = {"count": count_pairs}
    train(model, tokenizer(), rows, loss_fn, config, tmp_path / "run", **run)
    log = read_log(tmp_path / "run")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert log[-1]["margin"] > 0.5 and log[-1]["accuracy"] == 1
    wanted = "chosen_logp rejected_logp kl chosen_reward rejected_reward dpo_loss"
    assert set(wanted.split()) <= set(log[-1])
    moved = reference_logps(model, rows) - before
    assert (moved[:, 0] > moved[:, 1]).all()


def test_command(tmp_path, monkeypatch, capsys):
    save_model(new_model(shape=MODEL), tokenizer(), tmp_path / "base", {})
    data = write_rows(tmp_path / "dpo.jsonl", PAIRS)
    out = tmp_path / "run"
    command = ["train", "dpo", "--data", str(data), "--model", str(tmp_path / "base")]
    command += ["--out", str(out), "--steps", "3", "--batch-size", "2"]
    command += ["--device", "cpu", "--beta", "0.5"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "4 pairs, 0 left out" in printed
    assert "loss before the first step 0.6931" in printed
    with np.load(out / "reference.npz") as kept:
        assert kept["logps"].shape == (4, 2)
    assert (out / "model.safetensors").is_file()
    settings = json.loads((out / "minimind.json").read_text())["settings"]
    assert settings["beta"] == 0.5
    # Of a row of the model's limit an answer has half.
    assert json.loads((out / "minimind.json").read_text())["seq_len"] == 128
    # Finished: nothing more to do. The reference is read, not computed again.
    monkeypatch.setattr("minimind.commands.dpo.reference_logps", None)
    assert main(command) == 0
    command[-1] = "0.1"
    assert main(command) == 2
    assert "beta 0.5 -> 0.1" in capsys.readouterr().err
    assert main([*command, "--loss-chunk", "64"]) == 2
    assert "--loss-chunk: not for this stage" in capsys.readouterr().err
