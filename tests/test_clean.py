"""Cleaning: a deliberately dirty set, and what each rule must and must not remove."""

import json
import random
import sys

import numpy as np
import pytest

from minimind.cli import main
from minimind.errors import UserError
from minimind.text import clean as cleaning
from minimind.text.clean import clean
from minimind.text.duplicates import (
    band_digests,
    choose_bands,
    first_alike,
    similarity,
    units,
)
from minimind.text.rules import CHINESE, SIGN, CleanConfig, share
from tests.training_kit import write_rows

WORDS = [a + b for a in "bdfgklmnprst" for b in ("ala", "ero", "ini", "omu", "ulo")]
EXAM = "Which of these four rivers is the longest one in all of the northern lands?"


def sentence(seed, count=40):
    rng = random.Random(seed)
    return " ".join(rng.choices(WORDS, k=count)) + "."


def changed(text, at=20):
    """The text with one of its words replaced: 37 of 43 runs of three stay."""
    words = text.split()
    return " ".join([*words[:at], "another", *words[at + 1 :]])


GOOD = [sentence(seed) for seed in range(30)] + [
    "猫坐在垫子上，看着窗外的鸟。",
    "3 + 4 = 7",
]
DIRT = {  # rule: the texts that it has to remove
    "length": [sentence(100, 200)],
    "signs": ["=====****!!!! a", "@@##$$%% ^^&&**(( hello"],
    "overlap": [f"I know this! {EXAM} The Lena.", EXAM.upper()],
    "equal": [GOOD[3], f"  {GOOD[4].replace(' ', '  ')}"],
    "near": [changed(GOOD[5]), changed(GOOD[6], 0), GOOD[7].upper() + "!"],
}
CONFIG = CleanConfig(max_chars=512)


def as_text(text):
    return {"text": text}


def as_chat(text):
    return {
        "conversations": [
            {"role": "user", "content": "Tell."},
            {"role": "assistant", "content": text},
        ]
    }


def as_preference(text):
    chosen = as_chat(text)["conversations"]
    return {"chosen": chosen, "rejected": [*chosen[:1], {**chosen[1], "content": "No"}]}


KINDS = {"text": as_text, "chat": as_chat, "preference": as_preference}


@pytest.fixture(params=KINDS)
def row_of(request):
    return KINDS[request.param]


@pytest.fixture
def exam(tmp_path):
    path = tmp_path / "exam.csv"
    path.write_text(f'"{EXAM}",Lena,Ob,Amur,Yenisei,A\nShort?,a,b,c,d,A\n', "utf-8")
    return path


def dirty_set(path, row_of=as_text):
    texts = GOOD + [text for dirt in DIRT.values() for text in dirt]
    return write_rows(path, [row_of(text) for text in texts])


def kept(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_rule_removes_its_own(tmp_path, row_of, exam):
    source = dirty_set(tmp_path / "dirty.jsonl", row_of)
    report = clean([source], tmp_path / "out.jsonl", CONFIG, [exam])
    assert kept(tmp_path / "out.jsonl") == [row_of(text) for text in GOOD]
    removed = {rule: count for rule, count in report.removed.items() if count}
    assert removed == {rule: len(texts) for rule, texts in DIRT.items()}
    assert (report.rows, report.kept) == (
        len(GOOD) + sum(map(len, DIRT.values())),
        len(GOOD),
    )
    assert report.unchecked == 1  # the short question
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("dirty.jsonl", "exam.csv", "out.jsonl"),
    ]


def test_samples_say_where_why_and_what(tmp_path, exam):
    source = dirty_set(tmp_path / "dirty.jsonl")
    report = clean([source], tmp_path / "out.jsonl", CONFIG, [exam])
    (long,) = report.samples["length"]
    assert long.startswith("dirty.jsonl, line 33: 1,0") and "characters" in long
    assert "% signs: =====" in report.samples["signs"][0]
    assert "in an evaluation set: 'which of" in report.samples["overlap"][0]
    equal = report.samples["equal"][0]
    assert f"line 38: 100% of dirty.jsonl, line 4: {GOOD[3][:20]}" in equal
    assert "line 40: 86% of dirty.jsonl, line 6" in report.samples["near"][0]


def test_without_a_rule_its_rows_stay(tmp_path, exam):
    source = dirty_set(tmp_path / "dirty.jsonl")
    out = tmp_path / "out.jsonl"
    cases = {
        "length": CleanConfig(),
        "signs": CleanConfig(max_chars=512, max_signs=1),
        "near": CleanConfig(max_chars=512, near=None),
    }
    for rule, config in cases.items():
        report = clean([source], out, config, [exam])
        assert report.removed[rule] == 0
        assert {"text": DIRT[rule][0]} in kept(out)
    assert clean([source], out, CONFIG).removed["overlap"] == 0


def test_share_of_chinese(tmp_path):
    texts = ["猫在睡觉。", "猫 cat cat", "A cat."]
    source = write_rows(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    for least, stay in ((0, 3), (0.1, 2), (0.5, 1), (0.8, 1), (0.9, 0)):
        config = CleanConfig(min_chinese=least)
        assert clean([source], tmp_path / "out.jsonl", config).kept == stay


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (CHINESE, "猫 cat", 1 / 4),
        (CHINESE, "", 0),
        (SIGN, "a,  b.", 2 / 4),
        (SIGN, "snake_case", 1 / 10),
        (SIGN, "猫，狗。", 2 / 4),
        (SIGN, "éß7", 0),
    ],
)
def test_shares_by_hand(pattern, text, expected):
    assert share(pattern, text) == expected


def test_length_is_that_of_the_longer_answer(tmp_path):
    row = as_preference("x" * 50)  # "Tell." and a newline come before each answer
    source = write_rows(tmp_path / "a.jsonl", [row])
    for limit, stay in ((56, 1), (55, 0)):
        config = CleanConfig(max_chars=limit)
        assert clean([source], tmp_path / "out.jsonl", config).kept == stay


def test_lines_stay_as_they_are(tmp_path):
    lines = ['{"id": 7,  "text": "\\u732b one"}', '{"text": "two", "more": [1]}']
    source = tmp_path / "a.jsonl"
    source.write_bytes("\r\n\n".join(lines).encode())
    clean([source], tmp_path / "out.jsonl", CleanConfig())
    assert (tmp_path / "out.jsonl").read_text("utf-8").splitlines() == lines


def test_several_processes_and_parts_write_the_same(tmp_path, exam, monkeypatch):
    source = dirty_set(tmp_path / "dirty.jsonl")
    other = dirty_set(tmp_path / "other.jsonl")
    given = ([source, other], tmp_path / "out.jsonl", CONFIG, [exam])
    expected = clean(*given), kept(tmp_path / "out.jsonl")
    assert expected[0].removed["equal"] == len(GOOD) + 2 * len(DIRT["equal"]) + 3
    monkeypatch.setattr(cleaning, "PART_SIZE", 500)
    for workers in (1, 2):
        assert (
            clean(*given, workers=workers),
            kept(tmp_path / "out.jsonl"),
        ) == expected


def jaccard(one, other):
    """Written apart from the package, for texts of plain words."""
    sets = [
        {tuple(w[i : i + 3]) for i in range(len(w) - 2)}
        for w in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_similarity_is_jaccards():
    text = " ".join(random.Random(1).choices(WORDS, k=60))
    for at in (0, 1, 30, 59):
        assert similarity(text, changed(text, at)) == jaccard(text, changed(text, at))
    assert similarity("a b", "a b") == 1 and similarity("a b", "c") == 0
    assert similarity("", "") == 1


def test_units():
    assert units("A cat_1 's 猫咪!") == ["a", "cat_1", "'", "s", "猫", "咪", "!"]


def test_similar_texts_share_a_band_and_others_do_not():
    bands = choose_bands(0.8)
    near = far = 0
    for seed in range(100):
        text = sentence(seed, 80)
        numbers = set(band_digests(text, bands))
        near += bool(numbers & set(band_digests(changed(text, 40), bands)))
        far += bool(numbers & set(band_digests(sentence(seed + 500, 80), bands)))
    assert near >= 98 and far == 0


def test_first_alike():
    values = np.array([5, 3, 5, 3, 9, 5], np.uint64)
    assert first_alike(values).tolist() == [0, 1, 0, 1, 4, 0]


def test_a_threshold_of_one_wants_the_same_runs(tmp_path):
    texts = [GOOD[0], changed(GOOD[0]), GOOD[0].upper()]
    source = write_rows(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    config = CleanConfig(near=1.0)
    assert clean([source], tmp_path / "out.jsonl", config).removed["near"] == 1


def test_evaluation_sets_of_any_form(tmp_path):
    nested = tmp_path / "exam.jsonl"
    nested.write_text(json.dumps({"q": {"text": [EXAM]}, "n": 3}) + "\n", "utf-8")
    source = dirty_set(tmp_path / "dirty.jsonl")
    report = clean([source], tmp_path / "out.jsonl", CONFIG, [nested])
    assert report.removed["overlap"] == len(DIRT["overlap"])


@pytest.mark.parametrize("name", ["none.csv", "none.jsonl"])
def test_a_missing_evaluation_set(tmp_path, name):
    source = dirty_set(tmp_path / "dirty.jsonl")
    with pytest.raises(UserError, match=f"{name}: no such file"):
        clean([source], tmp_path / "out.jsonl", CONFIG, [tmp_path / name])


def test_bad_rows_stop_or_are_a_rule(tmp_path):
    source = dirty_set(tmp_path / "dirty.jsonl")
    with source.open("a", encoding="utf-8") as file:
        file.write('{"txt": 1}\n{\n')
    out = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match="dirty.jsonl, line 43: the field 'text'"):
        clean([source], out, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["dirty.jsonl"]
    report = clean([source], out, CONFIG, skip_bad=True)
    assert report.removed["bad"] == 2
    assert "line 44: not JSON" in report.samples["bad"][1]


def test_a_stop_leaves_the_earlier_result(tmp_path, monkeypatch):
    source = dirty_set(tmp_path / "dirty.jsonl")
    out = tmp_path / "out.jsonl"
    out.write_text("before")

    def stop(self, path, unchecked):
        path.write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cleaning.Cleaner, "write", stop)
        clean([source], out, CONFIG)
    assert out.read_text() == "before"
    clean([source], out, CONFIG)
    assert len(kept(out)) == len(GOOD) + 2  # without the exam, its rows stay


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--max-signs", "3"], "--max-signs 3.0: give a share from 0 to 1"),
        (["--min-chinese", "-1"], "--min-chinese -1.0: give a share"),
        (["--near", "1.5"], "--near 1.5: give a share"),
        (["--max-chars", "0"], "--max-chars 0: give 1 or more"),
        (["--overlap", "0"], "--overlap 0: give 1 or more"),
        (["--workers", "0"], "--workers 0: give 1 or more"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, options, line):
    source = str(dirty_set(tmp_path / "dirty.jsonl"))
    command = ["data", "clean", "--data", source, "--out", str(tmp_path / "o.jsonl")]
    assert main([*command, *options]) == 2
    assert f"error: {line}" in capsys.readouterr().err


def test_no_row_and_no_other_file(tmp_path):
    empty = write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError, match="empty.jsonl: no row"):
        clean([empty], tmp_path / "out.jsonl", CONFIG)
    with pytest.raises(UserError, match="is also read"):
        clean([empty], empty, CONFIG)
    with pytest.raises(UserError, match="none.jsonl: no such file"):
        clean([tmp_path / "none.jsonl"], tmp_path / "out.jsonl", CONFIG)


def test_without_datasketch_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    source = dirty_set(tmp_path / "dirty.jsonl")
    with pytest.raises(UserError, match=r"build-minimind\[data\].*--near None"):
        clean([source], tmp_path / "out.jsonl", CONFIG)
    config = CleanConfig(max_chars=512, near=None)
    assert clean([source], tmp_path / "out.jsonl", config).removed["near"] == 0


def test_the_command_prints_what_each_rule_removed(tmp_path, capsys, exam):
    source = str(dirty_set(tmp_path / "dirty.jsonl"))
    command = ["data", "clean", "--data", source, "--out", str(tmp_path / "o.jsonl")]
    options = ["--max-chars", "512", "--evaluation", str(exam)]
    assert main([*command, *options]) == 0
    printed = capsys.readouterr().out
    for rule, texts in DIRT.items():
        assert f"{rule:8} {len(texts):>10}" in printed
    assert f"{len(GOOD)} of 42 rows stay" in printed
    assert "1 rows of the evaluation sets are shorter than 13 words" in printed
