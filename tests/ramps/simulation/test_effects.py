"""Each effect alone: it changes what it should by as much as its parameters say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fmbdask.ramps.simulation import Exposure, plan_exposure, simulate

from .helpers import cube, only

BIAS = {"bias": {"pixel_scatter": 0, "amplifier_scatter": 0, "parity_offset": 0, "reset_noise": 0}}
FLOAT = {"quantisation": False}
DARK = {"dark_current_range": (0.2, 0.2)}  # 20 electron / frame
INSIDE = (slice(None), slice(4, -4), slice(4, -4))


def differences(ramp: NDArray[Any]) -> NDArray[np.float64]:
    return np.diff(ramp.astype(np.float64), axis=0)


def test_nothing_gives_nothing() -> None:
    assert not cube(only()).any()


def test_dark_current_is_the_slope_and_gain_divides_it() -> None:
    ramp = cube(only(FLOAT, gain_library={"a": 2.0}, **DARK))
    np.testing.assert_allclose(
        ramp, np.broadcast_to(10 * np.arange(1, 41)[:, None, None], ramp.shape), rtol=1e-6
    )


def test_shot_noise_has_the_variance_of_the_counts() -> None:
    for rate in (0.015, 0.1, 0.6):
        d = differences(cube(only({"poisson": True}, dark_current_range=(rate, rate))))
        assert d.mean() == pytest.approx(100 * rate, rel=0.02)
        assert d.var() == pytest.approx(100 * rate, rel=0.05)
        assert stats.skew(d, axis=None) == pytest.approx((100 * rate) ** -0.5, rel=0.15)


def test_bias_sets_the_zero_level() -> None:
    bias = {
        "level": 3000,
        "pixel_scatter": 50,
        "amplifier_scatter": 0,
        "parity_offset": 200,
        "reset_noise": 0,
    }
    first = cube(only({"bias": bias}))[0].astype(float)
    odd_even = first[:, 1::2].mean() - first[:, ::2].mean()
    assert first.mean() == pytest.approx(3100, abs=8)
    assert odd_even == pytest.approx(200, abs=10)
    assert first[:, ::2].std() == pytest.approx(50, rel=0.1)


def test_reset_noise_differs_between_exposures_of_a_detector() -> None:
    config = only({"bias": {"reset_noise": 40}} | FLOAT)
    one, two = (simulate(config, index=i)[0][0, 0].values for i in (0, 1))
    assert (one - two).std() == pytest.approx(40 * 2**0.5, rel=0.06)


def test_read_noise_and_gaussian_noise_add_in_quadrature() -> None:
    fields = {"read_noise_range": (12, 12), "gaussian_noise_range": (5, 5)}
    read = {"read_noise": {"pixel_scatter": 0, "noisy_fraction": 0}}
    for effects, sigma in (
        (read, 12.0),
        ({"gaussian_noise": True}, 5.0),
        (read | {"gaussian_noise": True}, 13.0),
    ):
        ramp, truth = simulate(only(BIAS | FLOAT | effects, **fields))
        assert ramp.values.std() == pytest.approx(sigma, rel=0.02)
        assert ramp.attrs["read_noise"] == pytest.approx(sigma)
        assert truth.meta["read_noise"] == pytest.approx(sigma)


def test_noisy_pixels_are_noisy() -> None:
    noise = {"pixel_scatter": 0, "noisy_fraction": 0.1, "noisy_factor": 4}
    ramp = cube(only(BIAS | FLOAT | {"read_noise": noise}, read_noise_range=(10, 10)))
    spread = ramp.std(axis=0)
    assert (spread > 20).mean() == pytest.approx(0.1, abs=0.03)
    assert spread[spread > 20].mean() == pytest.approx(40, rel=0.06)


def slope_of(series: NDArray[Any], low: int, high: int) -> float:
    """Index of the power spectrum of (T, n) series between two frequencies (in cycles per series)."""
    window = np.hanning(series.shape[0])[:, None]
    power = (np.abs(np.fft.rfft((series - series.mean(axis=0)) * window, axis=0)) ** 2).mean(axis=1)
    f = np.arange(low, high)
    return float(np.polyfit(np.log(f), np.log(power[low:high]), 1)[0])


@pytest.mark.parametrize("slope", [0.8, 1.0, 1.4])
def test_pink_noise_has_its_spectrum_and_size(slope: float) -> None:
    pink = {"pink_noise": {"rms_fraction": 0.5, "slope": slope}, "read_noise": {"pixel_scatter": 0}}
    config = only(BIAS | FLOAT | pink, read_noise_range=(20, 20), num_frames=256, exp_time=256.0)
    white = config.model_copy(update={"effects": config.effects.model_copy(update={"pink_noise": None})})
    series = (cube(config).astype(float) - cube(white)).reshape(256, -1)
    assert slope_of(series, 3, 60) == pytest.approx(-slope, abs=0.15)
    assert series.std() == pytest.approx(10, rel=0.15)


def test_amplifier_noise_is_shared_by_an_amplifier_and_continuous_along_the_read_out() -> None:
    drift = {"amplifier_rms": 8.0, "common_rms": 0.0, "slope": 1.0, "overhead_rows": 0}
    ramp = cube(only(BIAS | FLOAT | {"amplifier_noise": drift}, amplifiers=4))
    blocks = ramp.reshape(40, 32, 4, 12)
    assert np.ptp(blocks, axis=3).max() == 0
    series = blocks[..., 0].reshape(-1, 4)
    assert np.abs(np.corrcoef(series.T)[np.triu_indices(4, 1)]).max() < 0.7
    assert slope_of(series, 3, 400) == pytest.approx(-1, abs=0.2)
    assert series.std() == pytest.approx(8, rel=0.5)


def test_common_noise_is_the_same_in_all_amplifiers() -> None:
    drift = {"amplifier_rms": 0.0, "common_rms": 8.0}
    ramp = cube(only(BIAS | FLOAT | {"amplifier_noise": drift}))
    assert np.ptp(ramp, axis=2).max() == 0
    assert ramp.std() > 1


def test_row_noise_moves_rows() -> None:
    ramp = cube(only(BIAS | FLOAT | {"row_noise": {"rms": 3.0}}))
    assert np.ptp(ramp, axis=2).max() == 0
    assert ramp[..., 0].std() == pytest.approx(3, rel=0.1)


def test_reference_pixels_see_the_electronics_and_no_light() -> None:
    effects = {
        "reference_pixels": {"border": 4, "noise_factor": 0.5},
        "read_noise": {"pixel_scatter": 0, "noisy_fraction": 0},
        "hot_pixels": {"fraction": 0.2},
        "sky": {"star_density": 0.02},
        "ipc": {"neighbour": 0.0, "corner": 0.0},
        "persistence": {"density": 0.05},
        "cosmic_rays": {},
        "snowballs": {},
    }
    events = {"cosmic_ray_per_exp_range": (80, 80), "snowballs_per_exp_range": (2, 2)}
    ramp = cube(only(BIAS | FLOAT | effects, read_noise_range=(10, 10), **events, **DARK))
    edge = np.ones(ramp.shape, bool)
    edge[INSIDE] = False
    assert ramp[edge].std() == pytest.approx(5, rel=0.05)
    assert ramp[edge].mean() == pytest.approx(5000, abs=1)
    assert ramp[INSIDE][-1].min() > 5500


def test_neighbours_share_a_signal() -> None:
    hot = FLOAT | {"hot_pixels": {"fraction": 0.01, "rate_range": (0.1, 10)}}
    shared = cube(only(hot | {"ipc": {"neighbour": 0.02, "corner": 0.005}}))[-1].astype(float)
    own = cube(only(hot))[-1].astype(float)
    kernel = np.array([[0.005, 0.02, 0.005], [0.02, 0.9, 0.02], [0.005, 0.02, 0.005]])
    expected = np.zeros_like(own)
    padded = np.pad(own, 1)
    for dy in range(3):
        for dx in range(3):
            expected += kernel[dy, dx] * padded[dy : dy + 32, dx : dx + 48]
    assert own.max() > 100
    np.testing.assert_allclose(shared, expected, rtol=1e-5, atol=1e-3)


def test_hot_and_dead_pixels() -> None:
    hot = cube(only(FLOAT | {"hot_pixels": {"fraction": 0.1, "rate_range": (1, 2)}}))[-1]
    assert (hot > 0).mean() == pytest.approx(0.1, abs=0.03)
    assert 4000 <= hot[hot > 0].min() <= hot.max() <= 8000
    dead = cube(only(FLOAT | {"dead_pixels": {"fraction": 0.1}}, **DARK))[-1]
    assert (dead == 0).mean() == pytest.approx(0.1, abs=0.03)


def test_signal_falls_short_of_the_charge() -> None:
    effects = FLOAT | {
        "nonlinearity": {"deficit": 0.1, "pixel_scatter": 0},
        "saturation": {"full_well": 4e4, "pixel_scatter": 0},
    }
    ramp = cube(only(effects, dark_current_range=(10, 10)))
    q = 1000.0 * np.arange(1, 41)
    np.testing.assert_allclose(ramp[:, 5, 5], q * (1 - 0.1 * q / 4e4), rtol=1e-5)


def test_full_well_and_converter_saturate() -> None:
    well = cube(only({"saturation": {"full_well": 500, "pixel_scatter": 0}}, **DARK))
    assert well.max() == 500
    converter, _ = simulate(only({}, saturation_dn=300, **DARK))
    assert converter.values.max() == 300
    assert converter.attrs["saturation"] == 300
    scattered, _ = simulate(only({"saturation": {"full_well": 500, "pixel_scatter": 0.05}}, **DARK))
    assert scattered.attrs["saturation"] <= scattered.values[0, -1].mean()


def test_stars_bring_their_light() -> None:
    sky = {"background_range": (0, 0), "star_density": 0.01, "star_flux_range": (5, 5)}
    config = only(FLOAT | {"sky": sky})
    stars = plan_exposure(config, Exposure(0, 0), "x").stars
    inside = (stars.y > 6) & (stars.y < 25) & (stars.x > 6) & (stars.x < 41)
    total = cube(config)[-1].sum()
    assert inside.sum() >= 3
    assert 0.98 * inside.sum() <= total / (5 * 4000) <= 1.001 * stars.flux.size


def test_persistence_decays() -> None:
    spots = {"density": 0.02, "decay_range": (500, 500), "charge_range": (1000, 1000)}
    ramp = cube(only(FLOAT | {"persistence": spots}))
    lit = ramp[-1] > 0
    assert lit.any()
    expected = 1000 * (1 - np.exp(-np.arange(1, 41) / 5))
    np.testing.assert_allclose(ramp[:, lit], np.broadcast_to(expected[:, None], (40, lit.sum())), rtol=1e-4)


def test_first_and_last_reads_settle() -> None:
    shape = {
        "first_offset": -60,
        "first_decay": 1,
        "last_offset": 20,
        "last_decay": 0.2,
        "pixel_scatter": 0.25,
    }
    ramp = cube(only(BIAS | FLOAT | {"settling": shape})).astype(float) - 5000
    np.testing.assert_allclose(ramp[:3].mean(axis=(1, 2)), -60 * np.exp(-np.arange(3)), rtol=0.05)
    assert ramp[0].std() == pytest.approx(15, rel=0.1)
    assert ramp[-1].mean() == pytest.approx(20, rel=0.05)
    assert np.abs(ramp[15:-3]).max() < 0.1


def test_a_glitch_moves_one_amplifier_in_one_read() -> None:
    glitches = {"probability": 0.1, "amplitude_range": (50, 60)}
    ramp = cube(only(BIAS | FLOAT | {"glitches": glitches})).astype(float) - 5000
    blocks = ramp.reshape(40, 32, 4, 12)
    assert np.ptp(blocks, axis=(1, 3)).max() == 0
    size = np.abs(blocks[:, 0, :, 0])
    assert ((size == 0) | ((size >= 50) & (size <= 60))).all()
    assert (size > 0).mean() == pytest.approx(0.1, abs=0.06)


def test_rounding() -> None:
    ramp = cube(only({"quantisation": True} | BIAS))
    assert ramp.dtype == np.uint16
    assert cube(only(BIAS | FLOAT)).dtype == np.float32
