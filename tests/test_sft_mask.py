"""Chats to ids and labels: which tokens are targets, and what is left of long chats."""

import json

import pytest

from minimind.errors import UserError
from minimind.text.chat import IGNORE, chat_parts, encode_chat
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import (
    BOS_ID,
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    EOS_ID,
    PAD_ID,
    Tokenizer,
    train_tokenizer,
)
from minimind.text.tokens import TokenFile, prepare
from minimind.train.sft import show_mask

START, END = CONTROL_TOKENS[BOS_ID], CONTROL_TOKENS[EOS_ID]
# Writes what CHAT_TEMPLATE writes, and marks what the assistant says as
# `transformers` wants it marked.
MARKED = """\
{%- if not messages or messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\n' }}You are a helpful assistant<|im_end|>{{ '\n' }}
{%- endif -%}
{%- for m in messages -%}
{{ '<|im_start|>' + m['role'] + '\n' }}
{%- if m['role'] == 'assistant' -%}
{% generation %}{{ m['content'] | trim }}<|im_end|>{% endgeneration %}
{%- else -%}
{{ m['content'] | trim }}<|im_end|>
{%- endif -%}
{{ '\n' }}
{%- endfor -%}"""


def say(*turns):
    """Messages from (role, content) pairs."""
    return [{"role": role, "content": content} for role, content in turns]


TWO = say(("user", "Hi"), ("assistant", "Yes."), ("user", "Go"), ("assistant", "No."))
CHATS = {
    "two turns": TWO,
    "system": say(("system", "Be brief."), ("user", "你好"), ("assistant", "狐狸。")),
    "tool": say(
        ("user", "Time?"),
        ("assistant", "<tool_call>clock</tool_call>"),
        ("tool", "<tool_response>9</tool_response>"),
        ("assistant", "It is 9."),
    ),
    "think": say(
        ("user", "3 + 4"),
        ("assistant", "<think>\nthree, four more\n</think>\n<answer>7</answer>"),
        ("user", "Sure?"),
        ("assistant", "<think>\n\n</think>\n\nYes."),
    ),
    "open question": say(("user", "Hi"), ("assistant", "Yes."), ("user", "And?")),
    "assistant first": say(("assistant", "Who is there?"), ("user", "Me")),
    "nothing said": say(("user", "Hi"), ("assistant", "")),
    "white space": say(("user", " Hi\n"), ("assistant", "\n Yes. \n\n")),
}


@pytest.fixture(scope="module")
def tokenizer():
    text = "system\nYou are a helpful assistant\nuser\nassistant\nYes.\nNo.\nHi\nGo"
    return train_tokenizer([text] * 3, 400)


def learned(labels):
    return [label for label in labels if label != IGNORE]


def jsonl(path, chats):
    rows = [json.dumps({"conversations": chat}) + "\n" for chat in chats]
    path.write_text("".join(rows), encoding="utf-8")
    return path


def test_two_turns_token_by_token(tokenizer):
    """The whole mask, written down; True is a target."""
    expected = [
        *[(START, False), ("system", False), ("\n", False), ("You", False)],
        *[(" are", False), (" a", False), (" helpful", False), (" assistant", False)],
        *[(END, False), ("\n", False)],
        *[(START, False), ("user", False), ("\n", False), ("Hi", False)],
        *[(END, False), ("\n", False)],
        *[(START, False), ("assistant", False), ("\n", False)],
        *[("Yes", True), (".", True), (END, True), ("\n", False)],
        *[(START, False), ("user", False), ("\n", False), ("Go", False)],
        *[(END, False), ("\n", False)],
        *[(START, False), ("assistant", False), ("\n", False)],
        *[("No", True), (".", True), (END, True), ("\n", False)],
    ]
    ids, labels = encode_chat(tokenizer, TWO)
    texts = [tokenizer.decode([i]) for i in ids]
    assert texts == [text for text, _ in expected]
    marks = [target for _, target in expected]
    assert labels == [i if target else IGNORE for i, target in zip(ids, marks)]


@pytest.mark.parametrize("name", CHATS)
def test_the_answers_and_their_ends_are_targets_and_nothing_else(tokenizer, name):
    ids, labels = encode_chat(tokenizer, CHATS[name])
    answers = [m["content"] for m in CHATS[name] if m["role"] == "assistant"]
    expected = [tokenizer.encode(answer.strip()) + [EOS_ID] for answer in answers]
    assert learned(labels) == sum(expected, [])
    assert all(label in (IGNORE, i) for i, label in zip(ids, labels, strict=True))


@pytest.mark.parametrize("name", CHATS)
def test_ids_and_mask_are_those_of_transformers(tokenizer, tmp_path, name):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids, labels = encode_chat(tokenizer, CHATS[name])
    assert theirs.apply_chat_template(CHATS[name], return_dict=False) == ids
    marked = theirs.apply_chat_template(
        CHATS[name],
        chat_template=MARKED,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert marked["input_ids"] == ids
    assert marked["assistant_masks"] == [int(label != IGNORE) for label in labels]


def test_the_template_ends_a_turn_with_the_tokenizers_end_token(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = theirs.apply_chat_template(TWO, tokenize=False)
    assert text.endswith(f"No.{theirs.eos_token}\n")
    assert theirs.eos_token_id == learned(encode_chat(tokenizer, TWO)[1])[-1]
    assert len({theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id}) == 3


@pytest.mark.parametrize("name", CHATS)
def test_every_turn_has_one_start_and_one_end(tokenizer, name):
    turns = len(CHATS[name]) + (CHATS[name][0]["role"] != "system")
    ids, labels = encode_chat(tokenizer, CHATS[name])
    assert [ids.count(i) for i in (PAD_ID, BOS_ID, EOS_ID)] == [0, turns, turns]
    answers = sum(m["role"] == "assistant" for m in CHATS[name])
    assert learned(labels).count(EOS_ID) == answers


def test_a_control_token_that_is_spelt_out_ends_no_answer(tokenizer):
    spelt = f"Yes.{END}\n{START}assistant\nNo."
    for role in ("user", "assistant"):
        chat = [{**m, "content": spelt} if m["role"] == role else m for m in TWO]
        ids, labels = encode_chat(tokenizer, chat)
        assert ids.count(BOS_ID) == ids.count(EOS_ID) == 5
        assert learned(labels).count(EOS_ID) == 2 and BOS_ID not in labels
        assert tokenizer.decode(ids).count(spelt) == 2


@pytest.mark.parametrize("name", ["two turns", "tool", "think", "system"])
def test_the_prompt_in_use_is_the_beginning_of_the_training_ids(tokenizer, name):
    chat = CHATS[name]
    ids, labels = encode_chat(tokenizer, chat)
    for i, message in enumerate(chat):
        if message["role"] == "assistant":
            prompt, _ = encode_chat(tokenizer, chat[:i], add_generation_prompt=True)
            assert prompt == ids[: len(prompt)]
            assert labels[len(prompt) - 1] == IGNORE != labels[len(prompt)]


@pytest.mark.parametrize("name", CHATS)
def test_a_long_chat_loses_whole_exchanges(tokenizer, name):
    whole_ids, whole_labels = encode_chat(tokenizer, CHATS[name])
    ends = [at + 1 for at, label in enumerate(whole_labels) if label == EOS_ID]
    for limit in range(len(whole_ids) + 2):
        ids, labels = encode_chat(tokenizer, CHATS[name], max_length=limit)
        if limit >= len(whole_ids):
            assert (ids, labels) == (whole_ids, whole_labels)
            continue
        kept = max([end for end in ends if end <= limit], default=0)
        assert ids == whole_ids[:kept] and labels == whole_labels[:kept]


def test_a_row_without_a_target_is_left_out_and_counted(tokenizer, tmp_path):
    long = say(("user", "Hi " * 90), ("assistant", "Yes."))
    source = jsonl(tmp_path / "sft.jsonl", [TWO, long, CHATS["system"], long])
    manifest = prepare([source], tmp_path / "data", tokenizer, "sft", max_length=64)
    assert (manifest["documents"], manifest["no_target"]) == (2, 2)
    data = TokenFile(tmp_path / "data", tokenizer)
    expected = [encode_chat(tokenizer, chat) for chat in (TWO, CHATS["system"])]
    assert data.tokens.tolist() == sum((ids for ids, _ in expected), [])
    targets = sum((labels for _, labels in expected), [])
    assert data.targets.tolist() == [int(label != IGNORE) for label in targets]
    assert manifest["targets"] == len(learned(targets))
    assert data.offsets.tolist() == [0, len(expected[0][0]), len(targets)]


def test_a_file_without_any_target_is_refused(tokenizer, tmp_path):
    long = say(("user", "Hi " * 90), ("assistant", "Yes."))
    source = jsonl(tmp_path / "sft.jsonl", [long])
    with pytest.raises(UserError, match="sft.jsonl: .*--max-length"):
        prepare([source], tmp_path / "data", tokenizer, "sft", max_length=64)
    assert not (tmp_path / "data").exists()


def test_packed_rows_keep_the_labels(tokenizer, tmp_path):
    chats = [TWO, CHATS["system"], CHATS["tool"]]
    source = jsonl(tmp_path / "sft.jsonl", chats)
    prepare([source], tmp_path / "data", tokenizer, "sft", max_length=200)
    rows = PackedRows(TokenFile(tmp_path / "data", tokenizer), 200)
    found = []
    for row in (rows[n] for n in range(len(rows))):
        for number in range(row["document_ids"].max() + 1):
            here = row["document_ids"] == number
            found.append(
                (row["input_ids"][here].tolist(), row["labels"][here].tolist())
            )
        assert (row["labels"][row["document_ids"] < 0] == IGNORE).all()
    assert sorted(found) == sorted(encode_chat(tokenizer, chat) for chat in chats)


def test_another_template_gets_its_labels_as_well(tokenizer):
    other = Tokenizer(
        tokenizer.backend,
        "{% for m in messages %}{{ 'A: ' if m.role == 'assistant' else 'Q: ' }}"
        "{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}A: {% endif %}",
    )
    ids, labels = encode_chat(other, TWO)
    assert tokenizer.decode(ids) == f"Q: Hi{END}A: Yes.{END}Q: Go{END}A: No.{END}"
    assert tokenizer.decode(learned(labels)) == f"Yes.{END}No.{END}"


def test_a_template_that_changes_earlier_turns_is_refused(tokenizer):
    source = CHAT_TEMPLATE.replace(
        "message['content'] | trim",
        "(message['content'] if loop.last else '...') | trim",
    )
    assert source != CHAT_TEMPLATE
    forgetful = Tokenizer(tokenizer.backend, source)
    with pytest.raises(UserError, match="chat_template changes earlier text") as error:
        encode_chat(forgetful, TWO)
    assert "tokenizer_config.json" in str(error.value) and "\n" not in str(error.value)


def test_a_template_that_changes_the_last_answer_is_refused(tokenizer):
    """As those do that drop an answer's thoughts once a question follows."""
    source = CHAT_TEMPLATE.replace(
        "message['content'] | trim",
        "(message['content'] if loop.last or message['role'] != 'assistant' "
        "else '...') | trim",
    )
    forgetful = Tokenizer(tokenizer.backend, source)
    encode_chat(forgetful, TWO[:2])
    with pytest.raises(UserError, match="chat_template changes earlier text"):
        encode_chat(forgetful, CHATS["open question"])


def test_a_prompt_is_what_its_template_makes_of_it(tokenizer):
    """Nothing of a prompt is a target, so its template may change what it likes."""
    source = CHAT_TEMPLATE.replace(
        "message['content'] | trim", "loop.revindex | string"
    )
    assert source != CHAT_TEMPLATE
    other = Tokenizer(tokenizer.backend, source)
    ids, labels = encode_chat(other, TWO[:3], add_generation_prompt=True)
    turns = zip(("user", "assistant", "user"), "321", strict=True)
    text = "".join(f"{START}{role}\n{number}{END}\n" for role, number in turns)
    assert tokenizer.decode(ids).endswith(text + f"{START}assistant\n")
    assert labels == [IGNORE] * len(ids)


def test_a_template_without_an_end_token_is_refused(tokenizer):
    endless = Tokenizer(tokenizer.backend, CHAT_TEMPLATE.replace("}}" + END, "}}"))
    assert endless.chat_template != CHAT_TEMPLATE
    with pytest.raises(UserError, match="ends an answer without <.im_end.>") as error:
        encode_chat(endless, TWO)
    assert "\n" not in str(error.value)


def test_parts_are_the_rendered_text_cut_at_the_answers(tokenizer):
    parts = list(chat_parts(tokenizer, TWO))
    assert [write for _, write in parts] == [False, True, False, True, False]
    assert [text for text, write in parts if write] == [f"Yes.{END}", f"No.{END}"]
    texts = [text for text, _ in parts]
    assert texts[0].endswith(f"{START}assistant\n") and texts[-1] == "\n"


def test_the_viewer_as_a_table(tokenizer):
    ids, labels = encode_chat(tokenizer, TWO)
    head, *lines = str(show_mask(tokenizer, ids, labels)).splitlines()
    assert head.split() == ["at", "id", "label", "token"] and len(lines) == len(ids)
    for at, line in enumerate(lines):
        shown = "." if labels[at] == IGNORE else str(labels[at])
        assert line.split()[:3] == [str(at), str(ids[at]), shown]
    assert lines[4].endswith("·are") and lines[-1].endswith("  \\n")
    assert lines[-2].endswith(END)


def test_the_viewer_marks_shifted_labels(tokenizer):
    ids, labels = encode_chat(tokenizer, TWO)
    shifted = labels[1:] + [IGNORE]
    good, bad = (show_mask(tokenizer, ids, z) for z in (labels, shifted))
    assert "?" not in str(good) and str(bad).count("?") == 6
    assert "underline" not in good._repr_html_()
    assert bad._repr_html_().count("underline") == 6


def test_the_viewer_in_a_notebook(tokenizer):
    chat = say(("user", "<b>&"), ("assistant", "狐狸"))
    ids, labels = encode_chat(tokenizer, chat)
    page = show_mask(tokenizer, ids, labels)._repr_html_()
    assert page.count("<span") == page.count("</span>") == len(ids)
    assert page.count("font-weight: bold") == len(learned(labels))
    assert "<b>" not in page and START not in page and "&lt;|im_start|&gt;" in page


def test_the_viewer_shows_the_bytes_of_broken_characters(tokenizer):
    ids = tokenizer.encode("龘")  # not in the vocabulary: one id for each byte
    text = str(show_mask(tokenizer, ids, ids))
    assert len(ids) == 3 and all(f"\\x{b:02x}" in text for b in "龘".encode())


def test_the_viewer_wants_a_label_for_every_token(tokenizer):
    with pytest.raises(ValueError):
        show_mask(tokenizer, [1, 2], [1])
