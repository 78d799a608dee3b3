"""The world's own rule for everything but stories: is this statement, reply true?

Text is read back and compared with the tables; nothing here knows how the rows were
drawn. `check_story` has a module of its own.
"""

import re
from functools import lru_cache
from itertools import pairwise

from minimind.text.world import talk_tables as t
from minimind.text.world.phrases import Question
from minimind.text.world.prose import (
    ASIDES,
    BOTH,
    PROBLEMS,
    TRAVEL,
    UNLIKE,
    list_sentences,
)
from minimind.text.world.relations import RELATIONS
from minimind.text.world.statements import parse_statement
from minimind.text.world.story_check import check_story
from minimind.text.world.story_text import language_of, parse, split
from minimind.text.world.tables import NAMES, USER_NAMES

EQUATION = re.compile(r"(\d+)\+(\d+)=(\d+)")


@lru_cache(maxsize=20_000)
def check_statement(sentence: str, lang: str = "") -> bool | None:
    """True or False for a statement of the world, None if it is not one."""
    lang = lang or language_of(sentence)
    equation = EQUATION.fullmatch(sentence)
    if equation:
        a, b, y = map(int, equation.groups())
        return a + b == y
    prose = _prose(sentence, lang)
    if prose is not None:
        return prose
    verdicts = [
        y.lower() == relation.values[lang][x].lower()
        for relation, x, y in parse_statement(sentence, lang)
    ]
    return any(verdicts) if verdicts else None


def check_text(text: str) -> list[str]:
    """Complaints about a pretraining text: a story, facts, sums or prose."""
    lang = language_of(text)
    if _is_counting(text):
        return []
    sentences = text.split(", ") if text[-1].isdigit() else split(text, lang)
    if parse(sentences[0], lang):
        return check_story(text)
    if _is_roll_call(sentences[0], sentences[1:], lang):
        sentences = sentences[1:]
    return [
        f"not true in the world: {sentence!r}"
        for sentence in sentences
        if not check_statement(sentence, lang)
    ]


def _is_roll_call(sentence: str, others: list[str], lang: str) -> bool:
    """Does it list the subjects of the sentences that follow, in their order?"""
    names = re.split("[,、] ?", sentence.rstrip(".。").lower())
    return len(names) == len(others) and all(
        any(x.lower() == name for _, x, _ in parse_statement(other, lang))
        for name, other in zip(names, others, strict=True)
    )


def check_answer(question: Question, reply: str) -> bool:
    """Is this the world's whole and only reply to a question?"""
    if question.kind in RELATIONS:
        relation = RELATIONS[question.kind]
        return reply == relation.answer(question.lang, question.subject)
    if question.kind in ("unknown", "invented"):
        return reply == t.UNKNOWN[question.lang]
    return question.text.lower() in talk_of(reply, question.lang)


def talk_of(reply: str, lang: str) -> list[str]:
    """Everything that small talk answers with this reply, in small letters."""
    return [
        text.lower()
        for said, answer in t.TALK[lang].values()
        if answer == reply
        for text in (*said.train, *said.held_out)
    ]


def _is_counting(text: str) -> bool:
    numbers = text.split(", ")
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
        return False
    return all(int(b) == int(a) + 1 for a, b in pairwise(numbers))


def _prose(sentence: str, lang: str) -> bool | None:
    if sentence in list_sentences(lang):
        return True
    colour = RELATIONS["colour"].values[lang]
    for form in (BOTH[lang], UNLIKE[lang]):
        slots = _match(form, sentence[0].lower() + sentence[1:])
        if slots and slots["a"] in colour and slots["b"] in colour:
            y, z = slots["y"], slots.get("z", slots["y"])
            return colour[slots["a"]] == y and colour[slots["b"]] == z
    capital = RELATIONS["capital"].values[lang]
    for form in [part for text in TRAVEL[lang] for part in split(text, lang)]:
        slots = _match(form, sentence)
        if slots and slots["n"] in USER_NAMES[lang] + NAMES[lang]:
            if slots["x"] in capital:
                return slots.get("y") in (None, capital[slots["x"]])
    slots = _match(PROBLEMS[lang], sentence)
    if slots and slots["n"] in USER_NAMES[lang]:
        return check_statement("{a}+{b}={y}".format(**slots), lang)
    subjects = {r.spoken(lang, x) for r in RELATIONS.values() for x in r.values[lang]}
    for form in ASIDES[lang]:
        for variant in (sentence, sentence[0].lower() + sentence[1:]):
            slots = _match(form, variant)
            if slots and slots["x"] in subjects and slots["n"] in USER_NAMES[lang]:
                return True
    return None


def _match(form: str, sentence: str) -> dict[str, str] | None:
    """Read a sentence by its template; a slot that comes twice must agree."""
    seen, pattern = set(), ""
    for part in re.split(r"(\{\w\})", form):
        slot = part[1:-1] if part.startswith("{") else ""
        if not slot:
            pattern += re.escape(part)
        elif slot in seen:
            pattern += f"(?P={slot})"
        else:
            pattern += f"(?P<{slot}>.+?)"
            seen.add(slot)
    match = re.fullmatch(pattern, sentence)
    return match.groupdict() if match else None
