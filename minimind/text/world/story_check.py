"""The rule of the stories: read a text back and replay it against a strict world.

`check_story` knows nothing of how stories are made. It keeps who is where, who has
what, who wants, owes or hides, and complains about every sentence that cannot
follow from what the text said before, and about every thread left open at the end.
"""

from minimind.text.world import story_people, story_things, tables
from minimind.text.world.scene import Scene
from minimind.text.world.sentences import OPENER
from minimind.text.world.story_text import Event, language_of, parse, pets, split

RULES = {**story_people.RULES, **story_things.RULES}
INTRODUCES = ("has", "lie", "wish", "buy")  # sentences that may name a new thing
# Sentences that may name a new child.
ARRIVES = ("friends", "at", "at2", "birthday", "meet")
FEWEST_SENTENCES = 5
MOST_SENTENCES = 12


def replay(text: str) -> Scene:
    """Play a story sentence by sentence; the scene holds the complaints."""
    lang = language_of(text)
    scene = Scene(shop=dict(zip(("en", "zh"), tables.PLACES[-1], strict=True))[lang])
    if text != text.strip() or not text:
        scene.complaints.append("empty, or blanks around the text")
    events, sentences = [], split(text, lang)
    for number, sentence in enumerate(sentences):
        event = parse(sentence, lang)
        scene.need(
            sentence not in sentences[:number],
            f"said twice: {sentence!r}",
        )
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
        elif not event.t or event.kind in INTRODUCES or event.t in scene.items:
            RULES[event.kind](scene, event)
    _ending(scene, events, pets(lang))
    return scene


def check_story(text: str, mentions: tuple[str, ...] = ()) -> list[str]:
    """What is inconsistent in a story; [] if nothing.

    `mentions` are words of the request (names, things) that must occur in it.
    """
    absent = [f"{word} does not occur" for word in mentions if word not in text]
    return replay(text).complaints + absent


def _known(scene: Scene, event: Event) -> None:
    """Everyone and everything mentioned was introduced, with the same colour."""
    for name in filter(None, (event.n, event.m)):
        known = name in scene.place or event.kind in ARRIVES
        cast = not scene.cast or name in scene.cast
        scene.need(known and cast, f"who is {name}?")
    if not event.t or event.kind in INTRODUCES:
        return
    item = scene.items.get(event.t)
    scene.need(item is not None, f"which {event.t}?")
    if item and event.colour:
        scene.need(item.colour == event.colour, f"{event.t} is not {event.colour}")


def _ending(scene: Scene, events: list[Event], animals: tuple[str, ...]) -> None:
    last = events[-1].kind if events else ""
    scene.need(last in ("happy", "happy2", "now", "play2"), "the story is cut off")
    scene.need(
        FEWEST_SENTENCES <= len(events) <= MOST_SENTENCES, f"{len(events)} sentences"
    )
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
        "is still lost": [t for t, i in scene.items.items() if i.state == "lost"],
        "is still broken": [t for t, i in scene.items.items() if i.state == "broken"],
        "is still stuck": [t for t, i in scene.items.items() if i.state == "stuck"],
    }
    for thread, open_ones in threads.items():
        scene.need(not open_ones, f"{thread}: {', '.join(open_ones)}")
