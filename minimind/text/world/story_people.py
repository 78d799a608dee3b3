"""Rules of the stories about people: where they are, how they feel, hide and seek.

Each says what must hold before (`need`) and what is different afterwards.
"""

from minimind.text.world.scene import Scene
from minimind.text.world.story_text import Event


def _friends(s: Scene, e: Event) -> None:
    s.need(e.n != e.m, f"{e.n} twice")
    s.need(not s.place and not s.cast, "the cast belongs to the beginning")
    s.cast = (e.n, e.m)


def _at(s: Scene, e: Event) -> None:
    for name in filter(None, (e.n, e.m)):
        s.need(name not in s.place, f"{name} is already in the {s.place.get(name)}")
        s.place[name] = e.p
    s.need(e.n != e.m, f"{e.n} twice")


def _go(s: Scene, e: Event) -> None:
    for name in filter(None, (e.n, e.m)):
        s.need(s.place.get(name) != e.p, f"{name} is already in the {e.p}")
        s.need(name not in s.hidden and name not in s.seeker, f"{name} leaves a game")
    if e.m:
        s.together(e.n, e.m)
    for name in filter(None, (e.n, e.m)):
        s.place[name] = e.p


def _meet(s: Scene, e: Event) -> None:
    s.need(e.m in s.place, f"who is {e.m}?")  # only {n} may be new
    s.need(e.n not in s.place, f"{e.n} is already in the {s.place.get(e.n)}")
    s.place[e.n] = s.place.get(e.m, "")


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


def _spot(s: Scene, e: Event) -> None:
    s.need(s.seeker.get(e.n) == e.m, f"{e.n} does not seek {e.m}")
    s.need(s.hidden.get(e.m) == e.h, f"{e.m} is not {e.h}")
    s.seeker, s.hidden = {}, {}
    s.pleased(e.n, e.m)


RULES = {
    "friends": _friends,
    "at": _at, "at2": _at, "go": _go, "go2": _go, "meet": _meet, "birthday": _birthday,
    "sad": _sad, "happy": _happy, "happy2": _happy, "hungry": _hungry, "game": _game,
    "count": _count, "hide": _hide, "spot": _spot,
}  # fmt: skip
