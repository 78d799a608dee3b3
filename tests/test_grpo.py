"""GRPO: groups, trl's loss, the same replies after a stop, and a reward that rises."""

import json
import math
import os
import subprocess
import sys
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
from minimind.model.generate import Completion
from minimind.text.chat import IGNORE, encode_chat
from minimind.text.packing import collate
from minimind.text.thinking import write_reply
from minimind.text.tokenizer import EOS_ID
from minimind.train.checkpoint import load_model, save_model
from minimind.train.grpo import GRPOConfig, group_advantages, grpo_loss, policy_loss
from minimind.train.log import read_log
from minimind.train.loop import train
from minimind.train.replies import (
    SampledRows,
    lay_out_replies,
    read_tasks,
    verify,
)
from tests.training_kit import (
    CONFIG,
    SHAPE,
    new_model,
    plain_loss,
    same_weights,
    tokenizer,
    write_rows,
)

MOE = replace(SHAPE, num_experts=4, num_experts_per_tok=2, num_shared_experts=1)
OPTIONS = GRPOConfig(group_size=4, max_new_tokens=8)
STEPS = replace(CONFIG, batch_size=8, weight_decay=0.0)  # of 16 replies a step
TASKS = [
    (tokenizer().encode(question), answer)
    for question, answer in (("cat", "a"), ("the red ball", "e"), ("house", "o"))
]


def letters(answer, reply):
    """The reward of these tests: how often the wanted letter stands in a reply."""
    return {"reward": float(reply.count(answer)), "empty": float(not reply)}


def new_rows(directory, options=OPTIONS, config=STEPS, shape=SHAPE, reward=letters):
    policy = new_model(shape=shape)
    return SampledRows(policy, tokenizer(), TASKS, reward, options, config, directory)


def batch_of(rows, first=0):
    return collate(rows[n] for n in range(first, first + rows.config.batch_size))


def moved(batch, amount=0.3):
    """A batch whose old and reference log-probabilities are no longer the policy's."""
    generator = torch.Generator().manual_seed(3)
    batch = dict(batch)
    for key in ("old", "reference"):
        batch[key] = batch[key] + amount * torch.randn(
            batch[key].shape, generator=generator
        )
    return batch


# --- groups -------------------------------------------------------------------------


def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0, 0, 0], [2, 4, 4, 6]])
    found = group_advantages(rewards, eps=0.0)
    assert_close(found[0], torch.tensor([1.5, -0.5, -0.5, -0.5]))
    assert_close(found[1], torch.tensor([-2.0, 0, 0, 2]) / math.sqrt(8 / 3))
    for row, group in zip(group_advantages(rewards), rewards.numpy()):
        wanted = (group - group.mean()) / (group.std(ddof=1) + 1e-4)
        np.testing.assert_allclose(row, wanted, atol=1e-6)


def test_advantages_of_a_group_sum_to_zero():
    rewards = torch.rand(50, 8)
    assert_close(group_advantages(rewards).sum(-1), torch.zeros(50), atol=1e-5, rtol=0)
    assert group_advantages(torch.full((3, 6), 0.7)).abs().max() < 1e-3
    assert_close(
        group_advantages(3 * rewards + 5), group_advantages(rewards), atol=1e-2, rtol=0
    )


# --- the loss -----------------------------------------------------------------------


@pytest.fixture
def drawn():
    """What the loss is computed from, (B, T) each, and a mask of the replies."""
    generator = torch.Generator().manual_seed(7)
    logps, old, reference = -4 * torch.rand(3, 8, 12, generator=generator)
    old, reference = logps + 0.3 * (old + 2), logps + 0.2 * (reference + 2)
    advantages = torch.randn(8, generator=generator)
    lengths = torch.randint(1, 13, (8,), generator=generator)
    mask = torch.arange(12) < lengths[:, None]
    return logps, old, reference, advantages, mask


def ours(drawn, options):
    logps, old, reference, advantages, mask = drawn
    each = advantages[:, None].expand_as(mask)[mask]
    return grpo_loss(logps[mask], old[mask], reference[mask], each, options)


def trl_loss(drawn, options, kind):
    """The loss of trl's GRPOTrainer on given log-probabilities; its metrics.

    Its method is called on a stand-in for the trainer.
    """
    trl = pytest.importorskip("trl")
    logps, old, reference, advantages, mask = drawn

    def same(value, reduction=None):
        return value

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(gather=same, reduce=same, num_processes=1),
        args=SimpleNamespace(
            use_bias_correction_kl=False, delta=None, steps_per_generation=1
        ),
        _get_per_token_logps_and_entropies=lambda *given, **more: (
            logps,
            torch.zeros_like(logps),
            None,
        ),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=options.beta,
        loss_type=kind,
        epsilon_low=options.clip,
        epsilon_high=options.clip,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )
    ids = torch.zeros(mask.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": ids,
        "prompt_mask": ids,
        "completion_ids": ids,
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    return trl.GRPOTrainer._compute_loss(trainer, None, inputs), trainer._metrics[
        "train"
    ]


@pytest.mark.parametrize("kind", ["dapo", "bnpo"])  # both are means over tokens here
@pytest.mark.parametrize("clip, beta", [(0.2, 0.04), (0.1, 1.0), (0.4, 0.001)])
def test_the_loss_is_that_of_trl(drawn, kind, clip, beta):
    options = GRPOConfig(clip=clip, beta=beta)
    for given in drawn[:3]:
        given.requires_grad_(given is drawn[0])
    loss, numbers = ours(drawn, options)
    theirs, metrics = trl_loss(drawn, options, kind)
    assert_close(loss, theirs, atol=1e-6, rtol=1e-6)
    (gradient,) = torch.autograd.grad(loss, drawn[0])
    (expected,) = torch.autograd.grad(theirs, drawn[0])
    assert_close(gradient, expected, atol=1e-7, rtol=1e-6)
    assert numbers["kl"].item() == pytest.approx(metrics["kl"][0], abs=1e-6)
    (clipped,) = metrics["clip_ratio/region_mean"]
    assert numbers["clipped"].item() == pytest.approx(clipped, abs=1e-6)
    assert 0 < clipped < 1


@pytest.mark.parametrize(
    "ratio, advantage, gain, pulls",
    [
        (1.5, 1.0, 1.2, False),  # better, and likelier already: enough
        (1.5, -1.0, -1.5, True),  # worse, and likelier: down
        (0.5, 1.0, 0.5, True),
        (0.5, -1.0, -0.8, False),
        (1.1, 2.0, 2.2, True),
    ],
)
def test_clipping_by_hand(ratio, advantage, gain, pulls):
    logps = torch.tensor([math.log(ratio)], requires_grad=True)
    zero = torch.zeros(1)
    options = GRPOConfig(clip=0.2, beta=0)
    loss, numbers = grpo_loss(logps, zero, zero, torch.tensor([advantage]), options)
    loss.backward()
    assert loss.item() == pytest.approx(-gain)
    expected = -ratio * advantage if pulls else 0.0
    assert logps.grad.item() == pytest.approx(expected)
    assert numbers["clipped"] == (not pulls)


def test_the_estimate_of_the_divergence_has_no_bias():
    """Weighted with the policy's chances it is the divergence itself."""
    generator = torch.Generator().manual_seed(1)
    policy, reference = torch.randn(2, 50, generator=generator).double().log_softmax(-1)
    back = reference - policy
    weighted = (policy.exp() * (back.exp() - back - 1)).sum()
    truth = torch.nn.functional.kl_div(
        reference, policy, log_target=True, reduction="sum"
    )
    assert_close(weighted, truth)
    zero = torch.zeros(50).double()
    _, numbers = grpo_loss(policy, policy, reference, zero, GRPOConfig())
    assert_close(numbers["kl"], (back.exp() - back - 1).mean())


@pytest.mark.parametrize(
    "options",
    [{"group_size": 1}, {"updates": 0}, {"beta": -0.1}, {"clip": 0.0}, {"clip": 1.0}],
)
def test_senseless_numbers(options):
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(UserError, match=f"--{name} "):
        GRPOConfig(**options)


# --- replies ------------------------------------------------------------------------


def test_a_reply_is_learned_with_its_end():
    replies = [Completion("", [7, 8], "stop"), Completion("", [9, 9, 9], "length")]
    batch = lay_out_replies([[5], [5, 6]], replies)
    x = IGNORE
    assert batch["input_ids"].tolist() == [[5, 7, 8, EOS_ID, 0], [5, 6, 9, 9, 9]]
    assert batch["labels"].tolist() == [[x, 7, 8, EOS_ID, x], [x, x, 9, 9, 9]]


@pytest.mark.parametrize("shape", [SHAPE, MOE], ids=["dense", "moe"])
def test_ratio_one_and_no_divergence_at_the_start(tmp_path, shape):
    rows = new_rows(tmp_path, shape=shape)
    batch = batch_of(rows)
    loss, numbers = policy_loss(rows.policy.train(), batch, OPTIONS)
    assert numbers["ratio"] == 1 and numbers["clipped"] == 0
    assert numbers["kl"] == 0
    assert torch.equal(batch["old"], batch["reference"])
    asked = (batch["labels"] != IGNORE).sum(-1)
    expected = -(batch["advantages"] * asked).sum() / asked.sum()
    assert_close(numbers.get("loss", loss.detach()), expected, atol=1e-6, rtol=1e-5)


def test_log_probabilities_are_those_of_the_reply_alone(tmp_path):
    rows = new_rows(tmp_path)
    batch = batch_of(rows)
    for ids, labels, old in zip(batch["input_ids"], batch["labels"], batch["old"]):
        at = (labels != IGNORE).nonzero().flatten().tolist()
        with torch.no_grad():
            alone = rows.policy(ids[None, : at[-1] + 1]).logits[0].double()
        for t in at:
            expected = alone[t - 1].log_softmax(-1)[ids[t]]
            assert old[t].item() == pytest.approx(expected.item(), abs=1e-5)
        assert old.count_nonzero() == len(at)


def test_replies_are_drawn_from_the_whole_distribution(tmp_path):
    """First tokens in ten groups, each of a tenth of the model's chances."""
    options = replace(OPTIONS, group_size=4096, max_new_tokens=1)
    rows = new_rows(tmp_path, options, replace(STEPS, batch_size=4096))
    with torch.no_grad():
        rows.policy.model.norm.weight.mul_(4)  # as sure of itself as a trained one
    batch = batch_of(rows)
    prompt = batch["input_ids"][:1, :-1]
    assert (batch["input_ids"][:, :-1] == prompt).all()
    with torch.no_grad():
        chances = rows.policy(prompt).logits[0, -1].softmax(-1)
    ordered, ids = chances.sort(descending=True)
    group = torch.empty_like(ids)
    group[ids] = ((ordered.cumsum(-1) - ordered) * 10).long().clamp(max=9)
    expected = 4096 * torch.zeros(10).index_add(0, group, chances)
    counts = torch.bincount(group[batch["input_ids"][:, -1]], minlength=10)
    used = expected > 0
    score = ((counts - expected).square() / expected)[used].sum()
    assert used.sum() > 4 and score < 40  # one in ten thousand is above 34


def test_longer_rows_change_nothing(tmp_path):
    rows = new_rows(tmp_path)
    batch = moved(batch_of(rows))
    found = []
    for _ in range(2):
        rows.policy.zero_grad()
        loss, _ = policy_loss(rows.policy, batch, OPTIONS)
        loss.backward()
        found.append(
            [loss.detach(), *(p.grad.clone() for p in rows.policy.parameters())]
        )
        for key, fill in (
            ("input_ids", 17),
            ("labels", IGNORE),
            ("old", 9.0),
            ("reference", 9.0),
        ):
            more = torch.full((8, 5), fill, dtype=batch[key].dtype)
            batch[key] = torch.cat((batch[key], more), dim=1)
    for one, other in zip(*found):
        assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_equal_rewards_teach_nothing(tmp_path):
    rows = new_rows(tmp_path, reward=lambda answer, reply: {"reward": 0.5})
    loss, _ = policy_loss(rows.policy, batch_of(rows), OPTIONS)
    loss.backward()
    assert all(p.grad.abs().max() == 0 for p in rows.policy.parameters())


def test_a_batch_is_whole_groups_and_an_epoch_is_all_questions(tmp_path):
    rows = new_rows(tmp_path)
    assert len(rows) == 3 * 4
    prompts = []
    for n in range(0, 2 * len(rows), 4):
        group = [rows[n + i] for i in range(4)]
        starts = {tuple(r["input_ids"][r["labels"] == IGNORE][:1]) for r in group}
        assert len(starts) == 1
        prompts.append(starts.pop())
        assert abs(sum(row["advantages"] for row in group)) < 1e-5
        assert len({row["input_ids"].tobytes() for row in group}) > 1
    assert len(set(prompts[:3])) == len(set(prompts[3:])) == 3


def test_replies_depend_on_seed_and_number_alone(tmp_path):
    rows = new_rows(tmp_path)
    small = new_rows(tmp_path, config=replace(STEPS, batch_size=4, accumulation=4))
    other = new_rows(tmp_path, config=replace(STEPS, seed=1))
    rows.tasks = small.tasks = other.tasks = TASKS[:1]  # in whatever order

    def reply(rows, n):
        return rows[n]["input_ids"][rows[n]["labels"] != IGNORE].tolist()

    assert [reply(rows, n) for n in range(16)] == [reply(small, n) for n in range(16)]
    assert [reply(rows, n) for n in range(16)] != [reply(other, n) for n in range(16)]
    torch.rand(5)  # whatever else is drawn
    again = new_rows(tmp_path)
    again.tasks = TASKS[:1]
    assert reply(again, 11) == reply(rows, 11)


# --- training -----------------------------------------------------------------------


def learn(directory, options=OPTIONS, config=STEPS, loss_fn=policy_loss):
    rows = new_rows(directory, options, config)
    loss_fn = partial(loss_fn, options=options)
    train(rows.policy, tokenizer(), rows, loss_fn, config, directory)
    return rows.policy


def test_the_reward_rises(tmp_path):
    config = replace(STEPS, steps=40, batch_size=16, learning_rate=1e-2)
    learn(tmp_path, replace(OPTIONS, beta=0.01), config)
    log = read_log(tmp_path)
    first, last = log[:5], log[-5:]
    mean = [sum(line["reward"] for line in part) / 5 for part in (first, last)]
    assert mean[1] > 2 * mean[0] + 0.5
    assert {"kl", "clipped", "ratio", "reply_tokens", "empty"} <= set(log[0])
    assert log[0]["kl"] == 0 < log[-1]["kl"]


def test_the_leash_holds(tmp_path):
    config = replace(STEPS, steps=30, batch_size=16, learning_rate=5e-3)
    for beta in (0.0, 2.0):
        learn(tmp_path / str(beta), replace(OPTIONS, beta=beta), config)
    free, held = (read_log(tmp_path / str(b))[-1]["kl"] for b in (0.0, 2.0))
    assert 3 * held < free


def test_several_updates_on_the_same_replies(tmp_path):
    config = replace(STEPS, steps=6, save_every=1, keep=1)
    learn(tmp_path, replace(OPTIONS, updates=3), config)
    ratios = [line["ratio"] for line in read_log(tmp_path)]
    assert ratios[0] == ratios[3] == 1 and 1 not in ratios[1:3] + ratios[4:]
    rewards = [line["reward"] for line in read_log(tmp_path)]
    assert len(set(rewards[:3])) == len(set(rewards[3:])) == 1 != len(set(rewards))
    left = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert left == ["0000001-0.npz", "0000001-1.npz"]


@pytest.mark.parametrize("updates", [1, 2])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, updates):
    """Between two steps on the same replies, too: the state is that of step 3."""
    options = replace(OPTIONS, updates=updates)
    calls = []

    def dying(model, batch, options):
        calls.append(1)
        if len(calls) == 10:  # in step 5, of two batches each
            raise KeyboardInterrupt
        return policy_loss(model, batch, options)

    straight = learn(tmp_path / "straight", options)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "killed", options, loss_fn=dying)
    assert same_weights(learn(tmp_path / "killed", options), straight)
    logs = [
        [
            (line["loss"], line["reward"], line["kl"])
            for line in read_log(tmp_path / name)
        ]
        for name in ("straight", "killed")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == STEPS.steps
    assert same_weights(load_model(tmp_path / "killed")[0], straight)


def test_lost_replies_are_told(tmp_path):
    rows = new_rows(tmp_path, replace(OPTIONS, updates=2))
    with pytest.raises(UserError, match="0000000-0.npz: missing"):
        rows[16]  # of the second step


def test_what_does_not_go_together(tmp_path):
    with pytest.raises(UserError, match="--batch-size 6: give a multiple of"):
        new_rows(tmp_path, config=replace(STEPS, batch_size=6))
    with pytest.raises(UserError, match="--max-new-tokens come to 73 tokens.*is 64"):
        new_rows(tmp_path, replace(OPTIONS, max_new_tokens=62))


# --- the command --------------------------------------------------------------------


def chat(question, answer, thoughts=""):
    return {
        "conversations": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": write_reply(thoughts, answer)},
        ]
    }


CHATS = [chat("cat", "dog", "a cat"), chat("the ball", "red"), chat("猫", "狗")]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model that answers these questions right now and then."""
    model = new_model(shape=replace(SHAPE, max_position_embeddings=96))
    chats = [encode_chat(tokenizer(), row["conversations"]) for row in CHATS]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(90):
        ids, labels = (torch.tensor(x)[None] for x in chats[step % len(chats)])
        plain_loss(model, {"input_ids": ids, "labels": labels})[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    directory = tmp_path_factory.mktemp("base")
    save_model(model, tokenizer(), directory, {})
    return directory


@pytest.fixture
def command(tmp_path, base):
    """The words of a command, without --out, that every computer runs in seconds."""
    data = write_rows(tmp_path / "tasks.jsonl", CHATS)
    text = f"train grpo --data {data} --model {base} --device cpu "
    text += "--group-size 4 --max-new-tokens 24 --steps 4 --log-every 1 --warmup 1"
    return text.split()


def test_the_reward_is_for_a_right_answer_in_its_block():
    good = write_reply("1+1=2", "1+1=2")
    assert verify("1+1=2", good) == {"reward": 1, "right": 1, "well_formed": 1}
    assert verify("1+1=3", good) == {"reward": 0, "right": 0, "well_formed": 1}
    for bad in ("1+1=2", good + good, good.replace("</think>", ""), good + "."):
        assert verify("1+1=2", bad) == {"reward": 0, "right": 0, "well_formed": 0}


def test_questions_are_prompts_with_their_answers(tmp_path):
    tasks = read_tasks(write_rows(tmp_path / "tasks.jsonl", CHATS), tokenizer())
    assert [answer for _, answer in tasks] == ["dog", "red", "狗"]
    prompt, _ = encode_chat(
        tokenizer(), CHATS[1]["conversations"][:1], add_generation_prompt=True
    )
    assert tasks[1][0] == prompt


def test_rows_without_an_answer_are_refused(tmp_path):
    plain = [
        {"role": "user", "content": "cat"},
        {"role": "assistant", "content": "dog"},
    ]
    rows = [*CHATS, {"conversations": plain}]
    with pytest.raises(UserError, match="line 4: the last reply is not '<think>"):
        read_tasks(write_rows(tmp_path / "plain.jsonl", rows), tokenizer())
    with pytest.raises(UserError, match="no question"):
        read_tasks(write_rows(tmp_path / "empty.jsonl", []), tokenizer())


def test_command(command, base, tmp_path, capsys):
    out = tmp_path / "run"
    words = [*command, "--out", str(out), "--batch-size", "8", "--updates", "2"]
    assert main(words) == 0
    assert "3 questions, 4 replies to each" in capsys.readouterr().out
    assert 0 < sum(line["reward"] for line in read_log(out)) < 4
    wanted = "reward right well_formed kl clipped ratio reply_tokens loss"
    assert set(wanted.split()) <= set(read_log(out)[0])
    model, _ = load_model(out)
    assert not same_weights(model, load_model(base)[0])
    settings = json.loads((out / "minimind.json").read_text())["settings"]
    assert settings["beta"] == 0.04 and settings["batch_size"] == 8
    assert main(words) == 0  # finished: nothing more to do
    assert main([*words, "--beta", "0.1"]) == 2
    assert "beta 0.04 -> 0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    ["--compile", "--deepspeed zero1", "--loss-chunk 64", "--batch-size 6"],
)
def test_what_the_command_refuses(command, tmp_path, option, capsys):
    assert main([*command, "--out", str(tmp_path / "run"), *option.split()]) == 2
    assert option.split()[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs another store")
def test_two_processes_train_as_one(command, tmp_path):
    """Each draws its own groups; the replies and the steps are those of one process."""
    torchrun = "-m torch.distributed.run --standalone --nproc_per_node 2 -m minimind"
    for name, start, share in (
        ("one", "-m minimind", "2"),
        ("two", torchrun, "1"),
    ):
        words = [sys.executable, *start.split(), *command, "--out", tmp_path / name]
        words += ["--batch-size", "8", "--accumulation", share, "--updates", "2"]
        words += ["--learning-rate", "1e-3"]
        done = subprocess.run(
            words,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
    models = [load_model(tmp_path / name)[0] for name in ("one", "two")]
    for here, there in zip(*(model.parameters() for model in models)):
        assert_close(here, there, atol=1e-5, rtol=1e-3)
    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    for key in ("loss", "kl", "reply_tokens", "grad_norm"):
        for here, there in zip(one, two, strict=True):
            assert here[key] == pytest.approx(there[key], rel=1e-3, abs=1e-6)
    assert one[0]["grad_norm"] > 0
    assert len(list((tmp_path / "two" / "samples").glob("0000001-*"))) == 2
