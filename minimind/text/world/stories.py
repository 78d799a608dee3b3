"""The storyteller: small plots over a tiny cast, told event by event.

Each plot is a function that lets things happen in an order that makes sense: who
gives has, who meets is there, who loses is sad until it is found. Whether that
worked out is for `story_check` to say, which reads only the text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from . import tables
from .story_text import Event, colours, column, join, pets, render


@dataclass(frozen=True)
class Story:
    """A story and what it is about: its hero, and the thing or the pet in it."""

    text: str
    lang: str
    hero: str
    friend: str
    thing: str
    place: str


@dataclass
class Teller:
    """The cast and the props of one story, and the events told so far."""

    rng: Random
    lang: str
    a: str
    b: str
    thing: str
    other: str
    food: str
    p: str
    q: str
    r: str
    pet: str
    shades: list[str]
    events: list[Event] = field(default_factory=list)
    about: str = ""

    def __call__(self, kind: str, n: str = "", m: str = "", **slots: str) -> None:
        """Tell one event; things keep their colour."""
        thing = slots.get("t", "")
        colour = {self.thing: self.shades[0], self.other: self.shades[1]}.get(thing)
        if thing and thing != self.other and not self.about:
            self.about = thing
        self.events.append(Event(kind, n, m, colour=colour, **slots))

    def maybe(self, chance: float = 0.5) -> bool:
        """True with the given chance."""
        return self.rng.random() < chance

    def together(self) -> None:
        """Both children in place p, in one of three ways."""
        way = self.rng.randrange(3)
        if way == 0:
            self("at2", self.a, self.b, p=self.p)
        elif way == 1:
            self("at", self.a, p=self.p)
            self("at", self.b, p=self.p)
            if self.maybe():
                self("see", self.a, self.b)
        else:
            self("at2", self.a, self.b, p=self.q)
            self("go2", self.a, self.b, p=self.p)

    def joins(self) -> None:
        """The friend turns up where the hero is, in place p."""
        if self.maybe():
            self("at", self.b, p=self.q)
            self("go", self.b, p=self.p)
        else:
            self("at", self.b, p=self.p)
        if self.maybe(0.4):
            self("see", self.b, self.a)

    def sad(self, name: str, chance: float = 0.8) -> None:
        """Mostly: tell that someone is sad."""
        if self.maybe(chance):
            self("sad", name)

    def thanks(self) -> None:
        """The hero thanks the friend."""
        self("thank", self.a, self.b)

    def end(self, owner: str, thing: str, both: bool = True) -> None:
        """A happy end: playing together, being happy, who has the thing now."""
        if both and self.maybe(0.4):
            self("play2", self.a, self.b, t=thing)
            self("happy2", self.a, self.b)
        else:
            self("happy", owner)
        if self.maybe(0.4):
            self("now", owner, t=thing)


def lost_and_found(tell: Teller) -> None:
    """The hero loses a thing and goes back for it."""
    a, t = tell.a, tell.thing
    tell("at", a, p=tell.p)
    tell("has", a, t=t)
    if tell.maybe():
        tell("play", a, t=t)
    tell("lose", a, t=t)
    tell("go", a, p=tell.q)
    if tell.maybe(0.7):
        tell("look", a, t=t)
    tell("absent", t=t, p=tell.q)
    tell.sad(a, 0.5)
    tell("go", a, p=tell.p)
    tell("find", a, t=t, p=tell.p)
    tell.end(a, t, both=False)


def friend_finds(tell: Teller) -> None:
    """The hero loses a thing, the friend finds it and brings it back."""
    a, b, t = tell.a, tell.b, tell.thing
    tell("at", a, p=tell.p)
    tell("has", a, t=t)
    tell("lose", a, t=t)
    away = tell.maybe()
    if away:
        tell("go", a, p=tell.q)
    if tell.maybe():
        tell("look", a, t=t)
        if away:
            tell("absent", t=t, p=tell.q)
    tell.sad(a)
    tell("at", b, p=tell.p)
    tell("find", b, t=t, p=tell.p)
    if away:
        tell("go", b, p=tell.q)
    tell("give_back", b, a, t=t)
    tell.thanks()
    tell.end(a, t)


def asking(tell: Teller) -> None:
    """The hero wants what the friend has, asks for it and gets it."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.together()
    tell("has", b, t=t)
    tell("want", a, t=t)
    tell("ask", a, b, t=t)
    if tell.maybe(0.6):
        tell("yes", b)
    tell("give", b, a, t=t)
    tell.thanks()
    tell.end(a, t)


def giving(tell: Teller) -> None:
    """The friend wants what the hero has, and is given it without asking."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.together()
    tell("has", a, t=t)
    tell("want", b, t=t)
    tell.sad(b, 0.3)
    tell("give", a, b, t=t)
    tell("thank", b, a)
    tell("play2", a, b, t=t)
    tell("happy2", a, b)
    if tell.maybe(0.4):
        tell("now", b, t=t)


def swapping(tell: Teller) -> None:
    """Each child wants the other's thing, so they swap."""
    a, b, t, u = tell.a, tell.b, tell.thing, tell.other
    tell.together()
    tell("has", a, t=t)
    tell("has", b, t=u)
    tell("want", a, t=u)
    tell("want", b, t=t)
    tell("give", a, b, t=t)
    tell("give", b, a, t=u)
    tell("happy2", a, b)
    if tell.maybe():
        tell("now", a, t=u)
        tell("now", b, t=t)


def present(tell: Teller) -> None:
    """It is the friend's birthday; the hero buys or brings a present."""
    a, b, t = tell.a, tell.b, tell.thing
    shop = column(tables.PLACES, tell.lang)[-1]
    tell("birthday", b)
    if tell.maybe():
        tell("at", a, p=shop)
        tell("buy", a, t=t)
    else:
        tell("at", a, p=tell.q)
        tell("has", a, t=t)
    tell("at", b, p=tell.p)
    tell("go", a, p=tell.p)
    if tell.maybe(0.4):
        tell("see", a, b)
    tell("give", a, b, t=t)
    tell("thank", b, a)
    tell.end(b, t)


def shopping(tell: Teller) -> None:
    """The hero wishes for a thing, buys it and shows it to the friend."""
    a, b, t = tell.a, tell.b, tell.thing
    shop = column(tables.PLACES, tell.lang)[-1]
    tell("at", a, p=tell.p)
    tell("wish", a, t=t)
    tell("go", a, p=shop)
    tell("buy", a, t=t)
    if tell.maybe(0.4):
        tell("happy", a)
    tell("at", b, p=tell.q)
    tell("go", a, p=tell.q)
    if tell.maybe(0.4):
        tell("see", a, b)
    tell("play2", a, b, t=t)
    tell("happy2", a, b)
    if tell.maybe(0.3):
        tell("now", a, t=t)


def hungry_pet(tell: Teller) -> None:
    """The hero meets a hungry animal and feeds it."""
    a, pet, food = tell.a, tell.pet, tell.food
    tell("at", a, p=tell.p)
    carried = tell.maybe()
    if carried:
        tell("has", a, t=food)
    tell("at", pet, p=tell.p)
    if tell.maybe():
        tell("see", a, pet)
    tell("hungry", pet)
    tell.sad(pet, 0.4)
    if not carried:
        tell("lie", t=food, p=tell.q)
        tell("go", a, p=tell.q)
        tell("take", a, t=food)
        tell("go", a, p=tell.p)
    tell("give", a, pet, t=food)
    tell("eat", pet, t=food)
    tell("happy", pet)


def sharing(tell: Teller) -> None:
    """One child is hungry, the other shares."""
    a, b, food = tell.a, tell.b, tell.food
    tell.together()
    tell("has", a, t=food)
    tell("hungry", b)
    tell.sad(b, 0.4)
    tell("share", a, b, t=food)
    tell("thank", b, a)
    tell("eat2", a, b, t=food)
    tell("happy2", a, b)


def hide_and_seek(tell: Teller) -> None:
    """One child counts and seeks, the other hides."""
    a, b = tell.a, tell.b
    spots = list(column(tables.SPOTS, tell.lang))
    tell.rng.shuffle(spots)
    tell.together()
    tell("game", a, b)
    tell("count", a)
    tell("hide", b, h=spots[0])
    for spot in spots[1 : 1 + tell.rng.randrange(1, 3)]:
        tell("peek", a, h=spot)
        tell("nobody")
    tell("spot", a, b, h=spots[0])
    tell("happy2", a, b)


def in_the_tree(tell: Teller) -> None:
    """A thing is stuck in a tree; the friend climbs up and gets it."""
    a, b, t = tell.a, tell.b, tell.thing
    tell("at", a, p=tell.p)
    tell("has", a, t=t)
    tell("stuck", t=t)
    tell.sad(a)
    tell.joins()
    tell("plea", a, b)
    tell("fetch", b, t=t)
    tell("give_back", b, a, t=t)
    tell.thanks()
    tell.end(a, t, both=False)


def mending(tell: Teller) -> None:
    """A thing breaks; the friend mends it."""
    a, b, t = tell.a, tell.b, tell.thing
    tell("at", a, p=tell.p)
    tell("has", a, t=t)
    if tell.maybe(0.3):
        tell("play", a, t=t)
    tell("broken", t=t)
    tell.sad(a)
    if tell.maybe():
        tell.joins()
    else:
        tell("at", b, p=tell.q)
        tell("go", a, p=tell.q)
    tell("plea", a, b)
    tell("fix", b, t=t)
    tell.thanks()
    tell.end(a, t)


def finding(tell: Teller) -> None:
    """A thing lies there; the hero takes it and gives it to the friend."""
    a, b, t = tell.a, tell.b, tell.thing
    tell("at", a, p=tell.p)
    tell("lie", t=t, p=tell.p)
    if tell.maybe():
        tell("notice", a, t=t)
    tell("take", a, t=t)
    tell.joins()
    tell("want", b, t=t)
    if tell.maybe():
        tell("ask", b, a, t=t)
        if tell.maybe():
            tell("yes", a)
    tell("give", a, b, t=t)
    tell("thank", b, a)
    tell.end(b, t)


PLOTS: tuple[Callable[[Teller], None], ...] = (
    lost_and_found, friend_finds, asking, giving, swapping, present, shopping,
    hungry_pet, sharing, hide_and_seek, in_the_tree, mending, finding,
)  # fmt: skip
MOST_SENTENCES = 10
_WITHOUT_THING = (hungry_pet, sharing, hide_and_seek)
_LIGHT = ("ball", "kite", "hat", "umbrella", "bag")
_LIGHT_ZH = tuple(row[1] for row in tables.THINGS if row[0] in _LIGHT)


def is_held_out(lang: str, name: str, thing: str) -> bool:
    """Pairs of child and thing that no training story contains."""
    things = column(tables.THINGS, lang)
    if thing not in things or name not in tables.NAMES[lang]:
        return False
    return (3 * tables.NAMES[lang].index(name) + 5 * things.index(thing)) % 11 == 0


def tell_story(rng: Random, lang: str, thing_only: bool = False) -> Story:
    """One story for training: it holds no held-out pair of child and thing."""
    plots = [p for p in PLOTS if not (thing_only and p in _WITHOUT_THING)]
    plot = plots[rng.randrange(len(plots))]
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
        things = [t for t in things if t in _LIGHT + _LIGHT_ZH]
    a, b, t, u = names[0], names[1], things[0], things[1]
    if any(is_held_out(lang, n, x) for n in (a, b) for x in (t, u)):
        return tell_story(rng, lang, thing_only)
    food = foods[rng.randrange(len(foods))]
    pet = animals[rng.randrange(len(animals))]
    tell = Teller(rng, lang, a, b, t, u, food, *places[:3], pet, shades)
    if tell.maybe(0.15):
        tell("day")
    plot(tell)
    if len(tell.events) > MOST_SENTENCES:
        return tell_story(rng, lang, thing_only)
    opening = [i for i, event in enumerate(tell.events[:2]) if event.kind[:2] == "at"]
    sentences = [
        render(rng, event, lang, first=i in opening[:1])
        for i, event in enumerate(tell.events)
    ]
    about = tell.about or (b if plot is hide_and_seek else "")
    return Story(join(sentences, lang), lang, a, b, about, places[0])


def unique_stories(rng: Random, lang: str) -> Iterator[Story]:
    """Stories without end, none told twice."""
    told: set[str] = set()
    while True:
        story = tell_story(rng, lang)
        if story.text not in told:
            told.add(story.text)
            yield story
