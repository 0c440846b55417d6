"""Normalizing flows are densities, and the pass through them here agrees with zuko's."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("zuko")

from fmbdask.errors import ConfigError  # noqa: E402
from fmbdask.models.flows import AffineFlow, build_flow_model  # noqa: E402

both = pytest.mark.parametrize("model_type", ["coupling", "autoregressive"])


def drawn(model_type: str, dim: int, seed: int = 0, strength: float = 1.5) -> AffineFlow:
    """A flow with parameters far from one that changes nothing."""
    flow = build_flow_model(model_type, dim, n_layers=3, hidden_dim=12).double()
    generator = torch.Generator().manual_seed(seed)
    flow.reset(generator)
    with torch.no_grad():
        for values in flow.parameters():
            noise = torch.empty_like(values).uniform_(-1.0, 1.0, generator=generator)
            values.add_(strength * noise / values.shape[-1] ** 0.5)
    return flow


@both
def test_density_integrates_to_one(model_type: str) -> None:
    flow = drawn(model_type, 2, strength=0.8)
    axis = torch.linspace(-14.0, 14.0, 281, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.inference_mode():
        log_p = flow.log_prob(grid)
    assert float(log_p.exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1.0, abs=1e-3)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(grid).sum(1)
    assert float((log_p - normal).abs().max()) > 1.0  # it is another law than that it began with


@both
@pytest.mark.parametrize("dim", [2, 7])
def test_it_is_invertible_and_its_determinant_is_that_of_autograd(model_type: str, dim: int) -> None:
    flow = drawn(model_type, dim)
    transform = flow.flow().transform
    generator = torch.Generator().manual_seed(1)
    for vector in torch.randn((3, dim), generator=generator, dtype=torch.float64):
        turned = transform(vector)
        assert torch.allclose(transform.inv(turned), vector, atol=1e-9)
        jacobian = torch.autograd.functional.jacobian(transform, vector)
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(turned).sum()
        expected = normal + torch.linalg.slogdet(jacobian).logabsdet
        assert float(flow.log_prob(vector[None]).detach()) == pytest.approx(
            float(expected.detach()), abs=1e-9
        )


@both
def test_it_agrees_with_zuko(model_type: str) -> None:
    flow = drawn(model_type, 100, strength=0.5)
    vectors = 2.0 * torch.randn((64, 100), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.inference_mode():
        exact = flow.flow().log_prob(vectors)
        assert float((flow.log_prob(vectors) - exact).abs().max()) < 1e-9
        assert float((flow.log_prob(vectors, flow.layers()) - exact).abs().max()) < 1e-9
        single = flow.float().log_prob(vectors.float())
        assert float(((single - exact) / exact).abs().max()) < 1e-5


@both
def test_gradients_reach_all_parameters(model_type: str) -> None:
    flow = drawn(model_type, 6)
    vectors = torch.randn((32, 6), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    flow.log_prob(vectors).mean().backward()
    own = [p.grad.clone() for p in flow.parameters() if p.grad is not None]
    assert len(own) == len(list(flow.parameters()))
    flow.zero_grad()
    flow.flow().log_prob(vectors).mean().backward()
    for mine, values in zip(own, flow.parameters(), strict=True):
        assert values.grad is not None
        assert torch.allclose(mine, values.grad, atol=1e-10)


@both
def test_it_begins_as_a_normal_law_and_with_the_same_bits(model_type: str) -> None:
    flows = [build_flow_model(model_type, 20, 4, 32) for _ in range(2)]
    for flow in flows:
        flow.reset(torch.Generator().manual_seed(5))
    vectors = torch.randn((50, 20), generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        one, other = (flow.log_prob(vectors) for flow in flows)
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(vectors).sum(1)
    assert torch.equal(one, other)
    assert float((one - normal).abs().max()) < 2.0


def test_parameters_are_those_of_the_documented_size() -> None:
    flow = build_flow_model("coupling", dim=100, n_layers=8, hidden_dim=256)
    maps = (50 * 256 + 256) + (256 * 256 + 256) + (256 * 100 + 100)
    assert sum(p.numel() for p in flow.parameters()) == 8 * maps


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "spline"}, "no flow of type spline"),
        ({"dim": 1}, "dim of a flow cannot be 1"),
        ({"n_layers": 0}, "n_layers of a flow cannot be 0"),
        ({"hidden_dim": 0}, "hidden_dim of a flow cannot be 0"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_flow_model(**settings)  # type: ignore[arg-type]
