"""The scripts behind the chapters' measured claims: what they compare is fair."""

import importlib
import json
import random
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "claims"
RESULTS = sorted(FOLDER.glob("*.json"))


@pytest.fixture
def script(monkeypatch):
    """Import a script by name, as `python benchmarks/claims/NAME.py` would."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_how_it_was_measured(path):
    result = json.loads(path.read_text("utf-8"))
    assert result["command"].startswith(f"python benchmarks/claims/{path.stem}.py")
    assert path.with_suffix(".py").is_file()
    assert result["hardware"] and result["seeds"]


def test_the_layers_are_compared_at_equal_parameters_and_weights(script):
    feedforward = script("feedforward")
    models = {kind: feedforward.build_model(kind, 3) for kind in feedforward.BENDS}
    counts = {sum(p.numel() for p in m.parameters()) for m in models.values()}
    assert counts == {984_192}
    swiglu = models["SwiGLU"].state_dict()
    for kind in ("ReLU", "GELU"):
        for name, weight in models[kind].state_dict().items():
            if ".mlp." not in name:
                assert torch.equal(weight, swiglu[name]), name
        layer = models[kind].model.layers[0].mlp
        x = torch.randn(5, 128)
        bend = {"ReLU": torch.relu, "GELU": torch.nn.GELU()}[kind]
        by_hand = bend(x @ layer.up_proj.weight.T) @ layer.down_proj.weight.T
        torch.testing.assert_close(layer(x), by_hand)


def test_the_tour_asks_for_the_plain_statement_of_every_fact(script):
    tour = script("tour")
    asked = {
        (name, lang): tour.cloze(relation, lang)
        for name, relation in tour.RELATIONS.items()
        for lang in tour.LANGS
    }
    assert ("The capital of France is", "Paris") in asked["capital", "en"]
    assert ("法国的首都是", "巴黎") in asked["capital", "zh"]
    assert ("7+8=", "15") in asked["sum", "en"]
    assert ("A dog has", "4") in asked["legs", "en"]
    assert [len(asked["capital", lang]) for lang in tour.LANGS] == [105, 105]


def test_text_to_learn_from_and_text_to_count_are_apart(script):
    tokenizer = script("tokenizer")
    rng = random.Random(0)
    texts = [str(rng.random()) * 300 for _ in range(1000)]
    learned, counted = tokenizer.split(texts, seed=1)
    assert learned and not set(learned) & set(counted)
    assert sum(map(len, learned)) <= tokenizer.SHARE
    assert sum(map(len, counted)) >= tokenizer.HELD_OUT
    assert tokenizer.split(texts, seed=2) != (learned, counted)


def test_a_cut_tokenizer_is_the_trained_one(script):
    tokenizer = script("tokenizer")
    texts = ["the cat sat on the mat, the hat on the cat, 小猫在垫子上。小猫"] * 3
    largest = tokenizer.train_tokenizer(texts, 320)
    assert largest.vocab_size > 290
    trained = tokenizer.train_tokenizer(texts, 290)
    assert tokenizer.cut(largest, 290).hash == trained.hash


def test_deep_and_wide_shapes_have_the_size_of_the_nano(script):
    shapes = script("shapes")
    for blocks in shapes.SHAPES:
        model = shapes.MiniMindForCausalLM(shapes.shape(blocks))
        count = sum(p.numel() for p in model.parameters())
        assert abs(count / 984_192 - 1) < 0.01
        assert len(model.model.layers) == blocks
