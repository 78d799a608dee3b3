"""The published MiniMind data sets: what they are, where they lie, what they must be.

A sha256 stands here only where public sources state it for that file; the others are
None, and `minimind data download` records what it got. The bytes count, not the place:
a mirror may be anything that serves the same file.
"""

from dataclasses import dataclass

# The commit of the hub's repository that a file is taken from, so that a later upload
# under the same name changes nothing here.
REVISION = "84983ed4dec7836d240577760c1d6be5d4cabcf9"
PLACES = {
    "hub": "https://huggingface.co/datasets/jingyaogong/minimind_dataset/resolve/{}",
    "modelscope": "https://www.modelscope.cn/datasets/gongjy/minimind_dataset/"
    "resolve/master",  # has other commits than the hub: only the sha256 pins it
}


@dataclass(frozen=True)
class Published:
    """A published file: how large, of which format, what for, and its sha256."""

    size: str
    kind: str
    what: str
    sha256: str | None = None
    revision: str = REVISION


SETS = {
    "tokenizer_train": Published(
        "1.03 GB",
        "text",
        "learning a vocabulary; pretrain_hq does as well",
        "a8e58d9cfd1926d482c43f2645ddb23894070761515334e8c58c12b3217093a0",
        "e24d1ab38af79048bbf0bc263dac82d1979fa875",
    ),
    "pretrain_hq": Published(
        "1.67 GB",
        "text",
        "pretraining, up to 512 characters a row",
        "9801b0d2210c61c2e4bc130f6dc4b3c870698a88d04af8f103c23dd5f0ce2440",
    ),
    "sft_mini_512": Published("1.23 GB", "chats", "the quick SFT set"),
    "sft_512": Published(
        "7.53 GB",
        "chats",
        "SFT, up to 512 characters a chat",
        "053b7d09574e48a86232e929211434ff9e5016c6ed13312e63687dd52edcbebf",
    ),
    "sft_1024": Published("5.6 GB", "chats", "SFT, up to 1,024 characters a chat"),
    "sft_2048": Published("9 GB", "chats", "SFT, up to 2,048 characters a chat"),
    "dpo": Published(
        "54 MB",
        "preferences",
        "DPO",
        "ee934a8a455ccc99d1334d63e1254dd1d64f497fd067cfcbb71e3043f5b46768",
    ),
    "r1_mix_1024": Published("340 MB", "chats", "reasoning with think and answer tags"),
    "lora_identity": Published("23 kB", "chats", "LoRA: who the model is"),
    "lora_medical": Published(
        "34 MB",
        "chats",
        "LoRA: medical questions",
        "abf66d2bf14bf5704f6c9f1a166061f55d95e4dfd03c29a3c33d085ccaca593f",
        "312afb4f76391145c6902f765bb51691c09a12f5",
    ),
}

# What to take together, in the order of the stages.
MIXES = {
    "quick (26M, one evening)": ("pretrain_hq", "sft_mini_512"),
    "full (26M to 145M)": ("pretrain_hq", "sft_512", "sft_2048", "dpo"),
    "reasoning, after either": ("r1_mix_1024",),
    "LoRA, after either": ("lora_identity", "lora_medical"),
}


def address(name: str, place: str) -> str:
    """The address of a published set's file at a place of PLACES."""
    return f"{PLACES[place].format(SETS[name].revision)}/{name}.jsonl"
