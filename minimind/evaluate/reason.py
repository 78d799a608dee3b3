"""How a model reasons: whether its replies keep the form, and whether they are right.

Explained in chapter 13. The rule is the little world's; the form can be measured on
any prompts.
"""

from collections.abc import Sequence

import numpy as np

from minimind.evaluate.world import answer
from minimind.model.generate import generate
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.thinking import NO_THOUGHTS, read_reply
from minimind.text.tokenizer import Tokenizer
from minimind.text.tokens import TokenFile
from minimind.text.world.phrases import Question
from minimind.text.world.reasoning import judge

GREEDY_REPLY = Sampling(temperature=0.0, max_new_tokens=96)  # sums take about 50


def score_reasoning(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    exam: Sequence[Question],
    sampling: Sampling = GREEDY_REPLY,
    enable_thinking: bool = True,
) -> dict[str, float]:
    """Shares of replies that are well formed, right and sound; their mean length.

    exam: of `reason_exam`. tokens: the mean length of a reply.
    """
    questions = [question.text for question in exam]
    replies = answer(
        model, tokenizer, questions, sampling, enable_thinking=enable_thinking
    )
    given = "" if enable_thinking else NO_THOUGHTS  # by the prompt
    verdicts = [judge(q, given + r.text) for q, r in zip(exam, replies, strict=True)]
    shares = (sum(hits) / len(verdicts) for hits in zip(*verdicts, strict=True))
    length = sum(len(reply.ids) for reply in replies) / len(replies)
    return dict(zip(("well_formed", "right", "sound"), shares), tokens=length)


def prompts_of(data: TokenFile, count: int) -> list[list[int]]:
    """The first conversations of a set, each up to the first answer."""
    prompts = []
    for start, end in zip(data.offsets[:count], data.offsets[1:]):
        first = int(np.argmax(data.targets[start:end]))
        prompts.append(data.tokens[start : start + first].tolist())
    return prompts


def well_formed_rate(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> float:
    """Share of greedy replies that hold thoughts and an answer, each in its block."""
    sampling = Sampling(temperature=0.0, max_new_tokens=max_new_tokens)
    replies = generate(model, tokenizer, prompts, sampling)
    return sum(read_reply(reply.text) is not None for reply in replies) / len(prompts)
