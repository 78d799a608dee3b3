"""Replies with thoughts: written, read, taken apart while they come, switched off."""

import itertools
import random
from dataclasses import replace

import pytest

from minimind.commands.chat import converse, set_apart
from minimind.errors import UserError
from minimind.model.sampling import GREEDY
from minimind.text.chat import encode_chat
from minimind.text.thinking import (
    ANSWER,
    END_ANSWER,
    END_THINK,
    NO_THOUGHTS,
    REASON_TAGS,
    SWITCH,
    THINK,
    Parts,
    encode_prompt,
    read_reply,
    split_reply,
    stream_parts,
    with_switch,
    write_reply,
)
from minimind.text.tokenizer import Tokenizer, train_tokenizer
from tests.test_chat_template import CHATS, TEMPLATES
from tests.training_kit import SHAPE, new_model

WHOLE = write_reply("7+5=12\n4+8+1=13", "47+85=132")
# Shaped as Qwen3's end: it knows the switch already.
QWEN = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + "
    "message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    text = "system user assistant 狐狸在森林里。 3 + 4\n\n\nYou are a helpful assistant"
    return train_tokenizer([text] * 2, 400)


# --- whole replies ----------------------------------------------------------------


def test_the_form_letter_by_letter():
    assert write_reply("a\nb", "c") == "<think>\na\nb\n</think>\n<answer>\nc\n</answer>"
    assert write_reply("", "c").startswith(NO_THOUGHTS + ANSWER)


@pytest.mark.parametrize(
    "parts", [("1+1=2", "2"), ("", "x\ny"), ("a\n\nb", "狐狸 <b>")]
)
def test_what_is_written_is_read(parts):
    assert read_reply(write_reply(*parts)) == parts
    assert split_reply(write_reply(*parts)) == parts


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "47+85=132",
        "<answer>\n132\n</answer>",
        "<think>\n7+5=12\n</think>\n132",
        WHOLE[: -len(END_ANSWER)],
        WHOLE + "\n",
        " " + WHOLE,
        WHOLE.replace("</think>\n<answer>", "</think><answer>"),
        WHOLE.replace("132", "<answer>132"),
        WHOLE.replace("7+5", "<think>7+5"),
        WHOLE + WHOLE,
        write_reply("a", ""),
        write_reply("a </think>", "b"),
        "<answer>\n1\n</answer>\n<think>\na\n</think>",
    ],
)
def test_not_well_formed(reply):
    assert read_reply(reply) is None


# --- any text ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "thoughts", "answer"),
    [
        ("", "", ""),
        ("Hello.", "", "Hello."),
        ("1 < 2", "", "1 < 2"),
        ("<think>", "", ""),
        ("<think>\n7+5=12\n4+", "7+5=12\n4+", ""),
        ("<think>\na\n</think>", "a", ""),
        ("<think>\na\n</think>\n<answer>\nb", "a", "b"),
        ("<think>\na\n</think>\nb", "a", "b"),
        ("\n<think>a</think><answer>b</answer>", "a", "b"),
        ("<answer>\nb\n</answer>", "", "b"),
        ("I write <think> here", "", "I write <think> here"),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
    ],
)
def test_split(text, thoughts, answer):
    assert split_reply(text) == Parts(thoughts, answer)


@pytest.mark.parametrize("tag", REASON_TAGS)
def test_a_tag_that_has_begun_waits(tag):
    for length in range(1, len(tag)):
        begun = "<think>\na\n</think>\nb" + tag[:length]
        assert split_reply(begun, complete=False) == ("a", "b")
        assert split_reply(begun) == ("a", "b" + tag[:length])


def test_of_a_text_that_goes_on_each_part_is_a_beginning():
    """For random mixtures of tags, pieces of tags, white space and words."""
    rng = random.Random(0)
    bits = [
        *REASON_TAGS,
        "<",
        "</",
        "<think",
        "answer>",
        "\n",
        " ",
        "a",
        "狐狸",
        "1+1=2",
    ]
    texts = ["".join(rng.choices(bits, k=rng.randint(1, 9))) for _ in range(600)]
    for text in [WHOLE, *texts]:
        whole = split_reply(text)
        for end in range(len(text)):
            for part, full in zip(split_reply(text[:end], complete=False), whole):
                assert full.startswith(part), (text, end)


def test_a_stream_adds_up():
    rng = random.Random(1)
    for _ in range(50):
        cuts = sorted(rng.sample(range(1, len(WHOLE)), 6))
        pieces = [WHOLE[a:b] for a, b in itertools.pairwise([0, *cuts, len(WHOLE)])]
        told = list(stream_parts(iter(pieces)))
        assert tuple(map("".join, zip(*told))) == split_reply(WHOLE)
    assert list(stream_parts([])) == [("", "")]


def test_a_stream_does_not_wait_for_the_end():
    def pieces():
        yield "<think>\nfirst"
        yield " second"
        raise AssertionError("asked for more than it needed")

    stream = stream_parts(pieces())
    assert next(stream) == ("first", "") and next(stream) == (" second", "")


# --- the switch -------------------------------------------------------------------


@pytest.mark.parametrize(
    "template", [*TEMPLATES.values(), QWEN], ids=[*TEMPLATES, "qwen"]
)
def test_the_switch_as_transformers_reads_it(tokenizer, template, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = Tokenizer(tokenizer.backend, with_switch(template))
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    plain = Tokenizer(tokenizer.backend, template)
    for chat in CHATS.values():
        for thinking in (True, False):
            options = {"add_generation_prompt": True, "enable_thinking": thinking}
            ids = theirs.apply_chat_template(chat, return_dict=False, **options)
            assert encode_prompt(ours, chat, thinking) == ids
        not_said = theirs.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=False
        )
        thinks = encode_prompt(ours, chat)
        assert thinks == not_said == encode_prompt(plain, chat)
        assert thinks == encode_chat(ours, chat, add_generation_prompt=True)[0]
        off = ours.decode(ids[len(thinks) :])
        assert ids[: len(thinks)] == thinks and off.strip() == NO_THOUGHTS.strip()


def test_without_thoughts_a_prompt_ends_as_a_training_row_goes_on(tokenizer):
    """The ids of the switched-off prompt are a beginning of a row without thoughts."""
    ours = Tokenizer(tokenizer.backend, with_switch(tokenizer.chat_template))
    asked = CHATS["question"]
    reply = {"role": "assistant", "content": write_reply("", "In the forest.")}
    row, _ = encode_chat(ours, [*asked, reply])
    prompt = encode_prompt(ours, asked, enable_thinking=False)
    assert row[: len(prompt)] == prompt
    assert row[len(prompt)] == tokenizer.encode(ANSWER)[0]


def test_the_switch_is_added_once():
    once = with_switch(TEMPLATES["ours"])
    assert once.count(SWITCH) == 1 and with_switch(once) == once
    assert with_switch(QWEN) == QWEN


def test_a_template_without_it_is_refused(tokenizer):
    with pytest.raises(UserError, match="no enable_thinking; use a model of"):
        encode_prompt(tokenizer, CHATS["question"], enable_thinking=False)


# --- the chat ---------------------------------------------------------------------


def test_thoughts_are_set_apart():
    def shown(*pieces):
        return "".join(set_apart(stream_parts(pieces)))

    assert shown(WHOLE) == "| 7+5=12\n| 4+8+1=13\n47+85=132"
    assert shown(*WHOLE) == shown(WHOLE)
    assert shown("Hello", " there.") == "Hello there."
    assert shown(write_reply("", "Hi\nyou")) == "Hi\nyou"
    assert shown("<think>\ncut") == "| cut"


@pytest.mark.parametrize("thinking", [True, False])
def test_the_next_turn_is_told_the_whole_reply(
    tokenizer, monkeypatch, capsys, thinking
):
    ours = Tokenizer(tokenizer.backend, with_switch(tokenizer.chat_template))
    whole = WHOLE if thinking else write_reply("", "47+85=132")
    given = whole if thinking else whole.removeprefix(NO_THOUGHTS)
    prompts = []

    def write(model, tokenizer, prompt, sampling):
        prompts.append(prompt)
        yield from given

    monkeypatch.setattr("minimind.commands.chat.stream", write)
    shape = replace(SHAPE, max_position_embeddings=512)
    converse(
        new_model(shape=shape),
        ours,
        ["47+85?", "Sure?"],
        GREEDY,
        enable_thinking=thinking,
    )
    chat = [{"role": "user", "content": "47+85?"}]
    assert prompts[0] == encode_prompt(ours, chat, thinking)
    chat += [{"role": "assistant", "content": whole}]
    chat += [{"role": "user", "content": "Sure?"}]
    assert prompts[1] == encode_prompt(ours, chat, thinking)
    lines = ["| 7+5=12", "| 4+8+1=13", "47+85=132"] if thinking else ["47+85=132"]
    assert capsys.readouterr().out.splitlines() == lines * 2


def test_tags_are_single_ids(tokenizer):
    tags = [THINK, END_THINK, ANSWER, END_ANSWER]
    assert [tokenizer.encode(tag) for tag in tags] == [[3], [4], [5], [6]]
    ids = tokenizer.encode(WHOLE)
    assert [i for i in ids if 3 <= i <= 6] == [3, 4, 5, 6]
    assert tokenizer.decode(ids) == WHOLE
