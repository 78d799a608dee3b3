"""The script behind chapter 09's claims: what it takes away from chats, and no more."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from minimind.text.chat import IGNORE
from minimind.text.packing import PackedRows, collate
from minimind.text.tokenizer import BOS_ID, EOS_ID, train_tokenizer
from minimind.text.tokens import TokenFile, prepare

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "claims"


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("sft")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["system user assistant Hi Yes No Go\n"] * 3, 320)


@pytest.fixture
def data(tokenizer, tmp_path):
    turns = [("user", "Hi"), ("assistant", "Yes"), ("user", "Go"), ("assistant", "No")]
    chat = [{"role": role, "content": content} for role, content in turns]
    rows = [{"conversations": chat}, {"conversations": chat[:2]}]
    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    prepare([source], tmp_path / "data", tokenizer, "sft", 256)
    return TokenFile(tmp_path / "data", tokenizer)


def test_chats_that_run_on_lose_their_ends_and_nothing_else(claims, tokenizer, data):
    endless = claims.run_on(data)
    assert len(endless.offsets) == 3 and endless.offsets[-1] == len(endless.tokens)
    for n in range(2):
        start, end = data.offsets[n : n + 2]
        old = data.tokens[start:end].tolist()
        first = int(np.argmax(data.targets[start:end]))  # of the first answer
        here = slice(*endless.offsets[n : n + 2])
        new, learned = endless.tokens[here].tolist(), endless.targets[here]
        assert new == old[:first] + [i for i in old[first:] if i != EOS_ID]
        assert learned.tolist() == [False] * first + [True] * (len(new) - first)
    text = tokenizer.decode(endless.tokens[: endless.offsets[1]].tolist())
    assert "Yes\n<|im_start|>user\nGo\n<|im_start|>assistant\nNo\n" in text


def test_rows_of_chats_that_run_on_can_be_packed(claims, data):
    row = PackedRows(claims.run_on(data), 128)[0]
    learned = row["labels"][row["labels"] != IGNORE]
    assert EOS_ID not in learned and BOS_ID in learned


def test_the_loss_without_ends_leaves_out_ends_alone(claims, data):
    batch = collate([PackedRows(data, 128)[0]])
    seen = {}

    def loss_fn(model, batch):
        seen.update(batch)
        return 0.0, {}

    claims.no_ends(loss_fn)(None, batch)
    asked = batch["labels"] != IGNORE
    ends = batch["labels"] == EOS_ID
    assert ends.sum() == 3
    assert torch.equal(seen["labels"] != IGNORE, asked & ~ends)
    assert torch.equal(seen["input_ids"], batch["input_ids"])
