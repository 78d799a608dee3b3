"""The little world: same seed same bytes, everything true, held-out stays out."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from random import Random

import pytest

from minimind.errors import UserError
from minimind.text.world import (
    check_answer,
    check_chat,
    check_statement,
    check_story,
    check_text,
    pretrain_rows,
    questions,
    sft_rows,
    story_prompts,
    tables,
    write_world,
)
from minimind.text.world import talk_tables as talk
from minimind.text.world.__main__ import main
from minimind.text.world.facts import LANGS, fill
from minimind.text.world.phrases import cores, put
from minimind.text.world.relations import RELATIONS
from minimind.text.world.statements import state
from minimind.text.world.stories import tell_story
from minimind.text.world.story_check import FEWEST_SENTENCES
from minimind.text.world.story_text import colours, join, language_of, parse, split
from minimind.text.world.talk import invented, story_questions

ROWS = 3000


@pytest.fixture(scope="module")
def texts():
    return [row["text"] for row in pretrain_rows(0, ROWS)]


@pytest.fixture(scope="module")
def chats():
    return [row["conversations"] for row in sft_rows(0, ROWS)]


@pytest.fixture(scope="module")
def asked():
    return list(questions(0))


def stories(lang, n, seed="test"):
    rng = Random(f"{seed} {lang}")
    return [tell_story(rng, lang).text for _ in range(n)]


# --- files ------------------------------------------------------------------


TUNING = [
    f"{name}{part}.jsonl"
    for name in ("lora_identity", "lora_medical", "dpo", "reason")
    for part in ("", "_heldout")
]


def test_same_seed_same_bytes_in_a_fresh_process(tmp_path):
    digests = []
    for name, hash_seed in (("a", "1"), ("b", "2")):
        command = [sys.executable, "-m", "minimind.text.world", "--size", "200"]
        command += ["--seed", "7", "--out", str(tmp_path / name)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        )
        assert [line.split()[0] for line in done.stdout.splitlines()] == [
            "pretrain.jsonl",
            "sft.jsonl",
            "pretrain_heldout.jsonl",
            "questions.jsonl",
            "story_prompts.jsonl",
            *TUNING,
        ]
        digests.append(
            {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted((tmp_path / name).iterdir())
            }
        )
    assert digests[0] == digests[1]
    assert len(digests[0]) == 6 + len(TUNING)


def test_known_bytes():
    """The corpus of a seed is part of the interface: a change here is meant."""
    rows = [*pretrain_rows(0, 300), *sft_rows(0, 300)]
    text = json.dumps(rows, ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "12d9fe443b78d190"


def test_another_seed_is_another_corpus():
    assert list(pretrain_rows(0, 50)) != list(pretrain_rows(1, 50))
    assert list(sft_rows(0, 50)) != list(sft_rows(1, 50))


def test_streams_are_prefixes_of_longer_ones():
    assert list(pretrain_rows(3, 40)) == list(islice(pretrain_rows(3, 80), 40))
    assert list(sft_rows(3, 40)) == list(islice(sft_rows(3, 80), 40))


def test_files_and_formats(tmp_path):
    report = write_world(tmp_path, seed=1, size=400)
    rows = {}
    for name, figures in report.items():
        lines = (tmp_path / name).read_bytes().decode("utf-8").split("\n")
        assert lines.pop() == ""
        rows[name] = [json.loads(line) for line in lines]
        assert figures["rows"] == len(lines)
        assert figures["bytes"] == (tmp_path / name).stat().st_size
    assert len(rows["pretrain.jsonl"]) == 400 and len(rows["sft.jsonl"]) == 200
    trained = {row["text"] for row in rows["pretrain.jsonl"]}
    assert not trained & {row["text"] for row in rows["pretrain_heldout.jsonl"]}
    for row in rows["pretrain.jsonl"] + rows["pretrain_heldout.jsonl"]:
        assert list(row) == ["text"] and 6 <= len(row["text"]) <= 600
    for row in rows["sft.jsonl"]:
        roles = [turn["role"] for turn in row["conversations"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and 2 <= len(roles)
        assert all(turn["content"].strip() for turn in row["conversations"])
    for row in rows["questions.jsonl"]:
        assert {"question", "answer", "lang", "kind", "entity_heldout"} <= set(row)
    assert len(rows["story_prompts.jsonl"]) == 200
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "--seed 1 --size 400" in card and "| sft.jsonl | 200 |" in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "FILE"], "error: --out FILE: "),
        (["--out", "FILE/below"], "error: --out FILE/below: "),
        (["--out", "NEW", "--size", "0"], "error: --size 0: give 1 or more rows"),
    ],
)
def test_command_line_errors(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("not a folder", encoding="utf-8")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message.replace("/", os.sep)) and error.count("\n") == 1


def test_api_error(tmp_path):
    with pytest.raises(UserError):
        write_world(tmp_path, size=-1)


# --- tables -----------------------------------------------------------------


def test_tables_are_unambiguous():
    assert len(tables.COUNTRIES) >= 100
    for column in range(4):
        assert len({row[column] for row in tables.COUNTRIES}) == len(tables.COUNTRIES)
    for country in tables.COUNTRIES:
        assert country[0] != country[1] and country[2] != country[3]
    for columns in ((0, 1), (2, 3)):
        words = [row[c] for row in tables.OPPOSITES for c in columns]
        assert len(words) == len(set(words)) >= 60
    assert len(tables.COLOURED) >= 24 and len(tables.ANIMALS) >= 20
    for relation in RELATIONS.values():
        assert len(relation.facts["en"]) == len(relation.facts["zh"])
        for lang in LANGS:
            subjects = [x for x, _ in relation.facts[lang]]
            assert len(subjects) == len(set(subjects))
            held_out = relation.subjects(lang, held_out=True)
            trained = relation.subjects(lang, held_out=False)
            assert held_out and sorted(held_out + trained) == sorted(subjects)
    share = len(RELATIONS["capital"].subjects("en", held_out=True)) / 105
    assert 0.05 < share < 0.15


@pytest.mark.parametrize("lang", LANGS)
def test_phrasings_are_many(lang):
    for kind in RELATIONS:
        assert len(cores(kind, lang)) >= 80
        assert not set(cores(kind, lang)) & set(cores(kind, lang, held_out=True))
    assert len(cores("capital", lang)) >= 200
    places = Counter()
    for core in cores("capital", lang):
        before, after = core.split("{x}")
        after = after.strip("?？.。… 的")
        places["start" if not before else "middle" if after else "end"] += 1
    assert all(places[place] >= 7 for place in ("start", "middle", "end")), places


# --- everything said is true ------------------------------------------------


def test_pretraining_rows_are_true(texts):
    assert [problem for text in texts for problem in check_text(text)] == []
    kinds = Counter(
        "story" if parse(split(t, language_of(t))[0], language_of(t)) else "other"
        for t in texts
    )
    assert 0.5 < kinds["story"] / ROWS < 0.6
    assert 0.45 < sum(language_of(t) == "zh" for t in texts) / ROWS < 0.55


def test_sft_rows_are_right(chats):
    assert [problem for chat in chats for problem in check_chat(chat)] == []
    assert Counter(len(chat) // 2 for chat in chats).keys() == {1, 2, 3, 4, 5}


def test_a_story_comes_at_any_turn(chats):
    """Else a chat that began with other things could not tell one."""
    turns = Counter(
        turn
        for chat in chats
        for turn, told in enumerate(chat[1::2])
        if len(split(told["content"], language_of(told["content"]))) >= FEWEST_SENTENCES
    )
    assert set(turns) == {0, 1, 2, 3, 4}
    assert sum(turns.values()) - turns[0] > 0.02 * ROWS


def test_story_rows_are_unique(texts):
    told = [t for t in texts if parse(split(t, language_of(t))[0], language_of(t))]
    assert len(told) == len(set(told))


def test_answers_check(asked):
    assert all(check_answer(question, question.answer) for question in asked)
    for question, other in zip(asked, asked[1:]):
        if question.answer != other.answer:
            assert not check_answer(question, other.answer)
        assert not check_answer(question, question.answer + " ")
        assert not check_answer(question, question.answer[:-1])


@pytest.mark.parametrize("lang", LANGS)
def test_false_statements_are_found(lang):
    rng = Random(0)
    for relation in RELATIONS.values():
        facts = relation.facts[lang]
        for x, y in facts:
            wrong = next(z for _, z in facts if z != y)
            for form, template in enumerate(relation.statements[lang]):
                right = state(rng, relation, lang, x, form)
                assert check_statement(right, lang) is True
                assert check_statement(fill(template, x, wrong), lang) is False


def test_what_is_no_statement():
    assert check_statement("The capital of Zanovia is Paris.") is None
    assert check_statement("I like France.") is None
    assert check_statement("The capital of France is Zanovia.") is False
    assert check_statement("法国的首都是柏林。") is False
    assert check_statement("7+5=13") is False
    assert check_statement("Tom has 7 and gets 5 more: 7+5=13.") is False
    assert check_statement("Grass is white, and snow is white too.") is False
    assert check_statement("Tom is in Rome, the capital of France.") is False


def test_wrong_replies_in_chats_are_found(chats):
    found = tried = 0
    for chat, other in zip(chats, chats[1:]):
        mixed = [chat[0], other[1]]
        if chat[1] != other[1]:
            tried += 1
            found += bool(check_chat(mixed))
    assert found / tried > 0.98, (found, tried)


# --- held out ---------------------------------------------------------------


def test_questions_are_balanced(asked):
    for lang in LANGS:
        here = [q for q in asked if q.lang == lang]
        assert 300 <= len(here) <= 500
        subjects = {q.subject for q in here if q.kind == "capital"}
        assert subjects == {x for x, _ in RELATIONS["capital"].facts[lang]}
        assert {q.kind for q in here} == {*RELATIONS, "invented", "unknown", "talk"}
        share = sum(q.entity_heldout for q in here) / len(here)
        assert 0.05 < share < 0.2


def test_no_held_out_phrasing_in_training(chats, texts):
    """Neither whole held-out questions nor their cores occur in any training row."""
    said = " \n ".join(t["content"] for chat in chats for t in chat).lower()
    said += "\n".join(texts).lower()
    for question in questions(0):
        assert question.text.lower() not in said
    for lang in LANGS:
        for kind in RELATIONS:
            gap = "\0"
            trained = {
                put(core.replace("{ax}", "{x}"), f"{gap}+{gap}", lang).lower()
                for core in cores(kind, lang)
            }
            for core in cores(kind, lang, held_out=True):
                held = put(core.replace("{ax}", "{x}"), f"{gap}+{gap}", lang).lower()
                assert not any(held.rstrip("?.？。") in text for text in trained), core


def test_words_of_held_out_questions_are_trained():
    rows = [t["content"] for row in sft_rows(0, 12000) for t in row["conversations"]]
    rows += [row["text"] for row in pretrain_rows(0, 4000)]
    seen = set(re.findall(r"[a-z']+|[\u4e00-\u9fff]|\d", " ".join(rows).lower()))
    for question in questions(0):
        if question.kind == "invented":
            continue
        text = question.text.lower().replace("'s", " ")
        words = re.findall(r"[a-z']+|[\u4e00-\u9fff]|\d", text)
        assert set(words) <= seen, (question.text, set(words) - seen)


def test_held_out_entities_are_never_asked_about(chats):
    for lang in LANGS:
        held_out = {
            word
            for x in RELATIONS["capital"].subjects(lang, held_out=True)
            for word in (x, RELATIONS["capital"].values[lang][x])
        }
        for chat in chats:
            for turn in chat:
                if language_of(chat[-1]["content"]) == lang:
                    named = [x for x in held_out if _names(x, turn["content"], lang)]
                    assert not named, turn


def _names(entity, text, lang):
    if lang == "zh":
        return entity in text
    return bool(re.search(rf"\b{re.escape(entity)}\b", text))


@pytest.mark.parametrize("lang", LANGS)
def test_held_out_subjects_of_other_tables_are_never_asked(lang, chats):
    for name, relation in RELATIONS.items():
        if name == "capital":
            continue
        for x in relation.subjects(lang, held_out=True):
            answer = relation.answer(lang, x)
            for chat in chats:
                replies = [t["content"] for t in chat[1::2]]
                if name == "sum":
                    assert answer not in replies
                elif language_of(answer) == language_of(replies[0]):
                    assert answer not in replies


def test_held_out_entities_are_stated_in_pretraining():
    rows = " ".join(row["text"] for row in pretrain_rows(0, 8000))
    for lang in LANGS:
        for name, relation in RELATIONS.items():
            for x in relation.subjects(lang, held_out=True):
                assert relation.answer(lang, x) in rows, (name, x)


def test_countries_come_equally_often():
    counts = Counter()
    for row in pretrain_rows(0, 12000):
        for x, _ in RELATIONS["capital"].facts["zh"]:
            counts[x] += row["text"].count(x)
    assert min(counts.values()) >= 50
    assert max(counts.values()) <= 3 * min(counts.values()), counts.most_common()


@pytest.mark.parametrize("lang", LANGS)
def test_invented_countries(lang):
    rng = Random(0)
    trained = {invented(rng, lang) for _ in range(2000)}
    held_out = {invented(rng, lang, held_out=True) for _ in range(500)}
    assert len(trained) > 200 and len(held_out) > 40 and not trained & held_out
    assert not (trained | held_out) & {w for row in tables.COUNTRIES for w in row}
    assert not set(talk.OUTSIDE[lang].train) & set(talk.OUTSIDE[lang].held_out)


def test_story_prompts_are_balanced():
    prompts = list(story_prompts(0, 200))
    assert Counter(p["lang"] for p in prompts) == {"en": 100, "zh": 100}
    assert len({p["prompt"] for p in prompts}) > 120


# --- the rule of the stories ------------------------------------------------


@pytest.mark.parametrize("lang", LANGS)
def test_stories_are_consistent_and_varied(lang):
    told = stories(lang, 1500)
    assert [problem for text in told for problem in check_story(text)] == []
    assert len(set(told)) > 1450
    kinds = Counter(parse(s, lang).kind for text in told for s in split(text, lang))
    assert len(kinds) >= 35 and min(kinds.values()) >= 15
    assert {5 <= len(split(text, lang)) <= 10 for text in told} == {True}


def mutants(lang, n):
    """(what was done to which kind of sentence, the story before, after)."""
    rng = Random(f"mutants {lang}")
    for text in stories(lang, n, "mutants"):
        told = split(text, lang)
        for i, sentence in enumerate(told):
            event = parse(sentence, lang)

            def put_in(*new, i=i, told=told):
                return join([*told[:i], *new, *told[i + 1 :]], lang)

            yield f"drop {event.kind}", text, put_in()
            for name in {event.n, event.m} & set(tables.NAMES[lang]):
                other = rng.choice([n for n in tables.NAMES[lang] if n != name])
                yield f"name {event.kind}", text, put_in(sentence.replace(name, other))
            if event.colour:
                other = rng.choice([c for c in colours(lang) if c != event.colour])
                changed = put_in(sentence.replace(event.colour, other))
                mentions = len(re.findall(event.colour, text))
                yield f"colour {'again' if mentions > 1 else 'once'}", text, changed
            if i + 1 < len(told):
                after = parse(told[i + 1], lang)
                changed = join([*told[:i], told[i + 1], sentence, *told[i + 2 :]], lang)
                yield f"reverse {event.kind} {after.kind}", text, changed


ALWAYS_FOUND = (
    "drop at", "drop at2", "drop has", "drop lie", "drop go", "drop want", "drop wish",
    "drop give", "drop give_back", "drop find", "drop take", "drop buy", "drop thank",
    "drop meet", "drop gone", "drop hungry", "drop share", "drop game", "drop count",
    "drop hide",
    "drop spot", "drop stuck", "drop fetch", "drop broken",
    "drop fix", "drop birthday", "colour again",
    "reverse want ask", "reverse ask give", "reverse give thank", "reverse go give",
    "reverse count hide", "reverse plea fix", "reverse stuck sad",
    "reverse hungry share", "reverse share thank", "reverse has want",
)  # fmt: skip


@pytest.mark.parametrize("lang", LANGS)
def test_mutated_stories_are_found(lang):
    tried, missed = Counter(), Counter()
    for what, _, changed in mutants(lang, 200):
        tried[what] += 1
        missed[what] += not check_story(changed)
    for what in ALWAYS_FOUND:
        assert missed[what] == 0, what
        assert tried[what], what
    names = [what for what in tried if what.startswith("name")]
    assert len(names) >= 20 and all(missed[what] == 0 for what in names)
    reverse = [what for what in tried if what.startswith("reverse")]
    share = sum(missed[w] for w in reverse) / sum(tried[w] for w in reverse)
    assert share < 0.4  # many neighbours may change places: two who arrive, say


@pytest.mark.parametrize("lang", LANGS)
def test_cut_stories_are_found(lang):
    """A story that stops early passes only if it had come to a good end before."""
    for text in stories(lang, 300):
        told = split(text, lang)
        for i in range(1, len(told)):
            if not check_story(join(told[:i], lang)):
                last = parse(told[i - 1], lang).kind
                assert last in ("happy", "happy2", "now", "play2") and i >= 5
        assert check_story(text[:-1]) and check_story(text[: len(text) // 2] + "x")
        assert check_story(join([*told, told[-1]], lang))


@pytest.mark.parametrize("lang", LANGS)
def test_shuffled_stories_complain_and_never_crash(lang):
    rng = Random(0)
    passed = 0
    for text in stories(lang, 400):
        told = split(text, lang)
        rng.shuffle(told)
        passed += not check_story(join(told, lang))
        mixed = told[:3] + split(tell_story(rng, lang).text, lang)
        assert isinstance(check_story(join(mixed, lang)), list)
    assert passed < 20


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("Once upon a time.", "not a sentence"),
        ("tom was in the park.", "not a sentence"),
        ("Tom was in the park. Tom had an red ball.", "not a sentence"),
        ("小明在公园里。小明有一本红色的球。", "not a sentence"),
        ("Tom was in the park. Tom had a red ball. Tom gave the ball to Lily.", "who"),
        ("Tom was in the park. The kite was gone.", "which kite"),
        ("Tom was in the park. Tom went to the park.", "already"),
        ("Tom was in the park. Tom was happy.", "no reason"),
        ("Tom was in the park. Tom bought a red ball.", "not in the shop"),
    ],
)
def test_complaints_name_the_fault(text, complaint):
    assert any(complaint in problem for problem in check_story(text))


def test_story_about_what_was_asked():
    text = stories("en", 1)[0]
    assert check_story(text, mentions=("Zanovia",)) == ["Zanovia does not occur"]


@pytest.mark.parametrize("lang", LANGS)
def test_story_questions_follow_the_story(lang):
    rng = Random(0)
    kinds = Counter()
    for _ in range(200):
        story = tell_story(rng, lang)
        for kind, slots in story_questions(story).items():
            kinds[kind] += 1
            assert all(value in story.text for value in slots.values())
    assert set(kinds) == {"owner", "colour", "place"}
