"""The language of the stories: events to sentences, sentences to events.

An event is a kind ("give") with slots (n="Tom", m="Lily", t="ball"); `render` turns
it into a sentence of the table in `sentences`, `parse` reads any such one back.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random

from minimind.text.world import tables
from minimind.text.world.sentences import OPENER, SENTENCES


@dataclass(frozen=True)
class Event:
    """One sentence's meaning; `colour` is None where the sentence does not say it."""

    kind: str
    n: str = ""
    m: str = ""
    t: str = ""
    p: str = ""
    h: str = ""
    colour: str | None = None


def language_of(text: str) -> str:
    """zh if there is any Chinese character, else en."""
    return "zh" if re.search("[\u4e00-\u9fff]", text) else "en"


def pets(lang: str) -> tuple[str, ...]:
    """The animals that act in stories, as they are named there."""
    return tuple(f"the {en}" if lang == "en" else zh for en, zh in tables.PETS)


def nouns(lang: str) -> dict[str, str]:
    """Thing or food -> its measure word (zh) or article (en)."""
    rows = tables.THINGS + tables.FOODS
    if lang == "zh":
        return {row[1]: row[2] for row in rows}
    return {row[0]: "an" if row[0][0] in "aeiou" else "a" for row in rows}


def colours(lang: str) -> tuple[str, ...]:
    """The colours that things in stories have."""
    return tuple(c if lang == "en" else tables.COLOURS[c] for c in tables.THING_COLOURS)


def column(table, lang: str) -> tuple[str, ...]:
    """One language's column of a table."""
    return tuple(row[0 if lang == "en" else 1] for row in table)


def noun_phrase(lang: str, slot: str, thing: str, colour: str | None) -> str:
    """ "the ball", "the red ball", "a red ball", and the same in Chinese."""
    measure = nouns(lang)[thing]
    if lang == "en":
        article = "the" if slot != "ti" else ("a" if colour else measure)
        return " ".join(word for word in (article, colour, thing) if word)
    counted = f"一{measure}" if slot == "ti" else ""
    return counted + (f"{colour}的" if colour else "") + thing


def render(rng: Random, event: Event, lang: str, first: bool = False) -> str:
    """The sentence of an event. Known things name their colour now and then.

    The first sentence of a story that says where someone is may open it.
    """
    variants = SENTENCES[lang][event.kind]
    text = variants[rng.randrange(len(variants))]
    if first and rng.random() < 0.5:
        text = OPENER[lang] + text
    for slot in ("ti", "tc", "t"):
        if f"{{{slot}}}" in text:
            plain = slot == "t" and rng.random() < 0.9
            colour = None if plain else event.colour
            text = text.replace(f"{{{slot}}}", noun_phrase(lang, slot, event.t, colour))
    text = text.format(n=event.n, m=event.m, p=event.p, h=event.h)
    return text[0].upper() + text[1:]


def join(sentences: list[str], lang: str) -> str:
    """Sentences to one text."""
    return (" " if lang == "en" else "").join(sentences)


def split(text: str, lang: str) -> list[str]:
    """The sentences of a text, closing marks included; the inverse of `join`."""
    if lang == "en":
        return re.split(r"(?<=[.!?]) ", text)
    return [
        part for part in re.split("(?<=[。！？])(?!”)|(?<=[。！？]”)", text) if part
    ]


@cache
def _patterns(lang: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    def either(words):
        return "|".join(sorted(map(re.escape, words), key=len, reverse=True))

    things, shades = either(nouns(lang)), either(colours(lang))
    if lang == "en":
        known = f"the (?:(?P<colour>{shades}) )?(?P<t>{things})"
        new = f"(?P<article>an?) (?:(?P<colour>{shades}) )?(?P<t>{things})"
    else:
        known = f"(?:(?P<colour>{shades})的)?(?P<t>{things})"
        new = f"一(?P<article>.)(?:(?P<colour>{shades})的)?(?P<t>{things})"
    cast = either(tables.NAMES[lang] + pets(lang))
    slots = {
        "{n}": f"(?P<n>{cast})",
        "{m}": f"(?P<m>{cast})",
        "{p}": f"(?P<p>{either(column(tables.PLACES, lang))})",
        "{h}": f"(?P<h>{either(column(tables.SPOTS, lang))})",
        "{t}": known,
        "{tc}": known,
        "{ti}": new,
    }
    found = []
    for kind, variants in SENTENCES[lang].items():
        openers = ("", OPENER[lang]) if kind in ("at", "at2") else ("",)
        for variant in (opener + text for opener in openers for text in variants):
            pattern = re.escape(variant)
            for slot, expression in slots.items():
                pattern = pattern.replace(re.escape(slot), expression)
            found.append((kind, re.compile(pattern)))
    return tuple(found)


@lru_cache(maxsize=20_000)
def parse(sentence: str, lang: str) -> Event | None:
    """Read one sentence; None if it is not one that the world writes."""
    if sentence[:1].islower():
        return None
    if not sentence.startswith(tables.NAMES[lang]):
        sentence = sentence[:1].lower() + sentence[1:]
    for kind, pattern in _patterns(lang):
        match = pattern.fullmatch(sentence)
        if match:
            slots = match.groupdict()
            article = slots.pop("article", None)
            if article and article not in _articles(lang, slots):
                return None
            return Event(kind, **{k: v for k, v in slots.items() if v})
    return None


def _articles(lang: str, slots: dict[str, str | None]) -> tuple[str, ...]:
    measure = nouns(lang)[str(slots["t"])]
    if lang == "zh":
        return (measure, "个")  # which counts anything, if less well
    return ("a",) if slots["colour"] else (measure,)
