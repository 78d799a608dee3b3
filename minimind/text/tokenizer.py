"""Text to ids and back: byte-level BPE with digits split one by one.

Explained in chapter 01. Sources: Sennrich et al. 2016, "Neural Machine
Translation of Rare Words with Subword Units"; Radford et al. 2019, "Language
Models are Unsupervised Multitask Learners" (bytes).

Generated from notebooks/01_tokenizer.ipynb by tools/export.py; edit it there.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from minimind.errors import UserError
from minimind.files import read_json, write_atomically, write_json


def byte_alphabet() -> dict[int, str]:
    """The printable stand-in of every byte, as GPT-2 chose them.

    Printable Latin-1 bytes stand for themselves; the other 68 take the
    characters from 256 on, so that a space is written "Ġ".
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    stand_in = {byte: chr(256 + i) for i, byte in enumerate(others)}
    return {byte: stand_in.get(byte, chr(byte)) for byte in range(256)}


BYTE_TO_CHAR = byte_alphabet()
CHAR_TO_BYTE = {char: byte for byte, char in BYTE_TO_CHAR.items()}

# Special tokens take the first ids, in this order. The first three steer the
# model and are never read out of plain text; the rest are tags that a text
# may hold, each of them one id.
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAG_TOKENS = (
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2

# How a conversation becomes one text. Content is trimmed, so that no white
# space stands beside the header's newline and merges with it.
CHAT_TEMPLATE = """\
{%- if not messages or messages[0]['role'] != 'system' -%}
<|im_start|>system
You are a helpful assistant<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] | trim }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}"""


class Tokenizer:
    """A trained vocabulary: plain text to ids, ids to bytes and text.

    backend: the `tokenizers` object that does the work. chat_template: the
    jinja source by which `minimind.text.chat` renders conversations.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        chat_template: str = CHAT_TEMPLATE,
    ) -> None:
        # A control token that a text spells out is text: nobody can end a
        # turn by typing "<|im_end|>".
        backend.encode_special_tokens = True
        self.backend = backend
        self.chat_template = chat_template

    @property
    def vocab_size(self) -> int:
        """V, the number of ids."""
        return self.backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with no token added before or after."""
        try:
            text.encode()
        except UnicodeEncodeError:  # lone surrogates, as broken jsonl has them
            return self.encode_bytes(text.encode("utf-8", "surrogatepass"))
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes; those that are not UTF-8 become single-byte ids."""
        ids: list[int] = []
        for part in INVALID.split(data.decode("utf-8", "surrogateescape")):
            if INVALID.fullmatch(part):
                char = BYTE_TO_CHAR[ord(part) - 0xDC00]
                ids.append(self.backend.token_to_id(char))
            else:
                ids += self.encode(part)
        return ids

    def encode_document(self, text: str) -> list[int]:
        """A training document: bos, text, eos, each of the two exactly once."""
        return [BOS_ID, *self.encode(text), EOS_ID]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for. Raises ValueError past V."""
        token = self.backend.id_to_token(token_id)
        if token is None:
            raise ValueError(f"id {token_id} is outside 0..{self.vocab_size - 1}")
        return bytes(CHAR_TO_BYTE[char] for char in token)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of a sequence of ids, exactly as they were encoded."""
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Iterable[int], skip_control: bool = False) -> str:
        """The text of ids; bytes that are not UTF-8 read as U+FFFD.

        skip_control leaves out pad, bos and eos, but keeps tags.
        """
        if skip_control:
            ids = (i for i in ids if i >= len(CONTROL_TOKENS))
        return self.decode_bytes(ids).decode("utf-8", "replace")

    @property
    def hash(self) -> str:
        """Fingerprint of vocabulary, merges and rules (sha256, 16 hex digits)."""
        rules = json.dumps(json.loads(self.backend.to_str()), sort_keys=True)
        return hashlib.sha256(rules.encode()).hexdigest()[:16]

    def save(self, directory: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json for `transformers`."""
        rules = self.backend.to_str(pretty=True).encode()
        write_atomically(directory / "tokenizer.json", rules)
        config = {
            # Named outright, or transformers picks a class by model type and
            # some of those tokenise differently.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": CONTROL_TOKENS[PAD_ID],
            "bos_token": CONTROL_TOKENS[BOS_ID],
            "eos_token": CONTROL_TOKENS[EOS_ID],
            "clean_up_tokenization_spaces": False,
            "chat_template": self.chat_template,
        }
        write_json(directory / "tokenizer_config.json", config)

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """Read a saved tokenizer, ours or a published MiniMind one.

        Raises UserError where a file is missing or damaged, or the special ids
        differ.
        """
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{path}: no such file; train a tokenizer first")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library has no narrower class
            raise UserError(f"{path}: not a tokenizer file ({error})") from None
        for i, token in enumerate(CONTROL_TOKENS):
            if backend.id_to_token(i) != token:
                raise UserError(
                    f"{path}: id {i} is {backend.id_to_token(i)!r}, not "
                    f"{token!r}; train a tokenizer with `minimind tokenizer train`"
                )
        template = directory / "chat_template.jinja"  # as transformers 5 saves it
        if template.is_file():
            return cls(backend, template.read_text(encoding="utf-8"))
        config = directory / "tokenizer_config.json"
        if not config.is_file():
            return cls(backend)
        template = read_json(config).get("chat_template", CHAT_TEMPLATE)
        return cls(backend, template)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 6400) -> Tokenizer:
    """Learn a vocabulary from a stream of texts.

    A pair has to occur twice to be merged, so a small text may give fewer ids
    than asked for. Unspaced text, such as Chinese, may take a hundred times
    its size in memory. Raises ValueError where vocab_size has no room for the
    256 bytes and the special tokens.
    """
    special = [*CONTROL_TOKENS, *TAG_TOKENS]
    if vocab_size < 256 + len(special):
        raise ValueError(f"vocab_size must be at least {256 + len(special)}")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(CHAR_TO_BYTE),
        show_progress=False,
    )
    # Lone surrogates, as broken jsonl has them, are no text to learn from.
    texts = (text.encode("utf-8", "replace").decode() for text in texts)
    backend.train_from_iterator(texts, trainer)
    # The trainer marks all of them as special. Tags are ordinary tokens that
    # always stay whole, so they are recognised in text as well.
    rules = json.loads(backend.to_str())
    for token in rules["added_tokens"]:
        token["special"] = token["content"] in CONTROL_TOKENS
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(rules)))


# How Python decodes bytes that are not UTF-8 with "surrogateescape".
INVALID = re.compile("([\udc80-\udcff])")
