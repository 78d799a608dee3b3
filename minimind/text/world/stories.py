"""Stories: a plot, a small cast and a few props, drawn at random and told."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from minimind.text.world import tables
from minimind.text.world.plots import PLOTS, hungry_pet, in_the_tree
from minimind.text.world.story_text import colours, column, join, pets, render
from minimind.text.world.teller import Teller

MOST_SENTENCES = 10
T = TypeVar("T")


@dataclass(frozen=True)
class Story:
    """A story and what it is about: hero, friend, and the thing or pet in it, or ""."""

    text: str
    lang: str
    hero: str
    friend: str
    thing: str


def choose(rng: Random, options: Sequence[T]) -> T:
    """One of a sequence; plain, so that every Python version draws alike."""
    return options[rng.randrange(len(options))]


def tell_story(rng: Random, lang: str) -> Story:
    """One story."""
    plot = PLOTS[rng.randrange(len(PLOTS))]
    light = tables.THINGS[: tables.LIGHT]
    names, places = tables.NAMES[lang], column(tables.PLACES, lang)
    cast = [choose(rng, names[::2]), choose(rng, names[1::2])]
    rng.shuffle(cast)
    thing = choose(rng, column(light if plot is in_the_tree else tables.THINGS, lang))
    food, pet = choose(rng, column(tables.FOODS, lang)), choose(rng, pets(lang))
    inside, outside = choose(rng, places[3:6]), choose(rng, places[:3])
    shade = choose(rng, colours(lang))
    tell = Teller(rng, lang, *cast, thing, food, inside, outside, pet, shade)
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
    return Story(join(sentences, lang), lang, *cast, about)
