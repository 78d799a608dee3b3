"""Stories: a plot, a small cast and a few props, drawn at random and told.

Some pairs of child and thing are held out: no story for training combines them.
"""

from dataclasses import dataclass
from random import Random

from . import tables
from .plots import PLOTS, hungry_pet, in_the_tree
from .story_text import colours, column, join, pets, render
from .teller import Teller

MOST_SENTENCES = 10


@dataclass(frozen=True)
class Story:
    """A story and what it is about: hero, friend, and the thing or pet in it, or ""."""

    text: str
    lang: str
    hero: str
    friend: str
    thing: str


def is_held_out(lang: str, name: str, thing: str) -> bool:
    """Pairs of child and thing that no training story contains."""
    things = column(tables.THINGS, lang)
    if thing not in things or name not in tables.NAMES[lang]:
        return False
    return (3 * tables.NAMES[lang].index(name) + 5 * things.index(thing)) % 11 == 0


def held_out_pairs(lang: str) -> list[tuple[str, str]]:
    """All held-out pairs (child, thing) of a language."""
    return [
        (name, thing)
        for name in tables.NAMES[lang]
        for thing in column(tables.THINGS, lang)
        if is_held_out(lang, name, thing)
    ]


def tell_story(rng: Random, lang: str) -> Story:
    """One story for training: it holds no held-out pair of child and thing."""
    plot = PLOTS[rng.randrange(len(PLOTS))]
    names, things, foods, places, animals, shades = (
        list(words)
        for words in (
            tables.NAMES[lang],
            column(tables.THINGS, lang),
            column(tables.FOODS, lang),
            column(tables.PLACES, lang)[:-1],
            pets(lang),
            colours(lang),
        )
    )
    for words in (names, things, places, shades):
        rng.shuffle(words)
    if plot is in_the_tree:
        light = column(tables.THINGS[: tables.LIGHT], lang)
        things = [thing for thing in things if thing in light]
    a, b, t, u = names[0], names[1], things[0], things[1]
    if any(is_held_out(lang, n, x) for n in (a, b) for x in (t, u)):
        return tell_story(rng, lang)
    food = foods[rng.randrange(len(foods))]
    pet = animals[rng.randrange(len(animals))]
    tell = Teller(rng, lang, a, b, t, u, food, *places[:2], pet, shades)
    if tell.maybe(0.15):
        tell("day")
    plot(tell)
    if len(tell.events) > MOST_SENTENCES:
        return tell_story(rng, lang)
    opening = [i for i, event in enumerate(tell.events[:2]) if event.kind[:2] == "at"]
    sentences = [
        render(rng, event, lang, first=i in opening[:1])
        for i, event in enumerate(tell.events)
    ]
    about = pet if plot is hungry_pet and tell.maybe(0.7) else tell.about
    return Story(join(sentences, lang), lang, a, b, about)
