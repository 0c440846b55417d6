"""The halo of snowballs against known profiles."""

from __future__ import annotations

import numpy as np
import pytest

from fmbdask.ramps.snowballs import fit_halo


@pytest.mark.parametrize("saturated", [True, False])
@pytest.mark.parametrize(
    ("amplitude", "scale", "radius"), [(5, 10, 8), (20, 3, 30), (200, 10, 3), (2000, 20, 8)]
)
def test_halo_covers_what_it_should(saturated: bool, amplitude: float, scale: float, radius: float) -> None:
    """At least .95 of the pixels with a halo of one sigma, and at most 1.2 times their area, hits and all."""
    rng = np.random.default_rng(int(amplitude))
    half = min(int(radius + scale * np.log(amplitude) + 10), 150)
    centre = half + rng.uniform(-2, 2, 2)
    y, x = np.indices((2 * half, 2 * half))
    r = np.hypot(y - centre[0], x - centre[1])
    sigma = 10 * np.exp(rng.normal(0, 0.1, r.shape))
    truth = np.where(r <= radius, 100.0 * amplitude, 10 * amplitude * np.exp(-(r - radius) / scale))
    steps = truth + rng.normal(0, 5, r.shape) + rng.normal(0, 1, r.shape) * np.sqrt(truth)
    steps[rng.random(r.shape) < 0.003] += 1000
    valid = rng.random(r.shape) > 0.01
    core = (r <= radius) & saturated
    halo = fit_halo(steps, valid, core, (float(round(centre[0])), float(round(centre[1]))), sigma)
    want = truth >= sigma
    assert (halo.covered & want).sum() >= 0.95 * want.sum()
    assert halo.covered.sum() <= 1.2 * want.sum()
    assert halo.core_radius == pytest.approx(radius, abs=1.0)
    assert halo.scale == pytest.approx(scale, rel=0.1)
    assert halo.radius == pytest.approx(radius + scale * np.log(amplitude), rel=0.1)
    assert halo.circularity > 0.8


def test_no_halo_is_said() -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((60, 60))
    core = np.hypot(y - 30, x - 30) <= 6
    halo = fit_halo(
        rng.normal(0, 5, core.shape), np.ones(core.shape, bool), core, (30.0, 30.0), np.full(core.shape, 10.0)
    )
    assert halo.amplitude == 0
    assert np.isnan(halo.scale)
    assert halo.covered.sum() == pytest.approx(core.sum(), rel=0.1)


def test_nothing_to_fit() -> None:
    core = np.ones((5, 5), bool)
    halo = fit_halo(np.full((5, 5), np.nan), np.zeros((5, 5), bool), core, (2.0, 2.0), np.ones((5, 5)))
    assert halo.covered.all()
    assert halo.amplitude == 0


def test_an_ellipse_is_not_round() -> None:
    y, x = np.indices((80, 80))
    core = np.hypot((y - 40) / 2, x - 40) <= 8
    halo = fit_halo(np.zeros(core.shape), np.ones(core.shape, bool), core, (40.0, 40.0), np.ones(core.shape))
    assert halo.circularity == pytest.approx(0.5, abs=0.05)
