"""What the network sees, is asked, and is to answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fmbdask_kernels import temporal
from numpy.typing import NDArray

from fmbdask.ramps.detect import configure, prepare_all
from fmbdask.ramps.detector import as_ramp, describe
from fmbdask.ramps.network.inputs import SOFT, channels
from fmbdask.ramps.network.truth import classes
from fmbdask.ramps.network.windows import PATCH, Place, read_of, windows
from fmbdask.ramps.prepare import Prepared
from fmbdask.ramps.region import Limits, region_features
from fmbdask.ramps.simulation import Truth, simulate
from fmbdask.regions import Region

SHAPE = (80, 96, 160)


@pytest.fixture(scope="module")
def exposure() -> tuple[NDArray[Any], Prepared, Truth]:
    ramp, truth = simulate(shape=SHAPE, seed=3)
    ramp = as_ramp(ramp)
    (prepared,) = prepare_all(ramp, describe(ramp), configure(None, {}))
    return np.ascontiguousarray(ramp.values[0]), prepared, truth


def limits(p: Prepared, region: Region) -> Limits:
    return Limits.of(p, region, None, None, None if p.levels is None else p.levels[region.y, region.x])


def test_the_largest_significance_is_that_of_the_rules(exposure: Any) -> None:
    data, p, _ = exposure
    region = Region(0, 8, 40, 16, 80)
    block = np.ascontiguousarray(data[:, region.y, region.x])
    values = channels(block, p, region, limits(p, region))
    assert values.shape == (3, p.used.size - 1, 32, 64)
    planes = region_features(block, p, region, limits(p, region))
    whole = values[2].all(axis=0)
    assert whole.mean() > 0.9
    bins = planes[temporal.RHO_BIN].astype(int)
    amplifier = p.detector.amplifier[region.x]
    scale = np.where(bins == 0, p.noise.scale[amplifier, 0], p.noise.scale[amplifier, 1])
    largest = SOFT * np.sinh(values[0].max(axis=0)) * scale
    wanted = planes[temporal.STEP_SIGNIFICANCE]
    # the rules take the noise of a pixel anew when its strongest step is out: quiet pixels have none
    quiet = whole & (wanted < 6)
    assert quiet.sum() > 1500
    assert np.median(np.abs(largest - wanted)[quiet]) < 0.05
    assert np.corrcoef(largest[quiet], wanted[quiet])[0, 1] > 0.98


def test_a_patch_does_not_depend_on_the_block_it_is_cut_from(exposure: Any) -> None:
    data, p, _ = exposure
    asked = [Place(0, 30, 70, 40), Place(0, 5, 5, 3), Place(0, 90, 155, 79), Place(0, 31, 130, 20)]
    seen: list[Region] = []

    def read(region: Region) -> NDArray[Any]:
        seen.append(region)
        return np.ascontiguousarray(data[:, region.y, region.x])

    nothing = np.zeros((1, *SHAPE[1:]), bool)
    together = dict(windows(asked, [p], read, nothing))
    assert sorted(together) == [0, 1, 2, 3]
    assert len(seen) == len(set(seen)) <= 2
    for number, place in enumerate(asked):
        ((_, alone),) = windows([place], [p], read, nothing)
        assert alone.start == together[number].start
        assert np.array_equal(alone.values, together[number].values)
        assert alone.values.shape == (3, *PATCH)
        t0, y0, x0 = alone.start
        assert t0 <= read_of(p, place.frame) < t0 + PATCH[0]
        assert y0 <= place.y < y0 + PATCH[1] or place.y < p.detector.active[0].start
        assert x0 <= place.x < x0 + PATCH[2] or place.x < p.detector.active[1].start


def test_pixels_that_are_not_used_say_nothing(exposure: Any) -> None:
    data, p, _ = exposure
    bad = np.zeros((1, *SHAPE[1:]), bool)
    bad[0, 30, 70] = True
    read = lambda region: np.ascontiguousarray(data[:, region.y, region.x])  # noqa: E731
    ((_, window),) = windows([Place(0, 30, 70, 40)], [p], read, bad)
    _, y0, x0 = window.start
    assert not window.values[:, :, 30 - y0, 70 - x0].any()
    assert window.values[2, :, 30 - y0, 71 - x0].all()


def test_classes_begin_with_the_event(exposure: Any) -> None:
    _, p, truth = exposure
    whole = classes(truth, p, Region(0, 0, SHAPE[1], 0, SHAPE[2]))
    event = truth.events[truth.events["type"] == "cosmic_ray"].nlargest(1, "peak_sigma").iloc[0]
    own = truth.pixels[truth.pixels["event_id"] == event["event_id"]].nlargest(1, "amplitude").iloc[0]
    at = read_of(p, int(event["first_frame"]))
    ramp = whole[:, int(own["y"]), int(own["x"])]
    assert (ramp[at:] == 1).all()
    assert not (ramp[:at] == 1).any()
    part = Region(0, 10, 50, 20, 90)
    assert np.array_equal(classes(truth, p, part), whole[:, part.y, part.x])
