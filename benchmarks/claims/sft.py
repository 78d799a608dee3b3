"""What fine-tuning teaches, what it keeps, and why a model stops: chapter 09.

    python benchmarks/claims/sft.py

Each base is examined before and after its SFT, and after one of as many steps on
chats alone. Then it is fine-tuned for some steps, again and again, with each mistake
about the end token. The first base's texts are also read in short, with and without
their ends, and tuned on. About six minutes a base on one thread.
"""

import copy
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from claim import TRAINING, chosen_seeds, open_rows, save, zero_directory
from tour import cloze, complete, is_right
from tqdm import tqdm

from minimind.commands.zero import SEQ_LEN, SFT
from minimind.evaluate.world import answer
from minimind.model.config import get_preset
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.chat import IGNORE, encode_chat
from minimind.text.packing import PackedRows
from minimind.text.tokenizer import BOS_ID, EOS_ID, Tokenizer
from minimind.text.tokens import TokenFile, prepare
from minimind.text.world.facts import LANGS
from minimind.text.world.relations import RELATIONS
from minimind.text.world.rows import QUESTIONS
from minimind.train.checkpoint import load_model
from minimind.train.config import TrainConfig
from minimind.train.objective import LossFn
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run
from minimind.train.sft import answer_loss

PRETRAIN = TrainConfig(steps=300, batch_size=4, learning_rate=6e-3, warmup=30)
TUNE = TrainConfig(steps=200, batch_size=2, learning_rate=2e-3, warmup=20)
SOME = 3  # one in so many questions, for what is trained here
SHORT = Sampling(temperature=0.0, max_new_tokens=48)


def no_ends(loss_fn: LossFn) -> LossFn:
    """The loss without the end tokens among its targets."""

    def loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Any:
        labels = batch["labels"]
        labels = labels.masked_fill(labels == EOS_ID, IGNORE)
        return loss_fn(model, {**batch, "labels": labels})

    return loss


def run_on(data: TokenFile) -> SimpleNamespace:
    """Chats whose answers have no end, learned from the first answer on.

    What follows an answer is then the next turn, and it is learned as well.
    """
    tokens, targets = np.array(data.tokens), np.array(data.targets)
    bounds = zip(data.offsets, data.offsets[1:])
    begun = np.concatenate([np.cumsum(targets[a:b]) > 0 for a, b in bounds])
    stays = (tokens != EOS_ID) | ~begun
    offsets = np.concatenate([[0], np.cumsum(stays)])[data.offsets]
    return SimpleNamespace(
        tokens=tokens[stays],
        targets=begun[stays],
        offsets=offsets,
        manifest={"sha256": "run on"},
    )


@contextmanager
def one_sentence(base: Path, tokenizer: Tokenizer, seed: int) -> Iterator[PackedRows]:
    """The chats whose answers are all of one sentence: no story, for example."""

    def is_brief(line: str) -> bool:
        turns = json.loads(line)["conversations"]
        said = [t["content"] for t in turns if t["role"] == "assistant"]
        return all(len(re.findall("[.!?。！？]", text)) <= 1 for text in said)

    with tempfile.TemporaryDirectory() as scratch:
        lines = (base / "world" / "sft.jsonl").read_text("utf-8").splitlines(True)
        source = Path(scratch) / "chats.jsonl"
        source.write_text("".join(filter(is_brief, lines)), "utf-8")
        prepare([source], Path(scratch) / "tokens", tokenizer, "sft", SEQ_LEN)
        data = TokenFile(Path(scratch) / "tokens", tokenizer)
        yield PackedRows(data, SEQ_LEN, seed)
        del data


def trained_on(
    model: MiniMindForCausalLM,
    tokenizer: Tokenizer,
    rows: PackedRows,
    loss_fn: LossFn,
    config: TrainConfig,
    name: str,
) -> MiniMindForCausalLM:
    """A copy of a model, trained on rows."""
    model = copy.deepcopy(model).train()
    run = Run(model, tokenizer, rows, loss_fn, config, Path("out/claims"))
    for _ in tqdm(range(config.steps), desc=name, unit="step"):
        run.take_step()
    return model.eval()


def mean(values: Iterable[float]) -> float:
    """The mean of some numbers."""
    values = list(values)
    return sum(values) / len(values)


@torch.inference_mode()
def end_after(model: MiniMindForCausalLM, texts: Iterable[list[int]]) -> float:
    """Mean probability of the end token after each of some texts."""
    return mean(
        model(torch.tensor([ids])).logits[0, -1].softmax(-1)[EOS_ID].item()
        for ids in texts
    )


class Exam:
    """What every model of one base is asked."""

    def __init__(self, base: Path) -> None:
        self.tokenizer = Tokenizer.load(base / "tokenizer")
        lines = (base / "world" / "questions.jsonl").read_text("utf-8").splitlines()
        asked = [json.loads(line) for line in lines]
        self.asked = [q for q in asked if q["kind"] in QUESTIONS]
        some = self.asked[::SOME]
        self.chats = [self.answered(q["question"], q["answer"]) for q in some]
        self.plain = [[BOS_ID, *self.tokenizer.encode(q["answer"])] for q in some]
        # The beginning of a fact's statement, how it goes on, is SFT silent on it?
        self.facts = [
            (*fact, x in relation.subjects(lang, held_out=True))
            for relation in RELATIONS.values()
            for lang in LANGS
            for fact, (x, _) in zip(cloze(relation, lang), relation.facts[lang])
        ]

    def answered(self, question: str, right: str) -> list[int]:
        """A chat up to the last token of the right answer."""
        said = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": right},
        ]
        ids, labels = encode_chat(self.tokenizer, said)
        return ids[: labels.index(EOS_ID)]

    def score(self, model: MiniMindForCausalLM, every: int = SOME) -> dict[str, Any]:
        """How replies begin, end and are, and how likely an end is."""
        asked = self.asked[::every]
        questions = [q["question"] for q in asked]
        replies = answer(model, self.tokenizer, questions, SHORT)
        pairs = list(zip(replies, asked, strict=True))
        right = {
            f"right {lang}": mean(
                r.text == q["answer"] for r, q in pairs if q["lang"] == lang
            )
            for lang in LANGS
        }
        return {
            **right,
            "begins right": mean(r.text.startswith(q["answer"]) for r, q in pairs),
            "right": mean(r.text == q["answer"] for r, q in pairs),
            "stops": mean(r.finish_reason == "stop" for r in replies),
            "end in a chat": end_after(model, self.chats),
            "end in a text": end_after(model, self.plain),
            "example": f"{questions[0]} {replies[0].text}",
        }

    def known(self, model: MiniMindForCausalLM) -> list[bool]:
        """Which facts of the world the model completes in a plain text."""
        beginnings = [beginning for beginning, _, _ in self.facts]
        written = complete(model, self.tokenizer, beginnings, 12)
        return [
            is_right(more, right)
            for more, (_, right, _) in zip(written, self.facts, strict=True)
        ]

    def kept(self, before: list[bool], model: MiniMindForCausalLM) -> dict[str, float]:
        """Of the facts known before, how many the model completes still."""
        still = list(zip(self.known(model), before, self.facts, strict=True))
        return {
            "asked about": mean(now for now, then, f in still if then and not f[2]),
            "never asked about": mean(now for now, then, f in still if then and f[2]),
        }


def measure(base: Path, seed: int) -> dict[str, Any]:
    """Everything about one base."""
    exam, runs, facts = Exam(base), {}, {}
    plain, _ = load_model(base / "pretrain")
    tuned, _ = load_model(base / "sft")
    known = exam.known(plain)

    def examine(name: str, model: MiniMindForCausalLM, every: int = SOME) -> None:
        runs[name] = exam.score(model, every)
        print(seed, name, runs[name], flush=True)

    def remember(name: str, model: MiniMindForCausalLM) -> None:
        facts[name] = exam.kept(known, model)
        print(seed, name, facts[name], flush=True)

    examine("before SFT", plain, every=1)
    examine("after SFT", tuned, every=1)
    remember("after SFT", tuned)

    chats = open_rows(base, "sft", seed)

    def tune(name: str, rows=chats, loss_fn=answer_loss, config=TUNE, every=SOME):
        config = replace(config, seed=seed)
        model = trained_on(plain, exam.tokenizer, rows, loss_fn, config, name)
        examine(name, model, every)
        return model

    remember("chats alone", tune("chats alone", config=SFT, every=1))
    tune("ends learned")
    masked = no_ends(answer_loss)
    tune("ends masked", loss_fn=masked)
    with one_sentence(base, exam.tokenizer, seed) as brief_chats:
        tune("ends masked, one sentence", brief_chats, masked)
    endless = PackedRows(run_on(chats.data), SEQ_LEN, seed)
    tune("no ends, next turn learned", endless)
    return {"seed": seed, "known": mean(known), "runs": runs, "facts": facts}


def without_pretraining_ends(base: Path, seed: int) -> dict[str, Any]:
    """Where stopping comes from: short bases, and what SFT without ends leaves."""
    exam, runs = Exam(base), {}
    texts, chats = open_rows(base, TRAINING, seed), open_rows(base, "sft", seed)
    masked = no_ends(answer_loss)
    for name, loss_fn in (
        ("texts with ends", next_token_loss),
        ("texts without ends", no_ends(next_token_loss)),
    ):
        torch.manual_seed(seed)
        fresh = MiniMindForCausalLM(get_preset("nano"))
        brief, config = replace(PRETRAIN, seed=seed), replace(TUNE, seed=seed)
        model = trained_on(fresh, exam.tokenizer, texts, loss_fn, brief, name)
        runs[name] = exam.score(model)
        model = trained_on(model, exam.tokenizer, chats, masked, config, name)
        runs[f"{name}, then chats"] = exam.score(model)
        print(seed, name, runs, flush=True)
    return {"seed": seed, "runs": runs}


def main() -> None:
    """Measure every base and write sft.json."""
    seeds = chosen_seeds(__doc__.splitlines()[0])
    result = {
        "tuning": [TUNE.steps, TUNE.batch_size],
        "pretraining": [PRETRAIN.steps, PRETRAIN.batch_size],
        "bases": [measure(zero_directory(seed), seed) for seed in seeds],
        "short": without_pretraining_ends(zero_directory(seeds[0]), seeds[0]),
    }
    save("sft", seeds, result)


if __name__ == "__main__":
    main()
