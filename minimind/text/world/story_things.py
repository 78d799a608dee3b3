"""Rules of the stories about things: who has them, wants, loses, gives, mends them.

Each says what must hold before (`need`) and what is different afterwards.
"""

from minimind.text.world import tables
from minimind.text.world.scene import Item, Scene
from minimind.text.world.story_text import Event


def _has(s: Scene, e: Event) -> None:
    s.need(e.t not in s.items, f"a second {e.t}")
    s.items[e.t] = Item(e.colour, holder=e.n, owner=e.n)


def _lie(s: Scene, e: Event) -> None:
    s.need(e.t not in s.items, f"a second {e.t}")
    s.items[e.t] = Item(e.colour, place=e.p)


def _want(s: Scene, e: Event) -> None:
    s.need(s.where(e.t) == s.place.get(e.n), f"{e.t} is not where {e.n} is")
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
    s.owes.append((e.m, e.n))


def _thank(s: Scene, e: Event) -> None:
    s.together(e.n, e.m)
    s.need((e.n, e.m) in s.owes, f"{e.n} has nothing to thank {e.m} for")
    s.owes = [pair for pair in s.owes if pair != (e.n, e.m)]


def _play(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    s.together(e.n, e.m)
    s.need(item.holder in (e.n, e.m), f"nobody there has {e.t}")
    s.need(not item.state, f"{e.t} is {item.state}")
    s.pleased(e.n, e.m)


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


def _trouble(s: Scene, e: Event) -> None:
    item = s.items[e.t]
    s.need(bool(item.holder) and not item.state, f"nobody has {e.t}")
    item.owner = item.holder
    s.woe.append(item.holder)
    item.state = {"gone": "lost", "stuck": "stuck", "broken": "broken"}[e.kind]
    if e.kind != "broken":
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


RULES = {
    "has": _has, "lie": _lie, "want": _want, "wish": _wish,
    "ask": _ask, "yes": _yes, "give": _give, "give_back": _give, "thank": _thank,
    "play2": _play, "gone": _trouble, "stuck": _trouble, "broken": _trouble,
    "look": _look, "absent": _absent, "find": _find, "take": _find,
    "buy": _buy, "now": _now, "eat": _eat, "eat2": _eat, "share": _share,
    "plea": _plea, "fetch": _fetch, "fix": _fix,
}  # fmt: skip
