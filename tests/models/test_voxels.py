"""The loss and the figures of a segmentation, against ones worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fmbdask.models.voxels import (  # noqa: E402
    MOST_ODDS,
    accuracy_of,
    class_weights,
    confusion,
    iou_of,
    proposal_loss,
    region_odds,
    segmentation_loss,
)


def test_weights_of_rare_classes() -> None:
    np.testing.assert_allclose(class_weights([10_000, 100], 1.0), [0.505, 50.5])
    np.testing.assert_allclose(class_weights([10_000, 100], 0.0), [1.0, 1.0])
    half = class_weights([10_000, 400], 0.5)
    assert half[1] / half[0] == pytest.approx(5.0)
    assert half @ [10_000, 400] == pytest.approx(10_400)
    assert np.isfinite(class_weights([10, 0], 1.0)).all()


def patches() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 2, 3, 4, generator=generator)
    return logits, torch.randint(0, 3, (2, 2, 3, 4), generator=generator).to(torch.uint8)


def by_hand(logits: torch.Tensor, classes: torch.Tensor, weight: torch.Tensor, balance: list[float]) -> float:
    logs = torch.log_softmax(logits.double(), dim=1).movedim(1, -1).reshape(-1, 3)
    total = over = 0.0
    for row, code, one in zip(logs, classes.ravel().tolist(), weight.ravel().tolist(), strict=True):
        if code != 255:
            total -= float(row[code]) * balance[code] * one
            over += balance[code] * one
    return total / over


def test_the_loss_is_a_balanced_mean_over_what_counts() -> None:
    logits, classes = patches()
    balance, weight = [0.2, 1.0, 4.0], torch.rand(classes.shape, generator=torch.Generator().manual_seed(2))
    found = segmentation_loss(logits, classes, None, torch.tensor(balance), 0.0)
    assert float(found) == pytest.approx(
        by_hand(logits, classes, torch.ones(classes.shape), balance), rel=1e-5
    )
    classes[0, 1] = 255
    weight[1, 0] = 0.0
    found = segmentation_loss(logits, classes, weight, torch.tensor(balance), 0.0)
    assert float(found) == pytest.approx(by_hand(logits, classes, weight, balance), rel=1e-5)
    changed = logits.clone()
    changed[0, :, 1] = 50.0 * torch.randn(3, 3, 4)
    changed[1, :, 0] = -3.0
    for dice in (0.0, 1.0):
        one, other = (
            segmentation_loss(x, classes, weight, torch.tensor(balance), dice) for x in (logits, changed)
        )
        assert float(one) == pytest.approx(float(other), rel=1e-5)  # what does not count changes nothing


def test_the_dice_loss_falls_as_classes_overlap() -> None:
    _, classes = patches()
    sure = 20.0 * torch.nn.functional.one_hot(classes.long(), 3).movedim(-1, 1).float()
    balance = torch.ones(3)
    right, wrong, even = (
        float(segmentation_loss(logits, classes, None, balance, 1.0))
        for logits in (sure, sure.roll(1, dims=1), torch.zeros_like(sure))
    )
    assert right == pytest.approx(0.0, abs=1e-5)
    assert math.log(3) < even < math.log(3) + 1.0
    assert wrong == pytest.approx(21.0, abs=0.1)


def test_where_nothing_counts_the_loss_is_zero() -> None:
    logits, classes = patches()
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.full_like(classes, 255), None, torch.ones(3), 1.0)
    torch.autograd.backward(loss)
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0.0


def proposed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits = 2.0 * torch.randn(4, 3, 2, 3, 4, generator=torch.Generator().manual_seed(3))
    region = torch.zeros(4, 2, 3, 4, dtype=torch.bool)
    region[0, :, 1, 2] = region[1, 1, :2] = region[3, 0, 0, 0] = True  # the third patch proposes nothing
    return logits, region, torch.tensor([1.0, 0.0, 1.0, 0.0])


def test_the_odds_of_a_region_are_the_mean_of_those_of_its_voxels() -> None:
    logits, region, _ = proposed()
    for code in range(3):
        said = torch.softmax(logits.double(), dim=1)[:, code]
        found = region_odds(logits, region, code)
        for k in (0, 1, 3):
            assert float(found[k]) == pytest.approx(float(torch.logit(said[k][region[k]]).mean()), rel=1e-5)
        assert found[2] == 0.0
    logits[0, 1, :, 1, 2] = torch.tensor([40.0, -90.0])
    logits.requires_grad_()
    found = region_odds(logits, region, 1)[0]
    assert float(found.detach()) == pytest.approx(0.0, abs=1e-5)  # as far above as below the edge
    torch.autograd.backward(found)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad[0, 1, :, 1, 2], 0.5)  # what is far off still learns
    assert math.log(1e-4 / (1 - 1e-4)) == pytest.approx(-MOST_ODDS)


def test_the_loss_of_proposals_does_not_depend_on_how_a_batch_is_split() -> None:
    logits, region, real = proposed()
    known = torch.tensor([0.5, 3.0, 0.0, -1.0])
    whole = float(proposal_loss(logits, region, real, known, 1))
    odds = (region_odds(logits, region, 1) + known).double().tolist()
    by_hand = math.log1p(math.exp(-odds[0])) + sum(math.log1p(math.exp(odds[k])) for k in (1, 3))
    assert whole == pytest.approx(by_hand / 4, rel=1e-5)
    halves = [
        float(proposal_loss(logits[s], region[s], real[s], known[s], 1)) for s in (np.s_[:2], np.s_[2:])
    ]
    assert np.mean(halves) == pytest.approx(whole, rel=1e-6)
    assert halves[0] != pytest.approx(halves[1], rel=0.1)
    logits.requires_grad_()
    torch.autograd.backward(proposal_loss(logits, region, real, known, 1))
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(1) > 0, region)


def test_confusion_accuracy_and_overlap() -> None:
    classes = torch.tensor([0, 0, 1, 1, 255, 1], dtype=torch.uint8).reshape(1, 1, 1, 6)
    said = torch.tensor([0, 1, 1, 0, 0, 1]).reshape(1, 1, 1, 6)
    logits = torch.nn.functional.one_hot(said, 3).movedim(-1, 1).float()
    table = confusion(logits, classes, None).numpy()
    np.testing.assert_array_equal(table, [[1, 1, 0], [1, 2, 0], [0, 0, 0]])
    assert accuracy_of(table) == pytest.approx(3 / 5)
    assert iou_of(table) == [pytest.approx(1 / 3), pytest.approx(1 / 2), None]
    weight = torch.tensor([1.0, 0, 1, 1, 1, 0]).reshape(1, 1, 1, 6)
    np.testing.assert_array_equal(
        confusion(logits, classes, weight).numpy(), [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    )
