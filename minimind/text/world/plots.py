"""The plots: what can happen in the little world, event by event.

Each plot is a function that lets things happen in an order that makes sense: who
gives has, who meets is there, who loses is sad until it is found. Whether that
worked out is for `story_check` to say, which reads only the text. Sentences that
begin alike go on alike in all plots (who has something is named first; who wants a
thing asks for it; what befalls a thing is told of the thing), which is what a model of
this size can follow.
"""

from collections.abc import Callable

from minimind.text.world import tables
from minimind.text.world.story_text import column
from minimind.text.world.teller import Teller


def lost_and_found(tell: Teller) -> None:
    """A thing of the hero is gone; the hero looks elsewhere, then finds it."""
    a, t = tell.a, tell.thing
    tell("at", a, p=tell.p)
    tell("has", a, t=t)
    tell("gone", t=t)
    tell("go", a, p=tell.q)
    tell("look", a, t=t)
    tell("absent", t=t, p=tell.q)
    tell.sad(a, 0.5)
    tell("go", a, p=tell.p)
    tell("find", a, t=t)
    tell.end(a, t)


def friend_finds(tell: Teller) -> None:
    """A thing is gone; the friend finds it and gives it back."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.together()
    tell("has", a, t=t)
    tell("gone", t=t)
    tell.sad(a)
    tell("plea", a, b)
    tell("find", b, t=t)
    tell("give_back", b, a, t=t)
    tell("thank", a, b)
    tell.end(a, t)


def asking(tell: Teller) -> None:
    """The friend wants what the hero has, asks for it and gets it."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.together()
    tell("has", a, t=t)
    tell("want", b, t=t)
    tell("ask", b, a, t=t)
    if tell.maybe():
        tell("yes", a)
    tell("give", a, b, t=t)
    tell("thank", b, a)
    tell.end(b, t)


def giving(tell: Teller) -> None:
    """The friend wants what the hero has, asks for it, and both play."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.together()
    tell("has", a, t=t)
    tell("want", b, t=t)
    tell("ask", b, a, t=t)
    tell("give", a, b, t=t)
    tell("thank", b, a)
    tell("play2", a, b, t=t)
    tell("happy2", a, b)


def present(tell: Teller) -> None:
    """It is the friend's birthday; the hero buys a present, the friend comes."""
    a, b, t = tell.a, tell.b, tell.thing
    shop = column(tables.PLACES, tell.lang)[-1]
    tell.friends()
    tell("birthday", b)
    tell("at", a, p=shop)
    tell("buy", a, t=t)
    tell("at", b, p=tell.p)
    tell("go", b, p=shop)
    tell("give", a, b, t=t)
    tell("thank", b, a)
    tell.end(b, t)


def shopping(tell: Teller) -> None:
    """The hero wishes for a thing, buys it and plays with it and the friend."""
    a, b, t = tell.a, tell.b, tell.thing
    shop = column(tables.PLACES, tell.lang)[-1]
    tell.friends()
    tell("at", a, p=tell.p)
    tell("wish", a, t=t)
    tell("go", a, p=shop)
    tell("buy", a, t=t)
    tell("at", b, p=tell.q)
    tell("go", a, p=tell.q)
    tell("play2", a, b, t=t)
    tell("happy2", a, b)


def hungry_pet(tell: Teller) -> None:
    """The hero meets a hungry animal and feeds it."""
    a, pet, food = tell.a, tell.pet, tell.food
    tell("at", pet, p=tell.p)
    tell("hungry", pet)
    tell("meet", a, pet)
    tell("has", a, t=food)
    tell("give", a, pet, t=food)
    tell("eat", pet, t=food)
    tell("happy", pet)


def sharing(tell: Teller) -> None:
    """The hero has food, the friend is hungry; they share it."""
    a, b, food = tell.a, tell.b, tell.food
    tell.together()
    tell("has", a, t=food)
    tell("hungry", b)
    tell("share", a, b, t=food)
    tell("thank", b, a)
    tell("eat2", a, b, t=food)
    tell("happy2", a, b)


def hide_and_seek(tell: Teller) -> None:
    """One child counts and seeks, the other hides."""
    a, b = tell.a, tell.b
    spots = column(tables.SPOTS, tell.lang)
    spot = spots[tell.rng.randrange(len(spots))]
    tell.together()
    tell("game", a, b)
    tell("count", a)
    tell("hide", b, h=spot)
    tell("spot", a, b, h=spot)
    tell("happy2", a, b)


def in_the_tree(tell: Teller) -> None:
    """A thing is stuck in a tree; the friend climbs up and gets it."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.together()
    tell("has", a, t=t)
    tell("stuck", t=t)
    tell.sad(a)
    tell("plea", a, b)
    tell("fetch", b, t=t)
    tell("give_back", b, a, t=t)
    tell("thank", a, b)
    tell.end(a, t)


def mending(tell: Teller) -> None:
    """A thing breaks; the friend comes and mends it."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.friends()
    tell("at", a, p=tell.p)
    tell("has", a, t=t)
    tell("broken", t=t)
    tell.sad(a, 0.5)
    tell.joins()
    tell("plea", a, b)
    tell("fix", b, t=t)
    tell("thank", a, b)
    tell.end(a, t)


def finding(tell: Teller) -> None:
    """A thing lies there; the hero takes it, and the friend asks for it."""
    a, b, t = tell.a, tell.b, tell.thing
    tell.together()
    tell("lie", t=t, p=tell.p)
    tell("take", a, t=t)
    tell("want", b, t=t)
    tell("ask", b, a, t=t)
    tell("give", a, b, t=t)
    tell("thank", b, a)
    tell.end(b, t)


PLOTS: tuple[Callable[[Teller], None], ...] = (
    lost_and_found, friend_finds, asking, giving, present, shopping,
    hungry_pet, sharing, hide_and_seek, in_the_tree, mending, finding,
)  # fmt: skip
