"""The world's own rule for everything but stories: is this statement, reply true?

Text is read back and compared with the tables; nothing here knows how the rows were
drawn. `check_story` has a module of its own.
"""

import re
from functools import lru_cache

from . import talk_tables as t
from .phrases import Question
from .prose import BOTH, TRAVEL, UNLIKE, list_sentences
from .relations import RELATIONS
from .statements import parse_statement
from .story_check import FEWEST_SENTENCES, check_story, replay
from .story_text import language_of, split
from .tables import NAMES, USER_NAMES

__all__ = ["check_answer", "check_chat", "check_statement", "check_story", "check_text"]

EQUATION = re.compile(r"(\d+) ([+-]) (\d+) = (\d+)")


@lru_cache(maxsize=20_000)
def check_statement(sentence: str, lang: str = "") -> bool | None:
    """True or False for a statement of the world, None if it is not one."""
    lang = lang or language_of(sentence)
    equation = EQUATION.fullmatch(sentence)
    if equation:
        a, operator, b, y = equation.groups()
        return int(a) + (int(b) if operator == "+" else -int(b)) == int(y)
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
    sentences = text.split(", ") if "=" in text else split(text, lang)
    if check_statement(sentences[0], lang) is None:
        return check_story(text)
    return [
        f"not true in the world: {sentence!r}"
        for sentence in sentences
        if not check_statement(sentence, lang)
    ]


def check_answer(question: Question, reply: str) -> bool:
    """Is this the world's whole and only reply to a question?"""
    if question.kind in RELATIONS:
        relation = RELATIONS[question.kind]
        return reply == relation.answer(question.lang, question.subject)
    if question.kind in ("unknown", "invented"):
        return reply == t.UNKNOWN[question.lang]
    return question.text.lower() in _talk_of(reply, question.lang)


def check_chat(turns: list[dict[str, str]]) -> list[str]:
    """Complaints about a conversation: every reply must follow from what was said."""
    wrong, name, story = [], "", ""
    for user, assistant in zip(turns[::2], turns[1::2], strict=True):
        said, reply = user["content"], assistant["content"]
        lang = language_of(said)
        given = [
            n for n in USER_NAMES[lang] if t.NAME_GREETED[lang].format(n=n) == reply
        ]
        if given:
            name = given[0]
            fits = name in said
        elif reply == t.UNKNOWN[lang]:
            fits = _is_outside(said, lang)
        elif reply in [r for _, r in t.TALK[lang].values()]:
            fits = said.lower() in _talk_of(reply, lang)
        elif name and reply == t.NAME_TOLD[lang].format(n=name):
            fits = said.lower() in [asked.lower() for asked in t.NAME_ASKED[lang]]
        elif len(split(reply, lang)) >= FEWEST_SENTENCES:
            story = reply
            fits = not check_story(reply) and _is_request(said)
        elif story and _follows_from(story, said, reply, lang):
            fits = True
        else:
            fits = bool(check_statement(reply, lang)) and _about(said, reply, lang)
        if not fits:
            wrong.append(f"{said!r} -> {reply!r}")
    return wrong


def _about(said: str, reply: str, lang: str) -> bool:
    """A fact's subject, as the reply names it, stands in what the user said."""
    numbers = re.findall(r"\d+", reply)
    if "=" in reply:
        return sorted(re.findall(r"\d+", said)) == sorted(numbers[:2])
    subjects = (x for _, x, _ in parse_statement(reply, lang))
    return any(x.lower() in said.lower() for x in subjects)


def _is_outside(said: str, lang: str) -> bool:
    """Does it name a country that does not exist, or a topic outside the world?"""
    syllables = ("|".join(part) for part in t.INVENTED[lang])
    invented = "".join(f"(?:{part})" for part in syllables)
    topics = (*t.OUTSIDE[lang].train, *t.OUTSIDE[lang].held_out, *t.NAME_ASKED[lang])
    patterns = [re.escape(topic.rstrip("?？.。").lower()) for topic in topics]
    outside = "|".join(patterns).replace(r"\{x\}", ".+?")
    return bool(re.search(invented, said) or re.search(outside, said.lower()))


def _talk_of(reply: str, lang: str) -> list[str]:
    return [
        text.lower()
        for said, answer in t.TALK[lang].values()
        if answer == reply
        for text in (*said.train, *said.held_out)
    ]


def _is_request(said: str) -> bool:
    words = ("story", "故事", "tell me about", "说说")
    return any(word in said.lower() for word in words)


def _follows_from(story: str, said: str, reply: str, lang: str) -> bool:
    scene = replay(story)
    true = []
    replies = {kind: form for kind, (_, form) in t.STORY_QUESTIONS[lang].items()}
    for name, place in scene.place.items():
        true.append((name, replies["place"].format(n=name, p=place)))
    for thing, item in scene.items.items():
        true.append((thing, replies["owner"].format(n=item.holder, t=thing)))
        true.append((thing, replies["colour"].format(t=thing, c=item.colour)))
    return any(subject in said and reply == text for subject, text in true)


def _is_counting(text: str) -> bool:
    numbers = text.split(", ")
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
        return False
    return all(int(b) == int(a) + 1 for a, b in zip(numbers, numbers[1:], strict=False))


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
