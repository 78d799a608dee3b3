"""Sums of three-digit numbers with their working, and the rule that judges replies.

Explained in chapter 13. Rows are in the format of MiniMind's r1_mix set: every answer
of the assistant has a block of thoughts, which may be empty, and a block with the
answer. The working is column addition, units first, each line one column with the
carry into it: 347+585 is 7+5+0=12, then 4+8+1=13, then 3+5+1=09.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from minimind.text.thinking import read_reply, write_reply
from minimind.text.world.facts import LANGS
from minimind.text.world.phrases import Question, decorate, pick_core, put
from minimind.text.world.rows import Chat, chat_row, sft_rows

SMALLEST, LARGEST = 100, 999  # of both numbers


def working(a: int, b: int) -> str:
    """The sum, then a line for each column, units first: digit, digit, carry, total.

    Carries of 0 and totals of two digits are written out, so that everything stands
    at a fixed distance from what it is made of. Both numbers have equally many digits.
    """
    lines, carry = [f"{a}+{b}"], 0
    for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
        total = int(x) + int(y) + carry
        lines.append(f"{x}+{y}+{carry}={total:02}")
        carry = total // 10
    return "\n".join(lines)


def is_held_out(a: int, b: int) -> bool:
    """Whether training never shows this sum; the order of the two does not matter."""
    return a * b % 13 == 5


def reason_rows(seed: int, n: int, thinking: bool = True) -> Iterator[Chat]:
    """`n` chats: two thirds ask for a sum, the others are chats as SFT has them.

    The others need no working, so all their thoughts are empty. thinking: False
    empties those of the sums as well, for comparison.
    """
    rng, ordinary = Random(f"reason {seed}"), sft_rows(seed, n)
    for number in range(n):
        if number // 2 % 3 == 0:
            yield _without_thoughts(next(ordinary))
            continue
        question = _ask(rng, LANGS[number % 2], held_out=False)
        thoughts = working(*_numbers(question)) if thinking else ""
        yield chat_row([(question.text, write_reply(thoughts, question.answer))])


def reason_exam(seed: int, n: int = 400) -> Iterator[Question]:
    """`n` questions about sums that no row of `reason_rows` holds."""
    rng = Random(f"reason exam {seed}")
    for number in range(n):
        yield _ask(rng, LANGS[number % 2], held_out=True)


class Verdict(NamedTuple):
    """What the world's rule says of a reply to a question of `reason_exam`."""

    well_formed: bool  # thoughts, then an answer, each in its block, and nothing else
    right: bool  # well formed, and the answer is the world's
    sound: bool  # well formed, and the thoughts are the working, line by line


def judge(question: Question, reply: str) -> Verdict:
    """The rule: is a reply well formed, its answer right, its working sound?"""
    parts = read_reply(reply)
    if parts is None:
        return Verdict(False, False, False)
    thoughts, answer = parts
    right = answer == question.answer
    return Verdict(True, right, thoughts == working(*_numbers(question)))


def _without_thoughts(chat: Chat) -> Chat:
    turns = [turn["content"] for turn in chat["conversations"]]
    replies = (write_reply("", content) for content in turns[1::2])
    return chat_row(list(zip(turns[::2], replies, strict=True)))


def _ask(rng: Random, lang: str, held_out: bool) -> Question:
    while True:
        a, b = (rng.randint(SMALLEST, LARGEST) for _ in range(2))
        if is_held_out(a, b) == held_out:
            break
    core, x = pick_core(rng, "sum", lang), f"{a}+{b}"
    text = decorate(rng, put(core, x, lang), lang)
    return Question(text, f"{x}={a + b}", lang, "long sum", x, core, held_out)


def _numbers(question: Question) -> tuple[int, int]:
    a, b = question.subject.split("+")
    return int(a), int(b)
