"""Rates, their errors and false alarms of ramps whose frames average reads, and of saturated ones."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from fmbdask_kernels.stepped import drift_covariance

from fmbdask.errors import InputError
from fmbdask.ramps import detect
from fmbdask.ramps.detect import Detection

EDGE, SIGMA, FRAME_TIME = 96, 16.0, 3.0

#: First read (from 1) and number of reads of every frame: groups that drop reads between them, resultants of
#: unequal length, and single reads at times that stretch like those of WFC3's STEP sequences.
PATTERNS = {
    "groups": [(1 + 10 * k, 6) for k in range(12)],
    "resultants": [(1, 1), (2, 1), (3, 2), (5, 2), *[(7 + 4 * k, 4) for k in range(4)],
                   *[(23 + 16 * k, 16) for k in range(5)], (103, 1)],
    "steps": [(n, 1) for n in (1, 2, 3, 5, 9, 17, 27, 37, 47, 57, 67, 77, 87, 97)],
}  # fmt: skip


def exposure(
    pattern: list[tuple[int, int]], rate: np.ndarray | float, seed: int = 1, full: float = np.inf
) -> xr.DataArray:
    """Frames averaged from single reads, each with its own noise; ``rate`` in electrons per read."""
    rng = np.random.default_rng(seed)
    last = pattern[-1][0] + pattern[-1][1] - 1
    charge = np.cumsum(rng.poisson(rate, (last, EDGE, EDGE)), axis=0)
    reads = 3000 + np.minimum(charge, full) + SIGMA * rng.standard_normal((last, EDGE, EDGE))
    frames = [reads[first - 1 : first - 1 + n].mean(axis=0) for first, n in pattern]
    times = [FRAME_TIME * (first + (n - 1) / 2) for first, n in pattern]
    attrs = {"gain": 1.0, "read_interval": FRAME_TIME, "units": "DN"}
    if np.isfinite(full):
        attrs["saturation"] = 3000 + full
    coords = {
        "read_times": ("frame", times, {"units": "s"}),
        "reads_per_frame": ("frame", [n for _, n in pattern]),
    }
    data = np.array(frames, np.float32)[None]
    return xr.DataArray(data, coords, ("integration", "frame", "y", "x"), attrs=attrs)


def pulls(found: Detection, rate: np.ndarray | float) -> np.ndarray:
    return (found.maps["rate"].values[0] - rate / FRAME_TIME) / found.maps["rate_error"].values[0]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("rate", [0.02, 1.0, 30.0])
def test_averaged_and_uneven_reads_give_right_rates_and_keep_the_stated_false_alarms(
    name: str, rate: float
) -> None:
    ramp = exposure(PATTERNS[name], rate)
    found = detect(ramp, false_alarm_rate=1e-3, telegraph=False)
    pull = pulls(found, rate)
    assert np.median(pull) == pytest.approx(0, abs=0.06)
    assert 0.93 < pull.std() < 1.07
    fired = len(np.unique(found.events[["peak_y", "peak_x"]].to_numpy(), axis=0))
    assert fired < 3 * found.info["false_alarms_expected"]


@pytest.mark.parametrize("name", PATTERNS)
def test_rates_hold_beside_steps_and_below_saturation(name: str) -> None:
    pattern, full = PATTERNS[name], 2000.0
    rng = np.random.default_rng(5)
    bright, stepped = rng.random((EDGE, EDGE)) < 0.04, rng.random((EDGE, EDGE)) < 0.04
    stepped &= ~bright
    # bright pixels fill up half-way, inside of an average where there are any
    rate = np.where(bright, 40.0, 2.0)
    ramp = exposure(pattern, rate, seed=2, full=full)
    frame = rng.integers(3, len(pattern) - 3, (EDGE, EDGE))
    later = np.arange(len(pattern))[:, None, None] >= frame
    ramp.values[0] += np.where(stepped & later, 600, 0)
    found = detect(ramp, telegraph=False)
    reads = found.maps["reads"].values[0]
    assert (reads[bright] < reads.max()).all()
    pull = pulls(found, rate)
    for kind in (stepped, bright, ~stepped & ~bright):
        assert abs(np.median(pull[kind])) < 0.2
        assert 0.85 < 1.4826 * np.median(np.abs(pull[kind] - np.median(pull[kind]))) < 1.15


def test_patterns_that_cannot_be_are_refused() -> None:
    ramp = exposure(PATTERNS["groups"], 1.0)
    for value, words in ((100.0, "reads of two frames overlap"), ("3 s", "read_interval is '3 s'")):
        with pytest.raises(InputError, match=words):
            detect(ramp.assign_attrs(read_interval=value))
    none = ramp.assign_coords(reads_per_frame=("frame", np.zeros(12, int)))
    with pytest.raises(InputError, match="reads_per_frame must be at least 1"):
        detect(none)


@pytest.mark.parametrize("strength", [0.0, 0.05])
def test_slow_noise_is_measured_and_a_wide_faint_event_is_none(strength: float) -> None:
    rng = np.random.default_rng(7)
    frames, rate = 60, 0.5
    data = 3000 + np.cumsum(rng.poisson(rate, (frames, EDGE, EDGE)), axis=0)
    data = data + SIGMA * rng.standard_normal(data.shape)
    if strength:
        slow = np.linalg.cholesky(drift_covariance(np.arange(frames)) + 30.0)
        pink = slow @ rng.standard_normal((frames, EDGE * EDGE))
        data += SIGMA * np.sqrt(strength) * pink.reshape(data.shape)
    data[30:] += 0.8 * SIGMA
    found = detect(
        xr.DataArray(np.rint(data).astype(np.uint16), dims=("frame", "y", "x"), attrs={"gain": 1.0}),
        telegraph=False, common_mode=False, row_noise=False,
    )  # fmt: skip
    assert found.prepared[0].noise.rates.drift == pytest.approx(strength, rel=0.3, abs=0.004)
