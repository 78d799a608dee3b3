"""Conversations to token ids, with a label for every id the model should write.

Chapter 01 explains the template, chapter 09 the labels. The template comes
with the tokenizer; this module renders it and marks the assistant's part
while rendering, so nothing is searched for afterwards.
"""

import functools
import re

import jinja2
import jinja2.sandbox

from minimind.text.tokenizer import CONTROL_TOKENS, EOS_ID, Tokenizer

IGNORE = -100  # the label of an id that is read but not learned

Message = dict[str, str]  # {"role": "user" | "assistant" | ..., "content": ...}

# A control token spelt out inside a message must stay text. While the template
# runs, a Unicode noncharacter (reserved for such inner use) stands in for it.
STAND_IN = {token: chr(0xFDD0 + i) for i, token in enumerate(CONTROL_TOKENS)}
SPELT_OUT = {ord(char): token for token, char in STAND_IN.items()}
CONTROL = re.compile("(" + "|".join(map(re.escape, CONTROL_TOKENS)) + ")")


@functools.lru_cache(maxsize=8)
def compile_template(source: str) -> jinja2.Template:
    """A jinja template, set up as `transformers` does; sandboxed, since it may
    come with somebody's model."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def render_chat(
    tokenizer: Tokenizer, messages: list[Message], add_generation_prompt: bool = False
) -> str:
    """The text of a conversation, as the tokenizer's template writes it.

    add_generation_prompt: end with the header of the answer to come.
    """
    template = compile_template(tokenizer.chat_template)
    return template.render(
        messages=messages, add_generation_prompt=add_generation_prompt
    )


def encode_rendered(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of rendered text, in which control tokens are themselves."""
    ids: list[int] = []
    for piece in CONTROL.split(text):
        if piece in CONTROL_TOKENS:
            ids.append(CONTROL_TOKENS.index(piece))
        elif piece:
            ids += tokenizer.encode(piece.translate(SPELT_OUT))
    return ids


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
    """
    messages = [dict(message) for message in messages]
    for message in messages:
        for token, char in STAND_IN.items():
            message["content"] = message["content"].replace(token, char)
    ids: list[int] = []
    labels: list[int] = []
    done = ""  # the rendered text that is already encoded

    def extend(text: str, learn: bool) -> None:
        nonlocal done
        new = encode_rendered(tokenizer, text)
        ids.extend(new)
        labels.extend(new if learn else [IGNORE] * len(new))
        done += text

    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        length = len(ids)
        prompt = render_chat(tokenizer, messages[:i], add_generation_prompt=True)
        turn = render_chat(tokenizer, messages[: i + 1])
        end = turn.rindex(CONTROL_TOKENS[EOS_ID]) + len(CONTROL_TOKENS[EOS_ID])
        extend(prompt[len(done) :], learn=False)
        extend(turn[len(prompt) : end], learn=True)
        if max_length is not None and len(ids) > max_length:
            return ids[:length], labels[:length]
    full = render_chat(tokenizer, messages, add_generation_prompt)
    extend(full[len(done) :], learn=False)
    return ids[:max_length], labels[:max_length]
