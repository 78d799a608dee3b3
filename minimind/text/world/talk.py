"""Small talk, what the world does not know, and chats of several turns.

A turn is a pair (what the user says, the one right reply).
"""

from random import Random

from minimind.text.world import talk_tables as t
from minimind.text.world.decks import Decks, weighted
from minimind.text.world.facts import Relation, insert
from minimind.text.world.phrases import (
    LANGUAGE,
    Question,
    ask,
    decorate,
    pick_core,
    put,
)
from minimind.text.world.relations import RELATIONS
from minimind.text.world.stories import Story, choose, tell_story
from minimind.text.world.story_check import replay
from minimind.text.world.story_text import nouns
from minimind.text.world.tables import USER_NAMES

Turn = tuple[str, str]

# What is asked on and on ("And Italy?"), in parts of the whole.
FOLLOWED_UP = {"capital": 4, "opposite": 1, "colour": 1, "sound": 1}


def invented(rng: Random, lang: str, held_out: bool = False) -> str:
    """The name of a country that does not exist, from the trained or held-out part."""
    while True:
        picks = [rng.randrange(len(part)) for part in t.INVENTED[lang]]
        if (sum(picks) % 5 == 0) == held_out:
            parts = zip(t.INVENTED[lang], picks, strict=True)
            return "".join(part[i] for part, i in parts)


def capital_letter(text: str, rng: Random) -> str:
    """Mostly start with a capital letter, as people mostly do."""
    return text[0].upper() + text[1:] if rng.random() < 0.8 else text


def small_talk(rng: Random, lang: str, kind: str = "", held_out: bool = False) -> Turn:
    """A greeting, thanks, a question about the model itself ..."""
    said, reply = t.TALK[lang][kind or choose(rng, list(t.TALK[lang]))]
    return capital_letter(choose(rng, said[held_out]), rng), reply


def unknown(rng: Random, lang: str, decks: Decks, held_out: bool = False) -> Turn:
    """A question outside the world: the honest reply."""
    core = choose(rng, t.OUTSIDE[lang][held_out])
    text = insert(core, decks.draw(RELATIONS["capital"], lang, held_out))
    return decorate(rng, text, lang), t.UNKNOWN[lang]


def about_invented(rng: Random, lang: str, held_out: bool = False) -> Question:
    """A question about a country that does not exist, in a trained phrasing."""
    name = invented(rng, lang, held_out)
    core = pick_core(rng, "capital", lang, held_out)
    text = decorate(rng, put(core, name, lang), lang)
    return Question(text, t.UNKNOWN[lang], lang, "invented", name, core, held_out)


def story_request(rng: Random, story: Story) -> str:
    """Ask for a story about what this story is about."""
    fits = [
        request
        for request in t.STORY_REQUESTS[story.lang]
        if ("{ti}" not in request or story.thing)
        and ("{m}" not in request or story.friend in story.text)
    ]
    return fill_request(choose(rng, fits), story, rng)


def fill_request(request: str, story: Story, rng: Random) -> str:
    """Put hero, friend and thing into a story request."""
    thing = story.thing
    if story.lang == "en" and thing:
        thing = thing.removeprefix("the ")
        thing = f"{nouns('en').get(thing, 'a')} {thing}"
    text = request.format(n=story.hero, m=story.friend, ti=thing)
    return capital_letter(text, rng)


def fact(rng: Random, lang: str, decks: Decks, relation: Relation | None = None):
    """A question about any fact that SFT asks about."""
    relation = relation or decks.relation(rng)
    return ask(rng, relation, lang, decks.draw(relation, lang))


def fact_turn(rng: Random, lang: str, decks: Decks) -> Turn:
    """A question about a fact, and its answer."""
    question = fact(rng, lang, decks)
    return question.text, question.answer


def follow_up(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """A fact, then "And Italy?", once or twice."""
    relation = RELATIONS[weighted(rng, FOLLOWED_UP)]
    first = fact(rng, lang, decks, relation)
    turns = [(first.text, first.answer)]
    for _ in range(rng.randrange(1, 3)):
        x = decks.draw(relation, lang)
        shown = relation.spoken(lang, x)
        text = insert(choose(rng, LANGUAGE[lang].FOLLOW_UPS), shown)
        turns.append((capital_letter(text, rng), relation.answer(lang, x)))
    return turns


def fact_chat(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """Two to four questions about different things, one after the other."""
    return [fact_turn(rng, lang, decks) for _ in range(rng.randrange(2, 5))]


def mixed_chat(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """Two to five turns about anything, as people ask: one of them is a story."""
    turns = []
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < 0.75:
            turns.append(fact_turn(rng, lang, decks))
        else:
            turns.append(small_talk(rng, lang))
    story = tell_story(rng, lang)
    turns.insert(rng.randrange(len(turns) + 1), (story_request(rng, story), story.text))
    return turns


def name_chat(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """The user gives a name, talks of something else, and asks for it."""
    name = choose(rng, USER_NAMES[lang])
    said = capital_letter(choose(rng, t.NAME_GIVEN[lang]).format(n=name), rng)
    turns = [(said, t.NAME_GREETED[lang].format(n=name))]
    between = rng.randrange(3)
    if between == 1:
        turns.append(fact_turn(rng, lang, decks))
    elif between == 2:
        turns.append(small_talk(rng, lang, choose(rng, ("how", "who", "can"))))
    asked = capital_letter(choose(rng, t.NAME_ASKED[lang]), rng)
    turns.append((asked, t.NAME_TOLD[lang].format(n=name)))
    return turns


def nameless_chat(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """The user asks for a name that was never given."""
    asked = capital_letter(choose(rng, t.NAME_ASKED[lang]), rng)
    return [(asked, t.UNKNOWN[lang])]


def polite_chat(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """A greeting, one or two facts, thanks or goodbye."""
    turns = [small_talk(rng, lang, choose(rng, ("greeting", "how", "who")))]
    for _ in range(rng.randrange(1, 3)):
        turns.append(fact_turn(rng, lang, decks))
    if rng.random() < 0.7:
        turns.append(small_talk(rng, lang, choose(rng, ("thanks", "bye"))))
    return turns


def unknown_chat(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """Known and unknown things in one chat."""
    question, strange = fact(rng, lang, decks), about_invented(rng, lang)
    turns = [(question.text, question.answer), (strange.text, strange.answer)]
    if rng.random() < 0.5:
        turns.reverse()
    if rng.random() < 0.4:
        turns.append(unknown(rng, lang, decks))
    return turns


def story_chat(rng: Random, lang: str, decks: Decks) -> list[Turn]:
    """A story, then a question about how it ended."""
    story = tell_story(rng, lang)
    turns = [(story_request(rng, story), story.text)]
    asked = story_questions(story)
    kinds = list(asked)
    rng.shuffle(kinds)
    for kind in kinds[: rng.randrange(1, 3)]:
        slots = asked[kind]
        questions, reply = t.STORY_QUESTIONS[lang][kind]
        text = capital_letter(choose(rng, questions).format(**slots), rng)
        turns.append((text, reply.format(**slots)))
    return turns


def story_questions(story: Story) -> dict[str, dict[str, str]]:
    """What can be asked about a story's end, by replaying its text: kind -> slots."""
    scene = replay(story.text)
    asked = {"place": {"n": story.hero, "p": scene.place[story.hero]}}
    for thing, item in scene.items.items():
        if item.holder and item.colour:
            asked["owner"] = {"t": thing, "n": item.holder}
            asked["colour"] = {"t": thing, "c": item.colour}
    return asked


CHATS = {
    "facts": fact_chat,
    "follow up": follow_up,
    "name": name_chat,
    "no name": nameless_chat,
    "polite": polite_chat,
    "unknown": unknown_chat,
    "story": story_chat,
    "mixed": mixed_chat,
}
CHAT_SHARES = {
    "facts": 32, "follow up": 14, "name": 8, "no name": 2, "polite": 8, "unknown": 4,
    "story": 7, "mixed": 25,
}  # fmt: skip
