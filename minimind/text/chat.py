"""Conversations to token ids, and a label for each id that is to be learned.

Explained in chapter 01 (the template) and chapter 09 (the labels). The
template comes with the tokenizer; the assistant's part is marked while
rendering, so nothing is searched for afterwards.

Generated from notebooks/01_tokenizer.ipynb, notebooks/09_sft.ipynb by tools/export.py;
edit it there.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

import jinja2
import jinja2.sandbox

from minimind.errors import UserError
from minimind.text.tokenizer import CONTROL_TOKENS, EOS_ID, Tokenizer

Message = dict[str, str]  # {"role": "user", "content": "..."}


@functools.lru_cache(maxsize=8)
def compile_template(source: str) -> jinja2.Template:
    """A jinja template with the white-space rules of `transformers`."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


# While the template runs, a Unicode noncharacter stands in for each control
# token that a message spells out.
STAND_IN = {token: chr(0xFDD0 + i) for i, token in enumerate(CONTROL_TOKENS)}
SPELT_OUT = {ord(char): token for token, char in STAND_IN.items()}
CONTROL = re.compile("(" + "|".join(map(re.escape, CONTROL_TOKENS)) + ")")
HIDDEN = str.maketrans(dict.fromkeys(STAND_IN.values(), "\ufffd"))


def hide_control(part: Any) -> Any:
    """A message, or a part of one, with stand-ins for control tokens in it.

    However deep they lie: a message may hold tool calls, not only text.
    """
    if isinstance(part, str):
        return CONTROL.sub(lambda found: STAND_IN[found[0]], part.translate(HIDDEN))
    if isinstance(part, dict):
        return {key: hide_control(value) for key, value in part.items()}
    if isinstance(part, list):
        return [hide_control(value) for value in part]
    return part


def render_chat(
    tokenizer: Tokenizer,
    messages: list[Message],
    add_generation_prompt: bool = False,
    enable_thinking: bool = True,
) -> str:
    """The text of a conversation, as the tokenizer's template writes it.

    Control tokens in it are the template's; those that a message spells out
    are stand-ins. add_generation_prompt: end with the header of the answer to
    come. enable_thinking: for templates of models that reason (chapter 13).
    """
    template = compile_template(tokenizer.chat_template)
    return template.render(
        messages=[hide_control(message) for message in messages],
        add_generation_prompt=add_generation_prompt,
        enable_thinking=enable_thinking,
    )


def encode_rendered(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of rendered text; control tokens are ids, stand-ins are text."""
    ids: list[int] = []
    for piece in CONTROL.split(text):
        if piece in CONTROL_TOKENS:
            ids.append(CONTROL_TOKENS.index(piece))
        else:
            ids += tokenizer.encode(piece.translate(SPELT_OUT))
    return ids


IGNORE = -100  # the label of an id that is read but not learned


def added_text(before: str, after: str) -> str:
    """What a rendered conversation adds to a shorter one.

    Raises UserError for a template that does more than append.
    """
    if not after.startswith(before):
        raise UserError(
            "tokenizer_config.json: the chat_template changes earlier text "
            "when a turn is added, so nobody can tell what the model writes; "
            "use a template that only appends"
        )
    return after[len(before) :]


def chat_parts(
    tokenizer: Tokenizer,
    messages: list[Message],
    add_generation_prompt: bool = False,
) -> Iterator[tuple[str, bool]]:
    """Rendered text in parts, each with whether the model has to write it.

    It has to write every assistant turn, from behind the header to the end
    token; nothing of a conversation that is a prompt. Raises UserError for a
    template without that token.
    """
    if add_generation_prompt:
        yield render_chat(tokenizer, messages, add_generation_prompt), False
        return
    stop, done = CONTROL_TOKENS[EOS_ID], ""
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render_chat(tokenizer, messages[:i], add_generation_prompt=True)
        turn = render_chat(tokenizer, messages[: i + 1])
        answer, end, _ = added_text(prompt, turn).rpartition(stop)
        if not end:
            raise UserError(
                "tokenizer_config.json: the chat_template ends an answer "
                f"without {stop}, so the model cannot learn to stop; add it"
            )
        yield added_text(done, prompt), False
        yield answer + end, True
        done = prompt + answer + end
    yield added_text(done, render_chat(tokenizer, messages)), False


def encode_chat(
    tokenizer: Tokenizer,
    messages: list[Message],
    max_length: int | None = None,
    add_generation_prompt: bool = False,
) -> tuple[list[int], list[int]]:
    """Ids and labels of a conversation, two lists of equal length.

    Every assistant turn is a target: its content and the end token after it,
    nothing else; all other labels are -100. Where max_length ends the
    conversation early, whole exchanges go, last ones first, so that what is
    left still ends as it should; both lists are empty if none fits.
    add_generation_prompt: end with the header of the answer to come; then
    the conversation is a prompt, and nothing of it a target.
    """
    ids: list[int] = []
    labels: list[int] = []
    whole = 0  # ids up to the last answer that fits
    for text, write in chat_parts(tokenizer, messages, add_generation_prompt):
        new = encode_rendered(tokenizer, text)
        if max_length is not None and len(ids) + len(new) > max_length:
            return ids[:whole], labels[:whole]
        ids += new
        labels += new if write else [IGNORE] * len(new)
        if write:
            whole = len(ids)
    return ids, labels
