"""Drawing, stopping and streaming, against `transformers`, sums by hand and stubs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minimind.errors import UserError
from minimind.evaluate.repetition import distinct, repetition
from minimind.model.config import ModelConfig
from minimind.model.generate import (
    Completion,
    Reply,
    generate,
    generate_ids,
    left_pad,
    settled,
    stream,
)
from minimind.model.sampling import (
    CHAT,
    GREEDY,
    Sampling,
    filter_logits,
    forbid_ngrams,
    hold_back,
    next_tokens,
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
    dice = torch.rand(40_000, generator=torch.Generator().manual_seed(0))
    drawn = next_tokens(logits.expand(40_000, -1), sampling, dice)
    chances = torch.tensor(chances).double()
    statistic, critical = chi_square(drawn, chances / chances.sum())
    assert statistic < critical


def test_a_point_falls_on_the_stretch_of_its_token():
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(5, -1)
    dice = torch.tensor([0.0, 0.49, 0.5, 0.76, 1 - 2**-24])
    assert next_tokens(logits, PLAIN, dice).tolist() == [0, 0, 1, 2, 2]


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_rounding_never_draws_what_was_cut(monkeypatch, noise):
    """Devices that add in parallel may give sums that do not only rise."""
    torch.manual_seed(0)
    logits = torch.randn(64, 500)
    logits[:, ::2] = logits[:, -99:] = -torch.inf
    exact = torch.Tensor.cumsum
    rough = noise * torch.rand(64, 500)
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda x, dim: exact(x, dim) + rough)
    for point in (0.0, 0.5, 1 - 2**-24):
        drawn = next_tokens(logits, PLAIN, torch.full((64,), point))
        assert logits.gather(1, drawn[:, None]).isfinite().all(), point


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
    ours = penalise_repetition(logits, written, penalty)
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


@pytest.mark.parametrize(
    "settings", [{"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 1}]
)
def test_nothing_written_holds_nothing_back(settings):
    logits = torch.randn(2, 10)
    nothing = torch.empty(2, 0, dtype=torch.long)
    assert torch.equal(hold_back(logits, nothing, replace(PLAIN, **settings)), logits)


def test_the_remedies_of_the_chat_are_gentle():
    """Sampling, a penalty, a guard and a limit, as REQ7 asks; greedy is bare."""
    assert CHAT.temperature > 0 and CHAT.max_new_tokens <= 512
    assert 1 < CHAT.repetition_penalty < 1.2 and CHAT.no_repeat_ngram_size >= 8
    assert GREEDY == Sampling(temperature=0.0)
    assert (GREEDY.repetition_penalty, GREEDY.no_repeat_ngram_size) == (1, 0)


def test_distinct_and_repetition_by_hand():
    assert distinct([[1, 2, 3], [1, 2, 4]], 2) == 3 / 4
    assert distinct([[1], []], 2) == 1
    assert repetition([5] * 8) == 1 - 1 / 5
    assert repetition([1, 2, 3, 4, 5]) == repetition([1]) == 0


def test_the_world_reports_stops_length_and_repetition(monkeypatch):
    from minimind.evaluate import world

    loop = Completion("no", [5] * 8, "length")
    good = Completion("", [4, 5, 6, 7, 8, 9], "stop")
    monkeypatch.setattr(world, "answer", lambda *args, **options: [loop, good])
    asked = {"question": "?", "answer": "no", "lang": "en", "kind": "sum"}
    questions = [{**asked, "entity_heldout": False}] * 2
    prompts = [{"prompt": "!", "lang": "en"}] * 2
    scores = world.score_world(None, None, questions, prompts)
    assert scores["stops"]["share"] == 0.5
    assert scores["length"] == 7
    assert scores["repetition"] == (1 - 1 / 5) / 2
    assert "written before" in world.table(scores)


def test_stories_are_also_asked_for_in_a_chat_that_has_begun(monkeypatch):
    from minimind.evaluate import world

    chats = []
    story = Completion("", [4, 5, 6, 7, 8, 9], "stop")
    monkeypatch.setattr(world, "encode_prompt", lambda _, chat, __: chats.append(chat))
    monkeypatch.setattr(world, "generate", lambda *args: [story] * len(args[2]))
    about = {"kind": "sum", "entity_heldout": False}
    questions = [
        {"question": f"{lang} {n}?", "answer": f"{lang} {n}", "lang": lang, **about}
        for lang in ("en", "zh")
        for n in range(9)
    ]
    prompts = [{"prompt": f"{lang}!", "lang": lang} for lang in ("en", "zh")] * 3
    world.score_world(None, None, questions, prompts)
    new, later = chats[:-6], chats[-6:]
    assert {len(chat) for chat in new} == {1} and len(new) == 18 + 6
    for chat, prompt in zip(later, prompts, strict=True):
        assert [m["role"] for m in chat] == ["user", "assistant"] * 2 + ["user"]
        said = [m["content"] for m in chat]
        assert said[0] == said[1] + "?" and said[2] == said[3] + "?" != said[0]
        assert said[4] == prompt["prompt"]
        assert all(text.startswith(prompt["lang"]) for text in said)
    assert len({chat[0]["content"] for chat in later}) > 2


# --- the loop


def greedy_by_full_forwards(model, prompt, steps, sampling=GREEDY):
    ids = list(prompt)
    for _ in range(steps):
        logits = model(torch.tensor([ids])).logits[:, -1]
        written = torch.tensor([ids[len(prompt) :]], dtype=torch.long)
        logits = hold_back(logits, written, sampling)
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


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.3, "top_k": 9}])
def test_a_row_of_a_batch_is_drawn_as_alone_with_its_seed(model, settings):
    prompts = [[BOS_ID, 50, 60, 70], [BOS_ID], [BOS_ID, 9, 9], [BOS_ID]]
    sampling = replace(PLAIN, max_new_tokens=20, seed=3, **settings)
    columns = list(zip(*generate_ids(model, prompts, sampling, stop_ids=())))
    for row, prompt in enumerate(prompts):
        single = replace(sampling, seed=3 + row)
        alone = [new for (new,) in generate_ids(model, [prompt], single, ())]
        assert alone == list(columns[row])
    assert columns[1] != columns[3]  # one prompt, two seeds


def test_greedy_equals_transformers_in_a_left_padded_batch(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=TINY.vocab_size,
            hidden_size=TINY.hidden_size,
            intermediate_size=TINY.intermediate_size,
            num_hidden_layers=TINY.num_hidden_layers,
            num_attention_heads=TINY.num_attention_heads,
            num_key_value_heads=TINY.num_key_value_heads,
            max_position_embeddings=TINY.max_position_embeddings,
            rms_norm_eps=TINY.rms_norm_eps,
            rope_theta=TINY.rope_theta,
            tie_word_embeddings=True,
            pad_token_id=PAD_ID,
            eos_token_id=None,
        )
    ).eval()
    theirs.load_state_dict(model.state_dict())
    prompts = [[BOS_ID, 50, 60, 70, 80], [BOS_ID], [BOS_ID, 9, 9]]
    ids, mask = left_pad(prompts)
    wanted = theirs.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=20
    )
    sampling = replace(GREEDY, max_new_tokens=20)
    ours = list(zip(*generate_ids(model, prompts, sampling, stop_ids=())))
    assert [list(row) for row in ours] == wanted[:, 5:].tolist()


def test_a_penalty_counts_the_answer_as_transformers_can(model):
    """Their `prompt_ignore_length` is our rule."""
    theirs = pytest.importorskip("transformers.generation.logits_process")
    prompt, sampling = [BOS_ID, 50, 60], replace(GREEDY, repetition_penalty=1.7)
    processor = theirs.RepetitionPenaltyLogitsProcessor(1.7, prompt_ignore_length=3)
    ids = list(prompt)
    for _ in range(20):
        row = torch.tensor([ids])
        scores = processor(row, model(row).logits[:, -1])
        ids.append(scores.argmax().item())
    steps = generate_ids(model, [prompt], replace(sampling, max_new_tokens=20), ())
    assert [new for (new,) in steps] == ids[3:]


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


def test_any_of_several_stop_ids_ends_a_text(tokenizer):
    a, b = tokenizer.encode("a") + tokenizer.encode("b")
    think = tokenizer.encode("<think>")[0]
    model = Scripted([a, think, a], [b, b, EOS_ID])
    one, two = generate(model, tokenizer, [[1], [1]], stop_ids=(EOS_ID, think))
    assert (one.text, one.ids, one.finish_reason) == ("a", [a], "stop")
    assert (two.text, two.ids, two.finish_reason) == ("bb", [b, b], "stop")


def test_stop_strings_end_each_row_of_a_batch(tokenizer):
    text = {c: tokenizer.encode(c)[0] for c in "abc"}
    model = Scripted([text[c] for c in "abcabc"], [text[c] for c in "ccccab"])
    one, two = generate(model, tokenizer, [[1], [1]], stop=["bc", "ab"])
    assert (one.text, one.finish_reason) == ("", "stop")
    assert (two.text, two.finish_reason) == ("cccc", "stop")
    assert model.calls == 6  # ends with the last row, before max_new_tokens
    with pytest.raises(UserError, match="at least one character"):
        generate(model, tokenizer, [[1]], stop=[""])


def test_a_stream_returns_why_it_ended(tokenizer):
    def end_of(script, **options):
        pieces = stream(Scripted(script), tokenizer, [1], **options)
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return end.value

    script = [*tokenizer.encode("the cat"), EOS_ID]
    whole = end_of(script)
    assert (whole.text, whole.finish_reason) == ("the cat", "stop")
    assert end_of(script, stop=["cat"]).text == "the "
    cut = end_of(script, sampling=replace(GREEDY, max_new_tokens=1))
    assert (cut.text, cut.finish_reason) == ("the", "length")
    assert cut.ids == script[:1]


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


class Cut:
    """Stands in for a tokenizer whose ids, from 3 on, are given byte strings."""

    def __init__(self, pieces):
        self.pieces, self.vocab_size = pieces, 3 + len(pieces)

    def token_bytes(self, token_id):
        return self.pieces[token_id - 3]


@pytest.mark.parametrize("text", ["猫🐟é。", "👨‍👧", "a猫🐈‍⬛"])
def test_no_cut_of_the_bytes_shows_half_a_character(text):
    raw = text.encode()
    for cuts in range(2 ** (len(raw) - 1)):
        ends = [i + 1 for i in range(len(raw) - 1) if cuts >> i & 1]
        pieces = [raw[a:b] for a, b in zip([0, *ends], [*ends, len(raw)])]
        reply = Reply(Cut(pieces))
        shown = [reply.add(3 + i) for i in range(len(pieces))]
        assert "".join(shown) == text == reply.text and reply.finish() == ""
        assert not any("\ufffd" in piece for piece in shown)


def test_ids_beyond_the_tokenizers_say_nothing():
    """A published model may have more ids than its tokenizer, to fill a multiple."""
    reply = Reply(Cut([b"a", b"b"]))
    assert [reply.add(i) for i in (3, 5, 99, 4)] == ["a", "", "", "b"]
    assert reply.completion.ids == [3, 5, 99, 4]


def test_nothing_of_a_half_character_follows_a_stop_string():
    reply = Reply(Cut([b"ab\xe7"]), stop=["b"])
    assert reply.add(3) + reply.finish() == "a" == reply.completion.text


@pytest.mark.parametrize("count", range(1, 14))
def test_streamed_text_is_the_whole_text_when_it_is_cut_or_broken(tokenizer, count):
    ids = tokenizer.encode_bytes("猫🐟".encode() + b"\xff\xf0\x9f" + "é".encode())
    sampling = replace(GREEDY, max_new_tokens=count)
    pieces = list(stream(Scripted(ids + [EOS_ID]), tokenizer, [1], sampling))
    (whole,) = generate(Scripted(ids + [EOS_ID]), tokenizer, [[1]], sampling)
    assert "".join(pieces) == whole.text == tokenizer.decode(whole.ids)
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
