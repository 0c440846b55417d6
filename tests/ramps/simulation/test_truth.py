"""The truth is what is in the cube, and its signal-to-noise is what a dense computation gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmbdask.ramps.simulation import (
    EVENT_UNITS,
    PIXEL_UNITS,
    Exposure,
    SimulationConfig,
    plan_exposure,
    simulate,
)

from .helpers import only

EVENTS = {
    "cosmic_ray_per_exp_range": (25, 25),
    "snowballs_per_exp_range": (0, 0),
    "rtn_per_exp_range": (20, 20),
}
KINDS: dict[str, Any] = {"cosmic_rays": {}, "snowballs": {}, "telegraph": True, "quantisation": False}


def test_steps_are_in_the_cube() -> None:
    config = only(KINDS | {"ipc": {}}, **EVENTS | {"rtn_per_exp_range": (0, 0)})
    ramp, truth = simulate(config, seed=2)
    steps = np.diff(ramp.values[0].astype(np.float64), axis=0)
    rebuilt = np.zeros_like(steps)
    for row in truth.pixels.itertuples():
        rebuilt[row.first_frame - 1, row.y, row.x] += row.amplitude
    assert truth.events.type.eq("cosmic_ray").sum() == 25
    np.testing.assert_allclose(rebuilt, steps, atol=0.01)


def test_a_track_has_the_charge_and_length_of_its_event() -> None:
    config = only(
        KINDS | {"cosmic_rays": {"track_length": 8.0, "diffusion": 0.0}},
        **EVENTS | {"rtn_per_exp_range": (0, 0)},
    )
    _, truth = simulate(config, seed=5)
    pixels = truth.pixels.groupby("event_id")
    reach = np.hypot(pixels.y.max() - pixels.y.min(), pixels.x.max() - pixels.x.min())
    for event in truth.events.itertuples():
        inside = 10 < event.y < 21 and 10 < event.x < 37
        if inside and event.length < 8:
            assert abs(reach[event.event_id] - event.length) <= 2.1
    assert truth.events.amplitude.max() <= config.cosmic_ray_charge_range[1] * 1.01


def test_telegraph_pixels_show_two_levels() -> None:
    ramp, truth = simulate(
        only(KINDS | {"bias": {}}, **EVENTS | {"cosmic_ray_per_exp_range": (0, 0)}), seed=1
    )
    assert len(truth.pixels) == 20
    for row in truth.pixels.itertuples():
        series = ramp.values[0, :, row.y, row.x].astype(np.float64)
        jumps = np.abs(np.diff(series)) > 1
        assert jumps.sum() == row.transitions
        if row.transitions:
            assert np.ptp(series) == pytest.approx(row.amplitude, abs=0.01)
            assert np.flatnonzero(jumps)[0] + 1 == row.first_frame
            edges = np.concatenate([[0], np.flatnonzero(jumps) + 1, [series.size]])
            assert np.diff(edges).min() == row.dwell_min
            assert np.diff(edges).mean() == pytest.approx(row.dwell_mean)


def test_dwell_times_follow_period_and_duty() -> None:
    fixed = {"rtn_period_range": (20, 20), "rtn_duty_fraction_range": (0.3, 0.3)}
    config = only(KINDS, num_frames=600, rtn_per_exp_range=(100, 100), **fixed)
    high = plan_exposure(config, Exposure(0, 0), "x").telegraph.high
    changes = (high[:, 1:] != high[:, :-1]).sum()
    # two reads see a pair of switches between them as none
    seen = 2 * 0.3 * 0.7 * -np.expm1(-1 / (20 * 0.3 * 0.7))
    assert high.mean() == pytest.approx(0.3, abs=0.02)
    assert changes / high[:, 1:].size == pytest.approx(seen, rel=0.05)


def test_a_snowball_has_a_saturated_core_and_a_halo_from_its_edge() -> None:
    shape = {
        "snowballs_per_exp_range": (1, 1),
        "snowball_radius_range": (6, 6),
        "snowball_halo_amplitude_ratio_range": (0.1, 0.1),
        "snowball_halo_decay_scale_range": (4, 4),
        "image_shape": (96, 96),
    }
    effects = KINDS | {
        "saturation": {"full_well": 5e4, "pixel_scatter": 0},
        "snowballs": {"max_axis_deficit": 0},
    }
    ramp, truth = simulate(only(effects, **shape), seed=11)
    event = truth.events.iloc[0]
    last = ramp.values[0, -1]
    y, x = np.mgrid[:96, :96]
    distance = np.hypot(y - event.y, x - event.x)
    assert (last[distance <= 6] == 5e4).all()
    assert event.n_saturated == (distance <= 6).sum()
    assert (event.core_radius, event.halo_scale) == (6, 4)
    assert event.halo_amplitude == pytest.approx(5e3)
    for r in (8, 12, 16):
        ring = (distance > r - 0.5) & (distance < r + 0.5)
        assert last[ring].mean() == pytest.approx(5e3 * np.exp(-(r - 6) / 4), rel=0.05)
    assert not ramp.values[0, : event.first_frame].any()


def dense_snr(shape: NDArray[np.float64], sigma: float, rate: float) -> float:
    """Signal-to-noise of a time series with pedestal and slope free, by the full covariance of the reads."""
    n = shape.size
    covariance = sigma**2 * np.eye(n) + rate * np.minimum.outer(np.arange(1.0, n + 1), np.arange(1.0, n + 1))
    inverse = np.linalg.inv(covariance)
    nuisance = np.stack([np.ones(n), np.arange(n)], axis=1)
    along = nuisance.T @ inverse @ shape
    taken = along @ np.linalg.solve(nuisance.T @ inverse @ nuisance, along)
    return float(np.sqrt(shape @ inverse @ shape - taken))


def test_ideal_signal_to_noise_is_that_of_the_dense_covariance() -> None:
    noise = {
        "read_noise": {},
        "gaussian_noise": True,
        "poisson": True,
        "dark": {},
        "hot_pixels": {"fraction": 0.05},
    }
    config = only(KINDS | noise, dark_current_range=(0.01, 0.02), **EVENTS)
    _, truth = simulate(config, seed=3)
    pixels = truth.pixels
    frame = np.arange(40)
    steps = pixels[(pixels.type == "cosmic_ray") & ~pixels.saturated]
    alone = steps[~steps.duplicated(["y", "x"], keep=False)]
    assert len(alone) > 40
    for row in alone.itertuples():
        shape = row.amplitude * (frame >= row.first_frame)
        assert row.snr == pytest.approx(dense_snr(shape, row.sigma, row.rate), rel=1e-6, abs=1e-9)
    telegraph = plan_exposure(config, Exposure(3, 0), "x").telegraph
    high = {(y, x): state for y, x, state in zip(telegraph.y, telegraph.x, telegraph.high, strict=True)}
    for row in pixels[pixels.type == "telegraph_noise"].itertuples():
        shape = row.amplitude * high[row.y, row.x]
        assert row.snr == pytest.approx(dense_snr(shape, row.sigma, row.rate), rel=1e-6, abs=1e-6)


def test_sigma_and_rate_are_those_of_the_cube() -> None:
    noise = {"read_noise": {"pixel_scatter": 0.3}, "poisson": True, "bias": {}, "quantisation": True}
    config = only(
        KINDS | noise,
        dark_current_range=(0.5, 0.5),
        rtn_per_exp_range=(0, 0),
        cosmic_ray_per_exp_range=(60, 60),
        num_frames=300,
        exp_time=30000.0,
        cosmic_ray_charge_range=(10, 20),
    )
    ramp, truth = simulate(config, seed=3)
    pixels = truth.pixels.drop_duplicates(["y", "x"])
    d = np.diff(ramp.values[0][:, pixels.y, pixels.x].astype(np.float64), axis=0)
    chi = d.var(axis=0) / (2 * pixels.sigma.to_numpy() ** 2 + pixels.rate.to_numpy())
    assert chi.mean() == pytest.approx(1, abs=0.03)
    assert d.mean() == pytest.approx(pixels.rate.mean(), rel=0.02)


def test_a_hit_on_a_saturated_pixel_cannot_be_seen() -> None:
    config = only(KINDS | {"poisson": True}, dark_current_range=(1, 1), saturation_dn=2000, **EVENTS)
    _, truth = simulate(config, seed=1)
    rays = truth.pixels[truth.pixels.type == "cosmic_ray"]
    late = rays[rays.first_frame >= 21]
    assert len(late) > 5
    assert late.saturated.all()
    assert (late.snr == 0).all()
    assert (rays[(rays.first_frame < 15) & ~rays.saturated].snr > 0).all()


def test_events_combine_their_pixels() -> None:
    _, truth = simulate(shape=(30, 96, 96), seed=4)
    groups = truth.pixels.groupby("event_id")
    events = truth.events.set_index("event_id")
    np.testing.assert_allclose(groups.snr.apply(lambda s: np.sqrt((s**2).sum())), events.snr)
    np.testing.assert_allclose(groups.size(), events.n_pixels)
    heights = truth.pixels.amplitude / truth.pixels.sigma
    np.testing.assert_allclose(heights.groupby(truth.pixels.event_id).max(), events.peak_sigma)
    assert list(truth.events) == list(EVENT_UNITS)
    assert list(truth.pixels) == list(PIXEL_UNITS)
    assert {"cosmic_ray", "snowball", "telegraph_noise"} >= set(truth.events.type)
    assert truth.meta["configuration"]["patch_size"] == [64, 64]


@pytest.mark.parametrize(
    ("injection", "kinds"),
    [("cosmic_ray", {"cosmic_ray"}), ("rtn", {"telegraph_noise"}), ("snowball", {"snowball"})],
)
def test_injection_type_chooses_the_events(injection: str, kinds: set[str]) -> None:
    config = SimulationConfig.read({"injection_type": injection, "num_frames": 10, "image_shape": [64, 64]})
    assert set(simulate(config)[1].events.type) == kinds


def test_a_baseline_has_no_events() -> None:
    _, truth = simulate(shape=(10, 64, 64), baseline=True)
    assert truth.events.empty
    assert truth.pixels.empty


def test_telegraph_noise_of_a_pixel_that_saturates_counts_until_then() -> None:
    config = only(KINDS, dark_current_range=(1, 1), saturation_dn=2049, rtn_per_exp_range=(40, 40))
    _, truth = simulate(config, seed=1)
    full = simulate(only(KINDS, dark_current_range=(1, 1), rtn_per_exp_range=(40, 40)), seed=1)[1].pixels
    pixels = truth.pixels
    assert pixels.saturated.all()
    assert not full.saturated.any()
    assert (pixels.dwell_mean * (pixels.transitions + 1)).to_numpy() == pytest.approx(20)
    assert (full.dwell_mean * (full.transitions + 1)).to_numpy() == pytest.approx(40)
    assert pixels.transitions.sum() < full.transitions.sum()
    assert (pixels.snr <= full.snr).all()
