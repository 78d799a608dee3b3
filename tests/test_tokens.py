"""Token files: the bytes on disk against encodings made here, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from minimind.errors import UserError
from minimind.text.chat import encode_chat
from minimind.text.tokenizer import BOS_ID, EOS_ID, train_tokenizer
from minimind.text.tokens import TokenFile, prepare
from tests.training_kit import TEXTS, random_texts, token_file, tokenizer, write_rows


def documents(data):
    ends = zip(data.offsets[:-1], data.offsets[1:], strict=True)
    return [data.tokens[start:end].tolist() for start, end in ends]


def test_files_hold_the_documents(tmp_path):
    data = token_file(tmp_path)
    expected = [[BOS_ID, *tokenizer().encode(text), EOS_ID] for text in TEXTS]
    assert documents(data) == expected
    assert len(data) == len(TEXTS)
    on_disk = np.fromfile(tmp_path / "tokens" / "tokens.bin", "<u2")
    assert on_disk.tolist() == sum(expected, [])
    targets = np.fromfile(tmp_path / "tokens" / "targets.bin", "u1")
    assert targets.tolist() == sum(([0] + [1] * (len(d) - 1) for d in expected), [])
    manifest = data.manifest
    assert manifest["documents"] == len(TEXTS)
    assert manifest["tokens"] == len(on_disk)
    assert manifest["targets"] == len(on_disk) - len(TEXTS)
    assert isinstance(data.tokens, np.memmap)


def test_begin_and_end_come_exactly_once(tmp_path):
    """Also where a text spells them out, as published data sets do."""
    texts = ["<|im_start|>A cat.<|im_end|>", "<|endoftext|>", "<|im_end|><|im_end|>"]
    data = token_file(tmp_path, texts)
    for ids, text in zip(documents(data), texts, strict=True):
        assert ids[0] == BOS_ID and ids[-1] == EOS_ID
        assert not {0, BOS_ID, EOS_ID} & set(ids[1:-1])
        assert tokenizer().decode(ids[1:-1]) == text


def test_large_vocabularies_take_four_bytes(tmp_path):
    huge = SimpleNamespace(
        vocab_size=70_000, hash="h", encode_document=lambda text: [1, 69_999, 2]
    )
    source = write_rows(tmp_path / "a.jsonl", [{"text": "a"}])
    prepare([source], tmp_path / "out", huge)
    assert TokenFile(tmp_path / "out", huge).tokens.tolist() == [1, 69_999, 2]


def test_conversations(tmp_path):
    def chat(question, answer):
        turns = [("user", question), ("assistant", answer)]
        return [{"role": role, "content": content} for role, content in turns]

    chats = [chat("the cat?", "sees a ball."), chat("?", "a " * 200)]
    rows = [{"conversations": c, "text": "not this"} for c in chats]
    source = write_rows(tmp_path / "chat.jsonl", rows)
    manifest = prepare([source], tmp_path / "out", tokenizer(), "sft", max_length=100)
    data = TokenFile(tmp_path / "out", tokenizer())
    ids, labels = encode_chat(tokenizer(), chats[0])
    assert documents(data) == [ids]
    assert data.targets.tolist() == [int(label != -100) for label in labels]
    assert 0 < data.targets.sum() < len(ids)
    assert manifest["no_target"] == 1 and manifest["targets"] == data.targets.sum()


def test_a_row_of_text_is_text_whatever_else_it_holds(tmp_path):
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    source = write_rows(
        tmp_path / "a.jsonl", [{"text": "The cat.", "conversations": chat}]
    )
    prepare([source], tmp_path / "out", tokenizer())
    data = TokenFile(tmp_path / "out", tokenizer())
    assert documents(data) == [tokenizer().encode_document("The cat.")]


def test_bad_rows_stop_or_are_counted(tmp_path):
    source = write_rows(tmp_path / "a.jsonl", [{"text": "a"}, {}, {"text": ""}])
    with pytest.raises(UserError, match="line 2"):
        prepare([source], tmp_path / "out", tokenizer())
    assert not (tmp_path / "out").exists()
    manifest = prepare([source], tmp_path / "out", tokenizer(), skip_bad=True)
    assert (manifest["bad"], manifest["documents"]) == (2, 1)


def test_a_failed_second_time_keeps_the_first(tmp_path):
    good = write_rows(tmp_path / "good.jsonl", [{"text": "a"}])
    bad = write_rows(tmp_path / "bad.jsonl", [{"text": "b"}, {}])
    prepare([good], tmp_path / "out", tokenizer())
    with pytest.raises(UserError):
        prepare([bad], tmp_path / "out", tokenizer())
    assert documents(TokenFile(tmp_path / "out", tokenizer())) == [
        tokenizer().encode_document("a")
    ]
    prepare([bad], tmp_path / "out", tokenizer(), skip_bad=True)
    assert documents(TokenFile(tmp_path / "out", tokenizer())) == [
        tokenizer().encode_document("b")
    ]


def test_nothing_to_train_on(tmp_path):
    empty = write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError, match="no usable row"):
        prepare([empty], tmp_path / "out", tokenizer())
    assert [path.name for path in tmp_path.iterdir()] == ["empty.jsonl"]


def test_several_files_are_one_corpus(tmp_path):
    paths = [
        write_rows(tmp_path / f"{i}.jsonl", [{"text": text}])
        for i, text in enumerate(TEXTS[:3])
    ]
    prepare(paths, tmp_path / "out", tokenizer())
    data = TokenFile(tmp_path / "out", tokenizer())
    assert documents(data) == [tokenizer().encode_document(t) for t in TEXTS[:3]]


def test_another_tokenizer_is_refused(tmp_path):
    token_file(tmp_path)
    other = train_tokenizer(random_texts(60, seed=9), 290)
    with pytest.raises(UserError, match="prepare the data again") as caught:
        TokenFile(tmp_path / "tokens", other)
    assert other.hash in str(caught.value) and tokenizer().hash in str(caught.value)


def test_missing_directory(tmp_path):
    with pytest.raises(UserError, match="minimind data prepare"):
        TokenFile(tmp_path / "none", tokenizer())


@pytest.mark.parametrize("name", ["tokens.bin", "targets.bin", "offsets.bin"])
@pytest.mark.parametrize("left", [-1, 0, None])
def test_incomplete_files_are_refused(tmp_path, name, left):
    token_file(tmp_path)
    path = tmp_path / "tokens" / name
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match=name):
        TokenFile(tmp_path / "tokens", tokenizer())


def test_the_hash_tells_corpora_apart(tmp_path, monkeypatch):
    """By their ids, and by which of them are learned."""
    source = write_rows(tmp_path / "a.jsonl", [{"text": "a"}])

    def sha(ids, labels):
        monkeypatch.setattr(
            "minimind.text.tokens.encode_row", lambda *given: (ids, labels)
        )
        return prepare([source], tmp_path / "out", tokenizer())["sha256"]

    first = sha([1, 5, 2], [-100, 5, 2])
    assert first == sha([1, 5, 2], [-100, 5, 2])
    assert first != sha([1, 6, 2], [-100, 6, 2])
    assert first != sha([1, 5, 2], [-100, -100, 2])
