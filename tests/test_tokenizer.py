"""The tokenizer against independent references: Unicode, a plain BPE, transformers."""

import json
import random
import re
import tracemalloc
from collections import Counter

import pytest
from tokenizers import pre_tokenizers

from minimind.errors import UserError
from minimind.text.tokenizer import (
    BOS_ID,
    BYTE_TO_CHAR,
    CONTROL_TOKENS,
    EOS_ID,
    PAD_ID,
    TAG_TOKENS,
    Tokenizer,
    train_tokenizer,
)

TEXT = """The quick brown fox jumps over the lazy dog, and the dog sleeps on.
In 1984 the fox was 7; by 2024 the dogs were 40. Then the others came: 3 + 4 = 7.
那只狐狸跳过了那只懒狗。狐狸很快，狗很懒。两只狗在睡觉，三只狐狸在跳。
naïve café, Straße; здравствуй, мир. \U0001f98a\U0001f415 "quoted" (or not)?
"""
FIRST_MERGE = 256 + len(CONTROL_TOKENS) + len(TAG_TOKENS)
HARD = [
    "",
    " ",
    "\n\n  \t x",
    "don't we'll I'M do n't , well . it 's ?",
    "a  b   c",
    "1,234.50 \uff11\uff12 \u0663\u0664 x\u00b2",
    "\r\n\x00\x7f\x1b[0m",
    "e\u0301 \u00e9 \u200d\ufeff\u2028",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e8\U0001f1f3",
    "\ufdd0\uffff\U0010ffff",
    "\u732b\u3000\u732b\uff1f\u300c\u732b\u300d",
    "<think>so</think><answer>7</answer> < think >",
    "if x:\n    return {'a': 1}  # no",
    "a" * 3000,
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT] * 3, 600)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return directory


def any_text(rng):
    """Code points of every plane, surrogates left out, of mixed density."""
    spans = [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF)]
    spans += [(plane << 16, (plane << 16) + 0xFFFF) for plane in range(1, 17)]
    chosen = rng.sample(spans, 3)
    length = rng.randint(0, 40)
    return "".join(chr(rng.randint(*rng.choice(chosen))) for _ in range(length))


def test_any_unicode_text_comes_back(tokenizer):
    rng = random.Random(1)
    for text in [*HARD, *(any_text(rng) for _ in range(1000))]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert min(ids, default=EOS_ID + 1) > EOS_ID


def test_any_bytes_come_back(tokenizer):
    rng = random.Random(2)
    whole = "\U0001f98a\u732b\u00e9x".encode()
    cases = [half for n in range(len(whole)) for half in (whole[:n], whole[n:])]
    cases += [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xff" * 50]
    cases += [rng.randbytes(rng.randint(0, 60)) for _ in range(500)]
    for data in cases:
        ids = tokenizer.encode_bytes(data)
        assert tokenizer.decode_bytes(ids) == data
        assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


def test_bytes_that_are_text_are_encoded_as_text(tokenizer):
    for text in HARD:
        assert tokenizer.encode_bytes(text.encode()) == tokenizer.encode(text)


def test_lone_surrogates_are_three_bytes(tokenizer):
    text = json.loads('"fox \\ud83e end \\udd8a"')
    data = tokenizer.decode_bytes(tokenizer.encode(text))
    assert data == b"fox \xed\xa0\xbe end \xed\xb6\x8a"
    assert data.decode("utf-8", "surrogatepass") == text


def test_the_classic_example():
    """Wikipedia's: ZdZac with Z=aaab; three merges, then no pair occurs twice."""
    tokenizer = train_tokenizer(["aaabdaaabac"], 6400)
    assert tokenizer.vocab_size == FIRST_MERGE + 3
    merged = [tokenizer.token_bytes(FIRST_MERGE + i) for i in range(3)]
    assert merged == [b"aa", b"ab", b"aaab"]
    pieces = [tokenizer.token_bytes(i) for i in tokenizer.encode("aaabdaaabac")]
    assert pieces == [b"aaab", b"d", b"aaab", b"a", b"c"]


def reference_merges(text, n):
    """A BPE on whole numbers: the 256 bytes first, ranked by their stand-ins.

    Words are cut by a pattern of our own: one space belongs to the word or the
    marks after it, a digit stands alone.
    """
    words = Counter(re.findall(r" ?[^\W\d_]+|\d| ?[^\w\s]+|\s+(?!\S)|\s+", text))
    rank = {ord(char): i for i, char in enumerate(sorted(BYTE_TO_CHAR.values()))}
    rows = {w: [rank[ord(BYTE_TO_CHAR[b])] for b in w.encode()] for w in words}
    merges = []
    for new in range(256, 256 + n):
        counts = Counter()
        for word, row in rows.items():
            for i in range(len(row) - 1):
                counts[row[i], row[i + 1]] += words[word]
        most = max(counts.values())
        pair = min(pair for pair, count in counts.items() if count == most)
        merges.append(pair)
        for row in rows.values():
            i = 0
            while i < len(row) - 1:
                if (row[i], row[i + 1]) == pair:
                    row[i : i + 2] = [new]
                i += 1
    byte = {i: char for i, char in enumerate(sorted(BYTE_TO_CHAR.values()))}
    for i, (a, b) in enumerate(merges):
        byte[256 + i] = byte[a] + byte[b]
    return [(byte[a], byte[b]) for a, b in merges]


def test_merges_are_those_of_a_plain_bpe(tokenizer):
    n = tokenizer.vocab_size - FIRST_MERGE
    model = json.loads(tokenizer.backend.to_str())["model"]
    assert n > 100
    assert [tuple(pair) for pair in model["merges"]] == reference_merges(TEXT * 3, n)


def test_pairs_that_occur_once_are_not_merged():
    assert train_tokenizer(["one two"], 6400).vocab_size == FIRST_MERGE
    assert train_tokenizer([], 300).vocab_size == FIRST_MERGE


def test_byte_alphabet():
    assert set(BYTE_TO_CHAR.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    known = {" ": "Ġ", "\n": "Ċ", "\t": "ĉ", "a": "a", "\x00": "Ā", "\x7f": "ġ"}
    assert {char: BYTE_TO_CHAR[ord(char)] for char in known} == known
    assert BYTE_TO_CHAR[0xAD] == "Ń"  # the soft hyphen, which does not print


def test_every_digit_is_a_token(tokenizer):
    assert len(tokenizer.encode("1984202419842024")) == 16
    for i in range(FIRST_MERGE, tokenizer.vocab_size):
        assert not re.search(rb"\d", tokenizer.token_bytes(i))


def test_special_ids_are_fixed(tokenizer):
    names = [tokenizer.token_bytes(i).decode() for i in range(11)]
    assert names == [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
    ]
    assert (PAD_ID, BOS_ID, EOS_ID) == (0, 1, 2)


def test_tags_in_a_text_are_single_ids(tokenizer):
    fox = tokenizer.encode("fox")
    assert len(set(map(tuple, map(tokenizer.encode, TAG_TOKENS)))) == len(TAG_TOKENS)
    for tag in TAG_TOKENS:
        (tag_id,) = tokenizer.encode(tag)
        assert tokenizer.encode(f"fox{tag}fox") == [*fox, tag_id, *fox]


def test_control_tokens_in_a_text_stay_text(tokenizer):
    for token in CONTROL_TOKENS:
        text = f"a {token}{token} b"
        assert min(tokenizer.encode(text)) > EOS_ID
        assert tokenizer.decode(tokenizer.encode(text), skip_control=True) == text


def test_a_document_has_one_bos_and_one_eos(tokenizer):
    for text in ("", "fox", "<|im_start|>fox<|im_end|>", "<|endoftext|>" * 2):
        ids = tokenizer.encode_document(text)
        assert (ids[0], ids[-1]) == (BOS_ID, EOS_ID)
        assert ids[1:-1] == tokenizer.encode(text)
        assert [ids.count(i) for i in (PAD_ID, BOS_ID, EOS_ID)] == [0, 1, 1]


def test_decode_can_leave_out_control_tokens_only(tokenizer):
    (think,) = tokenizer.encode("<think>")
    ids = [BOS_ID, think, *tokenizer.encode("fox"), EOS_ID, PAD_ID]
    assert tokenizer.decode(ids) == "<|im_start|><think>fox<|im_end|><|endoftext|>"
    assert tokenizer.decode(ids, skip_control=True) == "<think>fox"


def test_an_id_outside_the_vocabulary(tokenizer):
    with pytest.raises(ValueError, match=f"outside 0..{tokenizer.vocab_size - 1}"):
        tokenizer.decode([tokenizer.vocab_size])


def test_a_vocabulary_needs_room_for_bytes_and_specials():
    with pytest.raises(ValueError, match=str(FIRST_MERGE)):
        train_tokenizer([TEXT], FIRST_MERGE - 1)


def test_training_is_deterministic_and_the_hash_tells_rules_apart(tokenizer):
    assert train_tokenizer([TEXT] * 3, 600).hash == tokenizer.hash
    assert train_tokenizer([TEXT] * 3, 400).hash != tokenizer.hash
    assert re.fullmatch(r"[0-9a-f]{16}", tokenizer.hash)


def test_training_reads_a_stream_without_keeping_it():
    def stream():
        for i in range(2000):
            yield f"{i} {TEXT}" * 4  # about 4 MB in all

    tracemalloc.start()
    train_tokenizer(stream(), 300)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_training_takes_text_with_lone_surrogates():
    tokenizer = train_tokenizer(["fox \ud83e fox"] * 3, 300)
    assert len(tokenizer.encode("fox")) == 1


def test_save_and_load(tokenizer, saved):
    again = Tokenizer.load(saved)
    assert again.hash == tokenizer.hash
    assert again.chat_template == tokenizer.chat_template
    for text in [*HARD, *CONTROL_TOKENS, TEXT]:
        assert again.encode(text) == tokenizer.encode(text)


def test_the_template_is_found_where_transformers_5_saves_it(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("猫", encoding="utf-8")
    assert Tokenizer.load(tmp_path).chat_template == "猫"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "tokenizer.json: no such file; train a tokenizer"),
        ("tokenizer.json", "{}", "tokenizer.json: not a tokenizer file"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: not JSON"),
    ],
)
def test_missing_and_damaged_files(tokenizer, tmp_path, name, content, message):
    tokenizer.save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)) as error:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_tokenizer_with_other_special_ids_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    swapped = path.read_text(encoding="utf-8").replace("<|im_end|>", "</s>")
    path.write_text(swapped, encoding="utf-8")
    with pytest.raises(UserError, match="id 2 is '</s>', not '<|im_end|>'"):
        Tokenizer.load(tmp_path)


def test_transformers_reads_the_directory_and_gives_the_same_ids(tokenizer, saved):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(saved)
    assert isinstance(theirs, transformers.PreTrainedTokenizerFast)
    assert len(theirs) == tokenizer.vocab_size
    ids = [theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id]
    assert ids == [PAD_ID, BOS_ID, EOS_ID]
    rng = random.Random(3)
    for text in [*HARD, TEXT, *(any_text(rng) for _ in range(200))]:
        ids = tokenizer.encode(text)
        assert theirs.encode(text) == ids
        assert theirs.decode(ids) == text
    assert theirs.clean_up_tokenization_spaces is False  # transformers 4 obeys it
    ids = [BOS_ID, *tokenizer.encode("<think>fox</think>"), EOS_ID]
    for skip in (False, True):
        shown = theirs.decode(ids, skip_special_tokens=skip)
        assert shown == tokenizer.decode(ids, skip_control=skip)


def test_the_class_is_named_whatever_the_model_beside_it(tokenizer, tmp_path):
    """Without a class, transformers takes the model's own one, with its splits."""
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    for model_type in ("llama", "qwen2_moe", "qwen3"):
        config = json.dumps({"model_type": model_type})
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        for text in HARD:
            assert theirs.encode(text) == tokenizer.encode(text)


def test_a_smaller_vocabulary_is_the_beginning_of_a_larger_one(tokenizer):
    """Merges do not depend on how many follow: chapter 01 cuts on that account."""
    smaller = train_tokenizer([TEXT] * 3, 400)
    for i in range(400):
        assert smaller.token_bytes(i) == tokenizer.token_bytes(i)
    merges = [
        json.loads(t.backend.to_str())["model"]["merges"] for t in (smaller, tokenizer)
    ]
    assert merges[0] == merges[1][: 400 - FIRST_MERGE]
