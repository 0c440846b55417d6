"""Offsets that pixels share are those of the quiet ones."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from fmbdask.ramps.common import quiet_mean
from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.detector import describe
from fmbdask.ramps.prepare import Prepared, prepare

from .made_up import SIGMA, counts, labelled

FRAMES, ROWS, COLUMNS, WHEN = 40, 128, 128, 17
NARROW = {"amplifiers": 4, "reference_border": [4, 4, 4, 4]}


def snowball(radius: float, scale: float, height: float, y: float = 60, x: float = 48) -> xr.DataArray:
    """A snowball that covers much of one or two of four narrow amplifiers."""
    data = counts(FRAMES, ROWS, COLUMNS, dtype=np.float32)
    rows, columns = np.indices((ROWS, COLUMNS))
    away = np.hypot(rows - y, columns - x) - radius
    step = np.where(away <= 0, 70_000, height * np.exp(-np.maximum(away, 0) / scale))
    step[:4] = step[-4:] = step[:, :4] = step[:, -4:] = 0
    data[WHEN:] += step.astype(np.float32)
    return labelled(np.rint(data).clip(0, 65535).astype(np.uint16), **NARROW)


def prepared(ramp: xr.DataArray) -> Prepared:
    return prepare(ramp, describe(ramp), DetectionConfig(skip_first=0, skip_last=0), 0)


@pytest.mark.parametrize(("radius", "scale"), [(6, 4), (12, 8), (20, 12)])
def test_a_snowball_shifts_no_amplifier_and_no_row(radius: float, scale: float) -> None:
    p = prepared(snowball(radius, scale, 60 * SIGMA))
    column, row = (
        np.abs(np.diff(part, axis=0)[WHEN - 1]) for part in (p.correction.column, p.correction.row)
    )
    # the mean of half the pixels of a group, and of a row, is as uncertain as this
    assert column.max() < 5 * SIGMA * np.sqrt(2) / np.sqrt(0.5 * 16 * 120)
    assert row.max() < 5 * SIGMA * np.sqrt(2) / np.sqrt(0.5 * 120)


def test_offsets_of_amplifiers_are_found_beside_a_snowball() -> None:
    offset = np.random.default_rng(3).normal(0, 12, (FRAMES, 1, 4)).repeat(COLUMNS // 4, axis=2)
    ramp = snowball(12, 6, 40 * SIGMA)
    ramp = ramp.copy(data=np.rint(ramp.values + offset).clip(0, 65535).astype(np.uint16))
    column = prepared(ramp).correction.column
    left = np.diff(column - offset[:, 0], axis=0)
    left -= left.mean(axis=0)
    # of the narrow amplifiers, half is covered
    assert np.sqrt(np.mean(left[WHEN - 1] ** 2)) < 0.15 * SIGMA


def test_an_amplifier_that_is_hit_everywhere_does_as_the_others() -> None:
    """A step of every pixel of one amplifier, too large for an offset: others tell what is common."""
    data = counts(FRAMES, ROWS, COLUMNS, dtype=np.float32)
    data[WHEN:, 4:-4, 64:96] += 2000
    common = 10 * np.sin(np.arange(FRAMES))[:, None, None]
    ramp = labelled(np.rint(data + common).astype(np.uint16), **NARROW)
    change = np.diff(prepared(ramp).correction.column, axis=0)[WHEN - 1]
    assert np.abs(change[64:96] - change[:64].mean()).max() < 2.5


def test_cells_that_stand_out_are_left_out() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(0, 5, 60)
    values = common[:, None] + rng.normal(0, 1, (60, 20)) + rng.normal(0, 50, 20)
    hit = values.copy()
    hit[30, :8] += [900, 300, 100, 30, 10, 8, 6, 5]
    pixels = np.full(20, 10)
    clean, found = quiet_mean(values, pixels), quiet_mean(hit, pixels)
    assert np.abs(clean - (common - np.median(common))).max() < 5 / np.sqrt(20)
    assert abs(found[30] - clean[30]) < 3 / np.sqrt(12)
    np.testing.assert_allclose(np.delete(found, 30), np.delete(clean, 30), atol=0.5)
    assert np.isnan(quiet_mean(np.where(np.arange(20) < 11, np.nan, values), pixels)).all()


def test_few_cells_and_none() -> None:
    assert quiet_mean(np.zeros((5, 1)), np.array([3])).tolist() == [0.0] * 5
    assert np.isnan(quiet_mean(np.full((5, 2), np.nan), np.zeros(2, np.int64))).all()
