"""Experts: against a loop over tokens, the dense layer, and hand sums."""

import gc
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from minimind.model.attention import KVCache
from minimind.model.config import ModelConfig
from minimind.model.feedforward import FeedForward
from minimind.model.moe import MoEFeedForward, balance_loss, count_choices, route
from minimind.model.transformer import MiniMindForCausalLM
from minimind.train.pretrain import next_token_loss
from minimind.train.reason import reason_loss
from minimind.train.sft import answer_loss

CONFIG = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    num_experts=4,
    num_shared_experts=1,
    initializer_range=0.2,
)
# Every pair that a config may have with four experts.
ALLOWED = [(1, False)] + [(k, norm) for k in (2, 3, 4) for norm in (True, False)]


def chosen_by(k, norm, **change):
    return replace(CONFIG, num_experts_per_tok=k, norm_topk_prob=norm, **change)


def random_layer(config, seed=0, std=0.3):
    torch.manual_seed(seed)
    layer = MoEFeedForward(config)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=std)
    return layer


def random_tokens(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_model(config=CONFIG):
    torch.manual_seed(0)
    return MiniMindForCausalLM(config)


def random_ids(batch=2, tokens=24, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(97, (batch, tokens), generator=generator)


# The arithmetic.


def token_by_token(layer, x):
    """The layer as its definition says, one token and one expert at a time."""
    rows = []
    for token in x.flatten(0, 1):
        scores = (layer.gate.weight @ token).exp()
        scores = scores / scores.sum()
        best = scores.argsort(descending=True)[: layer.config.num_experts_per_tok]
        total = scores[best].sum() if layer.config.norm_topk_prob else 1.0
        y = sum(scores[e] / total * layer.experts[e](token) for e in best.tolist())
        rows.append(y + sum(expert(token) for expert in layer.shared_experts))
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize("k, norm", ALLOWED)
@pytest.mark.parametrize("shared", [0, 2])
def test_dispatch_equals_the_loop_over_tokens(k, norm, shared):
    config = chosen_by(k, norm, num_shared_experts=shared)
    layer = random_layer(config, std=0.12)
    x, weight = random_tokens(3, 11, 32), random_tokens(3, 11, 32, seed=2)
    results = []
    for forward in (lambda x: layer(x)[0], lambda x: token_by_token(layer, x)):
        layer.zero_grad()
        x = x.detach().requires_grad_()
        y = forward(x)
        (y * weight).mean().backward()
        results.append([y, x.grad, *(p.grad for p in layer.parameters())])
    assert results[0][0].std() > 0.05
    for ours, wanted in zip(*results, strict=True):
        assert_close(ours, wanted, rtol=0, atol=1e-6)


def test_one_expert_is_the_dense_layer():
    config = chosen_by(1, False, num_experts=1, num_shared_experts=0)
    layer, dense = random_layer(config), FeedForward(config)
    dense.load_state_dict(layer.experts[0].state_dict())
    x = random_tokens(2, 7, 32).requires_grad_()
    y, routing = layer(x)
    assert_close(y, dense(x), rtol=0, atol=1e-6)
    assert routing.load.tolist() == [1.0]
    ours, theirs = (torch.autograd.grad(z.square().sum(), x)[0] for z in (y, dense(x)))
    assert_close(ours, theirs)


def test_equal_experts_are_the_dense_layer():
    """Weights that add up to one choose between equals."""
    layer = random_layer(replace(CONFIG, num_shared_experts=0))
    for expert in layer.experts:
        expert.load_state_dict(layer.experts[0].state_dict())
    x = random_tokens(2, 7, 32)
    assert_close(layer(x)[0], layer.experts[0](x), rtol=1e-5, atol=1e-6)


def test_route_by_hand():
    logits = torch.tensor([2.0, 0.0, 1.0]).log()  # probabilities 2/3, 0, 1/3
    probabilities, weights, chosen = route(logits, 2, normalise=False)
    assert_close(probabilities, torch.tensor([2 / 3, 0, 1 / 3]))
    assert chosen.tolist() == [0, 2]
    assert_close(weights, torch.tensor([2 / 3, 1 / 3]))
    _, weights, _ = route(torch.tensor([6.0, 3.0, 1.0]).log(), 2, normalise=True)
    assert_close(weights, torch.tensor([2 / 3, 1 / 3]))


def test_the_router_computes_in_fp32():
    logits = random_tokens(5, 4).bfloat16()
    probabilities, weights, _ = route(logits, 2, normalise=True)
    assert probabilities.dtype == weights.dtype == torch.float32
    assert_close(probabilities, F.softmax(logits.float(), -1))
    layer, x = random_layer(CONFIG), random_tokens(2, 7, 32)
    exact = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, routing = layer(x)
    assert_close(routing.aux_loss, layer(x)[1].aux_loss)  # not rounded
    assert torch.equal(routing.load, layer(x)[1].load)
    assert (y - exact).pow(2).mean().sqrt() < 0.03 * exact.std()


# The router learns from the language model.


def gate_gradient(config):
    """Size of the routers' gradient, from the cross-entropy alone."""
    model, ids = random_model(config), random_ids(4, 32)
    model(ids, labels=ids).loss.backward()
    gates = [layer.mlp.gate.weight.grad for layer in model.model.layers]
    return torch.stack(gates).norm().item()


@pytest.mark.parametrize("shared", [0, 1])
def test_the_router_learns_from_the_language_model(shared):
    reference = gate_gradient(chosen_by(2, True, num_shared_experts=shared))
    for k, norm in ALLOWED:
        size = gate_gradient(chosen_by(k, norm, num_shared_experts=shared))
        assert reference / 100 < size < reference * 100, (k, norm)


def test_a_single_normalised_weight_teaches_nothing():
    logits = random_tokens(9, 4).requires_grad_()
    weights = route(logits, 1, normalise=True)[1]
    assert torch.equal(weights, torch.ones(9, 1))
    (gradient,) = torch.autograd.grad((weights * random_tokens(9, 1)).sum(), logits)
    assert gradient.abs().max() < 1e-7
    with pytest.raises(ValueError, match="norm_topk_prob=False"):
        chosen_by(1, True)


# The balancing loss.


def evenly_routed(k, **change):
    """A layer and tokens that send k in E choices to each expert, by symmetry."""
    config = chosen_by(k, k > 1, router_aux_loss_coef=0.25, **change)
    layer = random_layer(config)
    scores = torch.tensor([3.0, 2.0, 1.0, 0.0])
    with torch.no_grad():  # token t prefers experts t, t + 1, ... in turn
        layer.gate.weight.zero_()
        layer.gate.weight[:, :4] = torch.stack([scores.roll(t) for t in range(4)]).T
    return layer, torch.eye(4, 32).repeat(3, 2, 1)  # (B, T, C) = (3, 8, 32)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seq_aux", [True, False])
def test_even_routing_costs_the_coefficient_for_every_k(k, seq_aux):
    layer, x = evenly_routed(k, seq_aux=seq_aux)
    routing = layer(x)[1]
    assert routing.load.tolist() == [0.25] * 4
    assert routing.aux_loss.item() == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("k, cost", [(1, 4.0), (2, 2.0), (4, 1.0)])
def test_collapse_costs_experts_over_k(k, cost):
    """All tokens to the same k of four experts, each with probability 1 / k."""
    probabilities = torch.zeros(2, 5, 4)
    probabilities[..., :k] = 1 / k
    chosen = torch.arange(k).expand(2, 5, k)
    loss = balance_loss(probabilities, count_choices(chosen, 4))
    assert loss.item() == pytest.approx(cost)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_no_soft_routing_is_below_the_even_one(k):
    """Where each expert is chosen as often as it is probable, even is the least."""
    for seed in range(20):
        share = random_tokens(1, 1, 8, seed=seed).softmax(-1)
        counts = k * 1000 * share[:, 0]
        assert balance_loss(share, counts) >= 1 - 1e-6
    even = torch.full((1, 1, 8), 1 / 8)
    assert balance_loss(even, k * 1000 * even[:, 0]).item() == pytest.approx(1)


def test_a_sequence_or_the_whole_batch():
    """Two sequences, each with an expert of its own: uneven alone, even together."""
    config = chosen_by(1, False, num_experts=2, router_aux_loss_coef=1.0)
    x = torch.stack([torch.eye(2, 32)[[0] * 6], torch.eye(2, 32)[[1] * 6]])
    costs = []
    for seq_aux in (True, False):
        layer = random_layer(replace(config, seq_aux=seq_aux))
        with torch.no_grad():
            layer.gate.weight.copy_(50 * torch.eye(2, 32))
        routing = layer(x)[1]
        assert routing.load.tolist() == [0.5, 0.5]
        costs.append(routing.aux_loss.item())
    assert costs == pytest.approx([2.0, 1.0])


def test_descending_it_evens_the_load():
    layer = random_layer(replace(CONFIG, router_aux_loss_coef=1.0))
    x = random_tokens(8, 32, 32) + 1.0  # tokens that have something in common
    optimizer = torch.optim.SGD(layer.gate.parameters(), lr=1.0)
    before = layer(x)[1].load.max()
    for _ in range(100):
        optimizer.zero_grad()
        layer(x)[1].aux_loss.backward()
        optimizer.step()
    after = layer(x)[1].load.max()
    assert before > 0.4 and after < 0.3


def test_the_model_adds_up_its_layers_and_keeps_the_loss_apart():
    model, ids = random_model(), random_ids()
    routings = []
    model.model(ids, torch.arange(24)[None], routings=routings)
    output = model(ids, labels=ids)
    assert_close(output.aux_loss, sum(r.aux_loss for r in routings))
    assert_close(output.expert_load, torch.stack([r.load for r in routings]))
    assert output.expert_load.shape == (2, 4)
    assert_close(output.expert_load.sum(-1), torch.ones(2))
    assert not output.expert_load.requires_grad and output.aux_loss.requires_grad
    predicted = output.logits[:, :-1].flatten(0, 1)
    assert_close(output.loss, F.cross_entropy(predicted, ids[:, 1:].flatten()))
    dense = random_model(replace(CONFIG, num_experts=0, num_shared_experts=0))
    assert dense(ids).aux_loss is dense(ids).expert_load is None


# Nothing waits, nothing is left behind.


class CountWaits(TorchDispatchMode):
    """Counts operations that read a value, or a size that depends on values."""

    READ = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2"}
    READ |= {"bincount", "repeat_interleave", "is_nonzero", "equal"}

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, given=(), options=None):
        name = function.overloadpacket._qualified_op_name.removeprefix("aten::")
        masks = [
            index
            for index in (given[1] if name == "index" else [])
            if index is not None and index.dtype in (torch.bool, torch.uint8)
        ]
        if name in self.READ or masks:
            self.seen.append(name)
        return function(*given, **(options or {}))


def waits_of(call, monkeypatch):
    """Every place where the call needs a number from the device."""
    counter, lists = CountWaits(), []
    with monkeypatch.context() as patch:
        for name in ("tolist", "cpu", "numpy"):
            original = getattr(torch.Tensor, name)

            def counted(self, *given, name=name, original=original):
                lists.append(name)
                return original(self, *given)

            patch.setattr(torch.Tensor, name, counted)
        with counter:
            call()
    return counter.seen + lists


@pytest.mark.parametrize("train", [True, False])
def test_one_wait_a_layer(monkeypatch, train):
    model, ids = random_model().train(train), random_ids()

    def step():
        output = model(ids, labels=ids)
        (output.loss + output.aux_loss).backward()

    assert waits_of(step, monkeypatch) == ["tolist"] * 2


def test_the_counter_sees_a_loop_with_masks(monkeypatch):
    x, chosen = random_tokens(9, 4), torch.arange(9) % 3

    def with_masks():
        for e in range(3):
            if (chosen == e).any():
                x[chosen == e].sum()

    assert len(waits_of(with_masks, monkeypatch)) >= 6


def lonely_model():
    """All tokens choose experts 0 and 1 of four."""
    model = random_model()
    for layer in model.model.layers:
        weight = torch.zeros_like(layer.mlp.gate.weight)
        with torch.no_grad():
            layer.mlp.gate.weight.copy_(weight)  # ties go to the first ones
    return model


def test_an_idle_expert_gets_a_gradient_of_zero():
    model, ids = lonely_model(), random_ids()
    output = model(ids, labels=ids)
    assert output.expert_load.eq(0).any(), "no expert is idle"
    output.loss.backward()
    for layer, load in zip(model.model.layers, output.expert_load, strict=True):
        for expert, share in zip(layer.mlp.experts, load, strict=True):
            for weight in expert.parameters():
                assert weight.grad.abs().max().gt(0) == (share > 0)


def test_idle_experts_under_ddp(tmp_path):
    """DDP waits for every parameter's gradient, and fails where one never comes."""
    init_process_group("gloo", f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = lonely_model()
        wrapped, ids = DistributedDataParallel(model), random_ids()
        for _ in range(3):
            output = wrapped(ids, labels=ids)
            assert output.expert_load.eq(0).any()
            (output.loss + output.aux_loss).backward()
    finally:
        destroy_process_group()


def test_nothing_with_a_graph_stays_on_a_module():
    model, ids = random_model(), random_ids()
    output = model(ids, labels=ids)
    (output.loss + output.aux_loss).backward()
    kept = {id(p) for p in model.parameters()} | {id(b) for b in model.buffers()}
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                assert id(value) in kept, name


def test_steps_leave_nothing_behind():
    model = random_model()
    optimizer, alive = torch.optim.AdamW(model.parameters()), []
    for step in range(30):
        ids = random_ids(seed=step)
        output = model(ids, labels=ids)
        (output.loss + output.aux_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        del output
        if step in (9, 29):
            gc.collect()
            alive.append(sum(type(x) is torch.Tensor for x in gc.get_objects()))
    assert alive[0] == alive[1]


# In the model.


@pytest.mark.parametrize("sizes", [[24], [20, 4], [1] * 24])
def test_cached_pieces_equal_one_forward(sizes):
    model, ids = random_model().eval(), random_ids()
    cache = KVCache(CONFIG, batch_size=2, max_length=24)
    with torch.no_grad():
        full = model(ids).logits
        pieces = [model(p, cache=cache).logits for p in ids.split(sizes, dim=1)]
    assert_close(torch.cat(pieces, dim=1), full, rtol=0, atol=1e-5)


def test_fresh_weights_of_experts():
    config = replace(CONFIG, hidden_size=256, intermediate_size=192)
    for name, weight in random_model(config).named_parameters():
        if ".mlp." in name:
            small = name.endswith("down_proj.weight")
            std = 0.2 / (2 * 2) ** 0.5 if small else 0.2
            assert abs(weight.std() / std - 1) < 0.06, name


@pytest.mark.parametrize(
    "loss_fn",
    [next_token_loss, answer_loss, partial(reason_loss, tags=[5], tag_weight=3.0)],
)
def test_every_stage_adds_what_the_routers_cost(loss_fn):
    """And logs it apart: the loss in the log stays the stage's own."""
    torch.manual_seed(0)
    ids = torch.randint(0, 40, (2, 9))
    batch, gradients = {"input_ids": ids, "labels": ids}, []
    for coefficient in (0.0, 0.5):
        torch.manual_seed(1)
        shape = replace(CONFIG, router_aux_loss_coef=coefficient)
        model = MiniMindForCausalLM(shape)
        loss, numbers = loss_fn(model, batch)
        loss.backward()
        gradients.append(model.model.layers[0].mlp.gate.weight.grad)
        assert_close(loss.detach(), numbers["loss"] + numbers["aux_loss"])
        assert (numbers["aux_loss"] > 0) == (coefficient > 0)
    assert not torch.allclose(*gradients)
