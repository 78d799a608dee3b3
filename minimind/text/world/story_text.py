"""The language of the stories: one table of sentence templates, written and read.

An event is a kind ("give") with slots (n="Tom", m="Lily", t="ball"); `render` turns
it into a sentence, `parse` reads any such sentence back. Slots: {n} and {m} are
children or pets, {p} a place, {h} a hiding spot, {t} a known thing ("the red ball"
or "the ball"), {ti} a new thing ("a red ball"), {tc} a known thing with its colour.
"""

import re
from dataclasses import dataclass
from functools import cache
from random import Random

from . import tables

SENTENCES = {
    "en": {
        "day": ("it was a sunny day.", "it was a warm day.", "it was a cold day."),
        "at": ("{n} was in the {p}.",),
        "at2": ("{n} and {m} were in the {p}.",),
        "has": ("{n} had {ti}.",),
        "lie": ("there was {ti} in the {p}.",),
        "go": ("{n} went to the {p}.", "{n} walked to the {p}.", "{n} ran to the {p}."),
        "go2": ("{n} and {m} went to the {p}.",),
        "see": ("{n} saw {m}.", "{n} met {m}."),
        "notice": ("{n} saw {t}.",),
        "want": ("{n} wanted {t}.", "{n} wanted to have {t}."),
        "wish": ("{n} wanted {ti}.",),
        "ask": ("{n} asked {m} for {t}.", '"May I have {t}?" {n} asked {m}.'),
        "yes": ("{n} said yes.", '"Yes," said {n}.', '"Of course," said {n}.'),
        "give": ("{n} gave {t} to {m}.", "{n} gave {m} {t}."),
        "give_back": ("{n} gave {t} back to {m}.",),
        "thank": ("{n} thanked {m}.", '"Thank you, {m}," said {n}.'),
        "play": ("{n} played with {t}.",),
        "play2": ("{n} and {m} played with {t}.",),
        "lose": ("{n} lost {t}.", "then {n} lost {t}."),
        "look": ("{n} looked for {t}.",),
        "absent": ("{t} was not in the {p}.",),
        "find": ("{n} found {t}.", "{n} found {t} in the {p}."),
        "take": ("{n} picked up {t}.", "{n} took {t}."),
        "buy": ("{n} bought {ti}.",),
        "birthday": ("it was the birthday of {n}.", "today was the birthday of {n}."),
        "sad": ("{n} was sad.", "{n} was very sad.", "{n} cried."),
        "happy": ("{n} was happy.", "{n} was very happy.", "{n} smiled."),
        "happy2": ("{n} and {m} were happy.", "{n} and {m} smiled."),
        "now": ("now {n} had {tc}.", "in the end, {n} had {tc}."),
        "hungry": ("{n} was hungry.", "{n} was very hungry."),
        "eat": ("{n} ate {t}.",),
        "eat2": ("{n} and {m} ate {t}.",),
        "share": ("{n} shared {t} with {m}.",),
        "game": ("{n} and {m} played hide and seek.",),
        "count": ("{n} counted to ten.",),
        "hide": ("{n} hid {h}.",),
        "peek": ("{n} looked {h}.",),
        "nobody": ("nobody was there.",),
        "spot": ("{n} found {m} {h}.",),
        "stuck": ("{t} got stuck in a tree.",),
        "plea": ("{n} asked {m} for help.", '"Please help me, {m}," said {n}.'),
        "fetch": ("{n} climbed the tree and got {t} down.",),
        "broken": ("{t} broke.", "then {t} broke."),
        "fix": ("{n} fixed {t}.",),
    },
    "zh": {
        "day": ("今天天气很好。", "今天天气很暖和。", "今天天气很冷。"),
        "at": ("{n}在{p}里。",),
        "at2": ("{n}和{m}在{p}里。",),
        "has": ("{n}有{ti}。",),
        "lie": ("{p}里有{ti}。",),
        "go": ("{n}去了{p}。", "{n}走到{p}。", "{n}跑到{p}。"),
        "go2": ("{n}和{m}去了{p}。",),
        "see": ("{n}看见了{m}。", "{n}遇见了{m}。"),
        "notice": ("{n}看见了{t}。",),
        "want": ("{n}想要{t}。", "{n}很想要{t}。"),
        "wish": ("{n}想要{ti}。",),
        "ask": ("{n}向{m}要{t}。", "{n}问{m}：“可以给我{t}吗？”"),
        "yes": ("{n}答应了。", "{n}说：“好的。”", "{n}说：“当然可以。”"),
        "give": ("{n}把{t}给了{m}。", "{n}把{t}送给了{m}。"),
        "give_back": ("{n}把{t}还给了{m}。",),
        "thank": ("{n}谢谢{m}。", "{n}对{m}说：“谢谢你。”"),
        "play": ("{n}玩{t}。",),
        "play2": ("{n}和{m}一起玩{t}。",),
        "lose": ("{n}把{t}弄丢了。", "后来{n}把{t}弄丢了。"),
        "look": ("{n}到处找{t}。",),
        "absent": ("{t}不在{p}里。",),
        "find": ("{n}找到了{t}。", "{n}在{p}里找到了{t}。"),
        "take": ("{n}捡起了{t}。", "{n}拿起了{t}。"),
        "buy": ("{n}买了{ti}。",),
        "birthday": ("今天是{n}的生日。", "{n}今天过生日。"),
        "sad": ("{n}很难过。", "{n}非常难过。", "{n}哭了。"),
        "happy": ("{n}很高兴。", "{n}非常高兴。", "{n}笑了。"),
        "happy2": ("{n}和{m}都很高兴。", "{n}和{m}都笑了。"),
        "now": ("现在{n}有{tc}。", "最后，{n}有{tc}。"),
        "hungry": ("{n}饿了。", "{n}很饿。"),
        "eat": ("{n}吃了{t}。",),
        "eat2": ("{n}和{m}一起吃了{t}。",),
        "share": ("{n}把{t}分给了{m}。",),
        "game": ("{n}和{m}玩捉迷藏。",),
        "count": ("{n}数到十。",),
        "hide": ("{n}躲在{h}。",),
        "peek": ("{n}看了看{h}。",),
        "nobody": ("那里没有人。",),
        "spot": ("{n}在{h}找到了{m}。",),
        "stuck": ("{t}挂在了树上。",),
        "plea": ("{n}请{m}帮忙。", "{n}对{m}说：“请帮帮我。”"),
        "fetch": ("{n}爬上树，把{t}拿了下来。",),
        "broken": ("{t}坏了。", "后来{t}坏了。"),
        "fix": ("{n}修好了{t}。",),
    },
}


OPENER = {"en": "one day, ", "zh": "有一天，"}


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
    if event.kind == "find" and not event.p:
        variants = variants[:1]
    text = variants[rng.randrange(len(variants))]
    if first and rng.random() < 0.5:
        text = OPENER[lang] + text
    for slot in ("ti", "tc", "t"):
        if f"{{{slot}}}" in text:
            plain = slot == "t" and rng.random() < 0.7
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


def parse(sentence: str, lang: str) -> Event | None:
    """Read one sentence; None if it is not one that the world writes."""
    if sentence[:1].islower():
        return None
    for kind, pattern in _patterns(lang):
        for variant in (sentence, sentence[:1].lower() + sentence[1:]):
            match = pattern.fullmatch(variant)
            if match:
                slots = match.groupdict()
                article = slots.pop("article", None)
                if article and article not in _articles(lang, slots):
                    return None
                return Event(kind, **{k: v for k, v in slots.items() if v})
    return None


def _articles(lang: str, slots: dict[str, str | None]) -> tuple[str, ...]:
    measure = nouns(lang)[str(slots["t"])]
    return ("a",) if lang == "en" and slots["colour"] else (measure,)
