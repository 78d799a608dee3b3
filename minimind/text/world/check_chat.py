"""The world's rule for chats: does every reply follow from what was said?"""

import re

from minimind.text.world import talk_tables as t
from minimind.text.world.check import check_statement, talk_of
from minimind.text.world.statements import parse_statement
from minimind.text.world.story_check import FEWEST_SENTENCES, check_story, replay
from minimind.text.world.story_text import language_of, split
from minimind.text.world.tables import USER_NAMES


def check_chat(turns: list[dict[str, str]]) -> list[str]:
    """Complaints about a conversation: every reply must follow from what was said."""
    wrong, name, story = [], "", ""
    for user, assistant in zip(turns[::2], turns[1::2], strict=True):
        said, reply = user["content"], assistant["content"]
        lang = language_of(said)
        given = [
            n for n in USER_NAMES[lang] if t.NAME_GREETED[lang].format(n=n) == reply
        ]
        if given:
            name = given[0]
            fits = name in said
        elif reply == t.UNKNOWN[lang]:
            fits = _is_outside(said, lang)
        elif reply in [r for _, r in t.TALK[lang].values()]:
            fits = said.lower() in talk_of(reply, lang)
        elif name and reply == t.NAME_TOLD[lang].format(n=name):
            fits = said.lower() in [asked.lower() for asked in t.NAME_ASKED[lang]]
        elif len(split(reply, lang)) >= FEWEST_SENTENCES:
            story = reply
            fits = not check_story(reply) and _is_request(said)
        elif story and _follows_from(story, said, reply, lang):
            fits = True
        else:
            fits = bool(check_statement(reply, lang)) and _about(said, reply, lang)
        if not fits:
            wrong.append(f"{said!r} -> {reply!r}")
    return wrong


def _about(said: str, reply: str, lang: str) -> bool:
    """A fact's subject, as the reply names it, stands in what the user said."""
    numbers = re.findall(r"\d+", reply)
    if "=" in reply:
        return sorted(re.findall(r"\d+", said)) == sorted(numbers[:2])
    subjects = (x for _, x, _ in parse_statement(reply, lang))
    return any(x.lower() in said.lower() for x in subjects)


def _is_outside(said: str, lang: str) -> bool:
    """Does it name a country that does not exist, or a topic outside the world?"""
    syllables = ("|".join(part) for part in t.INVENTED[lang])
    invented = "".join(f"(?:{part})" for part in syllables)
    topics = (*t.OUTSIDE[lang].train, *t.OUTSIDE[lang].held_out, *t.NAME_ASKED[lang])
    patterns = [re.escape(topic.rstrip("?？.。").lower()) for topic in topics]
    outside = "|".join(patterns).replace(r"\{x\}", ".+?")
    return bool(re.search(invented, said) or re.search(outside, said.lower()))


def _is_request(said: str) -> bool:
    words = ("story", "故事", "tell me about", "说说")
    return any(word in said.lower() for word in words)


def _follows_from(story: str, said: str, reply: str, lang: str) -> bool:
    scene = replay(story)
    true = []
    replies = {kind: form for kind, (_, form) in t.STORY_QUESTIONS[lang].items()}
    for name, place in scene.place.items():
        true.append((name, replies["place"].format(n=name, p=place)))
    for thing, item in scene.items.items():
        true.append((thing, replies["owner"].format(n=item.holder, t=thing)))
        true.append((thing, replies["colour"].format(t=thing, c=item.colour)))
    return any(subject in said and reply == text for subject, text in true)
