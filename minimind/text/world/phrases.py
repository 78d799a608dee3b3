"""Turns the phrasing tables into questions: frames x forms, openings, endings.

The split between trained and held-out phrasings stands in `phrases_en` and
`phrases_zh`, visibly, as `Split(train=..., held_out=...)`.
"""

import re
from dataclasses import dataclass
from functools import cache
from random import Random

from minimind.text.world import phrases_en, phrases_zh
from minimind.text.world.facts import Relation, insert
from minimind.text.world.relations import RELATIONS


@dataclass(frozen=True)
class Question:
    """A question with its one right answer, and what about it is held out."""

    text: str
    answer: str
    lang: str
    kind: str
    subject: str = ""
    core: str = ""
    entity_heldout: bool = False


LANGUAGE = {"en": phrases_en, "zh": phrases_zh}
_ASKS = re.compile("tell|please|forgot|know|请|告诉|忘|知道|说")


@cache
def cores(kind: str, lang: str, held_out: bool = False) -> tuple[str, ...]:
    """All question templates of a relation, trained ones or held-out ones.

    The relation's own cores come first, then every frame around every form.
    """
    frames, forms = LANGUAGE[lang].FRAMES, LANGUAGE[lang].PHRASES[kind]
    side = 1 if held_out else 0
    own = forms.cores[side]
    framed = [f.replace("{np}", np) for f in frames.np[side] for np in forms.np]
    framed += [
        f.replace("{cl}", cl) for f in frames.clause[side] for cl in forms.clause
    ]
    return own + tuple(core for core in framed if core not in own)


def pick_core(rng: Random, kind: str, lang: str, held_out: bool = False) -> str:
    """A random template; the relation's own cores have an even chance with frames."""
    own = len(LANGUAGE[lang].PHRASES[kind].cores[1 if held_out else 0])
    every = cores(kind, lang, held_out)
    if rng.random() < (0.75 if held_out else 0.5):
        return every[rng.randrange(own)]
    return every[own + rng.randrange(len(every) - own)]


def decorate(rng: Random, text: str, lang: str) -> str:
    """Add an opening, an ending, or drop the last mark, as people do."""
    tables = LANGUAGE[lang]
    if rng.random() < 0.12 and text[-1] in "?.？。" and not text.endswith("..."):
        text = text[:-1]
    opening = tables.OPENINGS[rng.randrange(len(tables.OPENINGS))]
    if rng.random() < 0.3 and not (opening[0] == "请" and _ASKS.search(text)):
        keeps_capital = opening[-2:] in ("! ", ". ")
        text = opening + (text[0].upper() + text[1:] if keeps_capital else text)
    ending = tables.ENDINGS[rng.randrange(len(tables.ENDINGS))]
    if rng.random() < 0.15 and text[-1] in "?.？。!！" and not _ASKS.search(text):
        text += ending
    if lang == "en" and rng.random() < 0.85:
        text = text[0].upper() + text[1:]
    return text


def put(core: str, x: str, lang: str) -> str:
    """Fill a question template; every sentence after the first gets its capital."""
    text = insert(core, x)
    for mark in (". ", "? ") if lang == "en" else ():
        head, found, tail = text.partition(mark)
        if found and tail:
            text = head + mark + tail[0].upper() + tail[1:]
    return text


def ask(
    rng: Random,
    relation: Relation,
    lang: str,
    x: str,
    phrasing_held_out: bool = False,
) -> Question:
    """A question about a fact, in a random trained (or held-out) phrasing."""
    core = pick_core(rng, relation.name, lang, phrasing_held_out)
    text = decorate(rng, put(core, x, lang), lang)
    if lang == "en" and not phrasing_held_out and rng.random() < 0.3:
        text = text.replace("colour", "color")
    held_out = x in relation.subjects(lang, held_out=True)
    answer = relation.answer(lang, x)
    return Question(text, answer, lang, relation.name, x, core, held_out)


def count(lang: str, held_out: bool = False) -> dict[str, int]:
    """Number of templates per relation."""
    return {kind: len(cores(kind, lang, held_out)) for kind in RELATIONS}
