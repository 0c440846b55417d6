"""Lines of pixels that step together, proposed beside the events of the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from fmbdask.ramps.detect import configure, prepare_all
from fmbdask.ramps.detector import as_ramp, describe
from fmbdask.ramps.network import proposals as module
from fmbdask.ramps.network.proposals import LEAST, PROPOSED_STEP, Proposals, propose
from fmbdask.ramps.prepare import Prepared
from fmbdask.ramps.simulation import simulate
from fmbdask.regions import Region

SHAPE = (60, 160, 176)
#: A faint track: frame, pixels, and step of each in units of the noise of a read.
FRAME, ROWS, COLUMNS, STEP = 24, np.arange(60, 72), np.arange(118, 130), 2.0
NOTHING = np.zeros(0, PROPOSED_STEP)


@pytest.fixture(scope="module")
def quiet() -> xr.DataArray:
    """An exposure without events."""
    counts = dict.fromkeys(
        ("cosmic_ray_per_exp_range", "rtn_per_exp_range", "snowballs_per_exp_range"), (0, 0)
    )
    effects = dict.fromkeys(("persistence", "glitches", "settling", "pink_noise", "sky"))
    ramp, _ = simulate(counts | {"effects": effects}, shape=SHAPE, seed=8)
    return ramp


def with_track(ramp: xr.DataArray) -> tuple[NDArray[Any], Prepared]:
    ramp = as_ramp(ramp.copy(deep=True))
    detector = describe(ramp)
    (p,) = prepare_all(ramp, detector, configure(None, {}))
    data = np.array(ramp.values[0])
    noise = np.sqrt(p.noise.variance[p.detector.amplifier[COLUMNS]])
    data[FRAME:, ROWS, COLUMNS] += np.rint(STEP * noise).astype(data.dtype)
    return data, p


def reader(data: NDArray[Any]) -> Callable[[Region], NDArray[Any]]:
    return lambda region: np.ascontiguousarray(data[:, region.y, region.x])


def found(data: NDArray[Any], p: Prepared, events: NDArray[Any] = NOTHING, **masks: Any) -> Proposals:
    no = np.zeros((1, *SHAPE[1:]), bool)
    return propose([p], reader(data), masks.get("unusable", no), masks.get("taken", no), events)


def of_track(proposals: Proposals) -> list[int]:
    return [
        k
        for k in range(len(proposals))
        if abs(int(proposals.group(k)["frame"][0]) - FRAME) <= 3
        and np.isin(proposals.group(k)["y"], ROWS).mean() > 0.5
        and np.isin(proposals.group(k)["x"], COLUMNS).mean() > 0.5
    ]


def test_a_faint_track_is_proposed_where_it_is(quiet: xr.DataArray) -> None:
    data, p = with_track(quiet)
    proposals = found(data, p)
    (number,) = of_track(proposals)
    group = proposals.group(number)
    assert proposals.score[number] >= 7
    assert (group["significance"] > 0).all()
    assert group["significance"][0] == group["significance"].max()
    assert group["significance"].max() <= module.CUT + 1
    # pixels across the border of two blocks, so that neither block holds all of them
    assert module.BLOCK + 4 in COLUMNS
    noise = np.sqrt(p.noise.variance[p.detector.amplifier[COLUMNS]]).mean()
    on = np.isin(group["y"], ROWS) & (group["x"] - group["y"] == COLUMNS[0] - ROWS[0])
    assert np.count_nonzero(on) >= 4
    assert abs(group["amplitude"][on].mean() - STEP * noise) < 0.5 * STEP * noise
    without = as_ramp(quiet)
    assert of_track(found(np.array(without.values[0]), p)) == []


def test_chance_proposes_little(quiet: xr.DataArray) -> None:
    data, p = with_track(quiet)
    proposals = found(data, p)
    assert proposals.score.min(initial=np.inf) >= LEAST - 1e-3
    # 1.7 million places; what is beyond 6 sigma in noise alone would be a wrong error
    assert len(proposals) < 40
    assert np.count_nonzero(proposals.score > 6) == 1


def test_what_is_known_is_not_proposed(quiet: xr.DataArray) -> None:
    data, p = with_track(quiet)
    mask = np.zeros((1, *SHAPE[1:]), bool)
    mask[0, ROWS, COLUMNS] = True
    assert of_track(found(data, p, taken=mask)) == []
    assert of_track(found(data, p, unusable=mask)) == []
    near = np.zeros(1, PROPOSED_STEP)
    near["y"], near["x"], near["frame"] = ROWS[3] + 2, COLUMNS[3], FRAME + 1
    assert of_track(found(data, p, near)) == []
    late = near.copy()
    late["frame"] = FRAME + 12
    assert len(of_track(found(data, p, late))) == 1


def test_rows_that_drift_together_are_no_track(quiet: xr.DataArray) -> None:
    data, p = with_track(quiet)
    p_noise = np.sqrt(p.noise.variance.mean())
    own = np.flatnonzero(p.detector.amplifier == p.detector.amplifier[20])
    data[30:, 40, own] += np.rint(0.8 * p_noise).astype(data.dtype)
    proposals = found(data, p)
    assert len(of_track(proposals)) == 1
    others = [proposals.group(k) for k in range(len(proposals)) if proposals.score[k] > 6]
    assert all(abs(int(g["y"].mean()) - 40) > 3 for g in others)
