"""The rule of the stories: read a text back and replay it against a strict world.

`check_story` knows nothing of how stories are made. It keeps who is where, who has
what, who wants, owes or hides, and complains about every sentence that cannot
follow from what the text said before, and about every thread left open at the end.
"""

from dataclasses import dataclass, field

from . import tables
from .story_text import OPENER, Event, language_of, parse, pets, split


@dataclass
class Item:
    """A thing: its colour, and who holds it, or the place where it lies."""

    colour: str | None
    holder: str = ""
    place: str = ""
    owner: str = ""
    state: str = ""  # "", "lost", "stuck" or "broken"


@dataclass
class Scene:
    """What a story has established so far, and what is wrong with it."""

    place: dict[str, str] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    wants: dict[tuple[str, str], str | None] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    owes: list[tuple[str, str]] = field(default_factory=list)
    helpers: dict[str, str] = field(default_factory=dict)
    joy: list[str] = field(default_factory=list)
    woe: list[str] = field(default_factory=list)
    sad: list[str] = field(default_factory=list)
    hungry: list[str] = field(default_factory=list)
    birthday: list[str] = field(default_factory=list)
    seeker: dict[str, str] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)
    peeked: str = ""
    shop: str = ""
    complaints: list[str] = field(default_factory=list)

    def need(self, holds: bool, complaint: str) -> None:
        """Note a complaint unless the condition holds."""
        if not holds:
            self.complaints.append(complaint)

    def where(self, t: str) -> str:
        """The place of a thing, wherever it is or whoever carries it."""
        item = self.items[t]
        return self.place.get(item.holder, "") if item.holder else item.place

    def together(self, n: str, m: str) -> None:
        """Two different characters in one place."""
        self.need(n != m, f"{n} acts on {n}")
        self.need(
            self.place.get(n) == self.place.get(m) is not None,
            f"{n} and {m} are not in one place",
        )

    def holds(self, n: str, t: str) -> None:
        """Someone has a thing in hand."""
        self.need(self.items[t].holder == n, f"{n} does not have {t}")

    def pleased(self, *names: str) -> None:
        """A reason to be happy."""
        for name in names:
            self.joy = [*(n for n in self.joy if n != name), name]
            self.woe = [n for n in self.woe if n != name]

    def obtains(self, n: str, t: str) -> None:
        """A thing comes into someone's hands: a wish or a loss may end here."""
        item = self.items[t]
        item.holder, item.place = n, ""
        if item.state == "lost" and item.owner == n:
            item.state = ""
            self.pleased(n)
        if (n, t) in self.wants:
            del self.wants[n, t]
            self.pleased(n)
        self.asked = [a for a in self.asked if (a[0], a[2]) != (n, t)]


def replay(text: str) -> Scene:
    """Play a story sentence by sentence; the scene holds the complaints."""
    lang = language_of(text)
    scene = Scene(shop=dict(zip(("en", "zh"), tables.PLACES[-1], strict=True))[lang])
    if text != text.strip() or not text:
        scene.complaints.append("empty, or blanks around the text")
    events = []
    for number, sentence in enumerate(split(text, lang)):
        event = parse(sentence, lang)
        opens = sentence.lower().startswith(OPENER[lang])
        scene.need(number < 2 or not opens, "a second beginning")
        if event is None:
            scene.complaints.append(f"not a sentence of the world: {sentence!r}")
        else:
            events.append(event)
    for number, event in enumerate(events):
        _known(scene, event)
        if event.kind == "day":
            scene.need(number == 0, "the weather belongs to the beginning")
        if not scene.complaints or event.t in ("", *scene.items):
            _RULES.get(event.kind, lambda s, e: None)(scene, event)
    _ending(scene, events, pets(lang))
    return scene


def check_story(text: str, mentions: tuple[str, ...] = ()) -> list[str]:
    """What is inconsistent in a story; [] if nothing.

    `mentions` are words of the request (names, things) that must occur in it.
    """
    absent = [f"{word} does not occur" for word in mentions if word not in text]
    return replay(text).complaints + absent


_INTRODUCES = ("has", "lie", "wish", "buy")


def _known(scene: Scene, event: Event) -> None:
    """Everyone and everything mentioned was introduced, with the same colour."""
    if event.kind not in ("at", "at2", "birthday"):
        for name in (event.n, event.m):
            scene.need(not name or name in scene.place, f"who is {name}?")
    if not event.t or event.kind in _INTRODUCES:
        return
    item = scene.items.get(event.t)
    scene.need(item is not None, f"which {event.t}?")
    if item and event.colour:
        scene.need(item.colour == event.colour, f"{event.t} is not {event.colour}")


def _ending(scene: Scene, events: list[Event], animals: tuple[str, ...]) -> None:
    last = events[-1].kind if events else ""
    scene.need(last in ("happy", "happy2", "now", "play2"), "the story is cut off")
    scene.need(5 <= len(events) <= 10, f"{len(events)} sentences")
    scene.need("happy" in " ".join(e.kind for e in events), "nobody is happy")
    threads = {
        "wants": [f"{n}: {t}" for n, t in scene.wants],
        "was asked": [f"{m}: {t}" for _, m, t in scene.asked],
        "is still sad": scene.sad,
        "is still hungry": scene.hungry,
        "got no present": scene.birthday,
        "is still hidden": list(scene.hidden),
        "still seeks": list(scene.seeker),
        "did not say thanks": [n for n, _ in scene.owes if n not in animals],
        "is still " + "lost": [t for t, i in scene.items.items() if i.state == "lost"],
        "is still broken": [t for t, i in scene.items.items() if i.state == "broken"],
        "is still stuck": [t for t, i in scene.items.items() if i.state == "stuck"],
    }
    for thread, open_ones in threads.items():
        scene.need(not open_ones, f"{thread}: {', '.join(open_ones)}")


def _at(s: Scene, e: Event) -> None:
    for name in filter(None, (e.n, e.m)):
        s.need(name not in s.place, f"{name} is already in the {s.place.get(name)}")
        s.place[name] = e.p
    s.need(e.n != e.m, f"{e.n} twice")


def _has(s: Scene, e: Event) -> None:
    s.need(e.t not in s.items, f"a second {e.t}")
    s.items[e.t] = Item(e.colour, holder=e.n, owner=e.n)


def _lie(s: Scene, e: Event) -> None:
    s.need(e.t not in s.items, f"a second {e.t}")
    s.items[e.t] = Item(e.colour, place=e.p)


def _go(s: Scene, e: Event) -> None:
    for name in filter(None, (e.n, e.m)):
        s.need(s.place.get(name) != e.p, f"{name} is already in the {e.p}")
        s.need(name not in s.hidden and name not in s.seeker, f"{name} leaves a game")
    if e.m:
        s.together(e.n, e.m)
    for name in filter(None, (e.n, e.m)):
        s.place[name] = e.p


def _see(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)


def _notice(s: Scene, e: Event) -> None:
    s.need(s.where(e.t) == s.place.get(e.n), f"{e.t} is not where {e.n} is")


def _want(s: Scene, e: Event) -> None:
    _notice(s, e)
    s.need(s.items[e.t].holder != e.n, f"{e.n} has {e.t} already")
    s.wants[e.n, e.t] = s.items[e.t].colour
    s.woe.append(e.n)


def _wish(s: Scene, e: Event) -> None:
    s.need(e.t not in s.items, f"{e.t} is there already")
    s.wants[e.n, e.t] = e.colour
    s.woe.append(e.n)


def _ask(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)
    s.holds(e.m, e.t)
    s.need((e.n, e.t) in s.wants, f"{e.n} asks for {e.t} but did not want it")
    s.asked.append((e.n, e.m, e.t))


def _yes(s: Scene, e: Event) -> None:
    s.need(any(m == e.n for _, m, _ in s.asked), f"nobody asked {e.n}")


def _give(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)
    s.holds(e.n, e.t)
    item = s.items[e.t]
    back = item.owner == e.m
    reason = back or (e.m, e.t) in s.wants or e.m in s.birthday or e.m in s.hungry
    s.need(reason, f"no reason to give {e.t} to {e.m}")
    s.need(e.kind != "give_back" or back, f"{e.t} did not belong to {e.m}")
    s.need(e.kind == "give_back" or not back, f"{e.t} belongs to {e.m}: give back")
    s.obtains(e.m, e.t)
    if not back:
        item.owner = e.m
    s.birthday = [n for n in s.birthday if n != e.m]
    s.pleased(e.m)
    if (e.n, e.m) in s.owes:  # a present in return is thanks enough
        s.owes.remove((e.n, e.m))
    elif (e.m, e.n) not in s.owes:
        s.owes.append((e.m, e.n))


def _thank(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)
    s.need((e.n, e.m) in s.owes, f"{e.n} has nothing to thank {e.m} for")
    s.owes = [pair for pair in s.owes if pair != (e.n, e.m)]


def _play(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    if e.m:
        s.together(e.n, e.m)
    s.need(item.holder in (e.n, e.m), f"nobody there has {e.t}")
    s.need(not item.state, f"{e.t} is {item.state}")
    s.pleased(*filter(None, (e.n, e.m)))


def _lose(s: Scene, e: Event) -> None:
    s.holds(e.n, e.t)
    item = s.items[e.t]
    item.holder, item.place, item.state = "", s.place.get(e.n, ""), "lost"
    item.owner = e.n
    s.woe.append(e.n)


def _look(s: Scene, e: Event) -> None:
    s.need(s.items[e.t].state == "lost", f"{e.t} is not lost")
    s.need(not s.items[e.t].holder, f"{e.t} was found")


def _absent(s: Scene, e: Event) -> None:
    s.need(s.where(e.t) != e.p, f"{e.t} is in the {e.p}")
    s.need(s.items[e.t].state == "lost", f"{e.t} is not lost")
    s.need(e.p in s.place.values(), f"nobody is in the {e.p}")


def _find(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    s.need(not item.holder, f"{item.holder} has {e.t}")
    s.need(item.state in ("", "lost"), f"{e.t} is {item.state}")
    s.need(item.place == s.place.get(e.n), f"{e.t} is not where {e.n} is")
    s.need(e.p in ("", item.place), f"{e.t} is not in the {e.p}")
    s.need(e.kind == "find" or item.state == "", f"{e.t} is lost")
    item.owner = item.owner or e.n
    s.obtains(e.n, e.t)


def _buy(s: Scene, e: Event) -> None:
    s.need(s.place.get(e.n) == s.shop, f"{e.n} is not in the {s.shop}")
    s.need(e.t not in s.items, f"{e.t} is there already")
    wished = {(n, t): colour for (n, t), colour in s.wants.items() if t == e.t}
    s.need(bool(wished) or bool(s.birthday), f"no reason to buy {e.t}")
    s.need(all(c == e.colour for c in wished.values()), f"another {e.t} was wanted")
    s.items[e.t] = Item(e.colour, owner=e.n)
    s.obtains(e.n, e.t)


def _birthday(s: Scene, e: Event) -> None:
    s.birthday.append(e.n)


def _sad(s: Scene, e: Event) -> None:
    s.need(e.n in s.woe, f"{e.n} has no reason to be sad")
    s.sad.append(e.n)


def _happy(s: Scene, e: Event) -> None:
    for name in filter(None, (e.n, e.m)):
        s.need(name in s.joy, f"{name} has no reason to be happy")
        s.joy = [n for n in s.joy if n != name]
        s.sad = [n for n in s.sad if n != name]
    if e.m:
        s.together(e.n, e.m)


def _hungry(s: Scene, e: Event) -> None:
    s.hungry.append(e.n)
    s.woe.append(e.n)


def _eat(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    eaters = [name for name in (e.n, e.m) if name]
    if e.m:
        s.together(e.n, e.m)
        s.need(item.state == "shared", f"{e.t} was not shared")
    s.need(item.holder in eaters, f"nobody there has {e.t}")
    s.need(e.t in _foods(), f"{e.t} is no food")
    del s.items[e.t]
    s.hungry = [n for n in s.hungry if n not in eaters]
    s.pleased(*eaters)


def _share(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)
    s.holds(e.n, e.t)
    s.need(e.m in s.hungry, f"{e.m} is not hungry")
    s.items[e.t].state = "shared"
    s.owes.append((e.m, e.n))
    s.pleased(e.m)


def _game(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)
    s.seeker = {e.n: e.m}


def _count(s: Scene, e: Event) -> None:
    s.need(e.n in s.seeker, f"{e.n} does not seek")
    s.counted.append(e.n)


def _hide(s: Scene, e: Event) -> None:
    s.need(e.n in s.seeker.values(), f"{e.n} plays no game")
    s.need(bool(s.counted), "nobody counted")
    s.hidden[e.n] = e.h


def _peek(s: Scene, e: Event) -> None:
    s.need(e.n in s.seeker and bool(s.hidden), f"{e.n} does not seek")
    s.need(e.h not in s.hidden.values(), "a look into the right spot finds someone")
    s.need(not s.peeked, "a look without an outcome")
    s.peeked = e.h


def _nobody(s: Scene, e: Event) -> None:
    s.need(bool(s.peeked), "nobody looked")
    s.peeked = ""


def _spot(s: Scene, e: Event) -> None:
    s.need(s.seeker.get(e.n) == e.m, f"{e.n} does not seek {e.m}")
    s.need(s.hidden.get(e.m) == e.h, f"{e.m} is not {e.h}")
    s.need(not s.peeked, "a look without an outcome")
    s.seeker, s.hidden = {}, {}
    s.pleased(e.n, e.m)


def _trouble(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    s.need(bool(item.holder) and not item.state, f"nobody has {e.t}")
    item.owner = item.holder
    s.woe.append(item.holder)
    item.state = {"stuck": "stuck", "broken": "broken"}[e.kind]
    if e.kind == "stuck":
        item.place, item.holder = s.place.get(item.holder, ""), ""


def _plea(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)
    mine = [t for t, item in s.items.items() if item.owner == e.n and item.state]
    s.need(bool(mine), f"{e.n} needs no help")
    s.helpers[e.m] = e.n


def _fetch(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    s.need(item.state == "stuck", f"{e.t} is not stuck")
    s.need(s.helpers.get(e.n) == item.owner, f"nobody asked {e.n} for help")
    s.need(item.place == s.place.get(e.n), f"{e.t} is not where {e.n} is")
    item.state = ""
    s.obtains(e.n, e.t)


def _fix(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    s.need(item.state == "broken", f"{e.t} is not broken")
    s.need(s.helpers.get(e.n) == item.owner, f"nobody asked {e.n} for help")
    s.together(e.n, item.holder)
    item.state = ""
    s.pleased(item.owner)
    s.owes.append((item.owner, e.n))


def _now(s: Scene, e: Event) -> None:
    s.holds(e.n, e.t)


def _foods() -> tuple[str, ...]:
    return tuple(word for row in tables.FOODS for word in row[:2])


_RULES = {
    "at": _at, "at2": _at, "has": _has, "lie": _lie, "go": _go, "go2": _go,
    "see": _see, "notice": _notice, "want": _want, "wish": _wish, "ask": _ask,
    "yes": _yes, "give": _give, "give_back": _give, "thank": _thank, "play": _play,
    "play2": _play, "lose": _lose, "look": _look, "absent": _absent, "find": _find,
    "take": _find, "buy": _buy, "birthday": _birthday, "sad": _sad, "happy": _happy,
    "happy2": _happy, "now": _now, "hungry": _hungry, "eat": _eat, "eat2": _eat,
    "share": _share, "game": _game, "count": _count, "hide": _hide, "peek": _peek,
    "nobody": _nobody, "spot": _spot, "stuck": _trouble, "broken": _trouble,
    "plea": _plea, "fetch": _fetch, "fix": _fix,
}  # fmt: skip
