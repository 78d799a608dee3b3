"""Drawing, stopping and streaming, against `transformers`, sums by hand and stubs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minimind.errors import UserError
from minimind.model.config import ModelConfig
from minimind.model.generate import generate, generate_ids, left_pad, settled, stream
from minimind.model.sampling import (
    GREEDY,
    Sampling,
    filter_logits,
    forbid_ngrams,
    hold_back,
    next_tokens,
    occurring,
    penalise_repetition,
)
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.tokenizer import BOS_ID, EOS_ID, PAD_ID, train_tokenizer

PLAIN = Sampling(temperature=1.0, top_p=1.0)
TINY = ModelConfig(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    rope_theta=1e4,
)
# chi-square, exceeded once in a thousand times, by degrees of freedom
CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MiniMindForCausalLM(TINY).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes, the tags and a few merges, so that characters are in pieces."""
    return train_tokenizer(["the cat and the hat"] * 9, vocab_size=280)


class Scripted(nn.Module):
    """A model that writes given ids, whatever it is shown: one list a row."""

    def __init__(self, *scripts):
        super().__init__()
        self.config, self.scripts = TINY, scripts
        self.lm_head = nn.Linear(1, 1)
        self.calls = 0

    def forward(self, ids, positions=None, mask=None, cache=None, logits_to_keep=0):
        new = torch.tensor([s[min(self.calls, len(s) - 1)] for s in self.scripts])
        self.calls += 1
        logits = F.one_hot(new, TINY.vocab_size).float()
        return SimpleNamespace(logits=logits[:, None])


def chi_square(drawn, chances):
    """The statistic and its critical value; chances of 0 must not be drawn."""
    counts = drawn.bincount(minlength=len(chances)).double()
    possible = chances > 0
    assert counts[~possible].sum() == 0
    expected = (chances * counts.sum())[possible]
    statistic = ((counts[possible] - expected) ** 2 / expected).sum().item()
    return statistic, CRITICAL[int(possible.sum()) - 1]


# --- the distribution


@pytest.mark.parametrize(
    "setting, name, value",
    [("top_k", "TopKLogitsWarper", v) for v in (1, 7, 300, 999)]
    + [("top_p", "TopPLogitsWarper", v) for v in (0.1, 0.5, 0.95, 0.999)]
    + [("min_p", "MinPLogitsWarper", v) for v in (0.01, 0.1, 0.5, 1.0)],
)
def test_filters_equal_those_of_transformers(setting, name, value):
    theirs = pytest.importorskip("transformers.generation.logits_process")
    torch.manual_seed(1)
    for spread in (0.1, 1.0, 5.0):
        logits = spread * torch.randn(16, 300)
        ours = filter_logits(logits, replace(PLAIN, **{setting: value}))
        assert torch.equal(ours, getattr(theirs, name)(value)(None, logits))


def test_filters_apply_in_the_order_of_transformers():
    theirs = pytest.importorskip("transformers.generation.logits_process")
    torch.manual_seed(2)
    logits = 2 * torch.randn(16, 300)
    wanted = logits / 0.8
    for warper in (
        theirs.TopKLogitsWarper(40),
        theirs.TopPLogitsWarper(0.7),
        theirs.MinPLogitsWarper(0.2),
    ):
        wanted = warper(None, wanted)
    ours = filter_logits(logits / 0.8, Sampling(0.8, top_k=40, top_p=0.7, min_p=0.2))
    assert torch.equal(ours, wanted)


@pytest.mark.parametrize("setting", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}])
def test_the_likeliest_always_stays(setting):
    logits = torch.tensor([[0.1, 2.0, -1.0], [5.0, 4.9, 4.8]])
    left = filter_logits(logits, replace(PLAIN, **setting)).isfinite()
    assert left.tolist() == [[False, True, False], [True, False, False]]


def test_no_setting_changes_nothing():
    logits = torch.randn(3, 50)
    assert filter_logits(logits, PLAIN) is logits


@pytest.mark.parametrize(
    "sampling, chances",
    [
        (PLAIN, [8, 4, 2, 1, 1]),
        (replace(PLAIN, temperature=0.5), [64, 16, 4, 1, 1]),
        (replace(PLAIN, top_k=2), [2, 1, 0, 0, 0]),
        (replace(PLAIN, top_p=0.8), [4, 2, 1, 0, 0]),
        (replace(PLAIN, min_p=0.2), [4, 2, 1, 0, 0]),
        (replace(PLAIN, temperature=0.5, min_p=0.2), [4, 1, 0, 0, 0]),
    ],
)
def test_draws_follow_the_distribution(sampling, chances):
    logits = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = next_tokens(logits.expand(40_000, -1), sampling, generator)
    chances = torch.tensor(chances).double()
    statistic, critical = chi_square(drawn, chances / chances.sum())
    assert statistic < critical


def test_the_loop_draws_what_the_model_says(model):
    prompt = [BOS_ID, 40, 41]
    sampling = replace(PLAIN, temperature=0.7, top_k=6, max_new_tokens=1, seed=0)
    (drawn,) = generate_ids(model, [prompt] * 5000, sampling)
    logits = model(torch.tensor([prompt])).logits[0, -1] / 0.7
    chances = torch.zeros(300).double()
    best = logits.topk(6)
    chances[best.indices] = best.values.double().softmax(-1)
    statistic, critical = chi_square(torch.tensor(drawn), chances)
    assert statistic < critical


# --- against repetition


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_penalty_equals_transformers(penalty):
    theirs = pytest.importorskip("transformers.generation.logits_process")
    torch.manual_seed(3)
    logits, written = torch.randn(8, 300), torch.randint(3, 300, (8, 50))
    wanted = theirs.RepetitionPenaltyLogitsProcessor(penalty)(written, logits)
    ours = penalise_repetition(logits, occurring(written, 300), penalty)
    assert torch.equal(ours, wanted) and not torch.equal(ours, logits)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 31])
@pytest.mark.parametrize("tokens", [1, 3, 30])
def test_ngram_guard_equals_transformers(size, tokens):
    theirs = pytest.importorskip("transformers.generation.logits_process")
    torch.manual_seed(4)
    logits, written = torch.randn(8, 300), torch.randint(3, 6, (8, tokens))
    wanted = theirs.NoRepeatNGramLogitsProcessor(size)(written, logits)
    ours = forbid_ngrams(logits, written, size)
    assert torch.equal(ours, wanted)
    if tokens == 30:
        assert ours.isinf().any() == (size < 31)


def test_control_tokens_are_never_held_back():
    logits = torch.ones(1, 10)
    written = torch.tensor([[BOS_ID, 5, EOS_ID, BOS_ID, 5]])
    penalised = hold_back(logits, written, replace(PLAIN, repetition_penalty=2.0))
    assert penalised[0].tolist() == [1, 1, 1, 1, 1, 0.5, 1, 1, 1, 1]
    for size in (1, 2, 3):
        guarded = hold_back(logits, written, replace(PLAIN, no_repeat_ngram_size=size))
        assert guarded[0, :3].isfinite().all(), size


def test_no_run_reaches_across_a_control_token():
    written = torch.tensor([[BOS_ID, 5, EOS_ID]])  # 5 followed one before
    guarded = hold_back(
        torch.ones(1, 10), written, replace(PLAIN, no_repeat_ngram_size=2)
    )
    assert guarded.isfinite().all()


# --- the loop


def greedy_by_full_forwards(model, prompt, steps, sampling=GREEDY):
    ids = list(prompt)
    for _ in range(steps):
        logits = model(torch.tensor([ids])).logits[:, -1]
        logits = hold_back(logits, torch.tensor([ids]), sampling)
        ids.append(logits.argmax().item())
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    "settings",
    [{}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2}],
)
def test_greedy_is_the_argmax_of_full_forwards_alone_and_in_a_batch(model, settings):
    prompts = [[BOS_ID, 50, 60, 70, 80], [BOS_ID], [BOS_ID, 9, 9, 9, 9, 9, 9, 200]]
    sampling = replace(GREEDY, max_new_tokens=20, **settings)
    batch = list(zip(*generate_ids(model, prompts, sampling, stop_ids=())))
    for prompt, together in zip(prompts, batch):
        wanted = greedy_by_full_forwards(model, prompt, 20, sampling)
        alone = [new for (new,) in generate_ids(model, [prompt], sampling, ())]
        assert wanted == alone == list(together)
    assert len({ids for ids in batch}) == 3


def test_settings_reach_the_loop(model):
    written = []
    for size in (0, 2):
        sampling = replace(GREEDY, max_new_tokens=30, no_repeat_ngram_size=size)
        steps = generate_ids(model, [[BOS_ID, 50, 60]], sampling, stop_ids=())
        written.append([new for (new,) in steps])
    looped, free = written
    pairs = list(zip(free, free[1:]))
    assert len(pairs) == len(set(pairs)) and free != looped


def test_same_seed_same_text(model):
    def write(seed):
        sampling = replace(PLAIN, max_new_tokens=20, seed=seed)
        return list(generate_ids(model, [[BOS_ID], [BOS_ID, 5]], sampling))

    first = write(1)
    torch.manual_seed(99)  # what else the program draws does not matter
    assert write(1) == first != write(2)
    torch.manual_seed(5)
    unseeded = write(None)
    assert unseeded != write(None)


def test_left_padding():
    ids, mask = left_pad([[1, 7, 8], [1]])
    assert ids.tolist() == [[1, 7, 8], [PAD_ID, PAD_ID, 1]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="at least one id"):
        left_pad([[1], []])


# --- the end


def test_a_finished_row_gives_none_and_the_last_one_ends_it():
    model = Scripted([20, EOS_ID, 20, 20], [20, 21, 22, EOS_ID, 20])
    steps = list(generate_ids(model, [[1], [1]]))
    assert steps == [[20, 20], [EOS_ID, 21], [None, 22], [None, EOS_ID]]
    assert model.calls == 4


def test_other_stop_ids():
    steps = list(generate_ids(Scripted([20, EOS_ID, 21, 22]), [[1]], stop_ids=[21, 9]))
    assert steps == [[20], [EOS_ID], [21]]


def test_completions_say_why_they_ended(tokenizer):
    a, b = tokenizer.encode("a") + tokenizer.encode("b")
    model = Scripted([a, b, EOS_ID], [a, a, a, a])
    sampling = replace(GREEDY, max_new_tokens=3)
    done, cut = generate(model, tokenizer, [[1], [1]], sampling)
    assert (done.text, done.ids, done.finish_reason) == ("ab", [a, b], "stop")
    assert (cut.text, cut.ids, cut.finish_reason) == ("aaa", [a, a, a], "length")


def test_control_tokens_stay_out_of_the_text_and_tags_stay_in(tokenizer):
    think = tokenizer.encode("<think>")
    assert len(think) == 1
    script = [BOS_ID, *think, *tokenizer.encode("x"), PAD_ID, EOS_ID]
    (whole,) = generate(Scripted(script), tokenizer, [[1]])
    assert whole.text == "".join(stream(Scripted(script), tokenizer, [1])) == "<think>x"


def test_a_prompt_too_long_names_the_limit(model):
    with pytest.raises(UserError, match="64 tokens long.*limit is 64"):
        next(generate_ids(model, [[BOS_ID], [BOS_ID] * 64]))
    steps = list(generate_ids(model, [[BOS_ID] * 60], stop_ids=()))
    assert len(steps) == 4  # 60 + 4 fill the model


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 95},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"no_repeat_ngram_size": -2},
        {"max_new_tokens": 0},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    (name,) = setting
    with pytest.raises(UserError, match=f"^{name} must be between"):
        Sampling(**setting)


# --- streaming


@pytest.mark.parametrize(
    "text",
    [
        "the cat and the hat",
        "小猫喜欢鱼，法国的首都是巴黎。",
        "🐟🐈‍⬛ 👨‍👩‍👧‍👦 é e\u0301 ñ \U0001f1eb\U0001f1f7",
        "naïve “quotes” \u2028 \x00 end\n\n",
        "<think>想</think><answer>三</answer>",
    ],
)
def test_streamed_text_is_the_whole_text_without_half_characters(tokenizer, text):
    script = [*tokenizer.encode(text), EOS_ID]
    pieces = list(stream(Scripted(script), tokenizer, [1]))
    assert "".join(pieces) == text
    assert "" not in pieces and not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 1
    (whole,) = generate(Scripted(script), tokenizer, [[1]])
    assert whole.text == text


@pytest.mark.parametrize("count", range(1, 14))
def test_streamed_text_is_the_whole_text_when_it_is_cut_or_broken(tokenizer, count):
    ids = tokenizer.encode_bytes("猫🐟".encode() + b"\xff\xf0\x9f" + "é".encode())
    sampling = replace(GREEDY, max_new_tokens=count)
    pieces = list(stream(Scripted(ids + [EOS_ID]), tokenizer, [1], sampling))
    (whole,) = generate(Scripted(ids + [EOS_ID]), tokenizer, [[1]], sampling)
    assert "".join(pieces) == whole.text
    assert all(pieces)


@pytest.mark.parametrize(
    "stop, wanted",
    [
        ([], "aab 小猫 end"),
        (["ab"], "a"),
        (["aab"], ""),
        (["猫"], "aab 小"),
        ([" 小猫 x"], "aab 小猫 end"),
        (["zz", "en", "猫 e"], "aab 小"),
        (["end!", "d"], "aab 小猫 en"),
        (["end!"], "aab 小猫 end"),
    ],
)
def test_stop_strings(tokenizer, stop, wanted):
    script = [tokenizer.backend.token_to_id(c) for c in "aab"]
    script += [*tokenizer.encode(" 小猫 end"), EOS_ID]
    pieces = list(stream(Scripted(script), tokenizer, [1], stop=stop))
    assert "".join(pieces) == wanted and all(pieces)


def test_the_first_of_two_stop_strings_in_one_token(tokenizer):
    (the,) = tokenizer.encode("the")
    assert list(stream(Scripted([the]), tokenizer, [1], stop=["e", "h"])) == ["t"]


def test_what_may_begin_a_stop_string_is_held():
    assert settled("hello wo", ["world"]) == len("hello ")
    assert settled("hello", ["world", "lox"]) == len("hel")
    assert settled("aaa", ["aab"]) == 1
    assert settled("hello", []) == 5
