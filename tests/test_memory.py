"""Less memory, the same gradients; and what is said when it was not enough."""

import gc
import math
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from minimind.errors import UserError
from minimind.model.transformer import causal_lm_loss
from minimind.text.packing import PackedRows
from minimind.train import memory
from minimind.train.loop import train
from minimind.train.memory import chunked_loss, explain_out_of_memory, spare_memory
from minimind.train.pretrain import next_token_loss
from minimind.train.run import Run
from minimind.train.sft import answer_loss
from tests.parallel import MOE
from tests.test_accumulate import batch_of
from tests.training_kit import CONFIG, SHAPE, new_model, new_run, token_file, tokenizer

DEEP = replace(SHAPE, num_hidden_layers=3)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return PackedRows(token_file(tmp_path_factory.mktemp("data")), 48)


def gradient(model, batch, loss_fn):
    model.zero_grad()
    loss, numbers = loss_fn(model, batch)
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters()], numbers


@pytest.mark.parametrize("loss_fn", [next_token_loss, answer_loss])
@pytest.mark.parametrize(("blocks", "chunk"), [(True, None), (False, 7), (True, 50)])
@pytest.mark.parametrize("shape", [DEEP, MOE], ids=["dense", "moe"])
def test_the_gradient_stays(shape, blocks, chunk, loss_fn):
    model, batch = new_model(shape=shape), batch_of()
    keys = list(model.state_dict())
    loss, expected, numbers = gradient(model, batch, loss_fn)
    for _ in range(2):  # a second call changes nothing either
        spare_memory(model, blocks, chunk)
    lean_loss, found, lean_numbers = gradient(model, batch, loss_fn)
    assert lean_loss == pytest.approx(loss, abs=1e-6)
    assert_close(found, expected, rtol=0, atol=1e-6)
    assert numbers.keys() == lean_numbers.keys()
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("chunk", [1, 5, 29, 30, 31, 1000])
def test_the_loss_in_pieces_is_the_loss(chunk):
    torch.manual_seed(0)
    hidden = torch.randn(2, 16, 8, requires_grad=True)
    head = torch.nn.Linear(8, 11, bias=False)
    labels = torch.randint(11, (2, 16))
    labels[0, 3:9] = -100
    whole = causal_lm_loss(head(hidden), labels)
    pieces = chunked_loss(hidden, head, labels, chunk)
    assert_close(pieces, whole)
    wanted = [hidden, head.weight]
    assert_close(
        torch.autograd.grad(pieces, wanted), torch.autograd.grad(whole, wanted)
    )


def kept_bytes(model, batch):
    """Bytes that a forward pass keeps for the backward pass, each storage once."""
    kept, alive = {}, []

    def note(tensor):
        alive.append(tensor)
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        next_token_loss(model, batch)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for place, size in kept.items() if place not in weights)


def test_less_is_kept():
    batch = batch_of(rows=8)
    whole = kept_bytes(new_model(shape=DEEP), batch)
    sizes = []
    for blocks, chunk in ((True, None), (False, 8), (True, 8)):
        model = new_model(shape=DEEP)
        spare_memory(model, blocks, chunk)
        sizes.append(kept_bytes(model, batch))
    logits = 8 * 15 * SHAPE.vocab_size * 4
    assert sizes[0] < 0.6 * whole
    assert sizes[1] < whole - logits
    assert sizes[2] < 0.5 * sizes[0]


def test_a_model_that_spares_memory_is_called_as_before():
    model, ids = new_model(shape=DEEP), batch_of()["input_ids"]
    expected = model(ids).logits
    spare_memory(model, True, 7)
    assert torch.equal(model(ids).logits, expected)
    assert model(ids, labels=ids).logits is None


def test_a_run_that_spares_memory_learns_the_same(rows, tmp_path):
    plain = new_run(rows, tmp_path / "a")
    lean = new_run(
        rows, tmp_path / "b", replace(CONFIG, gradient_checkpointing=True, loss_chunk=9)
    )
    for _ in range(4):
        plain.take_step()
        lean.take_step()
    for key, value in plain.model.state_dict().items():
        assert_close(lean.model.state_dict()[key], value, rtol=0, atol=1e-5)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you ..."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.0 GB"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_names_what_to_change(rows, tmp_path, error):
    def loss_fn(model, batch):
        raise error

    with pytest.raises(UserError) as caught:
        train(new_model(), tokenizer(), rows, loss_fn, CONFIG, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    for option in ("--batch-size", "--gradient-checkpointing", "--loss-chunk"):
        assert option in text


def test_another_error_is_not_called_out_of_memory():
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory():
        raise RuntimeError("shapes do not match")


REAL = """
import resource, torch
from minimind.errors import UserError
from minimind.train.memory import explain_out_of_memory

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
try:
    with explain_out_of_memory():
        torch.ones(1 << 34)
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_really_out_of_memory():
    done = subprocess.run(
        [sys.executable, "-c", REAL],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout.startswith("out of memory; halve --batch-size"), done.stderr


def live_tensors():
    gc.collect()
    return [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]


@pytest.mark.parametrize("experts", [0, 4])
def test_500_steps_keep_nothing(rows, tmp_path, experts):
    """Not one tensor more after 500 steps than after 5."""
    model = new_model(shape=replace(SHAPE, num_experts=experts))
    config = replace(CONFIG, steps=505, accumulation=1)
    run = Run(model, tokenizer(), rows, next_token_loss, config, tmp_path)
    before = live_tensors()  # held: what earlier tests left must not go in between
    counts = []
    for steps in (5, 500):
        for _ in range(steps):
            run.take_step()
        counts.append(len(live_tensors()))
    assert counts[0] == counts[1] > len(before)
    assert math.isfinite(run.numbers["loss"])


def test_memory_is_logged(rows, tmp_path):
    run = new_run(rows, tmp_path)
    run.take_step()
    if memory.peak_memory(run.device) is None:
        pytest.skip("not known on Windows")
    assert 0.05 < run.numbers["memory_gb"] < 64


FAULTS = """
import resource, torch
from minimind.train.malloc import keep_freed_memory

keep_freed_memory()
for step in range(21):
    blocks = [torch.ones(4_000_000) for _ in range(4)]
    del blocks
    if step == 4:  # the heap has its shape
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators are left alone"
)
def test_freed_memory_is_kept_for_the_next_step():
    """Seventeen steps of 16,000 pages each, which would mostly be cleared again."""
    cleared = subprocess.check_output([sys.executable, "-c", FAULTS])
    assert int(cleared) < 1_000
