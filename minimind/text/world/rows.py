"""Rows in MiniMind's jsonl formats, streamed: pretraining, SFT, questions, requests.

Every stream is a function of its seed alone.
"""

from collections.abc import Iterator
from random import Random

from minimind.text.world import prose
from minimind.text.world.decks import SHARES, Decks, weighted
from minimind.text.world.facts import LANGS
from minimind.text.world.phrases import Question, ask
from minimind.text.world.relations import RELATIONS
from minimind.text.world.stories import Story, tell_story
from minimind.text.world.talk import (
    CHAT_SHARES,
    CHATS,
    about_invented,
    fact_turn,
    small_talk,
    story_request,
    unknown,
)

Row = dict[str, str]
Chat = dict[str, list[dict[str, str]]]

# Shares of the rows; a row of each kind has about the same number of tokens.
PRETRAIN = {"story": 54, "facts": 34, "sums": 7, "prose": 5}
SFT = {"fact": 51, "talk": 5, "unknown": 4, "invented": 2, "story": 12, "chat": 26}
# How many held-out questions of each relation, in each language.
QUESTIONS = {
    "capital": 120, "colour": 26, "opposite": 40, "sound": 13, "legs": 20,
    "home": 18, "young": 16, "sum": 40,
}  # fmt: skip
QUESTIONS_BESIDE = 12  # of each other kind: invented, unknown, talk


def pretrain_rows(seed: int, n: int) -> Iterator[Row]:
    """`n` rows {"text": ...}; no story comes twice."""
    rng = Random(f"pretrain {seed}")
    decks, told = Decks(rng), set[str]()
    for number in range(n):
        lang = LANGS[number % 2]
        kind = weighted(rng, PRETRAIN)
        if kind == "story":
            yield {"text": _new_story(rng, lang, told).text}
        else:
            yield {"text": prose.WRITERS[kind](rng, lang, decks)}


def sft_rows(seed: int, n: int) -> Iterator[Chat]:
    """`n` rows {"conversations": [...]}, one to five turns each."""
    rng = Random(f"sft {seed}")
    decks, told = Decks(rng), set[str]()
    for number in range(n):
        lang = LANGS[number % 2]
        kind = weighted(rng, SFT)
        if kind == "fact":
            turns = [fact_turn(rng, lang, decks)]
        elif kind == "talk":
            turns = [small_talk(rng, lang)]
        elif kind == "unknown":
            turns = [unknown(rng, lang, decks)]
        elif kind == "invented":
            question = about_invented(rng, lang)
            turns = [(question.text, question.answer)]
        elif kind == "story":
            story = _new_story(rng, lang, told)
            turns = [(story_request(rng, story), story.text)]
        else:
            turns = CHATS[weighted(rng, CHAT_SHARES)](rng, lang, decks)
        yield chat_row(turns)


def chat_row(turns: list[tuple[str, str]]) -> Chat:
    """Turns as a MiniMind conversation."""
    return {
        "conversations": [
            {"role": role, "content": content}
            for turn in turns
            for role, content in zip(("user", "assistant"), turn, strict=True)
        ]
    }


def questions(seed: int) -> Iterator[Question]:
    """Held-out questions: every phrasing is new, every country comes once or more."""
    rng = Random(f"questions {seed}")
    decks = Decks(rng)
    for lang in LANGS:
        for name in SHARES:
            relation = RELATIONS[name]
            for _ in range(QUESTIONS[name]):
                x = decks.draw_any(relation, lang)
                yield ask(rng, relation, lang, x, phrasing_held_out=True)
        for _ in range(QUESTIONS_BESIDE):
            yield about_invented(rng, lang, held_out=True)
            text, answer = unknown(rng, lang, decks, held_out=True)
            yield Question(text, answer, lang, "unknown", entity_heldout=True)
            text, answer = small_talk(rng, lang, held_out=True)
            yield Question(text, answer, lang, "talk")


def story_prompts(seed: int, n: int = 200) -> Iterator[Row]:
    """Requests for stories that no training row tells, in trained phrasings."""
    rng = Random(f"story prompts {seed}")
    for number in range(n):
        lang = LANGS[number % 2]
        yield {"prompt": story_request(rng, tell_story(rng, lang)), "lang": lang}


def _new_story(rng: Random, lang: str, told: set[str]) -> Story:
    while True:
        story = tell_story(rng, lang)
        if story.text not in told:
            told.add(story.text)
            return story
