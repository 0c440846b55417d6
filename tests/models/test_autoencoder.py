"""Autoencoders have the documented layers, begin with the same bits, and learn a bent sheet."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from fmbdask.models.autoencoder import DenseAutoencoder  # noqa: E402
from fmbdask.models.training import Training, train  # noqa: E402


def test_layers_are_those_of_the_documented_size() -> None:
    network = DenseAutoencoder(30, (128, 64, 32, 16))
    shapes = [tuple(layer.weight.shape[::-1]) for layer in network.maps]
    assert shapes == [(30, 128), (128, 64), (64, 32), (32, 16), (16, 32), (32, 64), (64, 128), (128, 30)]
    assert len(list(network.parameters())) == 16
    assert [tuple(m.weight.shape[::-1]) for m in DenseAutoencoder(3, (2,)).maps] == [(3, 2), (2, 3)]


def test_the_same_generator_gives_the_same_bits() -> None:
    vectors = torch.randn((20, 6), generator=torch.Generator().manual_seed(0))
    found = []
    for seed in (1, 1, 2):
        network = DenseAutoencoder(6, (4, 2))
        network.reset(torch.Generator().manual_seed(seed))
        found.append(network(vectors).detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert float(found[0].square().mean()) < 0.2  # close to the mean of what is standardised


def test_it_learns_what_no_plane_holds() -> None:
    turn = 3.0 * torch.randn((2000, 1), generator=torch.Generator().manual_seed(0))
    data = torch.cat([turn, torch.sin(turn), torch.cos(turn)], dim=1)
    network = DenseAutoencoder(3, (32, 16, 1))
    network.reset(torch.Generator().manual_seed(1))
    train(
        network,
        (data[200:],),
        (data[:200],),
        lambda batch: (network(batch) - batch).square().mean(dim=1),
        Training(epochs=40, batch=100, learning_rate=1e-2),
    )
    with torch.inference_mode():
        left = float((network(data) - data).square().mean())
    values = torch.linalg.eigvalsh(torch.cov(data.T))
    assert left < 0.5 * float(values[:2].sum()) / 3  # of what one principal component leaves
