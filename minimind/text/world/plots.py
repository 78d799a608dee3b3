"""The plots: what can happen in the little world, event by event.

Each plot is a function that lets things happen in an order that makes sense: who
gives has, who meets is there, who loses is sad until it is found. Whether that
worked out is for `story_check` to say, which reads only the text.
"""

from collections.abc import Callable

from . import tables
from .story_text import column
from .teller import Teller


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
