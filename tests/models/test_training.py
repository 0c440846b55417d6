"""Training keeps the best weights, ends when nothing gets better, and repeats itself to the bit."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("zuko")

from fmbdask.errors import ConfigError, InputError  # noqa: E402
from fmbdask.models.flows import AffineFlow, build_flow_model  # noqa: E402
from fmbdask.models.training import History, Training, train  # noqa: E402


def ring(count: int, seed: int) -> torch.Tensor:
    """Points near a circle, which no normal law describes."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = 1.5 + 0.1 * torch.randn(count, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def trained(options: Training, seed: int = 3) -> tuple[AffineFlow, History]:
    flow = build_flow_model("coupling", 2, 4, 16)
    flow.reset(torch.Generator().manual_seed(1))
    history = train(flow, (ring(1000, 1),), (ring(500, 2),), lambda x: -flow.log_prob(x), options, seed=seed)
    return flow, history


def test_it_lowers_the_validation_loss_and_keeps_the_best_weights() -> None:
    flow, history = trained(Training(epochs=8, batch=100, learning_rate=1e-2))
    assert len(history.validation) == len(history.training) + 1 == 9
    assert history.validation[history.best] == min(history.validation) < history.validation[0] - 0.3
    with torch.inference_mode():
        kept = float(-flow.log_prob(ring(500, 2)).double().mean())
    assert kept == pytest.approx(min(history.validation), abs=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_one_others() -> None:
    options = Training(epochs=2, batch=100)
    (one, first), (same, second), (other, _) = trained(options), trained(options), trained(options, seed=4)
    assert first == second
    weights = [torch.cat([p.detach().ravel() for p in flow.parameters()]) for flow in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Walker(torch.nn.Module):
    """One number that every step makes larger by about the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(1))


def walk(options: Training, goal: float) -> tuple[float, History]:
    network = Walker()
    rows = torch.zeros(10, 1)

    def loss(batch: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return -network.value + batch[:, 0]
        return (network.value - goal).abs() + batch[:, 0]

    history = train(network, (rows,), (rows,), loss, options)
    return float(network.value.detach()), history


def test_it_stops_early_with_the_best_weights() -> None:
    options = Training(
        epochs=50, batch=10, schedule="constant", learning_rate=1.0, patience=3, weight_decay=0
    )
    value, history = walk(options, goal=4.2)
    assert history.best == 4  # at 4, the closest to 4.2
    assert len(history.training) == 7
    assert value == pytest.approx(4.0, abs=1e-3)


def test_weights_stay_if_nothing_gets_better() -> None:
    options = Training(epochs=50, batch=10, schedule="constant", learning_rate=1.0, patience=2)
    value, history = walk(options, goal=-1.0)
    assert (history.best, len(history.training), value) == (0, 2, 0.0)


def test_steps_along_what_is_not_finite_are_left_out() -> None:
    network = Walker()
    rows = torch.arange(10.0)[:, None]

    def loss(batch: torch.Tensor) -> torch.Tensor:
        return (network.value - 1.0) ** 2 / (
            0.0 if (batch == 3).any() and torch.is_grad_enabled() else 1.0
        ) + 0 * batch[:, 0]

    train(network, (rows,), (rows,), loss, Training(epochs=3, batch=1, learning_rate=0.1))
    assert 0.5 < float(network.value.detach()) < 1.5


def test_a_training_that_is_never_finite_is_refused() -> None:
    network = Walker()
    rows = torch.zeros(10, 1)
    with pytest.raises(InputError, match=r"diverged at a learning rate of 0\.002"):
        train(network, (rows,), (rows,), lambda b: network.value * b[:, 0] / 0.0, Training())


def test_the_learning_rate_rises_and_falls() -> None:
    options = Training(learning_rate=2.0)
    rates = [options.rate(step, 100) for step in range(100)]
    assert rates[:2] == [pytest.approx(0.2), pytest.approx(0.4)]
    assert max(rates) == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[99] < 1e-2
    assert {Training(schedule="constant").rate(step, 100) for step in range(100)} == {2e-3}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "linear"}, "no learning-rate schedule linear"),
        ({"learning_rate": 0.0}, "learning_rate of the training is 0.0"),
        ({"batch": 0}, "batch of the training is 0"),
        ({"epochs": -1}, "epochs of the training is -1"),
        ({"weight_decay": -1.0}, "weight_decay of the training is -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Training(**settings)  # type: ignore[arg-type]


def test_no_rows_are_refused() -> None:
    network = Walker()
    rows = torch.zeros(10, 1)
    with pytest.raises(InputError, match="0 rows to train on and 10 to validate are too few"):
        train(network, (rows[:0],), (rows,), lambda b: b, Training())
