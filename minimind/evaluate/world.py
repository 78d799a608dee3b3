"""What a model has learnt of the little world, measured by the world's own rules.

Questions in phrasings that no training row uses are answered greedily and must
equal the world's answer to the letter; stories are sampled and must tell
nothing impossible. Used by `minimind evaluate world` and `minimind zero`.
"""

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from minimind.evaluate.repetition import repetition
from minimind.model.generate import Completion, generate
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.thinking import encode_prompt
from minimind.text.tokenizer import Tokenizer
from minimind.text.world.story_check import check_story

Say = Callable[[int], None]

LONGEST = 160  # tokens of a reply; the world's longest stories have about 110
STORY_TEMPERATURE = 0.3  # of the sampled stories
EARLIER = 2  # questions answered in a chat before a story is asked for


def answer(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    questions: Sequence[str],
    sampling: Sampling,
    batch_size: int = 64,
    progress: Say = lambda answered: None,
    enable_thinking: bool = True,
    earlier: Sequence[list[dict[str, str]]] | None = None,
) -> list[Completion]:
    """The model's replies to questions asked one by one, each in a chat of its own.

    enable_thinking: as in `encode_prompt`, for models that reason.
    earlier: the messages that each chat begins with; None: every chat is new.
    """
    chats = [
        [*before, {"role": "user", "content": question}]
        for before, question in zip(
            earlier or [[]] * len(questions), questions, strict=True
        )
    ]
    replies: list[Completion] = []
    for start in range(0, len(chats), batch_size):
        prompts = [
            encode_prompt(tokenizer, chat, enable_thinking)
            for chat in chats[start : start + batch_size]
        ]
        replies += generate(model, tokenizer, prompts, sampling)
        progress(len(prompts))
    return replies


def asked_before(
    rng: Random, questions: Sequence[dict[str, Any]], lang: str
) -> list[dict[str, str]]:
    """The beginning of a chat: questions in one language and their right answers."""
    known = [question for question in questions if question["lang"] == lang]
    return [
        {"role": role, "content": question[field]}
        for question in rng.sample(known, min(EARLIER, len(known)))
        for role, field in (("user", "question"), ("assistant", "answer"))
    ]


def share(hits: Sequence[bool]) -> dict[str, float]:
    """Share of hits with its standard error and the number behind it."""
    n = len(hits)
    mean = sum(hits) / n
    return {"share": mean, "stderr": math.sqrt(mean * (1 - mean) / n), "n": n}


def score_world(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    questions: Sequence[dict[str, Any]],
    story_prompts: Sequence[dict[str, Any]],
    seed: int = 0,
    progress: Say = lambda answered: None,
) -> dict[str, Any]:
    """Scores of a chat model, each with its standard error and count.

    facts: share of replies equal to the answer, by language, apart for what
    training asks about in other words and never asks about, and by kind.
    stops: share of replies that ended by themselves. stories: share of
    sampled stories that the world's rule finds consistent; later_stories: the same
    where each is asked for after questions and their answers. Of the stories too:
    length, the mean in tokens; repetition, the mean share of four-token runs that
    the story had written before.
    """
    replies = answer(
        model,
        tokenizer,
        [q["question"] for q in questions],
        Sampling(temperature=0.0, max_new_tokens=LONGEST),
        progress=progress,
    )
    rng = Random(f"earlier {seed}")
    stories, later = (
        answer(
            model,
            tokenizer,
            [p["prompt"] for p in story_prompts],
            Sampling(STORY_TEMPERATURE, seed=seed, max_new_tokens=LONGEST),
            progress=progress,
            earlier=earlier,
        )
        for earlier in (
            None,
            [asked_before(rng, questions, p["lang"]) for p in story_prompts],
        )
    )
    right = [
        reply.text == question["answer"]
        for reply, question in zip(replies, questions, strict=True)
    ]

    def facts(**wanted: Any) -> dict[str, float] | None:
        hits = [
            hit
            for hit, question in zip(right, questions, strict=True)
            if all(question[key] == value for key, value in wanted.items())
        ]
        return share(hits) if hits else None

    kinds = sorted({question["kind"] for question in questions})
    groups = {
        "all": {},
        "asked about in other words": {"entity_heldout": False},
        "never asked about": {"entity_heldout": True},
    } | {kind: {"kind": kind} for kind in kinds}
    return {
        "facts": {
            lang: {
                name: score
                for name, wanted in groups.items()
                if (score := facts(lang=lang, **wanted)) is not None
            }
            for lang in ("en", "zh")
        },
        "stops": share([r.finish_reason == "stop" for r in replies + stories + later]),
        "stories": share([not check_story(story.text) for story in stories]),
        "later_stories": share([not check_story(story.text) for story in later]),
        "length": sum(len(story.ids) for story in stories) / len(stories),
        "repetition": sum(repetition(story.ids) for story in stories) / len(stories),
        "wrong": [
            {**question, "reply": reply.text}
            for hit, reply, question in zip(right, replies, questions, strict=True)
            if not hit
        ],
    }


def table(scores: dict[str, Any]) -> str:
    """The scores as lines of text."""

    def line(name: str, score: dict[str, float]) -> str:
        return (
            f"  {name:32} {score['share']:6.1%} +- {score['stderr']:.1%}"
            f"  of {score['n']}"
        )

    lines = ["held-out questions answered to the letter"]
    for lang, name in (("en", "English"), ("zh", "Chinese")):
        for kind, score in scores["facts"][lang].items():
            lines.append(line(f"{name}, {kind}", score))
    lines.append(line("replies that end by themselves", scores["stops"]))
    lines.append(line("stories without a contradiction", scores["stories"]))
    lines.append(line("  told after two questions", scores["later_stories"]))
    lines.append(f"  {'of a story, written before':32} {scores['repetition']:6.1%}")
    lines.append(f"  {'tokens of a story':32} {scores['length']:6.1f}")
    return "\n".join(lines)
