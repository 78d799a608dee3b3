"""Rows for adapters and preferences: who the model is, first aid, how stories talk.

Every stream is a function of its seed alone, with random numbers of its own.
"""

from collections.abc import Callable, Iterator
from random import Random

from minimind.text.world import tuning_tables as t
from minimind.text.world.decks import Decks, weighted
from minimind.text.world.facts import LANGS
from minimind.text.world.phrases import Question, decorate
from minimind.text.world.rows import Chat, chat_row
from minimind.text.world.sentences import SENTENCES
from minimind.text.world.stories import Story, choose, tell_story
from minimind.text.world.story_text import (
    join,
    language_of,
    noun_phrase,
    nouns,
    parse,
    split,
)
from minimind.text.world.talk import (
    Turn,
    about_invented,
    fact,
    small_talk,
    story_request,
    unknown,
)

Pair = dict[str, list[dict[str, str]]]

# What a story reports or lets its people say: the table has both forms, in this order.
SAID = ("ask", "plea", "thank")
# What keeps the old answers while new ones are learned, in parts of the whole.
ORDINARY = {"fact": 70, "talk": 12, "unknown": 12, "invented": 6}
OTHER_TALK = ("greeting", "how", "human", "can", "thanks", "bye")
ASKED = 3  # times that a held-out phrasing is asked, with other openings


def identity_rows(seed: int, n: int, name: str = t.NAME) -> Iterator[Chat]:
    """`n` chats; in a third of them the model is asked who it is or who made it."""

    def asked_who(rng: Random, lang: str) -> Turn:
        asked, reply = t.IDENTITY[lang][choose(rng, list(t.IDENTITY[lang]))]
        text = decorate(rng, choose(rng, asked.train), lang)
        return text, reply.format(name=name)

    return _among_ordinary(Random(f"identity {seed}"), n, asked_who)


def _among_ordinary(
    rng: Random, n: int, new: Callable[[Random, str], Turn]
) -> Iterator[Chat]:
    """`n` chats, a third of them `new` and the others `_ordinary`.

    Without the others the model would give its new answers to whatever it is asked.
    """
    decks = Decks(rng)
    for number in range(n):
        lang = LANGS[number % 2]
        ordinary = number // 2 % 3
        yield chat_row([_ordinary(rng, lang, decks) if ordinary else new(rng, lang)])


def identity_exam(seed: int, name: str = t.NAME) -> Iterator[Question]:
    """Every phrasing held out from `identity_rows`, thrice, with its reply."""
    rng = Random(f"identity exam {seed}")
    for lang in LANGS:
        for kind, (asked, reply) in t.IDENTITY[lang].items():
            for text in asked.held_out:
                for _ in range(ASKED):
                    dressed = decorate(rng, text, lang)
                    yield Question(dressed, reply.format(name=name), lang, kind)


def medical_rows(seed: int, n: int) -> Iterator[Chat]:
    """`n` chats; a third about complaints and what helps, the others `_ordinary`."""

    def complaining(rng: Random, lang: str) -> Turn:
        complaint, reply = choose(rng, t.MEDICAL[lang])
        text = choose(rng, t.MEDICAL_QUESTIONS[lang].train).format(x=complaint)
        return decorate(rng, text, lang), reply

    return _among_ordinary(Random(f"medical {seed}"), n, complaining)


def _ordinary(rng: Random, lang: str, decks: Decks) -> Turn:
    """What SFT taught, but for the questions about the model's name."""
    kind = weighted(rng, ORDINARY)
    if kind == "talk":
        return small_talk(rng, lang, choose(rng, OTHER_TALK))
    if kind == "unknown":
        return unknown(rng, lang, decks)
    asked = fact(rng, lang, decks) if kind == "fact" else about_invented(rng, lang)
    return asked.text, asked.answer


def medical_exam(seed: int) -> Iterator[Question]:
    """Every complaint in every phrasing held out from `medical_rows`."""
    rng = Random(f"medical exam {seed}")
    for lang in LANGS:
        for complaint, reply in t.MEDICAL[lang]:
            for asked in t.MEDICAL_QUESTIONS[lang].held_out:
                text = decorate(rng, asked.format(x=complaint), lang)
                yield Question(text, reply, lang, "medical", complaint, asked)


def retell(text: str, spoken: bool) -> str:
    """The same story with all that people ask and thank spoken, or all reported."""
    lang = language_of(text)
    sentences = []
    for sentence in split(text, lang):
        event = parse(sentence, lang)
        if event is not None and event.kind in SAID:
            sentence = SENTENCES[lang][event.kind][spoken].format(
                n=event.n,
                m=event.m,
                t=noun_phrase(lang, "t", event.t, event.colour) if event.t else "",
            )
            sentence = sentence[0].upper() + sentence[1:]
        sentences.append(sentence)
    return join(sentences, lang)


def spoken(text: str) -> list[bool]:
    """For each request and each thanks in a story: is it in the person's own words?"""
    lang = language_of(text)
    read = [(s, parse(s, lang)) for s in split(text, lang)]
    return [
        '"' in sentence or "“" in sentence
        for sentence, event in read
        if event is not None and event.kind in SAID
    ]


def preference_rows(seed: int, n: int) -> Iterator[Pair]:
    """`n` pairs {"chosen", "rejected"}: a story in which people speak is preferred.

    Both chats of a pair ask for the same story and tell the same events.
    """
    yield from _pairs(Random(f"preference {seed}"), n, held_out=False)


def preference_exam(seed: int, n: int = 200) -> Iterator[Pair]:
    """`n` pairs about things that no pair of `preference_rows` is about."""
    yield from _pairs(Random(f"preference exam {seed}"), n, held_out=True)


def _pairs(rng: Random, n: int, held_out: bool) -> Iterator[Pair]:
    for number in range(n):
        story, request = _asked_for(rng, LANGS[number % 2], held_out)
        yield {
            name: chat_row([(request, retell(story.text, style))])["conversations"]
            for name, style in (("chosen", True), ("rejected", False))
        }


def _asked_for(rng: Random, lang: str, held_out: bool) -> tuple[Story, str]:
    """A story in which somebody asks or thanks, and a request for it."""
    things = list(nouns(lang))
    while True:
        story = tell_story(rng, lang)
        request = story_request(rng, story)
        about = story.thing.removeprefix("the ")
        if about not in things or not spoken(story.text):
            continue
        if (things.index(about) % 4 == 3) != held_out:
            continue
        if about in request or not held_out:
            return story, request
