"""What the pixels around a snowball do at its first frame, and how fast it grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from fmbdask.ramps import detect
from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.detector import describe
from fmbdask.ramps.prepare import prepare
from fmbdask.ramps.sample import read
from fmbdask.ramps.surroundings import Surroundings, look_around
from fmbdask.regions import Region

from .made_up import SIGMA, counts, labelled

FRAMES, SIZE, WHEN, CENTRE = 40, 96, 15, (47.3, 50.8)


def growing(rate: float, radius: float = 8.0, when: int = WHEN) -> xr.DataArray:
    """A saturated disk with a halo, the radius of which grows by ``rate`` [pixel/frame] for ten frames."""
    data = counts(FRAMES, SIZE, SIZE, dtype=np.float32)
    y, x = np.indices((SIZE, SIZE))
    away = np.hypot(y - CENTRE[0], x - CENTRE[1])
    for t in range(when, FRAMES):
        edge = radius + rate * min(t - when, 10)
        data[t] += np.where(away <= edge, 70_000, 80 * SIGMA * np.exp(-np.maximum(away - edge, 0) / 4))
    return labelled(np.rint(data).clip(0, 65535).astype(np.uint16))


def around(ramp: xr.DataArray, window: Region, others: Any = None, frame: int = WHEN) -> Surroundings:
    p = prepare(ramp, describe(ramp), DetectionConfig(skip_first=0, skip_last=0), 0)
    return look_around(lambda region: read(ramp, region), p, window, frame, CENTRE, 3000.0, others)


WHOLE = Region(0, 0, SIZE, 0, SIZE)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2, 0.5])
def test_growth_is_measured(rate: float) -> None:
    assert around(growing(rate), WHOLE).expansion == pytest.approx(rate, abs=0.025)


def test_growth_is_not_known_at_the_end_of_a_ramp() -> None:
    assert np.isnan(around(growing(0.0, when=FRAMES - 2), WHOLE, frame=FRAMES - 2).expansion)


def test_fast_growth_breaks_a_limit() -> None:
    """What grows half a pixel a frame is no snowball for whoever says so, and what does not stays."""
    limits = {"snowball_expansion_rate": 0.1}
    for rate, left in ((0.0, 1), (0.5, 0)):
        ramp = growing(rate)
        whole = detect(ramp).events
        assert (whole.type == "snowball").sum() >= 1
        kept = detect(ramp, limits=limits).events
        main = kept[(kept.type == "snowball") & (kept.spatial_extent > 200)]
        assert len(main) == left
    assert whole.expansion.notna().sum() == (whole.type == "snowball").sum()


def test_any_part_says_the_same() -> None:
    ramp = growing(0.2)
    whole, part = around(ramp, WHOLE), around(ramp, Region(0, 21, 70, 33, 90))
    for name in ("amplitude", "error", "rate", "rate_error", "lean", "reads", "core"):
        np.testing.assert_array_equal(getattr(whole, name)[21:70, 33:90], getattr(part, name))


def test_steps_at_other_frames_are_fitted_beside() -> None:
    ramp = growing(0.0)
    ramp[:, 25:, 80, 20] += 4000
    alone = around(ramp, WHOLE)
    beside = around(ramp, WHOLE, np.array([[80, 20, 25], [2, 2, WHEN]]))
    expected = 80 * SIGMA * np.exp(-(np.hypot(80 - CENTRE[0], 20 - CENTRE[1]) - 8) / 4)
    assert abs(alone.amplitude[80, 20]) > 10 * SIGMA
    assert beside.amplitude[80, 20] == pytest.approx(expected, abs=3 * SIGMA)
    assert abs(beside.rate[80, 20]) < 4 * beside.rate_error[80, 20]
    np.testing.assert_array_equal(alone.amplitude[2, 2], beside.amplitude[2, 2])


def test_the_core_is_what_the_snowball_filled() -> None:
    seen = around(growing(0.0), WHOLE)
    y, x = np.indices((SIZE, SIZE))
    core = np.hypot(y - CENTRE[0], x - CENTRE[1]) <= 8
    np.testing.assert_array_equal(seen.core, core)
    assert np.isnan(seen.amplitude[core]).all()
    assert np.isfinite(seen.amplitude[~core]).all()
    assert (seen.reads[core] == WHEN).all()
