"""What the training tests share: a small corpus, tokenizer, model and run."""

import functools
import json
import random
from pathlib import Path

import torch

from minimind.model.config import ModelConfig
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import Tokenizer, train_tokenizer
from minimind.text.tokens import TokenFile, prepare
from minimind.train.config import TrainConfig
from minimind.train.run import Run

WORDS = "cat dog bird sees finds a the red ball house 猫 狗 看见 红色 球".split()
VOCAB_SIZE = 300
SHAPE = ModelConfig(
    vocab_size=VOCAB_SIZE,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
    initializer_range=0.05,
)
# 7 steps of 4 rows are more than one epoch of the corpus below.
CONFIG = TrainConfig(
    steps=7,
    batch_size=2,
    accumulation=2,
    learning_rate=1e-2,
    warmup=2,
    device="cpu",
    log_every=1,
    save_every=3,
    eval_every=100,
)


def random_texts(count: int, seed: int = 0, longest: int = 12) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(WORDS, k=rng.randint(1, longest))) + "."
        for _ in range(count)
    ]


TEXTS = random_texts(64)


@functools.cache
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, VOCAB_SIZE)


def write_rows(path: Path, rows: list) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def token_file(directory: Path, texts: list[str] = TEXTS) -> TokenFile:
    """The texts as a token directory, directory / "tokens"."""
    directory.mkdir(parents=True, exist_ok=True)
    source = write_rows(directory / "text.jsonl", [{"text": text} for text in texts])
    prepare([source], directory / "tokens", tokenizer())
    return TokenFile(directory / "tokens", tokenizer())


def new_model(seed: int = 0, shape: ModelConfig = SHAPE) -> MiniMindForCausalLM:
    torch.manual_seed(seed)
    return MiniMindForCausalLM(shape)


def new_run(
    rows: PackedRows, directory: Path, config: TrainConfig = CONFIG, seed: int = 0
) -> Run:
    return Run(new_model(seed), tokenizer(), rows, plain_loss, config, directory)


def stop_after(steps: int, monkeypatch) -> None:
    """Have the runs to come stopped by the user after so many steps."""
    whole, taken = Run.take_step, []

    def take_step(run):
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(whole(run))

    monkeypatch.setattr(Run, "take_step", take_step)


def plain_loss(model, batch):
    """The mean over the targets, written apart from the package's loss."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    chances = model(**inputs).logits.log_softmax(-1)
    asked = batch["labels"][:, 1:]
    right = chances[:, :-1].gather(-1, asked.clamp(min=0)[..., None])[..., 0]
    return -right[asked >= 0].mean(), {}


def same_weights(model, other) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[key], theirs[key]) for key in ours
    )


def random_model(config, seed=0):
    """Weights of the size that training makes, with norms away from one."""
    torch.manual_seed(seed)
    model = MiniMindForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model
