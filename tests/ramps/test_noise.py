"""The noise that detection measures, and the false alarms that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from fmbdask.errors import InputError
from fmbdask.ramps import detect, features
from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.detector import describe
from fmbdask.ramps.noise import Noise
from fmbdask.ramps.prepare import prepare
from fmbdask.regions import Region

from .made_up import SIGMA, counts, labelled, with_map


def noise_of(ramp: xr.DataArray, **options: object) -> Noise:
    return prepare(ramp, describe(ramp), DetectionConfig.model_validate(options), 0).noise


@pytest.mark.parametrize("frames", [5, 8, 12, 60])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_read_noise_is_measured_whatever_the_number_of_frames(frames: int, dtype: type) -> None:
    noise = noise_of(labelled(counts(frames, 64, 64, dtype=dtype)))
    assert np.sqrt(noise.variance[0]) == pytest.approx(SIGMA, rel=0.03)
    assert noise.scale[0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("frames", [5, 8, 20])
def test_false_alarms_of_small_exposures_keep_the_stated_rate(frames: int) -> None:
    found = [
        detect(labelled(counts(frames, 40, 40, seed=seed)), false_alarm_rate=2e-3, telegraph=False)
        for seed in range(8)
    ]
    expected = sum(f.info["false_alarms_expected"] for f in found)
    events = sum(len(f.events) for f in found)
    assert expected == pytest.approx(8 * 1600 * 2e-3)
    assert 0.3 * expected < events < expected + 4 * np.sqrt(expected)


def test_a_few_reads_need_a_stated_noise_and_are_searched_with_it() -> None:
    few = counts(4, 64, 64)
    few[2:, 30, 31] += 400
    with pytest.raises(InputError, match="give read_noise"):
        detect(labelled(few))
    found = detect(labelled(few, read_noise=SIGMA))
    assert np.sqrt(noise_of(labelled(few, read_noise=SIGMA)).variance[0]) == pytest.approx(SIGMA)
    assert found.events[["peak_y", "peak_x", "first_frame"]].to_numpy().tolist() == [[30, 31, 2]]


def test_a_map_of_the_read_noise_judges_each_pixel_by_its_own() -> None:
    rng = np.random.default_rng(5)
    sigma = np.where(rng.random((96, 96)) < 0.5, 10.0, 30.0)
    sigma[20, 20] = 10
    data = np.rint(5000 + sigma * rng.standard_normal((20, 96, 96)))
    data[10:, 20, 20] += 60
    plain = labelled(data.astype(np.uint16))
    mapped = with_map(plain, read_noise_map=sigma.astype(np.float32))
    noise = noise_of(mapped)
    here = noise.pixels(describe(mapped).amplifier, Region(0, 0, 96, 0, 96))
    np.testing.assert_allclose(np.sqrt(here), sigma, rtol=0.05)
    assert noise.dof[0] > 10 * noise_of(plain).dof[0]
    own, shared = (float(features(r).step_significance[0, 20, 20]) for r in (mapped, plain))
    assert own > 1.2 * shared


def test_amplifiers_have_their_own_noise() -> None:
    data = np.concatenate([counts(10, 64, 64, sigma=s, seed=3) for s in (10, 30)], axis=2)
    noise = noise_of(labelled(data, amplifiers=2))
    np.testing.assert_allclose(np.sqrt(noise.variance), [10, 30], rtol=0.03)


def test_small_amplifiers_are_pooled() -> None:
    noise = noise_of(labelled(counts(10, 20, 20), amplifiers=4))
    assert np.unique(noise.variance).size == 1


def test_rounding_is_the_least_noise_of_whole_counts() -> None:
    still = np.zeros((12, 30, 30), np.uint16)
    still[6:, 11, 17] = 100
    found = detect(labelled(still))
    assert found.events[["type", "peak_y", "peak_x", "first_frame"]].values.tolist() == [
        ["cosmic_ray", 11, 17, 6]
    ]
    assert found.events.amplitude[0] == pytest.approx(100, rel=0.01)
    assert found.info["read_noise_dn"][0] == pytest.approx(12**-0.5, rel=0.05)


def test_dead_pixels_say_nothing_about_the_noise() -> None:
    data = counts(12, 64, 64)
    data[:, 10:50] = 60000
    assert np.sqrt(noise_of(labelled(data)).variance[0]) == pytest.approx(SIGMA, rel=0.03)


def test_floating_point_counts_without_noise_are_refused() -> None:
    data = np.zeros((12, 30, 30), np.float32)
    data[6:, 11, 17] = 100
    with pytest.raises(InputError, match="next to no pixel shows noise"):
        detect(labelled(data))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_frames_that_are_all_the_same_are_refused(dtype: type) -> None:
    data = np.broadcast_to(counts(1, dtype=dtype), (12, 40, 40))
    with pytest.raises(InputError, match="does not change from frame to frame: give the frames"):
        detect(labelled(data))


def test_no_usable_pixel_is_an_error() -> None:
    ramp = labelled(counts(), source="dark.fits")
    with pytest.raises(InputError, match=r"dark\.fits: no pixel has 12 reads that are finite, not flagged"):
        detect(with_map(ramp, bad_pixel=np.ones((40, 40), bool)))
    half = np.zeros((1, 12, 40, 40), np.uint8)
    half[:, 3, :, ::2], half[:, 5, :, 1::2] = 1, 1
    with pytest.raises(InputError, match="check flags and saturation level"):
        detect(with_map(ramp, flags=half))


def test_bad_and_flagged_pixels_stay_out_of_the_noise() -> None:
    data = counts(12, 64, 64)
    data[:, :40] = counts(12, 40, 64, sigma=200)
    bad = np.zeros((64, 64), bool)
    bad[:20] = True
    flags = np.zeros((1, 12, 64, 64), np.uint8)
    flags[0, 4, 20:40] = 1
    noise = noise_of(with_map(labelled(data), bad_pixel=bad, flags=flags))
    assert np.sqrt(noise.variance[0]) == pytest.approx(SIGMA, rel=0.03)


def test_saturation_maps_are_obeyed_everywhere() -> None:
    data = counts(12, 64, 64)
    data[:, :16] += (np.arange(12) * 600).astype(np.uint16)[:, None, None]
    data[6:, :16] = 9000  # full wells far below the end of the converter
    levels = np.full((64, 64), np.nan, np.float32)
    levels[:16] = 9000
    ramp = with_map(labelled(data), saturation_map=levels)
    assert np.sqrt(noise_of(ramp).variance[0]) == pytest.approx(SIGMA, rel=0.03)
    found = detect(ramp, features=True)
    assert (found.maps.reads.values[0, :16] == 6).all()
    assert (found.maps.reads.values[0, 16:] == 12).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [1e30, np.inf, np.nan])
def test_absurd_values_in_a_few_pixels_do_no_harm(value: float) -> None:
    data = counts(dtype=np.float32)
    data[3, 4, 5], data[:, 7, 8], data[4, 9, 9] = value, -value, value
    data[6:, 20, 20] += 500
    found = detect(labelled(data))
    assert np.sqrt(noise_of(labelled(data)).variance[0]) == pytest.approx(SIGMA, rel=0.05)
    assert [20, 20, 6] in found.events[["peak_y", "peak_x", "first_frame"]].values.tolist()


def test_a_large_event_does_not_pass_for_more_noise() -> None:
    """The halo of a snowball covers half of the pixels that another level of light tells apart."""
    data = counts(30, 96, 96).astype(np.float64)
    data[12:, :, :48] += 90.0
    assert noise_of(labelled(np.rint(data).astype(np.uint16))).scale.max() < 1.15
