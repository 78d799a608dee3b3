"""Replies with thoughts: how they are written, taken apart and switched off.

Explained in chapter 13. The form is that of MiniMind's r1_mix set, after
DeepSeek-AI 2025, "DeepSeek-R1".

Generated from notebooks/13_reasoning.ipynb by tools/export.py; edit it there.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from minimind.errors import UserError
from minimind.text.chat import Message, encode_rendered, render_chat
from minimind.text.tokenizer import TAG_TOKENS, Tokenizer

REASON_TAGS = TAG_TOKENS[:4]
THINK, END_THINK, ANSWER, END_ANSWER = REASON_TAGS


def write_reply(reasoning_content: str, content: str) -> str:
    """A whole reply; its thoughts may be empty."""
    return (
        f"{THINK}\n{reasoning_content}\n{END_THINK}\n{ANSWER}\n{content}\n{END_ANSWER}"
    )


class Parts(NamedTuple):
    """A reply taken apart; the names are those of chat interfaces."""

    reasoning_content: str
    content: str


WHOLE = re.compile(write_reply("(.*?)", "(.+?)"), re.DOTALL)


def read_reply(reply: str) -> Parts | None:
    """The parts of a well-formed reply, None for any other.

    Well formed: as `write_reply` writes it, each tag once, an answer there.
    """
    found = WHOLE.fullmatch(reply)
    if found is None or any(reply.count(tag) > 1 for tag in REASON_TAGS):
        return None
    return Parts(*found.groups())


# What a text may end with that could still become a tag.
BEGUN = "|".join(
    re.escape(tag[:length])
    for tag in REASON_TAGS
    for length in range(len(tag) - 1, 0, -1)
)
BEGUN_TAG = re.compile(f"(?:{BEGUN})$")
ANSWER_TAG = re.compile(f"{ANSWER}|{END_ANSWER}")


def split_reply(text: str, complete: bool = True) -> Parts:
    """Thoughts and answer of any reply, well formed or not, without the tags.

    Thoughts are what stands in a block at the beginning, or after its
    opening tag where the block is not closed. Of a text that goes on
    (complete=False) each part is a beginning of what it will be.
    """
    if not complete:
        text = BEGUN_TAG.sub("", text)
    thoughts, rest = "", text.lstrip()
    if rest.startswith(THINK):
        thoughts, _, rest = rest.removeprefix(THINK).partition(END_THINK)
    return Parts(thoughts.strip(), ANSWER_TAG.sub("", rest).strip())


def stream_parts(pieces: Iterable[str]) -> Iterator[Parts]:
    """What each piece of a reply adds to its thoughts and to its answer."""
    text, told = "", Parts("", "")
    for piece in chain(pieces, [None]):
        text += piece or ""
        parts = split_reply(text, complete=piece is None)
        new = (now[len(old) :] for now, old in zip(parts, told))
        yield Parts(*new)
        told = parts


NO_THOUGHTS = f"{THINK}\n\n{END_THINK}\n"
SWITCH = (
    "{% if add_generation_prompt and enable_thinking is defined "
    "and enable_thinking is false %}"
    f"{{{{ {NO_THOUGHTS!r} }}}}{{% endif %}}"
)


def with_switch(chat_template: str) -> str:
    """A chat template that knows `enable_thinking`, as Qwen3's does.

    Where it is false, the header of the answer to come is followed by empty
    thoughts, so that the model goes on with the answer.
    """
    if "enable_thinking" in chat_template:
        return chat_template
    return chat_template.removesuffix("\n") + SWITCH


def encode_prompt(
    tokenizer: Tokenizer, messages: list[Message], enable_thinking: bool = True
) -> list[int]:
    """Ids of a conversation, ending with the header of the answer to come.

    Raises UserError where thinking is to be off and the template knows no
    way to say so: the model was not trained to think.
    """
    template = tokenizer.chat_template
    if not enable_thinking and "enable_thinking" not in template:
        raise UserError(
            "thinking cannot be off: the model's chat_template has no "
            "enable_thinking; use a model of `minimind train reason`"
        )
    text = render_chat(tokenizer, messages, True, enable_thinking)
    return encode_rendered(tokenizer, text)
