"""Networks for sequences look at valid steps alone, and never ahead where they forecast."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from fmbdask.models.lstm import (  # noqa: E402
    Classifier,
    Forecaster,
    Network,
    Reconstructor,
    filled,
    last_valid,
    surprise,
)

STEPS, FEATURES = 12, 2


def drawn(name: str) -> Network:
    made = {
        "forecast": Forecaster(FEATURES, (8, 4)),
        "reconstruction": Reconstructor(STEPS, FEATURES, (8, 4)),
        "supervised": Classifier(STEPS, FEATURES, (8, 4), 3),
    }[name]
    made.reset(torch.Generator().manual_seed(1))
    return made


def sequences(count: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((count, STEPS, FEATURES), generator=generator)
    valid = torch.rand((count, STEPS), generator=generator) < 0.7
    valid[:, 3] = True
    return values, valid


@pytest.mark.parametrize("name", ["forecast", "reconstruction", "supervised"])
def test_what_lies_at_steps_that_are_not_valid_reaches_nothing(name: str) -> None:
    network = drawn(name)
    values, valid = sequences()
    other = torch.where(valid[..., None], values, 1e6)
    with torch.inference_mode():
        one, two = network(values, valid), network(other, valid)
        if name == "supervised":
            assert torch.equal(one, two)
            assert not torch.equal(one, network(values, torch.ones_like(valid)))
            return
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        assert torch.equal(surprise(values, valid, *one), surprise(other, valid, *two))


def test_a_forecast_knows_nothing_of_its_step_or_later_ones() -> None:
    network = drawn("forecast")
    values, valid = sequences()
    with torch.inference_mode():
        before, scale = network(values, valid)
        changed, flags = values.clone(), valid.clone()
        changed[:, 7:] += 3.0
        flags[:, 7:] = True
        after, other = network(changed, flags)
    assert torch.equal(before[:, :8], after[:, :8])
    assert torch.equal(scale[:, :8], other[:, :8])
    assert not torch.equal(before[:, 8:], after[:, 8:])


def test_steps_that_are_not_valid_hold_the_last_values() -> None:
    values = torch.arange(8.0).reshape(1, 4, 2)
    valid = torch.tensor([[False, True, False, True]])
    assert filled(values, valid)[0].tolist() == [[0, 0, 0], [2, 3, 1], [2, 3, 0], [6, 7, 1]]


def test_a_class_is_told_at_the_last_valid_step() -> None:
    outputs = torch.arange(12.0).reshape(4, 3, 1)
    valid = torch.tensor([[True] * 4, [True, False, True, False], [True, False, False, False]])
    assert last_valid(outputs, valid)[:, 0].tolist() == [9.0, 7.0, 2.0]


def test_surprise_is_that_of_a_normal_law_and_grows_straight_far_out() -> None:
    mean, logs = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5)
    valid = torch.ones(1, 1, dtype=torch.bool)
    law = torch.distributions.Normal(0.0, float(torch.exp(torch.tensor(0.5))))

    def cost(value: float) -> float:
        return float(surprise(torch.full((1, 1, 1), value), valid, mean, logs))

    log_p = [float(law.log_prob(torch.tensor(v))) for v in (0.3, 4.0)]
    assert cost(4.0) - cost(0.3) == pytest.approx(log_p[0] - log_p[1], abs=1e-5)
    assert cost(60.0) - cost(50.0) == pytest.approx(cost(50.0) - cost(40.0), rel=1e-5)
    none = torch.zeros(1, 1, dtype=torch.bool)
    assert float(surprise(torch.ones(1, 1, 1), none, mean, logs)) == 0.0


@pytest.mark.parametrize("name", ["forecast", "reconstruction", "supervised"])
def test_gradients_reach_all_parameters(name: str) -> None:
    network = drawn(name)
    values, valid = sequences()
    found = network(values, valid)
    (found if name == "supervised" else surprise(values, valid, *found)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
