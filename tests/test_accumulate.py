"""Several batches weigh as one: gradients against one large batch."""

import pytest
import torch
from torch.testing import assert_close

from minimind.train.accumulate import accumulate, count_targets
from tests.training_kit import new_model, plain_loss

ROWS, T = 8, 16


def batch_of(rows=ROWS, seed=0):
    """Rows with fewer and fewer targets: 15, 13, ... 1."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 300, (rows, T), generator=generator)
    labels = ids.clone()
    for row in range(rows):
        labels[row, T - 2 * row :] = -100
    return {"input_ids": ids, "labels": labels}


def split(batch, sizes):
    parts = {key: value.split(sizes) for key, value in batch.items()}
    return [{key: parts[key][i] for key in parts} for i in range(len(sizes))]


def gradient(work):
    model = new_model()
    work(model)
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "sizes", [[8], [4, 4], [2, 2, 2, 2], [3, 3, 2], [1, 7], [1] * 8]
)
def test_gradient_is_that_of_one_batch(sizes):
    batch = batch_of()
    one = gradient(lambda model: plain_loss(model, batch)[0].backward())
    parts = split(batch, sizes)
    many = gradient(lambda model: accumulate(model, parts, plain_loss))
    assert_close(many, one, rtol=0, atol=1e-6)


def test_the_mean_of_the_means_is_another_gradient():
    batch = batch_of()
    one = gradient(lambda model: plain_loss(model, batch)[0].backward())

    def naive(model):
        for part in split(batch, [4, 4]):
            (plain_loss(model, part)[0] / 2).backward()

    assert (gradient(naive) - one).abs().max() > 1e-3


def test_numbers_are_means_over_the_targets():
    batch, model = batch_of(), new_model()

    def with_count(model, part):
        loss, _ = plain_loss(model, part)
        return loss, {"targets": float(count_targets(part))}

    numbers = accumulate(model, split(batch, [2, 6]), with_count)
    assert numbers["loss"] == pytest.approx(plain_loss(model, batch)[0].item())
    assert numbers["targets"] == pytest.approx((28 * 28 + 36 * 36) / 64)


def test_the_first_label_of_a_row_is_no_target():
    labels = torch.tensor([[5, 6, 7], [5, -100, 7], [5, -100, -100]])
    assert count_targets({"labels": labels}) == 3


def test_a_batch_without_targets_is_passed_over():
    """Its mean would be 0 / 0, and one NaN is enough to lose every weight."""
    batch = batch_of()
    one = gradient(lambda model: accumulate(model, [batch], plain_loss))
    empty = {**batch, "labels": torch.full((ROWS, T), -100)}
    more = [empty, *split(batch, [5, 3]), empty]
    many = gradient(lambda model: accumulate(model, more, plain_loss))
    assert_close(many, one, rtol=0, atol=1e-6)


def test_no_target_at_all():
    empty = {"input_ids": torch.ones(1, T), "labels": torch.full((1, T), -100)}
    with pytest.raises(ValueError, match="no target"):
        accumulate(new_model(), [empty, empty], plain_loss)


def test_backward_gets_weighted_losses():
    """A loss scaler goes in between, and sees what is really added."""
    batch, seen = batch_of(), []
    accumulate(new_model(), split(batch, [3, 5]), plain_loss, seen.append)
    total = plain_loss(new_model(), batch)[0]
    assert_close(sum(seen), total, rtol=0, atol=1e-6)
